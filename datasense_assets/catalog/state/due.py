"""When each source is next: what is due now, and whose next time has to be reckoned again."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from pydantic import TypeAdapter
from sqlalchemy import Connection, case, func, text, update

from datasense_assets.catalog.models import Grain, Schedule, Tier
from datasense_assets.catalog.sharding import SHARD_CONDITION, shard_binds
from datasense_assets.catalog.state.loads import FailureRecord
from datasense_assets.catalog.tables import source_status
from datasense_assets.settings import Shard

_SCHEDULE: TypeAdapter[Schedule] = TypeAdapter(Schedule)


@dataclass(frozen=True)
class DueSource:
    """A source whose time has come: not paused, not running, with tables to load or to discover.

    `next_due_at` is its slot; `slot_asked`: a run was already asked for at that slot, `asked_lately`: less than a
    minute ago, so that it may be about to appear. `probing`: its breaker is open and one attempt is due.
    `tables`: slugs of its top tables and repeat groups.
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
    asked_lately: bool = False


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


# Why a source whose time has come is not asked for, the first that applies; `waits` is left when none does.
_REASON = """
CASE WHEN NOT (s.discover_all OR EXISTS (SELECT FROM datasense.source_tables t WHERE t.source_id = s.id)) THEN 'empty'
     WHEN EXISTS (SELECT FROM datasense.pauses p WHERE p.org_id = s.org_id
                  AND (p.source_id IS NULL OR (p.source_id = s.id AND (p.probe_at IS NULL OR p.probe_at > :now))))
          THEN 'paused'
     WHEN EXISTS (SELECT FROM datasense.leases l WHERE l.source_id = s.id AND l.expires_at > :now) THEN 'running'
     WHEN EXISTS (SELECT FROM datasense.source_quotas sq JOIN datasense.quota_state q ON q.key = sq.key
                  WHERE sq.source_id = s.id AND q.blocked_until > :now) THEN 'out_of_quota'
     ELSE 'waits' END
"""

_COUNTS = f"""
SELECT {_REASON} AS reason, count(*) AS sources
FROM datasense.source_status st
JOIN datasense.sources s ON s.id = st.source_id
JOIN datasense.organizations o ON o.id = s.org_id
WHERE st.next_due_at <= :now AND {SHARD_CONDITION}
GROUP BY 1
"""  # noqa: S608 - the conditions are constants of ours

_COUNT_OF = f"""
SELECT count(*) FROM datasense.source_status st JOIN datasense.sources s ON s.id = st.source_id
WHERE st.source_id = ANY (CAST(:ids AS bigint[])) AND st.next_due_at <= :now AND {_REASON} = 'waits'
"""  # noqa: S608 - the condition is a constant of ours

# `turn`: the how-manieth of its organisation. By it an organisation with 300 due sources stands before nobody's first.
_DUE = f"""
SELECT s.id AS source_id, s.slug, o.id AS org_id, o.slug AS org_slug, s.connector, o.tier, o.timezone, s.schedule,
       s.partition_every AS grain, st.next_due_at, st.last_slot, st.last_success_at,
       st.failures_in_a_row, st.failure_kind, st.last_slot IS NOT DISTINCT FROM st.next_due_at AS slot_asked,
       EXISTS (SELECT FROM datasense.pauses p WHERE p.org_id = s.org_id AND p.source_id = s.id) AS probing,
       ARRAY(SELECT t.slug FROM datasense.source_tables t WHERE t.source_id = s.id
             ORDER BY t.position, t.slug) AS tables,
       st.last_requested_at > :now - make_interval(secs => :patience) AS asked_lately
FROM (
    SELECT s.id, row_number() OVER (PARTITION BY s.org_id ORDER BY st.next_due_at, s.id) AS turn
    FROM datasense.source_status st
    JOIN datasense.sources s ON s.id = st.source_id
    JOIN datasense.organizations o ON o.id = s.org_id
    WHERE st.next_due_at <= :now AND {SHARD_CONDITION} AND {_REASON} = 'waits'
      AND s.id <> ALL (CAST(:unknown AS bigint[]))
      AND (st.last_slot IS NOT DISTINCT FROM st.next_due_at
           OR (replace(o.slug, '-', '_') <> ALL (CAST(:full_orgs AS text[]))
               AND s.id <> ALL (CAST(:held_back AS bigint[]))
               AND NOT (:no_failing AND st.failures_in_a_row > 0)))
) due
JOIN datasense.source_status st ON st.source_id = due.id
JOIN datasense.sources s ON s.id = due.id
JOIN datasense.organizations o ON o.id = s.org_id
ORDER BY (o.tier = 'premium' OR st.next_due_at < :now - make_interval(secs => :too_long)) DESC,
         due.turn, st.next_due_at, s.id
LIMIT :limit
"""  # noqa: S608 - the conditions are constants of ours
# Who has waited for so long stands beside premium ones: however many of these there are, nobody waits for ever.
WAITED_TOO_LONG = timedelta(hours=2)
# A run that was asked for is made within the same tick; where it is not seen for so long, its daemon has died.
PATIENCE_SECONDS = 60.0

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


def due_sources(
    connection: Connection,
    now: datetime,
    limit: int,
    shard: Shard | None = None,
    *,
    full_orgs: Collection[str] = (),
    held_back: Collection[int] = (),
    no_failing: bool = False,
    unknown: Collection[int] = (),
) -> list[DueSource]:
    """Up to `limit` sources whose next time is `now` or earlier: premium (and who has waited too long) first, then one
    an organisation in turn.

    Within a turn the longest waiting come first. Left out is what is paused, running or out of quota, and of what was
    not asked for yet the organisations (identifiers) of `full_orgs`, the sources (ids) of `held_back`, and
    with `no_failing` those that failed the last time; and `unknown` (ids) in any case.
    """
    binds = {
        "now": now,
        "limit": limit,
        "patience": PATIENCE_SECONDS,
        "too_long": WAITED_TOO_LONG.total_seconds(),
        "full_orgs": sorted(full_orgs),
        "held_back": sorted(held_back),
        "no_failing": no_failing,
        "unknown": sorted(unknown),
        **shard_binds(shard),
    }
    rows = connection.execute(text(_DUE), binds).mappings()
    return [
        DueSource(
            **{
                **row,
                "tier": Tier(row["tier"]),
                "schedule": _SCHEDULE.validate_python(row["schedule"]),
                "grain": Grain(row["grain"]),
                "tables": tuple(row["tables"]),
                "asked_lately": bool(row["asked_lately"]),
            }
        )
        for row in rows
    ]


def count_due(connection: Connection, now: datetime, shard: Shard | None = None) -> dict[str, int]:
    """How many sources are due, by why they are not asked for: `empty` (no tables), `paused`, `running`,
    `out_of_quota`, or `waits` where nothing of that applies.
    """
    rows = connection.execute(text(_COUNTS), {"now": now, **shard_binds(shard)})
    return {row.reason: row.sources for row in rows}


def count_due_of(connection: Connection, now: datetime, source_ids: Collection[int]) -> int:
    """How many of these sources are due and would be asked for."""
    binds = {"now": now, "ids": sorted(source_ids)}
    return int(connection.execute(text(_COUNT_OF), binds).scalar_one())


def sources_to_replan(connection: Connection, limit: int = 1000, shard: Shard | None = None) -> list[ReplanSource]:
    """Up to `limit` sources to be given a new time with `set_next_due`, in the same transaction.

    Their rows stay locked until it ends, so a schedule edited meanwhile asks again afterwards and is not lost.
    """
    rows = connection.execute(text(_REPLAN), {"limit": limit, **shard_binds(shard)}).mappings()
    return [ReplanSource(**{**row, "schedule": _SCHEDULE.validate_python(row["schedule"])}) for row in rows]


def mark_slot_asked(connection: Connection, source_id: int, slot: datetime) -> bool:
    """Note that a run is asked for at this due time; the next one is set when that run is seen.

    False where another scheduler has just done so, or has left the slot: then it is not to be asked for.
    """
    lately = func.now() - timedelta(seconds=PATIENCE_SECONDS)
    mine = source_status.c.last_slot.is_distinct_from(slot) | (source_status.c.last_requested_at < lately)
    done = connection.execute(
        update(source_status)
        .where(source_status.c.source_id == source_id, source_status.c.next_due_at == slot, mine)
        .values(last_slot=slot, last_requested_at=func.now())
    )
    return bool(done.rowcount)


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


def fail_without_run(
    connection: Connection, source_id: int, failure: FailureRecord, *, next_due_at: datetime | None
) -> None:
    """Have a source that no run can be asked for fail until it is loaded again; it is due then (None: never)."""
    connection.execute(
        update(source_status)
        .where(source_status.c.source_id == source_id)
        .values(
            next_due_at=next_due_at,
            replan=False,
            last_failure_at=func.now(),
            failures_in_a_row=func.greatest(source_status.c.failures_in_a_row, 1),
            failure_kind=failure.kind,
            failure_message=failure.message,
            failure_advice=failure.advice,
        )
    )


def come_again(connection: Connection, source_id: int, at: datetime) -> None:
    """Have a source that failed asked for at `at`, unless its schedule does so earlier; a manual one stays manual."""
    slot = source_status.c.next_due_at
    # a slot that has passed may be the failed run's own, which the due sensor is about to leave
    earlier = case((slot.is_(None), None), (slot <= func.now(), at), else_=func.least(slot, at))
    connection.execute(update(source_status).where(source_status.c.source_id == source_id).values(next_due_at=earlier))


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
