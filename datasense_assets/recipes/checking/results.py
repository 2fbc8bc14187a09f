"""What checks are run on, and what comes of them, as values; the words they are said in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, Literal

from datasense_assets.recipes.checking.naming import ends
from datasense_assets.recipes.language.checks import (
    AcceptedValuesCheck,
    CheckBase,
    ConditionCheck,
    ExistsInCheck,
    NotNullCheck,
    PatternCheck,
    RangeCheck,
    UniqueCheck,
)

if TYPE_CHECKING:
    from datasense_assets.recipes.checking.history import LoadCount
    from datasense_assets.recipes.tableref import TableRef


@dataclass(frozen=True)
class CheckResult:
    """What came of one check. `broken` counts rows (or lost values); None where the check is not about single ones.

    `samples` are keys of rows that break it, never values. `declared` is the check as it was written. `settled`: a
    number of rows that was objected to before is taken for right now. `waits`: it has not passed, for it could not be
    run: the table that it looks into is still to be loaded or built.
    """

    name: str
    kind: str
    severity: Literal["warn", "error"]
    passed: bool
    message: str
    broken: int | None = None
    samples: tuple[str, ...] = ()
    declared: Any = None
    settled: bool = False
    waits: bool = False

    @property
    def blocks(self) -> bool:
        """Whether it keeps the table from what is built on it."""
        return not self.passed and self.severity == "error"


@dataclass(frozen=True)
class Subject:
    """A table to be checked, and what is known of it besides its rows.

    `references`: the tables that `exists_in` looks into, as checks name them, None where one is not there. `awaited`:
    those that will be there once they are loaded or built. `key`: the column whose values name rows
    to people, None where those are personal or there is none. `loaded_at`: of a recipe, when the oldest of its inputs
    was complete. `lost`: of a recipe that was just built, values lost to casts by column. `timezone`: in
    which a day ends.
    """

    ref: TableRef
    references: Mapping[str, TableRef | None] = field(default_factory=dict)
    awaited: frozenset[str] = frozenset()
    history: Sequence[LoadCount] = ()
    key: str | None = None
    of_recipe: bool = False
    loaded_at: datetime | None = None
    lost: Mapping[str, int] | None = None
    timezone: str = "UTC"
    now: datetime = field(default_factory=lambda: datetime.now(UTC))


@dataclass(frozen=True)
class CheckOutcome:
    """What came of all the checks of a table: `rows` that it has, None where nobody had to count them."""

    results: tuple[CheckResult, ...]
    rows: int | None = None

    @property
    def blocking(self) -> tuple[CheckResult, ...]:
        """Results that keep the table from what is built on it."""
        return tuple(result for result in self.results if result.blocks)


_BREACHES: Mapping[type[CheckBase], str] = {
    NotNullCheck: "{column} is null",
    UniqueCheck: "another row has the same {columns}",
    AcceptedValuesCheck: "{column} is none of the accepted values",
    RangeCheck: "{column} is not {ends}",
    PatternCheck: "{column} does not match the pattern",
    ExistsInCheck: "{column} is not found in {in}",
    ConditionCheck: "the condition is not met",
}


def breach(check: CheckBase) -> str:
    """How a row breaks the check, without the row's values."""
    filled = {"column": getattr(check, "column", "")}
    if isinstance(check, UniqueCheck):
        filled["columns"] = ", ".join(check.columns)
    elif isinstance(check, RangeCheck):
        filled["ends"] = ends(check.min, check.max)
    elif isinstance(check, ExistsInCheck):
        filled["in"] = check.in_
    return _BREACHES[type(check)].format_map(filled)


def shown_moment(value: date | datetime) -> str:
    """A day, or a moment in UTC to the minute."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return value.isoformat()
