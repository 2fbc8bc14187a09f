"""What formulas give, run on PostgreSQL."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from typing import Any

import pytest
from psycopg.types.json import Jsonb

from datasense_assets.recipes.compiling.statement import select_statement
from datasense_assets.recipes.formula import parse_formula
from datasense_assets.recipes.formula.functions import BY_NAME, FUNCTIONS
from datasense_assets.recipes.formula.reference import function_reference, operator_reference
from datasense_assets_tests.recipes.formula_database import FormulaDatabase, formula_database


@pytest.fixture(scope="module")
def connected(server_url: str) -> Iterator[FormulaDatabase]:
    with formula_database(server_url) as opened:
        yield opened


@pytest.fixture
def database(connected: FormulaDatabase) -> FormulaDatabase:
    connected.fill({"nothing": "integer"}, [[None]])
    return connected


@pytest.fixture(scope="module")
def nairobi(server_url: str) -> Iterator[FormulaDatabase]:
    with formula_database(server_url, "Africa/Nairobi") as opened:
        yield opened


EXAMPLES = [example for row in function_reference() for example in row.examples] + [
    example for row in operator_reference() for example in row.examples
]


@pytest.mark.parametrize(("formula", "result"), EXAMPLES, ids=[formula for formula, _ in EXAMPLES])
def test_each_documented_example_gives_what_the_documentation_says(
    database: FormulaDatabase, formula: str, result: str | None
) -> None:
    assert database.one(f"text({formula})") == result


def test_every_function_has_an_example_or_takes_json() -> None:
    without = {row.name for row in FUNCTIONS if not row.examples}
    assert without == {"json_field"}


def test_names_and_aliases_are_unique() -> None:
    assert len(BY_NAME) == sum(1 + len(row.aliases) for row in FUNCTIONS)


ARGUMENTS = {
    "text": "s",
    "integer": "i",
    "number": "n",
    "boolean": "b",
    "date": "d",
    "datetime": "ts",
    "time": "tm",
    "json": "j",
}
NULLS_ALLOWED = {
    "if", "case", "coalesce", "is_null", "is_blank", "min", "max", "concat",
}  # fmt: skip
"""Functions that give a value for a row of nulls, or may."""


@pytest.mark.parametrize("row", [row for row in FUNCTIONS if row.parameters], ids=lambda row: row.name)
def test_a_row_of_nulls_gives_null_or_what_is_meant_for_nulls(database: FormulaDatabase, row: Any) -> None:
    database.fill({name: kind for kind, name in ARGUMENTS.items()}, [[None] * len(ARGUMENTS)])
    count = len(row.parameters)
    for kind in sorted(row.parameters[-1].kinds or row.parameters[0].kinds):
        arguments = []
        for index in range(count):
            parameter = row.parameter(index, count)
            if parameter.choices:
                arguments.append("'month'")
            elif kind in parameter.kinds:
                arguments.append(ARGUMENTS[kind])
            else:
                arguments.append(ARGUMENTS[min(parameter.kinds)])
        result = database.one(f"{row.name}({', '.join(arguments)})")
        if row.name not in NULLS_ALLOWED:
            assert result is None


@pytest.mark.parametrize(
    ("formula", "result"),
    [
        ("is_null(s)", True),
        ("is_blank(s)", True),
        ("is_blank(n)", True),
        ("if(b, 1, 2)", 2),
        ("case(b, 1, not b, 2)", None),
        ("coalesce(n, i, 3)", 3.0),
        ("min(i, 3, n)", 3.0),
        ("concat(s, 'x', i, d)", "x"),
        ("concat(s)", ""),
        ("s = 'a'", None),
        ("b and false", False),
        ("b or true", True),
        ("not b", None),
        ("i + 1", None),
        ("n ^ 0", None),
        ("-i", None),
        ("number(null) = n", None),
        ("text(null) <> s", None),
        ("text(null) = 'a'", None),
        ("boolean(null) = true", None),
        ("one_of(s, 'a', null)", None),
        ("between(1, null, 2)", None),
        ("nullif(s, 'a')", None),
    ],
)
def test_nulls_are_treated_as_documented(database: FormulaDatabase, formula: str, result: Any) -> None:
    database.fill({name: kind for kind, name in ARGUMENTS.items()}, [[None] * len(ARGUMENTS)])
    assert database.one(formula) == result


@pytest.mark.parametrize(
    ("formula", "result"),
    [
        ("7 / 2", 3.5),
        ("6 / 3", 2.0),
        ("1 / 0", None),
        ("1 / 0.0", None),
        ("0 / 0", None),
        ("7 % 0", None),
        ("7.5 % 2", 1.5),
        ("-7 % 3", 2),
        ("7 % -3", -2),
        ("-7.5 % 2", 0.5),
        ("2 ^ 10", 1024.0),
        ("2 ^ 0.5", pytest.approx(1.4142135623730951)),
        ("-8 ^ 3", -512.0),
        ("0 ^ 0", 1.0),
        ("0 ^ -1", None),
        ("0.0 ^ 2", 0.0),
        ("10 ^ 400", None),
        ("10 ^ -400", 0.0),
        ("(-8) ^ (1/3)", None),
        ("1 + 2 * 3 ^ 2", 19.0),
        ("(1 + 2) * 3", 9),
        ("10 - 2 - 3", 5),
        ("100 / 10 / 2", 5.0),
        ("9223372036854775807 + 1", None),
        ("9223372036854775807 + 1 - 1", 9223372036854775807),
        ("-9223372036854775808", -9223372036854775808),
        ("abs(-9223372036854775808)", None),
        ("5000000000 * 5000000000", None),
        ("5000000000 * 5000000000 % 7", 5000000000 * 5000000000 % 7),
        ("2000000000 + 2000000000", 4000000000),
        ("0.1 + 0.2", 0.1 + 0.2),
        ("1e3 + .5", 1000.5),
        ("5. * 2", 10.0),
        ("+3 - -3", 6),
        ("floor(9007199254740991.0)", 9007199254740991),
        ("floor(1e300)", None),
        ("round(2.5)", 3.0),
        ("round(-2.5)", -3.0),
        ("round(1234.5678, 2)", 1234.57),
        ("round(1.005 * 100)", 101.0),
        ("round(1234567890123456.0)", 1234567890123456.0),
        ("round(1234567890123456)", 1234567890123456.0),
        ("round(12345678901234.56, 2)", 12345678901234.56),
        ("round(1234567890123.455, 2)", 1234567890123.46),
        ("round(4503599627370497.0, 3)", 4503599627370497.0),
        ("round(-2251799813685249.5)", -2251799813685250.0),
        ("round(1234567890123456.0, -1)", 1234567890123460.0),
        ("1234567890123456.0 % 10.0", 6.0),
        ("-1234567890123456.0 % 7", (-1234567890123456) % 7.0),
        ("7.5 % 1234567890123456.0", 7.5),
        ("round(1, 99)", None),
        ("sqrt(0)", 0.0),
        ("sqrt(-0.0000001)", None),
        ("exp(1000)", None),
        ("exp(-1000)", 0.0),
        ("ln(-1)", None),
        ("log(100, 10)", 2.0),
        ("log(0)", None),
        ("log(8, 1)", None),
        ("log(-8, 2)", None),
        ("sign(0)", 0),
        ("trunc(-1.5)", -1),
        ("min(1, 2.5)", 1.0),
        ("min('b', 'a')", "a"),
        ("max(1, 2, 3)", 3),
        ("max(date('2026-01-01'), date('2026-02-01'))", dt.date(2026, 2, 1)),
    ],
)
def test_numbers(database: FormulaDatabase, formula: str, result: Any) -> None:
    assert database.one(formula) == result


def test_a_number_beyond_what_can_be_computed_does_not_fail_the_other_rows(database: FormulaDatabase) -> None:
    extremes = [0.0, -1.0, 1.7e308, -1.7e308, 5e-324, float("nan"), float("inf"), float("-inf"), None]
    database.fill({"n": "number"}, [[value] for value in extremes])
    unary = [
        "sqrt(n)",
        "ln(n)",
        "log(n)",
        "log(n, 2)",
        "exp(n)",
        "floor(n)",
        "ceil(n)",
        "trunc(n)",
        "integer(n)",
        "sign(n)",
    ]
    for formula in [
        *unary,
        "round(n)",
        "n ^ 2",
        "n ^ -0.5",
        "n ^ n",
        "2 ^ n",
        "n % 3",
        "3 % n",
        "mod(n, n)",
        "text(n)",
    ]:
        assert len(database.column(formula)) == len(extremes), formula


def test_an_integer_beyond_64_bits_is_null_and_the_other_rows_stay(database: FormulaDatabase) -> None:
    database.fill({"i": "integer"}, [[2**63 - 1], [-(2**63)], [2], [None]])
    assert database.column("i * i") == [None, None, 4, None]
    assert database.column("-i") == [-(2**63) + 1, None, -2, None]
    assert database.column("i + i - i") == [2**63 - 1, -(2**63), 2, None]
    assert database.column("i % 10") == [7, 2, 2, None]
    assert database.column("i / 0") == [None, None, None, None]


@pytest.mark.parametrize(
    ("formula", "result"),
    [
        ("'it''s' ", "it's"),
        ('"say ""hi"""', 'say "hi"'),
        ("'a\"b'", 'a"b'),
        ("'back\\slash %s :x {y} $1 \n next'", "back\\slash %s :x {y} $1 \n next"),
        ("left('नमस्ते', 2)", "नम"),
        ("left('abc', 0)", ""),
        ("left('abc', 99)", "abc"),
        ("left('abc', -1)", None),
        ("left('abc', 99999999999)", "abc"),
        ("right('abc', 2)", "bc"),
        ("right('abc', -1)", None),
        ("mid('abc', 2, 99)", "bc"),
        ("mid('abc', 0, 2)", None),
        ("mid('abc', 9, 2)", ""),
        ("length('')", 0),
        ("replace('aaa', 'a', '')", ""),
        ("replace('a.b', '.', '%')", "a%b"),
        ("substitute('a', 'a', 'b')", "b"),
        ("contains('abc', 'B')", False),
        ("contains('a_c', '_')", True),
        ("contains('abc', '_')", False),
        ("starts_with('%a', '%')", True),
        ("ends_with('abc', '')", True),
        ("trim('\t a \n')", "a"),
        ("pad_left('12345', 3)", "12345"),
        ("pad_left('1', 9999)", None),
        ("pad_left('1', 3, ' ')", "  1"),
        ("concat('a', 1, 1.5, true, date('2026-01-02'))", "a11.5true2026-01-02"),
        ("UPPER('a')", "A"),
        ("split('a//b', '/', 2)", None),
        ("one_of('a', 'b', 'c')", False),
        ("between('b', 'a', 'c')", True),
        ("'a' < 'b'", True),
        ("'a' = 'A'", False),
    ],
)
def test_text(database: FormulaDatabase, formula: str, result: Any) -> None:
    assert database.one(formula) == result


@pytest.mark.parametrize(
    ("text", "integer", "number", "boolean"),
    [
        ("12", 12, 12.0, None),
        (" -12\t", -12, -12.0, None),
        ("+7", 7, 7.0, None),
        ("007", 7, 7.0, None),
        ("12.5", None, 12.5, None),
        ("12.0", None, 12.0, None),
        (".5", None, 0.5, None),
        ("5.", None, 5.0, None),
        ("1e3", None, 1000.0, None),
        ("1.5E-3", None, 0.0015, None),
        ("1e305", None, 1e305, None),
        ("9e999", None, None, None),
        ("1,000", None, None, None),
        ("12 apples", None, None, None),
        ("", None, None, None),
        ("१२", None, None, None),
        ("NaN", None, None, None),
        ("Infinity", None, None, None),
        ("9223372036854775807", 2**63 - 1, float(2**63), None),
        ("9223372036854775808", None, float(2**63), None),
        ("9" * 300, None, None, None),
        ("9" * 400, None, None, None),
        ("9" * 200 + "e99", None, 1e299, None),
        ("5;", None, None, None),
        ("1" * 206, None, None, None),
        ("9.9e307", None, 9.9e307, None),
        ("0." + "0" * 29 + "1e-306", None, None, None),
        ("1\n2", None, None, None),
        ("12\n", 12, 12.0, None),
        ("0x10", None, None, None),
        ("1", 1, 1.0, True),
        ("0", 0, 0.0, False),
        ("Yes", None, None, True),
        (" TRUE ", None, None, True),
        ("off", None, None, False),
        ("of", None, None, None),
        ("maybe", None, None, None),
        (None, None, None, None),
    ],
)
def test_reading_numbers_and_booleans_from_text(
    database: FormulaDatabase, text: str | None, integer: int | None, number: float | None, boolean: bool | None
) -> None:
    database.fill({"s": "text"}, [[text]])
    assert database.one("integer(s)") == integer
    assert database.one("number(s)") == number
    assert database.one("boolean(s)") == boolean


@pytest.mark.parametrize(
    ("text", "date", "datetime"),
    [
        ("2026-03-09", dt.date(2026, 3, 9), "2026-03-09T00:00:00+00:00"),
        (" 2024-02-29 ", dt.date(2024, 2, 29), "2024-02-29T00:00:00+00:00"),
        ("2000-02-29", dt.date(2000, 2, 29), "2000-02-29T00:00:00+00:00"),
        ("1900-02-29", None, None),
        ("2023-02-29", None, None),
        ("2026-04-31", None, None),
        ("2026-13-01", None, None),
        ("0000-01-01", None, None),
        ("0000-02-29", None, None),
        ("2026-3-9", None, None),
        ("09/03/2026", None, None),
        ("2026-03-09T18:05", None, "2026-03-09T18:05:00+00:00"),
        ("2026-03-09 18:05:01.250", None, "2026-03-09T18:05:01.250000+00:00"),
        ("2026-03-09T18:05:00+05:30", None, "2026-03-09T12:35:00+00:00"),
        ("2026-03-09T18:05:00Z", None, "2026-03-09T18:05:00+00:00"),
        ("2026-03-09T18:05:00.000+0300", None, "2026-03-09T15:05:00+00:00"),
        ("2026-03-09T24:00", None, None),
        ("2026-03-09T23:60", None, None),
        ("2026-02-30T10:00", None, None),
        ("infinity", None, None),
        ("today", None, None),
        ("", None, None),
        (None, None, None),
    ],
)
def test_reading_dates_from_text(
    database: FormulaDatabase, text: str | None, date: dt.date | None, datetime: str | None
) -> None:
    database.fill({"s": "text"}, [[text]])
    assert database.one("date(s)") == date
    moment = database.one("datetime(s)")
    assert (moment and moment.astimezone(dt.UTC).isoformat()) == datetime


def test_every_day_of_four_centuries_is_read_and_no_other(database: FormulaDatabase) -> None:
    database.fill({"s": "text"}, [])
    database.connection.execute(
        "INSERT INTO t (s) SELECT lpad(y::text, 4, '0') || '-' || lpad(m::text, 2, '0') || '-' || lpad(d::text, 2, '0')"
        " FROM generate_series(1, 2101, 5) y, generate_series(0, 13) m, generate_series(0, 32) d"
        " UNION SELECT lpad(y::text, 4, '0') || '-02-' || d FROM generate_series(1, 9999) y, generate_series(28, 30) d"
    )
    texts = database.column("s")
    for text, read in zip(texts, database.column("date(s)"), strict=True):
        try:
            expected = dt.date.fromisoformat(text)
        except ValueError:
            expected = None
        assert read == expected, text


@pytest.mark.parametrize(
    ("formula", "result"),
    [
        ("year(d)", 2026),
        ("quarter(d)", 3),
        ("week(d)", 29),
        ("weekday(date('2026-03-08'))", 7),
        ("hour(ts)", 22),
        ("minute(ts)", 59),
        ("second(ts)", 58),
        ("hour(tm)", 8),
        ("date(ts)", dt.date(2026, 7, 15)),
        ("time(ts)", dt.time(22, 59, 58)),
        ("text(ts)", "2026-07-15 22:59:58"),
        ("text(tm)", "08:05:00"),
        ("datetime(text(ts)) = ts", True),
        ("date_diff(d, date('2026-07-18'), 'days')", 3),
        ("date_diff(date('2026-07-18'), d, 'day')", -3),
        ("date_diff(d, date('2026-07-28'), 'week')", 1),
        ("date_diff(date('2026-01-31'), date('2026-02-28'), 'month')", 0),
        ("date_diff(date('2025-01-31'), d, 'month')", 17),
        ("date_diff(date('2025-01-31'), d, 'quarter')", 5),
        ("date_diff(date('2000-07-16'), d, 'year')", 25),
        ("date_diff(date('2000-07-15'), d, 'year')", 26),
        ("date_diff(ts, datetime('2026-07-16 01:00'), 'hour')", 2),
        ("date_diff(ts, datetime('2026-07-16 00:00'), 'minute')", 60),
        ("date_diff(ts, datetime('2026-07-16 22:59:57'), 'day')", 0),
        ("date_diff(ts, datetime('2026-07-16 22:59:58'), 'day')", 1),
        ("date_add(d, 1)", dt.date(2026, 7, 16)),
        ("date_add(d, -1, 'year')", dt.date(2025, 7, 15)),
        ("date_add(date('2024-02-29'), 1, 'year')", dt.date(2025, 2, 28)),
        ("date_add(d, 2, 'quarter')", dt.date(2027, 1, 15)),
        ("date_add(d, 2, 'weeks')", dt.date(2026, 7, 29)),
        ("date_add(d, 999999999999)", None),
        ("hour(date_add(ts, 2, 'hour'))", 0),
        ("date_diff(ts, date_add(ts, 90, 'second'), 'second')", 90),
        ("date_diff(ts, date_add(ts, 2147483648, 'second'), 'second')", 2**31),
        ("date_add(ts, 999999999999, 'second')", None),
        ("start_of(d, 'month')", dt.date(2026, 7, 1)),
        ("start_of(d, 'week')", dt.date(2026, 7, 13)),
        ("start_of(ts, 'year')", dt.date(2026, 1, 1)),
        ("start_of(ts, 'day')", dt.date(2026, 7, 15)),
        ("date_of(2026, 7, 15) = d", True),
        ("date_of(2026, 13, 1)", None),
        ("date_of(12026, 1, 1)", None),
        ("date_of(-5, 1, 1)", None),
        ("date_of(5, 1, 1)", dt.date(5, 1, 1)),
        ("d > date('2026-01-01')", True),
        ("datetime(d) < ts", True),
        ("time('09:00') > tm", True),
        ("between(d, date('2026-01-01'), date('2026-12-31'))", True),
    ],
)
def test_dates_in_the_session_zone(nairobi: FormulaDatabase, formula: str, result: Any) -> None:
    moment = dt.datetime(2026, 7, 15, 19, 59, 58, tzinfo=dt.UTC)
    columns = {"d": "date", "ts": "datetime", "tm": "time"}
    nairobi.fill(columns, [[dt.date(2026, 7, 15), moment, dt.time(8, 5)]])
    assert nairobi.one(formula) == result


def test_a_day_of_23_hours_counts_as_a_day(server_url: str) -> None:
    with formula_database(server_url, "Europe/Madrid") as madrid:
        assert madrid.one("date_diff(date('2026-03-28'), date('2026-03-30'))") == 2
        assert madrid.one("date_add(date('2026-03-28'), 2)") == dt.date(2026, 3, 30)
        assert madrid.one("date_diff(datetime('2026-03-29 00:00'), datetime('2026-03-29 12:00'), 'hour')") == 11
        assert madrid.one("date_diff(datetime('2026-03-28 12:00'), datetime('2026-03-29 12:00'), 'day')") == 1
        assert madrid.one("date_diff(datetime('2026-03-29 12:00'), datetime('2026-03-22 12:00'), 'week')") == -1
        assert madrid.one("date_diff(datetime('2026-10-24 12:00'), datetime('2026-10-25 11:30'))") == 0


@pytest.mark.parametrize(
    ("formula", "result"),
    [
        ("text(j)", ["plain", '{"a": {"b": 1}, "c": "x"}', "[1, 2]", None, None]),
        ("json_field(j, 'c')", [None, "x", None, None, None]),
        ("json_field(j, 'a')", [None, '{"b": 1}', None, None, None]),
        ("is_null(j)", [False, False, False, False, True]),
        ("length(text(coalesce(j, null)))", [5, 25, 6, None, None]),
        ("text(if(true, j, null))", ["plain", '{"a": {"b": 1}, "c": "x"}', "[1, 2]", None, None]),
    ],
)
def test_json(database: FormulaDatabase, formula: str, result: list[Any]) -> None:
    values = ["plain", {"a": {"b": 1}, "c": "x"}, [1, 2], None]
    rows = [[Jsonb(value, dumps=json.dumps)] for value in values]
    database.fill({"j": "json"}, [*rows, [None]])
    assert database.column(formula) == result


def test_conversions_between_numbers_and_booleans(database: FormulaDatabase) -> None:
    database.fill({"b": "boolean", "n": "number"}, [[True, 12.0], [False, 12.5], [None, None]])
    assert database.column("integer(b)") == [1, 0, None]
    assert database.column("number(b)") == [1.0, 0.0, None]
    assert database.column("integer(n)") == [12, None, None]
    assert database.column("boolean(n)") == [True, True, None]
    assert database.column("text(n)") == ["12", "12.5", None]
    assert database.column("text(b)") == ["true", "false", None]


@pytest.mark.parametrize(
    ("formula", "kind"),
    [
        ("1", "integer"),
        ("1 + 1", "integer"),
        ("1 + 1.0", "number"),
        ("4 / 2", "number"),
        ("2 ^ 2", "number"),
        ("round(1.5)", "number"),
        ("floor(1.5)", "integer"),
        ("if(true, 1, 2.5)", "number"),
        ("length('a')", "integer"),
        ("year(today())", "integer"),
        ("today()", "date"),
        ("now()", "datetime"),
        ("start_of(now(), 'month')", "date"),
        ("date_add(now(), 1)", "datetime"),
        ("time('10:00')", "time"),
        ("'a'", "text"),
        ("text(null)", "text"),
        ("1 < 2", "boolean"),
        ("nullif(1, 2)", "integer"),
    ],
)
def test_the_type_that_is_promised_is_the_type_that_comes(database: FormulaDatabase, formula: str, kind: str) -> None:
    assert parse_formula(formula).result_type({}) == kind
    declared = {"integer": int, "number": float, "text": str, "boolean": bool, "date": dt.date, "datetime": dt.datetime}
    result = database.one(formula)
    if result is not None and kind in declared:
        assert type(result) is declared[kind]


def test_columns_of_any_width_come_as_the_type_of_their_kind(database: FormulaDatabase) -> None:
    import ibis

    database.connection.execute("DROP TABLE IF EXISTS w")
    database.connection.execute(
        "CREATE TEMP TABLE w AS SELECT 30000::smallint AS small, 2000000000::int AS middle,"
        " 1.10::numeric(10,2) AS exact, 1.5::real AS short, timestamp '2026-01-01 10:00' AS local,"
        " 'abc'::varchar(5) AS narrow"
    )
    table = ibis.table(
        {
            "small": "int16",
            "middle": "int32",
            "exact": "decimal(10, 2)",
            "short": "float32",
            "local": "timestamp(6)",
            "narrow": "string",
        },
        name="w",
    )
    for formula, expected in {
        "small * small": 900_000_000,
        "middle + middle": 4_000_000_000,
        "exact * 3": 1.1 * 3,
        "short + exact": 2.6,
        "hour(local)": 10,
        "max(small, exact)": 30000.0,
        "length(narrow)": 3,
    }.items():
        value = parse_formula(formula).compile({name: table[name] for name in table.columns})
        query = select_statement(table.select(x=value), {})
        assert database.connection.execute(query.encode()).fetchone() == (pytest.approx(expected),)
