"""What tables a source has, written into the catalog: slugs for new ones, and the columns that the source declares.

Nothing is loaded here. A table's slug is given once and for life by `catalog.state.upsert_tables`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from datasense_assets.catalog.models import Organization, Source, SourceColumn, SourceTable
from datasense_assets.catalog.state import (
    DiscoveredTable,
    FailureRecord,
    read_table_status,
    read_tables,
    record_discovery,
    replace_columns,
    upsert_tables,
)
from datasense_assets.connectors.errors import SourceError, Throttled
from datasense_assets.ingest.naming import column_names
from datasense_assets.ingest.planning import declared_types

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

    from datasense_assets.connectors.base import Connector, TableInfo


def find_tables(source: Source, connector: Connector) -> list[TableInfo]:
    """What the source says it has: everything, or the resources that its row names.

    Raises:
        SourceError: the source could not be read.

    """
    if source.discover_all:
        return connector.discover()
    resources = dict.fromkeys(table.resource for table in source.tables if table.parent is None)
    return [info for resource in resources for info in connector.describe(resource)]


def discover_tables(catalog: Engine, org: Organization, source: Source, connector: Connector) -> list[SourceTable]:
    """Ask the source for its tables and write them to the catalog; return all tables of the source as they are now.

    New tables and repeat groups are added, none is forgotten. Columns are written for a table that has never been
    loaded and whose source declares the type of each; for the others the first load finds the types. How it ended is
    recorded with the source, a failure too.

    Raises:
        SourceError: the source could not be read.

    """
    del org  # tables belong to the source's row, whose organisation the catalog knows
    return record_tables(catalog, source, ask_for_tables(catalog, source, connector))


def ask_for_tables(catalog: Engine, source: Source, connector: Connector) -> list[TableInfo]:
    """`find_tables`, with a failure recorded in the catalog before it is raised."""
    try:
        return find_tables(source, connector)
    except SourceError as error:
        with catalog.begin() as connection:
            failure = FailureRecord(error.kind, error.message, error.advice, permanent=error.permanent)
            counted = not isinstance(error, Throttled)
            record_discovery(connection, source.id, now=datetime.now(UTC), failure=failure, counted=counted)
        raise


def record_tables(catalog: Engine, source: Source, found: Sequence[TableInfo]) -> list[SourceTable]:
    """Write what was found to the catalog, as `discover_tables` says; return all tables of the source."""
    with catalog.begin() as connection:
        tables = upsert_tables(connection, source.id, _as_discovered(found))
        changed = _write_columns(connection, tables, found)
        record_discovery(connection, source.id, now=datetime.now(UTC), failure=None)
        return read_tables(connection, source.id) if changed else tables


def _as_discovered(found: Iterable[TableInfo]) -> list[DiscoveredTable]:
    return [
        DiscoveredTable(
            resource=info.resource, title=info.title, path=tuple(info.path), history_start=info.history_start
        )
        for info in found
    ]


def _write_columns(connection: Connection, tables: Sequence[SourceTable], found: Sequence[TableInfo]) -> bool:
    by_place = {(table.resource, table.path): table for table in tables}
    written = False
    for info in found:
        table = by_place.get((info.resource, tuple(info.path)))
        if table is None or not _wants_columns(connection, table, info):
            continue
        columns = declared_columns(table, info)
        if columns != table.columns:
            replace_columns(connection, table.id, columns)
            written = True
    return written


def _wants_columns(connection: Connection, table: SourceTable, info: TableInfo) -> bool:
    types = declared_types(table, info)
    if not info.columns or any(column.key not in types for column in info.columns):
        return False
    status = read_table_status(connection, table.id)
    return status is None or status.loaded_at is None


def declared_columns(table: SourceTable, info: TableInfo) -> tuple[SourceColumn, ...]:
    """The columns as the source declares them, named for Postgres; columns named before keep their names."""
    known = {column.key: column.name for column in table.columns}
    names = column_names([column.key for column in info.columns], known)
    types = declared_types(table, info)
    columns = []
    for position, column in enumerate(info.columns):
        if column.key not in types:
            continue
        columns.append(
            SourceColumn(
                name=names[column.key],
                key=column.key,
                label=column.label,
                labels=column.labels,
                type=types[column.key],
                position=position,
                choices=column.choices,
                personal=column.personal,
            )
        )
    return tuple(columns)
