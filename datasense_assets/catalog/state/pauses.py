"""Pauses: of a source or of a whole organisation, made by people and by the breaker, until they are taken back."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, delete, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert

from datasense_assets.catalog.tables import pauses, source_status, sources

# `pauses.paused_by` of a pause that the platform made after failures in a row, and takes back by itself.
BREAKER = "breaker"


def pause(
    connection: Connection,
    org_id: int,
    source_id: int | None = None,
    *,
    reason: str,
    by: str,
    probe_at: datetime | None = None,
) -> bool:
    """Pause a source, or the whole organisation; return whether anything changed.

    `probe_at`: when a paused source may be tried once more (the breaker's). The breaker (`by=BREAKER`) never
    overwrites a pause that a person made.
    """
    row = {"reason": reason, "paused_by": by, "probe_at": probe_at}
    statement = insert(pauses).values(org_id=org_id, source_id=source_id, **row)
    differs = or_(*(pauses.c[name].is_distinct_from(statement.excluded[name]) for name in row))
    if by == BREAKER:
        differs = differs & (pauses.c.paused_by == BREAKER)
    done = connection.execute(
        statement.on_conflict_do_update(
            index_elements=[text("org_id"), text("coalesce(source_id, 0)")], set_=row, where=differs
        ).returning(pauses.c.org_id)
    )
    return done.one_or_none() is not None


def resume(connection: Connection, org_id: int, source_id: int | None = None) -> bool:
    """Take the pause back, forget the failures that led to it and have the schedule counted anew from now.

    Returns whether there was a pause. Resuming an organisation leaves pauses of single sources standing.
    """
    removed = connection.execute(
        delete(pauses).where(pauses.c.org_id == org_id, pauses.c.source_id.is_not_distinct_from(source_id))
    ).rowcount
    if removed:
        owned = select(sources.c.id).where(sources.c.org_id == org_id)
        if source_id is not None:
            owned = owned.where(sources.c.id == source_id)
        values = {"replan": True} if source_id is None else {"replan": True, "failures_in_a_row": 0}
        connection.execute(update(source_status).where(source_status.c.source_id.in_(owned)).values(**values))
    return bool(removed)
