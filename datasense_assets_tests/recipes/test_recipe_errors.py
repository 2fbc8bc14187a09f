"""Every code of the contract, all mistakes at once, and one error for one mistake."""

from __future__ import annotations

from typing import Any

import ibis
import pytest

from datasense_assets.recipes import Recipe, RecipeError, RecipeErrors, TableRef, compile_recipe, recipe_order
from datasense_assets.recipes.compiling.compile import known_errors
from datasense_assets.recipes.errors import CODES, MEANINGS
from datasense_assets.recipes.language.steps import STEP_MODELS
from datasense_assets_tests.recipes.kitchen import errors_of, recipe_of

WHOLE: dict[str, Any] = {"version": 1, "name": "r", "inputs": {"t": "source:forms.t"}, "steps": []}
FILTER = {"op": "filter", "where": {"column": "n", "operator": "=", "value": 1}}
RIGHT = {"n": "bigint", "n_2": "bigint", "s": "text", "j": "jsonb", "only": "text"}


def parse_errors(data: Any) -> list[RecipeError]:
    with pytest.raises(RecipeErrors) as caught:
        Recipe.parse(data)
    return list(caught.value.errors)


def brief(errors: list[RecipeError]) -> list[tuple[str, str]]:
    return [(error.code, error.path) for error in errors]


STEP_ERRORS: list[tuple[dict[str, Any], list[tuple[str, str]]]] = [
    ({"op": "select", "columns": ["n", "N"]}, [("unknown_column", "columns[1]")]),
    ({"op": "select", "columns": ["n", "n"]}, [("name_collision", "columns")]),
    ({"op": "select", "columns": []}, [("invalid_value", "columns")]),
    ({"op": "drop", "columns": ["zz"]}, [("unknown_column", "columns[0]")]),
    ({"op": "drop", "columns": ["n", "s", "d", "b", "j"]}, [("invalid_value", "columns")]),
    ({"op": "rename", "columns": {"zz": "y"}}, [("unknown_column", "columns.zz")]),
    ({"op": "rename", "columns": {"n": "s"}}, [("name_collision", "columns")]),
    ({"op": "rename", "columns": {"n": "ज" * 22}}, [("name_too_long", "columns.n")]),
    ({"op": "rename", "columns": {"n": ""}}, [("invalid_value", "columns.n")]),
    ({"op": "cast", "columns": [{"column": "n", "to": "text"}] * 2}, [("name_collision", "columns")]),
    ({"op": "formula", "column": "f", "formula": "n +"}, [("bad_formula", "formula")]),
    ({"op": "formula", "column": "f", "formula": "nn + 1"}, [("unknown_column", "formula")]),
    ({"op": "formula", "column": "f", "formula": "n + s"}, [("type_mismatch", "formula")]),
    ({"op": "formula", "column": "f" * 64, "formula": "1"}, [("name_too_long", "column")]),
    (
        {"op": "replace_values", "column": "s", "match": "regex", "mapping": [{"find": "[", "replace": ""}]},
        [("bad_pattern", "mapping[0].find")],
    ),
    (
        {"op": "replace_values", "column": "n", "match": "substring", "mapping": [{"find": "1", "replace": ""}]},
        [("type_mismatch", "column")],
    ),
    (
        {"op": "replace_values", "column": "n", "mapping": [{"find": "1", "replace": 2}]},
        [("bad_literal", "mapping[0].find")],
    ),
    ({"op": "coalesce", "columns": ["n", "s"], "into": "x"}, [("type_mismatch", "columns[1]")]),
    ({"op": "coalesce", "columns": ["n"], "into": "x", "default": "0"}, [("bad_literal", "default")]),
    (
        {"op": "case", "cases": [{"when": FILTER["where"], "then": 1}], "otherwise": "x", "into": "c"},
        [("bad_literal", "cases[0].then")],
    ),
    (
        {"op": "case", "cases": [{"when": FILTER["where"], "then_column": "n"}], "otherwise": "x", "into": "c"},
        [("bad_literal", "otherwise")],
    ),
    (
        {"op": "case", "cases": [{"when": FILTER["where"], "then": 1, "then_column": "n"}], "into": "c"},
        [("invalid_value", "cases[0]")],
    ),
    ({"op": "case", "cases": [{"when": FILTER["where"]}], "into": "c"}, [("missing_field", "cases[0].then")]),
    ({"op": "concat", "parts": [{"column": "zz"}], "into": "c"}, [("unknown_column", "parts[0].column")]),
    ({"op": "concat", "parts": [{}], "into": "c"}, [("missing_field", "parts[0].column")]),
    ({"op": "split_choices", "column": "n", "choices": ["a"]}, [("type_mismatch", "column")]),
    ({"op": "split_choices", "column": "s", "choices": ["a b"]}, [("invalid_value", "choices[0]")]),
    ({"op": "split_choices", "column": "s", "choices": ["a", "a"]}, [("name_collision", "choices")]),
    ({"op": "split_choices", "column": "s", "choices": ["x" * 62]}, [("name_too_long", "choices[0]")]),
    ({"op": "expand_list", "column": "n", "fields": {"a": "text"}}, [("type_mismatch", "column")]),
    ({"op": "expand_list", "column": "j"}, [("missing_field", "fields")]),
    (
        {"op": "expand_list", "column": "j", "fields": {"a": "text"}, "index_into": "a"},
        [("name_collision", "index_into")],
    ),
    ({"op": "expand_list", "column": "s", "delimiter": ",", "keep_source": True}, [("invalid_value", "keep_source")]),
    ({"op": "sort", "by": ["-zz", "j"]}, [("unknown_column", "by[0]"), ("type_mismatch", "by[1]")]),
    ({"op": "limit", "rows": -1}, [("invalid_value", "rows")]),
    ({"op": "limit", "rows": True}, [("invalid_value", "rows")]),
    ({"op": "limit"}, [("missing_field", "rows")]),
    ({"op": "join", "with": "r", "how": "left", "on": [{"left": "n", "right": "s"}]}, [("join_key_type", "on[0]")]),
    (
        {"op": "join", "with": "r", "how": "left", "on": [{"left": "nn", "right": "n"}]},
        [("unknown_column", "on[0].left")],
    ),
    (
        {"op": "join", "with": "r", "how": "left", "on": [{"left": "n", "right": "m"}]},
        [("unknown_column", "on[0].right")],
    ),
    ({"op": "join", "with": "rr", "how": "left", "on": [{"left": "n", "right": "n"}]}, [("unknown_input", "with")]),
    (
        {"op": "join", "with": "r", "how": "left", "on": [{"left": "j", "right": "j"}], "columns": ["onyl"]},
        [("join_key_type", "on[0]"), ("unknown_column", "columns[0]")],
    ),
    (
        {"op": "join", "with": "r", "how": "left", "on": [{"left": "n", "right": "n"}], "suffix": "x" * 63},
        [("name_too_long", "suffix")] * 2,
    ),
    (
        {"op": "join", "with": "r", "how": "semi", "on": [{"left": "n", "right": "n"}], "columns": ["s"]},
        [("invalid_value", "")],
    ),
    ({"op": "union", "with": ["r", "q"]}, [("unknown_input", "with[1]")]),
    ({"op": "union", "with": ["r"], "source_column": "s"}, [("name_collision", "source_column")]),
    (
        {"op": "aggregate", "aggregations": [{"fn": "sum", "column": "s", "into": "x"}]},
        [("type_mismatch", "aggregations[0].column")],
    ),
    ({"op": "aggregate", "aggregations": [{"fn": "sum", "into": "x"}]}, [("missing_field", "aggregations[0].column")]),
    ({"op": "aggregate", "aggregations": []}, [("invalid_value", "")]),
    (
        {"op": "aggregate", "group_by": ["n"], "aggregations": [{"fn": "count", "into": "n"}]},
        [("name_collision", "aggregations")],
    ),
    (
        {"op": "aggregate", "group_by": ["j"], "aggregations": [{"fn": "count", "into": "c"}]},
        [("type_mismatch", "group_by[0]")],
    ),
    (
        {"op": "aggregate", "aggregations": [{"fn": "summ", "column": "n", "into": "x"}]},
        [("invalid_value", "aggregations[0].fn")],
    ),
]


@pytest.mark.parametrize(("step", "expected"), STEP_ERRORS)
def test_a_wrong_step_says_where(step: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    after = {"op": "limit", "rows": 1}
    paths = [(code, f"steps[0].{place}".rstrip(".")) for code, place in expected]
    found = errors_of([step, after], r=RIGHT)
    assert brief(found) == paths
    assert all(error.message.startswith(f"Step 1 ({step['op']})") for error in found)


def test_a_collision_that_the_suffix_does_not_mend() -> None:
    left = {"n": "bigint", "s": "text", "s_2": "text"}
    found = errors_of([{"op": "join", "with": "r", "how": "left", "on": [{"left": "n", "right": "n"}]}], left, r=RIGHT)
    assert brief(found) == [("name_collision", "steps[0].suffix")]


def test_two_right_columns_that_come_to_one_name() -> None:
    found = errors_of([{"op": "join", "with": "r", "how": "left", "on": [{"left": "s", "right": "s"}]}], r=RIGHT)
    assert brief(found) == [("name_collision", "steps[0].suffix")]


def test_union_of_types_that_do_not_mix() -> None:
    found = errors_of([{"op": "union", "with": ["r"]}], {"n": "text", "x": "date"}, r=RIGHT)
    assert brief(found) == [("type_mismatch", "steps[0].with[0]")]


def test_one_mistake_gives_one_error_however_much_hangs_on_it() -> None:
    steps = [
        {"op": "cast", "columns": [{"column": "yeer", "to": "integer"}]},
        {"op": "formula", "column": "next", "formula": "yeer + 1"},
        {"op": "join", "with": "r", "how": "left", "on": [{"left": "next", "right": "n"}]},
        {"op": "filter", "where": {"column": "only", "operator": "=", "value": "x"}},
        {"op": "aggregate", "group_by": ["yeer", "s"], "aggregations": [{"fn": "sum", "column": "next", "into": "t"}]},
        {"op": "rename", "columns": {"t": "total"}},
        {"op": "sort", "by": ["-total", "yeer"]},
        {"op": "select", "columns": ["total", "s"]},
    ]
    found = errors_of(steps, {"year": "text", "s": "text"}, r=RIGHT)
    assert brief(found) == [("unknown_column", "steps[0].columns[0].column")]
    assert found[0].suggestion == "year"
    assert found[0].message.startswith("Step 1 (cast): ")


def test_mistakes_of_all_steps_are_told_together_in_order() -> None:
    steps = [
        {"op": "filter", "id": "only this year", "where": {"column": "n", "operator": "=", "value": "1"}},
        {"op": "drop", "columns": ["s"]},
        {"op": "sort", "by": ["s"]},
        {"op": "join", "with": "nowhere", "how": "left", "on": [{"left": "m", "right": "whatever"}]},
        {"op": "formula", "column": "x", "formula": "d * 2"},
    ]
    found = errors_of(steps)
    assert brief(found) == [
        ("bad_literal", "steps[0].where.value"),
        ("unknown_column", "steps[2].by[0]"),
        ("unknown_input", "steps[3].with"),
        ("unknown_column", "steps[3].on[0].left"),
        ("type_mismatch", "steps[4].formula"),
    ]
    assert found[0].message.startswith("Step 1 (filter 'only this year'): ")


def test_output_and_checks_name_columns_of_the_result() -> None:
    with pytest.raises(RecipeErrors) as caught:
        compile_recipe(
            recipe_of(
                [{"op": "drop", "columns": ["s"]}],
                output={"indexes": [["n"], ["s"]]},
                checks=[
                    {"check": "not_null", "column": "s"},
                    {"check": "unique", "columns": ["n", "nn"]},
                    {"check": "accepted_values", "column": "n", "values": [1, "2"]},
                ],
            ),
            {"t": TableRef("org_x", "t", ibis.schema({"n": "int64", "s": "string"}))},
        )
    assert brief(list(caught.value.errors)) == [
        ("unknown_column", "output.indexes[1][0]"),
        ("unknown_column", "checks[0].column"),
        ("unknown_column", "checks[1].columns[1]"),
        ("bad_literal", "checks[2].values[1]"),
    ]


def test_an_input_without_a_table_is_one_error_and_hides_what_cannot_be_known() -> None:
    recipe = recipe_of([FILTER, {"op": "filter", "where": {"column": "n", "operator": "in", "value": 3}}], ["t", "r"])
    with pytest.raises(RecipeErrors) as caught:
        compile_recipe(recipe, {"r": TableRef("org_x", "r", ibis.schema({"n": "int64"}))})
    assert brief(list(caught.value.errors)) == [("missing_table", "inputs.t")]


FORM: list[tuple[dict[str, Any], list[tuple[str, str]]]] = [
    ({"version": 2}, [("invalid_value", "version")]),
    ({"name": "No Spaces"}, [("invalid_value", "name")]),
    ({"name": "a__b"}, [("invalid_value", "name")]),
    ({"name": "a--b"}, [("invalid_value", "name")]),
    ({"name": "a-_b"}, [("invalid_value", "name")]),
    ({"inputs": {}}, [("invalid_value", "inputs")]),
    ({"inputs": {"t": "table:x"}}, [("invalid_value", "inputs.t")]),
    ({"stepz": []}, [("unknown_field", "stepz")]),
    ({"steps": "none"}, [("invalid_value", "steps")]),
    ({"steps": [3]}, [("invalid_value", "steps[0]")]),
    ({"steps": [{}]}, [("missing_field", "steps[0].op")]),
    ({"steps": [{"op": "filtre", "where": {}}]}, [("invalid_value", "steps[0].op")]),
    ({"steps": [{"op": "limit", "row": 3}]}, [("unknown_field", "steps[0].row")]),
    ({"steps": [{**FILTER, "sql": "drop table"}]}, [("unknown_field", "steps[0].sql")]),
    (
        {"steps": [{"op": "join", "with": "t", "how": "left", "on": [{"left": 3, "right": "n"}]}]},
        [("invalid_value", "steps[0].on[0].left")],
    ),
    ({"steps": [{**FILTER, "id": "a"}, {**FILTER, "id": "a"}]}, [("duplicate_step_id", "steps[1].id")]),
    ({"output": {"materialize": "cube"}}, [("invalid_value", "output.materialize")]),
    ({"checks": [{"check": "nice"}]}, [("invalid_value", "checks[0].check")]),
]


@pytest.mark.parametrize(("change", "expected"), FORM)
def test_mistakes_of_form(change: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    assert brief(parse_errors({**WHOLE, **change})) == expected


def test_mistakes_of_form_are_told_together_duplicates_too() -> None:
    found = parse_errors({"steps": [{**FILTER, "id": "a"}, {"op": "limit", "id": "a"}, {"op": "nope"}], "extra": 1})
    assert sorted(brief(found)) == sorted(
        [
            ("missing_field", "version"),
            ("missing_field", "name"),
            ("missing_field", "inputs"),
            ("unknown_field", "extra"),
            ("missing_field", "steps[1].rows"),
            ("invalid_value", "steps[2].op"),
            ("duplicate_step_id", "steps[1].id"),
        ]
    )


def test_suggestions_name_the_field_the_step_and_the_choice() -> None:
    steps = [{"op": "filtre"}, {"op": "limit", "row": 3}, {"op": "join", "with": "t", "how": "lefft", "on": []}]
    found = {error.path: error.suggestion for error in parse_errors({**WHOLE, "steps": steps})}
    assert found["steps[0].op"] == "filter"
    assert found["steps[1].row"] == "rows"
    assert found["steps[2].how"] == "left"


def test_a_step_that_is_not_there_says_so_and_what_there_is() -> None:
    (error,) = parse_errors({**WHOLE, "steps": [{"op": "transmogrify", "whatever": 1}]})
    assert (error.code, error.path) == ("invalid_value", "steps[0].op")
    assert "transmogrify" in error.message
    assert all(name in error.message for name in STEP_MODELS)


@pytest.mark.parametrize("data", [None, [], "recipe", 3])
def test_what_is_no_object_is_refused(data: Any) -> None:
    assert brief(parse_errors(data)) == [("invalid_value", "")]


def test_a_condition_nested_without_end_is_refused() -> None:
    where: dict[str, Any] = {"column": "n", "operator": "is_null"}
    for _ in range(5_000):
        where = {"not": where}
    assert brief(parse_errors({**WHOLE, "steps": [{"op": "filter", "where": where}]})) == [("invalid_value", "")]


@pytest.mark.parametrize("op", sorted(STEP_MODELS))
def test_without_tables_the_example_of_a_step_has_no_mistake(op: str) -> None:
    recipe = recipe_of([STEP_MODELS[op].example], ["visits", "people"])
    assert known_errors(recipe, {}) == []


def test_more_columns_than_a_table_has_are_refused_once() -> None:
    many = [f"c{i}" for i in range(1_600)]
    made = {"op": "split_column", "column": "s", "delimiter": ",", "into": many}
    more = {"op": "formula", "column": "one more", "formula": "n"}
    filled = {"op": "fill_missing", "columns": many[:10], "method": "down", "order_by": ["n"]}
    assert brief(errors_of([made, more, filled])) == [("invalid_value", "steps[0]")]
    fits = [{"op": "select", "columns": ["n", "s"]}, {**made, "into": many[:1_595]}]
    assert brief(errors_of([*fits, more])) == []
    assert brief(errors_of([*fits, filled])) == [("invalid_value", "steps[2]")]


def test_without_tables_formulas_patterns_and_formats_are_read() -> None:
    steps = [
        {"op": "filter", "where": {"not": {"column": "x", "operator": "matches", "value": "("}}},
        {"op": "formula", "column": "y", "formula": "1 + "},
        {"op": "cast", "columns": [{"column": "z", "to": "date", "format": "%Q"}]},
        {"op": "join", "with": "u", "how": "semi", "on": [{"left": "a", "right": "b"}]},
    ]
    found = [(error.code, error.path) for error in known_errors(recipe_of(steps), {})]
    assert found == [
        ("bad_pattern", "steps[0].where.not.value"),
        ("bad_formula", "steps[1].formula"),
        ("bad_pattern", "steps[2].columns[0].format"),
        ("unknown_input", "steps[3].with"),
    ]


def test_too_many_steps_on_one_column_say_how_to_split() -> None:
    step = {"op": "formula", "column": "n", "formula": "n + 1"}
    assert brief(errors_of([step] * 100)) == [("invalid_value", "steps")]
    assert brief(parse_errors({**WHOLE, "steps": [step] * 101})) == [("invalid_value", "steps")]
    assert errors_of([step] * 15) == []


def recipe_reading(name: str, *inputs: str) -> Recipe:
    aliases = {f"i{i}": text for i, text in enumerate(inputs)}
    return Recipe.parse({"version": 1, "name": name, "inputs": aliases, "steps": []})


def test_recipes_come_after_what_they_read() -> None:
    recipes = [
        recipe_reading("c", "recipe:b-2", "recipe:a"),
        recipe_reading("b-2", "recipe:a", "source:s.t"),
        recipe_reading("a", "source:s.t"),
        recipe_reading("alone", "recipe:elsewhere"),
    ]
    assert recipe_order(recipes) == ("a", "alone", "b-2", "c")


def test_a_circle_of_recipes_is_named() -> None:
    recipes = [recipe_reading("a", "recipe:b"), recipe_reading("b", "recipe:c"), recipe_reading("c", "recipe:a")]
    with pytest.raises(RecipeErrors) as caught:
        recipe_order(recipes)
    (error,) = caught.value.errors
    assert (error.code, error.path) == ("cycle", "inputs.i0")
    for pair in ("a reads b", "b reads c", "c reads a"):
        first, second = pair.split(" reads ")
        assert f"{first} reads {second}" in error.message or error.message.count(" reads ") == 3


def test_a_recipe_that_reads_itself_is_a_circle() -> None:
    with pytest.raises(RecipeErrors, match="reads itself"):
        recipe_order([recipe_reading("a-b", "recipe:a_b")])


def test_every_code_has_a_meaning() -> None:
    assert tuple(MEANINGS) == CODES
