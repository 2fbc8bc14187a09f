"""Renaming a column of an input: the recipe written anew makes the same rows of the renamed table."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import ibis
import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasense_assets.recipes import Recipe, RecipeErrors, TableRef, compile_recipe, rename_column
from datasense_assets.recipes.compiling.kinds import CANONICAL
from datasense_assets.recipes.compiling.walk import names_before
from datasense_assets.recipes.examples import EXAMPLE_LABELS, EXAMPLE_OTHER, EXAMPLE_TABLE
from datasense_assets.recipes.language.checks import CHECK_MODELS
from datasense_assets.recipes.language.steps import STEP_MODELS
from datasense_assets_tests.at_length import examples
from datasense_assets_tests.recipes.kitchen import SCHEMA, recipe_of, schema_of
from datasense_assets_tests.recipes.test_properties import fresh_kitchen

ODD = "the [new] 'name', no. 2"
EXAMPLES = {
    alias: TableRef("org_x", alias, ibis.schema({name: CANONICAL[kind] for name, kind in columns.items()}))
    for alias, columns in (("visits", EXAMPLE_TABLE), ("people", EXAMPLE_OTHER))
}
EXAMPLES["visits"] = replace(EXAMPLES["visits"], choice_labels=EXAMPLE_LABELS)


def renamed_ref(ref: TableRef, old: str, new: str) -> TableRef:
    def name(column: str) -> str:
        return new if column == old else column

    columns = ibis.schema({name(column): dtype for column, dtype in ref.columns.items()})
    return replace(ref, columns=columns, choice_labels={name(c): found for c, found in ref.choice_labels.items()})


def steps_of(recipe: Recipe) -> list[dict[str, Any]]:
    return [step.model_dump(mode="json", by_alias=True, exclude_unset=True) for step in recipe.steps]


@pytest.mark.parametrize("op", STEP_MODELS)
def test_the_example_of_each_step_compiles_over_each_renamed_column(op: str) -> None:
    recipe = recipe_of([STEP_MODELS[op].example], list(EXAMPLES))
    before = compile_recipe(recipe, EXAMPLES)
    for alias, ref in EXAMPLES.items():
        for old in ref.columns:
            try:
                renamed = rename_column(recipe, old, ODD, alias=alias, inputs=EXAMPLES)
            except RecipeErrors as errors:
                assert {error.code for error in errors.errors} == {"name_collision"}
                assert op == "union"
                continue
            after = compile_recipe(renamed, {**EXAMPLES, alias: renamed_ref(ref, old, ODD)})
            assert list(before.schema.types) == list(after.schema.types)
            assert set(after.schema.names) - set(before.schema.names) <= {ODD}


COLUMNS = {"k": "bigint", "a": "text", "b": "text", "n": "bigint"}
OTHER = {"k": "bigint", "a": "text", "m": "bigint"}
NAME = st.sampled_from([*COLUMNS, "a_2", "m", "x"])
STEPS = st.one_of(
    st.builds(lambda c: {"op": "select", "columns": c}, st.lists(NAME, min_size=1, unique=True)),
    st.builds(lambda c: {"op": "drop", "columns": [c]}, NAME),
    st.builds(lambda a, b: {"op": "rename", "columns": {a: b}}, NAME, NAME),
    st.builds(lambda a, b: {"op": "rename", "columns": {a: b, b: a}}, NAME, NAME),
    st.builds(lambda c: {"op": "filter", "where": {"not": {"column": c, "operator": "is_null"}}}, NAME),
    st.builds(lambda a, b: {"op": "filter", "where": {"column": a, "operator": "=", "value_column": b}}, NAME, NAME),
    st.builds(lambda a, b: {"op": "formula", "column": a, "formula": f"concat([{b}], 'a', {b}, \"[n]\")"}, NAME, NAME),
    st.builds(lambda a, b, i: {"op": "coalesce", "columns": [a, b], "into": i, "keep_source": False}, NAME, NAME, NAME),
    st.builds(lambda a, i: {"op": "concat", "parts": [{"column": a}, {"text": "k"}], "into": i}, NAME, NAME),
    st.builds(
        lambda how, r: {"op": "join", "with": "o", "how": how, "on": [{"left": "k", "right": r}]},
        st.sampled_from(["left", "inner", "semi", "full"]),
        st.sampled_from(["k", "m"]),
    ),
    st.builds(
        lambda k, c: {"op": "join", "with": "o", "how": "left", "on": [{"left": k[0], "right": k[1]}], "columns": c},
        st.sampled_from(["nm", "kk", "mm"]),
        st.lists(st.sampled_from(list(OTHER)), min_size=1, unique=True),
    ),
    st.builds(lambda d: {"op": "union", "with": ["o"], "distinct": d}, st.booleans()),
    st.builds(
        lambda g, c, i: {"op": "aggregate", "group_by": [g], "aggregations": [{"fn": "max", "column": c, "into": i}]},
        *(NAME, NAME, NAME),
    ),
    st.builds(lambda c: {"op": "unpivot", "columns": ["a", c], "names_to": "x", "values_to": "m"}, NAME),
    st.builds(lambda a, b: {"op": "deduplicate", "keys": [a, b], "order_by": [f"-{b}"]}, NAME, NAME),
    st.builds(
        lambda i, p, o: {"op": "window", "fn": "rank", "into": i, "partition_by": [p], "order_by": [f"-{o}"]},
        *(NAME, NAME, NAME),
    ),
    st.builds(lambda c: {"op": "split_choices", "column": c, "choices": ["p"]}, NAME),
    st.builds(lambda c: {"op": "geopoint", "column": c}, NAME),
)
CELL = st.none() | st.sampled_from(["p", "q", "k"])
NUMBER = st.none() | st.integers(0, 2)


def longest(steps: list[dict[str, Any]], refs: dict[str, TableRef]) -> Recipe:
    """A recipe of those of the steps that compile one after another."""
    good: list[dict[str, Any]] = []
    for step in steps:
        try:
            compile_recipe(recipe_of([*good, step], list(refs)), refs)
        except RecipeErrors:
            continue
        good.append(step)
    return recipe_of(good, list(refs))


@settings(max_examples=examples(50, deep=3_000), deadline=None)
@given(
    st.lists(STEPS, min_size=1, max_size=4),
    st.sampled_from([*COLUMNS, "m"]),
    st.sampled_from([ODD, "a_2", "m", "x"]),
    st.sampled_from(["t", "o"]),
    st.lists(st.tuples(NUMBER, CELL, CELL, NUMBER), max_size=5, unique=True),
    st.lists(st.tuples(NUMBER, CELL, NUMBER), max_size=4, unique=True),
)
def test_the_renamed_recipe_makes_the_same_rows_of_the_renamed_table(
    recipe_connection: psycopg.Connection,
    steps: list[dict[str, Any]],
    old: str,
    new: str,
    alias: str,
    rows: list[tuple[Any, ...]],
    others: list[tuple[Any, ...]],
) -> None:
    tables: dict[str, tuple[dict[str, str], list[tuple[Any, ...]]]] = {"t": (COLUMNS, rows), "o": (OTHER, others)}
    refs = {name: TableRef(SCHEMA, f"forms__{name}", schema_of(columns)) for name, (columns, _) in tables.items()}
    recipe = longest(steps, refs)
    if old not in refs[alias].columns or not recipe.steps:
        return
    try:
        renamed = rename_column(recipe, old, new, alias=alias, inputs=refs)
    except RecipeErrors as errors:
        # Only where the new name meets another column.
        assert {error.code for error in errors.errors} == {"name_collision"}
        assert new != ODD or any(step.op == "union" for step in recipe.steps)
        return
    with fresh_kitchen(recipe_connection) as kitchen:
        for name, (columns, cells) in tables.items():
            kitchen.table(name, columns, cells)
        before = kitchen.cook(*steps_of(recipe))
        columns, cells = tables[alias]
        kitchen.table(alias, {new if name == old else name: kind for name, kind in columns.items()}, cells)
        after = kitchen.cook(*steps_of(renamed))
    assert after.sorted == before.sorted
    assert list(before.compiled.schema.types) == list(after.compiled.schema.types)


def test_a_join_of_keys_that_are_called_the_same_brings_the_key_once() -> None:
    refs = {alias: TableRef("org_x", alias, schema_of(columns)) for alias, columns in (("t", COLUMNS), ("o", OTHER))}

    def joined(left: str, right: str, columns: list[str]) -> Recipe:
        on = [{"left": left, "right": right}]
        return recipe_of([{"op": "join", "with": "o", "how": "left", "on": on, "columns": columns}], list(refs))

    def renamed(recipe: Recipe, old: str, new: str, alias: str) -> Any:
        return steps_of(rename_column(recipe, old, new, alias=alias, inputs=refs))

    for left, right, old, new, alias in (("n", "m", "n", "m", "t"), ("n", "m", "m", "n", "o")):
        with pytest.raises(RecipeErrors) as caught:
            renamed(joined(left, right, ["a", "m"]), old, new, alias)
        assert [error.code for error in caught.value.errors] == ["name_collision"]
        assert renamed(joined(left, right, ["a"]), old, new, alias)[0]["on"] == [{"left": new, "right": new}]
    for alias, on in (("t", {"left": "x", "right": "k"}), ("o", {"left": "k", "right": "x"})):
        [step] = renamed(joined("k", "k", ["k", "m"]), "k", "x", alias)
        assert (step["on"], step["columns"]) == ([on], ["m"])


def test_a_column_that_is_made_again_under_the_old_name_is_another() -> None:
    recipe = recipe_of(
        [
            {"op": "formula", "column": "cost", "formula": "cost * 2 + if(note = 'cost', 1, 0)"},
            {
                "op": "aggregate",
                "group_by": ["note"],
                "aggregations": [{"fn": "sum", "column": "cost", "into": "cost"}],
            },
            {"op": "sort", "by": ["-cost"]},
        ],
        output={"indexes": [["cost", "note"]]},
        checks=[{"check": "not_null", "column": "cost"}],
    )
    renamed = rename_column(recipe, "cost", "paid amount")
    assert steps_of(renamed)[:2] == [
        {"op": "formula", "column": "paid amount", "formula": "[paid amount] * 2 + if(note = 'cost', 1, 0)"},
        {
            "op": "aggregate",
            "group_by": ["note"],
            "aggregations": [{"fn": "sum", "column": "paid amount", "into": "cost"}],
        },
    ]
    assert (renamed.steps[2], renamed.output, renamed.checks) == (recipe.steps[2], recipe.output, recipe.checks)


def test_output_and_checks_follow_a_column_to_the_end() -> None:
    checks = [
        *[{**CHECK_MODELS[kind].example} for kind in ("not_null", "unique", "condition")],
        {"check": "max_lossy_casts", "column": "district"},
        {"check": "exists_in", "column": "district", "in": "source:forms.table_0"},
    ]
    recipe = recipe_of(
        [{"op": "cast", "columns": [{"column": "district", "to": "text"}]}],
        output={"indexes": [["district"], ["seen_on", "district"]]},
        checks=checks,
    )
    data = rename_column(recipe, "district", "zone").model_dump(mode="json", by_alias=True, exclude_unset=True)
    assert data["output"]["indexes"] == [["zone"], ["seen_on", "zone"]]
    named = [check.get("column") or check.get("columns") for check in data["checks"]]
    assert named == ["zone", ["zone", "seen_on"], None, "zone", "zone"]
    assert "to" not in data["checks"][4]  # the same name in the other table, which is this one


def test_the_key_of_an_incremental_table_follows_too() -> None:
    recipe = recipe_of([], output={"materialize": "incremental", "key": ["_ds_row_id"]})
    assert rename_column(recipe, "_ds_row_id", "id").output.key == ["id"]


def test_what_cannot_be_renamed_is_refused_with_its_place() -> None:
    recipe = recipe_of([{"op": "formula", "column": "x", "formula": "a + 1"}], ["t", "o"])
    for new, alias, code in (("x", None, "name_collision"), ("", None, "invalid_value"), ("y", "z", "unknown_input")):
        with pytest.raises(RecipeErrors) as caught:
            rename_column(recipe, "a", new, alias=alias)
        assert code in {error.code for error in caught.value.errors}
    broken = recipe_of([{"op": "formula", "column": "x", "formula": "a + ("}])
    with pytest.raises(RecipeErrors, match="bad_formula"):
        rename_column(broken, "a", "b")
    joined = recipe_of([{"op": "union", "with": ["o"]}], ["t", "o"])
    with pytest.raises(RecipeErrors, match="missing_table"):
        rename_column(joined, "a", "b", alias="o")


@pytest.mark.parametrize(
    ("new", "code"), [("नाम" * 8, "name_too_long"), ("", "invalid_value"), ("a\0", "invalid_value")]
)
def test_what_no_column_can_be_called_is_refused_whatever_the_steps_are(new: str, code: str) -> None:
    with pytest.raises(RecipeErrors) as caught:
        rename_column(recipe_of([]), "a", new)
    assert [(error.code, error.path.partition(".")[0]) for error in caught.value.errors] == [(code, "inputs")]


def test_a_name_that_would_unite_two_columns_is_refused() -> None:
    tables = {"t": {"n": "bigint", "a": "text"}, "o": {"n": "bigint", "a": "text"}, "p": {"x": "text"}}
    refs = {name: TableRef(SCHEMA, f"forms__{name}", schema_of(columns)) for name, columns in tables.items()}
    join = {"op": "join", "with": "o", "how": "left", "on": [{"left": "n", "right": "n"}], "columns": ["a"]}
    for steps, new in (([join, {"op": "union", "with": ["o"]}], "a_2"), ([{"op": "union", "with": ["o", "p"]}], "x")):
        recipe = recipe_of(steps, list(refs))
        assert compile_recipe(recipe, refs)
        with pytest.raises(RecipeErrors) as caught:
            rename_column(recipe, "a", new, alias="o", inputs=refs)
        found = [(error.code, error.path) for error in caught.value.errors]
        assert found == [("name_collision", f"steps[{len(steps) - 1}].with")]


def test_names_before_each_step() -> None:
    recipe = recipe_of([{"op": "drop", "columns": ["note"]}, {"op": "limit", "rows": 1}], list(EXAMPLES))
    before, after, end = names_before(recipe, EXAMPLES)
    assert "note" in before
    assert "note" not in after
    assert after == end
