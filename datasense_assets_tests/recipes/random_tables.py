"""Random tables: all types, odd names, nulls, equal values, and the ends of what a type holds."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from datasense_assets_tests.recipes.chooser import Chooser
from datasense_assets_tests.recipes.relation import Relation

KINDS = ("text", "integer", "number", "boolean", "date", "datetime", "time", "json")
ODD_NAMES = (
    "n",
    "Name of the district",
    "it's",
    'a "quoted" name',
    "100%s",
    "%(x)s",
    "ज़िला",
    "😀",
    "ल" * 21,
    "-n",
    "group/question",
    "a]b[c",
    "{0}",
    "x;--",
    "\\",
    "select",
    "N",
    ":x",
    "?",
    "$1",
    "_ds_step_0",
    "_ds_right_0_0",
    "x" * 63,
    " spaced ",
    "a.b",
)
"""The longest are of 63 bytes, PostgreSQL's most."""

TEXTS = (
    "a",
    "b",
    "",
    " ",
    "A",
    "ab",
    " a  b ",
    "a,b,,c",
    "b a",
    "x y z",
    "it's",
    'say "so"',
    "100%",
    "%s",
    "_",
    "ज़िला नमस्ते",
    "😀 ok",
    "É école",
    "été",
    "Straße",
    "Øresund łódź",
    "back\\slash",
    "line\nbreak\ttab",
    "a-b-c",
    "d1 e22",
    "A.B? c!",
    "\u00a0nbsp\u00a0",
    "em\u2003space \u3000١",
)
READABLE = (
    "12",
    "-7",
    " +5 ",
    "007",
    "12.5",
    "-.5",
    "1e3",
    "1,000",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "1e400",
    "1e-400",
    "true",
    "No",
    "YES",
    "f",
    "1",
    "0",
    "2026-01-31",
    "2024-02-29",
    "2023-02-29",
    "1900-02-29",
    "0001-01-01",
    "9999-12-31",
    "2026-01-31T09:30:00",
    "2026-03-29 02:30",
    "2026-01-31T09:30:00.123456Z",
    "2026-01-31 09:30+05:30",
    "31/01/2026",
    "5 Jan 2026",
    "09:30",
    "23:59:59.5",
    "24:00",
    "18:65",
    "08:05:00.000+05:30",
    "12.9716 77.5946 920 4.5",
    "1.5 2",
    "1 x 3 4",
    '{"a": 1, "b": "x", "c": null}',
    '[{"a": 1}, {"a": "2"}, null]',
    "[]",
    "null",
    '"text"',
    "{bad",
    "NaN",
    "Infinity",
)
INTEGERS = (0, 1, 2, 3, -1, 5, 7, 10, 12, 100, 2**31, -(2**31) - 1, 2**53 + 1, 2**63 - 1, -(2**63))
NUMBERS = (0.0, 1.0, 0.5, -1.5, 2.0, 2.25, 10.0, 12.5, -0.0, 100.0, 1e15, 123456.789, 0.3)
EXTREME_NUMBERS = (1e300, -1e300, 5e-324, 1.7976931348623157e308, 0.1, 1 / 3, 2.0**63, -(2.0**63), 1e16, 2.0**50 + 1)
ODD_NUMBERS = (float("nan"), float("inf"), float("-inf"))
DATES = (
    date(2026, 1, 31),
    date(2026, 2, 1),
    date(2024, 2, 29),
    date(2026, 3, 29),
    date(2025, 12, 29),
    date(2027, 1, 3),
    date(1970, 1, 1),
    date(1, 1, 1),
    date(9999, 12, 31),
    date(1900, 3, 1),
)
TIMES = (time(0), time(9, 30), time(23, 59, 59), time(12, 0, 0, 500000), time(23, 59, 59, 999999), time(8, 5, 9))
DATETIMES = (
    datetime(2026, 1, 31, 9, 30, tzinfo=UTC),
    datetime(2026, 3, 29, 0, 59, 59, tzinfo=UTC),
    datetime(2026, 3, 29, 1, 0, tzinfo=UTC),
    datetime(2026, 10, 25, 0, 30, tzinfo=UTC),
    datetime(2026, 10, 25, 1, 30, tzinfo=UTC),
    datetime(2025, 12, 31, 23, 30, 15, 250000, tzinfo=UTC),
    datetime(1970, 1, 1, tzinfo=UTC),
    datetime(2, 1, 1, tzinfo=UTC),
    datetime(9998, 12, 31, 23, 59, 59, tzinfo=UTC),
    datetime(2024, 2, 29, 12, 0, tzinfo=UTC),
)
JSONS: tuple[Any, ...] = (
    {"a": 1, "b": "x"},
    {"a": "2", "b": None, "c": [1, 2]},
    [{"a": 1, "b": "p"}, {"a": "x"}],
    [1, "two", None, {"a": 2.5}],
    [],
    {},
    "text",
    12,
    12.5,
    True,
    None,
    {"a": {"deep": [True]}, "ज़िला": "é", "a b": "2026-01-31"},
    "2026-01-31",
)

POSTGRES = {
    "text": ("text",),
    "integer": ("bigint", "integer", "smallint"),
    "number": ("double precision", "numeric", "real", "numeric(12,3)"),
    "boolean": ("boolean",),
    "date": ("date",),
    "datetime": ("timestamptz",),
    "time": ("time",),
    "json": ("jsonb", "json"),
}


class JsonNull:
    """A JSON null in a cell, which is a value and not SQL's null."""

    def __repr__(self) -> str:
        return "JSON_NULL"


JSON_NULL = JsonNull()


@dataclass(frozen=True)
class Shape:
    """A table as it stands in PostgreSQL: columns as (name, PostgreSQL's type, type of the language)."""

    alias: str
    columns: tuple[tuple[str, str, str], ...]

    @property
    def kinds(self) -> tuple[tuple[str, str], ...]:
        return tuple((name, kind) for name, _, kind in self.columns)


def _shapes() -> tuple[Shape, ...]:
    """Shapes made once, so that their tables are made once: usual types, then what other programs make."""
    dice = random.Random(1)
    shapes = []
    for number in range(6):
        usual = number < 4
        names = list(ODD_NAMES)
        dice.shuffle(names)
        kinds = [*KINDS, "text", "integer", "number"] if usual else [*KINDS, "integer", "integer", "number", "number"]
        dice.shuffle(kinds)
        columns = []
        seen = dict.fromkeys(KINDS, 0)
        for name, kind in zip(names, kinds, strict=False):
            types = POSTGRES[kind]
            seen[kind] += 1
            columns.append((name, types[0] if usual else types[seen[kind] % len(types)], kind))
        shapes.append(Shape(f"t{number}", tuple(columns)))
    first = list(shapes[0].columns)
    wider = {"bigint": ("numeric", "number"), "double precision": ("integer", "integer")}
    shapes.append(Shape("t6", (*reversed(first[2:]), ("only there %", "text", "text"))))
    shapes.append(Shape("t7", tuple((name, *wider.get(pg, (pg, kind))) for name, pg, kind in first)))
    return tuple(shapes)


SHAPES = _shapes()
ALIKE = (SHAPES[0], SHAPES[6], SHAPES[7])
"""Tables that can be put under each other: other columns, another order, integers where the other has numbers."""


def random_value(choose: Chooser, kind: str, today: date, *, pg_type: str = "", wild: bool = True) -> Any:
    """A value, or None; wild ones are at the ends of the type."""
    if choose.chance(15):
        return None
    extreme = wild and choose.chance(12)
    if kind == "text":
        return choose.one(READABLE if choose.chance(35) else TEXTS)
    if kind == "integer":
        limit = {"integer": 2**31, "smallint": 2**15}.get(pg_type, 2**63)
        value = choose.one(INTEGERS) if extreme else choose.between(-3, 6)
        return value if -limit <= value < limit else limit - 1
    if kind == "number":
        if pg_type not in ("", "double precision"):
            return choose.one((0.0, 1.0, 0.5, -1.5, 2.0, 2.25, 10.0))
        if extreme:
            return choose.one(EXTREME_NUMBERS + (ODD_NUMBERS if choose.chance(20) else ()))
        return choose.one(NUMBERS)
    if kind == "boolean":
        return choose.one((False, True))
    if kind == "date":
        return choose.one(DATES) if choose.chance(60) else today - timedelta(days=choose.between(-5, 100))
    if kind == "datetime":
        if choose.chance(60):
            return choose.one(DATETIMES)
        noon = datetime(today.year, today.month, today.day, 12, tzinfo=UTC)
        return noon - timedelta(hours=6 * choose.between(-20, 400))
    if kind == "time":
        return choose.one(TIMES)
    value = choose.one(JSONS)
    return JSON_NULL if value is None else value


def random_rows(choose: Chooser, shape: Shape, today: date, most: int = 9) -> tuple[tuple[Any, ...], ...]:
    """Rows of which some are equal to one before."""
    wild = choose.chance(50)
    rows: list[tuple[Any, ...]] = []
    for _ in range(choose.between(0, most)):
        if rows and choose.chance(15):
            rows.append(choose.one(rows))
            continue
        rows.append(tuple(random_value(choose, kind, today, pg_type=pg, wild=wild) for _, pg, kind in shape.columns))
    return tuple(rows)


def relation_of(shape: Shape, rows: tuple[tuple[Any, ...], ...]) -> Relation:
    return Relation(shape.kinds, rows)


def copied(value: Any, pg_type: str) -> Any:
    """The value as psycopg's COPY takes it."""
    if pg_type in ("json", "jsonb") and value is not None:
        return "null" if value is JSON_NULL else json.dumps(value)
    return value
