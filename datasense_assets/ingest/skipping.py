"""Tables whose source says that nothing has changed: not read, not loaded, and recorded as just as fresh.

A source is believed only where all else is as it was too: the settings, the catalog's words about the table, this
program's way of loading, and the warehouse's tables, whole. What the source said is kept with the load that it belongs
to, in one transaction; a load that failed leaves the words of the one before it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from psycopg import Connection

from datasense_assets.catalog.models import SourceTable
from datasense_assets.catalog.state import (
    CursorRow,
    Fingerprint,
    TableStatus,
    advance_cursor,
    read_cursor,
    read_table_status,
    read_tables,
    record_unchanged,
)
from datasense_assets.connectors.base import ReadStats
from datasense_assets.ingest import claims, settle
from datasense_assets.ingest.parts import SyncParts
from datasense_assets.ingest.reading import copy_stats, stats_since
from datasense_assets.ingest.report import TableReport
from datasense_assets.ingest.schema import PG_TYPES, count_rows, existing_types
from datasense_assets.ingest.windows import live_partitions

LOADING_VERSION = 4
"""To be raised whenever the same source would be loaded to other rows, columns or types than before."""


@dataclass(frozen=True)
class UnchangedTable:
    """A table that needs no read: `tables` are itself and its repeat groups, as the last load left them."""

    tables: tuple[SourceTable, ...]
    since: datetime
    cursor: CursorRow | None
    stats: ReadStats
    notes: tuple[str, ...]
    checked_at: datetime
    needs_load: bool = False

    def run(self) -> None:
        """Nothing: there is nothing to merge."""


def ask_whether_changed(sync: SyncParts, table: SourceTable, now: datetime) -> UnchangedTable | Fingerprint | None:
    """Ask the source for its fingerprint, before anything is read: what is read is then never older than that.

    Returns the table as it is where nothing has changed; else what to keep with the load, None where the source says
    nothing of its content or the load is of a past window.

    Raises:
        SourceError: the source did not answer.
    """
    if not sync.is_live:
        return None
    before = copy_stats(sync.connector.stats)
    with sync.catalog.begin() as connection:
        status = read_table_status(connection, table.id)
        last = status.fingerprint if status is not None and not sync.plan.full else None
        # most sources say nothing of their content: then these say nothing either
        cursor = read_cursor(connection, table.id) if last is not None else None
        known = read_tables(connection, sync.plan.source.id) if last is not None else []
    tables = [each for each in known if each.resource == table.resource]
    tables.sort(key=lambda each: (len(each.path), each.path))
    terms = load_terms(sync, table)
    last = last if tables else None
    if last is not None and status is not None:
        with sync.warehouse.transaction() as warehouse:
            is_as_loaded = last.terms == terms and is_whole(warehouse, sync, tables, status)
        last = last if is_as_loaded else None
    with sync.warehouse.unused():
        value = sync.connector.fingerprint(table.resource, None if last is None else last.value)
    if last is None or value is None or value != last.value:
        return None if value is None else Fingerprint(value, terms, now)
    stats = sync.connector.stats
    notes = tuple(stats.notes[len(before.notes) :])
    return UnchangedTable(tuple(tables), last.read_at, cursor, stats_since(before, stats), notes, now)


def load_terms(sync: SyncParts, table: SourceTable) -> str:
    """A hash of all that a load of the table depends on besides its source's content."""
    source, target = sync.plan.source, sync.target
    terms = [
        *(LOADING_VERSION, source.connector, source.config, source.deletes, sync.plan.org.timezone),
        *(table.resource, table.path, table.key, table.types, sync.warehouse_table(table)),
        *(target.host, target.port, target.database, target.schema),
    ]
    written = json.dumps(terms, sort_keys=True, default=str)
    return hashlib.blake2b(written.encode(), digest_size=16).hexdigest()


def is_whole(connection: Connection, sync: SyncParts, tables: Sequence[SourceTable], top: TableStatus) -> bool:
    """Whether the warehouse holds the tables as they were loaded: columns, types, number of rows."""
    if top.loaded_at is None:
        return False
    for table in tables:
        name = sync.warehouse_table(table)
        found = existing_types(connection, sync.target.schema, name)
        if found is None or any(found.get(c.name) != PG_TYPES[c.type] for c in table.columns):
            return False
    name = sync.warehouse_table(tables[0])
    if top.load_id is None or claims.last_writer(connection, sync.target.schema, name) != top.load_id:
        return False  # a load died after it wrote: its rows may be newer than what the source then said
    return count_rows(connection, sync.target.schema, name) == top.row_count


def report_unchanged(sync: SyncParts, unchanged: UnchangedTable) -> list[TableReport]:
    """Record that the tables are as fresh as this moment, under the lease's fence; nothing else is written.

    Raises:
        FenceLost: another run has taken the source.
    """
    cursor = unchanged.cursor.value if unchanged.cursor is not None else None
    boundary = unchanged.cursor.boundary if unchanged.cursor is not None else {}
    with sync.warehouse.transaction() as connection:
        previews = [
            settle.preview(connection, sync.target.schema, sync.warehouse_table(table), table.columns)
            for table in unchanged.tables
        ]
    reports = []
    with sync.catalog.begin() as catalog:
        catalog.exec_driver_sql(claims.let_go_when_idle())
        for table, preview in zip(unchanged.tables, previews, strict=True):
            version = record_unchanged(catalog, table.id, run_id=sync.plan.run_id, fresh_as_of=unchanged.checked_at)
            status = read_table_status(catalog, table.id)
            reports.append(_report(sync, unchanged, table, status, version, preview, cursor))
        advance_cursor(catalog, unchanged.tables[0].id, cursor, boundary, sync.fence)
    return reports


def _report(
    sync: SyncParts,
    unchanged: UnchangedTable,
    table: SourceTable,
    status: TableStatus | None,
    version: int,
    preview: tuple[dict[str, str | None], ...],
    cursor: str | None,
) -> TableReport:
    top = table is unchanged.tables[0]
    moved = unchanged.cursor.updated_at if unchanged.cursor is not None and sync.connector.has_history else None
    grain, timezone = sync.plan.source.partitions.every, sync.plan.org.timezone
    first, last = live_partitions(moved, unchanged.checked_at, grain, timezone)
    return TableReport(
        slug=table.slug,
        table_id=table.id,
        schema=sync.target.schema,
        warehouse_table=sync.warehouse_table(table),
        title=table.title or table.slug,
        row_count=(status.row_count if status is not None else None) or 0,
        live_rows=status.row_count if status is not None and not sync.tracks_deletes else None,
        rows_loaded=0,
        rows_read=0,
        rows_unchanged=0,
        rows_repeated=0,
        rows_padded=0,
        rows_rejected=(status.rejected_rows if status is not None else None) or 0,
        rows_deleted=0,
        bytes=unchanged.stats.bytes if top else 0,
        api_calls=unchanged.stats.api_calls if top else 0,
        throttled_seconds=unchanged.stats.throttled_seconds if top else 0.0,
        cursor_before=cursor,
        cursor_after=cursor,
        columns=table.columns,
        schema_changes=(),
        notes=(f"unchanged since {unchanged.since:%Y-%m-%d %H:%M:%S %Z}: not read again", *unchanged.notes)
        if top
        else (),
        preview=preview,
        data_version=version,
        changed=False,
        first_partition=first,
        last_partition=last,
    )
