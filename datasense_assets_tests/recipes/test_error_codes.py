"""Each code that the documentation lists is caused once, and its path leads to the place in the recipe."""

from __future__ import annotations

import re
from typing import Any

import ibis
import pytest

from datasense_assets.recipes import Recipe, RecipeError, RecipeErrors, TableRef, compile_recipe, recipe_order
from datasense_assets.recipes.errors import CODES
from datasense_assets.recipes.formula import FormulaErrors, parse_formula
from datasense_assets.recipes.formula.errors import CODES as FORMULA_CODES

TABLE = ibis.schema({"n": "int64", "s": "string", "d": "date"})
SORTED = {"op": "sort", "by": ["n"]}
JOIN = {"op": "join", "with": "r", "how": "left", "on": [{"left": "n", "right": "n"}]}
WHERE = {"column": "n", "operator": "="}

CAUSES: dict[str, tuple[list[Any], str]] = {
    "unknown_column": ([SORTED, {"op": "select", "columns": ["n", "nn"]}], "steps[1].columns[1]"),
    "unknown_input": ([{**JOIN, "with": "q"}], "steps[0].with"),
    "type_mismatch": (
        [{"op": "aggregate", "aggregations": [{"fn": "sum", "column": "s", "into": "x"}]}],
        "steps[0].aggregations[0].column",
    ),
    "name_collision": ([{"op": "union", "with": ["r"], "source_column": "s"}], "steps[0].source_column"),
    "join_key_type": ([{**JOIN, "on": [{"left": "n", "right": "n"}, {"left": "s", "right": "d"}]}], "steps[0].on[1]"),
    "bad_literal": (
        [{"op": "filter", "where": {"any": [{**WHERE, "value": 1}, {"not": {**WHERE, "value": "1"}}]}}],
        "steps[0].where.any[1].not.value",
    ),
    "bad_pattern": ([{"op": "extract", "column": "s", "pattern": "(?<=x)y"}], "steps[0].pattern"),
    "bad_formula": ([SORTED, {"op": "formula", "column": "f", "formula": "n + * 2"}], "steps[1].formula"),
    "duplicate_step_id": ([{**SORTED, "id": "a"}, SORTED, {**SORTED, "id": "a"}], "steps[2].id"),
    "name_too_long": ([{"op": "rename", "columns": {"n": "ज" * 22}}], "steps[0].columns.n"),
    "unknown_field": ([{**JOIN, "on": [{"left": "n", "right": "n", "how": "left"}]}], "steps[0].on[0].how"),
    "missing_field": ([{"op": "case", "cases": [{"when": WHERE}], "into": "x"}], "steps[0].cases[0].when.value"),
    "invalid_value": ([{**JOIN, "how": "sideways"}], "steps[0].how"),
}
"""Steps over the tables `t` and `r`, both with the columns above, and the path of the one mistake."""

FORMULA_CAUSES = {
    "syntax": "n +",
    "unknown_column": "nn + 1",
    "unknown_function": "roud(n)",
    "wrong_arguments": "left(s)",
    "type_mismatch": "n + s",
    "invalid_value": "date_diff(d, d, 'dya')",
    "too_complex": "(" * 100 + "n" + ")" * 100,
}


def recipe_data(steps: list[Any]) -> dict[str, Any]:
    inputs = {"t": "source:forms.t", "r": "source:forms.r"}
    return {"version": 1, "name": "result", "inputs": inputs, "steps": steps}


def errors_of(data: dict[str, Any], *missing: str) -> list[RecipeError]:
    refs = {alias: TableRef("org_x", alias, TABLE) for alias in ("t", "r") if alias not in missing}
    with pytest.raises(RecipeErrors) as caught:
        compile_recipe(Recipe.parse(data), refs)
    return list(caught.value.errors)


def leads_somewhere(path: str, data: Any) -> bool:
    """Whether each part of the path is in the data; the last may be a field that is missing."""
    parts: list[str | int] = [int(i) if i else name for name, i in re.findall(r"([^.\[\]]+)|\[(\d+)\]", path)]
    for part in parts[:-1]:
        data = data[part]
    return isinstance(data, dict) or (isinstance(data, list) and isinstance(parts[-1], int) and parts[-1] < len(data))


@pytest.mark.parametrize("code", [code for code in CODES if code not in ("missing_table", "cycle")])
def test_a_code_comes_with_the_path_of_its_cause(code: str) -> None:
    steps, path = CAUSES[code]
    data = recipe_data(steps)
    (error,) = errors_of(data)
    assert (error.code, error.path) == (code, path)
    assert leads_somewhere(error.path, data)
    index = int(path[len("steps[") :].partition("]")[0])
    assert error.message.startswith(f"Step {index + 1} ({steps[index]['op']}")


def test_a_missing_table_is_told_at_its_input() -> None:
    (error,) = errors_of(recipe_data([JOIN]), "r")
    assert (error.code, error.path) == ("missing_table", "inputs.r")


def test_a_cycle_is_told_at_an_input() -> None:
    recipes = [
        Recipe.parse({"version": 1, "name": name, "inputs": {"from": f"recipe:{other}"}})
        for name, other in (("a", "b"), ("b", "a"))
    ]
    with pytest.raises(RecipeErrors) as caught:
        recipe_order(recipes)
    (error,) = caught.value.errors
    assert (error.code, error.path) == ("cycle", "inputs.from")


@pytest.mark.parametrize("code", FORMULA_CODES)
def test_a_code_of_formulas_is_caused(code: str) -> None:
    table = ibis.table(TABLE, name="t")
    with pytest.raises(FormulaErrors) as caught:
        parse_formula(FORMULA_CAUSES[code]).compile({name: table[name] for name in table.columns})
    assert {error.code for error in caught.value.errors} == {code}
