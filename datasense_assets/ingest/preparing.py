"""The first half of a load: what to ask for, the pages read, the columns named and typed. The warehouse is only read.

What is decided here from the catalog is read after the table was taken, so that nothing another load writes meanwhile
is overlooked.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasense_assets.catalog.models import Deletes, SourceTable, identifier
from datasense_assets.catalog.state import (
    CursorRow,
    TableStatus,
    read_cursor,
    read_table_status,
    upsert_tables,
)
from datasense_assets.connectors.base import ReadRequest, TableInfo
from datasense_assets.connectors.errors import BadData
from datasense_assets.ingest import claims
from datasense_assets.ingest.boundary import Boundary
from datasense_assets.ingest.dataset import LoadedTable, build_load
from datasense_assets.ingest.errors import WindowRefused
from datasense_assets.ingest.keeping import KeptPages, request_key
from datasense_assets.ingest.parts import SyncParts
from datasense_assets.ingest.planning import Warehouse, declared_types, is_declared, plan_columns, refuse_other_header
from datasense_assets.ingest.prepared import PreparedLoad, TableLoad, TablePath, content_hash, same_shape
from datasense_assets.ingest.reading import copy_stats, discovered, read_pages, stats_since
from datasense_assets.ingest.rows import typed_rows
from datasense_assets.ingest.schema import count_rows, existing_types, special_columns
from datasense_assets.ingest.scratch import TableScratch
from datasense_assets.ingest.skipping import UnchangedTable, ask_whether_changed

if TYPE_CHECKING:
    import pyarrow as pa


def prepare_load(sync: SyncParts, table: SourceTable, folder: Path) -> PreparedLoad | UnchangedTable:
    """As `Sync.prepare`; `folder` is the load's own."""
    now = datetime.now(UTC)
    _refuse_past_window(sync, now)
    before = copy_stats(sync.connector.stats)
    said = ask_whether_changed(sync, table, now)
    if isinstance(said, UnchangedTable):
        return said
    with sync.warehouse.unused():
        infos = {info.path: info for info in sync.connector.describe(table.resource)}
    if () not in infos:
        raise BadData(f"{table.slug} has no description.", advice="Check that the resource still exists.")
    described = frozenset(infos)
    claim = claims.Claim(sync.target.schema, sync.warehouse_table(table), uuid.uuid4().hex)
    with sync.warehouse.transaction() as warehouse:
        server_version = warehouse.info.server_version
        written_by = claims.begin(warehouse, claim)
        warehouse.commit()
        # the catalog is read after the table was taken: what another load writes there from now on is refused
        with sync.catalog.begin() as connection:
            cursor = read_cursor(connection, table.id)
            status = read_table_status(connection, table.id)
            known = _known_tables(upsert_tables(connection, sync.plan.source.id, discovered(infos)), table)
        if not sync.connector.has_history and not sync.plan.full and status is not None and status.loaded_at:
            refuse_other_header(infos[()], known[()])
        for path, left in known.items():  # rows of old submissions go, and come back, with those
            infos.setdefault(path, TableInfo(table.resource, left.title or left.slug, (), path))
        usable = _is_intact(sync, warehouse, known, status)
        request = request_of(sync, table, cursor if usable else None)
        kept = kept_of(sync, table, request, {path: infos[path] for path in described})
        if sync.connector.has_history:
            kept.look(warehouse)
    # else a load died after it wrote: its rows may be newer than what the catalog remembers of them
    recorded = status is not None and status.load_id is not None and written_by == status.load_id
    boundary = Boundary(cursor.boundary if recorded and cursor is not None and request.cursor is not None else {})
    declared = {path: declared_types(known.get(path), info) for path, info in infos.items()}
    with sync.warehouse.unused():
        read = read_pages(sync.connector, request, table.slug, declared, folder, boundary, sync.progress, kept)
    scratches = read.scratches
    complete = request.cursor is None and not request.again
    mirror = complete and not sync.connector.has_history and sync.plan.source.deletes is not Deletes.MARK
    for path in scratches:
        infos.setdefault(path, TableInfo(table.resource, "/".join(path[-1:]), (), path))
    if set(infos) - set(known):
        with sync.catalog.begin() as connection:
            known = _known_tables(upsert_tables(connection, sync.plan.source.id, discovered(infos)), table)
    unchanged = boundary.unchanged()
    tables = _shape(
        sync, infos, known, scratches, unchanged, described=described, complete=complete, replaced=mirror, folder=folder
    )
    whole = None if sync.connector.has_history else content_hash(tables)
    needs_load = any(each.expected for each in tables)
    if mirror or not sync.connector.has_history:
        same = usable and recorded and status is not None and status.content_hash == whole and same_shape(tables)
        same = same and _has_rows_of(sync, status, tables)
        needs_load = needs_load and not (same and not sync.plan.full)
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
        stats=stats_since(before, sync.connector.stats),
        notes=[
            *kept.notes,
            *sync.connector.stats.notes[len(before.notes) :],
            *(n for t in tables for n in t.plan.notes),
        ],
        loaded_at=now,
        kept=kept,
        claim=claim,
        target=sync.target,
        folder=folder.parent,
        vanished=tuple(known[p] for p in known if p not in described) if is_declared(infos[()]) else (),
    )
    prepared.pipeline, prepared.dlt_source = build_load(
        f"{identifier(sync.plan.org.slug)}_{identifier(sync.plan.source.slug)}",
        folder / "dlt",
        sync.target,
        server_version,
        prepared.guard,
        f"source_{sync.plan.source.id}_table_{table.id}",
        [_loaded_table(sync, prepared, each) for each in tables],
    )
    return prepared


def _refuse_past_window(sync: SyncParts, now: datetime) -> None:
    window = sync.plan.window
    if window is not None and not sync.connector.has_history and not window.start <= now < window.end:
        raise WindowRefused(
            f"{sync.plan.source.slug} shows only how things are now; it keeps no history, so the partition of "
            f"{window.start:%Y-%m-%d} cannot be filled.",
            advice="Materialize the newest partition instead.",
        )


def request_of(sync: SyncParts, table: SourceTable, cursor: CursorRow | None) -> ReadRequest:
    """What to ask the source for; `cursor` None where there is none, or where it says nothing any more."""
    if not sync.connector.has_history:
        return ReadRequest(table.resource, key=table.key)
    if sync.plan.again:
        return ReadRequest(
            table.resource, window=sync.plan.window, changed_since=sync.plan.changed_since, key=table.key
        )
    known = None if sync.plan.full or cursor is None else cursor.value
    return ReadRequest(table.resource, cursor=known, key=table.key)


def kept_of(sync: SyncParts, table: SourceTable, request: ReadRequest, infos: dict[TablePath, TableInfo]) -> KeptPages:
    """Where pages of this very request are kept. Who reads all or a part again wants it as it is now, so only
    another attempt at the same run goes on with what an earlier one has read.
    """
    again = sync.plan.full or request.again
    origin = (sync.plan.origin or sync.plan.run_id) if again else ""
    settings = [sync.plan.source.connector, sync.plan.source.config, origin]
    return KeptPages(sync.target, table.id, request_key(request, infos, settings), sync.fence)


def _known_tables(tables: list[SourceTable], table: SourceTable) -> dict[TablePath, SourceTable]:
    return {each.path: each for each in tables if each.resource == table.resource}


def _has_rows_of(sync: SyncParts, status: TableStatus | None, tables: list[TableLoad]) -> bool:
    """Whether as many rows are there as the last load left: none deleted or added by hand."""
    with sync.warehouse.transaction() as warehouse:
        there = count_rows(warehouse, sync.target.schema, tables[0].warehouse_table)
    return status is not None and there == status.row_count


def _is_intact(
    sync: SyncParts, warehouse: Any, known: dict[TablePath, SourceTable], status: TableStatus | None
) -> bool:
    """Whether all that was ever loaded is still there: no table and no column dropped by hand."""
    if status is None or status.loaded_at is None:
        return False
    for each in known.values():
        found = existing_types(warehouse, sync.target.schema, sync.warehouse_table(each))
        if each.columns and (found is None or any(column.name not in found for column in each.columns)):
            return False
    top = known[()]
    return existing_types(warehouse, sync.target.schema, sync.warehouse_table(top)) is not None


def _shape(
    sync: SyncParts,
    infos: dict[TablePath, TableInfo],
    known: dict[TablePath, SourceTable],
    scratches: dict[TablePath, TableScratch],
    unchanged: dict[TablePath, set[str]],
    *,
    described: frozenset[TablePath],
    complete: bool,
    replaced: bool,
    folder: Path,
) -> list[TableLoad]:
    tables = []
    with sync.warehouse.transaction() as warehouse:
        for path in sorted(infos, key=lambda p: (len(p), p)):
            if path not in known:
                continue
            scratch = scratches.get(path) or TableScratch(folder / "none", {})
            name = sync.warehouse_table(known[path])
            found = existing_types(warehouse, sync.target.schema, name)
            where = Warehouse(warehouse, sync.target.schema, name, found, sync.plan.org.timezone, replaced)
            plan = plan_columns(where, table=known[path], info=infos[path], votes=scratch.votes, complete=complete)
            left_over = path not in described and is_declared(infos[()])
            load = TableLoad(path, infos[path], known[path], name, scratch, found, plan, left_over)
            load.skip = unchanged.get(path, set())
            tables.append(load)
    return tables


def _loaded_table(sync: SyncParts, prepared: PreparedLoad, load: TableLoad) -> LoadedTable:
    def begin() -> int:
        if not prepared.needs_load:
            return 0
        sync.ensure(prepared)
        return load.expected

    def rows() -> Iterator[pa.Table]:
        for batch in typed_rows(
            load,
            loaded_at=prepared.loaded_at,
            timezone=sync.plan.org.timezone,
            tracks_deletes=sync.tracks_deletes,
        ):
            prepared.stop_if_interrupted()
            yield batch

    return LoadedTable(
        name=load.warehouse_table,
        special=special_columns(bool(load.path), sync.tracks_deletes),
        columns={column.name: column.type for column in load.plan.columns},
        strategy="mirror" if prepared.mirror else "upsert",
        begin=begin,
        rows=rows,
    )
