"""How a recipe's result is kept."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from datasense_assets.recipes.language.values import ColumnName, Shape

ROW_WISE = frozenset(
    {
        *("select", "drop", "rename", "filter", "cast", "formula", "clean_text", "replace_values", "fill_missing"),
        *("coalesce", "case", "extract", "split_column", "concat", "date_part", "expand_json", "split_choices"),
        *("geopoint", "label_values", "bin", "mask"),
    }
)
"""Steps that make of a row at most one row, from that row alone (`fill_missing` by a value only)."""


class Output(Shape):
    """`table`: made anew at each build, and swapped in whole. `view`: reckoned anew by whoever reads it.

    `incremental`: a table in which a build replaces the rows of which the source's rows have changed, and no others.
    `key` names the column with the source's row id. `indexes`: an index on each list of columns.
    """

    example: ClassVar[dict[str, Any]] = {
        "materialize": "incremental",
        "key": ["_ds_row_id"],
        "indexes": [["district", "visited_on"]],
    }

    materialize: Literal["table", "view", "incremental"] = "table"
    key: list[ColumnName] | None = Field(default=None, min_length=1, max_length=1)
    indexes: list[Annotated[list[ColumnName], Field(min_length=1, max_length=32)]] = Field(
        default_factory=list, max_length=100
    )

    @model_validator(mode="after")
    def _fields_fit(self) -> Output:
        if self.materialize == "incremental" and self.key is None:
            raise PydanticCustomError(
                "missing_field",
                'needs {field} where materialize is incremental, such as ["_ds_row_id"]',
                {"field": "key"},
            )
        if self.materialize != "incremental" and self.key is not None:
            raise PydanticCustomError("invalid_value", "has a key, which only materialize: incremental has")
        if self.materialize == "view" and self.indexes:
            raise PydanticCustomError("invalid_value", "has indexes, which a view cannot have; make it a table")
        return self
