"""What runs leave behind, put away: dlt's records, staged tables and kept pages of nothing, scratch of dead runs.

An organisation that something is loading at the moment is left alone until the next time: whatever is in its staging
schema may be that load's. The lock that every load takes before it makes its tables is held meanwhile, so that none
begins between the look and the deed.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql
from sqlalchemy import text

from datasense_assets.catalog.credentials import SecretMissing
from datasense_assets.catalog.models import Organization
from datasense_assets.catalog.pruning import prune_catalog
from datasense_assets.ingest.claims import CLAIMS_TABLE
from datasense_assets.ingest.dataset import lock_dataset, prune_dlt_tables
from datasense_assets.ingest.keeping import KEPT, KEPT_HOURS
from datasense_assets.warehouse.database import connect
from datasense_assets.warehouse.errors import DatabaseUnavailable, WarehouseError
from datasense_assets.warehouse.organizations import WarehouseTarget, prepare_organization

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from datasense_assets.settings import Settings

# No run takes longer: what nothing has written to for so long belongs to none.
DEAD_AFTER = timedelta(hours=24)
_LOCK_TIMEOUT = "5s"

# Organisations that have a warehouse by now; making one is not housekeeping's business.
_PREPARED = """
SELECT o.id, o.slug, o.name FROM datasense.organizations o
WHERE o.warehouse IS NOT NULL OR EXISTS (SELECT FROM datasense.org_roles r WHERE r.org_id = o.id) ORDER BY o.slug
"""
_BUSY = """
SELECT EXISTS (SELECT FROM datasense.leases l JOIN datasense.sources s ON s.id = l.source_id
               WHERE s.org_id = :org AND l.expires_at > now())
"""
_TABLES = "SELECT warehouse_name FROM datasense.source_tables WHERE org_id = :org"


@dataclass(frozen=True)
class Tidied:
    """What was put away, or would be: `where` an organisation, `catalog` or `scratch`; or why nothing could be."""

    where: str
    what: str
    count: int = 0
    names: tuple[str, ...] = ()
    skipped: str | None = None


def keep_house(catalog: Engine, settings: Settings, now: datetime, *, dry_run: bool = False) -> list[Tidied]:
    """Put everything away; an organisation whose warehouse cannot be reached is said, and keeps no other waiting.

    Args:
        catalog: where the catalog is.
        settings: of this process; scratch of its own machine alone is seen.
        now: reckoned from.
        dry_run: only say what would be done; databases do it and roll it back.

    Raises:
        DatabaseUnavailable: the catalog cannot be reached.
    """
    with catalog.connect() as connection:
        done = [Tidied("catalog", kind, count) for kind, count in prune_catalog(connection, now).items()]
        if dry_run:
            connection.rollback()
        else:
            connection.commit()
        orgs = [Organization(**row) for row in connection.execute(text(_PREPARED)).mappings()]
    for org in orgs:
        try:
            target = prepare_organization(catalog, settings, org)
            done += _tidy_warehouse(catalog, org, target, dry_run=dry_run)
        except (DatabaseUnavailable, WarehouseError, SecretMissing, psycopg.Error) as error:
            said = str(error).splitlines()[0] if not isinstance(error, psycopg.Error) else type(error).__name__
            done.append(Tidied(org.slug, "warehouse", skipped=said))
    return [*done, *_tidy_scratch(settings.scratch_path, now, dry_run=dry_run)]


def _tidy_warehouse(catalog: Engine, org: Organization, target: WarehouseTarget, *, dry_run: bool) -> Iterable[Tidied]:
    with connect(target.url().get_secret_value()) as connection:
        connection.execute("SELECT set_config('lock_timeout', %s, true)", (_LOCK_TIMEOUT,))
        lock_dataset(connection, target.schema)
        with catalog.connect() as reading:
            if reading.execute(text(_BUSY), {"org": org.id}).scalar_one():
                connection.rollback()
                return [Tidied(org.slug, "warehouse", skipped="A load goes on; the next time will do.")]
            wanted = {row.warehouse_name for row in reading.execute(text(_TABLES), {"org": org.id})}
        orphans = [name for name in _staged(connection, target) if name not in wanted]
        for name in orphans:
            connection.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier(target.staging_schema, name)))
        done = [
            Tidied(org.slug, "staged tables", len(orphans), tuple(orphans)),
            Tidied(org.slug, "kept pages", _prune_kept(connection, target)),
            Tidied(org.slug, "records of dlt", prune_dlt_tables(connection, target.schema, target.staging_schema)),
        ]
        if dry_run:
            connection.rollback()
        return done


def _staged(connection: psycopg.Connection, target: WarehouseTarget) -> Iterator[str]:
    """Tables of the staging schema that are neither dlt's own nor ours."""
    rows = connection.execute(
        "SELECT tablename FROM pg_tables WHERE schemaname = %s ORDER BY tablename", (target.staging_schema,)
    )
    for (name,) in rows.fetchall():
        if not name.startswith("_dlt_") and name not in (KEPT, CLAIMS_TABLE):
            yield name


def _prune_kept(connection: psycopg.Connection, target: WarehouseTarget) -> int:
    table = sql.Identifier(target.staging_schema, KEPT)
    there = connection.execute("SELECT to_regclass(%s)", (table.as_string(connection),)).fetchone()
    if there is None or there[0] is None:
        return 0
    query = sql.SQL("DELETE FROM {} WHERE started_at < now() - make_interval(hours => {})")
    return connection.execute(query.format(table, KEPT_HOURS)).rowcount


def _tidy_scratch(folder: Path, now: datetime, *, dry_run: bool) -> Iterable[Tidied]:
    """Folders of loads in which nothing was written for a day: what a killed run could not take along."""
    dead = [each for each in sorted(folder.glob("load-*")) if each.is_dir() and _last_written(each) < now - DEAD_AFTER]
    if not dry_run:
        for each in dead:
            shutil.rmtree(each, ignore_errors=True)
    return [Tidied("scratch", "folders", len(dead), tuple(each.name for each in dead))]


def _last_written(folder: Path) -> datetime:
    times = [folder.stat().st_mtime]
    for each in folder.rglob("*"):
        try:
            times.append(each.lstat().st_mtime)
        except FileNotFoundError:
            # a run takes its own files away while we look
            continue
    return datetime.fromtimestamp(max(times), UTC)
