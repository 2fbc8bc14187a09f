"""What is put right in the warehouse after dlt has merged: vanished repeats, deleted rows, rejected rows, counts.

Every function works in the caller's transaction, as the organisation's role. The staging tables still hold what the
load brought, which is how the rows it did not bring are known.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import islice

from psycopg import Connection, sql

from datasense_assets.catalog.models import Deletes, SourceColumn, bounded_name
from datasense_assets.connectors.base import PARENT_ID, ROW_ID, Rejected
from datasense_assets.ingest.dataset import LOADED_AT, staging_schema
from datasense_assets.ingest.schema import DELETED_AT, count_rows, existing_types

PREVIEW_ROWS = 10
_REJECTED_BATCH = 5000
MASK = "•••"
_ROW_ID, _PARENT_ID = sql.Identifier(ROW_ID), sql.Identifier(PARENT_ID)
_DELETED_AT = sql.Identifier(DELETED_AT)


def count_live(connection: Connection, schema: str, table: str) -> int:
    """Rows in the table that are not marked as deleted."""
    query = sql.SQL("SELECT count(*) FROM {} WHERE {} IS NULL")
    return _number(connection, query.format(sql.Identifier(schema, table), _DELETED_AT))


def count_loaded(connection: Connection, schema: str, table: str, loaded_at: datetime) -> int:
    """Rows that the load of that moment added or changed."""
    query = sql.SQL("SELECT count(*) FROM {} WHERE {} = {}")
    return _number(connection, query.format(sql.Identifier(schema, table), sql.Identifier(LOADED_AT), loaded_at))


def count_staged(connection: Connection, schema: str, table: str) -> int:
    """Rows that the last load brought for the table; nobody can stage others until the transaction ends."""
    connection.execute(sql.SQL("LOCK TABLE {} IN SHARE MODE").format(sql.Identifier(staging_schema(schema), table)))
    return count_rows(connection, staging_schema(schema), table)


def _number(connection: Connection, query: sql.Composed) -> int:
    row = connection.execute(query).fetchone()
    return 0 if row is None else int(row[0])


def empty_table(connection: Connection, schema: str, table: str) -> int:
    """Delete every row; the number deleted."""
    return connection.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(schema, table))).rowcount


def remove_vanished_repeats(connection: Connection, schema: str, table: str, parent: str) -> int:
    """Delete repeat rows that their re-read parent no longer has, and rows whose parent is gone; the number deleted."""
    staging = staging_schema(schema)
    vanished = sql.SQL(
        "DELETE FROM {table} t USING {staged_parent} p WHERE t.{parent_id} = p.{row_id} "
        "AND NOT EXISTS (SELECT FROM {staged} s WHERE s.{row_id} = t.{row_id})"
    )
    names = {
        "table": sql.Identifier(schema, table),
        "parent": sql.Identifier(schema, parent),
        "staged": sql.Identifier(staging, table),
        "staged_parent": sql.Identifier(staging, parent),
        "row_id": _ROW_ID,
        "parent_id": _PARENT_ID,
    }
    return connection.execute(vanished.format(**names)).rowcount + remove_orphans(connection, schema, table, parent)


def remove_orphans(connection: Connection, schema: str, table: str, parent: str) -> int:
    """Delete repeat rows whose parent is not there; the number deleted."""
    query = sql.SQL("DELETE FROM {} t WHERE NOT EXISTS (SELECT FROM {} p WHERE p.{} = t.{})")
    return connection.execute(
        query.format(sql.Identifier(schema, table), sql.Identifier(schema, parent), _ROW_ID, _PARENT_ID)
    ).rowcount


def delete_absent(
    connection: Connection, schema: str, table: str, listed: sql.Identifier, how: Deletes, moment: datetime
) -> int:
    """Mark (or remove) the rows whose `_ds_row_id` is not in table `listed`, and unmark those that are; the number."""
    target = sql.Identifier(schema, table)
    absent = sql.SQL("NOT EXISTS (SELECT FROM {} l WHERE l.{r} = t.{r})").format(listed, r=_ROW_ID)
    if how is Deletes.REMOVE:
        return connection.execute(sql.SQL("DELETE FROM {} t WHERE {}").format(target, absent)).rowcount
    mark = sql.SQL("UPDATE {} t SET {d} = {} WHERE t.{d} IS NULL AND {}").format(target, moment, absent, d=_DELETED_AT)
    back = sql.SQL("UPDATE {} t SET {d} = NULL WHERE t.{d} IS NOT NULL AND NOT ({})").format(
        target, absent, d=_DELETED_AT
    )
    return connection.execute(mark).rowcount + connection.execute(back).rowcount


def mark_repeats(connection: Connection, schema: str, table: str, parent: str) -> int:
    """Give repeat rows the deletion mark of their parent; the number changed."""
    query = sql.SQL("UPDATE {} t SET {d} = p.{d} FROM {} p WHERE p.{} = t.{} AND t.{d} IS DISTINCT FROM p.{d}").format(
        sql.Identifier(schema, table), sql.Identifier(schema, parent), _ROW_ID, _PARENT_ID, d=_DELETED_AT
    )
    return connection.execute(query).rowcount


def list_row_ids(connection: Connection, schema: str, table: str, pages: Iterable[Sequence[str]]) -> sql.Identifier:
    """Copy a sweep's row ids into a table beside the staged ones; the caller drops it in the same transaction."""
    name = sql.Identifier(staging_schema(schema), bounded_name(f"{table}__sweep"))
    connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(name))
    connection.execute(sql.SQL("CREATE UNLOGGED TABLE {} ({} text)").format(name, _ROW_ID))
    with connection.cursor().copy(sql.SQL("COPY {} FROM STDIN").format(name)) as copy:
        for page in pages:
            for row_id in page:
                copy.write_row((row_id,))
    return name


def rejected_table(table: str, others: Iterable[str]) -> str:
    """The table that keeps rows that could not be read: `<table>__rejected`, or a free name next to it."""
    name = bounded_name(f"{table}__rejected")
    return name if name not in set(others) else bounded_name(f"{table}__rejected_rows")


def store_rejected(
    connection: Connection, schema: str, table: str, rows: Iterable[Rejected], *, replace: bool, moment: datetime
) -> None:
    """Write rejected rows (`replace`: instead of those of earlier loads). Makes the table when first needed; a row
    rejected again in the same words is kept once. `rows` is gone through twice.
    """
    name = sql.Identifier(schema, table)
    there = existing_types(connection, schema, table) is not None
    first = next(iter(rows), None)
    if first is not None and not there:
        create = sql.SQL(
            "CREATE TABLE {} ({} text PRIMARY KEY, line bigint NOT NULL, reason text NOT NULL, raw text NOT NULL, "
            "{} timestamp with time zone NOT NULL)"
        )
        connection.execute(create.format(name, _ROW_ID, sql.Identifier(LOADED_AT)))
        comment = sql.SQL("COMMENT ON TABLE {} IS {}")
        connection.execute(comment.format(name, sql.Literal("Rows of the source that could not be read, and why")))
    elif there and replace:
        connection.execute(sql.SQL("DELETE FROM {}").format(name))
    if first is None:
        return
    insert = sql.SQL("INSERT INTO {} VALUES (%s, %s, %s, %s, %s) ON CONFLICT DO NOTHING").format(name)
    values = ((_rejected_id(row), row.line, row.reason, row.raw.replace("\x00", ""), moment) for row in rows)
    with connection.cursor() as cursor:
        while batch := list(islice(values, _REJECTED_BATCH)):
            cursor.executemany(insert, batch)


def _rejected_id(row: Rejected) -> str:
    return hashlib.blake2b(repr((row.line, row.reason, row.raw)).encode(), digest_size=12).hexdigest()


def preview(
    connection: Connection, schema: str, table: str, columns: Sequence[SourceColumn]
) -> tuple[dict[str, str | None], ...]:
    """Up to ten rows as text, values cut at 200 characters, personal columns masked."""
    if not columns:
        return ()
    shown = columns[:50]
    fields = sql.SQL(", ").join(sql.SQL("left({}::text, 200)").format(sql.Identifier(c.name)) for c in shown)
    query = sql.SQL("SELECT {} FROM {} LIMIT {}").format(fields, sql.Identifier(schema, table), PREVIEW_ROWS)
    return tuple(
        {
            column.name: MASK if column.personal and value is not None else value
            for column, value in zip(shown, row, strict=True)
        }
        for row in connection.execute(query).fetchall()
    )
