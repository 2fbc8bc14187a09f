"""The breaker of a source: after permanent failures in a row its schedule stops; single probes go on, ever more rarely.

An open breaker is a pause that the platform made (`paused_by = 'breaker'`), so whatever shows or lifts pauses shows and
lifts it too. It closes by a success, by `resume`, and when the source's address or credential is changed (a trigger).
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import Connection, case, delete, select, update

from datasense_assets.catalog.state.pauses import BREAKER, pause
from datasense_assets.catalog.tables import pauses, source_status, sources

OPENS_AFTER = 3
FIRST_PROBE = timedelta(minutes=15)
LONGEST_PROBE = timedelta(hours=24)


def probe_after(failures: int) -> timedelta:
    """How long an open breaker waits before the next probe: 15 minutes, doubling with each failure, a day at most."""
    doublings = min(max(0, failures - OPENS_AFTER), 10)
    return min(FIRST_PROBE * (1 << doublings), LONGEST_PROBE)


def open_breaker(connection: Connection, source_id: int, *, failures: int, message: str, now: datetime) -> bool:
    """Stop the schedule of a source that has failed permanently `failures` times in a row; whether it was stopped.

    Its next time becomes the probe's. Nothing happens before the third failure, nor to a source that a person paused.
    """
    if failures < OPENS_AFTER:
        return False
    probe_at = now + probe_after(failures)
    org_id = connection.execute(select(sources.c.org_id).where(sources.c.id == source_id)).scalar_one()
    reason = f"It failed {failures} times in a row and nothing but a person can mend it: {message}"
    if not pause(connection, org_id, source_id, reason=reason, by=BREAKER, probe_at=probe_at):
        return False
    connection.execute(
        update(source_status)
        .where(source_status.c.source_id == source_id)
        .values(next_due_at=case((source_status.c.next_due_at.is_not(None), probe_at)))
    )
    return True


def close_breaker(connection: Connection, source_id: int) -> bool:
    """Let the schedule run again, counted from now; whether the breaker was open."""
    was_open = connection.execute(
        delete(pauses)
        .where(pauses.c.source_id == source_id, pauses.c.paused_by == BREAKER)
        .returning(pauses.c.source_id)
    ).one_or_none()
    if was_open is None:
        return False
    connection.execute(update(source_status).where(source_status.c.source_id == source_id).values(replan=True))
    return True
