"""Cells that come out of the steps which make, change or choose columns."""

from __future__ import annotations

from typing import Any

import pytest

from datasense_assets_tests.recipes.kitchen import Kitchen, errors_of

ODD = ['we"ird', "100%s {x}", "😀 emoji", "ज़िला", "two words", "O'Neil\\", "-minus", "select", "a.b:c"]


def test_select_orders_and_drop_removes(kitchen: Kitchen) -> None:
    kitchen.table("t", {"a": "bigint", "b": "text", "c": "text"}, [(1, "x", "y")])
    selected = kitchen.cook({"op": "select", "columns": ["c", "a"]})
    assert (selected.columns, selected.rows) == (["c", "a"], [("y", 1)])
    dropped = kitchen.cook({"op": "drop", "columns": ["b"]})
    assert (dropped.columns, dropped.rows) == (["a", "c"], [(1, "y")])


def test_rename_keeps_places_and_may_exchange_names(kitchen: Kitchen) -> None:
    kitchen.table("t", {"a": "bigint", "b": "text", "c": "text"}, [(1, "x", "y")])
    cooked = kitchen.cook({"op": "rename", "columns": {"a": "b", "b": "a"}})
    assert (cooked.columns, cooked.rows) == (["b", "a", "c"], [(1, "x", "y")])


@pytest.mark.parametrize("name", ODD)
def test_odd_names_pass_through_every_kind_of_step(kitchen: Kitchen, name: str) -> None:
    kitchen.table("t", {name: "text", "n": "bigint"}, [("it's", 1), ("b%s", 2), (None, 3)])
    cooked = kitchen.cook(
        {"op": "filter", "where": {"column": name, "operator": "in", "value": ["it's", "b%s"]}},
        {"op": "concat", "parts": [{"column": name}, {"text": "%s '\"\\ 😀"}], "into": name + "2"},
        {
            "op": "aggregate",
            "group_by": [name],
            "aggregations": [{"fn": "max", "column": name + "2", "into": name + "3"}],
        },
        {"op": "rename", "columns": {name: name + "4"}},
        {"op": "sort", "by": ["-" + name + "4"]},
    )
    assert cooked.columns == [name + "4", name + "3"]
    assert cooked.rows == [("it's", "it's%s '\"\\ 😀"), ("b%s", "b%s%s '\"\\ 😀")]


def test_replace_whole_values(kitchen: Kitchen) -> None:
    kitchen.table("t", {"s": "text"}, [("f",), ("m",), (None,), ("x",)])
    mapping = [{"find": "f", "replace": "m"}, {"find": "m", "replace": "f"}]
    plain = kitchen.cook({"op": "replace_values", "column": "s", "mapping": mapping})
    assert plain.column("s") == ["m", "f", None, "x"]
    otherwise = kitchen.cook({"op": "replace_values", "column": "s", "mapping": mapping, "otherwise": "?", "into": "u"})
    assert (otherwise.columns, otherwise.column("u")) == (["s", "u"], ["m", "f", "?", "?"])
    nothing = kitchen.cook({"op": "replace_values", "column": "s", "mapping": mapping, "otherwise": None})
    assert nothing.column("s") == ["m", "f", None, None]


def test_replace_whole_numbers_by_words_needs_otherwise(kitchen: Kitchen) -> None:
    kitchen.table("t", {"n": "bigint"}, [(1,), (2,), (9,), (None,)])
    step = {
        "op": "replace_values",
        "column": "n",
        "mapping": [{"find": 1, "replace": "one"}, {"find": 2, "replace": None}],
    }
    assert kitchen.cook({**step, "otherwise": "many"}).column("n") == ["one", None, "many", "many"]
    assert [(e.code, e.path) for e in errors_of([step])] == [("bad_literal", "steps[0].mapping[0].replace")]


def test_replace_pieces_of_text(kitchen: Kitchen) -> None:
    kitchen.table("t", {"s": "text"}, [("a.b.c",), ("zz",), (None,)])
    substring = {
        "op": "replace_values",
        "column": "s",
        "match": "substring",
        "mapping": [{"find": ".", "replace": "-"}],
    }
    assert kitchen.cook(substring).column("s") == ["a-b-c", "zz", None]
    assert kitchen.cook({**substring, "otherwise": "none"}).column("s") == ["a-b-c", "none", "none"]
    pattern = {
        "op": "replace_values",
        "column": "s",
        "match": "regex",
        "mapping": [{"find": r"\b[a-c]", "replace": "x"}],
    }
    assert kitchen.cook(pattern).column("s") == ["x.x.x", "zz", None]


def test_coalesce_takes_the_first_that_is_not_null(kitchen: Kitchen) -> None:
    kitchen.table("t", {"a": "bigint", "b": "double precision"}, [(1, 2.5), (None, 2.5), (None, None)])
    cooked = kitchen.cook({"op": "coalesce", "columns": ["a", "b"], "into": "c", "default": 0})
    assert (cooked.columns, cooked.column("c")) == (["a", "b", "c"], [1.0, 2.5, 0.0])
    gone = kitchen.cook({"op": "coalesce", "columns": ["a", "b"], "into": "b", "keep_source": False})
    assert (gone.columns, gone.column("b")) == (["b"], [1.0, 2.5, None])


def test_case_takes_the_first_true_branch(kitchen: Kitchen) -> None:
    kitchen.table("t", {"n": "bigint", "s": "text"}, [(1, "a"), (10, "b"), (100, "c"), (None, "d")])
    step = {
        "op": "case",
        "cases": [
            {"when": {"column": "n", "operator": ">", "value": 50}, "then": "big"},
            {"when": {"column": "n", "operator": ">", "value": 5}, "then_column": "s"},
        ],
        "into": "size",
    }
    assert kitchen.cook(step).column("size") == [None, "b", "big", None]
    assert kitchen.cook({**step, "otherwise": "small"}).column("size") == ["small", "b", "big", "small"]
    assert kitchen.cook({**step, "into": "n"}).columns == ["n", "s"]


def test_case_of_numbers_does_not_overflow_afterwards(kitchen: Kitchen) -> None:
    kitchen.table("t", {"n": "bigint"}, [(1,)])
    always = {"column": "n", "operator": "is_not_null"}
    cooked = kitchen.cook(
        {"op": "case", "cases": [{"when": always, "then": 2_000_000_000}], "otherwise": 1, "into": "big"},
        {"op": "aggregate", "aggregations": [{"fn": "sum", "column": "big", "into": "total"}]},
        {"op": "formula", "column": "total", "formula": "total * 3"},
    )
    assert cooked.rows == [(6_000_000_000,)]


def test_concat_skips_nulls_and_takes_any_type(kitchen: Kitchen) -> None:
    columns = {"a": "text", "n": "bigint", "x": "double precision", "b": "boolean", "d": "date"}
    kitchen.table("t", columns, [("p", 1, 2.5, True, "2026-01-31"), (None, None, 3.0, None, None), (None,) * 5])
    parts = [{"column": name} for name in columns]
    cooked = kitchen.cook({"op": "concat", "parts": parts, "separator": ", ", "into": "all"})
    assert cooked.column("all") == ["p, 1, 2.5, true, 2026-01-31", "3", ""]
    # PostgreSQL's functions take a hundred arguments at most.
    for parts in (99, 100, 250):
        many = [{"column": "a"}, {"text": "-"}, *[{"column": "n"}] * (parts - 2)]
        found = kitchen.cook({"op": "concat", "parts": many, "separator": "%", "into": "all"}).column("all")
        assert found == ["%".join(["p", "-", *["1"] * (parts - 2)]), "-", "-"]


def test_split_choices_counts_whole_tokens_only(kitchen: Kitchen) -> None:
    kitchen.table("t", {"s": "text"}, [("water food",), ("waterfall",), ("",), (None,), ("  food ",)])
    cooked = kitchen.cook({"op": "split_choices", "column": "s", "choices": ["water", "food"]})
    assert cooked.columns == ["s", "s/water", "s/food"]
    assert [row[1:] for row in cooked.rows] == [
        (True, True),
        (False, False),
        (False, False),
        (None, None),
        (False, True),
    ]
    other = {
        "op": "split_choices",
        "column": "s",
        "choices": ["a b"],
        "delimiter": ";",
        "prefix": "has ",
        "keep_source": False,
    }
    kitchen.table("t", {"s": "text"}, [("a b; c",), ("a;b",), ("c;a b",)])
    assert kitchen.cook(other).columns == ["has a b"]
    assert kitchen.cook(other).column("has a b") == [True, False, True]


def test_formula_makes_or_replaces_a_column(kitchen: Kitchen) -> None:
    kitchen.table("t", {"a": "bigint", "two words": "bigint"}, [(7, 2), (1, 0), (None, 1)])
    made = kitchen.cook({"op": "formula", "column": "q", "formula": "a / [two words]"})
    assert (made.columns, made.column("q")) == (["a", "two words", "q"], [3.5, None, None])
    replaced = kitchen.cook({"op": "formula", "column": "a", "formula": "a + 1"})
    assert (replaced.columns, replaced.column("a")) == (["a", "two words"], [8, 2, None])


def test_every_step_works_on_an_empty_table(kitchen: Kitchen) -> None:
    kitchen.table("t", {"s": "text", "n": "bigint", "j": "jsonb"})
    steps: list[dict[str, Any]] = [
        {"op": "cast", "columns": [{"column": "n", "to": "number"}]},
        {"op": "expand_list", "column": "j", "fields": {"x": "integer"}, "index_into": "i", "keep_empty": True},
        {"op": "join", "with": "t", "how": "full", "on": [{"left": "n", "right": "n"}]},
        {"op": "union", "with": ["t"]},
        {"op": "sort", "by": ["n"]},
        {"op": "limit", "rows": 3},
    ]
    assert kitchen.cook(*steps).rows == []
    grouped = {"op": "aggregate", "group_by": ["n"], "aggregations": [{"fn": "count", "into": "c"}]}
    assert kitchen.cook(grouped).rows == []
    figures = [{"fn": fn, "column": "n", "into": fn} for fn in ("count", "sum", "avg", "median", "first", "mode")]
    assert kitchen.cook({"op": "aggregate", "aggregations": figures}).rows == [(0, None, None, None, None, None)]
