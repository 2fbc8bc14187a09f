"""True, false and unknown: conditions keep their meaning through any chain of steps, held against plain Python."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datasense_assets_tests.at_length import examples
from datasense_assets_tests.conftest import fresh_database
from datasense_assets_tests.recipes.kitchen import Cooked, Kitchen
from datasense_assets_tests.recipes.test_properties import fresh_kitchen

Truth = bool | None
Row = dict[str, Any]
"""Cells by column; one that a union has left out is null."""

Tree = tuple[Any, ...]
"""A formula as (function, trees or names...)."""

COLUMNS = {"id": "bigint", "a": "boolean", "b": "boolean", "c": "boolean", "s": "text"}
TRUTHS: tuple[Truth, ...] = (True, False, None)
CELLS = list(itertools.product(TRUTHS, TRUTHS, TRUTHS, (None, "", "x", "y  x", "xy")))
ROWS = [(number, *cells) for number, cells in enumerate(CELLS)]
OTHER_ROWS = [(1000, True, False, None, "x"), (1001, None, True, None, None)]


def no(value: Truth) -> Truth:
    return None if value is None else not value


def both(left: Truth, right: Truth) -> Truth:
    if left is False or right is False:
        return False
    return None if left is None or right is None else True


def either(left: Truth, right: Truth) -> Truth:
    return no(both(no(left), no(right)))


def compared(how: Callable[[Any, Any], bool], left: Any, right: Any) -> Truth:
    return None if left is None or right is None else how(left, right)


def same(left: Truth, right: Truth) -> Truth:
    return compared(operator.eq, left, right)


def first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def unless(value: Truth, unwanted: Truth) -> Truth:
    return None if same(value, unwanted) is True else value


# -- formulas ---------------------------------------------------------------------------------------------------------

FUNCTIONS: dict[str, tuple[int, str, Callable[..., Truth]]] = {
    "not": (1, "(not {})", no),
    "and": (2, "({} and {})", both),
    "or": (2, "({} or {})", either),
    "equal": (2, "({} = {})", same),
    "different": (2, "({} <> {})", lambda left, right: no(same(left, right))),
    "is_null": (1, "is_null({})", lambda value: value is None),
    "if": (3, "if({}, {}, {})", lambda condition, then, other: then if condition is True else other),
    "coalesce": (2, "coalesce({}, {})", first),
    "nullif": (2, "nullif({}, {})", unless),
    "one_of": (3, "one_of({}, {}, {})", lambda value, one, two: either(same(value, one), same(value, two))),
}


PLACES = st.integers(0, 11)
"""Which of the columns that there are, so that one strategy serves any."""

TREES: st.SearchStrategy[Tree] = st.recursive(
    st.one_of(
        st.tuples(st.just("column"), PLACES),
        st.tuples(st.just("between"), st.integers(0, len(ROWS))),
        st.just(("unknown",)),
    ),
    lambda inner: st.one_of([st.tuples(st.just(name), *[inner] * count) for name, (count, _, _) in FUNCTIONS.items()]),
    max_leaves=5,
)


def tree_over(names: list[str], tree: Tree) -> Tree:
    if tree[0] == "column":
        return ("column", names[tree[1] % len(names)])
    return (tree[0], *(tree_over(names, part) if isinstance(part, tuple) else part for part in tree[1:]))


def formula_text(tree: Tree) -> str:
    match tree:
        case ("column", name):
            return f"[{name}]"
        case ("between", bound):
            return f"between(id, 3, {bound})"
        case ("unknown",):
            return "boolean(null)"
    return FUNCTIONS[tree[0]][1].format(*map(formula_text, tree[1:]))


def formula_value(tree: Tree, row: Row) -> Truth:
    match tree:
        case ("column", name):
            return row.get(name)
        case ("between", bound):
            return None if row["id"] is None else 3 <= row["id"] <= bound
        case ("unknown",):
            return None
    return FUNCTIONS[tree[0]][2](*(formula_value(part, row) for part in tree[1:]))


# -- conditions -------------------------------------------------------------------------------------------------------

COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    ">=": operator.ge,
}


HOW = st.sampled_from(list(COMPARE))
TESTS = st.one_of(
    st.fixed_dictionaries({"operator": st.sampled_from(["is_null", "is_not_null", "is_empty"])}),
    st.fixed_dictionaries({"operator": HOW, "value": st.booleans()}),
    st.fixed_dictionaries({"operator": HOW, "value_column": PLACES}),
    st.fixed_dictionaries(
        {"operator": st.sampled_from(["in", "not_in"]), "value": st.lists(st.booleans(), max_size=2)}
    ),
)
CONDITIONS: st.SearchStrategy[dict[str, Any]] = st.recursive(
    st.builds(lambda place, test, or_null: {"column": place, **test, "or_null": or_null}, PLACES, TESTS, st.booleans()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: {"all": items}),
        st.lists(inner, max_size=3).map(lambda items: {"any": items}),
        inner.map(lambda item: {"not": item}),
    ),
    max_leaves=4,
)


def condition_over(names: list[str], condition: dict[str, Any]) -> dict[str, Any]:
    result = dict(condition)
    for key, value in condition.items():
        if key in ("column", "value_column"):
            result[key] = names[value % len(names)]
        elif key in ("all", "any"):
            result[key] = [condition_over(names, item) for item in value]
        elif key == "not":
            result[key] = condition_over(names, value)
    return result


def holds(condition: dict[str, Any], row: Row) -> Truth:
    if "not" in condition:
        return no(holds(condition["not"], row))
    for key, join, start in (("all", both, True), ("any", either, False)):
        if key in condition:
            result: Truth = start
            for item in condition[key]:
                result = join(result, holds(item, row))
            return result
    value, how = row.get(condition["column"]), condition["operator"]
    other = row.get(condition["value_column"]) if "value_column" in condition else condition.get("value")
    if condition["or_null"] and (value is None or ("value_column" in condition and other is None)):
        return True
    if how in ("is_null", "is_empty"):
        return value is None
    if how == "is_not_null":
        return value is not None
    if how in ("in", "not_in"):
        found = None if value is None else value in other
        return found if how == "in" else no(found)
    return compared(COMPARE[how], value, other)


# -- steps ------------------------------------------------------------------------------------------------------------


@st.composite
def recipes(draw: st.DrawFn) -> list[tuple[dict[str, Any], Tree | None]]:
    """Steps, each with its formula's tree; the last ones may be an aggregation and a filter of its figures."""
    names = ["a", "b", "c"]
    steps: list[tuple[dict[str, Any], Tree | None]] = []
    kinds = ["formula"] * 3 + ["filter"] * 2 + ["case", "replace", "coalesce", "split", "casts", "concat", "join"]
    for number, kind in enumerate(draw(st.lists(st.sampled_from([*kinds, "union"]), min_size=1, max_size=6))):
        column, into = draw(st.sampled_from(names)), draw(st.sampled_from([*names, f"x{number}"]))
        made = [into]
        tree = None
        if kind == "formula":
            tree = tree_over(names, draw(TREES))
            new = [{"op": "formula", "column": into, "formula": formula_text(tree)}]
        elif kind == "filter":
            new, made = [{"op": "filter", "where": condition_over(names, draw(CONDITIONS))}], []
        elif kind == "case":
            new = [{"op": "case", "into": into, **draw(branches(names))}]
        elif kind == "replace":
            new = [{"op": "replace_values", "column": column, "into": into, **draw(replacements())}]
        elif kind == "coalesce":
            columns = draw(st.lists(st.sampled_from(names), min_size=1, max_size=3))
            new = [{"op": "coalesce", "columns": columns, "into": into, "default": draw(st.sampled_from(TRUTHS))}]
        elif kind == "split":
            prefix = f"s{number} "
            new = [{"op": "split_choices", "column": "s", "choices": ["x", "y"], "prefix": prefix}]
            made = [f"{prefix}x", f"{prefix}y"]
        elif kind == "casts":
            between = draw(st.sampled_from(["text", "integer", "number"]))
            new = [{"op": "cast", "columns": [{"column": column, "to": to}]} for to in (between, "boolean")]
            made = []
        elif kind == "concat":
            parts = [{"column": name} for name in draw(st.lists(st.sampled_from(names), min_size=1, max_size=3))]
            new, made = [{"op": "concat", "parts": parts, "separator": "+", "into": f"text{number}"}], []
        elif kind == "join":
            how, key = draw(st.sampled_from(["semi", "anti"])), {"left": column, "right": "a"}
            new, made = [{"op": "join", "with": "other", "how": how, "on": [key]}], []
        else:
            if any(step["op"] == "union" for step, _ in steps):
                continue
            new, made = [{"op": "union", "with": ["other"]}], []
        names = list(dict.fromkeys([*names, *made]))
        steps += [(step, tree) for step in new]
    if draw(st.booleans()):
        group_by = draw(st.lists(st.sampled_from(names), max_size=1))
        figures = [
            {"fn": fn, "column": draw(st.sampled_from(names)), "into": f"{fn} of", "order_by": order, "filter": where}
            for fn in ("any", "all", "count", "first", "last")
            for order in [["id"] if fn in ("first", "last") else None]
            for where in [condition_over(names, draw(CONDITIONS)) if draw(st.booleans()) else None]
        ]
        steps.append(({"op": "aggregate", "group_by": group_by, "aggregations": figures}, None))
        steps.append(
            ({"op": "filter", "where": condition_over(["any of", "all of", "last of"], draw(CONDITIONS))}, None)
        )
    return steps


@st.composite
def branches(draw: st.DrawFn, names: list[str]) -> dict[str, Any]:
    """The cases of a `case` step; the first says that they are boolean."""
    value = st.sampled_from(names).map(lambda name: ("_column", name))
    sure = value | st.booleans().map(lambda truth: ("", truth))
    cases = []
    for strategy in [sure] + [sure | st.just(("", None))] * draw(st.integers(0, 2)):
        end, then = draw(strategy)
        cases.append({"when": condition_over(names, draw(CONDITIONS)), f"then{end}": then})
    end, otherwise = draw(sure | st.just(("", None)))
    return {"cases": cases, f"otherwise{end}": otherwise}


@st.composite
def replacements(draw: st.DrawFn) -> dict[str, Any]:
    """The mapping of a `replace_values` step; the first replacement says that the result is boolean."""
    mapping = [{"find": draw(st.booleans()), "replace": draw(st.booleans())}]
    if draw(st.booleans()):
        mapping.append({"find": draw(st.booleans()), "replace": draw(st.sampled_from(TRUTHS))})
    otherwise = {"otherwise": draw(st.sampled_from(TRUTHS))} if draw(st.booleans()) else {}
    return {"mapping": mapping, **otherwise}


def after(step: dict[str, Any], tree: Tree | None, rows: list[Row]) -> list[Row]:
    """What plain Python makes of the rows."""
    match step["op"]:
        case "filter":
            return [row for row in rows if holds(step["where"], row) is True]
        case "union":
            return [*rows, *(dict(zip(COLUMNS, row, strict=True)) for row in OTHER_ROWS)]
        case "join":
            [key], found = step["on"], {row[1] for row in OTHER_ROWS} - {None}
            return [row for row in rows if (row.get(key["left"]) in found) == (step["how"] == "semi")]
        case "cast":
            return rows
        case "aggregate":
            return aggregated(step, rows)
    return [{**row, **cells(step, tree, row)} for row in rows]


def cells(step: dict[str, Any], tree: Tree | None, row: Row) -> Row:
    """The cells that a step makes in a row."""
    match step["op"]:
        case "formula":
            assert tree is not None
            return {step["column"]: formula_value(tree, row)}
        case "case":
            branch = next((case for case in step["cases"] if holds(case["when"], row) is True), None)
            item, field = (step, "otherwise") if branch is None else (branch, "then")
            return {step["into"]: row.get(item[f"{field}_column"]) if f"{field}_column" in item else item[field]}
        case "replace_values":
            value = row.get(step["column"])
            found = [pair["replace"] for pair in step["mapping"] if same(value, pair["find"]) is True]
            return {step["into"]: found[0] if found else step.get("otherwise", value)}
        case "coalesce":
            return {step["into"]: first(*(row.get(name) for name in step["columns"]), step["default"])}
        case "split_choices":
            tokens = None if row["s"] is None else row["s"].split()
            return {step["prefix"] + name: None if tokens is None else name in tokens for name in step["choices"]}
        case "concat":
            values = [row.get(part["column"]) for part in step["parts"]]
            return {step["into"]: step["separator"].join(str(value).lower() for value in values if value is not None)}
    raise AssertionError(step)


def aggregated(step: dict[str, Any], rows: list[Row]) -> list[Row]:
    groups: dict[tuple[Truth, ...], list[Row]] = {} if step["group_by"] else {(): []}
    for row in rows:
        groups.setdefault(tuple(row.get(name) for name in step["group_by"]), []).append(row)
    result = []
    for key, members in groups.items():
        found: Row = dict(zip(step["group_by"], key, strict=True))
        for item in step["aggregations"]:
            counted = [row for row in members if item["filter"] is None or holds(item["filter"], row) is True]
            ordered = sorted(counted, key=lambda row: row["id"])
            values = [row.get(item["column"]) for row in ordered if row.get(item["column"]) is not None]
            figures = {"any": any(values), "all": all(values), "first": values[:1], "last": values[-1:]}
            figure = figures.get(item["fn"], len(values))
            if isinstance(figure, list):
                figure = figure[0] if figure else None
            found[item["into"]] = None if not values and item["fn"] in ("any", "all") else figure
        result.append(found)
    return result


def cooked_rows(cooked: Cooked) -> list[Row]:
    return [dict(zip(cooked.columns, row, strict=True)) for row in cooked.rows]


def in_order(rows: Sequence[Row]) -> list[str]:
    return sorted(repr(sorted(row.items())) for row in rows)


@pytest.fixture(scope="module")
def truths(server_url: str) -> Iterator[Kitchen]:
    """A kitchen whose tables no example changes, in a database of its own: the others' schema has the same name."""
    with (
        fresh_database(server_url, "truths") as url,
        psycopg.connect(url, prepare_threshold=None) as connection,
        fresh_kitchen(connection) as kitchen,
    ):
        kitchen.table("t", COLUMNS, ROWS)
        kitchen.table("other", COLUMNS, OTHER_ROWS)
        yield kitchen


@settings(max_examples=examples(80, deep=10_000), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(recipes())
def test_conditions_keep_their_meaning_through_any_steps(
    truths: Kitchen, steps: list[tuple[dict[str, Any], Tree | None]]
) -> None:
    rows = [dict(zip(COLUMNS, row, strict=True)) for row in ROWS]
    for step, tree in steps:
        rows = after(step, tree, rows)
    # An example that fails must not spoil the tables for the next one.
    with truths.connection.transaction(force_rollback=True):
        cooked = truths.cook(*(step for step, _ in steps))
        assert all(count == 0 for _, count in truths.lost(cooked))
    expected = [{name: row.get(name) for name in cooked.columns} for row in rows]
    assert all(row.keys() <= set(cooked.columns) for row in rows)
    assert in_order(cooked_rows(cooked)) == in_order(expected)


# -- the ways in which it went wrong ----------------------------------------------------------------------------------


@pytest.mark.parametrize("formula", ["not a", "a or b", "between(id, 3, 90)", "one_of(a, b, c)", "is_null(a)", "a = b"])
@pytest.mark.parametrize(
    "test",
    [
        {"operator": "is_null"},
        {"operator": "is_not_null"},
        {"operator": "=", "value": False},
        {"operator": "!=", "value": True},
        {"operator": "=", "value_column": "y"},
        {"operator": "in", "value": [True]},
        {"operator": "not_in", "value": [False]},
        {"operator": "in", "value": []},
        {"operator": ">=", "value_column": "y"},
    ],
)
def test_a_filter_asks_about_the_whole_formula(kitchen: Kitchen, formula: str, test: dict[str, Any]) -> None:
    kitchen.table("t", COLUMNS, ROWS)
    made = [{"op": "formula", "column": "x", "formula": formula}, {"op": "formula", "column": "y", "formula": "not c"}]
    condition = {"column": "x", "or_null": False, **test}
    expected = [row for row in cooked_rows(kitchen.cook(*made)) if holds(condition, row) is True]
    assert in_order(cooked_rows(kitchen.cook(*made, {"op": "filter", "where": condition}))) == in_order(expected)


@pytest.mark.parametrize("fn", ["first", "last"])
def test_a_filter_of_alternatives_does_not_let_nulls_into_first_and_last(kitchen: Kitchen, fn: str) -> None:
    kitchen.table(
        "t", {"id": "bigint", "p": "boolean", "n": "bigint"}, [(1, True, None), (2, True, 7), (3, True, None)]
    )
    alternatives = {
        "any": [{"column": "id", "operator": "=", "value": 9}, {"column": "p", "operator": "=", "value": True}]
    }
    figure = {"fn": fn, "column": "n", "into": "n", "order_by": ["id"], "filter": alternatives}
    assert kitchen.cook({"op": "aggregate", "group_by": [], "aggregations": [figure]}).rows == [(7,)]


def test_a_column_of_nothing_but_null_equals_nothing(kitchen: Kitchen) -> None:
    kitchen.table("t", COLUMNS, ROWS)
    always = {"column": "id", "operator": "is_not_null"}
    nothing = {"op": "case", "cases": [{"when": always, "then": None}], "otherwise_column": "a", "into": "n"}
    unknown = {"op": "formula", "column": "m", "formula": "boolean(null)"}
    for how in ("=", "!="):
        for one, other in (("n", "a"), ("a", "n"), ("m", "a"), ("a", "m"), ("n", "m"), ("m", "m")):
            where = {"column": one, "operator": how, "value_column": other}
            assert kitchen.cook(nothing, unknown, {"op": "filter", "where": where}).rows == []


def test_a_column_that_a_union_adds_equals_nothing(kitchen: Kitchen) -> None:
    kitchen.table("t", {"id": "bigint"}, [(1,), (2,)])
    kitchen.table("more", {"id": "bigint", "b": "boolean"}, [(3, True), (4, None)])
    union = {"op": "union", "with": ["more"]}
    same_as = {"op": "formula", "column": "e", "formula": "b = (id > 2)"}
    assert kitchen.cook(union, same_as, {"op": "sort", "by": ["id"]}).column("e") == [None, None, True, None]
    assert kitchen.cook(
        union, same_as, {"op": "filter", "where": {"column": "e", "operator": "=", "value": True}}
    ).rows == [(3, True, True)]
