"""What is read again by night: which sources are due, and which were done."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, func, text, update
from sqlalchemy.dialects.postgresql import insert

from datasense_assets.catalog.sharding import SHARD_CONDITION, shard_binds
from datasense_assets.catalog.state.due import PATIENCE_SECONDS
from datasense_assets.catalog.tables import rereads
from datasense_assets.settings import Shard


@dataclass(frozen=True)
class DueReread:
    """A source whose night has come: `due_at` is its slot; `slot_asked`: a run was already asked for at that slot,
    `asked_lately`: less than a minute ago, so that it may be about to appear.
    """

    source_id: int
    timezone: str
    due_at: datetime
    slot_asked: bool
    asked_lately: bool


_WITHOUT = f"""
SELECT s.id, o.timezone FROM datasense.sources s
JOIN datasense.organizations o ON o.id = s.org_id
WHERE s.connector = ANY(:kinds) AND {SHARD_CONDITION}
  AND NOT EXISTS (SELECT FROM datasense.rereads r WHERE r.source_id = s.id AND r.due_at IS NOT NULL)
ORDER BY s.id LIMIT :limit
"""  # noqa: S608 - the condition is a constant of ours

_DUE = f"""
SELECT r.source_id, o.timezone, r.due_at, r.asked_slot IS NOT DISTINCT FROM r.due_at AS slot_asked,
       coalesce(r.asked_at > now() - make_interval(secs => :patience), false) AS asked_lately
FROM datasense.rereads r
JOIN datasense.sources s ON s.id = r.source_id
JOIN datasense.organizations o ON o.id = s.org_id
WHERE r.due_at <= :now AND {SHARD_CONDITION}
  AND NOT EXISTS (SELECT FROM datasense.pauses p
                  WHERE p.org_id = s.org_id AND (p.source_id IS NULL OR p.source_id = s.id))
ORDER BY (o.tier = 'premium') DESC, r.due_at, r.source_id
LIMIT :limit
"""  # noqa: S608 - the condition is a constant of ours


def sources_without_reread(
    connection: Connection, kinds: Collection[str], limit: int = 1000, shard: Shard | None = None
) -> list[tuple[int, str]]:
    """Ids of up to `limit` sources of these connectors whose night was never reckoned, with their time zones."""
    binds = {"kinds": list(kinds), "limit": limit, **shard_binds(shard)}
    return [(row.id, row.timezone) for row in connection.execute(text(_WITHOUT), binds)]


def due_rereads(connection: Connection, now: datetime, limit: int, shard: Shard | None = None) -> list[DueReread]:
    """Up to `limit` sources that are not paused and whose night is `now` or earlier, premium first."""
    binds = {"now": now, "limit": limit, "patience": PATIENCE_SECONDS, **shard_binds(shard)}
    rows = connection.execute(text(_DUE), binds).mappings()
    return [DueReread(**row) for row in rows]


def set_reread_due(connection: Connection, source_id: int, due_at: datetime) -> None:
    """Set when the source is next read again."""
    _write(connection, source_id, due_at=due_at)


def mark_reread_asked(connection: Connection, source_id: int, slot: datetime) -> bool:
    """Note that a run is asked for at this time; the next time is set when that run is seen.

    False where another scheduler has just done so: then it is not to be asked for.
    """
    lately = func.now() - timedelta(seconds=PATIENCE_SECONDS)
    mine = rereads.c.asked_slot.is_distinct_from(slot) | rereads.c.asked_at.is_(None) | (rereads.c.asked_at < lately)
    done = connection.execute(
        update(rereads)
        .where(rereads.c.source_id == source_id, rereads.c.due_at == slot, mine)
        .values(asked_slot=slot, asked_at=func.now())
    )
    return bool(done.rowcount)


def record_reread(connection: Connection, source_id: int) -> None:
    """Note that the source has been read again, now."""
    _write(connection, source_id, done_at=func.now())


def _write(connection: Connection, source_id: int, **values: object) -> None:
    row = insert(rereads).values(source_id=source_id, **values)
    connection.execute(row.on_conflict_do_update(index_elements=["source_id"], set_=values))
