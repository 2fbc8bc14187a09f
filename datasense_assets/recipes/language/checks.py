"""What can be promised about a table, of a source or of a recipe: the checks as models."""

from __future__ import annotations

import re
from collections import Counter
from datetime import timedelta
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from datasense_assets.catalog.models import InputReference
from datasense_assets.recipes.language.conditions import AllOf, AnyOf, Comparison, Condition, Not
from datasense_assets.recipes.language.values import MAX_ITEMS, ColumnName, Scalar, Shape, Text, WrittenReference

MAX_CHECKS = 200
FEWEST_LOADS, MOST_LOADS = 8, 100

_SPAN = re.compile(r"([1-9][0-9]{0,4}) (hour|day|week)s?")
_NAME = re.compile(r"[a-z][a-z0-9_]{0,59}")


def _check_name(text: str) -> str:
    if _NAME.fullmatch(text) is None:
        raise PydanticCustomError(
            "invalid_value",
            "is {value}; write lower-case letters, digits and _, a letter first, at most 60",
            {"value": repr(text)},
        )
    return text


def _span(text: str) -> str:
    if _SPAN.fullmatch(text) is None:
        raise PydanticCustomError(
            "bad_literal", "is {value}; write a span such as '36 hours', '2 days' or '1 week'", {"value": repr(text)}
        )
    return text


def span_of(text: str) -> timedelta:
    """The length of a span such as `36 hours`, `2 days` or `1 week`, as the models let it pass."""
    match = _SPAN.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no span")
    return timedelta(**{f"{match[2]}s": int(match[1])})


def columns_of_condition(condition: AllOf | AnyOf | Not | Comparison) -> set[str]:
    """Names of all columns that a condition looks at."""
    if isinstance(condition, Comparison):
        return {condition.column} | ({condition.value_column} if condition.value_column is not None else set())
    if isinstance(condition, Not):
        return columns_of_condition(condition.not_)
    children = condition.all if isinstance(condition, AllOf) else condition.any
    return {name for child in children for name in columns_of_condition(child)}


class CheckBase(Shape):
    """A promise about a table. Broken with severity `error`, it keeps the data from what is built on it.

    `example` is a check as written, shown in the reference and compiled by a test.
    """

    example: ClassVar[dict[str, Any]]

    name: Annotated[str, AfterValidator(_check_name)] | None = None
    severity: Literal["warn", "error"] = "error"

    def column_names(self) -> set[str]:
        """Columns of the checked table that the check cannot do without."""
        column = getattr(self, "column", None)
        return set() if column is None else {column}


class NotNullCheck(CheckBase):
    """No row has null in the column."""

    example: ClassVar[dict[str, Any]] = {"check": "not_null", "column": "district"}

    check: Literal["not_null"]
    column: ColumnName


class UniqueCheck(CheckBase):
    """No two rows have the same values in the columns (rows with a null among them aside)."""

    example: ClassVar[dict[str, Any]] = {"check": "unique", "columns": ["district", "seen_on"]}

    check: Literal["unique"]
    columns: list[ColumnName] = Field(min_length=1)

    def column_names(self) -> set[str]:
        """All of the key."""
        return set(self.columns)


class AcceptedValuesCheck(CheckBase):
    """Every value of the column that is not null is one of these."""

    example: ClassVar[dict[str, Any]] = {"check": "accepted_values", "column": "sex", "values": ["f", "m"]}

    check: Literal["accepted_values"]
    column: ColumnName
    values: list[Scalar] = Field(min_length=1, max_length=MAX_ITEMS)


class RangeCheck(CheckBase):
    """Every value of the column that is not null is at least `min` and at most `max`, both taken in.

    For numbers, dates, times; one of the two ends may be left out.
    """

    example: ClassVar[dict[str, Any]] = {"check": "range", "column": "visits", "min": 0, "max": 500}

    check: Literal["range"]
    column: ColumnName
    min: Scalar = None
    max: Scalar = None

    @model_validator(mode="after")
    def _has_an_end(self) -> RangeCheck:
        if self.min is None and self.max is None:
            raise PydanticCustomError("missing_field", "needs min or max", {"field": "min"})
        return self


class PatternCheck(CheckBase):
    """Every text of the column that is not null matches the regular expression anywhere in it (`^...$`: as a whole)."""

    example: ClassVar[dict[str, Any]] = {"check": "pattern", "column": "phone", "pattern": "^[0-9]{10}$"}

    check: Literal["pattern"]
    column: ColumnName
    pattern: Text


class ExistsInCheck(CheckBase):
    """Every value of the column that is not null stands in the column `to` of another table of the organisation.

    `in` is `source:<source>.<table>` or `recipe:<name>`, read as it is at that moment; without `to` the column there
    has the same name. A table may be held against itself.
    """

    example: ClassVar[dict[str, Any]] = {
        "check": "exists_in",
        "column": "district",
        "in": "source:places.districts",
        "to": "name",
    }

    check: Literal["exists_in"]
    column: ColumnName
    in_: WrittenReference = Field(alias="in")
    to: ColumnName | None = None

    @property
    def reference(self) -> InputReference:
        """The other table."""
        return InputReference.parse(self.in_)


class RowCountCheck(CheckBase):
    """The table has at least `min` and at most `max` rows."""

    example: ClassVar[dict[str, Any]] = {"check": "row_count", "min": 1, "max": 100000}

    check: Literal["row_count"]
    min: int = Field(default=1, ge=0)
    max: int | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _ends_in_order(self) -> RowCountCheck:
        if self.max is not None and self.max < self.min:
            raise PydanticCustomError("invalid_value", "has a max below its min; no table would do")
        return self


class RowCountChangeCheck(CheckBase):
    """The number of rows has not changed too much since the last load.

    With `max_drop_percent` or `max_growth_percent` those are the limits. With neither, what is usual is learnt from the
    last `loads` loads.
    """

    example: ClassVar[dict[str, Any]] = {"check": "row_count_change", "max_drop_percent": 50}

    check: Literal["row_count_change"]
    max_drop_percent: float | None = Field(default=None, ge=0, le=100)
    max_growth_percent: float | None = Field(default=None, ge=0)
    loads: int = Field(default=30, ge=FEWEST_LOADS, le=MOST_LOADS)

    @property
    def is_learnt(self) -> bool:
        """Whether no limit was given."""
        return self.max_drop_percent is None and self.max_growth_percent is None


class FreshWithinCheck(CheckBase):
    """The newest value of the column (a date, or date and time) is not older than `within`.

    Without a column it is about the load: of a source's table, when its newest row came in; of a recipe, when the
    oldest of its inputs was last complete.
    """

    example: ClassVar[dict[str, Any]] = {
        "check": "fresh_within",
        "within": "2 days",
        "column": "seen_on",
        "severity": "warn",
    }

    check: Literal["fresh_within"]
    within: Annotated[str, AfterValidator(_span)]
    column: ColumnName | None = None


class MaxLossyCastsCheck(CheckBase):
    """Of a recipe: at most `max` values were lost to casts that could not read them, in the column or in all."""

    example: ClassVar[dict[str, Any]] = {"check": "max_lossy_casts", "max": 10}

    check: Literal["max_lossy_casts"]
    column: ColumnName | None = None
    max: int = Field(default=0, ge=0)

    def column_names(self) -> set[str]:
        """None: the column is one of a cast, and may be gone from the result."""
        return set()


class ConditionCheck(CheckBase):
    """Every row meets the condition, as `filter` would keep it: a row that is compared with null does not."""

    example: ClassVar[dict[str, Any]] = {
        "check": "condition",
        "name": "visits_have_a_cost",
        "where": {
            "any": [{"column": "visits", "operator": "=", "value": 0}, {"column": "cost", "operator": "is_not_null"}]
        },
    }

    check: Literal["condition"]
    where: Condition

    def column_names(self) -> set[str]:
        """All that the condition looks at."""
        return columns_of_condition(self.where)


Check = Annotated[
    NotNullCheck
    | UniqueCheck
    | AcceptedValuesCheck
    | RangeCheck
    | PatternCheck
    | ExistsInCheck
    | RowCountCheck
    | RowCountChangeCheck
    | FreshWithinCheck
    | MaxLossyCastsCheck
    | ConditionCheck,
    Field(discriminator="check"),
]


def _names_differ(checks: list[Any]) -> list[Any]:
    counts = Counter(check.name for check in checks if check.name is not None)
    if repeated := [name for name, count in counts.items() if count > 1]:
        raise PydanticCustomError(
            "invalid_value", "has two checks with the name {names}; names must differ", {"names": ", ".join(repeated)}
        )
    return checks


Checks = Annotated[list[Check], Field(max_length=MAX_CHECKS), AfterValidator(_names_differ)]
"""The checks of one table."""

CHECK_MODELS: dict[str, type[CheckBase]] = {
    str(get_args(model.model_fields["check"].annotation)[0]): model for model in get_args(get_args(Check)[0])
}
"""Every kind of check by its name, in the order of the reference."""


class TableChecks(Shape):
    """The checks of a source's table, as a whole that can be read."""

    checks: Checks = Field(default_factory=list)
