"""Running checks on a table as it stands: one scan for all of its rows, what came of each check, and no value shown.

A check that cannot be run (its column is gone, its query took too long) is a check that does not hold.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, time, timezone
from typing import Any, Literal, cast
from zoneinfo import ZoneInfo

import psycopg
from psycopg import sql

from datasense_assets.catalog.times import offset_at
from datasense_assets.recipes.checking.history import Judgement, judge
from datasense_assets.recipes.checking.naming import check_names, ends, kind_of_check, severity_of
from datasense_assets.recipes.checking.results import CheckOutcome, CheckResult, Subject, breach, shown_moment
from datasense_assets.recipes.compiling.checks import CheckedTable
from datasense_assets.recipes.errors import RecipeErrors
from datasense_assets.recipes.language.checks import (
    AcceptedValuesCheck,
    CheckBase,
    ConditionCheck,
    ExistsInCheck,
    FreshWithinCheck,
    MaxLossyCastsCheck,
    NotNullCheck,
    PatternCheck,
    RangeCheck,
    RowCountChangeCheck,
    RowCountCheck,
    UniqueCheck,
    span_of,
)
from datasense_assets.recipes.parsing import parse_checks
from datasense_assets.warehouse.swap import SessionLimits, apply_limits

SAMPLE_ROWS = 5
LOADED_AT = "_ds_loaded_at"
_OF_ROWS = (NotNullCheck, AcceptedValuesCheck, RangeCheck, PatternCheck, ConditionCheck)


def run_checks(
    connection: psycopg.Connection, declared: Sequence[Any], subject: Subject, *, limits: SessionLimits | None = None
) -> CheckOutcome:
    """Run the checks, as they are written, on a table, as the connection's role.

    Costs one SELECT for the checks of single rows, one for each key that must be unique or found elsewhere, and one
    for samples if any fails. `limits` hold for the caller's transaction if there is one (None: it has its own).
    """
    run = _Run(connection, subject, limits)
    names = check_names(declared)
    for index, check in enumerate(declared):
        run.add(index, names[index], check)
    return CheckOutcome(tuple(run.results()), run.rows)


class _Run:
    """The checks of one table on their way from what is written to what came of them."""

    def __init__(self, connection: psycopg.Connection, subject: Subject, limits: SessionLimits | None) -> None:
        self.connection, self.subject, self.limits = connection, subject, limits
        self.zone = ZoneInfo(subject.timezone)
        self.table = CheckedTable(subject.ref, subject.references)
        self.checks: dict[int, CheckBase] = {}
        self.written: dict[int, tuple[str, Any]] = {}
        self.found: dict[int, tuple[bool, str, int | None]] = {}
        self.settled: set[int] = set()
        self.waiting: set[int] = set()
        self.rows: int | None = None
        self.figures: dict[int, Any] = {}
        self.too_slow = False

    def add(self, index: int, name: str, written: Any) -> None:
        """Take a check in; one that cannot be read, or does not suit the table, does not hold."""
        self.written[index] = (name, written)
        try:
            (check,) = parse_checks([written])
            errors = self.table.errors(check, of_recipe=self.subject.of_recipe)
            awaited = getattr(check, "in_", None) in self.subject.awaited
        except RecipeErrors as problems:
            errors, awaited = list(problems.errors), False
        if awaited and [each.code for each in errors] == ["missing_table"]:
            self.waiting.add(index)
            self.found[index] = (False, f"{written['in']} is not there yet; it is run as soon as that is.", None)
        elif errors:
            said = " ".join(each.message.removeprefix(f"{each.path}: ") for each in errors)
            self.found[index] = (False, f"It cannot be checked: {said}".replace("checks[0]", "it"), None)
        else:
            self.checks[index] = check

    def results(self) -> list[CheckResult]:
        """Ask the database, and say what came of each check, in their order."""
        self._scan()
        for index, check in self.checks.items():
            if index not in self.found:
                self._decide(index, check)
        samples = self._samples()
        return [self._result(index, samples.get(index, ())) for index in sorted(self.written)]

    def _result(self, index: int, samples: tuple[str, ...]) -> CheckResult:
        name, written = self.written[index]
        passed, message, broken = self.found[index]
        severity = cast(Literal["warn", "error"], severity_of(written))
        kind = kind_of_check(written)
        settled, waits = index in self.settled, index in self.waiting
        return CheckResult(name, kind, severity, passed, message, broken, samples, written, settled, waits)

    def _scan(self) -> None:
        """All that one look at the rows can tell."""
        rowwise = {i: check for i, check in self.checks.items() if isinstance(check, _OF_ROWS)}
        newest = {i: c for i, check in self.checks.items() if (c := self._moment_column(check)) is not None}
        counted = any(isinstance(c, (RowCountCheck, RowCountChangeCheck, UniqueCheck)) for c in self.checks.values())
        if not (rowwise or newest or counted):
            return
        self._look(rowwise, newest)
        if self.rows is None and len(rowwise) + len(newest) > 1 and not self.too_slow:
            # One of them broke the query for all: each is asked alone.
            for index in (*rowwise, *newest):
                del self.found[index]
                self._look(
                    {i: c for i, c in rowwise.items() if i == index}, {i: c for i, c in newest.items() if i == index}
                )

    def _look(self, rowwise: Mapping[int, CheckBase], newest: Mapping[int, str]) -> None:
        scan = self.table.scan(rowwise, newest)
        counting = [i for i, c in self.checks.items() if isinstance(c, (RowCountCheck, RowCountChangeCheck))]
        row = self._ask([*rowwise, *newest, *counting], scan.sql, lambda rows: rows[0])
        if row is not None:
            self.rows = int(row[0])
            self.figures |= dict(zip(scan.parts, row[1:], strict=True))
            for index in counting:
                self.found.pop(index, None)

    def _moment_column(self, check: CheckBase) -> str | None:
        if not isinstance(check, FreshWithinCheck):
            return None
        own = LOADED_AT if not self.subject.of_recipe and LOADED_AT in self.subject.ref.columns else None
        return check.column or own

    def _decide(self, index: int, check: CheckBase) -> None:
        if isinstance(check, _OF_ROWS):
            self._count(index, check, int(self.figures[index]))
        elif isinstance(check, (UniqueCheck, ExistsInCheck)):
            broken = self._ask([index], self.table.count(check), lambda rows: int(rows[0][0]))
            if broken is not None:
                self._count(index, check, broken)
        elif isinstance(check, RowCountCheck):
            rows = self.rows or 0
            good = rows >= check.min and (check.max is None or rows <= check.max)
            self.found[index] = (good, f"{rows} rows; {ends(check.min, check.max)} expected.", None)
        elif isinstance(check, RowCountChangeCheck):
            self._compare(index, judge(check, self.subject.history, self.rows or 0, self.subject.now))
        elif isinstance(check, FreshWithinCheck):
            self._age(index, check)
        elif isinstance(check, MaxLossyCastsCheck):
            self._losses(index, check)

    def _count(self, index: int, check: CheckBase, broken: int) -> None:
        total = "" if self.rows is None else f" of {self.rows}"
        said = f"{broken}{total} rows: {breach(check)}." if broken else f"It holds for every row{total}."
        self.found[index] = (not broken, said, broken)

    def _compare(self, index: int, judgement: Judgement) -> None:
        self.found[index] = (judgement.passed, judgement.message, None)
        if judgement.settled:
            self.settled.add(index)

    def _age(self, index: int, check: FreshWithinCheck) -> None:
        what = f"the newest {check.column}" if check.column is not None else "the newest data"
        value = self.figures.get(index) if index in self.figures else self.subject.loaded_at
        if value is None:
            self.found[index] = (False, f"There is no value to tell by: {what} is not known.", None)
            return
        moment = value if isinstance(value, datetime) else datetime.combine(value, time.max)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=timezone(offset_at(moment, self.zone)))
        age = self.subject.now - moment
        shown = "" if check.column in self.subject.ref.personal else f" is of {shown_moment(value)}"
        good = age <= span_of(check.within)
        beyond = "not older" if good else "older"
        joined = f"{shown}, {beyond}" if shown else f" is {beyond}"
        self.found[index] = (good, f"{what[0].upper()}{what[1:]}{joined} than {check.within}.", None)

    def _losses(self, index: int, check: MaxLossyCastsCheck) -> None:
        if self.subject.lost is None:
            self.found[index] = (True, "Values lost to casts are counted when the recipe is built.", None)
            return
        lost = {c: n for c, n in self.subject.lost.items() if check.column in (None, c)}
        total = sum(lost.values())
        where = ", ".join(f"{column}: {number}" for column, number in lost.items() if number)
        values = "1 value" if total == 1 else f"{total} values"
        allowed = "1 is" if check.max == 1 else f"{check.max} are"
        said = f"{values} could not be read by casts{f' ({where})' if where else ''}; {allowed} allowed."
        self.found[index] = (total <= check.max, said, total)

    def _samples(self) -> dict[int, tuple[str, ...]]:
        """Keys of some rows that break a check, by check: one query, and none where nothing fails."""
        key = self.subject.key
        failing = [i for i, (passed, _, broken) in self.found.items() if not passed and broken and i in self.checks]
        kinds = (*_OF_ROWS, UniqueCheck, ExistsInCheck)
        queries = [
            self.table.sample(i, self.checks[i], key, SAMPLE_ROWS)
            for i in failing
            if key is not None and isinstance(self.checks[i], kinds)
        ]
        if not queries:
            return {}
        union = " UNION ALL ".join(f"({query})" for query in queries)
        found: dict[int, list[str]] = {}
        for index, value in self._ask([], union, lambda rows: rows) or ():
            found.setdefault(index, []).append(str(value))
        return {index: tuple(sorted(keys)) for index, keys in found.items()}

    def _ask(self, blamed: Sequence[int], query: str, read: Callable[[list[Any]], Any]) -> Any:
        """What a query gives; None where it fails, and then the `blamed` checks do not hold.

        The server's own words are left out: they may quote a value.
        """
        try:
            with self.connection.transaction():
                if self.limits is not None:
                    apply_limits(self.connection, self.limits)
                    self.connection.execute("SET LOCAL transaction_read_only = on")
                # Composed without parameters: a % in a name would be read as a placeholder.
                return read(self.connection.execute(sql.SQL(query), binary=True).fetchall())
        except (psycopg.DataError, psycopg.ProgrammingError, psycopg.errors.QueryCanceled) as error:
            self.too_slow = isinstance(error, psycopg.errors.QueryCanceled)
            reason = "it took too long" if self.too_slow else type(error).__name__
            for index in blamed:
                self.found[index] = (False, f"It cannot be checked: the query failed ({reason}).", None)
            return None
