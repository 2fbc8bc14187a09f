"""Tables with known cells, recipes cooked on a real PostgreSQL, and what came out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import ibis
import psycopg
from psycopg import sql

from datasense_assets.recipes import Recipe, RecipeError, RecipeErrors, TableRef, compile_recipe
from datasense_assets.recipes.compiling.compile import Compiled

SCHEMA = 'org "x" %s'
TYPES = {
    "text": "string",
    "bigint": "int64",
    "integer": "int32",
    "double precision": "float64",
    "numeric": "decimal",
    "boolean": "boolean",
    "date": "date",
    "timestamptz": "timestamp('UTC')",
    "time": "time",
    "jsonb": "json",
}


@dataclass(frozen=True)
class Cooked:
    columns: list[str]
    rows: list[tuple[Any, ...]]
    compiled: Compiled

    def column(self, name: str) -> list[Any]:
        return [row[self.columns.index(name)] for row in self.rows]

    @property
    def sorted(self) -> list[tuple[Any, ...]]:
        return sorted(self.rows, key=repr)


def schema_of(columns: dict[str, str]) -> ibis.Schema:
    return ibis.schema({name: TYPES[pg_type] for name, pg_type in columns.items()})


def recipe_of(steps: Sequence[dict[str, Any]], aliases: Sequence[str] = ("t",), **more: Any) -> Recipe:
    return Recipe.parse(
        {
            "version": 1,
            "name": "result",
            "inputs": {alias: f"source:forms.table_{i}" for i, alias in enumerate(aliases)},
            "steps": list(steps),
            **more,
        }
    )


def errors_of(
    steps: Sequence[dict[str, Any]], columns: dict[str, str] | None = None, **tables: dict[str, str]
) -> list[RecipeError]:
    """Errors of steps over a table `t` of these columns (and more tables), with no database at all."""
    shapes = {"t": columns or {"n": "bigint", "s": "text", "d": "date", "b": "boolean", "j": "jsonb"}, **tables}
    refs = {alias: TableRef("org_x", f"forms__{alias}", schema_of(shape)) for alias, shape in shapes.items()}
    try:
        compile_recipe(recipe_of(steps, list(refs)), refs)
    except RecipeErrors as errors:
        return list(errors.errors)
    return []


@dataclass
class Kitchen:
    connection: psycopg.Connection
    refs: dict[str, TableRef] = field(default_factory=dict)

    def table(self, alias: str, columns: dict[str, str], rows: Sequence[Sequence[Any]] = ()) -> TableRef:
        """Creates a table of these columns and rows and makes it an input under `alias`."""
        name = f"forms__{alias}"
        parts = [sql.SQL("{} {}").format(sql.Identifier(n), sql.SQL(t)) for n, t in columns.items()]
        place = sql.Identifier(SCHEMA, name)
        self.connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(place))
        self.connection.execute(sql.SQL("CREATE TABLE {} ({})").format(place, sql.SQL(", ").join(parts)))
        # Names with % cannot go together with parameters, so the cells are written out.
        cells = [sql.SQL("({})").format(sql.SQL(", ").join(map(sql.Literal, row))) for row in rows]
        if cells:
            self.connection.execute(sql.SQL("INSERT INTO {} VALUES {}").format(place, sql.SQL(", ").join(cells)))
        self.refs[alias] = TableRef(SCHEMA, name, schema_of(columns))
        return self.refs[alias]

    def cook(self, *steps: dict[str, Any], **more: Any) -> Cooked:
        """What the steps make of the tables, starting with the first one."""
        compiled = compile_recipe(recipe_of(steps, list(self.refs), **more), self.refs)
        cursor = self.connection.execute(compiled.sql)
        names = [column.name for column in cursor.description or ()]
        assert names == list(compiled.schema.names)
        return Cooked(names, cursor.fetchall(), compiled)

    def lost(self, cooked: Cooked) -> list[tuple[str, int]]:
        """The counts of lossy casts."""
        counts = []
        for column, query in cooked.compiled.lossy_casts:
            row = self.connection.execute(query).fetchone()
            assert row is not None
            counts.append((column, row[0]))
        return counts
