"""Steps that bring tables together or change what a row stands for."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from datasense_assets.recipes.language.conditions import Condition
from datasense_assets.recipes.language.step import StepBase
from datasense_assets.recipes.language.values import ColumnName, NewName, Shape, SortKey, Text

AggregateFunction = Literal[
    "count",
    "count_distinct",
    "sum",
    "avg",
    "min",
    "max",
    "median",
    "mode",
    "first",
    "last",
    "concat",
    "any",
    "all",
    "stddev",
    "percentile",
]


class JoinKey(Shape):
    """A pair of columns that have to be equal; null equals nothing."""

    left: ColumnName
    right: ColumnName


class Join(StepBase):
    """Brings in another input's columns where the keys are equal (`semi`, `anti`: only keeps rows with or without one).

    The key comes once, under the left's name. A name that both sides have gets `suffix` on the right's.
    """

    example: ClassVar[dict[str, Any]] = {
        "op": "join",
        "with": "people",
        "how": "left",
        "on": [{"left": "district", "right": "district"}],
        "columns": ["population"],
    }

    op: Literal["join"]
    with_: Text = Field(alias="with")
    how: Literal["inner", "left", "right", "full", "semi", "anti"]
    on: list[JoinKey] = Field(min_length=1)
    columns: list[ColumnName] | None = None
    suffix: Text = Field(default="_2", min_length=1)

    @model_validator(mode="after")
    def _columns_are_used(self) -> Join:
        if self.how in ("semi", "anti") and self.columns is not None:
            raise PydanticCustomError(
                "invalid_value", "a {how} join brings no columns; remove columns", {"how": self.how}
            )
        return self


class Union(StepBase):
    """Puts the rows of other inputs under these, columns by name; a column that one lacks is null there.

    `source_column` names a new column with the alias each row came from.
    """

    example: ClassVar[dict[str, Any]] = {"op": "union", "with": ["people"], "source_column": "came_from"}

    op: Literal["union"]
    with_: list[Text] = Field(alias="with", min_length=1)
    distinct: bool = False
    source_column: NewName | None = None


class Aggregation(Shape):
    """One figure a group. `count` without a column counts rows; every other one leaves nulls out.

    `order_by` is for `first`, `last` and `concat`; `percentile` (0 to 100, default 50) and `separator` (default ", ")
    are for the functions of those meanings.
    """

    fn: AggregateFunction
    column: ColumnName | None = None
    into: NewName
    order_by: list[SortKey] | None = None
    filter: Condition | None = None
    percentile: float = Field(default=50.0, ge=0, le=100, strict=False)
    separator: Text = ", "

    @model_validator(mode="after")
    def _column_is_given(self) -> Aggregation:
        if self.column is None and self.fn != "count":
            raise PydanticCustomError("missing_field", "{fn} needs a column", {"fn": self.fn, "field": "column"})
        return self


class Aggregate(StepBase):
    """One row a group (null is a group too); one row in all without `group_by`."""

    example: ClassVar[dict[str, Any]] = {
        "op": "aggregate",
        "group_by": ["district"],
        "aggregations": [{"fn": "sum", "column": "visits", "into": "visits"}],
    }

    op: Literal["aggregate"]
    group_by: list[ColumnName] = Field(default_factory=list)
    aggregations: list[Aggregation]

    @model_validator(mode="after")
    def _something_comes_out(self) -> Aggregate:
        if not self.group_by and not self.aggregations:
            raise PydanticCustomError("invalid_value", "has neither group_by nor aggregations; add one")
        return self
