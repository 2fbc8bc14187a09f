"""The reference tells of everything that the language has, with examples that were run."""

from __future__ import annotations

import psycopg

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
    assert stored_examples().keys() == STEP_MODELS.keys()
    for heading in (*STEP_MODELS, *CHECK_MODELS):
        assert f"### `{heading}`" in text
    functions = [row.name for row in function_reference()]
    symbols = [symbol for row in operator_reference() for symbol in row.operators]
    for name in (*OPERATORS, *CODES, *WARNINGS, *functions, *symbols):
        assert f"`{name}`" in text or f"`{name}(" in text, name
