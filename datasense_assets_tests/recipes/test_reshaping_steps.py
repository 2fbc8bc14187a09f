"""Cells of pivot, unpivot, fill_missing and clean_text."""

from __future__ import annotations

from typing import Any

import pandas as pd
import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasense_assets_tests.recipes.kitchen import Kitchen
from datasense_assets_tests.recipes.test_properties import fresh_kitchen
from datasense_assets_tests.recipes.test_window_steps import told

ODD = "odd 'v\" %s"


def cleaned(kitchen: Kitchen, *actions: str) -> list[Any]:
    return kitchen.cook({"op": "clean_text", "columns": [ODD], "actions": list(actions)}).column(ODD)


def test_clean_text(kitchen: Kitchen) -> None:
    kitchen.table("t", {ODD: "text"}, [("  Ðo  ñA\t12 ",), (None,), ("",)])
    assert cleaned(kitchen, "trim") == ["Ðo  ñA\t12", None, ""]
    assert cleaned(kitchen, "collapse_spaces") == [" Ðo ñA 12 ", None, ""]
    assert cleaned(kitchen, "trim", "collapse_spaces", "lower", "title")[0] == "Ðo Ña 12"
    assert cleaned(kitchen, "remove_digits", "collapse_spaces", "trim", "upper")[0] == "ÐO ÑA"
    kitchen.table(
        "t", {ODD: "text"}, [("Łódź café Ærø ß ελληνικά",), ("ज़िला में, हाँ।",), ("a-b_c 'd' (1.5%) [x]^`~¿“”…",)]
    )
    assert cleaned(kitchen, "remove_accents")[0] == "Lodz cafe AEro ss ελληνικα"
    assert cleaned(kitchen, "remove_punctuation")[1:] == ["ज़िला में हाँ", "abc d 15 x"]
    kitchen.table("t", {ODD: "text"})
    assert cleaned(kitchen, "remove_accents", "remove_punctuation") == []


def test_mistakes_in_clean_text() -> None:
    step = {"op": "clean_text", "columns": ["s", "n", "x"], "actions": ["trim"]}
    assert told([step]) == [("type_mismatch", "steps[0].columns[1]"), ("unknown_column", "steps[0].columns[2]")]
    assert told([{**step, "actions": ["trimm"]}]) == [("invalid_value", "steps[0].actions[0]")]
    assert told([{**step, "columns": ["s", "s"]}]) == [("name_collision", "steps[0].columns")]


def test_fill_missing_with_a_value(kitchen: Kitchen) -> None:
    kitchen.table("t", {"n": "bigint", "m": "bigint", "d": "date"}, [(1, None, None), (None, 2, "2026-01-31")])
    fill = {"op": "fill_missing", "method": "value"}
    cooked = kitchen.cook({**fill, "columns": ["n", "m"], "value": 0})
    assert cooked.sorted == [(0, 2, cooked.rows[1][2]), (1, 0, None)]
    assert kitchen.cook({**fill, "columns": ["n"], "value": 0.5}).column("n") == [1.0, 0.5]
    assert [str(d) for d in kitchen.cook({**fill, "columns": ["d"], "value": "2026-02-01"}).column("d")] == [
        "2026-02-01",
        "2026-01-31",
    ]


def test_fill_missing_down_and_up(kitchen: Kitchen) -> None:
    columns = {"i": "bigint", ODD: "text", "b": "boolean", "j": "jsonb"}
    rows = [
        (1, None, None, None),
        (2, "a", True, "{}"),
        (3, None, None, None),
        (4, "b", False, None),
        (5, None, None, None),
    ]
    kitchen.table("t", columns, rows)
    fill = {"op": "fill_missing", "columns": [ODD, "b", "j"], "order_by": ["i"]}
    last: dict[str, Any] = {"op": "sort", "by": ["i"]}
    down = kitchen.cook({**fill, "method": "down"}, last)
    assert down.columns == list(columns)
    assert down.column(ODD) == [None, "a", "a", "b", "b"]
    assert down.column("b") == [None, True, True, False, False]
    assert down.column("j") == [None, {}, {}, {}, {}]
    assert kitchen.cook({**fill, "method": "up"}, last).column(ODD) == ["a", "a", "b", "b", None]
    assert kitchen.cook({**fill, "method": "down", "order_by": ["-i"]}, last).column(ODD) == ["a", "a", "b", "b", None]
    assert down.compiled.lineage[ODD] == [("forms__t", "i"), ("forms__t", ODD)]
    kitchen.table("t", columns)
    assert kitchen.cook({**fill, "method": "up"}).rows == []


def test_mistakes_in_fill_missing() -> None:
    fill = {"op": "fill_missing", "columns": ["n"]}
    assert told([{**fill, "method": "value"}]) == [("missing_field", "steps[0].value")]
    assert told([{**fill, "method": "down"}]) == [("missing_field", "steps[0].order_by")]
    assert told([{**fill, "method": "down", "order_by": ["n"], "value": 1}]) == [("invalid_value", "steps[0]")]
    assert told([{**fill, "method": "value", "value": "x"}]) == [("bad_literal", "steps[0].value")]
    assert told([{**fill, "columns": ["x"], "method": "value", "value": 1}]) == [
        ("unknown_column", "steps[0].columns[0]")
    ]
    assert told([{**fill, "method": "up", "order_by": ["j"]}]) == [("type_mismatch", "steps[0].order_by[0]")]


PIVOT = {"op": "pivot", "group_by": ["g"], "names_from": "k", "names": ["x", "it's %s"]}
PIVOTED = [("a", "x", 1), ("a", "x", 2), ("a", "it's %s", None), (None, "it's %s", 5), ("b", None, 7)]


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"fn": "sum", "values_from": "n"}, [("a", 3, None), ("b", None, None), (None, None, 5)]),
        ({"fn": "sum", "values_from": "n", "fill": 0}, [("a", 3, 0), ("b", 0, 0), (None, 0, 5)]),
        ({"fn": "sum", "values_from": "n", "fill": 0.5}, [("a", 3.0, 0.5), ("b", 0.5, 0.5), (None, 0.5, 5.0)]),
        ({"fn": "count"}, [("a", 2, 1), ("b", 0, 0), (None, 0, 1)]),
        ({"fn": "count", "values_from": "n", "fill": -1}, [("a", 2, 0), ("b", -1, -1), (None, -1, 1)]),
        ({"fn": "count", "fill": 7}, [("a", 2, 1), ("b", 7, 7), (None, 7, 1)]),
        (
            {"fn": "count_distinct", "values_from": "n", "fill": 9},
            [("a", 2, 0), ("b", 9, 9), (None, 9, 1)],
        ),
        ({"fn": "last", "values_from": "n"}, [("a", 2, None), ("b", None, None), (None, None, 5)]),
        ({"fn": "concat", "values_from": "n", "fill": "-"}, [("a", "1, 2", "-"), ("b", "-", "-"), (None, "-", "5")]),
    ],
)
def test_pivot(kitchen: Kitchen, more: dict[str, Any], expected: list[Any]) -> None:
    kitchen.table("t", {"g": "text", "k": "text", "n": "bigint"}, PIVOTED)
    cooked = kitchen.cook({**PIVOT, **more}, {"op": "sort", "by": ["g"]})
    assert cooked.columns == ["g", "x", "it's %s"]
    assert cooked.rows == expected
    assert ("forms__t", "k") in cooked.compiled.lineage["x"]
    kitchen.table("t", {"g": "text", "k": "text", "n": "bigint"})
    assert kitchen.cook({**PIVOT, **more}).rows == []


def test_pivot_by_values_that_are_no_text(kitchen: Kitchen) -> None:
    kitchen.table("t", {"b": "boolean", "y": "bigint", "d": "date"}, [(True, 2026, "2026-01-31"), (False, 2025, None)])
    pivot = {"op": "pivot", "group_by": [], "fn": "count", "prefix": "n "}
    assert kitchen.cook({**pivot, "names_from": "b", "names": [True]}).columns == ["n true"]
    cooked = kitchen.cook({**pivot, "names_from": "y", "names": [2026, 2024]})
    assert (cooked.columns, cooked.rows) == (["n 2026", "n 2024"], [(1, 0)])
    cooked = kitchen.cook({**pivot, "names_from": "d", "names": ["2026-01-31"]})
    assert (cooked.columns, cooked.rows) == (["n 2026-01-31"], [(1,)])


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"fn": "sum"}, ("missing_field", "steps[0].values_from")),
        ({"fn": "sum", "values_from": "s"}, ("type_mismatch", "steps[0].values_from")),
        ({"fn": "count", "group_by": ["x"]}, ("unknown_column", "steps[0].group_by[0]")),
        ({"fn": "count", "names_from": "x"}, ("unknown_column", "steps[0].names_from")),
        ({"fn": "count", "names_from": "j"}, ("type_mismatch", "steps[0].names_from")),
        ({"fn": "count", "names": ["a", 1]}, ("bad_literal", "steps[0].names[1]")),
        ({"fn": "count", "names": ["a", "a"]}, ("name_collision", "steps[0].names")),
        ({"fn": "count", "names": ["b"]}, ("name_collision", "steps[0].names")),
        ({"fn": "count", "names": ["y" * 64]}, ("name_too_long", "steps[0].names[0]")),
        ({"fn": "count", "names": [""]}, ("invalid_value", "steps[0].names[0]")),
        ({"fn": "count", "fill": "x"}, ("bad_literal", "steps[0].fill")),
    ],
)
def test_mistakes_in_pivot(more: dict[str, Any], expected: tuple[str, str]) -> None:
    step = {"op": "pivot", "group_by": ["b"], "names_from": "s", "names": ["a"], **more}
    after: dict[str, Any] = {"op": "select", "columns": ["a"]}
    assert told([step, after] if "names" not in more else [step]) == [expected]


def test_unpivot(kitchen: Kitchen) -> None:
    columns = {"id": "bigint", ODD: "bigint", "x": "double precision"}
    kitchen.table("t", columns, [(1, 10, 1.5), (2, None, None)])
    step = {"op": "unpivot", "columns": [ODD, "x"], "names_to": "which", "values_to": "x"}
    cooked = kitchen.cook(step)
    assert cooked.columns == ["id", "which", "x"]
    assert cooked.rows == [(1, ODD, 10.0), (1, "x", 1.5), (2, ODD, None), (2, "x", None)]
    assert cooked.compiled.lineage["x"] == [("forms__t", ODD), ("forms__t", "x")]
    assert cooked.compiled.lineage["which"] == []
    kept = kitchen.cook(
        {**step, "drop_missing": True}, {"op": "filter", "where": {"column": "x", "operator": ">", "value": 2}}
    )
    assert kept.rows == [(1, ODD, 10.0)]
    everything = kitchen.cook({**step, "columns": ["id", ODD, "x"], "drop_missing": True})
    assert everything.rows == [("id", 1.0), (ODD, 10.0), ("x", 1.5), ("id", 2.0)]
    kitchen.table("t", columns)
    assert kitchen.cook(step).rows == []
    kitchen.table("t", {"a": "jsonb", "b": "jsonb"}, [('{"x": 1}', None)])
    assert kitchen.cook({**step, "columns": ["a", "b"]}).rows == [("a", {"x": 1}), ("b", None)]


def test_other_steps_build_on_unpivoted_rows_and_windows(kitchen: Kitchen) -> None:
    kitchen.table("t", {"id": "bigint", "a": "text", "b": "text"}, [(1, "10", "x"), (2, None, " 30 ")])
    total: dict[str, Any] = {"op": "window", "fn": "sum", "column": "v", "into": "total", "partition_by": ["id"]}
    cooked = kitchen.cook(
        {"op": "unpivot", "columns": ["a", "b"], "names_to": "k", "values_to": "v"},
        {"op": "cast", "columns": [{"column": "v", "to": "integer"}]},
        {"op": "replace_values", "column": "k", "mapping": [{"find": "a", "replace": "first"}]},
        total,
        {"op": "fill_missing", "columns": ["v"], "method": "down", "order_by": ["id", "k"]},
        {"op": "window", "fn": "rank", "order_by": ["-total"], "into": "place"},
        {"op": "pivot", "group_by": ["id", "total", "place"], "names_from": "k", "names": ["first", "b"]}
        | {"values_from": "v", "fn": "max"},
        {"op": "sort", "by": ["id"]},
    )
    assert cooked.columns == ["id", "total", "place", "first", "b"]
    assert cooked.rows == [(1, 10, 3, 10, None), (2, 30, 1, 30, 30)]
    assert [count for _, count in kitchen.lost(cooked)] == [1]


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"columns": ["n", "x"]}, ("unknown_column", "steps[0].columns[1]")),
        ({"columns": ["n", "s"]}, ("type_mismatch", "steps[0].columns[1]")),
        ({"columns": ["n", "n"]}, ("name_collision", "steps[0].columns")),
        ({"names_to": "s"}, ("name_collision", "steps[0].names_to")),
        ({"values_to": "s"}, ("name_collision", "steps[0].values_to")),
        ({"values_to": "k"}, ("name_collision", "steps[0].values_to")),
    ],
)
def test_mistakes_in_unpivot(more: dict[str, Any], expected: tuple[str, str]) -> None:
    step = {"op": "unpivot", "columns": ["n"], "names_to": "k", "values_to": "v", **more}
    assert told([step, {"op": "filter", "where": {"column": step["values_to"], "operator": "is_null"}}]) == [expected]


CELLS = st.lists(
    st.tuples(st.none() | st.sampled_from("ab"), st.none() | st.sampled_from("xyz"), st.none() | st.integers(-9, 9)),
    max_size=20,
)
SHAPE = {"g": "text", "k": "text", "n": "bigint", "i": "bigint"}


@settings(max_examples=40, deadline=None)
@given(CELLS, st.sampled_from(["sum", "min", "count"]))
def test_pivot_agrees_with_python(recipe_connection: psycopg.Connection, rows: list[Any], fn: str) -> None:
    step = {"op": "pivot", "group_by": ["g"], "names_from": "k", "names": ["x", "y"], "values_from": "n", "fn": fn}
    with fresh_kitchen(recipe_connection) as kitchen:
        kitchen.table("t", SHAPE, [(*row, i) for i, row in enumerate(rows)])
        found = kitchen.cook(step).sorted
    functions: dict[str, Any] = {"sum": sum, "min": min, "count": len}
    expected = []
    for group in {row[0] for row in rows}:
        cells = [[n for g, k, n in rows if (g, k) == (group, name) and n is not None] for name in ("x", "y")]
        expected.append((group, *(functions[fn](cell) if cell or fn == "count" else None for cell in cells)))
    assert found == sorted(expected, key=repr)


@settings(max_examples=40, deadline=None)
@given(CELLS, st.booleans())
def test_unpivot_agrees_with_pandas(recipe_connection: psycopg.Connection, rows: list[Any], drop: bool) -> None:
    data = [(*row, i) for i, row in enumerate(rows)]
    step = {"op": "unpivot", "columns": ["g", "k"], "names_to": "name", "values_to": "value", "drop_missing": drop}
    with fresh_kitchen(recipe_connection) as kitchen:
        kitchen.table("t", SHAPE, data)
        found = kitchen.cook(step, {"op": "drop", "columns": ["n"]}).sorted
    melted = pd.DataFrame(data, columns=list(SHAPE)).melt(["i"], ["g", "k"], "name", "value")
    expected = [
        (i, name, None if pd.isna(value) else value)
        for i, name, value in melted.itertuples(index=False)
        if not (drop and pd.isna(value))
    ]
    assert found == sorted(expected, key=repr)


@settings(max_examples=40, deadline=None)
@given(CELLS, st.sampled_from(["down", "up"]))
def test_fill_missing_agrees_with_pandas(recipe_connection: psycopg.Connection, rows: list[Any], method: str) -> None:
    data = [(*row, i) for i, row in enumerate(rows)]
    step = {"op": "fill_missing", "columns": ["n", "g"], "method": method, "order_by": ["i"]}
    with fresh_kitchen(recipe_connection) as kitchen:
        kitchen.table("t", SHAPE, data)
        cooked = kitchen.cook(step, {"op": "sort", "by": ["i"]})
    frame = pd.DataFrame(data, columns=list(SHAPE)).astype({"n": "Int64", "g": "string"})
    for name in ("n", "g"):
        filled = frame[name].ffill() if method == "down" else frame[name].bfill()
        assert cooked.column(name) == [None if pd.isna(value) else value for value in filled]
