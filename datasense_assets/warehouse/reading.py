"""Looking at tables: their columns, row counts and first rows. Names are quoted here; nothing is written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

# tables, also partitioned and foreign ones, and views of both kinds
_KINDS = ["r", "p", "v", "m", "f"]


@dataclass(frozen=True)
class TableColumn:
    """A column as Postgres has it; `comment` carries the original header or label."""

    name: str
    pg_type: str
    nullable: bool
    comment: str | None


def table_exists(connection: psycopg.Connection, schema: str, table: str) -> bool:
    """Whether there is a table or view of that name that the connection's role can see."""
    return _is_one_of(connection, schema, table, _KINDS)


def is_view(connection: psycopg.Connection, schema: str, table: str) -> bool:
    """Whether there is a view of that name."""
    return _is_one_of(connection, schema, table, ["v"])


def what_stays(connection: psycopg.Connection, schema: str, table: str) -> str:
    """In the message of a build that came to nothing: that the old table stays, or that there never was one."""
    return "its old table stays" if table_exists(connection, schema, table) else "there is no table yet"


def _is_one_of(connection: psycopg.Connection, schema: str, table: str, kinds: list[str]) -> bool:
    row = connection.execute(
        "SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname = %s AND c.relname = %s AND c.relkind::text = ANY (%s))",
        (schema, table, kinds),
    ).fetchone()
    return row is not None and bool(row[0])


def table_columns(connection: psycopg.Connection, schema: str, table: str) -> list[TableColumn]:
    """The columns in order; an empty list where there is no such table."""
    rows = connection.execute(
        """
        SELECT a.attname, format_type(a.atttypid, a.atttypmod), NOT a.attnotnull, col_description(a.attrelid, a.attnum)
          FROM pg_attribute a
         WHERE a.attrelid = (SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                              WHERE n.nspname = %s AND c.relname = %s AND c.relkind::text = ANY (%s))
           AND a.attnum > 0 AND NOT a.attisdropped
         ORDER BY a.attnum
        """,
        (schema, table, _KINDS),
    ).fetchall()
    return [TableColumn(*row) for row in rows]


def row_count(connection: psycopg.Connection, schema: str, table: str) -> int:
    """The exact number of rows.

    Raises:
        psycopg.errors.UndefinedTable: there is no such table.
    """
    row = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(schema, table))).fetchone()
    return int(row[0]) if row is not None else 0


def fetch_rows(connection: psycopg.Connection, schema: str, table: str, limit: int = 10) -> list[dict[str, Any]]:
    """The first `limit` rows in no promised order, as column to value.

    Raises:
        psycopg.errors.UndefinedTable: there is no such table.
    """
    with connection.cursor(row_factory=dict_row) as cursor:
        # composed without parameters: a % in a name would be read as a placeholder
        cursor.execute(sql.SQL("SELECT * FROM {} LIMIT {}").format(sql.Identifier(schema, table), int(limit)))
        return cursor.fetchall()
