"""How long a recipe of ten steps takes to compile, and a formula of it to read and to compile.

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
    """Median and worst of the action, called with 1, 2, ..."""
    taken = []
    for count in range(1, repeats + 1):
        start = time.perf_counter()
        action(count)
        taken.append((time.perf_counter() - start) * 1_000)
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
        print(f"{name:<22}{median:8.1f} ms, worst {worst:.1f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 50)
