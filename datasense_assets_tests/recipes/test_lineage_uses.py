"""What a recipe uses besides the columns its values come from, and which columns it cannot be compiled without."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import ibis
import pytest

from datasense_assets.catalog.lineage import Point
from datasense_assets.recipes import RecipeErrors, TableRef, compile_recipe
from datasense_assets.recipes.compiling.kinds import CANONICAL
from datasense_assets.recipes.examples import EXAMPLE_LABELS, EXAMPLE_OTHER, EXAMPLE_TABLE
from datasense_assets.recipes.language.steps import STEP_MODELS
from datasense_assets.recipes.recording import compiled_lineage
from datasense_assets_tests.recipes.kitchen import recipe_of

VISITS = {"id": "int64", "day": "date", "place": "string", "cost": "float64", "tags": "string", "note": "string"}
PLACES = {"code": "string", "district": "string", "people": "int64"}
REFS = {
    "visits": TableRef("org_x", "forms__visits", ibis.schema(VISITS), frozenset({"note"})),
    "places": TableRef("org_x", "gazetteer__places", ibis.schema(PLACES)),
}
EXAMPLE_REFS = {
    alias: TableRef("org_x", alias, ibis.schema({name: CANONICAL[kind] for name, kind in columns.items()}))
    for alias, columns in (("visits", EXAMPLE_TABLE), ("people", EXAMPLE_OTHER))
}
EXAMPLE_REFS["visits"] = replace(EXAMPLE_REFS["visits"], choice_labels=EXAMPLE_LABELS)
STEPS: list[dict[str, Any]] = [
    {"op": "filter", "where": {"column": "cost", "operator": ">", "value": 0}},
    {"op": "expand_list", "column": "tags", "delimiter": " "},
    {"op": "join", "with": "places", "how": "left", "on": [{"left": "place", "right": "code"}]},
    {"op": "aggregate", "group_by": ["district"], "aggregations": [{"fn": "max", "column": "note", "into": "said"}]},
    {"op": "sort", "by": ["-said"]},
]


def test_each_way_of_deciding_rows_is_told_apart() -> None:
    compiled = compile_recipe(recipe_of(STEPS, ["visits", "places"]), REFS)
    visits, places = "forms__visits", "gazetteer__places"
    assert compiled.row_uses == {
        "filter": [(visits, "cost")],
        "expand": [(visits, "tags")],
        "join": [(visits, "place"), (places, "code")],
        "group": [(places, "district")],
        "sort": [(visits, "note")],
    }
    assert compiled.row_lineage == sorted({source for found in compiled.row_uses.values() for source in found})


def test_what_is_kept_names_input_tables_and_marks_what_is_personal() -> None:
    recipe = recipe_of(STEPS, ["visits", "places"])
    lineage = compiled_lineage(recipe, "hash", compile_recipe(recipe, REFS), REFS)
    assert [(column.name, column.type, column.personal) for column in lineage.columns] == [
        ("district", "text", False),
        ("said", "text", True),
    ]
    values = {(use.column, use.source) for use in lineage.uses if use.use == "value"}
    assert values == {
        ("district", Point("source:forms.table_1", "district")),
        ("said", Point("source:forms.table_0", "note")),
    }


def named(*steps: dict[str, Any], **more: Any) -> set[str]:
    compiled = compile_recipe(recipe_of(steps, ["visits"], **more), {"visits": REFS["visits"]})
    return {column for _, column in compiled.named}


def test_a_column_that_only_passes_through_is_not_named() -> None:
    assert named({"op": "formula", "column": "twice", "formula": "cost * 2"}) == {"cost"}
    assert named({"op": "drop", "columns": ["note"]}) == {"note"}
    assert named({"op": "rename", "columns": {"day": "on"}}, output={"indexes": [["on"]]}) == {"day"}
    assert named({"op": "deduplicate", "keys": ["id"]}) == {"id"}
    assert named(checks=[{"check": "unique", "columns": ["id", "day"]}]) == {"id", "day"}


@pytest.mark.parametrize("op", STEP_MODELS)
def test_without_a_named_column_a_step_does_not_compile_and_without_another_it_does(op: str) -> None:
    recipe = recipe_of([STEP_MODELS[op].example], list(EXAMPLE_REFS))
    compiled = compile_recipe(recipe, EXAMPLE_REFS)
    for alias, ref in EXAMPLE_REFS.items():
        for column in ref.columns:
            less = ibis.schema({name: dtype for name, dtype in ref.columns.items() if name != column})
            refs = {**EXAMPLE_REFS, alias: replace(ref, columns=less)}
            if (ref.table, column) in compiled.named:
                with pytest.raises(RecipeErrors):
                    compile_recipe(recipe, refs)
            else:
                compile_recipe(recipe, refs)
