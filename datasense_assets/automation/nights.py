"""When a source is read again: once a night in its organisation's time zone, at a time of its own. Pure."""

from __future__ import annotations

import hashlib
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from datasense_assets.catalog.times import zone_of

# Where people sleep, and after the daily backups that commonly start at midnight.
NIGHT_BEGINS = time(0, 30)
NIGHT_MINUTES = 270


def next_night(source_id: int, timezone: str, now: datetime) -> datetime:
    """The source's time in the first night that lies after `now`, in UTC; stable, spread over 00:30 to 05:00."""
    zone = zone_of(timezone)
    today = now.astimezone(zone).date()
    return next(slot for day in range(3) if (slot := _slot(source_id, today + timedelta(days=day), zone)) > now)


def weekday_of(source_id: int) -> int:
    """The day (0 is Monday) on which a source's weekly full read is: stable, spread over the week."""
    return _number(f"week:{source_id}") % 7


def is_weekly_night(source_id: int, timezone: str, slot: datetime) -> bool:
    """Whether the night of that slot is the one of the source's weekly full read."""
    return slot.astimezone(zone_of(timezone)).weekday() == weekday_of(source_id)


def first_moment(slot: datetime, timezone: str, days: int) -> datetime:
    """Midnight so many days before the slot's day, in the organisation's time zone, given in UTC."""
    zone = zone_of(timezone)
    day = slot.astimezone(zone).date() - timedelta(days=days)
    return datetime.combine(day, time.min, zone).astimezone(UTC)


def _slot(source_id: int, day: date, zone: ZoneInfo) -> datetime:
    begin = datetime.combine(day, NIGHT_BEGINS, zone).astimezone(UTC)
    return begin + timedelta(seconds=_number(f"night:{source_id}") % (NIGHT_MINUTES * 60))


def _number(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
