"""One load of one source: read its pages, type them, let dlt merge them, put the rest right, move the cursor last.

A load is exact whatever dies: dlt only upserts (or mirrors) by `_ds_row_id`, in a folder thrown away with the run, and
what was read counts as read only when the catalog's transaction at the very end commits.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from datasense_assets.catalog.models import SourceTable
from datasense_assets.connectors.base import Connector
from datasense_assets.connectors.errors import ResourceGone
from datasense_assets.ingest.changes import note_removed
from datasense_assets.ingest.errors import LoadMismatch, WindowRefused, source_error, telling_full_disk
from datasense_assets.ingest.finishing import finish_load
from datasense_assets.ingest.memory import give_memory_back
from datasense_assets.ingest.parts import SyncParts
from datasense_assets.ingest.prepared import PreparedLoad
from datasense_assets.ingest.preparing import prepare_load
from datasense_assets.ingest.report import SyncPlan, TableReport
from datasense_assets.ingest.skipping import UnchangedTable, report_unchanged
from datasense_assets.warehouse.organizations import WarehouseTarget

if TYPE_CHECKING:
    from sqlalchemy import Engine

__all__ = [
    "LoadMismatch",
    "PreparedLoad",
    "Sync",
    "SyncPlan",
    "TableReport",
    "UnchangedTable",
    "WindowRefused",
    "open_sync",
    "source_error",
]


class Sync:
    """Loads the tables of one source, one after the other; a table that fails leaves the others alone.

    Made by `open_sync`; use it as a context manager, so that its scratch folder goes when it ends.
    """

    def __init__(self, parts: SyncParts, scratch: Path) -> None:
        """Keep the parts; nothing is opened before the first `prepare`."""
        self.parts = parts
        give_memory_back()
        scratch.mkdir(parents=True, exist_ok=True)
        self._folder = Path(tempfile.mkdtemp(prefix="load-", dir=scratch))
        self._count = 0
        self._last: PreparedLoad | None = None

    def __enter__(self) -> Self:
        """The sync itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close what is open and throw the scratch folder away."""
        self._let_go(None)
        self.parts.warehouse.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def prepare(self, table: SourceTable) -> PreparedLoad | UnchangedTable:
        """Read the table and its repeat groups, name and type their columns. The warehouse is only read.

        Where the source says that nothing has changed since the last load, it is not read.

        Raises:
            SourceError: the source could not be read; nothing has been changed. That it no longer has the table is
                kept as an event.
            NoRoom: the scratch folder's disk is full.
        """
        try:
            with telling_full_disk(self._folder):
                self._count += 1
                prepared = prepare_load(self.parts, table, self._folder / f"{self._count:03d}")
                self._let_go(prepared if isinstance(prepared, PreparedLoad) else None)
                return prepared
        except ResourceGone as error:
            with self.parts.catalog.begin() as catalog:
                change = note_removed(catalog, self.parts.plan, table.id, table.slug)
            users = ", ".join(each.recipe for each in change.affects) if change is not None else ""
            if not users:
                raise
            advice = f"{error.advice} What was loaded stays; recipes that read it: {users}."
            raise ResourceGone(error.message, advice=advice) from error

    def finish(self, prepared: PreparedLoad | UnchangedTable) -> list[TableReport]:
        """Put the rest right and record the load: the warehouse first, then the catalog, with the cursor last.

        Raises:
            FenceLost: another run has taken the source; nothing is recorded, nor anything written.
            LoadMismatch: the warehouse does not hold what was read.
        """
        if isinstance(prepared, UnchangedTable):
            return report_unchanged(self.parts, prepared)
        prepared.let_go()
        return finish_load(self.parts, prepared)

    def _let_go(self, following: PreparedLoad | None) -> None:
        """Close what the last load, which may have failed, has left open."""
        last, self._last = self._last, following
        if last is not None:
            last.let_go()


def open_sync(
    plan: SyncPlan,
    *,
    connector: Connector,
    target: WarehouseTarget,
    catalog: Engine,
    scratch: Path,
    fence: int,
    progress: Callable[[str, int], None] | None = None,
) -> Sync:
    """A sync of one source, by the run that holds its lease with that `fence`; `progress` gets table and rows read."""
    return Sync(SyncParts(plan, connector, target, catalog, fence, progress), scratch)
