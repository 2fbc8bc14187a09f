"""Random recipes on a real PostgreSQL, held against the references cell by cell; tables are made once and refilled."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import ibis
import psycopg
from psycopg import sql
from psycopg.types.json import set_json_loads

from datasense_assets.recipes import Recipe, TableRef, compile_recipe
from datasense_assets.recipes.compiling.compile import Compiled
from datasense_assets.recipes.compiling.statement import postgres_type
from datasense_assets.recipes.inputs import ibis_type
from datasense_assets_tests.recipes import reference
from datasense_assets_tests.recipes.chooser import Chooser
from datasense_assets_tests.recipes.random_steps import Maker
from datasense_assets_tests.recipes.random_tables import ALIKE, JSON_NULL, SHAPES, Shape, copied, random_rows
from datasense_assets_tests.recipes.relation import Loose, Relation, Row, TooLarge, Undetermined, World, difference

SCHEMA = "pg_temp"
LABELS = {"t1": {"answers": {"a": "Yes", "b": "नहीं", "12": "twelve", "": "blank", "1": "one", 'say "so"': "%s"}}}
ZONES = ("Asia/Kolkata", "America/New_York", "Europe/Paris", "UTC", "Pacific/Apia")
OPERATIONS = tuple(reference.REFERENCES)
ANY_TABLE = ("join", "union", "label_values")


@dataclass(frozen=True)
class Example:
    """Steps over tables, and what they have to give. `too_large`: the build has to fail instead."""

    shapes: tuple[Shape, ...]
    rows: tuple[tuple[Row, ...], ...]
    steps: tuple[dict[str, Any], ...]
    zone: str
    expected: Relation | None
    lost: Counter[str] = field(default_factory=Counter)

    @property
    def too_large(self) -> bool:
        return self.expected is None


class Bench:
    """A connection whose temporary tables are refilled for each example."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self.connection = connection
        set_json_loads(_loaded, connection)
        for shape in SHAPES:
            parts = [sql.SQL("{} {}").format(sql.Identifier(n), sql.SQL(t)) for n, t, _ in shape.columns]
            table = sql.SQL("CREATE TEMP TABLE {} ({})").format(sql.Identifier(shape.alias), sql.SQL(", ").join(parts))
            connection.execute(table)
        # All examples are within one transaction, so that the day and the moment of a build are known beforehand.
        found = connection.execute("SELECT now()").fetchone()
        assert found is not None
        self.now: datetime = found[0]
        self.oids = {
            name: connection.execute("SELECT %s::regtype::oid", [name]).fetchall()[0][0]
            for name in (*KIND_OF_TYPE, "varchar")
        }
        # PostgreSQL casts these when they are stored, without a change of value.
        self.stored = {self.oids["json"]: self.oids["jsonb"], self.oids["varchar"]: self.oids["text"]}
        self.refs = {shape.alias: table_ref(shape) for shape in SHAPES}

    def fill(self, example: Example) -> None:
        names = sql.SQL(", ").join(sql.Identifier(shape.alias) for shape in example.shapes)
        self.connection.execute(sql.SQL("TRUNCATE {}").format(names))
        for shape, rows in zip(example.shapes, example.rows, strict=True):
            if not rows:
                continue
            target = sql.SQL("COPY {} FROM STDIN").format(sql.Identifier(SCHEMA, shape.alias))
            with self.connection.cursor().copy(target) as copy:
                for row in rows:
                    copy.write_row([copied(c, pg) for c, (_, pg, _) in zip(row, shape.columns, strict=True)])

    def check(self, example: Example) -> Compiled:
        """Fails where PostgreSQL gives another table, other types or other counts than the references."""
        recipe = recipe_of(example)
        compiled = compile_recipe(recipe, {s.alias: self.refs[s.alias] for s in example.shapes})
        with self.connection.transaction(force_rollback=True):
            self.connection.execute(sql.SQL("SET LOCAL timezone = {}").format(sql.Literal(example.zone)))
            self.fill(example)
            try:
                cursor = self.connection.execute(compiled.sql)
            except psycopg.errors.NumericValueOutOfRange:
                assert example.too_large, f"{example.steps}: a number was too large\n{compiled.sql}"
                return compiled
            found = [tuple(map(settled, row)) for row in cursor.fetchall()]
            description = cursor.description or []
            lost: Counter[str] = Counter()
            for column, query in compiled.lossy_casts:
                counted = self.connection.execute(query).fetchone()
                assert counted is not None
                lost[column] += counted[0]
        expected = example.expected
        assert expected is not None, f"{example.steps}: nothing was too large\n{compiled.sql}"
        context = f"{example.steps} over {example.rows}\n{compiled.sql}\n"
        assert [c.name for c in description] == expected.names, context
        assert list(compiled.schema.names) == expected.names, context
        declared = [self.oids[declared_type(compiled.schema[name])] for name in expected.names]
        assert [self.stored.get(c.type_code, c.type_code) for c in description] == declared, (
            f"{[c.type_display for c in description]} {context}"
        )
        for name, kind in expected.columns:
            assert KIND_OF_TYPE[declared_type(compiled.schema[name])] == kind, (name, kind, context)
        wanted = [tuple(map(settled, row)) for row in expected.rows]
        wrong = difference(found, wanted, expected.ordered)
        assert wrong is None, f"{wrong}\n{context}"
        assert +lost == +example.lost, f"lost {lost}, expected {example.lost}\n{context}"
        return compiled


KIND_OF_TYPE = {
    **dict.fromkeys(("bigint", "integer", "smallint"), "integer"),
    **dict.fromkeys(("double precision", "numeric", "real"), "number"),
    **dict.fromkeys(("json", "jsonb"), "json"),
    **dict.fromkeys(("timestamptz", "timestamp"), "datetime"),
    "text": "text",
    "boolean": "boolean",
    "date": "date",
    "time": "time",
}


def declared_type(dtype: Any) -> str:
    """The type that the recipe's table would be declared with, without its precision."""
    return postgres_type(dtype).partition("(")[0]


def table_ref(shape: Shape) -> TableRef:
    names = {"timestamptz": "timestamp with time zone", "time": "time without time zone"}
    columns = {name: ibis_type(names.get(pg, pg)) for name, pg, _ in shape.columns}
    return TableRef(SCHEMA, shape.alias, ibis.schema(columns), choice_labels=LABELS.get(shape.alias, {}))


def _loaded(text: str | bytes) -> Any:
    value = json.loads(text)
    return JSON_NULL if value is None else value


def settled(value: Any) -> Any:
    """A cell in a form in which equal ones are equal."""
    return value.astimezone(UTC) if isinstance(value, datetime) else value


def recipe_of(example: Example) -> Recipe:
    inputs = {shape.alias: f"source:forms.{shape.alias}" for shape in example.shapes}
    return Recipe.parse({"version": 1, "name": "r", "inputs": inputs, "steps": list(example.steps)})


def random_example(
    choose: Chooser,
    now: datetime,
    operations: tuple[str, ...],
    length: int = 1,
    *,
    function: str | None = None,
    operator: str | None = None,
) -> Example | None:
    """A valid recipe of so many steps of these operations, with its answer; None where the language leaves it open."""
    others = length > 1 or operations[0] in ANY_TABLE
    shapes = choose.some(SHAPES, 2, 3) if others else [choose.one(SHAPES)]
    if operations == ("union",) or (length > 1 and choose.chance(30)):
        shapes = choose.some(ALIKE, 2, 3)
    if others and SHAPES[1] not in shapes:
        shapes.append(SHAPES[1])
    if operations[0] == "label_values" and length == 1:
        shapes = [SHAPES[1]]
    zone = choose.one(ZONES)
    today = now.astimezone(ZoneInfo(zone)).date()
    rows = tuple(random_rows(choose, shape, today) for shape in shapes)
    tables = {s.alias: Relation(s.kinds, cells_of(s, r, length > 1)) for s, r in zip(shapes, rows, strict=True)}
    labels = {alias: found for alias, found in LABELS.items() if alias in tables}
    world = World(tables, shapes[0].alias, ZoneInfo(zone), today, now, labels)
    table = tables[shapes[0].alias]
    steps: list[dict[str, Any]] = []
    tries = 0
    while len(steps) < length and tries < 4 * length:
        tries += 1
        before = world.lost.copy()
        try:
            step = Maker(choose, table, world, function, operator).step(choose.one(operations))
            made = reference.after(step, table, world)
            if len(made.rows) > 60 or len({name for name, _ in made.columns}) < len(made.columns) or not made.columns:
                raise Undetermined
            if any(len(name.encode()) > 63 for name in made.names):
                raise Undetermined
        except Undetermined:
            world.lost = before
            continue
        except TooLarge:
            steps.append(step)
            return Example(tuple(shapes), rows, tuple(steps), zone, None)
        steps.append(step)
        table = made
    if not steps:
        return None
    return Example(tuple(shapes), rows, tuple(steps), zone, table, world.lost)


def cells_of(shape: Shape, rows: tuple[Row, ...], loose: bool) -> tuple[Row, ...]:
    """The rows as PostgreSQL holds them: in a numeric column decimals."""
    if loose:
        places = [pg.startswith("numeric") for _, pg, _ in shape.columns]
        return tuple(
            tuple(Loose(c) if p and c is not None else c for c, p in zip(row, places, strict=True)) for row in rows
        )
    scales = [pg.partition(",")[2].rstrip(")") if pg.startswith("numeric") else None for _, pg, _ in shape.columns]
    return tuple(
        tuple(
            cell
            if cell is None or scale is None
            else Decimal(repr(cell)).quantize(Decimal(1).scaleb(-int(scale)))
            if scale
            else Decimal(repr(cell))
            for cell, scale in zip(row, scales, strict=True)
        )
        for row in rows
    )
