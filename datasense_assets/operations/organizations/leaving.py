"""An organisation gone with all its data: tables, roles, credentials, history in Dagster, logs and files.

The catalog's row goes last, so that whoever is killed on the way runs the same again.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import dagster as dg
import psycopg
from psycopg import sql
from sqlalchemy import Connection, text

from datasense_assets.catalog.credentials import SecretReference, resolve
from datasense_assets.catalog.models import identifier, org_schema
from datasense_assets.catalog.snapshot import load_snapshot, save_snapshot
from datasense_assets.running import tags as t
from datasense_assets.warehouse.database import connect, database_url, normalized_url
from datasense_assets.warehouse.organizations import STAGING_LAYOUT
from datasense_assets.warehouse.roles import reader, role_mark

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from datasense_assets.settings import Settings

MOVED = "moved_%s"
"""The name of a schema that was left behind when its organisation moved; no organisation's own begins so."""

Told = Callable[[str], None]
_PAGE = 500

# Dagster's own tables, in which an asset is named by its key (`["org", "source", "table"]`). No public call forgets a
# key or a tick: `wipe_assets` leaves the row, with its name.
_BY_KEY = ("event_logs", "asset_event_tags", "asset_check_executions", "asset_keys", "asset_daemon_asset_evaluations")
# Texts that may name it among others: what was seen at a tick, and reports of the platform's own check.
_BY_WORD = {
    "job_ticks": "tick_body ~ :word",
    "event_logs": "asset_key LIKE '[\"_platform\", %' AND event ~ :word",
    "asset_check_executions": "asset_key LIKE '[\"_platform\", %' AND evaluation_event ~ :word",
    "bulk_actions": "body ~ :word",
}
_QUOTAS = """
DELETE FROM datasense.quota_state q WHERE q.key IN (
    SELECT sq.key FROM datasense.source_quotas sq JOIN datasense.sources s ON s.id = sq.source_id WHERE s.org_id = :org)
AND NOT EXISTS (SELECT FROM datasense.source_quotas sq JOIN datasense.sources s ON s.id = sq.source_id
                WHERE sq.key = q.key AND s.org_id <> :org)
"""


def runs_of(ident: str) -> list[str]:
    """Ids of all runs in Dagster's storage that bear the organisation's tag, or planned or wrote an asset of it."""
    query = (
        "SELECT run_id FROM run_tags WHERE key = :tag AND value = :ident UNION "
        "SELECT run_id FROM event_logs WHERE asset_key LIKE :key AND run_id <> ''"
    )
    binds = {"tag": t.ORG, "ident": ident, "key": _key(ident)}
    with _storage().connect() as connection:
        return list(connection.execute(text(query), binds).scalars())


def _storage() -> Engine:
    """Dagster's storage, which may be in another database than the catalog."""
    from datasense_assets.running.storage import pooled_engine, storage_url

    return pooled_engine(storage_url())


def forget_everything(
    catalog: Engine, instance: dg.DagsterInstance, settings: Settings, org_id: int, slug: str, *, told: Told
) -> dict[str, int]:
    """Delete the organisation, which must be held still, with all that the platform keeps of it; how much of what.

    Raises:
        DatabaseUnavailable: its own warehouse cannot be reached; nothing was deleted there, nor in the catalog.
        SecretMissing: the secret with that warehouse's URL cannot be resolved.
    """
    ident = identifier(slug)
    gone: dict[str, int] = {}
    told("tables and roles")
    gone["tables"] = _drop_warehouse(catalog, settings, org_id, slug)
    runs = runs_of(ident)
    told(f"{len(runs)} runs")
    gone["files"] = sum(_forget_run(instance, settings, run_id) for run_id in runs)
    gone["runs"] = len(runs)
    told("history in Dagster")
    with _storage().begin() as connection:
        gone["events"] = _forget_history(connection, slug)
        gone["snapshots"] = _forget_snapshots(connection)
    told("the catalog")
    with catalog.begin() as connection:
        connection.execute(text(_QUOTAS), {"org": org_id})
        connection.execute(
            text("DELETE FROM datasense.run_limits WHERE scope = 'org' AND name = :name"), {"name": ident}
        )
        connection.execute(text("DELETE FROM datasense.organizations WHERE id = :org"), {"org": org_id})
    _forget_saved(settings, slug)
    return gone


def _key(ident: str) -> str:
    return '["' + ident.replace("_", r"\_") + '", %'


def _drop_warehouse(catalog: Engine, settings: Settings, org_id: int, slug: str) -> int:
    with catalog.connect() as connection:
        query = (
            "SELECT o.warehouse, r.role_name, current_database() AS database FROM datasense.organizations o "
            "LEFT JOIN datasense.org_roles r ON r.org_id = o.id WHERE o.id = :org"
        )
        row = connection.execute(text(query), {"org": org_id}).one()
    own = row.warehouse is not None
    dropped = 0
    if own:
        secret = resolve(SecretReference.model_validate(row.warehouse), settings).get_secret_value()
        with connect(normalized_url(secret, f"The warehouse of {slug!r}")) as there:
            dropped += drop_schemas(there, slug)
    # what it left in the platform's warehouse before it had its own is its data too
    with connect(database_url(settings)) as here:
        dropped += drop_schemas(here, slug)
        for role in {row.role_name or org_schema(slug), org_schema(slug)}:
            drop_roles(here, slug, role, row.database)
    return dropped


def drop_schemas(connection: psycopg.Connection, slug: str) -> int:
    """Drop the organisation's schemas with all that is in them; how many tables that were."""
    own = (org_schema(slug), STAGING_LAYOUT % org_schema(slug))
    names = [*own, *(MOVED % name for name in own)]
    found = connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = ANY (%s)", (names,)).fetchone()
    for name in names:
        connection.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(name)))
    return int(found[0]) if found else 0


def drop_roles(connection: psycopg.Connection, slug: str, role: str, database: str) -> None:
    """Drop the login role and its reader where they bear the mark of this database; another platform's stay."""
    for name in (role, reader(role)):
        query = "SELECT shobj_description(oid, 'pg_authid') FROM pg_roles WHERE rolname = %s"
        mark = connection.execute(query, (name,)).fetchone()
        if mark is not None and mark[0] == role_mark(slug, database):
            for statement in ("DROP OWNED BY {} CASCADE", "DROP ROLE {}"):
                connection.execute(sql.SQL(statement).format(sql.Identifier(name)))


def _forget_run(instance: dg.DagsterInstance, settings: Settings, run_id: str) -> int:
    """Delete a run with its events, and its captured output on this machine; how many files that were."""
    instance.delete_run(run_id)
    folder = settings.home / "compute_logs" / run_id
    files = sum(each.is_file() for each in folder.rglob("*")) if folder.is_dir() else 0
    shutil.rmtree(folder, ignore_errors=True)
    return files


def _forget_history(connection: Connection, slug: str) -> int:
    """What Dagster keeps beside runs: events without one, keys, ticks, backfills."""
    ident, number = identifier(slug), 0
    word = rf"(^|[^a-z0-9_-])({re.escape(slug)}|{re.escape(ident)})([^a-z0-9_-]|$)"
    for table in _there(connection, _BY_KEY):
        statement = f"DELETE FROM {table} WHERE asset_key LIKE :key"  # noqa: S608 - names of ours
        number += connection.execute(text(statement), {"key": _key(ident)}).rowcount
    for table in _there(connection, _BY_WORD):
        statement = f"DELETE FROM {table} WHERE {_BY_WORD[table]}"  # noqa: S608 - names and conditions of ours
        number += connection.execute(text(statement), {"word": word}).rowcount
    return number


def _forget_snapshots(connection: Connection) -> int:
    """Snapshots of jobs and plans that no run refers to any more: they hold the graph as it was, names and all."""
    if not _there(connection, ("snapshots",)):
        return 0
    statement = (
        "DELETE FROM snapshots s WHERE NOT EXISTS (SELECT FROM runs r WHERE r.snapshot_id = s.snapshot_id) "
        "AND NOT EXISTS (SELECT FROM runs r WHERE position(s.snapshot_id IN r.run_body) > 0)"
    )
    return connection.execute(text(statement)).rowcount


def _there(connection: Connection, tables: Iterable[str]) -> list[str]:
    """Which of Dagster's tables exist in this version of it."""
    return [
        name
        for name in tables
        if connection.execute(text("SELECT to_regclass(:name)"), {"name": name}).scalar_one() is not None
    ]


def _forget_saved(settings: Settings, slug: str) -> None:
    """Take it out of this machine's last good snapshot of the catalog."""
    for path in settings.home.glob("snapshot*.json"):
        saved: Any = load_snapshot(path)
        if saved is not None:
            rest = tuple(org for org in saved.organizations if org.slug != slug)
            save_snapshot(path, saved.model_copy(update={"organizations": rest}))
