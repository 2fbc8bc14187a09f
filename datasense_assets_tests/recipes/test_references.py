"""Random tables and random valid recipes: each step, operator and function against its reference, cell by cell.

`DATASENSE_PROOF=deep` tries forty times as many examples, and other ones at each run.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings

from datasense_assets.recipes.formula.functions import FUNCTIONS
from datasense_assets.recipes.language.conditions import OPERATORS
from datasense_assets.recipes.language.steps import STEP_MODELS
from datasense_assets_tests.recipes import random_steps, reference_functions
from datasense_assets_tests.recipes.chooser import Chooser, made_by
from datasense_assets_tests.recipes.proving import OPERATIONS, Bench, Example, random_example

DEEP = os.environ.get("DATASENSE_PROOF") == "deep"


@pytest.fixture(scope="module")
def bench(recipe_database: str) -> Iterator[Bench]:
    with psycopg.connect(recipe_database, prepare_threshold=None) as connection:
        yield Bench(connection)
        connection.rollback()


def prove(make: Callable[[Chooser], Example | None], check: Callable[[Example], Any], examples: int) -> None:
    """Holds so many random examples against their references; a failing one is made as small as may be."""

    @settings(
        max_examples=examples * 40 if DEEP else examples,
        derandomize=not DEEP,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(made_by(make))
    def agrees(example: Example | None) -> None:
        assume(example is not None)
        assert example is not None
        check(example)

    agrees()


def test_every_step_operator_and_function_has_a_reference() -> None:
    assert set(OPERATIONS) == set(STEP_MODELS)
    assert set(random_steps.OPERATORS) == set(OPERATORS)
    assert {rule.name for rule in reference_functions.RULES} == {row.name for row in FUNCTIONS}
    aliases = {rule.name: rule.aliases for rule in reference_functions.RULES}
    assert aliases == {row.name: row.aliases for row in FUNCTIONS}


@pytest.mark.parametrize("op", OPERATIONS)
def test_a_step_makes_what_its_reference_makes(bench: Bench, op: str) -> None:
    prove(lambda choose: random_example(choose, bench.now, (op,)), bench.check, 24)


@pytest.mark.parametrize("operator", OPERATORS)
def test_an_operator_keeps_the_rows_that_its_reference_keeps(bench: Bench, operator: str) -> None:
    prove(lambda choose: random_example(choose, bench.now, ("filter",), operator=operator), bench.check, 15)


@pytest.mark.parametrize("name", [row.name for row in FUNCTIONS])
def test_a_function_gives_what_its_reference_gives(bench: Bench, name: str) -> None:
    prove(lambda choose: random_example(choose, bench.now, ("formula",), function=name), bench.check, 10)


def test_a_chain_of_steps_makes_what_the_references_make(bench: Bench) -> None:
    prove(lambda choose: random_example(choose, bench.now, OPERATIONS, choose.between(2, 6)), bench.check, 60)
