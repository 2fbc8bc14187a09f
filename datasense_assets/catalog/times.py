"""Whether a cron expression and a time zone mean anything here; kept, since thousands of rows share a few of them."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache


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


@lru_cache(maxsize=1024)
def is_timezone(name: str) -> bool:
    """Whether Python knows the IANA time zone."""
    from zoneinfo import ZoneInfo

    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return False
    return True
