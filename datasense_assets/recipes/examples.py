"""The examples of steps and conditions on a table of three rows: what goes in and what PostgreSQL made of it.

`examples.json` beside this module is `executed()`; a test holds the two together, and the reference shows it.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasense_assets.catalog.models import ColumnType
from datasense_assets.recipes.condition_examples import OPERATOR_EXAMPLES, SHOWN, TODAY
from datasense_assets.recipes.language.steps import STEP_MODELS
from datasense_assets.recipes.recipe import Recipe

if TYPE_CHECKING:
    import psycopg

    from datasense_assets.recipes.compiling.compile import Compiled
    from datasense_assets.recipes.tableref import TableRef

STORED = Path(__file__).with_name("examples.json")

EXAMPLE_TABLE: dict[str, ColumnType] = {
    "district": ColumnType.TEXT,
    "day": ColumnType.TEXT,
    "seen_on": ColumnType.DATE,
    "visits": ColumnType.INTEGER,
    "cost": ColumnType.NUMBER,
    "sex": ColumnType.TEXT,
    "phone": ColumnType.TEXT,
    "phone_2": ColumnType.TEXT,
    "first_name": ColumnType.TEXT,
    "last_name": ColumnType.TEXT,
    "services": ColumnType.TEXT,
    "members": ColumnType.JSON,
    "location": ColumnType.TEXT,
    "address": ColumnType.JSON,
    "note": ColumnType.TEXT,
}
"""Columns that the steps' examples are written for; `people` is the other input."""

EXAMPLE_LABELS = {"sex": {"f": "Female", "m": "Male"}}
"""The choice labels of that table's columns."""

EXAMPLE_OTHER: dict[str, ColumnType] = {"district": ColumnType.TEXT, "population": ColumnType.INTEGER}

VISITS: list[dict[str, Any]] = [
    {
        **{"district": "North", "day": "03/01/2026", "seen_on": "2026-01-03", "visits": 12, "cost": 30.0, "sex": "f"},
        **{"phone": "9810012345", "first_name": "Asha", "last_name": "rao-iyer", "services": "water food"},
        **{"members": '[{"name": "Ravi", "age": "7"}, {"name": "Uma", "age": "?"}]', "location": "26.9 75.8 431 5"},
        **{"address": '{"street": "Main Road", "number": "12"}', "note": "ward 4, first visit"},
    },
    {
        **{"district": "South", "day": "31/02/2026", "seen_on": "2026-02-10", "visits": 3, "cost": 4.5, "sex": "m"},
        **{
            "phone": None,
            "phone_2": "9820054321",
            "first_name": "Ravi",
            "last_name": "  de  souza",
            "services": "food",
        },
        **{"members": "[]", "location": None, "address": None, "note": "none"},
    },
    {
        **{"district": None, "day": None, "seen_on": "2026-02-11", "visits": 0, "cost": None, "sex": None},
        **{"phone": "9830011111", "phone_2": "9840022222", "first_name": "Uma", "last_name": None, "services": None},
        **{"members": None, "location": "27.1 x", "address": "{}", "note": None},
    },
]
PEOPLE: list[dict[str, Any]] = [{"district": "North", "population": 5000}, {"district": "East", "population": 900}]
_WHOLE = frozenset({"select", "aggregate", "pivot", "union"})
_MOST_COLUMNS = 7


def stored_examples() -> dict[str, Any]:
    """`steps`: by `op` `in` and `out`, each with `columns` and `rows` of texts (None for null).

    `conditions`: by operator, for each of its examples the rows it keeps, by their first name.
    """
    found: dict[str, Any] = json.loads(STORED.read_text(encoding="utf-8"))
    return found


def executed(connection: psycopg.Connection) -> dict[str, Any]:
    """Every example, run on temporary tables of the connection's."""
    refs = _tables(connection)
    return {
        "steps": {op: _run(connection, op, model.example, refs) for op, model in STEP_MODELS.items()},
        "conditions": {
            name: [_kept(connection, condition, refs) for condition in row.conditions]
            for name, row in OPERATOR_EXAMPLES.items()
        },
    }


def condition_rows() -> dict[str, Any]:
    """`columns` and `rows` of texts: what the examples of conditions are about."""
    return {"columns": list(SHOWN), "rows": [[_text(row.get(column)) for column in SHOWN] for row in VISITS]}


def _tables(connection: psycopg.Connection) -> dict[str, TableRef]:
    import ibis
    from psycopg import sql

    from datasense_assets.recipes.compiling.kinds import CANONICAL
    from datasense_assets.recipes.compiling.statement import postgres_type
    from datasense_assets.recipes.tableref import TableRef

    refs: dict[str, TableRef] = {}
    for name, kinds, rows in (("visits", EXAMPLE_TABLE, VISITS), ("people", EXAMPLE_OTHER, PEOPLE)):
        columns = ibis.schema({column: CANONICAL[kind] for column, kind in kinds.items()})
        typed = [
            sql.SQL("{} {}").format(sql.Identifier(column), sql.SQL(postgres_type(dtype)))
            for column, dtype in columns.items()
        ]
        connection.execute(sql.SQL("CREATE TEMP TABLE {} ({})").format(sql.Identifier(name), sql.SQL(", ").join(typed)))
        for row in rows:
            cells = sql.SQL(", ").join(sql.Literal(row.get(column)) for column in columns.names)
            connection.execute(sql.SQL("INSERT INTO {} VALUES ({})").format(sql.Identifier(name), cells))
        refs[name] = TableRef("pg_temp", name, columns)
    refs["visits"] = replace(refs["visits"], choice_labels=EXAMPLE_LABELS)
    return refs


def _compiled(step: dict[str, Any], refs: dict[str, TableRef]) -> Compiled:
    from datasense_assets.recipes.compiling.compile import compile_recipe

    inputs = {"visits": "source:health_forms.visits", "people": "recipe:clean_people"}
    return compile_recipe(Recipe.parse({"version": 1, "name": "example", "inputs": inputs, "steps": [step]}), refs)


def _kept(connection: psycopg.Connection, condition: dict[str, Any], refs: dict[str, TableRef]) -> list[str]:
    """First names of the rows that a filter by the condition keeps, on the day that the examples have."""
    query = _compiled({"op": "filter", "where": condition}, refs).sql.replace("CURRENT_DATE", f"DATE '{TODAY}'")
    cursor = connection.execute(query.encode())
    place = [each.name for each in cursor.description or ()].index(SHOWN[0])
    kept = {row[place] for row in cursor.fetchall()}
    return [row[SHOWN[0]] for row in VISITS if row[SHOWN[0]] in kept]


def _run(connection: psycopg.Connection, op: str, example: dict[str, Any], refs: dict[str, TableRef]) -> dict[str, Any]:
    compiled = _compiled(example, refs)
    named = {column for table, column in compiled.named if table == "visits"} | {"district"}
    named |= {"sex"} if op == "select" else {"visits"} if op in ("drop", "limit", "filter", "sort") else set()
    given = [column for column in EXAMPLE_TABLE if column in named]
    made = [
        column for column in compiled.schema.names if op in _WHOLE or column in given or column not in EXAMPLE_TABLE
    ]
    before = [[_text(row.get(column)) for column in given] for row in VISITS]
    cursor = connection.execute(compiled.sql.encode())
    names = [each.name for each in cursor.description or ()]
    shown = made[:_MOST_COLUMNS] if op != "union" else [*made[:2], *made[-2:]]
    places = [names.index(column) for column in shown]
    after = [[_text(row[place]) for place in places] for row in cursor.fetchall()]
    if op != "sort":
        after.sort(key=lambda row: [(cell is None, cell or "") for cell in row])
    return {"in": {"columns": given, "rows": before}, "out": {"columns": shown, "rows": after}}


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, (dict, list)):
        return json.dumps(value, ensure_ascii=False)
    return str(value).lower() if isinstance(value, bool) else str(value)
