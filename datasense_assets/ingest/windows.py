"""Partition keys and windows of time, in the organisation's time zone, for the four grains.

Keys are formatted as Dagster's time partitions are: `%Y-%m-%d`, hourly `%Y-%m-%d-%H:%M`; a week starts on Sunday. An
hour that comes twice is two partitions, and the key of the second ends with its offset (`2026-10-25-02:00+0100`).
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from datasense_assets.catalog.models import Grain
from datasense_assets.connectors.base import Window

DAY_FORMAT = "%Y-%m-%d"
HOUR_FORMAT = "%Y-%m-%d-%H:%M"


def partition_window(key: str, grain: Grain, timezone: str) -> Window:
    """The stretch of time [start, end) that a partition stands for; a day is 23 or 25 hours when clocks change.

    Raises:
        ValueError: the key is not one of that grain.
    """
    zone = ZoneInfo(timezone)
    if grain is Grain.HOUR:
        start = _hour(key, zone)
        return Window(start.astimezone(zone), (start + timedelta(hours=1)).astimezone(zone))
    local = datetime.strptime(key, DAY_FORMAT)
    if _first_day(local.date(), grain) != local.date():
        raise ValueError(f"{key!r} is not the first day of a {grain.value}")
    return Window(_midnight(local.date(), zone), _midnight(_next_day(local.date(), grain), zone))


def range_window(first: str, last: str, grain: Grain, timezone: str) -> Window:
    """The stretch of time from the start of partition `first` to the end of partition `last`."""
    start, end = partition_window(first, grain, timezone).start, partition_window(last, grain, timezone).end
    # as moments: two of one zone are compared by what clocks show
    if start.astimezone(UTC) >= end.astimezone(UTC):
        raise ValueError(f"partition {first!r} comes after {last!r}")
    return Window(start, end)


def partition_key(moment: datetime, grain: Grain, timezone: str) -> str:
    """The key of the partition that holds the moment (which has a time zone)."""
    local = moment.astimezone(ZoneInfo(timezone))
    if grain is Grain.HOUR:
        hour = local.replace(minute=0)
        is_second = hour.fold == 1 and hour.utcoffset() != hour.replace(fold=0).utcoffset()
        return hour.strftime(HOUR_FORMAT + "%z" if is_second else HOUR_FORMAT)
    # strftime writes years before 1000 with fewer digits on some systems; isoformat does not
    return _first_day(local.date(), grain).isoformat()


def live_partitions(cursor_time: datetime | None, now: datetime, grain: Grain, timezone: str) -> tuple[str, str]:
    """First and last key that a live load fills: from the cursor's partition to now's, normally one, two just after
    midnight. Without a cursor, or with one in the future, now's alone.
    """
    last = partition_key(now, grain, timezone)
    if cursor_time is None or cursor_time > now:
        return last, last
    return partition_key(cursor_time, grain, timezone), last


def _hour(key: str, zone: ZoneInfo) -> datetime:
    """When the hour begins, in UTC; without an offset it is the first of two."""
    if len(key) > len("2026-10-25-02:00"):
        return datetime.strptime(key, f"{HOUR_FORMAT}%z").astimezone(UTC)
    return datetime.strptime(key, HOUR_FORMAT).replace(tzinfo=zone).astimezone(UTC)


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=zone)


def _first_day(day: date, grain: Grain) -> date:
    if grain is Grain.WEEK:
        return day - timedelta(days=(day.weekday() + 1) % 7)
    return day.replace(day=1) if grain is Grain.MONTH else day


def _next_day(day: date, grain: Grain) -> date:
    if grain is Grain.MONTH:
        return (day.replace(day=1) + timedelta(days=32)).replace(day=1)
    return day + timedelta(days=7 if grain is Grain.WEEK else 1)
