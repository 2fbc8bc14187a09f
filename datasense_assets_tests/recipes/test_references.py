"""Random tables and random valid recipes: each step, operator and function against its reference, cell by cell.

`DATASENSE_PROOF=deep` tries forty times as many examples, and other ones at each run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
import sqlglot
from hypothesis import HealthCheck, Phase, assume, given, settings
from sqlglot.lineage import lineage as sqlglot_lineage
from sqlglot.schema import MappingSchema

from datasense_assets.recipes import compile_recipe
from datasense_assets.recipes.formula.functions import FUNCTIONS
from datasense_assets.recipes.language.conditions import OPERATORS
from datasense_assets.recipes.language.steps import STEP_MODELS
from datasense_assets_tests.at_length import DEEP, examples
from datasense_assets_tests.recipes import random_steps, reference_functions
from datasense_assets_tests.recipes.chooser import Chooser, made_by
from datasense_assets_tests.recipes.kitchen import Kitchen
from datasense_assets_tests.recipes.proving import (
    OPERATIONS,
    SCHEMA,
    Bench,
    Example,
    random_example,
    recipe_of,
    table_ref,
)


@pytest.fixture(scope="module")
def bench(recipe_database: str) -> Iterator[Bench]:
    with psycopg.connect(recipe_database, prepare_threshold=None) as connection:
        yield Bench(connection)
        connection.rollback()


def prove(make: Callable[[Chooser], Example | None], check: Callable[[Example], Any], usual: int) -> None:
    """Holds so many random examples against their references; a failing one is made as small as may be."""

    @settings(
        max_examples=examples(usual),
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


def by_sqlglot(example: Example) -> tuple[dict[str, list[tuple[str, str]]], dict[str, list[tuple[str, str]]]]:
    """Lineage of the example's columns as it was compiled, and as it is found by reading the SQL again."""
    refs = {shape.alias: table_ref(shape) for shape in example.shapes}
    compiled = compile_recipe(recipe_of(example), refs)
    tables = {SCHEMA: {ref.table: dict.fromkeys(ref.columns.names, "text") for ref in refs.values()}}
    schema = MappingSchema(tables, dialect="postgres", normalize=False)
    found = {}
    for name in compiled.schema.names:
        quoted = sqlglot.exp.column(name, quoted=True).sql("postgres")
        nodes = sqlglot_lineage(quoted, compiled.sql, schema, dialect="postgres").walk()
        leaves = [node for node in nodes if not node.downstream and isinstance(node.expression, sqlglot.exp.Table)]
        columns = [
            (leaf.expression.this.name, sqlglot.parse_one(leaf.name, dialect="postgres").name) for leaf in leaves
        ]
        found[name] = sorted(set(columns))
    return dict(compiled.lineage), found


def test_lineage_of_a_chain_of_steps_is_what_its_sql_says(bench: Bench) -> None:
    # sqlglot does not look into the subqueries by which lists become rows.
    operations = tuple(op for op in OPERATIONS if op != "expand_list")

    def check(example: Example) -> None:
        compiled, found = by_sqlglot(example)
        assert compiled == found, example.steps

    prove(lambda choose: random_example(choose, bench.now, operations, choose.between(1, 4)), check, 12)


def test_a_chain_of_steps_makes_what_the_references_make(bench: Bench) -> None:
    prove(lambda choose: random_example(choose, bench.now, OPERATIONS, choose.between(2, 6)), bench.check, 60)


def test_windows_among_other_steps_make_what_the_references_make(bench: Bench) -> None:
    others = ("formula", "rename", "select", "drop", "expand_list", "unpivot", "deduplicate", "fill_missing", "filter")
    operations = ("window",) * len(others) + others
    prove(lambda choose: random_example(choose, bench.now, operations, choose.between(3, 7)), bench.check, 60)


def test_groups_without_figures_are_no_more_after_a_sort_by_other_columns(kitchen: Kitchen) -> None:
    kitchen.table("t", {"g": "text", "n": "bigint"}, [("a", 1), ("a", 2), ("b", 3)])
    steps = {"op": "sort", "by": ["n"]}, {"op": "aggregate", "group_by": ["g"], "aggregations": []}
    assert kitchen.cook(*steps).sorted == [("a",), ("b",)]


@pytest.mark.parametrize(("how", "rows"), [("semi", [("a", 1)]), ("anti", [("b", 2), ("b", 2)])])
def test_rows_that_a_join_only_keeps_can_be_counted_in_a_window(
    kitchen: Kitchen, how: str, rows: list[tuple[Any, ...]]
) -> None:
    kitchen.table("t", {"g": "text"}, [("a",), ("b",), ("b",)])
    kitchen.table("r", {"g": "text"}, [("a",)])
    join = {"op": "join", "with": "r", "how": how, "on": [{"left": "g", "right": "g"}]}
    assert kitchen.cook(join, {"op": "window", "fn": "count", "into": "n", "partition_by": ["g"]}).sorted == rows


def test_a_fraction_in_place_of_an_integer_makes_numbers(kitchen: Kitchen) -> None:
    kitchen.table("t", {"n": "bigint"}, [(1,), (None,)])
    mapping = [{"find": 1, "replace": 0.5}]
    assert kitchen.cook({"op": "replace_values", "column": "n", "mapping": mapping}).rows == [(0.5,), (None,)]
    assert kitchen.cook({"op": "coalesce", "columns": ["n"], "into": "n", "default": 0.5}).rows == [(1.0,), (0.5,)]
    case = [{"when": {"column": "n", "operator": "is_null"}, "then": 0.5}]
    assert kitchen.cook({"op": "case", "cases": case, "otherwise_column": "n", "into": "n"}).rows == [(1.0,), (0.5,)]


def test_bins_of_any_width_hold_any_number(kitchen: Kitchen) -> None:
    kitchen.table("t", {"x": "double precision"}, [(1.7976931348623157e308,), (1e25,), (-5e-324,), (7.5,), (-7.5,)])
    steps = [{"op": "bin", "column": "x", "width": width, "into": "low"} for width in (10, 0.5)]
    assert kitchen.cook(steps[0]).column("low") == [1.7976931348623157e308, 1e25, -10.0, 0.0, -10.0]
    assert kitchen.cook(steps[1]).column("low") == [1.7976931348623157e308, 1e25, -0.5, 7.5, -7.5]
