"""Random tables: what PostgreSQL makes of a recipe against what plain Python and pandas make of it."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pandas as pd
import psycopg
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg import sql

from datasense_assets_tests.recipes.kitchen import SCHEMA, Kitchen

COLUMNS = {"g": "text", "n": "bigint", "x": "double precision", "b": "boolean"}
ROWS = st.lists(
    st.tuples(
        st.none() | st.sampled_from(["a", "b", "", "ज़िला", "it's"]),
        st.none() | st.integers(-5, 5),
        st.none() | st.sampled_from([-1.5, 0.0, 0.5, 2.0, 2.25]),
        st.none() | st.booleans(),
    ),
    max_size=25,
)
COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}
Truth = bool | None
LEAVES = st.one_of(
    st.tuples(st.just("g"), st.sampled_from(["=", "!="]), st.sampled_from(["a", "b", ""]), st.booleans()),
    st.tuples(st.just("n"), st.sampled_from(list(COMPARE)), st.integers(-5, 5), st.booleans()),
    st.tuples(st.just("x"), st.sampled_from(list(COMPARE)), st.sampled_from([0.5, 2.0]), st.booleans()),
    st.tuples(st.just("b"), st.sampled_from(["=", "!="]), st.booleans(), st.booleans()),
).map(lambda t: {"column": t[0], "operator": t[1], "value": t[2], "or_null": t[3]})
TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: {"all": items}),
        st.lists(inner, max_size=3).map(lambda items: {"any": items}),
        inner.map(lambda item: {"not": item}),
    ),
    max_leaves=6,
)


@contextmanager
def fresh_kitchen(connection: psycopg.Connection) -> Iterator[Kitchen]:
    connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(SCHEMA)))
    try:
        yield Kitchen(connection)
    finally:
        connection.rollback()


def truth(tree: dict[str, Any], row: dict[str, Any]) -> Truth:
    """Three-valued logic by hand; None is unknown."""
    if "not" in tree:
        inner = truth(tree["not"], row)
        return None if inner is None else not inner
    for key, decisive in (("all", False), ("any", True)):
        if key in tree:
            values = [truth(item, row) for item in tree[key]]
            if decisive in values:
                return decisive
            return None if None in values else not decisive
    value = row[tree["column"]]
    if value is None:
        return True if tree["or_null"] else None
    return COMPARE[tree["operator"]](value, tree["value"])


@settings(max_examples=40, deadline=None)
@given(ROWS, TREES)
def test_filter_keeps_the_rows_that_are_true(
    recipe_connection: psycopg.Connection, rows: list[tuple[Any, ...]], tree: dict[str, Any]
) -> None:
    with fresh_kitchen(recipe_connection) as kitchen:
        kitchen.table("t", COLUMNS, rows)
        kept = kitchen.cook({"op": "filter", "where": tree}).rows
    assert kept == [row for row in rows if truth(tree, dict(zip(COLUMNS, row, strict=True))) is True]


@settings(max_examples=40, deadline=None)
@given(ROWS)
def test_aggregate_agrees_with_pandas(recipe_connection: psycopg.Connection, rows: list[tuple[Any, ...]]) -> None:
    figures = [
        *[{"fn": fn, "column": "n", "into": fn} for fn in ("count", "count_distinct", "sum", "min", "max", "median")],
        {"fn": "avg", "column": "x", "into": "avg"},
        {"fn": "stddev", "column": "x", "into": "stddev"},
        {"fn": "count", "into": "rows"},
    ]
    with fresh_kitchen(recipe_connection) as kitchen:
        kitchen.table("t", COLUMNS, rows)
        cooked = kitchen.cook({"op": "aggregate", "group_by": ["g"], "aggregations": figures})
    found = {row[0]: row[1:] for row in cooked.rows}
    assert len(found) == len(cooked.rows)
    frame = pd.DataFrame(rows, columns=list(COLUMNS)).astype({"g": object, "n": "Int64", "x": "Float64"})
    expected = {}
    for group, part in frame.groupby(frame["g"].map(lambda g: (g,)), sort=False):
        n, x = part["n"].dropna(), part["x"].dropna()
        numbers = (n.sum(), n.min(), n.max(), n.median()) if len(n) else (None,) * 4
        expected[group[0] if isinstance(group[0], str) else None] = (
            *(len(n), n.nunique(), *numbers),
            *(x.mean() if len(x) else None, x.std() if len(x) > 1 else None, len(part)),
        )
    assert found.keys() == expected.keys()
    for group, values in expected.items():
        for mine, theirs in zip(found[group], values, strict=True):
            assert (mine is None) == (theirs is None)
            assert mine is None or abs(mine - float(theirs)) < 1e-9


KEYED = st.lists(st.tuples(st.none() | st.integers(0, 4), st.sampled_from(["p", "q", "r"])), max_size=12)


@settings(max_examples=40, deadline=None)
@given(KEYED, KEYED, st.sampled_from(["inner", "left", "right", "full", "semi", "anti"]))
def test_join_agrees_with_pandas(
    recipe_connection: psycopg.Connection, left: list[tuple[Any, ...]], right: list[tuple[Any, ...]], how: str
) -> None:
    with fresh_kitchen(recipe_connection) as kitchen:
        kitchen.table("t", {"k": "bigint", "v": "text"}, left)
        kitchen.table("r", {"k": "bigint", "v": "text"}, right)
        found = kitchen.cook({"op": "join", "with": "r", "how": how, "on": [{"left": "k", "right": "k"}]}).rows
    # pandas joins null with null, so nulls get keys that meet nothing.
    lefts = pd.DataFrame([(f"l{i}" if k is None else str(k), v) for i, (k, v) in enumerate(left)], columns=["k", "v"])
    rights = pd.DataFrame([(f"r{i}" if k is None else str(k), v) for i, (k, v) in enumerate(right)], columns=["k", "v"])
    if how in ("semi", "anti"):
        wanted = lefts[lefts["k"].isin(rights["k"]) == (how == "semi")]
    else:
        wanted = lefts.merge(rights, on="k", how="outer" if how == "full" else how, suffixes=("", "_2"))
    expected = [
        (int(k) if k.isdigit() else None, *(None if pd.isna(cell) else cell for cell in rest))
        for k, *rest in wanted.itertuples(index=False)
    ]
    assert sorted(found, key=repr) == sorted(expected, key=repr)


@settings(max_examples=40, deadline=None)
@given(
    ROWS,
    st.lists(st.sampled_from(["g", "n", "x", "-n", "-x"]), min_size=1, max_size=3, unique=True),
    st.integers(0, 10),
)
def test_sort_and_limit_agree_with_python(
    recipe_connection: psycopg.Connection, rows: list[tuple[Any, ...]], keys: list[str], count: int
) -> None:
    names = list(COLUMNS)
    with fresh_kitchen(recipe_connection) as kitchen:
        kitchen.table("t", COLUMNS, rows)
        found = kitchen.cook({"op": "sort", "by": keys}, {"op": "limit", "rows": count}).rows
        whole = kitchen.cook({"op": "sort", "by": keys}).rows
    assert found == whole[:count] or [_keys(r, keys, names) for r in found] == [
        _keys(r, keys, names) for r in whole[:count]
    ]
    assert sorted(whole, key=repr) == sorted(rows, key=repr)
    numeric = [key for key in keys if key.lstrip("-") != "g"]
    if numeric and numeric[0] == keys[0]:
        place, sign = names.index(keys[0].lstrip("-")), -1 if keys[0].startswith("-") else 1
        values = [row[place] for row in whole]
        assert values == sorted(values, key=lambda v: (v is None, 0 if v is None else sign * v))


def _keys(row: tuple[Any, ...], keys: list[str], names: list[str]) -> list[Any]:
    return [row[names.index(key.lstrip("-"))] for key in keys]
