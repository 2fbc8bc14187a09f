"""What may run at once, as it was set while everything runs; what dagster.yaml says holds where nothing is set."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, get_args

from sqlalchemy import Connection, delete, func, select
from sqlalchemy.dialects.postgresql import insert

from datasense_assets.catalog.tables import run_limits, source_quotas

LimitScope = Literal["total", "lane", "org", "connector", "host", "failing"]
SCOPES: tuple[LimitScope, ...] = get_args(LimitScope)
# Those of which there is one, so that it has no name.
NAMELESS: frozenset[LimitScope] = frozenset({"total", "failing"})


@dataclass(frozen=True)
class RunLimit:
    """At most `at_once` runs of one lane, organisation (its identifier), connector or host; name '': of each.

    `failing`: of all sources together that failed the last time.
    """

    scope: LimitScope
    name: str
    at_once: int


def read_run_limits(connection: Connection) -> list[RunLimit]:
    """All limits that were set, by scope and name."""
    rows = connection.execute(
        select(run_limits.c.scope, run_limits.c.name, run_limits.c.at_once).order_by(
            run_limits.c.scope, run_limits.c.name
        )
    )
    return [RunLimit(row.scope, row.name, row.at_once) for row in rows]


def set_run_limit(connection: Connection, limit: RunLimit, *, by: str) -> None:
    """Set a limit, in place of the one of that scope and name."""
    values = {"at_once": limit.at_once, "set_by": by, "set_at": func.now()}
    statement = insert(run_limits).values(scope=limit.scope, name=limit.name, **values)
    connection.execute(statement.on_conflict_do_update(index_elements=["scope", "name"], set_=values))


def unset_run_limit(connection: Connection, scope: LimitScope, name: str) -> bool:
    """Forget a limit, so that dagster.yaml holds again; return whether there was one."""
    gone = connection.execute(delete(run_limits).where(run_limits.c.scope == scope, run_limits.c.name == name))
    return bool(gone.rowcount)


def read_quotas(connection: Connection, source_id: int) -> frozenset[str]:
    """The keys of `quota_state` that a source's calls are counted by, as they were last written down."""
    query = select(source_quotas.c.key).where(source_quotas.c.source_id == source_id)
    return frozenset(connection.execute(query).scalars())


def record_quotas(connection: Connection, source_id: int, keys: Collection[str]) -> None:
    """Keep the keys of `quota_state` that a source's calls are counted by; nothing is written where they are known."""
    before = read_quotas(connection, source_id)
    if gone := before.difference(keys):
        connection.execute(
            delete(source_quotas).where(source_quotas.c.source_id == source_id, source_quotas.c.key.in_(gone))
        )
    if added := set(keys) - before:
        rows = [{"source_id": source_id, "key": key} for key in sorted(added)]
        connection.execute(insert(source_quotas).values(rows).on_conflict_do_nothing())
