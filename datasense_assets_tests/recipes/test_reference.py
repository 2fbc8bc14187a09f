"""The reference tells of everything that the language has, with examples that were run."""

from __future__ import annotations

import json

import psycopg

from datasense_assets.recipes.condition_examples import OPERATOR_EXAMPLES
from datasense_assets.recipes.errors import CODES, WARNINGS
from datasense_assets.recipes.examples import executed, stored_examples
from datasense_assets.recipes.formula.reference import function_reference, operator_reference
from datasense_assets.recipes.language.checks import CHECK_MODELS
from datasense_assets.recipes.language.conditions import OPERATORS
from datasense_assets.recipes.language.steps import STEP_MODELS
from datasense_assets.recipes.reference import reference


def test_the_examples_give_what_the_reference_shows(recipe_connection: psycopg.Connection) -> None:
    with recipe_connection.transaction(force_rollback=True):
        assert executed(recipe_connection) == stored_examples()


def test_everything_is_told_of() -> None:
    text = reference()
    assert stored_examples()["steps"].keys() == STEP_MODELS.keys()
    assert stored_examples()["conditions"].keys() == {*OPERATORS, "all", "any", "not"}
    for operator in OPERATORS:
        shown = [json.dumps(each) for each in OPERATOR_EXAMPLES[operator].conditions]
        assert shown and all(f"`{each}`" in text and f'"operator": "{operator}"' in each for each in shown)
    for heading in (*STEP_MODELS, *CHECK_MODELS):
        assert f"### `{heading}`" in text
    functions = [row.name for row in function_reference()]
    symbols = [symbol for row in operator_reference() for symbol in row.operators]
    for name in (*OPERATORS, *CODES, *WARNINGS, *functions, *symbols):
        assert f"`{name}`" in text or f"`{name}(" in text, name
