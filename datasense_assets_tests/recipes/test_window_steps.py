"""Cells of the steps that look at the rows around a row, and of date parts."""

from __future__ import annotations

from typing import Any

import pandas as pd
import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasense_assets.recipes import RecipeErrors
from datasense_assets_tests.recipes.kitchen import Kitchen, errors_of
from datasense_assets_tests.recipes.test_properties import fresh_kitchen

ROWS = [("a", 1, 10), ("a", 2, None), ("a", 2, 30), (None, 4, 40), (None, 5, -40)]
COLUMNS = {"g": "text", "n": "bigint", "odd 'v\" %s": "bigint"}
V = "odd 'v\" %s"


def by_window(kitchen: Kitchen, **step: Any) -> list[Any]:
    cooked = kitchen.cook({"op": "window", "into": "out", **step}, {"op": "sort", "by": ["n", V]})
    assert cooked.columns == ["g", "n", V, "out"]
    return cooked.column("out")


WINDOWS: list[tuple[dict[str, Any], list[Any]]] = [
    ({"fn": "row_number", "order_by": ["-n", V]}, [5, 3, 4, 2, 1]),
    ({"fn": "rank", "order_by": ["n"]}, [1, 2, 2, 4, 5]),
    ({"fn": "rank", "order_by": [V]}, [2, 3, 5, 4, 1]),
    ({"fn": "dense_rank", "order_by": ["n"]}, [1, 2, 2, 3, 4]),
    ({"fn": "ntile", "periods": 2, "order_by": ["n", V]}, [1, 1, 1, 2, 2]),
    ({"fn": "lag", "column": V, "order_by": ["n", V]}, [None, 10, 30, None, 40]),
    (
        {"fn": "lead", "column": "n", "order_by": ["n", V], "periods": 2, "partition_by": ["g"]},
        [2, None, None, None, None],
    ),
    ({"fn": "running_sum", "column": V, "order_by": ["n", V], "partition_by": ["g"]}, [10, 40, 40, 40, 0]),
    ({"fn": "moving_avg", "column": V, "order_by": ["n", V], "periods": 2}, [10.0, 20.0, 30.0, 40.0, 0.0]),
    ({"fn": "sum", "column": V, "partition_by": ["g"]}, [40, 40, 40, 0, 0]),
    ({"fn": "avg", "column": V, "partition_by": ["g"]}, [20.0, 20.0, 20.0, 0.0, 0.0]),
    ({"fn": "min", "column": "g"}, ["a"] * 5),
    ({"fn": "max", "column": V, "partition_by": ["g"]}, [30, 30, 30, 40, 40]),
    ({"fn": "count", "partition_by": ["g"]}, [3, 3, 3, 2, 2]),
    ({"fn": "count", "column": V, "partition_by": ["g"]}, [2, 2, 2, 2, 2]),
    ({"fn": "first", "column": "g", "order_by": ["-n"]}, ["a"] * 5),
    ({"fn": "last", "column": V, "order_by": ["-n"], "partition_by": ["g"]}, [10, 10, 10, 40, 40]),
    ({"fn": "percent_of_total", "column": V, "partition_by": ["g"]}, [25.0, 75.0, None, None, None]),
]


@pytest.mark.parametrize(
    ("step", "expected"), WINDOWS, ids=lambda value: value["fn"] if isinstance(value, dict) else ""
)
def test_window_functions(kitchen: Kitchen, step: dict[str, Any], expected: list[Any]) -> None:
    kitchen.table("t", COLUMNS, ROWS)
    found = by_window(kitchen, **step)
    assert found == expected
    assert [type(value) for value in found] == [type(value) for value in expected]
    kitchen.table("t", COLUMNS)
    assert by_window(kitchen, **step) == []


def test_window_replaces_a_column_in_place_and_tells_its_sources(kitchen: Kitchen) -> None:
    kitchen.table("t", COLUMNS, ROWS)
    cooked = kitchen.cook(
        {"op": "window", "fn": "running_sum", "column": "n", "into": "n", "partition_by": ["g"], "order_by": ["n", V]}
    )
    assert cooked.columns == ["g", "n", V]
    assert cooked.compiled.lineage["n"] == sorted([("forms__t", name) for name in COLUMNS])
    assert cooked.compiled.lineage["g"] == [("forms__t", "g")]


def test_a_window_can_be_filtered_and_windowed_again(kitchen: Kitchen) -> None:
    kitchen.table("t", COLUMNS, ROWS)
    cooked = kitchen.cook(
        {"op": "window", "fn": "row_number", "into": "i", "order_by": ["n", V]},
        {"op": "filter", "where": {"column": "i", "operator": ">", "value": 3}},
        {"op": "window", "fn": "sum", "column": "i", "into": "total"},
        {"op": "sort", "by": ["i"]},
    )
    assert cooked.rows == [(None, 4, 40, 4, 9), (None, 5, -40, 5, 9)]


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        ({"fn": "sum", "column": "m"}, ("unknown_column", "steps[0].column")),
        ({"fn": "sum", "column": "s"}, ("type_mismatch", "steps[0].column")),
        ({"fn": "min", "column": "j"}, ("type_mismatch", "steps[0].column")),
        ({"fn": "sum", "column": "n", "partition_by": ["x"]}, ("unknown_column", "steps[0].partition_by[0]")),
        ({"fn": "sum", "column": "n", "partition_by": ["j"]}, ("type_mismatch", "steps[0].partition_by[0]")),
        ({"fn": "rank", "order_by": ["n", "j"]}, ("type_mismatch", "steps[0].order_by[1]")),
        ({"fn": "rank"}, ("missing_field", "steps[0].order_by")),
        ({"fn": "sum"}, ("missing_field", "steps[0].column")),
        ({"fn": "ntile"}, ("missing_field", "steps[0].periods")),
        ({"fn": "sum", "column": "n", "order_by": ["n"]}, ("invalid_value", "steps[0]")),
        ({"fn": "rank", "column": "n", "order_by": ["n"]}, ("invalid_value", "steps[0]")),
        ({"fn": "lag", "column": "n", "order_by": ["n"], "periods": 0}, ("invalid_value", "steps[0].periods")),
    ],
)
def test_mistakes_in_window(step: dict[str, Any], expected: tuple[str, str]) -> None:
    use = {"op": "filter", "where": {"column": "out", "operator": "=", "value": 1}}
    assert told([{"op": "window", "into": "out", **step}, use]) == [expected]


def told(steps: list[dict[str, Any]]) -> list[tuple[str, str]]:
    try:
        return [(error.code, error.path) for error in errors_of(steps)]
    except RecipeErrors as errors:
        return [(error.code, error.path) for error in errors.errors]


NUMBERED = st.lists(st.tuples(st.none() | st.sampled_from("ab"), st.none() | st.integers(-9, 9)), max_size=20)


@settings(max_examples=40, deadline=None)
@given(NUMBERED, st.integers(1, 3))
def test_windows_agree_with_pandas(
    recipe_connection: psycopg.Connection, rows: list[tuple[Any, ...]], periods: int
) -> None:
    over = {"op": "window", "partition_by": ["g"]}
    ordered = {**over, "order_by": ["-i"]}
    steps = [
        {**ordered, "fn": "lag", "column": "n", "periods": periods, "into": "lag"},
        {**ordered, "fn": "moving_avg", "column": "n", "periods": periods, "into": "avg"},
        {**ordered, "fn": "running_sum", "column": "n", "into": "run"},
        {**over, "order_by": ["n"], "fn": "rank", "into": "rank"},
        {**over, "fn": "count", "column": "n", "into": "count"},
        {**ordered, "fn": "first", "column": "n", "into": "first"},
    ]
    data = [(g, n, i) for i, (g, n) in enumerate(rows)]
    with fresh_kitchen(recipe_connection) as kitchen:
        kitchen.table("t", {"g": "text", "n": "bigint", "i": "bigint"}, data)
        cooked = kitchen.cook(*steps, {"op": "sort", "by": ["-i"]})
    if not rows:
        assert cooked.rows == []
        return
    frame = pd.DataFrame(data[::-1], columns=["g", "n", "i"]).astype({"n": "float64"})
    groups = frame.groupby(frame["g"].map(str))["n"]
    expected = {
        "lag": groups.shift(periods),
        "avg": groups.transform(lambda part: part.rolling(periods, min_periods=1).mean()),
        "run": groups.transform(lambda part: part.fillna(0).cumsum().where(part.notna().cumsum() > 0)),
        "rank": groups.rank(method="min", na_option="bottom"),
        "count": groups.transform("count"),
        "first": groups.transform("first"),
    }
    for name, values in expected.items():
        assert [None if pd.isna(value) else value for value in values] == pytest.approx(cooked.column(name)), name


def test_date_parts(kitchen: Kitchen) -> None:
    kitchen.table(
        "t",
        {"d": "date", "at": "timestamptz", "clock": "time"},
        [("2024-12-30", "2024-12-31 20:45:00+00", "23:59"), (None, None, None)],
    )
    expected = {
        **{"year": 2024, "quarter": 4, "month": 12, "week": 1, "day": 30, "weekday": 1},
        **{"trunc_year": "2024-01-01", "trunc_quarter": "2024-10-01", "trunc_month": "2024-12-01"},
        **{"trunc_week": "2024-12-30", "trunc_day": "2024-12-30"},
    }
    cooked = kitchen.cook(*({"op": "date_part", "column": "d", "part": part, "into": part} for part in expected))
    first = dict(zip(cooked.columns[3:], cooked.rows[0][3:], strict=True))
    assert {name: value if isinstance(value, int) else str(value) for name, value in first.items()} == expected
    assert cooked.rows[1] == (None,) * len(cooked.columns)
    # The session is in Kolkata, where the new year has begun.
    local = {"year": 2025, "weekday": 3, "hour": 2, "minute": 15, "trunc_month": "2025-01-01"}
    cooked = kitchen.cook(*({"op": "date_part", "column": "at", "part": part, "into": part} for part in local))
    assert [str(value) for value in cooked.rows[0][3:]] == [str(value) for value in local.values()]
    cooked = kitchen.cook({"op": "date_part", "column": "clock", "part": "hour"})
    assert (cooked.columns, cooked.column("clock")) == (["d", "at", "clock"], [23, None])
    assert cooked.compiled.lineage["clock"] == [("forms__t", "clock")]


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        ({"column": "x", "part": "year"}, ("unknown_column", "steps[0].column")),
        ({"column": "s", "part": "year"}, ("type_mismatch", "steps[0].column")),
        ({"column": "d", "part": "hour"}, ("type_mismatch", "steps[0].column")),
        ({"column": "d", "part": "yeer"}, ("invalid_value", "steps[0].part")),
    ],
)
def test_mistakes_in_date_part(step: dict[str, Any], expected: tuple[str, str]) -> None:
    assert told([{"op": "date_part", "into": "y", **step}, {"op": "select", "columns": ["y"]}]) == [expected]


def test_deduplicate_keeps_the_first_or_last(kitchen: Kitchen) -> None:
    columns = {"k": "text", "n": "bigint", "j": "jsonb"}
    rows = [("a", 2, '{"x": 1}'), ("a", 1, None), ("a", None, None), (None, 5, None), (None, 4, None)]
    kitchen.table("t", columns, rows)
    step = {"op": "deduplicate", "keys": ["k"], "order_by": ["n"]}
    assert kitchen.cook(step).sorted == [("a", 1, None), (None, 4, None)]
    assert kitchen.cook({**step, "order_by": ["-n"]}).sorted == [("a", 2, {"x": 1}), (None, 5, None)]
    assert kitchen.cook({**step, "keep": "last"}).sorted == [("a", None, None), (None, 5, None)]
    unordered = kitchen.cook({"op": "deduplicate", "keys": ["k"]})
    assert (unordered.columns, unordered.sorted) == (list(columns), [("a", 1, None), (None, 4, None)])
    assert unordered.compiled.lineage["n"] == [("forms__t", "n")]
    assert ("forms__t", "k") in unordered.compiled.row_lineage
    kitchen.table("t", columns)
    assert kitchen.cook(step).rows == []


def test_mistakes_in_deduplicate() -> None:
    assert told([{"op": "deduplicate", "keys": ["s", "x"], "order_by": ["y"]}]) == [
        ("unknown_column", "steps[0].keys[1]"),
        ("unknown_column", "steps[0].order_by[0]"),
    ]
    assert told([{"op": "deduplicate", "keys": ["j"]}]) == [("type_mismatch", "steps[0].keys[0]")]
    assert told([{"op": "deduplicate", "keys": []}]) == [("invalid_value", "steps[0].keys")]


@settings(max_examples=40, deadline=None)
@given(NUMBERED, st.sampled_from(["first", "last"]))
def test_deduplicate_agrees_with_pandas(
    recipe_connection: psycopg.Connection, rows: list[tuple[Any, ...]], keep: Any
) -> None:
    data = [(*row, i) for i, row in enumerate(rows)]
    with fresh_kitchen(recipe_connection) as kitchen:
        kitchen.table("t", {"g": "text", "n": "bigint", "i": "bigint"}, data)
        step = {"op": "deduplicate", "keys": ["g", "n"], "order_by": ["-i"], "keep": keep}
        found = kitchen.cook(step, {"op": "sort", "by": ["i"]}).column("i")
    frame = pd.DataFrame(data, columns=["g", "n", "i"]).astype({"g": object, "n": "Int64"})
    kept = frame.sort_values("i", ascending=False).drop_duplicates(["g", "n"], keep=keep)
    assert found == sorted(kept["i"])


def walks(kitchen: Kitchen, *steps: dict[str, Any]) -> tuple[int, list[tuple[Any, ...]]]:
    """How many times PostgreSQL walks the rows for windows, and the rows by their first columns."""
    cooked = kitchen.cook(*steps)
    plan = "\n".join(line for (line,) in kitchen.connection.execute(f"EXPLAIN {cooked.compiled.sql}").fetchall())
    return plan.count("WindowAgg"), sorted(cooked.rows, key=lambda row: row[:2])


def test_windows_of_one_order_are_worked_out_in_one_walk(kitchen: Kitchen) -> None:
    kitchen.table("t", COLUMNS, ROWS)
    over = {"partition_by": ["g"], "order_by": ["n", V]}
    sum_so_far = {"op": "window", "fn": "running_sum", "column": V, "into": "so far", **over}
    steps: list[dict[str, Any]] = [
        sum_so_far,
        {"op": "formula", "column": "twice", "formula": "n * 2"},
        {"op": "rename", "columns": {"so far": "sum"}},
        {"op": "window", "fn": "rank", "into": "place", **over},
        {"op": "window", "fn": "lag", "column": "n", "into": "before", **over},
        {"op": "select", "columns": ["n", "sum", "twice", "place", "before"]},
    ]
    rows = [(1, 10, 2, 1, None), (2, 40, 4, 2, 1), (2, 40, 4, 3, 2), (4, 40, 8, 1, None), (5, 0, 10, 2, 4)]
    assert walks(kitchen, *steps) == (1, rows)


def test_a_window_over_what_another_makes_is_worked_out_after_it(kitchen: Kitchen) -> None:
    kitchen.table("t", COLUMNS, ROWS)
    first = {"op": "window", "fn": "running_sum", "column": "n", "into": "n", "order_by": ["n", V]}
    second = {"op": "window", "fn": "running_sum", "column": "n", "into": "sum", "order_by": ["n"]}
    count = {"op": "window", "fn": "count", "into": "rows", "partition_by": ["g"]}
    last = {"op": "select", "columns": ["n", "sum", "rows"]}
    rows = [(1, 1, 3), (3, 4, 3), (5, 9, 3), (9, 18, 2), (14, 32, 2)]
    assert walks(kitchen, first, count, second, last) == (3, rows)


def test_a_window_sees_the_rows_that_lists_became(kitchen: Kitchen) -> None:
    kitchen.table("t", {"g": "text", "tags": "text"}, [("a", "x y"), ("b", "z")])
    expand = {"op": "expand_list", "column": "tags", "delimiter": " "}
    before = {"op": "window", "fn": "count", "into": "before"}
    after = {"op": "window", "fn": "count", "into": "after"}
    rows = [("a", "x", 2, 3), ("a", "y", 2, 3), ("b", "z", 2, 3)]
    order = {"op": "select", "columns": ["g", "tags", "before", "after"]}
    assert kitchen.cook(before, expand, after, order).sorted == rows


def test_a_group_is_numbered_no_further_than_the_row_that_stays(kitchen: Kitchen) -> None:
    kitchen.table("t", COLUMNS, ROWS)
    cooked = kitchen.cook({"op": "deduplicate", "keys": ["g"], "order_by": ["-n", V]})
    plan = "\n".join(line for (line,) in kitchen.connection.execute(f"EXPLAIN {cooked.compiled.sql}").fetchall())
    assert "Run Condition: (row_number() OVER" in plan
    assert cooked.sorted == [("a", 2, 30), (None, 5, -40)]
