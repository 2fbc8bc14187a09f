"""What is allowed and probably not meant: each warning where it is due, and nowhere else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

import ibis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasense_assets.recipes import RecipeErrors, TableRef, compile_recipe
from datasense_assets.recipes.advice import form_warnings, never
from datasense_assets.recipes.errors import WARNINGS, WarningCode
from datasense_assets.recipes.keys import result_keys
from datasense_assets_tests.recipes.kitchen import recipe_of
from datasense_assets_tests.recipes.test_properties import COLUMNS, TREES, truth

COLUMN_TYPES = {"id": "int64", "n": "int64", "x": "float64", "s": "string", "d": "date", "at": "timestamp('UTC')"}
REF = TableRef("org_x", "forms__t", ibis.schema(COLUMN_TYPES), keys=frozenset({frozenset({"id"})}))


def warned(*steps: dict[str, Any], aliases: tuple[str, ...] = ("t",), **keys: frozenset[frozenset[str]]) -> list[Any]:
    refs = {alias: replace(REF, keys=keys.get(alias, REF.keys)) for alias in aliases}
    found = compile_recipe(recipe_of(steps, aliases), refs).warnings
    return [(warning.code, warning.path) for warning in found]


def is_never(*parts: dict[str, Any]) -> bool:
    recipe = recipe_of([{"op": "filter", "where": {"all": list(parts)}}])
    return never(recipe.steps[0].where) is not None  # type: ignore[union-attr]


def test_every_code_has_a_meaning() -> None:
    assert set(WARNINGS) == set(get_args(WarningCode))


@pytest.mark.parametrize(
    "parts",
    [
        [{"column": "n", "operator": "in", "value": []}],
        [{"column": "n", "operator": "between", "value": [5, 1]}],
        [{"column": "d", "operator": "between", "value": ["2026-02-01", "2026-01-01"]}],
        [{"column": "n", "operator": ">", "value_column": "n"}],
        [{"column": "n", "operator": ">", "value": 5}, {"column": "n", "operator": "<", "value": 5}],
        [{"column": "s", "operator": "=", "value": "f"}, {"column": "s", "operator": "=", "value": "m"}],
        [{"column": "s", "operator": "=", "value": "f"}, {"all": [{"column": "s", "operator": "in", "value": ["m"]}]}],
        [{"column": "s", "operator": "is_null"}, {"column": "s", "operator": "!=", "value": "f"}],
        [{"column": "s", "operator": "is_empty"}, {"column": "s", "operator": "is_not_empty"}],
        [{"any": []}],
        [{"any": [{"column": "n", "operator": "in", "value": []}, {"any": []}]}],
        [{"not": {"all": []}}],
    ],
)
def test_what_no_row_can_meet_is_told(parts: list[dict[str, Any]]) -> None:
    assert is_never(*parts)
    where = {"all": parts}
    assert warned({"op": "filter", "where": where}) == [("never_matches", "steps[0].where")]
    case = {"op": "case", "cases": [{"when": where, "then": 1}], "into": "c"}
    assert warned(case) == [("never_matches", "steps[0].cases[0].when")]


@pytest.mark.parametrize(
    "parts",
    [
        [{"column": "n", "operator": "in", "value": [], "or_null": True}],
        [{"column": "n", "operator": ">=", "value": 5}, {"column": "n", "operator": "<=", "value": 5}],
        [
            {"column": "at", "operator": "=", "value": "09:30"},
            {"column": "at", "operator": "=", "value": "09:30:00"},
        ],
        [{"column": "n", "operator": "=", "value": 1}, {"column": "x", "operator": "=", "value": 2}],
        [{"column": "n", "operator": "=", "value": 1}, {"column": "n", "operator": "=", "value": 1.0}],
        [{"any": [{"any": []}, {"column": "n", "operator": "=", "value": 1}]}],
        [],
    ],
)
def test_what_may_be_met_is_not(parts: list[dict[str, Any]]) -> None:
    assert not is_never(*parts)


CELLS = (st.sampled_from(["a", "b", ""]), st.integers(-5, 5), st.sampled_from([0.5, 2.0]), st.booleans())
ROWS = st.lists(st.tuples(*(st.none() | cell for cell in CELLS)), min_size=1)


@given(TREES, ROWS)
def test_a_condition_that_a_row_meets_is_never_called_impossible(tree: Any, rows: list[tuple[Any, ...]]) -> None:
    recipe = recipe_of([{"op": "filter", "where": tree}])
    if never(recipe.steps[0].where) is not None:  # type: ignore[union-attr]
        assert all(truth(tree, dict(zip(COLUMNS, row, strict=True))) is not True for row in rows)


def test_casts_that_do_nothing_are_told() -> None:
    def cast(**item: str) -> list[Any]:
        return warned({"op": "cast", "columns": [item]})

    assert cast(column="n", to="integer") == [("needless_cast", "steps[0].columns[0]")]
    assert cast(column="n", to="text", on_error="fail") == [("needless_cast", "steps[0].columns[0].on_error")]
    assert cast(column="s", to="text") == []  # it trims
    assert cast(column="s", to="integer", on_error="fail") == []
    assert cast(column="n", to="number") == []


@pytest.mark.parametrize(
    ("operator", "value", "told"),
    [
        ("<=", "2026-01-31", True),
        ("between", ["2026-01-01", "2026-01-31"], True),
        ("=", "2026-01-31", True),
        ("in", ["2026-01-31T09:30:00", "2026-01-31"], True),
        (">", "2026-01-31", True),
        (">=", "2026-01-01", False),
        ("<", "2026-02-01", False),
        ("between", ["2026-01-01", "2026-01-31T23:59:59"], False),
        ("<=", "2026-01-31T12:00:00+03:00", False),
    ],
)
def test_a_day_that_is_only_its_midnight_is_told(operator: str, value: Any, told: bool) -> None:
    where = {"column": "at", "operator": operator, "value": value}
    expected = [("midnight_only", "steps[0].where.all[0].value")] if told else []
    assert warned({"op": "filter", "where": {"all": [where]}}) == expected
    if "T" not in str(value):
        assert warned({"op": "filter", "where": {**where, "column": "d"}}) == []


@pytest.mark.parametrize(
    ("format", "to", "told"),
    [
        ("%Y-%m-%dT%H:%M:%SZ", "datetime", True),
        ("%d/%m/%Y %H:%M UTC", "datetime", True),
        ("%Y-%m-%dT%H:%M:%S%z", "datetime", False),
        ("%Y-%m-%dT%H:%M:%SZ", "date", False),
        ("%d %b %Y %H:%M", "datetime", False),
    ],
)
def test_a_zone_that_a_format_does_not_read_is_told(format: str, to: str, told: bool) -> None:
    step = {"op": "cast", "columns": [{"column": "s", "to": to, "format": format}]}
    assert warned(step) == ([("unread_zone", "steps[0].columns[0].format")] if told else [])


def test_a_join_off_the_known_keys_is_told() -> None:
    def joined(right: str, how: str = "left", keys: frozenset[frozenset[str]] = REF.keys) -> list[Any]:
        step = {"op": "join", "with": "o", "how": how, "on": [{"left": "n", "right": right}]}
        return warned(step, aliases=("t", "o"), o=keys)

    assert joined("n") == [("join_multiplies", "steps[0].on")]
    assert joined("id") == []
    assert joined("n", how="semi") == []
    assert joined("n", keys=frozenset()) == []  # nothing is known


@pytest.mark.parametrize(
    ("steps", "keys"),
    [
        ([], {"id"}),
        ([{"op": "aggregate", "group_by": ["s"], "aggregations": []}], {"s"}),
        ([{"op": "deduplicate", "keys": ["s", "d"]}, {"op": "select", "columns": ["s", "d"]}], {"s d"}),
        ([{"op": "rename", "columns": {"id": "no"}}], {"no"}),
        ([{"op": "drop", "columns": ["id"]}], set()),
        ([{"op": "mask", "columns": ["id"], "method": "partial"}], set()),
        ([{"op": "formula", "column": "id", "formula": "1"}], set()),
        ([{"op": "union", "with": ["o"]}], set()),
        ([{"op": "join", "with": "o", "how": "left", "on": [{"left": "n", "right": "id"}]}], {"id"}),
        ([{"op": "join", "with": "o", "how": "left", "on": [{"left": "n", "right": "n"}]}], set()),
    ],
)
def test_keys_follow_the_shape_of_the_steps(steps: list[dict[str, Any]], keys: set[str]) -> None:
    found = result_keys(recipe_of(steps, ["t", "o"]), lambda _: REF.keys)
    assert found == {frozenset(key.split()) for key in keys}
    declared = recipe_of(steps, ["t", "o"], checks=[{"check": "unique", "columns": ["x"]}])
    assert frozenset({"x"}) in result_keys(declared, lambda _: ())


def test_inputs_that_nothing_uses_and_limits_without_order() -> None:
    limit = {"op": "limit", "rows": 1}
    assert [w.code for w in form_warnings(recipe_of([limit], ["t", "o"]))] == ["unused_input", "unordered_limit"]
    sort = {"op": "sort", "by": ["n"]}
    assert form_warnings(recipe_of([sort, {"op": "drop", "columns": ["s"]}, limit])) == []


@pytest.mark.parametrize(
    "step",
    [
        {"op": "window", "fn": "row_number", "into": "place", "order_by": ["s"]},
        {"op": "deduplicate", "keys": ["s"]},
        {"op": "fill_missing", "columns": ["s"], "method": "down", "order_by": ["n"]},
        {"op": "aggregate", "group_by": ["s"], "aggregations": []},
        {"op": "unpivot", "columns": ["n"], "names_to": "which", "values_to": "number"},
    ],
)
def test_a_limit_after_a_step_that_orders_rows_for_itself_has_no_order(step: dict[str, Any]) -> None:
    sort, limit = {"op": "sort", "by": ["-n"]}, {"op": "limit", "rows": 1}
    assert [w.code for w in form_warnings(recipe_of([sort, step, limit]))] == ["unordered_limit"]
    assert form_warnings(recipe_of([step, sort, limit])) == []
    filled = {"op": "fill_missing", "columns": ["s"], "method": "value", "value": "x"}
    assert form_warnings(recipe_of([sort, filled, limit])) == []


@pytest.mark.parametrize(
    ("step", "words"),
    [
        ({"op": "sort", "by": ["s"]}, "step 1 (drop) removed it"),
        (
            {"op": "formula", "column": "y", "formula": "n + 1"},
            "at character 1 of the formula: There is no column n: step 2 (rename) calls it 'm' now",
        ),
        ({"op": "filter", "where": {"column": "n", "operator": "=", "value": 1}}, "step 2 (rename) calls it 'm' now"),
    ],
)
def test_a_column_that_is_gone_is_told_with_what_took_it(step: dict[str, Any], words: str) -> None:
    steps = [{"op": "drop", "columns": ["s"]}, {"op": "rename", "columns": {"n": "m"}}, step]
    with pytest.raises(RecipeErrors) as caught:
        compile_recipe(recipe_of(steps), {"t": REF})
    (error,) = caught.value.errors
    assert error.code == "unknown_column"
    assert words in error.message
