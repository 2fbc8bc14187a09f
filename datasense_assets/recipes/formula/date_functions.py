"""The functions of the section Dates and times, as Ibis values. A datetime is read in the session's time zone."""

from __future__ import annotations

from typing import Any, TypeAlias

import ibis
import ibis.expr.types as ir

from datasense_assets.catalog.models import ColumnType
from datasense_assets.recipes.formula import postgres
from datasense_assets.recipes.formula.kinds import DTYPES, INTEGER, between_or_null
from datasense_assets.recipes.formula.signatures import ArgumentError

SECONDS = {"second": 1, "minute": 60, "hour": 3_600, "day": 86_400, "week": 604_800}
MONTHS = {"month": 1, "quarter": 3, "year": 12}
INTERVALS = {"second": "s", "minute": "m", "hour": "h", "day": "D", "week": "W", "month": "M", "year": "Y"}
DAYS = frozenset({"day", "week"})
CLOCK_UNITS = frozenset({"second", "minute", "hour"})

FARTHEST_DAYS = 4_000 * 366
"""How far `date_add` goes: from any year of four digits the result is within what PostgreSQL can hold."""

Moment: TypeAlias = ir.DateValue | ir.TimestampValue


def part(name: str, value: Moment | ir.TimeValue) -> ir.Value:
    """`year`, `month`, ... `second` as an integer; the week is ISO's."""
    method = {"week": "week_of_year"}.get(name, name)
    return getattr(value, method)().cast(INTEGER)


def weekday(value: Moment) -> ir.Value:
    """1 Monday to 7 Sunday."""
    return (value.day_of_week.index() + 1).cast(INTEGER)


def date_diff(start: Moment, end: Moment, unit: str) -> ir.Value:
    """Complete units from start to end, below zero where the end is earlier.

    From a day on it goes by what clocks show, as `date_add` does: from noon to noon is a day, though one of 23 hours.
    """
    _judge_unit(start, unit, 2)
    start, end = _local(start), _local(end)
    if unit in MONTHS:
        between = postgres.age(end, start)
        years = postgres.part_of_interval("year", between)
        if unit == "year":
            return years.cast(INTEGER)
        months = years * 12 + postgres.part_of_interval("month", between)
        return postgres.truncated(months / float(MONTHS[unit])).cast(INTEGER)
    if unit in DAYS:
        start, end = _shown(start), _shown(end)
    elapsed = _seconds(end) - _seconds(start)
    return postgres.truncated(elapsed / float(SECONDS[unit])).cast(INTEGER)


def date_add(value: Moment, count: ir.IntegerValue, unit: str) -> ir.Value:
    """So many units later; a day that the month does not have becomes its last."""
    _judge_unit(value, unit, 2)
    name, times = ("month", 3) if unit == "quarter" else (unit, 1)
    seconds = MONTHS[name] * 30 * 86_400 if name in MONTHS else SECONDS[name]
    # within 32 bits for all units but seconds, of which PostgreSQL takes a double
    farthest = FARTHEST_DAYS * 86_400 // (seconds * times)
    step = between_or_null(count, -farthest - 1, farthest + 1)
    if times > 1:
        step = step * times
    later = _local(value) + step.as_interval(INTERVALS[name])
    return later.cast("date") if isinstance(value, ir.DateValue) else later


def start_of(value: Moment, unit: str) -> ir.Value:
    """The first day of the unit in which the value is; a week starts on Monday."""
    return _shown(value).truncate("Q" if unit == "quarter" else INTERVALS[unit]).cast("date")


def today() -> ir.Value:
    """The day in the session's time zone."""
    return ibis.today()


def now() -> ir.Value:
    """The moment at which the transaction began."""
    return ibis.now().cast(DTYPES[ColumnType.DATETIME])


def _local(value: Moment) -> Any:
    """A date as its midnight without a zone, so that no change of the clock makes a day of 23 hours."""
    return _shown(value) if isinstance(value, ir.DateValue) else value


def _shown(value: Moment) -> Any:
    """The day and hour that clocks show in the session's zone."""
    return value.cast("timestamp")


def _seconds(value: ir.Value) -> ir.Value:
    return postgres.part_of_moment("epoch", value)


def _judge_unit(value: Moment, unit: str, index: int) -> None:
    if unit in CLOCK_UNITS and isinstance(value, ir.DateValue):
        raise ArgumentError(index, f"A date has no {unit}s. Use datetime(...) to make it a datetime, or another unit.")
