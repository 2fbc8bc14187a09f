"""The promise of freshness: how old a table's data may be at most, as written or as the schedule implies.

A source's data is as old as the moment up to which it is complete, so that a sync that brings nothing new keeps the
promise. A recipe keeps its own as long as what is new above it is not left unbuilt for longer. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from datasense_assets.catalog.models import Cron, Schedule
from datasense_assets.catalog.times import cron_problem

INTERVALS = {
    "15min": timedelta(minutes=15),
    "hourly": timedelta(hours=1),
    "daily": timedelta(days=1),
    "weekly": timedelta(weeks=1),
}
_UNITS = {"minute": 60, "hour": 3600, "day": 86400, "week": 604800}
_DURATION = re.compile(r"(\d{1,5}) (minute|hour|day|week)s?")
LONGEST_PROMISE = timedelta(days=3650)
# Of a recipe that is made only of what is loaded by hand.
_BY_HAND = timedelta(days=1)
_SLOTS = 64


def parse_duration(text: str) -> timedelta:
    """Read `90 minutes`, `6 hours`, `2 days` or `1 week`.

    Raises:
        ValueError: it is not of that form, nothing, or more than ten years.
    """
    match = _DURATION.fullmatch(text.strip())
    length = timedelta(seconds=int(match[1]) * _UNITS[match[2]]) if match is not None else timedelta(0)
    if not timedelta(0) < length <= LONGEST_PROMISE:
        raise ValueError(f"{text!r} is no length of time")
    return length


def duration_text(length: timedelta) -> str:
    """The length in its largest whole unit (minutes at least), as `parse_duration` reads it."""
    seconds = int(length.total_seconds())
    name, size = next(((n, s) for n, s in reversed(_UNITS.items()) if seconds % s == 0), ("minute", 60))
    count = max(1, seconds // size)
    return f"{count} {name}{'s' if count > 1 else ''}"


def source_promise(schedule: Schedule, fresh_within: timedelta | None) -> timedelta | None:
    """How old a source's data may be: as written, else twice its interval; None for one that is loaded only by hand.

    None too for one whose schedule means nothing: it fails.
    """
    if fresh_within is not None:
        return fresh_within
    if isinstance(schedule, Cron):
        return None if cron_problem(schedule.cron) is not None else 2 * _longest_gap(schedule.cron)
    interval = INTERVALS.get(schedule)
    return None if interval is None else 2 * interval


def recipe_promise(inputs: Iterable[timedelta | None], fresh_within: timedelta | None) -> timedelta:
    """How long a recipe may stay behind its inputs: as written, else the longest promise among them."""
    if fresh_within is not None:
        return fresh_within
    return max((each for each in inputs if each is not None), default=_BY_HAND)


@lru_cache(maxsize=4096)
def _longest_gap(expression: str) -> timedelta:
    """The longest time between two of its next slots, so that a schedule of working days is not late on Mondays."""
    from cronsim import CronSim

    slots = CronSim(expression, datetime(2024, 1, 1, tzinfo=UTC))
    before, longest = next(slots), timedelta(0)
    for _ in range(_SLOTS):
        try:
            following = next(slots)
        except StopIteration:
            break
        longest, before = max(longest, following - before), following
    return longest or timedelta(days=366)
