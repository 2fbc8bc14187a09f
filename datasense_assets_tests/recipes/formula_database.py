"""Running formulas on a real PostgreSQL: literal rows in, Python values out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import ibis
import psycopg
from psycopg import sql

from datasense_assets.recipes.compiling.statement import select_statement
from datasense_assets.recipes.formula import parse_formula

TYPES = {
    "text": "text",
    "integer": "bigint",
    "number": "double precision",
    "boolean": "boolean",
    "date": "date",
    "datetime": "timestamptz",
    "time": "time",
    "json": "jsonb",
}
IBIS_TYPES = {
    "text": "string",
    "integer": "int64",
    "number": "float64",
    "boolean": "boolean",
    "date": "date",
    "datetime": "timestamp('UTC')",
    "time": "time",
    "json": "json",
}


class FormulaDatabase:
    """A connection with one temporary table `t`, whose columns are named by the caller."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self.connection = connection
        self.columns: dict[str, str] = {}
        self.table = ibis.table({"nothing": "int64"}, name="t")

    def fill(self, columns: dict[str, str], rows: Sequence[Sequence[Any]]) -> None:
        """Make `t` hold these rows, with columns {name: type of formulas}."""
        if columns == self.columns:
            self.connection.execute("DELETE FROM t")
        else:
            fields = sql.SQL(", ").join(
                sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(TYPES[kind])) for name, kind in columns.items()
            )
            self.connection.execute("DROP TABLE IF EXISTS t")
            self.connection.execute(sql.SQL("CREATE TEMP TABLE t ({})").format(fields))
            self.columns = dict(columns)
        marks = sql.SQL("({})").format(sql.SQL(", ").join([sql.Placeholder()] * len(columns)))
        if rows:
            query = sql.SQL("INSERT INTO t VALUES {}").format(sql.SQL(", ").join([marks] * len(rows)))
            self.connection.execute(query, [cell for row in rows for cell in row])
        self.table = ibis.table({name: IBIS_TYPES[kind] for name, kind in columns.items()}, name="t")

    def value(self, formula: str) -> ibis.Value:
        """The compiled formula over `t`."""
        return parse_formula(formula).compile({name: self.table[name] for name in self.table.columns})

    def column(self, formula: str) -> list[Any]:
        """What the formula gives for each row of `t`, in the declared type of its result."""
        value = self.value(formula)
        compiled = select_statement(self.table.select(x=value), {})
        cursor = self.connection.execute(compiled.encode())
        return [row[0] for row in cursor.fetchall()]

    def one(self, formula: str) -> Any:
        """What the formula gives for the only row."""
        [value] = self.column(formula)
        return value


@contextmanager
def formula_database(url: str, timezone: str = "UTC") -> Iterator[FormulaDatabase]:
    """A database with one row and no column that matters."""
    # a statement that is kept prepared would keep the types that the columns of `t` had when it was
    with psycopg.connect(url, autocommit=True, prepare_threshold=None) as connection:
        connection.execute(sql.SQL("SET TIME ZONE {}").format(sql.Literal(timezone)))
        database = FormulaDatabase(connection)
        database.fill({"nothing": "integer"}, [[None]])
        yield database
