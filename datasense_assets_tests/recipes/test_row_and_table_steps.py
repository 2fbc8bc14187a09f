"""Cells that come out of the steps which choose, order, multiply and bring together rows."""

from __future__ import annotations

from collections import OrderedDict
from decimal import Decimal
from typing import Any

import pytest
from psycopg import sql

from datasense_assets_tests.recipes.kitchen import SCHEMA, Kitchen, errors_of

NULLS_LAST = [("b", 2), ("a", 1), ("a", 3), (None, 9), ("c", None)]


def test_sort_puts_nulls_last_either_way(kitchen: Kitchen) -> None:
    kitchen.table("t", {"s": "text", "n": "bigint"}, NULLS_LAST)
    assert kitchen.cook({"op": "sort", "by": ["s", "-n"]}).rows == [
        ("a", 3),
        ("a", 1),
        ("b", 2),
        ("c", None),
        (None, 9),
    ]
    assert kitchen.cook({"op": "sort", "by": ["-n"]}).column("n") == [9, 3, 2, 1, None]


def test_sort_means_a_column_named_with_a_minus_first(kitchen: Kitchen) -> None:
    kitchen.table("t", {"-n": "bigint", "n": "bigint"}, [(1, 1), (2, 2)])
    assert kitchen.cook({"op": "sort", "by": ["-n"]}).column("n") == [1, 2]
    assert kitchen.cook({"op": "sort", "by": ["--n"]}).column("n") == [2, 1]


def test_limit_after_sort_keeps_the_first(kitchen: Kitchen) -> None:
    kitchen.table("t", {"s": "text", "n": "bigint"}, NULLS_LAST)
    cooked = kitchen.cook({"op": "sort", "by": ["n"]}, {"op": "limit", "rows": 2}, {"op": "select", "columns": ["n"]})
    assert cooked.rows == [(1,), (2,)]
    assert kitchen.cook({"op": "limit", "rows": 0}).rows == []


def test_expand_list_of_objects(kitchen: Kitchen) -> None:
    kitchen.table(
        "t",
        {"id": "bigint", "members": "jsonb"},
        [
            (1, '[{"name": "A", "age": 3}, {"name": "B", "age": "x"}, {"age": " 7 "}]'),
            (2, "[]"),
            (3, None),
            (4, '{"name": "no list"}'),
            (5, '[1, null, {"name": ["deep"], "age": null}]'),
        ],
    )
    step = {"op": "expand_list", "column": "members", "fields": {"name": "text", "age": "integer"}, "index_into": "i"}
    cooked = kitchen.cook(step)
    assert cooked.columns == ["id", "name", "age", "i"]
    assert cooked.rows == [
        (1, "A", 3, 1),
        (1, "B", None, 2),
        (1, None, 7, 3),
        (5, None, None, 1),
        (5, None, None, 2),
        (5, '["deep"]', None, 3),
    ]
    assert kitchen.lost(cooked) == [("age", 1)]
    kept = kitchen.cook({**step, "keep_empty": True, "keep_source": True})
    assert kept.columns == ["id", "members", "name", "age", "i"]
    assert [(row[0], row[4]) for row in kept.rows] == [
        *[(1, 1), (1, 2), (1, 3)],
        *[(2, None), (3, None), (4, None)],
        *[(5, 1), (5, 2), (5, 3)],
    ]


def test_expand_list_reads_json_in_text_and_skips_what_is_none(kitchen: Kitchen) -> None:
    kitchen.table("t", {"j": "text"}, [('[{"a": 1}, {"a": 2}]',), ("[{broken",), ("",), (None,)])
    cooked = kitchen.cook({"op": "expand_list", "column": "j", "fields": {"a": "integer"}})
    assert cooked.rows == [(1,), (2,)]


def test_expand_list_by_delimiter(kitchen: Kitchen) -> None:
    kitchen.table("t", {"s": "text", "n": "bigint"}, [("a, b,,c ", 1), (" ", 2), (None, 3), ("d", 4)])
    step = {"op": "expand_list", "column": "s", "delimiter": ",", "index_into": "i"}
    assert kitchen.cook(step).rows == [("a", 1, 1), ("b", 1, 2), ("c", 1, 3), ("d", 4, 1)]
    kept = kitchen.cook({**step, "keep_empty": True}).rows
    assert kept == [("a", 1, 1), ("b", 1, 2), ("c", 1, 3), (None, 2, None), (None, 3, None), ("d", 4, 1)]


def test_the_pieces_of_a_text_that_comes_again_are_remembered(kitchen: Kitchen) -> None:
    kitchen.table("t", {"s": "text"}, [("water food",), ("shelter",)] * 2000)
    kitchen.connection.execute(sql.SQL("ANALYZE {}").format(sql.Identifier(SCHEMA, "forms__t")))
    cooked = kitchen.cook({"op": "expand_list", "column": "s", "delimiter": " "})
    plan = "\n".join(line for (line,) in kitchen.connection.execute(f"EXPLAIN {cooked.compiled.sql}").fetchall())
    assert "Memoize" in plan
    assert len(cooked.rows) == 6000


def test_the_rows_of_a_list_are_written_by_the_same_sql_at_each_compilation(
    kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch
) -> None:
    kitchen.table("t", {"s": "text", "j": "jsonb"}, [])
    steps: list[dict[str, Any]] = [
        {"op": "expand_list", "column": "s", "delimiter": " ", "index_into": "i"},
        {"op": "expand_list", "column": "j", "fields": {"a": "text"}, "keep_empty": True},
    ]
    first = kitchen.cook(*steps).compiled
    monkeypatch.setattr("datasense_assets.recipes.compiling.compile._cache", OrderedDict())
    second = kitchen.cook(*steps).compiled
    assert first is not second
    assert first.sql == second.sql


def test_a_filter_after_expand_list_sees_the_new_rows(kitchen: Kitchen) -> None:
    kitchen.table("t", {"s": "text"}, [("a b",)])
    cooked = kitchen.cook(
        {"op": "expand_list", "column": "s", "delimiter": " "},
        {"op": "filter", "where": {"column": "s", "operator": "=", "value": "b"}},
    )
    assert cooked.rows == [("b",)]


LEFT = [(1, "x"), (2, "y"), (None, "z")]
RIGHT = [(1, "p"), (1, "q"), (3, "r"), (None, "s")]


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("inner", [(1, "x", "p"), (1, "x", "q")]),
        ("left", [(1, "x", "p"), (1, "x", "q"), (2, "y", None), (None, "z", None)]),
        ("right", [(1, "x", "p"), (1, "x", "q"), (3, None, "r"), (None, None, "s")]),
        (
            "full",
            [
                *[(1, "x", "p"), (1, "x", "q"), (2, "y", None)],
                *[(3, None, "r"), (None, None, "s"), (None, "z", None)],
            ],
        ),
        ("semi", [(1, "x")]),
        ("anti", [(2, "y"), (None, "z")]),
    ],
)
def test_join_kinds(kitchen: Kitchen, how: str, expected: list[tuple[Any, ...]]) -> None:
    kitchen.table("t", {"k": "bigint", "v": "text"}, LEFT)
    kitchen.table("r", {"key": "bigint", "v": "text"}, RIGHT)
    cooked = kitchen.cook({"op": "join", "with": "r", "how": how, "on": [{"left": "k", "right": "key"}]})
    assert cooked.columns == (["k", "v"] if how in ("semi", "anti") else ["k", "v", "v_2"])
    assert cooked.sorted == sorted(expected, key=repr)


def test_join_brings_the_columns_asked_for_in_their_order(kitchen: Kitchen) -> None:
    kitchen.table("t", {"k": "bigint", "a": "text"}, [(1, "x")])
    kitchen.table("r", {"k": "bigint", "a": "text", "b": "text", "c": "text"}, [(1, "p", "q", "r")])
    on = [{"left": "k", "right": "k"}]
    cooked = kitchen.cook(
        {"op": "join", "with": "r", "how": "left", "on": on, "columns": ["c", "a"], "suffix": " right"}
    )
    assert (cooked.columns, cooked.rows) == (["k", "a", "c", "a right"], [(1, "x", "r", "p")])
    none = kitchen.cook({"op": "join", "with": "r", "how": "inner", "on": on, "columns": []})
    assert (none.columns, none.rows) == (["k", "a"], [(1, "x")])


def test_join_with_itself_and_twice(kitchen: Kitchen) -> None:
    kitchen.table("t", {"id": "bigint", "parent": "bigint"}, [(1, None), (2, 1), (3, 2)])
    once = {"op": "join", "with": "t", "how": "left", "on": [{"left": "parent", "right": "id"}]}
    cooked = kitchen.cook(once, {**once, "suffix": "_3", "on": [{"left": "parent_2", "right": "id"}]})
    assert cooked.columns == ["id", "parent", "parent_2", "parent_3"]
    assert cooked.sorted == [(1, None, None, None), (2, 1, None, None), (3, 2, 1, None)]


def test_join_of_an_integer_with_a_number(kitchen: Kitchen) -> None:
    kitchen.table("t", {"k": "bigint"}, [(1,), (2,)])
    kitchen.table("r", {"k": "double precision", "v": "text"}, [(1.0, "a"), (2.5, "b")])
    cooked = kitchen.cook({"op": "join", "with": "r", "how": "full", "on": [{"left": "k", "right": "k"}]})
    assert cooked.sorted == [(1.0, "a"), (2.0, None), (2.5, "b")]


def test_union_goes_by_name_and_fills_with_null(kitchen: Kitchen) -> None:
    kitchen.table("t", {"a": "bigint", "b": "text"}, [(1, "x"), (1, "x")])
    kitchen.table("r", {"b": "text", "c": "date", "a": "double precision"}, [("y", "2026-01-31", 2.5), ("x", None, 1)])
    cooked = kitchen.cook({"op": "union", "with": ["r"], "source_column": "src"}, {"op": "drop", "columns": ["c"]})
    assert cooked.columns == ["a", "b", "src"]
    assert cooked.sorted == [(1.0, "x", "r"), (1.0, "x", "t"), (1.0, "x", "t"), (2.5, "y", "r")]
    distinct = kitchen.cook({"op": "union", "with": ["r", "t"], "distinct": True})
    assert distinct.columns == ["a", "b", "c"]
    assert len(distinct.rows) == 2


def test_union_of_json_columns(kitchen: Kitchen) -> None:
    kitchen.table("t", {"j": "jsonb"}, [('{"a": 1}',)])
    assert kitchen.cook({"op": "union", "with": ["t"], "distinct": True}).rows == [({"a": 1},)]


FIGURES: list[tuple[str, str, Any]] = [
    ("count", "n", 3),
    ("count_distinct", "n", 2),
    ("sum", "n", 7),
    ("avg", "n", pytest.approx(7 / 3)),
    ("min", "s", "a"),
    ("max", "d", "2026-03-01"),
    ("median", "n", 2.0),
    ("mode", "n", 2),
    ("any", "b", True),
    ("all", "b", False),
    ("stddev", "n", pytest.approx(0.5773502691896258)),
    ("percentile", "n", 2.0),
    ("concat", "s", "a, b, c"),
]


@pytest.mark.parametrize(("fn", "column", "expected"), FIGURES)
def test_aggregate_functions(kitchen: Kitchen, fn: str, column: str, expected: Any) -> None:
    rows = [("g", 2, "b", "2026-01-01", True), ("g", 2, "a", "2026-03-01", False), ("g", 3, "c", None, None)]
    columns = {"g": "text", "n": "bigint", "s": "text", "d": "date", "b": "boolean"}
    kitchen.table("t", columns, [*rows, ("g", None, None, None, None)])
    figure = {"fn": fn, "column": column, "into": "out"}
    cooked = kitchen.cook({"op": "aggregate", "group_by": ["g"], "aggregations": [figure]})
    value = cooked.rows[0][1]
    assert cooked.columns == ["g", "out"]
    assert (str(value) if column == "d" else value) == expected
    assert not isinstance(value, Decimal)


def test_aggregate_first_last_and_concat_follow_their_order(kitchen: Kitchen) -> None:
    kitchen.table("t", {"s": "text", "n": "bigint"}, [("b", 1), ("a", 2), (None, 0), ("c", 3)])
    aggregations = [
        {"fn": "first", "column": "s", "into": "first", "order_by": ["n"]},
        {"fn": "last", "column": "s", "into": "last", "order_by": ["n"]},
        {"fn": "first", "column": "s", "into": "newest", "order_by": ["-n"]},
        {"fn": "concat", "column": "s", "into": "all", "order_by": ["-n"], "separator": "|"},
        {"fn": "first", "column": "s", "into": "unordered"},
    ]
    assert kitchen.cook({"op": "aggregate", "aggregations": aggregations}).rows == [("b", "c", "c", "c|a|b", "a")]


def test_aggregate_keeps_null_as_a_group_and_filters_each_figure(kitchen: Kitchen) -> None:
    kitchen.table("t", {"g": "text", "n": "bigint"}, [("a", 1), (None, 2), ("a", 3), (None, None)])
    small = {"column": "n", "operator": "<", "value": 3}
    cooked = kitchen.cook(
        {
            "op": "aggregate",
            "group_by": ["g"],
            "aggregations": [
                {"fn": "count", "into": "rows"},
                {"fn": "sum", "column": "n", "into": "small", "filter": small},
                {"fn": "count", "into": "small_rows", "filter": small},
            ],
        },
        {"op": "sort", "by": ["g"]},
    )
    assert cooked.rows == [("a", 2, 1, 1), (None, 2, 2, 1)]


def test_sum_of_bigint_stays_an_integer(kitchen: Kitchen) -> None:
    kitchen.table("t", {"n": "bigint", "x": "numeric"}, [(2**40, "0.5"), (2**40, "0.25")])
    aggregations = [{"fn": "sum", "column": "n", "into": "n"}, {"fn": "sum", "column": "x", "into": "x"}]
    cooked = kitchen.cook({"op": "aggregate", "aggregations": aggregations})
    assert cooked.rows == [(2**41, 0.75)]
    assert isinstance(cooked.rows[0][0], int)
    assert str(cooked.compiled.schema["n"]) == "int64"


def test_aggregate_without_figures_gives_the_groups(kitchen: Kitchen) -> None:
    kitchen.table("t", {"g": "text"}, [("a",), ("a",), (None,)])
    assert kitchen.cook({"op": "aggregate", "group_by": ["g"], "aggregations": []}).sorted == [("a",), (None,)]


def test_an_unordered_function_refuses_an_order() -> None:
    figure = {"fn": "sum", "column": "n", "into": "x", "order_by": ["n"]}
    found = errors_of([{"op": "aggregate", "aggregations": [figure]}])
    assert [(e.code, e.path) for e in found] == [("invalid_value", "steps[0].aggregations[0].order_by")]


# -- several tables after each other ----------------------------------------------------------------------------------

KEYED = {"k": "bigint", "v": "text"}
HOWS = ["inner", "left", "right", "full", "semi", "anti"]


def joined(how: str, alias: str) -> dict[str, Any]:
    brought = {} if how in ("semi", "anti") else {"columns": ["v"], "suffix": f"_{alias}"}
    return {"op": "join", "with": alias, "how": how, "on": [{"left": "k", "right": "k"}], **brought}


@pytest.mark.parametrize("second", HOWS)
@pytest.mark.parametrize("first", HOWS)
@pytest.mark.parametrize(
    "between",
    [
        [],
        [{"op": "formula", "column": "k", "formula": "k + 1"}],
        [{"op": "select", "columns": ["v", "k"]}],
        [{"op": "filter", "where": {"column": "k", "operator": "!=", "value": 3, "or_null": True}}],
    ],
    ids=["at once", "formula", "select", "filter"],
)
def test_a_join_takes_what_the_steps_before_it_made(
    kitchen: Kitchen, first: str, second: str, between: list[dict[str, Any]]
) -> None:
    kitchen.table("t", KEYED, [(n, f"t{n}") for n in (1, 2, 3, 4)] + [(None, "t")])
    kitchen.table("u", KEYED, [(n, f"u{n}") for n in (2, 3, 5)] + [(None, "u")])
    kitchen.table("w", KEYED, [(n, f"w{n}") for n in (3, 4, 5, 6)])
    before = [joined(first, "u"), *between]
    whole = kitchen.cook(*before, joined(second, "w"))
    stored = kitchen.cook(*before)
    types = {"k": "bigint"}
    kitchen.table("t", {name: types.get(name, "text") for name in stored.columns}, stored.rows)
    assert whole.sorted == kitchen.cook(joined(second, "w")).sorted


def test_one_table_may_be_put_under_twice_with_its_columns_in_another_order(kitchen: Kitchen) -> None:
    kitchen.table("t", {"a": "text", "b": "text", "c": "text"}, [("a1", "b1", "c1")])
    kitchen.table("u", {"a": "text", "b": "text", "c": "text"}, [("a2", "b2", "c2")])
    union = {"op": "union", "with": ["u"]}
    cooked = kitchen.cook(union, {"op": "select", "columns": ["c", "b", "a"]}, union)
    assert cooked.columns == ["c", "b", "a"]
    assert cooked.sorted == [("c1", "b1", "a1"), ("c2", "b2", "a2"), ("c2", "b2", "a2")]
    assert cooked.compiled.lineage["c"] == [("forms__t", "c"), ("forms__u", "c")]
