"""When an organisation may be sent a message: after its quiet hours, and in its daily digest where it has one."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

from datasense_assets.catalog.models import Alerting
from datasense_assets.catalog.times import zone_of


def send_after(alerting: Alerting, timezone: str, now: datetime) -> datetime:
    """The first moment from `now` on at which a message may go out, in UTC.

    With a digest that is its next time of day; else `now`, or the end of the quiet hours that `now` lies in. Times of
    day are the organisation's own; one that a change of clocks skips comes an hour later.
    """
    zone = zone_of(timezone)
    if alerting.digest is not None:
        return _next(_time(alerting.digest), zone, now)
    return out_of_quiet_hours(alerting, timezone, now)


def out_of_quiet_hours(alerting: Alerting, timezone: str, now: datetime) -> datetime:
    """`now`, or the end of the quiet hours that it lies in; also for what is tried again, digest or not."""
    if alerting.quiet_hours is None:
        return now
    zone = zone_of(timezone)
    first, last = (_time(part) for part in alerting.quiet_hours.split("-"))
    at = now.astimezone(zone).time()
    quiet = first <= at < last if first <= last else at >= first or at < last
    return _next(last, zone, now) if quiet else now


def _time(text: str) -> time:
    return time.fromisoformat(text.strip())


def _next(at: time, zone: ZoneInfo, now: datetime) -> datetime:
    day = now.astimezone(zone).date()
    candidates = (datetime.combine(day + timedelta(days=n), at, zone).astimezone(UTC) for n in range(3))
    return next(moment for moment in candidates if moment >= now)
