"""Compiling formulas: errors of names and types, all at once; limits; and arithmetic held against Python's."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterator
from typing import Any

import ibis
import pytest
import sqlglot
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from datasense_assets.recipes.compiling.statement import select_statement
from datasense_assets.recipes.formula import FormulaErrors, parse_formula
from datasense_assets.recipes.formula.calls import FOREIGN_FUNCTIONS
from datasense_assets.recipes.formula.errors import CODES
from datasense_assets.recipes.formula.functions import BY_NAME, FUNCTIONS
from datasense_assets.recipes.formula.signatures import Parameter
from datasense_assets_tests.at_length import DEEP, examples
from datasense_assets_tests.recipes.formula_database import FormulaDatabase, formula_database
from datasense_assets_tests.recipes.reference_casts import as_decimal

TABLE = ibis.table(
    {
        "i": "int64",
        "n": "float64",
        "s": "string",
        "b": "boolean",
        "d": "date",
        "ts": "timestamp('UTC')",
        "tm": "time",
        "j": "json",
        "list": "array<int64>",
        "First name": "string",
        "household/age": "int64",
    },
    name="t",
)
COLUMNS = {name: TABLE[name] for name in TABLE.columns}


def problems(formula: str) -> list[tuple[str, str, str | None]]:
    """(code, the text it points at, suggestion) of each error."""
    with pytest.raises(FormulaErrors) as caught:
        parse_formula(formula).compile(COLUMNS)
    return [
        (error.code, formula[error.position : error.position + error.length], error.suggestion)
        for error in caught.value.errors
    ]


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        ("s + 'x'", [("type_mismatch", "s", "concat(s, 'x')")]),
        ("i + s", [("type_mismatch", "s", "concat(i, s)")]),
        ("i and b", [("type_mismatch", "i", "i > 0")]),
        ("b or (n + 1)", [("type_mismatch", "n + 1", "n + 1 > 0")]),
        ("not i", [("type_mismatch", "i", "i > 0")]),
        ("i = '5'", [("type_mismatch", "i = '5'", "5")]),
        ("i = 'x'", [("type_mismatch", "i = 'x'", None)]),
        ("n < s", [("type_mismatch", "n < s", "number(s)")]),
        ("d > '2026-01-01'", [("type_mismatch", "d > '2026-01-01'", "date('2026-01-01')")]),
        ("d = ts", [("type_mismatch", "d = ts", "date(ts)")]),
        ("b > b", [("type_mismatch", "b > b", None)]),
        ("j = j", [("type_mismatch", "j = j", None)]),
        ("i = null", [("type_mismatch", "i = null", "is_null(i)")]),
        ("null <> s", [("type_mismatch", "null <> s", "not is_null(s)")]),
        ("-s", [("type_mismatch", "s", "number(s)")]),
        ("b * 2", [("type_mismatch", "b", "if(b, 1, 0)")]),
        ("d + 7", [("type_mismatch", "d", "date_add(d, 1, 'day')")]),
        ("d - d", [("type_mismatch", "d", "date_diff(d, d, 'day')")]),
        ("1 + 2 + s", [("type_mismatch", "s", "concat(1 + 2, s)")]),
        ("firstname", [("unknown_column", "firstname", "First name")]),
        ("[first name]", [("unknown_column", "[first name]", "First name")]),
        ("age + 1", [("unknown_column", "age", "household/age")]),
        ("I", [("unknown_column", "I", "i")]),
        ("zebra", [("unknown_column", "zebra", None)]),
        ("year", [("unknown_column", "year", None)]),
        ("list", [("type_mismatch", "list", None)]),
        ("roud(n)", [("unknown_function", "roud", "round")]),
        ("SUM(n)", [("unknown_function", "SUM", "+")]),
        ("n(2)", [("unknown_function", "n", None)]),
        ("left(s)", [("wrong_arguments", "left(s)", None)]),
        ("today(1)", [("wrong_arguments", "today(1)", None)]),
        ("case(b)", [("wrong_arguments", "case(b)", None)]),
        ("left(s, 1.5)", [("type_mismatch", "1.5", "trunc(1.5)")]),
        ("upper(i)", [("type_mismatch", "i", "text(i)")]),
        ("if(i, 1, 2)", [("type_mismatch", "i", "i > 0")]),
        ("if(b, 1, 'x')", [("type_mismatch", "'x'", "text(1)")]),
        ("case(b, 1, i, 2)", [("type_mismatch", "i", "i > 0")]),
        ("date_diff(d, ts)", [("type_mismatch", "ts", "date(ts)")]),
        ("date_diff(d, d, 'dya')", [("invalid_value", "'dya'", "'day'")]),
        ("date_diff(d, d, s)", [("invalid_value", "s", None)]),
        ("date_diff(d, d, 'hour')", [("invalid_value", "'hour'", None)]),
        ("99999999999999999999", [("invalid_value", "99999999999999999999", "99999999999999999999.0")]),
        ("1e999", [("invalid_value", "1e999", None)]),
        ("null", [("type_mismatch", "null", None)]),
        ("max(null)", [("type_mismatch", "max(null)", None)]),
        (
            "if(s, colour + 1, roud(n)) + 'x'",
            [
                ("type_mismatch", "s", "boolean(s)"),
                ("unknown_column", "colour", None),
                ("unknown_function", "roud", "round"),
            ],
        ),
        ("zebra + zebra", [("unknown_column", "zebra", None), ("unknown_column", "zebra", None)]),
    ],
)
def test_each_mistake_is_named_once_with_what_to_write(
    formula: str, expected: list[tuple[str, str, str | None]]
) -> None:
    found = problems(formula)
    if len(expected) > 1 and "if(" in formula:
        found = found[: len(expected)]
    assert found == expected


@pytest.mark.parametrize("name", sorted(FOREIGN_FUNCTIONS))
def test_a_function_of_another_language_gets_a_hint_and_is_none_of_ours(name: str) -> None:
    assert name not in BY_NAME
    [(code, _, suggestion)] = problems(f"{name}(i)")
    assert (code, suggestion) == ("unknown_function", FOREIGN_FUNCTIONS[name][0])


def test_null_stands_for_any_type() -> None:
    for row in FUNCTIONS:
        arguments = ["'month'" if parameter.choices else "null" for parameter in row.parameters]
        try:
            parse_formula(f"{row.name}({', '.join(arguments)})").compile({})
        except FormulaErrors as caught:
            [error] = caught.errors
            assert "always null" in error.message, row.name


def test_names_of_columns_do_not_become_sql() -> None:
    name = 'x"; DROP TABLE t; --'
    table = ibis.table({name: "int64"}, name="t")
    value = parse_formula(f"[{name}] + 1").compile({name: table[name]})
    [statement] = sqlglot.parse(select_statement(table.select(x=value), {}), dialect="postgres")
    assert statement is not None
    assert statement.key == "select"


@settings(
    max_examples=examples(80, deep=4_000), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.text(max_size=30).filter(lambda text: not any(c == "\x00" or "\ud800" <= c <= "\udfff" for c in text)))
@example("'; DROP TABLE t; --")
@example("\\'; SELECT 1; --")
@example("%s %(a)s :a $1 {x} \n\r\t E'\\n' $$x$$ /* */ --")
@example("__SQLGLOT__LBREAK__\n")
def test_text_arrives_as_it_is_written(connected: FormulaDatabase, text: str) -> None:
    for quote in "'\"":
        quoted = f"{quote}{text.replace(quote, quote * 2)}{quote}"
        assert connected.one(quoted) == text
        assert connected.one(f"concat('<', {quoted}, '>')") == f"<{text}>"


@pytest.fixture(scope="module")
def connected(server_url: str) -> Iterator[FormulaDatabase]:
    with formula_database(server_url) as opened:
        yield opened


def test_what_is_deep_or_large_compiles_within_the_stack_or_is_refused() -> None:
    def at_depth(frames: int, formula: str) -> str:
        if frames:
            return at_depth(frames - 1, formula)
        return select_statement(TABLE.select(x=parse_formula(formula).compile(COLUMNS)), {})

    shapes = [
        ("round(", "n", ")"),
        ("abs(", "i", ")"),
        ("ln(", "n", ")"),
        ("left(", "s", ", i)"),
        ("concat('x', ", "s", ")"),
        ("(", "i", " + i) * i"),
        ("i - (", "i", ")"),
        ("", "n", " - n + n"),
        ("", "n", " + n"),
        ("", "n", " / n"),
        ("", "i", " % i"),
        ("", "n", " ^ n"),
        ("", "b", " and n > 1"),
        ("if(i * 2 > 1, i * 3, ", "2", ")"),
        ("if(", "b", ", b, not b)"),
        ("-", "i", ""),
        ("not ", "b", ""),
        ("is_null(not ", "b", ")"),
        ("one_of(true, ", "b", " or i > 1)"),
        ("date_add(", "d", ", i)"),
        ("(", "b", " = b)"),
        ("exp(", "n", ")"),
    ]
    for before, middle, after in shapes:
        fitted = 0
        for times in (1, 2, 5, 10, 15, 20, 25, 30, 35, 50, 100, 300, 600, 1200) if DEEP else (2, 15, 35, 300):
            try:
                assert len(at_depth(300, before * times + middle + after * times)) < 1_000_000
                fitted = times
            except FormulaErrors as caught:
                assert [error.code for error in caught.errors] == ["too_complex"]
        assert fitted >= 2, before + after


def test_ordinary_large_formulas_compile() -> None:
    parse_formula(" + ".join(["n"] * 300)).compile(COLUMNS)
    parse_formula(" and ".join(["i > 3"] * 100)).compile(COLUMNS)
    parse_formula("case(" + ", ".join(f"i = {k}, 'label {k}'" for k in range(200)) + ", 'other')").compile(COLUMNS)
    parse_formula("if(n < 1, 'a', " * 30 + "'z'" + ")" * 30).compile(COLUMNS)
    parse_formula("one_of(s, " + ", ".join(f"'{k}'" for k in range(500)) + ")").compile(COLUMNS)
    parse_formula("round((i * 3 + n ^ 2) / nullif(household, 0) * 100, 1)".replace("household", "i")).compile(COLUMNS)


def test_a_power_that_is_written_as_a_whole_number_costs_no_logarithm_a_row() -> None:
    def of(formula: str) -> str:
        return str(ibis.to_sql(parse_formula(formula).compile(COLUMNS), dialect="postgres"))

    assert "LN(" not in of("n ^ 2")
    assert "LN(" in of("n ^ i")


# -- arithmetic against a reference evaluator -------------------------------------------------------------------------

Tree = Any
"""int | float | 'i' | 'n' | ('-', tree) | (operator, tree, tree)"""

LEAVES = st.one_of(
    st.integers(0, 1_000),
    st.sampled_from([2**31, 2**62, 2**63 - 1]),
    st.floats(0, 1e6, allow_nan=False).map(lambda value: round(value, 3)),
    st.sampled_from(["i", "n"]),
)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.tuples(st.just("-"), inner), st.tuples(st.sampled_from(["+", "-", "*", "/", "%", "^"]), inner, inner)
    ),
    max_leaves=8,
)
RANK = {"+": 1, "-": 1, "*": 2, "/": 2, "%": 2, "^": 3}


def written(tree: Tree, rank: int = 0, last: bool = False) -> str:
    """The tree with no more brackets than precedence asks for."""
    if isinstance(tree, str):
        return tree
    if isinstance(tree, int | float):
        return repr(tree)
    if len(tree) == 2:
        return f"-{written(tree[1], 4)}"
    own = RANK[tree[0]]
    text = f"{written(tree[1], own)} {tree[0]} {written(tree[2], own, last=True)}"
    return f"({text})" if own < rank or (own == rank and last) else text


class Far(Exception):
    """Doubles so large or small that the two sides may differ."""


def evaluated(tree: Tree, row: dict[str, Any]) -> int | float | None:
    """The tree in Python: integers exact inside, null beyond 64 bits once an integer is made a number."""
    if isinstance(tree, str):
        return row[tree]
    if isinstance(tree, int | float):
        return tree
    if len(tree) == 2:
        operand = evaluated(tree[1], row)
        return None if operand is None else -operand
    left, right = evaluated(tree[1], row), evaluated(tree[2], row)
    symbol = tree[0]
    if not (whole(tree[1]) and whole(tree[2])) or symbol in {"/", "^"}:
        left, right = (settled(left, whole(tree[1])), settled(right, whole(tree[2])))
        left, right = (None if left is None else float(left)), (None if right is None else float(right))
    if left is None or right is None:
        return None
    result = calculated(symbol, left, right)
    if isinstance(result, float) and result and not 1e-200 < abs(result) < 1e200:
        raise Far
    return result


def calculated(symbol: str, left: float, right: float) -> float | None:
    match symbol:
        case "+":
            return left + right
        case "-":
            return left - right
        case "*":
            return left * right
        case "/":
            return left / right if right else None
        case "%" if isinstance(left, int):
            return left % right if right else None
        case "%":
            return modulo(left, right) if right else None
    try:
        result = left**right
    except ZeroDivisionError:
        return None
    except OverflowError:
        raise Far from None
    return None if isinstance(result, complex) else result


def modulo(left: float, right: float) -> float:
    """In decimal, of the 15 digits that people write."""
    first, second = as_decimal(float(left)), as_decimal(float(right))
    if abs(first) > 10**20 * abs(second):
        raise Far
    return float((first % second + second) % second)


def whole(tree: Tree) -> bool:
    """Whether the tree is of type integer."""
    if isinstance(tree, str):
        return tree == "i"
    if isinstance(tree, int | float):
        return isinstance(tree, int)
    return tree[0] not in {"/", "^"} and all(whole(part) for part in tree[1:])


def settled(value: Any, is_whole: bool) -> Any:
    return None if is_whole and value is not None and not -(2**63) <= value < 2**63 else value


@settings(
    max_examples=examples(120, deep=8_000), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(tree=TREES, i=st.one_of(st.none(), st.integers(-(10**6), 10**6)), n=st.one_of(st.none(), st.floats(-1e6, 1e6)))
@example(tree=("^", ("-", 2), 2), i=None, n=None)
@example(tree=("%", ("-", 7), 3), i=None, n=None)
@example(tree=("%", 0, ("%", 0, ("%", 0.0, 2**62))), i=None, n=None)
@example(tree=("-", 10, ("-", 3, 2)), i=None, n=None)
def test_arithmetic_agrees_with_python(connected: FormulaDatabase, tree: Tree, i: int | None, n: float | None) -> None:
    assume(n is None or n == 0 or abs(n) > 1e-6)
    try:
        expected = settled(evaluated(tree, {"i": i, "n": n}), whole(tree))
    except Far:
        assume(False)
    connected.fill({"i": "integer", "n": "number"}, [[i, n]])
    try:
        result = connected.one(written(tree))
    except FormulaErrors as refused:
        # a remainder writes its divisor out several times, so three in one another may be more than is taken
        assert {error.code for error in refused.errors} == {"too_complex"}
        assert written(tree).count("%") >= 3
        return
    if expected is None or whole(tree):
        assert result == expected
    else:
        assert result == pytest.approx(expected, rel=1e-9, abs=1e-9) or close_after_remainder(tree, result, expected)
        assert isinstance(result, float)


def close_after_remainder(tree: Tree, result: float, expected: float) -> bool:
    """A remainder jumps: a last digit's difference before it may be a whole divisor after it."""
    return "%" in repr(tree) and math.isfinite(result) and math.isfinite(expected)


# -- conditions with nulls against a reference evaluator ---------------------------------------------------------------

CONDITIONS = st.recursive(
    st.sampled_from(["p", "q", "r", "true", "false", "x > y", "x = y", "between(x, y, 3)", "contains(s, 'a')"]),
    lambda inner: st.one_of(
        st.tuples(st.sampled_from(["not", "is_null", "is_blank"]), inner),
        st.tuples(st.sampled_from(["and", "or", "=", "<>", "nullif", "coalesce", "one_of"]), inner, inner),
        st.tuples(st.sampled_from(["if", "case", "one_of"]), inner, inner, inner),
    ),
    max_leaves=7,
)


def condition_text(tree: Any) -> str:
    """The tree as a formula."""
    if isinstance(tree, str):
        return tree
    parts = [condition_text(part) for part in tree[1:]]
    if tree[0] in {"and", "or", "=", "<>"}:
        return f"({parts[0]}) {tree[0]} ({parts[1]})"
    return f"{tree[0]} ({', '.join(parts)})"


def truth(tree: Any, row: dict[str, Any]) -> bool | None:
    """The tree by the rules of SQL's three truth values."""
    if isinstance(tree, str):
        return leaf(tree, row)
    symbol, *parts = tree[0], *(truth(part, row) for part in tree[1:])
    first = parts[0]
    second = parts[1] if len(parts) > 1 else None
    match symbol:
        case "not":
            return None if first is None else not first
        case "is_null" | "is_blank":
            return first is None
        case "and":
            return False if False in (first, second) else None if None in (first, second) else True
        case "or":
            return True if True in (first, second) else None if None in (first, second) else False
        case "=" | "<>":
            return None if None in (first, second) else (first == second) == (symbol == "=")
        case "nullif":
            return None if first == second else first
        case "coalesce":
            return second if first is None else first
        case "if" | "case":
            return parts[1] if first else parts[2]
    options = parts[1:]
    if first is not None and first in options:
        return True
    return None if None in (first, *options) else False


def leaf(name: str, row: dict[str, Any]) -> bool | None:
    """A column, a constant or a comparison of the columns x, y and s."""
    x, y, s = row["x"], row["y"], row["s"]
    match name:
        case "true" | "false":
            return name == "true"
        case "x > y" | "x = y":
            return None if None in (x, y) else x > y if ">" in name else x == y
        case "between(x, y, 3)":
            low = None if None in (x, y) else y <= x
            high = None if x is None else x <= 3
            return False if False in (low, high) else None if None in (low, high) else True
        case "contains(s, 'a')":
            return None if s is None else "a" in s
    return row[name]


MAYBE = st.sampled_from([None, True, False])
SMALL = st.sampled_from([None, 1, 2, 3, 4])


@settings(
    max_examples=examples(120, deep=8_000), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    tree=CONDITIONS,
    rows=st.lists(
        st.tuples(MAYBE, MAYBE, MAYBE, SMALL, SMALL, st.sampled_from([None, "cat", "dog"])), min_size=1, max_size=6
    ),
)
@example(
    tree=("is_null", ("not", "p")), rows=[(None, None, None, None, None, None), (True, None, None, None, None, None)]
)
@example(tree=("one_of", ("or", "p", "q"), "r"), rows=[(True, False, False, 1, 2, "cat")])
@example(tree=("=", "between(x, y, 3)", ("not", "p")), rows=[(True, False, False, 1, 2, "cat")])
def test_conditions_agree_with_three_truth_values(connected: FormulaDatabase, tree: Any, rows: list[Any]) -> None:
    columns = {"p": "boolean", "q": "boolean", "r": "boolean", "x": "integer", "y": "integer", "s": "text"}
    connected.fill(columns, rows)
    assert connected.column(condition_text(tree)) == [truth(tree, dict(zip(columns, row, strict=True))) for row in rows]


@pytest.mark.parametrize(
    "formula", ["not p", "p or q", "between(x, y, 3)", "one_of(x, 1, y)", "x > y", "not (p and q)"]
)
def test_a_condition_keeps_its_meaning_in_what_is_built_upon_it(connected: FormulaDatabase, formula: str) -> None:
    columns = {"p": "boolean", "q": "boolean", "x": "integer", "y": "integer"}
    connected.fill(columns, [(True, False, 1, 2), (None, None, None, None), (False, True, 3, 1), (None, True, 2, 2)])
    plain = connected.column(formula)
    made = connected.table.select(c=connected.value(formula))
    for build, expected in (
        (made.c.isnull(), [value is None for value in plain]),
        (made.c.isin([True]), [None if value is None else value for value in plain]),
        (made.c == ibis.literal(False), [None if value is None else not value for value in plain]),
    ):
        query = select_statement(made.select(x=build), {})
        assert [row[0] for row in connected.connection.execute(query.encode())] == expected


# -- everything in the table, nested at random ------------------------------------------------------------------------

YEARS = (2, 1900, 1970, 2000, 2023, 2024, 2026, 2100, 9998)
EXTREMES: dict[str, list[Any]] = {
    "s": [None, "", "abc", "12.5", "2026-02-30", "2024-02-29T10:00:00Z", "yes", "नमस्ते", "9" * 30, "\\%_'"],
    "i": [None, 0, -1, 7, 2**63 - 1, -(2**63), 2**31, 12, 2026, 100],
    "n": [None, 0.0, -2.5, 7.25, 1e15, -1e15, 1e-9, 0.5, 3.0, -8.0],
    "b": [None, True, False, True, False, None, True, False, True, False],
    "d": [None, *(dt.date(year, 2, 28) for year in YEARS)],
    "ts": [None, *(dt.datetime(year, 3, 29, 1, 30, tzinfo=dt.UTC) for year in YEARS)],
    "tm": [None, *(dt.time(hour, 59, 59) for hour in range(9))],
    "j": [None, "1", '"x"', "{}", "[1]", '{"a": null}', '{"a": 1}', "null", "true", '[{"a": 1}]'],
}  # fmt: skip
BY_KIND = {
    "text": ["s", "'abc'", "'2026-01-31'"],
    "integer": ["i", "3", "-1"],
    "number": ["n", "2.5", "i"],
    "boolean": ["b", "true", "n > 1", "s = 'abc'"],
    "date": ["d", "today()"],
    "datetime": ["ts", "now()"],
    "time": ["tm"],
    "json": ["j"],
}


@st.composite
def expressions(draw: st.DrawFn, kinds: tuple[str, ...], depth: int) -> str:
    """A formula of one of the types, by drawing from the function table."""
    kind = draw(st.sampled_from(sorted(kinds)))
    makers = [
        row for row in FUNCTIONS if row.result == kind or (row.result in {"any", "comparable", "ordered", "numeric"})
    ]
    makers = [row for row in makers if row.result == kind or fits(row.result, kind)]
    if depth == 0 or not makers or draw(st.integers(0, 3)) == 0:
        return draw(st.sampled_from(BY_KIND[kind]))
    row = draw(st.sampled_from(makers))
    count = row.fewest + draw(st.integers(0, 1 if row.most is None or row.most > row.fewest else 0))
    shared: dict[str, str] = {}
    arguments = []
    for index in range(count):
        parameter: Parameter = row.parameter(index, count)
        if parameter.choices:
            units = [unit for unit in parameter.choices if unit not in {"hour", "minute", "second"}]
            arguments.append(f"'{draw(st.sampled_from(units))}'")
            continue
        if parameter.group:
            wanted = kind if row.result == parameter.group else draw(st.sampled_from(sorted(parameter.kinds)))
            accepted = (shared.setdefault(parameter.group, wanted),)
        else:
            accepted = tuple(parameter.kinds)
        arguments.append(draw(expressions(accepted, depth - 1)))
    return f"{row.name}({', '.join(arguments)})"


def fits(group: str, kind: str) -> bool:
    from datasense_assets.recipes.formula.signatures import GROUPS

    return kind in GROUPS[group]


@settings(
    max_examples=examples(120, deep=8_000),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(expressions(tuple(BY_KIND), 4))
def test_no_function_fails_on_any_row_whatever_it_is_fed(extremes: FormulaDatabase, formula: str) -> None:
    try:
        extremes.value(formula)
    except FormulaErrors as caught:
        assert {error.code for error in caught.errors} <= {"too_complex"}, (formula, caught)
        return
    assert len(extremes.column(formula)) == 10


@pytest.fixture(scope="module")
def extremes(server_url: str) -> Iterator[FormulaDatabase]:
    kinds = {
        "s": "text",
        "i": "integer",
        "n": "number",
        "b": "boolean",
        "d": "date",
        "ts": "datetime",
        "tm": "time",
        "j": "json",
    }
    with formula_database(server_url, "Europe/Madrid") as opened:
        opened.fill(kinds, list(zip(*(EXTREMES[name] for name in kinds), strict=True)))
        yield opened


WORDS = [
    "i", "n", "s", "b", "d", "ts", "tm", "j", "list", "zebra", "null", "true", "1", "2.5", "'x'", "'day'",
    "+", "-", "*", "/", "%", "^", "=", "<", "<>", "and", "or", "not", "(", ")", ",",
    *(f"{name}(" for name in sorted(BY_NAME)),
]  # fmt: skip


@settings(max_examples=examples(300, deep=20_000), deadline=None)
@given(st.lists(st.sampled_from(WORDS), min_size=1, max_size=12).map(" ".join))
def test_words_in_any_order_compile_or_raise_formula_errors(formula: str) -> None:
    try:
        value = parse_formula(formula).compile(COLUMNS)
    except FormulaErrors as caught:
        assert all(error.code in CODES for error in caught.errors)
    else:
        select_statement(TABLE.select(x=value), {})
