"""Steps that turn columns into rows and rows into columns, or keep one row of several."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from datasense_assets.recipes.language.step import StepBase
from datasense_assets.recipes.language.tables import AggregateFunction
from datasense_assets.recipes.language.values import ColumnName, NewName, Scalar, SortKey, Text


class Deduplicate(StepBase):
    """Keeps one row of those with the same keys (null is a key too): the first or last in `order_by`.

    Nulls come last in the order. Rows that it does not tell apart, or without it, are ordered by all their columns, so
    the same row is kept every time.
    """

    example: ClassVar[dict[str, Any]] = {
        "op": "deduplicate",
        "keys": ["district", "phone"],
        "order_by": ["-seen_on"],
    }

    op: Literal["deduplicate"]
    keys: list[ColumnName] = Field(min_length=1)
    order_by: list[SortKey] | None = None
    keep: Literal["first", "last"] = "first"


class Pivot(StepBase):
    """One row a group, and one column for each value of `names_from` that `names` lists.

    A column is named by its value, after `prefix`. Its cell is `fn` of `values_from` over the rows with that value
    (`count` without `values_from` counts rows). An empty cell is `fill` where it is given, else 0 for counts and null
    for the rest. A count is empty where there is no row to count; nought among rows that are there stays 0.
    """

    example: ClassVar[dict[str, Any]] = {
        "op": "pivot",
        "group_by": ["district"],
        "names_from": "sex",
        "names": ["f", "m"],
        "values_from": "visits",
        "fn": "sum",
        "prefix": "visits_",
        "fill": 0,
    }

    op: Literal["pivot"]
    group_by: list[ColumnName]
    names_from: ColumnName
    names: list[Scalar] = Field(min_length=1, max_length=1_000)
    values_from: ColumnName | None = None
    fn: AggregateFunction
    prefix: Text = ""
    fill: Scalar = None

    @model_validator(mode="after")
    def _values_are_given(self) -> Pivot:
        if self.values_from is None and self.fn != "count":
            raise PydanticCustomError(
                "missing_field", "{fn} needs values_from", {"fn": self.fn, "field": "values_from"}
            )
        return self


class Unpivot(StepBase):
    """A row for each of the columns: its name in `names_to`, its value in `values_to`. The other columns stay.

    The columns have to be of one type. `drop_missing` leaves out the rows without a value.
    """

    example: ClassVar[dict[str, Any]] = {
        "op": "unpivot",
        "columns": ["phone", "phone_2"],
        "names_to": "which",
        "values_to": "number",
        "drop_missing": True,
    }

    op: Literal["unpivot"]
    columns: list[ColumnName] = Field(min_length=1)
    names_to: NewName
    values_to: NewName
    drop_missing: bool = False
