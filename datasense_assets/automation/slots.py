"""When a source is due: the next slot of its schedule, in its organisation's time zone.

Pure: no clock is read and nothing is stored here. Missed slots coalesce by themselves, because the next slot is always
counted from now and not from the slot that was missed.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta

from datasense_assets.catalog.freshness import INTERVALS
from datasense_assets.catalog.models import Cron, Schedule
from datasense_assets.catalog.times import cron_problem, zone_of

# Clocks are put back by an hour at most.
_BEFORE_ANY_CHANGE = timedelta(hours=3)
_CRON = {"15min": "*/15 * * * *", "hourly": "0 * * * *", "daily": "0 3 * * *", "weekly": "0 3 * * 1"}


def cron_of(schedule: Schedule) -> str | None:
    """The cron expression of a schedule; None for `manual`. Daily and weekly ones run at 03:00 local time."""
    if isinstance(schedule, Cron):
        return schedule.cron
    return _CRON.get(schedule)


def schedule_problem(schedule: Schedule) -> str | None:
    """What is wrong with a schedule; None when it comes round some day, and for `manual`."""
    cron = cron_of(schedule)
    return None if cron is None else cron_problem(cron)


def jitter(source_id: int, schedule: Schedule, limit: timedelta) -> timedelta:
    """How long after its slot a source is due: stable for the source, spread over the interval, at most `limit`.

    A cron schedule gets none: who writes a time of day means it.
    """
    interval = None if isinstance(schedule, Cron) else INTERVALS.get(schedule)
    if interval is None:
        return timedelta(0)
    spread = min(interval, limit)
    digest = hashlib.sha256(f"jitter:{source_id}".encode()).digest()
    return spread * (int.from_bytes(digest[:4], "big") / 2**32)


def next_due(
    schedule: Schedule, timezone: str, source_id: int, now: datetime, jitter_limit: timedelta
) -> datetime | None:
    """The first slot (with the source's jitter) that lies after `now`, in UTC; None for a manual source.

    None too for a cron expression that means nothing: its source cannot be used and says so, and stops nobody else.
    `now` has a time zone. Daylight saving is cronsim's: a slot in the skipped hour runs when the hour is over, one in
    the repeated hour runs once.
    """
    from cronsim import CronSim

    cron = cron_of(schedule)
    if cron is None or cron_problem(cron) is not None:
        return None
    delay = jitter(source_id, schedule, jitter_limit)
    zone = zone_of(timezone)
    # begun in an hour that clocks repeat, cronsim goes back to the first of the two; begun before it, it does not
    slots = CronSim(cron, (now - delay - _BEFORE_ANY_CHANGE).astimezone(zone))
    # reckoned in UTC: local times of the two hours compare wrongly
    return next(due for due in (slot.astimezone(UTC) + delay for slot in slots) if due > now)
