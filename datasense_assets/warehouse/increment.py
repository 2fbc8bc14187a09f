"""Bringing a table up to date row by row: out go the rows whose origin changed or is gone, in come its new rows.

Readers are never locked out: they see the old rows until the commit and the new ones after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import psycopg
from psycopg import IsolationLevel, sql

from datasense_assets.warehouse.columns import ColumnSpec
from datasense_assets.warehouse.swap import LimitExceeded, SessionLimits, Staged, TableBusy, apply_limits


@dataclass(frozen=True)
class Origin:
    """Where rows come from: `key` and `loaded_at` are columns of the table made, `row_id`, `row_loaded_at` and (where
    rows that are gone are only marked) `deleted_at` those of `schema.table`.
    """

    schema: str
    table: str
    row_id: str
    row_loaded_at: str
    deleted_at: str | None
    key: str
    loaded_at: str


@dataclass(frozen=True)
class Incremented:
    """Rows in the table now, rows taken out of it and rows put in; a changed row counts among both."""

    rows: int
    removed: int
    added: int


def replace_changed_rows(
    connection: psycopg.Connection,
    schema: str,
    table: str,
    columns: Sequence[ColumnSpec],
    select: str,
    origin: Origin,
    *,
    limits: SessionLimits | None = None,
    staged: Staged | None = None,
) -> Incremented:
    """Make `schema.table`, built before from the same `select`, equal to what `select` gives now.

    `select` must make each row from one row of the origin alone. A row of the table stands while the origin has its row
    with the same load's moment. `staged` looks at the table before the commit. The connection must be in autocommit: a
    transaction of its own sees one moment of the origin throughout.

    Raises:
        TableBusy: another build held the table for longer than `limits.lock_timeout`.
        LimitExceeded: it took longer than `limits.statement_timeout`.
        psycopg.Error: the SELECT itself failed.
    """
    limits = limits or SessionLimits()
    names = {
        "table": sql.Identifier(schema, table),
        "origin": sql.Identifier(origin.schema, origin.table),
        "row_id": sql.Identifier(origin.row_id),
        "row_loaded_at": sql.Identifier(origin.row_loaded_at),
        "key": sql.Identifier(origin.key),
        "loaded_at": sql.Identifier(origin.loaded_at),
        "alive": sql.SQL("")
        if origin.deleted_at is None
        else sql.SQL(" AND o.{} IS NULL").format(sql.Identifier(origin.deleted_at)),
        "columns": sql.SQL(", ").join(sql.Identifier(column.name) for column in columns),
        "select": sql.SQL(select),
    }
    take_out = sql.SQL(
        "DELETE FROM {table} t WHERE NOT EXISTS (SELECT FROM {origin} o"
        " WHERE o.{row_id} = t.{key} AND o.{row_loaded_at} = t.{loaded_at}{alive})"
    ).format(**names)
    put_in = sql.SQL(
        "INSERT INTO {table} ({columns}) SELECT {columns} FROM ({select}) AS made"
        " WHERE NOT EXISTS (SELECT FROM {table} t WHERE t.{key} = made.{key})"
    ).format(**names)
    before = connection.isolation_level
    connection.isolation_level = IsolationLevel.REPEATABLE_READ
    try:
        with connection.transaction():
            # Neither of these takes the transaction's snapshot, so it is of a moment when no other build goes on.
            wait = sql.Literal(str(int(limits.lock_timeout * 1000)))
            connection.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(wait))
            connection.execute(sql.SQL("LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE").format(**names))
            apply_limits(connection, limits)
            removed = connection.execute(take_out).rowcount
            added = connection.execute(put_in, binary=True).rowcount
            row = connection.execute(sql.SQL("SELECT count(*) FROM {table}").format(**names)).fetchone()
            rows = int(row[0]) if row else 0
            if staged is not None:
                staged(connection, table, rows)
            return Incremented(rows, removed, added)
    except psycopg.errors.LockNotAvailable:
        raise TableBusy(
            f"{schema}.{table} was being built for more than {limits.lock_timeout:g} s.", advice="Try again."
        ) from None
    except psycopg.errors.QueryCanceled:
        raise LimitExceeded(
            f"Updating {schema}.{table} took longer than {limits.statement_timeout:g} s; nothing changed.",
            advice="Let it read less (filter earlier), or raise the limit.",
        ) from None
    finally:
        connection.isolation_level = before
