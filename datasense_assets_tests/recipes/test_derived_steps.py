"""Cells of the steps that take text apart and read something out of one column; every step's example, run."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from datasense_assets.recipes.compiling.kinds import CANONICAL
from datasense_assets.recipes.compiling.statement import postgres_type
from datasense_assets.recipes.examples import EXAMPLE_LABELS, EXAMPLE_OTHER, EXAMPLE_TABLE
from datasense_assets.recipes.language.steps import STEP_MODELS
from datasense_assets_tests.recipes.kitchen import Kitchen
from datasense_assets_tests.recipes.test_properties import fresh_kitchen
from datasense_assets_tests.recipes.test_window_steps import told

ODD = "odd 'v\" %s"


@pytest.mark.parametrize("op", STEP_MODELS)
def test_the_example_of_each_step_runs(kitchen: Kitchen, op: str) -> None:
    for alias, columns in (("visits", EXAMPLE_TABLE), ("people", EXAMPLE_OTHER)):
        shape = {name: postgres_type(CANONICAL[kind]) for name, kind in columns.items()}
        kitchen.table(alias, shape, [(None,) * len(columns)])
    kitchen.refs["visits"] = replace(kitchen.refs["visits"], choice_labels=EXAMPLE_LABELS)
    assert kitchen.cook(STEP_MODELS[op].example).columns


def extracted(kitchen: Kitchen, pattern: str, **more: Any) -> list[Any]:
    return kitchen.cook({"op": "extract", "column": ODD, "pattern": pattern, **more}).column(ODD)


def test_extract(kitchen: Kitchen) -> None:
    kitchen.table("t", {ODD: "text"}, [("ward 12, WARD 7",), ("none",), ("",), (None,)])
    assert extracted(kitchen, r"\d+") == ["12", None, None, None]
    assert extracted(kitchen, r"ward (\d+)") == ["12", None, None, None]
    assert extracted(kitchen, r"ward (\d+)", group=0) == ["ward 12", None, None, None]
    assert extracted(kitchen, r"(?i)(WARD) (\d+), ward (\d+)", group=3) == ["7", None, None, None]
    assert extracted(kitchen, r"(?i)(w)ARD", group=0) == ["ward", None, None, None]
    assert extracted(kitchen, r"(x)?n") == [None, None, None, None]
    assert extracted(kitchen, r"(?:w)(?=(a))(.)(?!(x)|y)(.)", group=4) == ["r", None, None, None]
    assert extracted(kitchen, r"(?=(n))(o|n)\2?", group=2) == [None, "n", None, None]
    assert extracted(kitchen, r"(?=(o))(o)(n)\3?e", group=0) == [None, "one", None, None]
    cooked = kitchen.cook({"op": "extract", "column": ODD, "pattern": "[a-z]+", "into": "w", "keep_source": False})
    assert (cooked.columns, cooked.rows[0]) == (["w"], ("ward",))
    assert cooked.compiled.lineage["w"] == [("forms__t", ODD)]
    kitchen.table("t", {ODD: "text"})
    assert extracted(kitchen, "a") == []


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        ({"column": "x", "pattern": "a"}, ("unknown_column", "steps[0].column")),
        ({"column": "n", "pattern": "a"}, ("type_mismatch", "steps[0].column")),
        ({"column": "s", "pattern": "(a"}, ("bad_pattern", "steps[0].pattern")),
        ({"column": "s", "pattern": r"(a)(?=\1)"}, ("bad_pattern", "steps[0].pattern")),
        ({"column": "s", "pattern": "(a)", "group": 2}, ("invalid_value", "steps[0].group")),
        ({"column": "s", "pattern": "(?=(a))b"}, ("bad_pattern", "steps[0].pattern")),
        ({"column": "s", "pattern": "(?!(?:(a)))(b)", "group": 1}, ("bad_pattern", "steps[0].group")),
        ({"column": "s", "pattern": r"(?=(a))b\1"}, ("bad_pattern", "steps[0].pattern")),
        ({"column": "s", "pattern": "a{,}"}, ("bad_pattern", "steps[0].pattern")),
    ],
)
def test_mistakes_in_extract(step: dict[str, Any], expected: tuple[str, str]) -> None:
    assert told([{"op": "extract", "into": "e", **step}, {"op": "select", "columns": ["e"]}]) == [expected]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.text("ab1 ", max_size=6), min_size=1, max_size=5),
    st.sampled_from(
        ["a+", "(a)(b)?", "b(1| )", "(?:a|b)1", "^(.)", "((a)|b)+1", "(?=(a)|b)(.)(?:1)?(b)?", r"(?!a)(b|1)(a?)\1"]
    ),
    st.integers(0, 3),
)
def test_extract_agrees_with_python(
    recipe_connection: psycopg.Connection, texts: list[str], pattern: str, group: int
) -> None:
    group = min(group, re.compile(pattern).groups)
    assume(not (pattern.startswith("(?=(") and group == 1))
    # Of a bracket inside a repeated one, PostgreSQL keeps what the last turn matched, Python what the last that did.
    assume(not (pattern == "((a)|b)+1" and group == 2))
    with fresh_kitchen(recipe_connection) as kitchen:
        kitchen.table("t", {ODD: "text"}, [(text,) for text in texts])
        found = extracted(kitchen, pattern, group=group)
    assert found == [match.group(group) if (match := re.search(pattern, text)) else None for text in texts]


def test_split_column(kitchen: Kitchen) -> None:
    kitchen.table("t", {ODD: "text"}, [("a, b,c",), ("a",), ("",), (None,), (",b",)])
    step = {"op": "split_column", "column": ODD, "delimiter": ",", "into": ["one", "two"]}
    cooked = kitchen.cook(step)
    assert cooked.columns == [ODD, "one", "two"]
    assert [row[1:] for row in cooked.rows] == [("a", "b"), ("a", None), (None, None), (None, None), ("", "b")]
    assert kitchen.cook({**step, "keep_source": False}).columns == ["one", "two"]
    assert kitchen.cook({**step, "keep_source": False, "into": [ODD]}).columns == [ODD]
    kitchen.table("t", {ODD: "text"}, [("a%s'b",)])
    assert kitchen.cook({**step, "delimiter": "%s'"}).column("two") == ["b"]
    assert told([{**step, "column": "n"}]) == [("type_mismatch", "steps[0].column")]
    assert told([{**step, "column": "s", "into": ["a", "a"]}]) == [("name_collision", "steps[0].into")]
    assert told([{**step, "column": "x", "delimiter": ""}]) == [("invalid_value", "steps[0].delimiter")]


def test_mask(kitchen: Kitchen) -> None:
    columns = {ODD: "text", "n": "bigint"}
    kitchen.table("t", columns, [("+91 98765 43210", 12345678), ("abc", 1), (None, None)])
    mask = {"op": "mask", "columns": [ODD, "n"]}
    assert kitchen.cook({**mask, "method": "blank"}).rows == [(None, None)] * 3
    assert kitchen.cook({**mask, "method": "partial"}).rows == [("***210", "***78"), ("***", "***"), (None, None)]
    cooked = kitchen.cook({**mask, "method": "hash"})
    assert (cooked.columns, cooked.rows[2]) == ([ODD, "n"], (None, None))
    assert cooked.rows[1] == (hashlib.sha256(b"abc").hexdigest(), hashlib.sha256(b"1").hexdigest())
    assert cooked.compiled.lineage["n"] == [("forms__t", "n")]
    assert told([{**mask, "columns": ["x"], "method": "hash"}]) == [("unknown_column", "steps[0].columns[0]")]
    assert told([{**mask, "columns": ["n", "n"], "method": "hash"}]) == [("name_collision", "steps[0].columns")]


def test_geopoint(kitchen: Kitchen) -> None:
    rows = [("-1.5 36.8 1600 4.5",), (" 12  77 ",), ("x 77 0 0",), ("",), (None,)]
    kitchen.table("t", {ODD: "text"}, rows)
    cooked = kitchen.cook({"op": "geopoint", "column": ODD})
    assert cooked.columns == [ODD, *(f"{ODD}_{name}" for name in ("latitude", "longitude", "altitude", "accuracy"))]
    assert [row[1:] for row in cooked.rows] == [
        (-1.5, 36.8, 1600.0, 4.5),
        (12.0, 77.0, None, None),
        (None, 77.0, 0.0, 0.0),
        (None,) * 4,
        (None,) * 4,
    ]
    assert [count for _, count in kitchen.lost(cooked)] == [1, 0, 0, 0]
    short = kitchen.cook({"op": "geopoint", "column": ODD, "prefix": "", "keep_source": False})
    assert short.columns == ["latitude", "longitude", "altitude", "accuracy"]
    assert told([{"op": "geopoint", "column": "n"}]) == [("type_mismatch", "steps[0].column")]
    assert {code for code, _ in told([{"op": "geopoint", "column": "s", "prefix": "x" * 60}])} == {"name_too_long"}


def test_label_values(kitchen: Kitchen) -> None:
    labels = {"sex": {"f": 'Female\'s "%s" ♀', "1": "One"}, "code": {"1": "Yes"}}
    ref = kitchen.table("t", {"sex": "text", "code": "bigint"}, [("f", 1), ("x", 2), (None, None), ("1", 1)])
    kitchen.refs["t"] = replace(ref, choice_labels=labels)
    step = {"op": "label_values", "column": "sex", "source": "t"}
    assert kitchen.cook(step).column("sex") == ['Female\'s "%s" ♀', "x", None, "One"]
    assert kitchen.cook({**step, "column": "code", "into": "word"}).column("word") == ["Yes", "2", None, "Yes"]
    renamed = kitchen.cook(
        {"op": "rename", "columns": {"sex": "gender"}}, {**step, "column": "gender", "source": "t.sex", "into": "label"}
    )
    assert renamed.column("label") == ['Female\'s "%s" ♀', "x", None, "One"]
    assert renamed.compiled.lineage["label"] == [("forms__t", "sex")]
    # New labels are new SQL, though the recipe and the columns are the same.
    kitchen.refs["t"] = replace(ref, choice_labels={"sex": {"f": "F"}})
    assert kitchen.cook(step).column("sex") == ["F", "x", None, "1"]


def test_mistakes_in_label_values() -> None:
    step = {"op": "label_values", "column": "s", "source": "t", "into": "label"}
    after = {"op": "drop", "columns": ["label"]}
    assert told([step, after]) == [("invalid_value", "steps[0].source")]
    assert told([{**step, "source": "u"}, after]) == [("unknown_input", "steps[0].source")]
    assert told([{**step, "source": "t.x"}, after]) == [("unknown_column", "steps[0].source")]


def binned(kitchen: Kitchen, **more: Any) -> list[Any]:
    return kitchen.cook({"op": "bin", "column": "x", "into": "bin", **more}).column("bin")


def test_bin(kitchen: Kitchen) -> None:
    kitchen.table("t", {"x": "double precision"}, [(-1,), (0,), (4.9,), (5,), (10,), (10.1,), (None,)])
    assert binned(kitchen, edges=[0, 5, 10]) == [None, "0-5", "0-5", "5-10", "5-10", None, None]
    labels = ["it's %s", "b"]
    assert binned(kitchen, edges=[0, 5, 10], labels=labels) == [None, *(labels[:1] * 2), *(labels[1:] * 2), None, None]
    assert binned(kitchen, width=2.5) == [-2.5, 0.0, 2.5, 5.0, 10.0, 10.0, None]
    kitchen.table("t", {"x": "bigint"}, [(-1,), (0,), (19,), (20,), (None,)])
    found = binned(kitchen, width=10)
    assert found == [-10, 0, 10, 20, None]
    assert isinstance(found[0], int)
    assert binned(kitchen, edges=[0, 20, 10**30])[2:4] == ["0-20", f"20-{10**30}"]
    kitchen.table("t", {"x": "bigint"}, [(2**63 - 1,), (-(2**63),), (1234567890123456789,)])
    assert binned(kitchen, width=10) == [2**63 - 8, None, 1234567890123456780]
    kitchen.table("t", {"x": "bigint"})
    assert binned(kitchen, edges=[0, 1]) == []


def test_a_number_at_the_edge_of_a_bin_is_in_it_though_no_double_is_that_edge(kitchen: Kitchen) -> None:
    numbers = [(0.3,), (0.7,), (1.1,), (-0.3,), (0.29,), (0.1 + 0.2,)]
    kitchen.table("t", {"x": "double precision"}, numbers)
    assert binned(kitchen, width=0.1) == [0.3, 0.7, 1.1, -0.3, 0.2, 0.3]
    kitchen.table("t", {"x": "numeric"}, numbers)
    assert binned(kitchen, width=0.1) == [0.3, 0.7, 1.1, -0.3, 0.2, 0.3]
    kitchen.table("t", {"x": "double precision"}, [(1234567890123456.0,), (2.0**53 - 1,)])
    assert binned(kitchen, width=1) == [1234567890123456.0, 2.0**53 - 1]


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, ("missing_field", "steps[0].edges")),
        ({"edges": [0, 1], "width": 1}, ("invalid_value", "steps[0]")),
        ({"column": "s", "width": 1}, ("type_mismatch", "steps[0].column")),
        ({"column": "x", "width": 1}, ("unknown_column", "steps[0].column")),
        ({"width": 0}, ("bad_literal", "steps[0].width")),
        ({"width": 5, "labels": ["a"]}, ("invalid_value", "steps[0].labels")),
        ({"edges": [0, "1"]}, ("bad_literal", "steps[0].edges[1]")),
        ({"edges": [0, 10**400]}, ("bad_literal", "steps[0].edges[1]")),
        ({"edges": [0, 5, 5]}, ("invalid_value", "steps[0].edges[2]")),
        ({"edges": [0]}, ("invalid_value", "steps[0].edges")),
        ({"edges": [0, 5], "labels": ["a", "b"]}, ("invalid_value", "steps[0].labels")),
    ],
)
def test_mistakes_in_bin(more: dict[str, Any], expected: tuple[str, str]) -> None:
    assert told([{"op": "bin", "column": "n", "into": "bin", **more}, {"op": "drop", "columns": ["bin"]}]) == [expected]


def test_expand_json(kitchen: Kitchen) -> None:
    fields = {"a": "integer", "it's %s": "text", "deep": "json"}
    rows = [('{"a": 1, "it\'s %s": "x", "deep": {"y": [1]}}',), ('{"a": "z", "deep": null}',), ("[1]",), (None,)]
    step = {"op": "expand_json", "column": "j", "fields": fields, "prefix": "j."}
    for kind in ("jsonb", "text"):
        kitchen.table("t", {"j": kind}, rows)
        cooked = kitchen.cook(step)
        assert cooked.columns == ["j.a", "j.it's %s", "j.deep"]
        assert cooked.rows == [(1, "x", {"y": [1]}), *([(None, None, None)] * 3)]
        assert dict(kitchen.lost(cooked))["j.a"] == 1
        assert cooked.compiled.lineage["j.a"] == [("forms__t", "j")]
    assert kitchen.cook({**step, "keep_source": True}).columns[0] == "j"
    kitchen.table("t", {"j": "jsonb"})
    assert kitchen.cook(step).rows == []
    assert told([{**step, "column": "n"}]) == [("type_mismatch", "steps[0].column")]
    assert told([{**step, "column": "x"}]) == [("unknown_column", "steps[0].column")]
    assert told([{**step, "prefix": "p" * 63, "fields": {"a": "text"}}]) == [("name_too_long", "steps[0].fields.a")]
    assert told([{**step, "fields": {"a": "txt"}}]) == [("invalid_value", "steps[0].fields.a")]
