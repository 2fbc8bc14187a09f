"""One load of one source: read its pages, type them, let dlt merge them, put the rest right, move the cursor last.

A load is exact whatever dies: dlt only upserts (or mirrors) by `_ds_row_id`, in a folder thrown away with the run, and
what was read counts as read only when the catalog's transaction at the very end commits.
"""

from __future__ import annotations

import ctypes
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from psycopg import errors as pg_errors

from datasense_assets.catalog.models import Deletes, SourceTable, identifier, table_name
from datasense_assets.catalog.state import (
    CursorRow,
    TableStatus,
    read_cursor,
    read_table_status,
    upsert_tables,
)
from datasense_assets.connectors.base import Connector, ReadRequest, TableInfo
from datasense_assets.connectors.errors import BadConfig, BadData, ResourceGone
from datasense_assets.ingest import claims
from datasense_assets.ingest.boundary import Boundary
from datasense_assets.ingest.changes import note_removed
from datasense_assets.ingest.dataset import Guard, LoadedTable, build_pipeline, build_source
from datasense_assets.ingest.errors import LoadMismatch, WindowRefused, source_error, telling_full_disk
from datasense_assets.ingest.finishing import finish_load
from datasense_assets.ingest.keeping import KeptPages, request_key
from datasense_assets.ingest.planning import declared_types, is_declared, plan_columns
from datasense_assets.ingest.prepared import PreparedLoad, TableLoad, TablePath, content_hash, same_shape
from datasense_assets.ingest.reading import copy_stats, discovered, read_pages, stats_since
from datasense_assets.ingest.report import SyncPlan, TableReport
from datasense_assets.ingest.rows import typed_rows
from datasense_assets.ingest.schema import (
    TableShape,
    count_rows,
    ensure_tables,
    existing_types,
    special_columns,
)
from datasense_assets.ingest.scratch import TableScratch
from datasense_assets.ingest.skipping import UnchangedTable, ask_whether_changed, report_unchanged
from datasense_assets.warehouse.organizations import WarehouseTarget

if TYPE_CHECKING:
    import pyarrow as pa
    from dlt import Pipeline
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


_M_MMAP_THRESHOLD = -3
_LARGE_PIECE = 256 * 1024


class Sync:
    """Loads the tables of one source, one after the other; a table that fails leaves the others alone.

    Made by `open_sync`; use it as a context manager, so that its scratch folder goes when it ends.
    """

    def __init__(
        self,
        plan: SyncPlan,
        *,
        connector: Connector,
        target: WarehouseTarget,
        catalog: Engine,
        scratch: Path,
        fence: int,
        progress: Callable[[str, int], None] | None = None,
    ) -> None:
        """Keep the parts; nothing is opened before the first `prepare`."""
        self.plan, self.connector, self.target, self.catalog = plan, connector, target, catalog
        self.fence = fence
        self._progress = progress
        _give_memory_back()
        scratch.mkdir(parents=True, exist_ok=True)
        self._folder = Path(tempfile.mkdtemp(prefix="load-", dir=scratch))
        self._count = 0

    def __enter__(self) -> Self:
        """The sync itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Throw the scratch folder away."""
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
                return self._prepare(table)
        except ResourceGone as error:
            with self.catalog.begin() as catalog:
                change = note_removed(catalog, self.plan, table.id, table.slug)
            users = ", ".join(each.recipe for each in change.affects) if change is not None else ""
            if not users:
                raise
            advice = f"{error.advice} What was loaded stays; recipes that read it: {users}."
            raise ResourceGone(error.message, advice=advice) from error

    def _prepare(self, table: SourceTable) -> PreparedLoad | UnchangedTable:
        self._count += 1
        folder = self._folder / f"{self._count:03d}"
        now = datetime.now(UTC)
        self._refuse_past_window(now)
        before = copy_stats(self.connector.stats)
        said = ask_whether_changed(self, table, now)
        if isinstance(said, UnchangedTable):
            return said
        infos = {info.path: info for info in self.connector.describe(table.resource)}
        if () not in infos:
            raise BadData(f"{table.slug} has no description.", advice="Check that the resource still exists.")
        claim = claims.Claim(self.target.schema, self.warehouse_table(table), uuid.uuid4().hex)
        with self.target.connect() as warehouse:
            server_version = warehouse.info.server_version
            written_by = claims.begin(warehouse, claim)
            warehouse.commit()
            # the catalog is read after the table was taken: what another load writes there from now on is refused
            with self.catalog.begin() as connection:
                cursor = read_cursor(connection, table.id)
                status = read_table_status(connection, table.id)
                known = self._known_tables(upsert_tables(connection, self.plan.source.id, discovered(infos)), table)
            usable = self._is_intact(warehouse, known, status)
            request = self._request(table, cursor if usable else None)
            kept = self._kept(table, request, infos)
            if self.connector.has_history:
                kept.look(warehouse)
        # else a load died after it wrote: its rows may be newer than what the catalog remembers of them
        recorded = status is not None and status.load_id is not None and written_by == status.load_id
        boundary = Boundary(cursor.boundary if recorded and cursor is not None and request.cursor is not None else {})
        declared = {path: declared_types(known.get(path), info) for path, info in infos.items()}
        read = read_pages(self.connector, request, table.slug, declared, folder, boundary, self._progress, kept)
        scratches = read.scratches
        complete = request.cursor is None and not request.again
        mirror = complete and not self.connector.has_history and self.plan.source.deletes is not Deletes.MARK
        for path in scratches:
            infos.setdefault(path, TableInfo(table.resource, "/".join(path[-1:]), (), path))
        if set(infos) - set(known):
            with self.catalog.begin() as connection:
                known = self._known_tables(upsert_tables(connection, self.plan.source.id, discovered(infos)), table)
        unchanged = boundary.unchanged()
        tables = self._shape(infos, known, scratches, unchanged, complete=complete, folder=folder)
        whole = None if self.connector.has_history else content_hash(tables)
        needs_load = any(each.expected for each in tables)
        if mirror or not self.connector.has_history:
            same = usable and recorded and status is not None and status.content_hash == whole and same_shape(tables)
            same = same and self._has_rows_of(status, tables)
            needs_load = needs_load and not (same and not self.plan.full)
        prepared = PreparedLoad(
            pipeline=None,  # type: ignore[arg-type]  # made below: they need the prepared load
            dlt_source=None,  # type: ignore[arg-type]
            tables=tables,
            needs_load=needs_load,
            mirror=mirror,
            complete=complete,
            request=request,
            cursor=cursor,
            boundary=boundary.current(),
            cursor_after=read.cursor,
            rejected=read.rejected,
            fingerprint=said,
            content_hash=whole,
            status=status,
            stats=stats_since(before, self.connector.stats),
            notes=[
                *kept.notes,
                *self.connector.stats.notes[len(before.notes) :],
                *(n for t in tables for n in t.plan.notes),
            ],
            loaded_at=now,
            kept=kept,
            claim=claim,
            target=self.target,
            folder=self._folder,
            vanished=tuple(known[p] for p in known if p not in infos) if is_declared(infos[()]) else (),
        )
        prepared.pipeline = self._pipeline(folder, server_version, prepared.guard)
        prepared.dlt_source = build_source(
            f"source_{self.plan.source.id}_table_{table.id}",
            [self._loaded_table(prepared, each) for each in tables],
        )
        return prepared

    def finish(self, prepared: PreparedLoad | UnchangedTable) -> list[TableReport]:
        """Put the rest right and record the load: the warehouse first, then the catalog, with the cursor last.

        Raises:
            FenceLost: another run has taken the source; nothing is recorded, nor anything written.
            LoadMismatch: the warehouse does not hold what was read.
        """
        if isinstance(prepared, UnchangedTable):
            return report_unchanged(self, prepared)
        return finish_load(self, prepared)

    def ensure(self, prepared: PreparedLoad) -> None:
        """Make and widen the load's tables, once.

        Raises:
            FenceLost: another load of the table has begun since.
            BadConfig: something in the warehouse stands in the way, such as a view over a column that must widen.
        """
        if prepared.ensured:
            return
        shapes = [self.shape_of(each) for each in prepared.tables]
        try:
            with self.target.connect() as connection:
                claims.write(connection, prepared.claim)
                ensure_tables(connection, self.target.schema, shapes)
        except (pg_errors.FeatureNotSupported, pg_errors.DependentObjectsStillExist) as error:
            raise BadConfig(
                f"The columns of {prepared.top.warehouse_table} cannot take new types: {error.diag.message_primary}"
                f" ({error.diag.message_detail}).",
                advice="Drop the view that depends on the table, sync, and make it again.",
            ) from error
        prepared.ensured = True

    def shape_of(self, load: TableLoad) -> TableShape:
        """How the table looks in the warehouse."""
        return TableShape(
            load.warehouse_table,
            load.table.title or load.info.title or load.table.slug,
            special_columns(bool(load.path), self.tracks_deletes),
            load.plan.columns,
        )

    @property
    def tracks_deletes(self) -> bool:
        """Whether tables have `_ds_deleted_at`."""
        return self.plan.source.deletes is Deletes.MARK

    @property
    def is_live(self) -> bool:
        """Whether the load is of how things are now, and not of a part that is read again."""
        return not self.plan.again or not self.connector.has_history

    def _refuse_past_window(self, now: datetime) -> None:
        window = self.plan.window
        if window is not None and not self.connector.has_history and not window.start <= now < window.end:
            raise WindowRefused(
                f"{self.plan.source.slug} shows only how things are now; it keeps no history, so the partition of "
                f"{window.start:%Y-%m-%d} cannot be filled.",
                advice="Materialize the newest partition instead.",
            )

    def _request(self, table: SourceTable, cursor: CursorRow | None) -> ReadRequest:
        """What to ask the source for; `cursor` None where there is none, or where it says nothing any more."""
        if not self.connector.has_history:
            return ReadRequest(table.resource, key=table.key)
        if self.plan.again:
            return ReadRequest(
                table.resource, window=self.plan.window, changed_since=self.plan.changed_since, key=table.key
            )
        known = None if self.plan.full or cursor is None else cursor.value
        return ReadRequest(table.resource, cursor=known, key=table.key)

    def _kept(self, table: SourceTable, request: ReadRequest, infos: dict[TablePath, TableInfo]) -> KeptPages:
        """Where pages of this very request are kept. Who reads all or a part again wants it as it is now, so only
        another attempt at the same run goes on with what an earlier one has read.
        """
        again = self.plan.full or request.again
        origin = (self.plan.origin or self.plan.run_id) if again else ""
        settings = [self.plan.source.connector, self.plan.source.config, origin]
        return KeptPages(self.target, table.id, request_key(request, infos, settings), self.fence)

    def _known_tables(self, tables: list[SourceTable], table: SourceTable) -> dict[TablePath, SourceTable]:
        return {each.path: each for each in tables if each.resource == table.resource}

    def _has_rows_of(self, status: TableStatus | None, tables: list[TableLoad]) -> bool:
        """Whether as many rows are there as the last load left: none deleted or added by hand."""
        with self.target.connect() as warehouse:
            there = count_rows(warehouse, self.target.schema, tables[0].warehouse_table)
        return status is not None and there == status.row_count

    def _is_intact(self, warehouse: Any, known: dict[TablePath, SourceTable], status: TableStatus | None) -> bool:
        """Whether all that was ever loaded is still there: no table and no column dropped by hand."""
        if status is None or status.loaded_at is None:
            return False
        for each in known.values():
            found = existing_types(warehouse, self.target.schema, self.warehouse_table(each))
            if each.columns and (found is None or any(column.name not in found for column in each.columns)):
                return False
        top = known[()]
        return existing_types(warehouse, self.target.schema, self.warehouse_table(top)) is not None

    def warehouse_table(self, table: SourceTable) -> str:
        """The table's name in the warehouse."""
        return table_name(self.plan.source.slug, table.slug)

    def _shape(
        self,
        infos: dict[TablePath, TableInfo],
        known: dict[TablePath, SourceTable],
        scratches: dict[TablePath, TableScratch],
        unchanged: dict[TablePath, set[str]],
        *,
        complete: bool,
        folder: Path,
    ) -> list[TableLoad]:
        tables = []
        with self.target.connect() as warehouse:
            for path in sorted(infos, key=lambda p: (len(p), p)):
                if path not in known:
                    continue
                scratch = scratches.get(path) or TableScratch(folder / "none", {})
                name = self.warehouse_table(known[path])
                found = existing_types(warehouse, self.target.schema, name)
                plan = plan_columns(
                    warehouse,
                    self.target.schema,
                    name,
                    table=known[path],
                    info=infos[path],
                    votes=scratch.votes,
                    found=found,
                    complete=complete,
                )
                load = TableLoad(path, infos[path], known[path], name, scratch, found, plan)
                load.skip = unchanged.get(path, set())
                tables.append(load)
        return tables

    def _pipeline(self, folder: Path, server_version: int, guard: Guard) -> Pipeline:
        name = f"{identifier(self.plan.org.slug)}_{identifier(self.plan.source.slug)}"
        return build_pipeline(name, folder / "dlt", self.target, server_version, guard)

    def _loaded_table(self, prepared: PreparedLoad, load: TableLoad) -> LoadedTable:
        def rows() -> Iterator[pa.Table]:
            if not prepared.needs_load:
                return
            self.ensure(prepared)
            yield from typed_rows(
                load,
                loaded_at=prepared.loaded_at,
                timezone=self.plan.org.timezone,
                tracks_deletes=self.tracks_deletes,
            )

        return LoadedTable(
            name=load.warehouse_table,
            special=special_columns(bool(load.path), self.tracks_deletes),
            columns={column.name: column.type for column in load.plan.columns},
            strategy="mirror" if prepared.mirror else "upsert",
            rows=rows,
        )


def _give_memory_back() -> None:
    """Let Arrow take memory from the system and not from a pool of its own, which keeps 70 MB of a large load, and let
    the system's allocator give large pieces back at once: among smaller ones they leave holes of 150 MB.
    """
    import pyarrow as pa

    if pa.default_memory_pool().backend_name != "system":
        pa.set_memory_pool(pa.system_memory_pool())
        with suppress(AttributeError, OSError):  # an allocator other than glibc's has no such switch
            ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _LARGE_PIECE)


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
    return Sync(
        plan, connector=connector, target=target, catalog=catalog, scratch=scratch, fence=fence, progress=progress
    )
