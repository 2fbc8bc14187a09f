"""The snapshot that a process builds its graph from: the catalog's, else the last good one."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from datasense_assets.catalog.models import Snapshot
from datasense_assets.catalog.snapshot import SnapshotScope
from datasense_assets.settings import Settings

if TYPE_CHECKING:
    from sqlalchemy import Engine

_log = logging.getLogger("datasense.loading")


@dataclass(frozen=True)
class LoadedSnapshot:
    """A snapshot, and why it is not fresh (None: it is)."""

    snapshot: Snapshot
    stale_because: str | None = None


def prepare_catalog(catalog: Engine) -> None:
    """Migrate a database that has no catalog yet; one that has is only upgraded by `datasense db migrate`.

    Raises:
        CatalogVersionError: the catalog is older or newer than this program.
    """
    from datasense_assets.catalog.migrate import is_current

    with catalog.connect() as connection:
        if is_current(connection):
            return
    _make_catalog(catalog)


def _make_catalog(catalog: Engine) -> None:
    from datasense_assets.catalog.migrate import CatalogVersionError, current_version, migrate

    with catalog.connect() as connection:
        found = current_version(connection)
    if found is not None:
        raise CatalogVersionError(
            f"The catalog in the database is at version {found}, which is not this program's.",
            advice="Stop the platform and run `datasense db migrate`.",
        )
    migrate(catalog)


def load_snapshot(settings: Settings, scope: SnapshotScope | None) -> LoadedSnapshot:
    """Read the catalog; a fresh database is migrated first, and a whole read is kept as the last good snapshot.

    Raises:
        DatabaseUnavailable: the catalog cannot be read and there is no last good snapshot (never an empty graph).
    """
    from datasense_assets.catalog.migrate import is_current
    from datasense_assets.catalog.snapshot import load_snapshot as load_saved
    from datasense_assets.catalog.snapshot import read_snapshot, save_snapshot
    from datasense_assets.warehouse.database import DatabaseUnavailable, database_url, engine

    try:
        catalog = engine(database_url(settings))
        with catalog.connect() as connection:
            if not is_current(connection):
                connection.rollback()
                _make_catalog(catalog)
            # a run that was queued before its organisation moved to another shard is served all the same
            shard = settings.shard if scope is None else None
            snapshot = read_snapshot(connection, shard=shard, scope=scope)
    except DatabaseUnavailable as error:
        saved = load_saved(settings.snapshot_path)
        if saved is None:
            raise
        _log.error("the catalog cannot be read, the last good snapshot is used: %s", error)
        return LoadedSnapshot(saved, stale_because=str(error))
    if scope is None:
        save_snapshot(settings.snapshot_path, snapshot)
    return LoadedSnapshot(snapshot)
