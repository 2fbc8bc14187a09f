"""The end of a load: the warehouse put right in one transaction, then the catalog in another, the cursor last.

A process that dies before the second commits has recorded nothing: the next run reads the same again and loads it to
the same end.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from psycopg import Connection, sql
from sqlalchemy import Connection as CatalogConnection

from datasense_assets.catalog.models import Deletes, SourceColumn
from datasense_assets.catalog.state import (
    SchemaChange,
    advance_cursor,
    check_fence,
    keep_fingerprint,
    mark_gone,
    read_table_status,
    record_load,
    record_schema_changes,
    replace_columns,
)
from datasense_assets.connectors.base import Window
from datasense_assets.ingest import claims, settle
from datasense_assets.ingest.changes import TABLE_RETURNED, note_removed, with_affected
from datasense_assets.ingest.dataset import prune_dlt_tables, staging_schema
from datasense_assets.ingest.errors import not_exact
from datasense_assets.ingest.parts import SyncParts
from datasense_assets.ingest.prepared import PreparedLoad, TableLoad, same_shape
from datasense_assets.ingest.report import TableReport
from datasense_assets.ingest.schema import count_rows
from datasense_assets.ingest.windows import live_partitions, partition_key


@dataclass
class _Outcome:
    """What the warehouse holds of one table after the load."""

    row_count: int = 0
    live_rows: int = 0
    rows_loaded: int = 0
    rows_deleted: int = 0
    preview: tuple[dict[str, str | None], ...] = ()


def finish_load(sync: SyncParts, prepared: PreparedLoad) -> list[TableReport]:
    """As `Sync.finish`."""
    if prepared.needs_load and not prepared.ensured:
        raise RuntimeError("finish was called before the load was run")
    columns_differ = any(each.plan.columns != each.table.columns for each in prepared.tables)
    if columns_differ or not prepared.top.scratch.rows or not same_shape(prepared.tables):
        sync.ensure(prepared)
    with sync.warehouse.transaction() as connection:
        outcomes = _settle(sync, prepared, connection)
    with sync.catalog.begin() as catalog:
        catalog.exec_driver_sql(claims.let_go_when_idle())
        for table in prepared.vanished:
            removed = note_removed(catalog, sync.plan, table.id, table.slug)
            prepared.notes += [f"{table.slug}: {removed}"] if removed is not None else []
        reports = [
            _record(sync, prepared, each, outcome, catalog)
            for each, outcome in zip(prepared.tables, outcomes, strict=True)
        ]
        if sync.is_live:
            keep_fingerprint(catalog, prepared.top.table.id, prepared.fingerprint)
            _move_cursor(sync, prepared, outcomes[0].rows_deleted, catalog)
        else:
            check_fence(catalog, prepared.top.table.id, sync.fence)
    prepared.kept.drop()
    return reports


def _settle(sync: SyncParts, prepared: PreparedLoad, connection: Connection) -> list[_Outcome]:
    schema = sync.target.schema
    outcomes = [_Outcome() for _ in prepared.tables]
    claims.write(connection, prepared.claim)
    if prepared.needs_load:
        _check_exact(prepared, connection, schema)
    if prepared.mirror:
        for each, outcome in zip(prepared.tables, outcomes, strict=True):
            if each.expected == 0:
                outcome.rows_deleted += settle.empty_table(connection, schema, each.warehouse_table)
    else:
        _settle_repeats(prepared, connection, schema, outcomes)
        outcomes[0].rows_deleted += _settle_deletes(sync, prepared, connection)
    _store_rejected(prepared, connection, schema)
    for each, outcome in zip(prepared.tables, outcomes, strict=True):
        outcome.row_count = count_rows(connection, schema, each.warehouse_table)
        outcome.live_rows = outcome.row_count
        if sync.tracks_deletes:
            outcome.live_rows = settle.count_live(connection, schema, each.warehouse_table)
        if prepared.needs_load:
            outcome.rows_loaded = settle.count_loaded(connection, schema, each.warehouse_table, prepared.loaded_at)
        outcome.preview = settle.preview(connection, schema, each.warehouse_table, each.plan.columns)
    if prepared.mirror and outcomes[0].row_count != prepared.top.expected:
        raise not_exact(prepared.top.warehouse_table, prepared.top.expected)
    if prepared.needs_load:
        prune_dlt_tables(connection, schema)
    return outcomes


def _check_exact(prepared: PreparedLoad, connection: Connection, schema: str) -> None:
    """A run that has lost its lease may have staged over ours: what is deleted next goes by the rows staged."""
    for each in prepared.tables:
        if each.expected and settle.count_staged(connection, schema, each.warehouse_table) != each.expected:
            raise not_exact(each.warehouse_table, each.expected)


def _settle_repeats(prepared: PreparedLoad, connection: Connection, schema: str, outcomes: list[_Outcome]) -> None:
    if not prepared.needs_load:
        return
    names = {each.path: each.warehouse_table for each in prepared.tables}
    for each, outcome in zip(prepared.tables, outcomes, strict=True):
        if each.path:
            outcome.rows_deleted += settle.remove_vanished_repeats(
                connection, schema, each.warehouse_table, names[each.path[:-1]]
            )


def _settle_deletes(sync: SyncParts, prepared: PreparedLoad, connection: Connection) -> int:
    how, schema, top = sync.plan.source.deletes, sync.target.schema, prepared.top
    if how is Deletes.IGNORE or prepared.request.again:
        return 0
    if prepared.complete:
        deleted = _delete_by_complete_read(sync, prepared, connection, how)
    else:
        deleted = _delete_by_sweep(sync, prepared, connection, how)
    if deleted or prepared.needs_load:
        names = {each.path: each.warehouse_table for each in prepared.tables}
        settle_repeat: Callable[[Connection, str, str, str], int] = (
            settle.mark_repeats if how is Deletes.MARK else settle.remove_orphans
        )
        for each in prepared.tables:
            if each.path:
                settle_repeat(connection, schema, each.warehouse_table, names[each.path[:-1]])
    if deleted:
        prepared.notes.append(f"{top.table.slug}: {deleted} rows that the source no longer has")
    return deleted


def _delete_by_complete_read(sync: SyncParts, prepared: PreparedLoad, connection: Connection, how: Deletes) -> int:
    top = prepared.top
    if not prepared.needs_load and top.scratch.rows:
        return 0  # the very same content as last time
    there = sync.connector.count(top.table.resource) if sync.connector.has_history else None
    if there is not None and there > top.expected:
        prepared.notes.append(
            f"{top.table.slug}: {top.expected} of the source's {there} rows could be read; none was taken for deleted"
        )
        return 0
    listed = sql.Identifier(staging_schema(sync.target.schema), top.warehouse_table)
    return settle.delete_absent(connection, sync.target.schema, top.warehouse_table, listed, how, prepared.loaded_at)


def _delete_by_sweep(sync: SyncParts, prepared: PreparedLoad, connection: Connection, how: Deletes) -> int:
    """The count gate: only when the source has fewer rows than we, its ids are listed and compared."""
    schema, top = sync.target.schema, prepared.top
    there = sync.connector.count(top.table.resource)
    if there is None:
        return 0
    count = settle.count_live if how is Deletes.MARK else count_rows
    if there >= count(connection, schema, top.warehouse_table):
        return 0
    listed = settle.list_row_ids(connection, schema, top.warehouse_table, sync.connector.row_ids(top.table.resource))
    deleted = settle.delete_absent(connection, schema, top.warehouse_table, listed, how, prepared.loaded_at)
    connection.execute(sql.SQL("DROP TABLE {}").format(listed))
    return deleted


def _store_rejected(prepared: PreparedLoad, connection: Connection, schema: str) -> None:
    name = settle.rejected_table(prepared.top.warehouse_table, [t.warehouse_table for t in prepared.tables])
    settle.store_rejected(
        connection, schema, name, prepared.rejected, replace=prepared.complete, moment=prepared.loaded_at
    )
    if prepared.rejected.count:
        prepared.notes.append(f"{prepared.rejected.count} rows could not be read; they are in {schema}.{name}")


def _record(
    sync: SyncParts, prepared: PreparedLoad, load: TableLoad, outcome: _Outcome, catalog: CatalogConnection
) -> TableReport:
    table_id, top = load.table.id, load is prepared.top
    columns = load.plan.columns
    changes: list[SchemaChange] = replace_columns(catalog, table_id, columns)
    if changes:
        changes = with_affected(catalog, sync.plan, table_id, load.table.columns, changes)
    status = read_table_status(catalog, table_id)
    if status is not None and status.gone_since is not None and not load.is_left_over:
        mark_gone(catalog, table_id, gone=False)
        changes.append(TABLE_RETURNED)
    record_schema_changes(catalog, table_id, run_id=sync.plan.run_id, changes=changes)
    first = status is None or status.loaded_at is None
    fewer = status is not None and status.row_count is not None and outcome.row_count != status.row_count
    changed = bool(first or fewer or outcome.rows_loaded or outcome.rows_deleted or changes)
    version = record_load(
        catalog,
        table_id,
        run_id=sync.plan.run_id,
        row_count=outcome.row_count,
        rows_loaded=outcome.rows_loaded,
        rejected=prepared.rejected.count if top else 0,
        content_hash=prepared.content_hash if top else None,
        changed=changed,
        fresh_as_of=None if prepared.request.again else prepared.loaded_at,
        load_id=prepared.claim.load_id if top else None,
        column_notes=load.plan.notes_after(status.column_notes if status is not None else {}),
    )
    first_partition, last_partition = _partitions(sync, prepared)
    return TableReport(
        slug=load.table.slug,
        table_id=table_id,
        schema=sync.target.schema,
        warehouse_table=load.warehouse_table,
        title=sync.shape_of(load).title,
        row_count=outcome.row_count,
        live_rows=outcome.live_rows,
        rows_loaded=outcome.rows_loaded,
        rows_read=load.scratch.rows + (prepared.rejected.count if top else 0),
        rows_unchanged=load.unique_rows - outcome.rows_loaded,
        rows_repeated=load.scratch.rows - load.unique_rows,
        rows_padded=prepared.stats.padded_rows if top else 0,
        rows_rejected=prepared.rejected.count if top else 0,
        rows_deleted=outcome.rows_deleted,
        bytes=prepared.stats.bytes if top else 0,
        api_calls=prepared.stats.api_calls if top else 0,
        throttled_seconds=prepared.stats.throttled_seconds if top else 0.0,
        cursor_before=prepared.cursor.value if prepared.cursor is not None else None,
        cursor_after=_cursor_after(prepared),
        columns=_as_tuple(columns),
        schema_changes=tuple(changes),
        notes=tuple(prepared.notes) if top else load.plan.notes,
        preview=outcome.preview,
        data_version=version,
        changed=changed,
        first_partition=first_partition,
        last_partition=last_partition,
    )


def _as_tuple(columns: tuple[SourceColumn, ...]) -> tuple[SourceColumn, ...]:
    return tuple(columns)


def _cursor_after(prepared: PreparedLoad) -> str | None:
    before = prepared.cursor.value if prepared.cursor is not None else None
    if prepared.request.again:
        return before
    return prepared.cursor_after if prepared.cursor_after is not None else before


def _move_cursor(sync: SyncParts, prepared: PreparedLoad, rows_deleted: int, catalog: CatalogConnection) -> None:
    """Also where nothing moved: the fence is checked, and the time of the last live load is kept."""
    # a row marked as deleted may come back just as it was, and must then be loaded again
    keep = sync.connector.has_history and not rows_deleted
    boundary = prepared.boundary if keep else {}
    advance_cursor(catalog, prepared.top.table.id, _cursor_after(prepared), boundary, sync.fence)


def _partitions(sync: SyncParts, prepared: PreparedLoad) -> tuple[str | None, str]:
    grain, timezone = sync.plan.source.partitions.every, sync.plan.org.timezone
    window = sync.plan.window
    if window is not None and sync.connector.has_history:
        return partition_key(window.start, grain, timezone), partition_key(_last_moment(window), grain, timezone)
    if prepared.request.changed_since is not None:
        return (today := partition_key(prepared.loaded_at, grain, timezone)), today
    if prepared.complete and sync.connector.has_history:
        return None, partition_key(prepared.loaded_at, grain, timezone)
    before = prepared.cursor.updated_at if prepared.cursor is not None and sync.connector.has_history else None
    return live_partitions(before, prepared.loaded_at, grain, timezone)


def _last_moment(window: Window) -> datetime:
    # as a moment: clocks may show the same an hour before
    return max(window.start.astimezone(UTC), window.end.astimezone(UTC) - timedelta(microseconds=1))
