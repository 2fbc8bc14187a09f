"""Columns and indexes to be, and the words people read on them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import psycopg
from psycopg import sql

_TYPE = re.compile(r"[a-z][a-z0-9_ ]*(\(\d+(, ?\d+)?\))?( (with|without) time zone)?(\[\])?")


@dataclass(frozen=True)
class ColumnSpec:
    """A column to be: name, Postgres type, and the comment people read (None keeps the old column's)."""

    name: str
    pg_type: str
    comment: str | None = None


@dataclass(frozen=True)
class IndexSpec:
    """An index to be, over columns in order."""

    columns: tuple[str, ...]
    unique: bool = False


_FULL_NAMES = {
    "timestamptz": "timestamp with time zone",
    "timestamp": "timestamp without time zone",
    "time": "time without time zone",
}


def full_name(pg_type: str) -> str:
    """The type as PostgreSQL's `format_type` writes it."""
    return _FULL_NAMES.get(pg_type, pg_type.replace(", ", ","))


def declared(column: ColumnSpec) -> sql.SQL:
    """The column's type as SQL.

    Raises:
        ValueError: it is not the name of a type.
    """
    if not _TYPE.fullmatch(column.pg_type):
        raise ValueError(f"{column.pg_type!r} is not a Postgres type")
    return sql.SQL(column.pg_type)


def comment_on(
    connection: psycopg.Connection,
    kind: Literal["TABLE", "VIEW"],
    schema: str,
    name: str,
    text: str | None,
    columns: Mapping[str, str],
) -> None:
    """Write the comments of a table or view and its columns; None writes none."""
    if text is not None:
        where = sql.SQL(kind) + sql.SQL(" ") + sql.Identifier(schema, name)
        connection.execute(sql.SQL("COMMENT ON {} IS {}").format(where, sql.Literal(text)))
    for column, words in columns.items():
        target = sql.Identifier(schema, name, column)
        connection.execute(sql.SQL("COMMENT ON COLUMN {} IS {}").format(target, sql.Literal(words)))
