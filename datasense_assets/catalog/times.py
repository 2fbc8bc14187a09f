"""What time it is for the sensors, and whether a cron expression and a time zone mean anything here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo


def _of_this_machine() -> datetime:
    return datetime.now(UTC)


_clock: ContextVar[Callable[[], datetime]] = ContextVar("datasense_clock", default=_of_this_machine)


def now() -> datetime:
    """The moment from which sensors reckon, in UTC: this machine's, unless a simulation keeps its own clock."""
    return _clock.get()()


@contextmanager
def clock(read: Callable[[], datetime]) -> Iterator[None]:
    """Have `now` be what `read` says, in this thread, while the context lasts: a day can pass in a minute."""
    token = _clock.set(read)
    try:
        yield
    finally:
        _clock.reset(token)


def as_utc(moment: datetime) -> datetime:
    """The moment with a time zone: UTC where it has none, as in Dagster's records of runs."""
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


@lru_cache(maxsize=4096)
def cron_problem(expression: str) -> str | None:
    """What is wrong with a five-field cron expression; None when it is good and comes round some day."""
    from cronsim import CronSim, CronSimError

    if len(expression.split()) != 5:
        return "a cron expression has five fields: minute, hour, day of month, month, day of week"
    try:
        next(CronSim(expression, datetime(2024, 1, 1, tzinfo=UTC)))
    except CronSimError as error:
        return str(error)
    except StopIteration:
        return "no date ever matches it"
    return None


def offset_at(local: datetime, zone: ZoneInfo) -> timedelta:
    """The offset from UTC of a local time (without a zone), as PostgreSQL reads it: of two moments it is the later.

    So an hour that comes twice is the second, in winter time, and a time that clocks skip is reckoned as if they had
    not been changed yet: 02:30 is 03:30 in summer time.
    """
    offsets = (local.replace(tzinfo=zone, fold=fold).utcoffset() for fold in (0, 1))
    return min(offset for offset in offsets if offset is not None)


def zone_of(name: str) -> ZoneInfo:
    """The time zone; UTC where Python does not know it. What such an organisation has cannot be used and says so."""
    return ZoneInfo(name if is_timezone(name) else "UTC")


@lru_cache(maxsize=1024)
def is_timezone(name: str) -> bool:
    """Whether Python knows the IANA time zone."""
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return False
    return True
