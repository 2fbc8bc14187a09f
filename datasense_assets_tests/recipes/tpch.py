"""TPC-H on PostgreSQL by recipes, and by DuckDB's own answers on the same data.

python -m datasense_assets_tests.recipes.tpch --scale 0.1 [--url postgresql://...]
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import ibis
import psycopg
from psycopg import sql

from datasense_assets.recipes import Recipe, TableRef, compile_recipe
from datasense_assets_tests.conftest import fresh_database
from datasense_assets_tests.recipes.relation import difference
from datasense_assets_tests.recipes.tpch_recipes import recipes

SCHEMA = "org_tpch"
TABLES = ("lineitem", "orders", "customer", "part", "partsupp", "supplier", "nation", "region")
TYPES = {
    "BIGINT": ("bigint", "int64"),
    "INTEGER": ("bigint", "int64"),
    "VARCHAR": ("text", "string"),
    "DATE": ("date",) * 2,
}


@dataclass(frozen=True)
class Answer:
    """What PostgreSQL made of a question's recipe, and in how many seconds; `wrong` says where DuckDB differs."""

    number: int
    steps: int
    rows: int
    seconds: float
    wrong: str | None


def duck(scale: float) -> duckdb.DuckDBPyConnection:
    """DuckDB with the generated tables. Its extension comes in a wheel, so that nothing is downloaded."""
    found = importlib.util.find_spec("duckdb_extension_tpch")
    assert found is not None
    assert found.origin is not None
    [extension] = sorted(Path(found.origin).parent.rglob("*.duckdb_extension"))
    connection = duckdb.connect(config={"allow_unsigned_extensions": "true"})
    connection.execute("SET threads = 1")
    connection.execute(f"LOAD '{extension}'")
    connection.execute(f"CALL dbgen(sf = {scale!r})")
    return connection


def load(source: duckdb.DuckDBPyConnection, connection: psycopg.Connection[Any]) -> dict[str, TableRef]:
    """Copies the tables to PostgreSQL, decimals as double precision as the platform loads them."""
    connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(SCHEMA)))
    refs = {}
    for name in TABLES:
        described = source.execute(f"DESCRIBE {name}").fetchall()
        types = {row[0]: TYPES.get(row[1], ("double precision", "float64")) for row in described}
        columns = [sql.SQL("{} {}").format(sql.Identifier(n), sql.SQL(t)) for n, (t, _) in types.items()]
        place = sql.Identifier(SCHEMA, name)
        connection.execute(sql.SQL("CREATE UNLOGGED TABLE {} ({})").format(place, sql.SQL(", ").join(columns)))
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, f"{name}.csv")
            source.execute(f"COPY {name} TO '{file}' (HEADER false)")
            with (
                file.open("rb") as data,
                connection.cursor().copy(sql.SQL("COPY {} FROM STDIN (FORMAT csv)").format(place)) as copy,
            ):
                while block := data.read(1 << 20):
                    copy.write(block)
        connection.execute(sql.SQL("ANALYZE {}").format(place))
        refs[name] = TableRef(SCHEMA, name, ibis.schema({n: t for n, (_, t) in types.items()}))
    return refs


def answers(source: duckdb.DuckDBPyConnection, connection: psycopg.Connection[Any], scale: float) -> list[Answer]:
    """Each question asked of both."""
    refs = load(source, connection)
    refs["again"] = refs["lineitem"]
    found = []
    for number, (tables, steps, _) in recipes(scale).items():
        aliases = tables.split()
        inputs = {alias: f"source:tpch.{alias}" for alias in aliases}
        recipe = Recipe.parse({"version": 1, "name": f"q{number}", "inputs": inputs, "steps": steps})
        compiled = compile_recipe(recipe, {alias: refs[alias] for alias in aliases})
        began = time.monotonic()
        rows = connection.execute(compiled.sql).fetchall()
        took = time.monotonic() - began
        expected = source.execute(question(source, number, scale)).fetchall()
        # The answers of both are sorted alike, so no order is lost by comparing sets of rows; ties may come either way.
        wrong = difference([plain(row) for row in rows], [plain(row) for row in expected], ordered=False)
        found.append(Answer(number, len(steps), len(rows), took, wrong))
    return found


def question(source: duckdb.DuckDBPyConnection, number: int, scale: float) -> str:
    """DuckDB's own text of the question; its threshold in question 11 is the one of scale factor 1."""
    [text] = source.execute("SELECT query FROM tpch_queries() WHERE query_nr = ?", [number]).fetchall()[0]
    return str(text).replace("0.0001000000", repr(0.0001 / scale)) if number == 11 else str(text)


def plain(row: Sequence[Any]) -> tuple[Any, ...]:
    """Cells without the types in which the two engines differ."""
    return tuple(
        float(c)
        if isinstance(c, (Decimal, int)) and not isinstance(c, bool)
        else c.date()
        if isinstance(c, datetime) and not isinstance(c, date)
        else c
        for c in row
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=0.1)
    parser.add_argument("--url", default="postgresql://postgres@127.0.0.1:5432/postgres")
    given = parser.parse_args()
    with fresh_database(given.url, "tpch") as url, psycopg.connect(url, prepare_threshold=None) as connection:
        found = answers(duck(given.scale), connection, given.scale)
    for one in found:
        verdict = "as DuckDB" if one.wrong is None else f"WRONG {one.wrong[:500]}"
        line = f"Q{one.number:<3} {one.steps:3} steps {one.rows:6} rows {one.seconds:7.2f} s  {verdict}\n"
        sys.stdout.write(line)
    return 1 if any(one.wrong for one in found) else 0


if __name__ == "__main__":
    sys.exit(main())
