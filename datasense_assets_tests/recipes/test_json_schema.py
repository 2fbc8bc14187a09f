"""The JSON Schema that editors read: it is the generated one, accepts what is a recipe, and refuses what is none."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from datasense_assets.recipes import Recipe, RecipeErrors
from datasense_assets.recipes.field_words import FIELDS
from datasense_assets.recipes.json_schema import recipe_schema, schema_text
from datasense_assets.recipes.language.checks import CHECK_MODELS
from datasense_assets.recipes.language.output import Output
from datasense_assets.recipes.language.steps import STEP_MODELS

ROOT = Path(__file__).parents[2]
VALIDATOR = Draft202012Validator(recipe_schema())
EXAMPLES = {path.stem: json.loads(path.read_text()) for path in (ROOT / "examples" / "recipes").glob("*.json")}
WHOLE: dict[str, Any] = {
    "version": 1,
    "name": "all_of_it",
    "inputs": {"visits": "source:forms.visits", "people": "recipe:people"},
    "steps": [model.example for model in STEP_MODELS.values()],
    "checks": [model.example for model in CHECK_MODELS.values()],
    "output": Output.example,
}


def test_the_file_in_docs_is_the_generated_one() -> None:
    assert (ROOT / "docs" / "recipe.schema.json").read_text(encoding="utf-8") == schema_text()


def test_it_is_a_schema_in_which_every_field_is_described() -> None:
    schema = recipe_schema()
    Draft202012Validator.check_schema(schema)
    used = set()
    for name, model in (*schema["$defs"].items(), ("Recipe", schema)):
        for field, shape in model.get("properties", {}).items():
            assert shape["description"].endswith("."), f"{name}.{field}"
            used.add(f"{name}.{field}" if f"{name}.{field}" in FIELDS else field)
    assert used == FIELDS.keys()


@pytest.mark.parametrize("name", [*EXAMPLES, "whole"])
def test_every_example_is_valid(name: str) -> None:
    data = EXAMPLES.get(name, WHOLE)
    assert [error.message for error in VALIDATOR.iter_errors(data)] == []
    Recipe.parse(data)


def test_recipes_of_the_example_manifests_are_valid() -> None:
    for path in (ROOT / "examples").glob("*.yaml"):
        for recipe in yaml.safe_load(path.read_text()).get("recipes", ()):
            if "file" not in recipe:
                VALIDATOR.validate(recipe)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths of all objects in the data."""
    if isinstance(value, dict):
        yield path
        for key, item in value.items():
            yield from places(item, (*path, key))
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from places(item, (*path, i))


def alone(path: tuple[Any, ...]) -> tuple[dict[str, Any], tuple[Any, ...]]:
    """A recipe with the one step or check that the path leads to, and the path there: all of them are slow to judge."""
    data: dict[str, Any] = {**WHOLE, "steps": [], "checks": []}
    if path[:1] not in (("steps",), ("checks",)):
        return data, path
    name, place, *rest = path
    return {**data, name: [WHOLE[name][place]]}, (name, 0, *rest)


def changed(path: tuple[Any, ...], key: str, value: Any) -> dict[str, Any]:
    data, path = copy.deepcopy(alone(path))
    target: Any = data
    for part in path:
        target = target[part]
    if value is None:
        del target[key]
    else:
        target[key] = value
    return data


def is_recipe(data: Any) -> bool:
    try:
        Recipe.parse(data)
    except RecipeErrors:
        return False
    return True


FREE = {"inputs", "fields"}
"""Objects whose names are the user's own."""


@pytest.mark.parametrize("path", [path for path in places(WHOLE) if not path or path[-1] not in FREE], ids=str)
def test_what_is_not_of_the_language_is_refused_as_pydantic_does(path: tuple[Any, ...]) -> None:
    target: Any = WHOLE
    for part in path:
        target = target[part]
    renames = path and path[-1] == "columns"
    if not renames:
        assert not VALIDATOR.is_valid(changed(path, "colour", "red"))
    for key in target:
        missing = changed(path, key, None)
        if not is_recipe(missing) and not renames:
            assert not VALIDATOR.is_valid(missing), f"without {key}"
        odd = changed(path, key, {"odd": ["thing"]})
        if not is_recipe(odd):
            assert not VALIDATOR.is_valid(odd), f"odd {key}"
        elif key not in FREE:
            assert VALIDATOR.is_valid(odd)


@pytest.mark.parametrize(
    "where",
    [
        {"column": "a", "operator": "is_null", "value": 1},
        {"column": "a", "operator": "="},
        {"column": "a", "operator": "=", "value": 1, "value_column": "b"},
        {"column": "a", "operator": "in", "value": 1},
        {"column": "a", "operator": "in", "value_column": "b"},
        {"column": "a", "operator": "like", "value": "b"},
        {"all": [], "any": []},
        {"not": []},
    ],
)
def test_conditions_that_are_none_are_refused(where: dict[str, Any]) -> None:
    data = {**WHOLE, "steps": [{"op": "filter", "where": where}]}
    assert not VALIDATOR.is_valid(data)
