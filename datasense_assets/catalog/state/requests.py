"""Runs that people ask for through the command line or the web product."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, func, select, text, update
from sqlalchemy.dialects.postgresql import insert

from datasense_assets.catalog.sharding import SHARD_CONDITION, shard_binds
from datasense_assets.catalog.state.due import PATIENCE_SECONDS
from datasense_assets.catalog.tables import sources, sync_requests
from datasense_assets.settings import Shard


@dataclass(frozen=True)
class AskedRun:
    """A run someone asked for: of one source (some of its tables), of one recipe, or of the whole organisation.

    `full_reload`: the whole history of a source; a recipe's table even where it would be the same. `after`: ids of
    requests whose runs have to succeed first (the inputs of a recipe, which is then built with the recipes it reads).
    `asked_lately`: a run was asked for less than a minute ago, so that it may be about to appear.
    """

    id: int
    org_id: int
    org_slug: str
    source_id: int | None
    source_slug: str | None
    recipe_id: int | None
    recipe_name: str | None
    tables: tuple[str, ...] | None
    partition_first: str | None
    partition_last: str | None
    full_reload: bool
    lane: str
    requested_by: str
    requested_at: datetime
    last_success_at: datetime | None
    after: tuple[int, ...] = ()
    asked_lately: bool = False


@dataclass(frozen=True)
class RequestResult:
    """What became of a request: `run_id` of the run that serves it, or `error` saying why there is none."""

    settled: bool
    run_id: str | None
    error: str | None


_OPEN = f"""
WITH waiting AS (
    SELECT q.*, row_number() OVER (PARTITION BY q.org_id ORDER BY q.lane = 'backfill', q.id) AS turn
    FROM datasense.sync_requests q
    WHERE q.taken_at IS NULL AND coalesce(q.not_before <= now(), true)
      AND NOT EXISTS (SELECT FROM datasense.sync_requests a WHERE a.id = ANY (q.after_requests) AND a.taken_at IS NULL)
)
SELECT q.id, q.org_id, o.slug AS org_slug, q.source_id, s.slug AS source_slug, q.recipe_id, r.name AS recipe_name,
       q.tables, q.partition_first, q.partition_last, q.full_reload, q.lane, q.requested_by, q.requested_at,
       st.last_success_at, coalesce(q.after_requests, '{{}}') AS after,
       coalesce(q.asked_at > now() - make_interval(secs => :patience), false) AS asked_lately
FROM waiting q
JOIN datasense.organizations o ON o.id = q.org_id
LEFT JOIN datasense.sources s ON s.id = q.source_id
LEFT JOIN datasense.source_status st ON st.source_id = q.source_id
LEFT JOIN datasense.recipes r ON r.id = q.recipe_id
WHERE {SHARD_CONDITION}
ORDER BY q.turn, q.id LIMIT :limit
"""  # noqa: S608 - the condition is a constant of ours


def add_request(
    connection: Connection,
    *,
    org_id: int,
    source_id: int | None = None,
    recipe_id: int | None = None,
    tables: Sequence[str] | None = None,
    partitions: tuple[str, str] | None = None,
    full_reload: bool = False,
    lane: str = "interactive",
    requested_by: str = "",
    after: Sequence[int] = (),
    not_before: datetime | None = None,
) -> int:
    """Ask for a run and return the request's id; `partitions` is the first and the last key, both taken in.

    `after`: requests whose runs have to succeed first. No run is made of it before `not_before` (None: at once).

    Raises:
        sqlalchemy.exc.IntegrityError: source or recipe belong to another organisation, or both are given.

    """
    first, last = partitions or (None, None)
    request = insert(sync_requests).values(
        org_id=org_id,
        source_id=source_id,
        recipe_id=recipe_id,
        tables=None if tables is None else list(tables),
        partition_first=first,
        partition_last=last,
        full_reload=full_reload,
        lane=lane,
        requested_by=requested_by,
        after_requests=list(after) or None,
        not_before=not_before,
    )
    return int(connection.execute(request.returning(sync_requests.c.id)).scalar_one())


def ask_again_later(
    connection: Connection,
    source_id: int,
    until: datetime,
    *,
    tables: Sequence[str] | None,
    partitions: tuple[str, str] | None,
    full_reload: bool,
    lane: str,
    requested_by: str,
) -> int | None:
    """Ask for a load from `until` on, as `add_request` does; None where the same one is waiting already."""
    first, last = partitions or (None, None)
    same = {
        "tables": None if tables is None else list(tables),
        "partition_first": first,
        "partition_last": last,
        "full_reload": full_reload,
    }
    waiting = select(sync_requests.c.id).where(
        sync_requests.c.source_id == source_id,
        sync_requests.c.taken_at.is_(None),
        *(sync_requests.c[name].is_not_distinct_from(value) for name, value in same.items()),
    )
    if connection.execute(waiting.limit(1)).first() is not None:
        return None
    org_id = connection.execute(select(sources.c.org_id).where(sources.c.id == source_id)).scalar_one()
    return add_request(
        connection,
        org_id=org_id,
        source_id=source_id,
        tables=tables,
        partitions=partitions,
        full_reload=full_reload,
        lane=lane,
        requested_by=requested_by,
        not_before=until,
    )


def open_requests(connection: Connection, limit: int, shard: Shard | None = None) -> list[AskedRun]:
    """Up to `limit` requests that no run serves yet and whose time has come: one of each organisation in turn.

    Of one organisation the oldest come first, backfills last. Each stays open until `settle_request`. One that comes
    after requests which nobody has taken yet is left out.
    """
    binds = {"limit": limit, "patience": PATIENCE_SECONDS, **shard_binds(shard)}
    rows = connection.execute(text(_OPEN), binds).mappings()
    return [
        AskedRun(
            **{**row, "tables": None if row["tables"] is None else tuple(row["tables"]), "after": tuple(row["after"])}
        )
        for row in rows
    ]


def lock_requests(connection: Connection, shard: Shard | None) -> bool:
    """Until this transaction ends, nobody else makes runs of the shard's requests; False: somebody does just now."""
    name = f"datasense:requests:{shard}"
    query = text("SELECT pg_try_advisory_xact_lock(hashtextextended(:name, 0))")
    return bool(connection.execute(query, {"name": name}).scalar_one())


def mark_request_asked(connection: Connection, request_id: int) -> None:
    """Note that a run is asked for, now: it is about to be made, and nobody else need ask."""
    connection.execute(update(sync_requests).where(sync_requests.c.id == request_id).values(asked_at=func.now()))


def split_request(connection: Connection, row: AskedRun, spans: Sequence[tuple[str, str]]) -> None:
    """Have a request for a long range served by several runs: it keeps the first span, each other becomes a part of it.

    What a part needs is said by itself, so that each is served whatever becomes of the others or of the daemon.
    """
    (first, last), *others = spans
    connection.execute(
        update(sync_requests)
        .where(sync_requests.c.id == row.id)
        .values(partition_first=first, partition_last=last, lane=row.lane)
    )
    for start, end in others:
        part = add_request(
            connection,
            org_id=row.org_id,
            source_id=row.source_id,
            tables=row.tables,
            partitions=(start, end),
            lane=row.lane,
            requested_by=row.requested_by,
        )
        connection.execute(update(sync_requests).where(sync_requests.c.id == part).values(part_of=row.id))


def parts_of(connection: Connection, request_id: int) -> list[tuple[int, str, str]]:
    """The other parts of a request that was split: id, first and last partition, in their order."""
    rows = connection.execute(
        select(sync_requests.c.id, sync_requests.c.partition_first, sync_requests.c.partition_last)
        .where(sync_requests.c.part_of == request_id)
        .order_by(sync_requests.c.id)
    )
    return [(row.id, row.partition_first, row.partition_last) for row in rows]


def settle_request(
    connection: Connection, request_id: int, *, run_id: str | None = None, error: str | None = None
) -> None:
    """Write what became of a request: the run that serves it, or why there is none; it is open no more."""
    connection.execute(
        update(sync_requests)
        .where(sync_requests.c.id == request_id)
        .values(run_id=run_id, error=error, taken_at=func.now())
    )


def read_request(connection: Connection, request_id: int) -> RequestResult | None:
    """What became of a request so far; None when there is no such request."""
    row = connection.execute(
        select(sync_requests.c.taken_at, sync_requests.c.run_id, sync_requests.c.error).where(
            sync_requests.c.id == request_id
        )
    ).one_or_none()
    return None if row is None else RequestResult(row.taken_at is not None, row.run_id, row.error)
