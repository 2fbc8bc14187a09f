"""Steps that give a row something of the rows around it, and leave the rows as they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from datasense_assets.recipes.language.step import StepBase
from datasense_assets.recipes.language.values import ColumnName, NewName, Scalar, SortKey

WindowFunction = Literal[
    "row_number",
    "rank",
    "dense_rank",
    "ntile",
    "lag",
    "lead",
    "running_sum",
    "moving_avg",
    "sum",
    "avg",
    "min",
    "max",
    "count",
    "first",
    "last",
    "percent_of_total",
]
NUMBERING = frozenset({"row_number", "rank", "dense_rank", "ntile"})
NEEDS_ORDER = frozenset({"rank", "dense_rank", "lag", "lead", "running_sum", "moving_avg", "first", "last"})
WITHOUT_ORDER = frozenset({"sum", "avg", "min", "max", "count", "percent_of_total"})
NEEDS_PERIODS = frozenset({"ntile", "moving_avg"})
TAKES_PERIODS = NEEDS_PERIODS | {"lag", "lead"}


class Window(StepBase):
    """One figure a row, from the rows with the same `partition_by` (all rows without it), in `order_by`.

    Ranks count from 1, and `rank` is 1, 1, 3. `periods` is how many rows `lag` and `lead` look away (default 1), over
    how many rows, the row itself and those before, `moving_avg` goes, and how many parts `ntile` makes. `sum`, `avg`,
    `min`, `max`, `count` and `percent_of_total` (0 to 100) are of the whole partition and take no order. Nulls are left
    out of sums and averages, and `first` and `last` skip them. Rows that `order_by` does not tell apart come in any
    order, so add a column that does.
    """

    example: ClassVar[dict[str, Any]] = {
        "op": "window",
        "fn": "running_sum",
        "column": "visits",
        "into": "visits_so_far",
        "partition_by": ["district"],
        "order_by": ["seen_on"],
    }

    op: Literal["window"]
    fn: WindowFunction
    column: ColumnName | None = None
    into: NewName
    partition_by: list[ColumnName] = Field(default_factory=list)
    order_by: list[SortKey] | None = None
    periods: int | None = Field(default=None, ge=1, le=2**31 - 1)

    @model_validator(mode="after")
    def _fields_fit_function(self) -> Window:
        if self.fn in NUMBERING and self.column is not None:
            raise PydanticCustomError("invalid_value", "{fn} counts rows; remove column", {"fn": self.fn})
        if self.fn not in NUMBERING and self.fn != "count" and self.column is None:
            raise PydanticCustomError("missing_field", "{fn} needs a column", {"fn": self.fn, "field": "column"})
        if self.fn in NEEDS_ORDER and not self.order_by:
            raise PydanticCustomError("missing_field", "{fn} needs order_by", {"fn": self.fn, "field": "order_by"})
        if self.fn in WITHOUT_ORDER and self.order_by:
            raise PydanticCustomError(
                "invalid_value", "{fn} is of the whole partition; remove order_by", {"fn": self.fn}
            )
        if self.fn in NEEDS_PERIODS and self.periods is None:
            raise PydanticCustomError("missing_field", "{fn} needs periods", {"fn": self.fn, "field": "periods"})
        if self.fn not in TAKES_PERIODS and self.periods is not None:
            raise PydanticCustomError("invalid_value", "{fn} takes no periods; remove it", {"fn": self.fn})
        return self


class FillMissing(StepBase):
    """Fills nulls: with `value`, or with the value of the row above (`down`) or below (`up`) in `order_by`.

    `value` has to be of each column's type; 0.5 makes numbers of an integer column. `down` and `up` take the nearest
    value there is, whatever lies between, and need an order that tells the rows apart. What has no value before it
    stays null.
    """

    example: ClassVar[dict[str, Any]] = {
        "op": "fill_missing",
        "columns": ["district"],
        "method": "down",
        "order_by": ["seen_on", "phone"],
    }

    op: Literal["fill_missing"]
    columns: list[ColumnName] = Field(min_length=1)
    method: Literal["value", "down", "up"]
    value: Scalar = None
    order_by: list[SortKey] | None = None

    @model_validator(mode="after")
    def _fields_fit_method(self) -> FillMissing:
        if self.method == "value":
            if self.value is None:
                raise PydanticCustomError("missing_field", "method value needs value", {"field": "value"})
            if self.order_by is not None:
                raise PydanticCustomError("invalid_value", "method value has no order; remove order_by")
            return self
        if "value" in self.model_fields_set:
            raise PydanticCustomError("invalid_value", "{method} takes no value; remove it", {"method": self.method})
        if not self.order_by:
            raise PydanticCustomError(
                "missing_field", "{method} needs order_by", {"method": self.method, "field": "order_by"}
            )
        return self

    def answers(self) -> Mapping[str, Sequence[str]]:
        """Every one."""
        return {name: (name,) for name in self.columns}
