"""How long a recipe of ten steps takes to compile, a formula of it to read and to compile, and 100 recipes to check.

    python benchmarks/recipe_compile.py [repeats]

Each repeat compiles another recipe (the limit differs), so that the cache of compiled recipes does not answer.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

FORMULA = "if(age > 5 and district = 'Kisumu', round(weight / height ^ 2 * 10000, 1), null)"
COLUMNS = {
    "district": "string",
    "age": "int64",
    "weight": "float64",
    "height": "float64",
    "visited": "string",
    "choices": "string",
}


def steps(limit: int) -> list[dict[str, Any]]:
    """Ten steps of the ordinary kinds."""
    return [
        {"op": "filter", "where": {"column": "age", "operator": ">=", "value": 0}},
        {"op": "cast", "columns": [{"column": "visited", "to": "date"}]},
        {"op": "formula", "column": "bmi", "formula": FORMULA},
        {"op": "formula", "column": "month", "formula": "start_of(visited, 'month')"},
        {"op": "split_choices", "column": "choices", "choices": ["water", "food", "shelter"]},
        {"op": "replace_values", "column": "district", "mapping": [{"find": "n/a", "replace": "unknown"}]},
        {"op": "join", "with": "people", "how": "left", "on": [{"left": "district", "right": "district"}]},
        {
            "op": "aggregate",
            "group_by": ["district", "month"],
            "aggregations": [{"fn": "count", "into": "visits"}, {"fn": "avg", "column": "bmi", "into": "bmi"}],
        },
        {"op": "sort", "by": ["district", "-month"]},
        {"op": "limit", "rows": limit},
    ]


def milliseconds(action: Callable[[int], object], repeats: int) -> tuple[float, float]:
    """Median and worst CPU time of the action, called with 1, 2, ..."""
    taken = []
    for count in range(1, repeats + 1):
        start = time.process_time()
        action(count)
        taken.append((time.process_time() - start) * 1_000)
    return statistics.median(taken), max(taken)


def main(repeats: int) -> None:
    """Print one line a measurement."""
    start = time.perf_counter()
    import ibis

    from datasense_assets.recipes import Recipe, TableRef, compile_recipe
    from datasense_assets.recipes.formula import parse_formula

    print(f"import                {(time.perf_counter() - start) * 1_000:8.1f} ms")
    tables = {
        "visits": TableRef("org_x", "forms__visits", ibis.schema(COLUMNS)),
        "people": TableRef("org_x", "forms__people", ibis.schema({"district": "string", "people": "int64"})),
    }

    def compiled(count: int) -> object:
        inputs = {"visits": "source:forms.visits", "people": "source:forms.people"}
        recipe = Recipe.parse({"version": 1, "name": "visits", "inputs": inputs, "steps": steps(count)})
        return compile_recipe(recipe, tables).sql

    start = time.perf_counter()
    compiled(repeats + 1)
    print(f"first recipe          {(time.perf_counter() - start) * 1_000:8.1f} ms")
    table = ibis.table(COLUMNS, name="t")
    columns = {name: table[name] for name in COLUMNS}
    formula = parse_formula(FORMULA)
    for name, action in (
        ("recipe of ten steps", compiled),
        ("the same, cached", lambda _: compiled(1)),
        ("formula, read", lambda _: parse_formula(FORMULA)),
        ("formula, compiled", lambda _: formula.compile(columns)),
    ):
        median, worst = milliseconds(action, repeats)
        print(f"{name:<22}{median:8.1f} ms of CPU, worst {worst:.1f}")
    start, spent = time.perf_counter(), time.process_time()
    problems = check_manifest_of(100)
    took, cpu = time.perf_counter() - start, time.process_time() - spent
    print(f"check of 100 recipes  {took * 1_000:8.1f} ms ({cpu * 1_000:.1f} of CPU), {problems} problems")


def check_manifest_of(recipes: int) -> int:
    """Check a manifest of so many different recipes as `datasense check` does, columns included; problems found."""
    from datasense_assets.recipes import Recipe, RecipeErrors
    from datasense_assets.recipes.compiling.compile import check_recipe
    from datasense_assets.recipes.inputs import input_table_refs

    org = organization()
    problems = 0
    for number in range(recipes):
        # every tenth has a mistake in its last step
        bad = [{"op": "drop", "columns": ["no_such_column"]}] if number % 10 == 0 else []
        inputs = {"visits": "source:forms.visits", "people": "source:forms.people"}
        data = {"version": 1, "name": f"r{number}", "inputs": inputs, "steps": [*steps(10_000 + number), *bad]}
        try:
            recipe = Recipe.parse(data)
            check_recipe(recipe, input_table_refs(recipe, org))
        except RecipeErrors as error:
            problems += len(error.errors)
    return problems


def organization() -> Any:
    """An organisation with the two tables, as the catalog knows them."""
    from datetime import date

    from datasense_assets.catalog.models import ColumnType, Organization, Source, SourceColumn, SourceTable

    kinds = {"string": ColumnType.TEXT, "int64": ColumnType.INTEGER, "float64": ColumnType.NUMBER}

    def table(number: int, slug: str, columns: dict[str, str]) -> SourceTable:
        found = tuple(
            SourceColumn(name=name, key=name, label=name, type=kinds[kind], position=position)
            for position, (name, kind) in enumerate(columns.items())
        )
        return SourceTable(id=number, slug=slug, resource=slug, columns=found)

    tables = (table(1, "visits", COLUMNS), table(2, "people", {"district": "string", "people": "int64"}))
    source = Source(id=1, slug="forms", connector="csv", created_on=date(2026, 1, 1), tables=tables)
    return Organization(id=1, slug="x", name="X", sources=(source,))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 50)
