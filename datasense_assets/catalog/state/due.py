"""When each source is next: what is due now, and whose next time has to be reckoned again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from pydantic import TypeAdapter
from sqlalchemy import Connection, case, func, text, update

from datasense_assets.catalog.models import Grain, Schedule, Tier
from datasense_assets.catalog.sharding import SHARD_CONDITION, shard_binds
from datasense_assets.catalog.tables import source_status
from datasense_assets.settings import Shard

_SCHEDULE: TypeAdapter[Schedule] = TypeAdapter(Schedule)


@dataclass(frozen=True)
class DueSource:
    """A source whose time has come: not paused, not running, with tables to load or to discover.

    `next_due_at` is its slot; `slot_asked`: a run was already asked for at that slot. `probing`: its breaker is open
    and one attempt is due. `tables`: slugs of its top tables and repeat groups.
    """

    source_id: int
    slug: str
    org_id: int
    org_slug: str
    connector: str
    tier: Tier
    timezone: str
    schedule: Schedule
    grain: Grain
    next_due_at: datetime
    slot_asked: bool
    last_slot: datetime | None
    last_success_at: datetime | None
    failures_in_a_row: int
    failure_kind: str | None
    probing: bool
    tables: tuple[str, ...]


@dataclass(frozen=True)
class ReplanSource:
    """A source whose schedule, time zone or pause has changed: its next time has to be reckoned from now."""

    source_id: int
    slug: str
    org_slug: str
    timezone: str
    schedule: Schedule
    next_due_at: datetime | None
    last_slot: datetime | None
    last_success_at: datetime | None


_DUE = f"""
SELECT s.id AS source_id, s.slug, o.id AS org_id, o.slug AS org_slug, s.connector, o.tier, o.timezone, s.schedule,
       s.partition_every AS grain, st.next_due_at, st.last_slot, st.last_success_at,
       st.failures_in_a_row, st.failure_kind, st.last_slot IS NOT DISTINCT FROM st.next_due_at AS slot_asked,
       EXISTS (SELECT FROM datasense.pauses p WHERE p.org_id = s.org_id AND p.source_id = s.id) AS probing,
       ARRAY(SELECT t.slug FROM datasense.source_tables t WHERE t.source_id = s.id
             ORDER BY t.position, t.slug) AS tables
FROM datasense.source_status st
JOIN datasense.sources s ON s.id = st.source_id
JOIN datasense.organizations o ON o.id = s.org_id
WHERE st.next_due_at <= :now AND {SHARD_CONDITION}
  AND (s.discover_all OR EXISTS (SELECT FROM datasense.source_tables t WHERE t.source_id = s.id))
  AND NOT EXISTS (SELECT FROM datasense.leases l WHERE l.source_id = s.id AND l.expires_at > :now)
  AND NOT EXISTS (SELECT FROM datasense.pauses p WHERE p.org_id = s.org_id
                  AND (p.source_id IS NULL OR (p.source_id = s.id AND (p.probe_at IS NULL OR p.probe_at > :now))))
ORDER BY (o.tier = 'premium') DESC, st.next_due_at, s.id
LIMIT :limit
"""  # noqa: S608 - the condition is a constant of ours

_REPLAN = f"""
SELECT s.id AS source_id, s.slug, o.slug AS org_slug, o.timezone, s.schedule,
       st.next_due_at, st.last_slot, st.last_success_at
FROM datasense.source_status st
JOIN datasense.sources s ON s.id = st.source_id
JOIN datasense.organizations o ON o.id = s.org_id
WHERE st.replan AND {SHARD_CONDITION}
ORDER BY s.id
LIMIT :limit
FOR UPDATE OF st SKIP LOCKED
"""  # noqa: S608 - the condition is a constant of ours


def due_sources(connection: Connection, now: datetime, limit: int, shard: Shard | None = None) -> list[DueSource]:
    """Up to `limit` sources whose next time is `now` or earlier, premium first, then the longest waiting."""
    rows = connection.execute(text(_DUE), {"now": now, "limit": limit, **shard_binds(shard)}).mappings()
    return [
        DueSource(
            **{
                **row,
                "tier": Tier(row["tier"]),
                "schedule": _SCHEDULE.validate_python(row["schedule"]),
                "grain": Grain(row["grain"]),
                "tables": tuple(row["tables"]),
            }
        )
        for row in rows
    ]


def sources_to_replan(connection: Connection, limit: int = 1000, shard: Shard | None = None) -> list[ReplanSource]:
    """Up to `limit` sources to be given a new time with `set_next_due`, in the same transaction.

    Their rows stay locked until it ends, so a schedule edited meanwhile asks again afterwards and is not lost.
    """
    rows = connection.execute(text(_REPLAN), {"limit": limit, **shard_binds(shard)}).mappings()
    return [ReplanSource(**{**row, "schedule": _SCHEDULE.validate_python(row["schedule"])}) for row in rows]


def mark_slot_asked(connection: Connection, source_id: int, slot: datetime) -> None:
    """Note that a run was asked for at this due time; the next one is set when that run is seen."""
    connection.execute(
        update(source_status)
        .where(source_status.c.source_id == source_id)
        .values(last_slot=slot, last_requested_at=func.now())
    )


def set_next_due(connection: Connection, source_id: int, next_due_at: datetime | None) -> None:
    """Set when the source is next (None: only by hand)."""
    connection.execute(
        update(source_status)
        .where(source_status.c.source_id == source_id)
        .values(next_due_at=next_due_at, replan=False)
    )


def leave_slot(connection: Connection, source_id: int, slot: datetime, next_due_at: datetime | None) -> None:
    """Set when a source is next that was due at `slot`, unless another time was set since that was read.

    A run may end, and put the source off, between a tick's look at the catalog and its writing.
    """
    connection.execute(
        update(source_status)
        .where(source_status.c.source_id == source_id, source_status.c.next_due_at == slot)
        .values(next_due_at=next_due_at, replan=False)
    )


def put_off(connection: Connection, source_id: int, until: datetime, *, again: bool) -> None:
    """Keep the source from being asked for before `until`, since its server, or a quota, has no room for it.

    Args:
        connection: to the catalog.
        source_id: the source.
        until: the moment from which on it may be asked for.
        again: what was to be loaded is loaded then, earlier than the schedule says, a manual source too; else the
            schedule is only kept from coming earlier.

    """
    later = func.greatest(source_status.c.next_due_at, until)
    following = until if again else case((source_status.c.next_due_at.is_(None), None), else_=later)
    connection.execute(
        update(source_status)
        .where(source_status.c.source_id == source_id)
        .values(next_due_at=following, put_off_until=until)
    )
