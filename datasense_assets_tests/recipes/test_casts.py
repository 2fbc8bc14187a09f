"""What a cast makes of each text, what it counts as lost, and what it will not do."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import date, datetime, time
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasense_assets.recipes.preview import MASK, reason
from datasense_assets_tests.recipes.kitchen import Kitchen, errors_of

INDIA = ZoneInfo("Asia/Kolkata")
LOST = object()
# Python's own reader takes "0001010100" for a day
ISO_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")

READ: dict[str, list[tuple[str, Any]]] = {
    "integer": [
        *[(" 12 ", 12), ("-7", -7), ("+7", 7), ("007", 7), ("9223372036854775807", 2**63 - 1)],
        *[("12.5", LOST), ("12.0", LOST), ("1,200", LOST), ("1e3", LOST), ("n/a", LOST), ("१२", LOST)],
        *[("9223372036854775808", LOST), ("1" * 101, LOST), ("--1", LOST), ("1 2", LOST)],
    ],
    "number": [
        *[("12", 12.0), (" -12.5\t", -12.5), (".5", 0.5), ("5.", 5.0), ("1e3", 1000.0), ("1E-3", 0.001)],
        *[
            ("abc", LOST),
            ("NaN", LOST),
            ("Infinity", LOST),
            ("1e400", LOST),
            ("1.2.3", LOST),
            (".", LOST),
            ("1,5", LOST),
        ],
        *[("1e+100", 1e100), ("-9.5E-307", -9.5e-307), ("9.9e307", 9.9e307), ("1e308", LOST), ("1e-308", LOST)],
        *[("0." + "0" * 29 + "1e-306", LOST), ("9" * 200 + "e99", 1e299), ("." + "0" * 199 + "1e-99", 1e-299)],
        *[("1" * 206, LOST), ("1" * 205, float("1" * 205)), ("5;", LOST), ("1" * 300 + ";", LOST)],
    ],
    "boolean": [
        *[("true", True), (" YES ", True), ("1", True), ("t", True), ("n", False), ("False", False), ("0", False)],
        *[("On", True), ("off", False), ("maybe", LOST), ("2", LOST), ("on off", LOST)],
    ],
    "date": [
        *[("2026-01-31", date(2026, 1, 31)), (" 2024-02-29 ", date(2024, 2, 29)), ("2000-02-29", date(2000, 2, 29))],
        *[("2023-02-29", LOST), ("1900-02-29", LOST), ("2026-04-31", LOST), ("2026-13-01", LOST), ("0000-01-01", LOST)],
        *[("2026-1-1", LOST), ("31/01/2026", LOST), ("2026-01-31T10:00", LOST), ("20260131", LOST), ("today", LOST)],
    ],
    "datetime": [
        ("2026-01-31T10:20:30", datetime(2026, 1, 31, 10, 20, 30, tzinfo=INDIA)),
        ("2026-01-31 10:20", datetime(2026, 1, 31, 10, 20, tzinfo=INDIA)),
        ("2026-01-31", datetime(2026, 1, 31, tzinfo=INDIA)),
        ("2026-01-31T10:20:30.123456Z", datetime(2026, 1, 31, 10, 20, 30, 123456, tzinfo=ZoneInfo("UTC"))),
        ("2026-01-31T10:20:30+0530", datetime(2026, 1, 31, 10, 20, 30, tzinfo=INDIA)),
        *[("2026-01-31T25:00", LOST), ("2026-02-30T10:00", LOST), ("now", LOST), ("2026-01-31T10", LOST)],
    ],
    "time": [
        *[("09:30", time(9, 30)), ("23:59:59.5", time(23, 59, 59, 500000)), ("24:00", LOST), ("9:30", LOST)],
        # As the forms of Kobo and ODK write it.
        *[("08:05:00.000+05:30", time(8, 5)), ("08:05Z", time(8, 5)), ("08:05 -0300", time(8, 5))],
        *[("08:05+15:00", LOST), ("08:05 pm", LOST)],
        *[("23:59:59.9999994", time(23, 59, 59, 999999)), ("23:59:59.9999995", LOST)],
    ],
    "json": [
        *[('{"a": [1, 2.5e3, null, true, "x\\n"]}', {"a": [1, 2500.0, None, True, "x\n"]}), ("[]", []), ("12", 12)],
        *[('"s"', "s"), ('{"a": {"b": [{}]}}', {"a": {"b": [{}]}}), (" [ ] ", [])],
        *[
            ("{a: 1}", LOST),
            ("[1,]", LOST),
            ("[1 2]", LOST),
            ("{'a': 1}", LOST),
            ("nul", LOST),
            ("v", LOST),
            ("[s]", LOST),
        ],
        *[('"\\u0000"', LOST), ('"\\ud800"', LOST), ("01", LOST), ('{"a"}', LOST), ("1e99999", LOST), ("[[]", LOST)],
        *[('"a" "b"', LOST), ("{1: 2}", LOST), ("truefalse", LOST), ("1.5.5", LOST), ("-", LOST), ('"a\x01b"', LOST)],
    ],
    "text": [("  x ", "x"), ("", "")],
}
CELLS = [(to, text, expected) for to, cells in READ.items() for text, expected in cells]


@pytest.mark.parametrize(("to", "text", "expected"), CELLS)
def test_reading_text(kitchen: Kitchen, to: str, text: str, expected: Any) -> None:
    kitchen.table("t", {"s": "text"}, [(text,), (None,), ("   " if to != "text" else None,)])
    cooked = kitchen.cook({"op": "cast", "columns": [{"column": "s", "to": to}]})
    assert cooked.column("s") == [None if expected is LOST else expected, None, None]
    assert type(cooked.column("s")[0]) is type(None if expected is LOST else expected)
    assert kitchen.lost(cooked) == ([] if to == "text" else [("s", int(expected is LOST))])


FORMATS: list[tuple[str, str, str, Any]] = [
    ("date", "%d/%m/%Y", "31/01/2026", date(2026, 1, 31)),
    ("date", "%d/%m/%Y", "1/2/2026", date(2026, 2, 1)),
    ("date", "%d/%m/%Y", "30/02/2026", LOST),
    ("date", "%d/%m/%Y", "2026-01-31", LOST),
    ("date", "%d.%m.%y", "31.01.69", date(1969, 1, 31)),
    ("date", "%d.%m.%y", "31.01.68", date(2068, 1, 31)),
    ("date", "%d %b %Y", "05 JAN 2026", date(2026, 1, 5)),
    ("date", "%B %d, %Y", "december 25, 2026", date(2026, 12, 25)),
    ("date", "%m%%%Y", "02%2026", date(2026, 2, 1)),
    ("datetime", "%d/%m/%Y %I:%M %p", "31/01/2026  12:05 am", datetime(2026, 1, 31, 0, 5, tzinfo=INDIA)),
    ("datetime", "%d/%m/%Y %I:%M %p", "31/01/2026 1:05 PM", datetime(2026, 1, 31, 13, 5, tzinfo=INDIA)),
    (
        "datetime",
        "%Y-%m-%dT%H:%M:%S.%f%z",
        "2026-01-31T10:00:00.25+05:30",
        datetime(2026, 1, 31, 10, 0, 0, 250000, tzinfo=INDIA),
    ),
    ("time", "%H.%M", "9.05", time(9, 5)),
]


@pytest.mark.parametrize(("to", "date_format", "text", "expected"), FORMATS)
def test_reading_dates_by_a_format(kitchen: Kitchen, to: str, date_format: str, text: str, expected: Any) -> None:
    kitchen.table("t", {"s": "text"}, [(text,), (None,)])
    cooked = kitchen.cook({"op": "cast", "columns": [{"column": "s", "to": to, "format": date_format}]})
    assert cooked.column("s") == [None if expected is LOST else expected, None]
    assert kitchen.lost(cooked) == [("s", int(expected is LOST))]


BETWEEN: list[tuple[str, Any, str, Any]] = [
    ("boolean", True, "integer", 1),
    ("boolean", False, "number", 0.0),
    ("boolean", True, "text", "true"),
    ("bigint", 1, "boolean", True),
    ("bigint", 7, "boolean", LOST),
    ("bigint", 7, "number", 7.0),
    ("bigint", 7, "text", "7"),
    ("double precision", 12.0, "integer", 12),
    ("double precision", 12.5, "integer", LOST),
    ("double precision", float("nan"), "integer", LOST),
    ("double precision", 1e300, "integer", LOST),
    ("double precision", 12.0, "text", "12"),
    ("numeric", "12.5", "number", 12.5),
    ("numeric", "12.5", "integer", LOST),
    ("date", date(2026, 1, 31), "text", "2026-01-31"),
    ("date", date(2026, 1, 31), "datetime", datetime(2026, 1, 31, tzinfo=INDIA)),
    ("timestamptz", datetime(2026, 1, 31, 1, tzinfo=INDIA), "date", date(2026, 1, 31)),
    ("timestamptz", datetime(2026, 1, 31, 1, tzinfo=INDIA), "time", time(1, 0)),
    ("jsonb", '"x"', "text", "x"),
    ("jsonb", '{"a": 1}', "text", '{"a": 1}'),
    ("jsonb", "12", "integer", 12),
    ("jsonb", "null", "text", None),
    ("bigint", 7, "json", 7),
    ("date", date(2026, 1, 31), "json", "2026-01-31"),
]


@pytest.mark.parametrize(("pg_type", "value", "to", "expected"), BETWEEN)
def test_casts_between_other_types(kitchen: Kitchen, pg_type: str, value: Any, to: str, expected: Any) -> None:
    kitchen.table("t", {"v": pg_type}, [(value,), (None,)])
    cooked = kitchen.cook({"op": "cast", "columns": [{"column": "v", "to": to}]})
    assert cooked.column("v") == [None if expected is LOST else expected, None]
    assert all(count == int(expected is LOST) for _, count in kitchen.lost(cooked))


def test_on_error_fail_names_the_column_and_passes_good_rows(kitchen: Kitchen) -> None:
    step = {"op": "cast", "columns": [{"column": "s", "to": "integer", "on_error": "fail"}]}
    kitchen.table("t", {"s": "text"}, [("1",), (None,), (" ",)])
    assert kitchen.cook(step).column("s") == [1, None, None]
    kitchen.table("t", {"s": "text"}, [("1",), ("one",)])
    with pytest.raises(psycopg.DataError, match="column 's' cannot be read as integer: one"):
        kitchen.cook(step)


@pytest.mark.parametrize("to", ["integer", "number", "boolean", "date", "datetime", "time", "json"])
def test_on_error_fail_says_what_cannot_be_read_as_any_type(kitchen: Kitchen, to: str) -> None:
    ref = kitchen.table("t", {"s": "text"}, [('"%s" one',)])
    with pytest.raises(psycopg.DataError) as caught:
        kitchen.cook({"op": "cast", "columns": [{"column": "s", "to": to, "on_error": "fail"}]})
    assert reason(caught.value, [ref]) == f"column 's' cannot be read as {to}: \"%s\" one"
    personal = replace(ref, personal=frozenset({"s"}))
    assert reason(caught.value, [personal]) == f"column 's' cannot be read as {to}: {MASK}"


@pytest.mark.parametrize(
    ("item", "code", "place"),
    [
        ({"column": "d", "to": "number"}, "type_mismatch", "to"),
        ({"column": "n", "to": "date"}, "type_mismatch", "to"),
        ({"column": "n", "to": "int"}, "invalid_value", "to"),
        ({"column": "s", "to": "integer", "format": "%d"}, "invalid_value", "format"),
        ({"column": "d", "to": "date", "format": "%d/%m/%Y"}, "invalid_value", "format"),
        ({"column": "s", "to": "date", "format": "%Q"}, "bad_pattern", "format"),
        ({"column": "s", "to": "date", "format": "%d/%m"}, "bad_pattern", "format"),
        ({"column": "s", "to": "date", "format": "%d/%Y"}, "bad_pattern", "format"),
        ({"column": "s", "to": "datetime", "format": "%Y-%m-%d %I"}, "bad_pattern", "format"),
        ({"column": "s", "to": "date", "format": "%Y%Y"}, "bad_pattern", "format"),
    ],
)
def test_casts_that_are_refused(item: dict[str, Any], code: str, place: str) -> None:
    found = errors_of([{"op": "cast", "columns": [item]}])
    assert [(e.code, e.path) for e in found] == [(code, f"steps[0].columns[0].{place}")]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\x00")), max_size=30))
def test_no_text_makes_a_cast_fail(recipe_connection: psycopg.Connection, texts: list[str]) -> None:
    _cast_all(recipe_connection, texts)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(alphabet='0123456789-+.:TZ eE{}[],"\\utruefalsn', max_size=25), max_size=40))
def test_no_near_miss_makes_a_cast_fail(recipe_connection: psycopg.Connection, texts: list[str]) -> None:
    _cast_all(recipe_connection, texts)


def _cast_all(connection: psycopg.Connection, texts: list[str]) -> None:
    """All texts cast to all types at once; what Python reads without doubt has to come out."""
    kitchen = Kitchen(connection)
    connection.execute('CREATE SCHEMA "org ""x"" %s"')
    try:
        kitchen.table("t", dict.fromkeys(READ, "text") | {"raw": "text"}, [(text,) * (len(READ) + 1) for text in texts])
        cooked = kitchen.cook({"op": "cast", "columns": [{"column": to, "to": to} for to in READ]})
        assert len(cooked.rows) == len(texts)
        for raw, value in zip(cooked.column("raw"), cooked.column("integer"), strict=True):
            plain = raw.strip(" \t\n\r\v\f")
            if plain.isascii() and plain.isdigit() and len(plain) < 19:
                assert value == int(plain)
            else:
                assert value is None or plain[:1] in "+-" or len(plain) >= 19
        for raw, value in zip(cooked.column("raw"), cooked.column("date"), strict=True):
            assert value == _or_none(lambda text: date.fromisoformat(text) if ISO_DATE.fullmatch(text) else None, raw)
        for raw, value in zip(cooked.column("raw"), cooked.column("json"), strict=True):
            assert value is None or json.loads(raw) is not None
    finally:
        connection.rollback()


def _or_none(read: Callable[[str], Any], raw: str) -> Any:
    try:
        return read(raw.strip(" \t\n\r\v\f"))
    except ValueError:
        return None


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**9), 10**9)
    | st.floats(-1e6, 1e6)
    | st.text('aé😀"\\/\n\t sv', max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('ab"\\ sv', max_size=3), inner, max_size=3),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None)
@given(st.lists(JSON_VALUES, max_size=20), st.booleans())
def test_every_json_text_is_read(recipe_connection: psycopg.Connection, values: list[Any], escaped: bool) -> None:
    kitchen = Kitchen(recipe_connection)
    recipe_connection.execute('CREATE SCHEMA "org ""x"" %s"')
    try:
        kitchen.table("t", {"j": "text"}, [(json.dumps(value, ensure_ascii=escaped),) for value in values])
        assert kitchen.cook({"op": "cast", "columns": [{"column": "j", "to": "json"}]}).column("j") == values
    finally:
        recipe_connection.rollback()
