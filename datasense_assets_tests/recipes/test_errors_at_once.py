"""A recipe of the wrong form is read on: what else is wrong is told with it, and nothing that is not."""

from __future__ import annotations

import copy
from typing import Any

import ibis
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from datasense_assets.recipes import Recipe, RecipeError, RecipeErrors, TableRef
from datasense_assets.recipes.compiling.compile import known_errors
from datasense_assets.recipes.parsing import parse_checks
from datasense_assets_tests.at_length import DEEP, examples
from datasense_assets_tests.recipes.chooser import Chooser, made_by
from datasense_assets_tests.recipes.fuzz import NOW, ODD_VALUES, SPITEFUL
from datasense_assets_tests.recipes.proving import OPERATIONS, random_example
from datasense_assets_tests.recipes.random_tables import SHAPES

Brief = list[tuple[str, str]]
BROKEN: list[tuple[dict[str, Any], str, tuple[str, str]]] = [
    ({"op": "formula", "column": "f", "formula": "1 +"}, "1 + 1", ("bad_formula", "formula")),
    (
        {"op": "filter", "where": {"column": "f", "operator": "matches", "value": "("}},
        "a+",
        ("bad_pattern", "where.value"),
    ),
    ({"op": "extract", "column": "f", "pattern": "[", "into": "g"}, "(a)", ("bad_pattern", "pattern")),
    (
        {"op": "cast", "columns": [{"column": "f", "to": "date", "format": "%Q"}]},
        "%d/%m/%Y",
        ("bad_pattern", "columns[0].format"),
    ),
]
OF_WHAT_IT_SAYS = {"bad_formula", "bad_pattern", "unknown_column", "unknown_input", "type_mismatch", "missing_table"}
TABLE = TableRef("org_x", "t", ibis.schema({"n": "int64", "s": "string", "d": "date"}))


def whole(*steps: Any, **more: Any) -> dict[str, Any]:
    return {"version": 1, "name": "r", "inputs": {"t": "source:forms.t"}, "steps": list(steps), **more}


def errors_of(data: Any, tables: dict[str, TableRef] | None = None) -> list[RecipeError]:
    try:
        recipe = Recipe.parse(data, None if tables is None else lambda _: tables)
    except RecipeErrors as errors:
        return list(errors.errors)
    return known_errors(recipe, tables or {})


def found(data: Any, tables: dict[str, TableRef] | None = None) -> Brief:
    return [(error.code, error.path) for error in errors_of(data, tables)]


def test_form_and_formula_are_told_together_in_the_order_of_the_recipe() -> None:
    steps = [
        {"op": "filter", "where": {"column": "x", "operator": "matches", "value": "("}},
        {"op": "formula", "column": 5, "formula": "1 + "},
        {"op": "cast", "columns": [{"column": "z", "to": "date", "format": "%Q"}]},
        {"op": "nonsense"},
        {"op": "extract", "column": "s", "pattern": "[", "into": "x", "colour": "red"},
        {"op": "join", "with": "u", "how": "semi", "on": [{"left": "a", "right": "b"}]},
    ]
    checks = [{"check": "no such"}, {"check": "pattern", "column": "n", "pattern": "a("}]
    assert found(whole(*steps, version=7, checks=checks, more=1)) == [
        ("invalid_value", "version"),
        ("bad_pattern", "steps[0].where.value"),
        ("invalid_value", "steps[1].column"),
        ("bad_formula", "steps[1].formula"),
        ("bad_pattern", "steps[2].columns[0].format"),
        ("invalid_value", "steps[3].op"),
        ("unknown_field", "steps[4].colour"),
        ("bad_pattern", "steps[4].pattern"),
        ("unknown_input", "steps[5].with"),
        ("invalid_value", "checks[0].check"),
        ("bad_pattern", "checks[1].pattern"),
        ("unknown_field", "more"),
    ]


def test_two_steps_of_one_id_and_a_broken_formula_are_told_together() -> None:
    step = {"op": "formula", "id": "a", "column": "f", "formula": "1 +"}
    assert found(whole(step, {"op": "limit", "rows": 1, "id": "a"})) == [
        ("bad_formula", "steps[0].formula"),
        ("duplicate_step_id", "steps[1].id"),
    ]


def test_columns_are_held_against_the_tables_up_to_a_gap_and_not_after_it() -> None:
    steps = [
        {"op": "formula", "column": "f", "formula": "n + s"},
        {"op": "drop", "columns": ["dd"]},
        {"op": "limit", "row": 3},
        {"op": "sort", "by": ["whatever"]},
        {"op": "formula", "column": "k", "formula": "1 + 1"},
        {"op": "formula", "column": "m", "formula": "k + 'a'"},
    ]
    output = {"materialize": "incremental", "key": ["d"]}
    checks = [{"check": "max_lossy_casts", "max": 0, "column": "n"}]
    assert found(whole(*steps, output=output, checks=checks), {"t": TABLE}) == [
        ("type_mismatch", "steps[0].formula"),
        ("unknown_column", "steps[1].columns[0]"),
        ("unknown_field", "steps[2].row"),
        ("type_mismatch", "steps[5].formula"),
    ]


def test_a_table_that_is_not_there_is_told_with_the_mistakes_of_form() -> None:
    assert found(whole({"op": "limit"}), {}) == [("missing_table", "inputs.t"), ("missing_field", "steps[0].rows")]
    assert found(whole({"op": "limit"})) == [("missing_field", "steps[0].rows")]


@pytest.mark.parametrize("inputs", [None, 3, [], {}, {3: "source:a.b"}])
def test_inputs_that_cannot_be_read_hide_no_formula_and_accuse_no_alias(inputs: Any) -> None:
    join = {"op": "join", "with": "u", "how": "left", "on": [{"left": "a", "right": "b"}]}
    told = found({**whole(join, BROKEN[0][0]), "inputs": inputs}, {"t": TABLE})
    assert told[-1] == ("bad_formula", "steps[1].formula")
    assert [path[:6] for _, path in told[:-1]] == ["inputs"]


def test_checks_of_a_source_are_read_on_too() -> None:
    checks = [{"check": "pattern", "column": "n", "pattern": "a("}, {"check": "no such"}]
    with pytest.raises(RecipeErrors) as caught:
        parse_checks(checks)
    assert [(error.code, error.path) for error in caught.value.errors] == [
        ("bad_pattern", "checks[0].pattern"),
        ("invalid_value", "checks[1].check"),
    ]


def recipe_and_change(choose: Chooser) -> tuple[dict[str, Any], int, int, Any, int]:
    """A right recipe, where to put a further step into it, which one, and what to put at which place of its form."""
    example = random_example(choose, NOW, OPERATIONS, choose.between(1, 3))
    shapes = example.shapes if example else SHAPES[:1]
    steps = copy.deepcopy(list(example.steps)) if example else []
    data = {
        "version": 1,
        "name": "r",
        "title": "a",
        "inputs": {shape.alias: f"source:forms.{shape.alias}" for shape in shapes},
        "steps": steps,
        "output": {"indexes": []},
        "checks": [{"check": "row_count", "min": 1}],
    }
    odd = copy.deepcopy(choose.one((*ODD_VALUES, *SPITEFUL)))
    return data, choose.between(0, len(steps)), choose.below(len(BROKEN)), odd, choose.below(1_000)


def with_step(data: dict[str, Any], index: int, step: dict[str, Any]) -> dict[str, Any]:
    changed = copy.deepcopy(data)
    changed["steps"].insert(index, copy.deepcopy(step))
    return changed


def righted(step: dict[str, Any], text: str) -> dict[str, Any]:
    changed = copy.deepcopy(step)
    holder: Any = changed["where"] if "where" in changed else changed.get("columns", [changed])[0]
    (name,) = {"formula", "pattern", "format", "value"} & holder.keys()
    holder[name] = text
    return changed


@settings(
    max_examples=examples(80),
    derandomize=not DEEP,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
@given(made_by(recipe_and_change))
def test_what_is_told_of_two_mistakes_is_what_is_told_of_each(
    made: tuple[dict[str, Any], int, int, Any, int],
) -> None:
    data, index, which, odd, place = made
    step, text, (code, at) = BROKEN[which]
    broken, right = with_step(data, index, step), with_step(data, index, righted(step, text))
    assume(found(right) == [])
    of_text = found(broken)
    assert of_text == [(code, f"steps[{index}].{at}")]
    places = [path for path in paths_of(right) if path != ("steps",) and path[:2] != ("steps", index)]
    path = places[place % len(places)]
    put(right, path, odd)
    put(broken, path, odd)
    assume(not has_right_form(right))
    of_form = found(right)
    assert not {told for told, _ in of_form} & OF_WHAT_IT_SAYS
    assert sorted(found(broken)) == sorted(of_form + of_text)


def paths_of(data: Any) -> list[tuple[Any, ...]]:
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [path for key, value in items for path in ((key,), *((key, *rest) for rest in paths_of(value)))]


def put(data: Any, path: tuple[Any, ...], value: Any) -> None:
    for key in path[:-1]:
        data = data[key]
    data[path[-1]] = copy.deepcopy(value)


def has_right_form(data: Any) -> bool:
    try:
        Recipe.model_validate(data)
    except ValidationError:
        return False
    return True


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | st.sampled_from(SPITEFUL),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["version", "name", "inputs", "steps", "op", "formula", "column", "columns", "where", "checks", "check"]
            )
            | st.text(max_size=3),
            inner,
            max_size=5,
        )
    ),
    max_leaves=30,
)


@settings(max_examples=examples(80), derandomize=not DEEP, database=None, deadline=None)
@given(JSON, st.fixed_dictionaries({}, optional=dict.fromkeys(whole(), JSON)))
def test_any_json_is_refused_with_reasons(anything: Any, parts: dict[str, Any]) -> None:
    for data in (anything, {**whole(BROKEN[0][0]), **parts}):
        told = errors_of(data, {"t": TABLE})
        assert len(told) == len(set(told))
