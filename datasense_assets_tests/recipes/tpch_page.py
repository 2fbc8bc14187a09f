"""docs/tpch.md, made from the recipes: `python -m datasense_assets_tests.recipes.tpch_page > docs/tpch.md`."""

# ruff: noqa: E501 - a row of a table is one line

from __future__ import annotations

import json
import sys

from datasense_assets_tests.recipes.tpch_recipes import recipes

TITLES = (
    "Pricing summary report",
    "Minimum cost supplier",
    "Shipping priority",
    "Order priority checking",
    "Local supplier volume",
    "Forecasting revenue change",
    "Volume shipping",
    "National market share",
    "Product type profit measure",
    "Returned item reporting",
    "Important stock identification",
    "Shipping modes and order priority",
    "Customer distribution",
    "Promotion effect",
    "Top supplier",
    "Parts/supplier relationship",
    "Small-quantity-order revenue",
    "Large volume customer",
    "Discounted revenue",
    "Potential part promotion",
    "Suppliers who kept orders waiting",
    "Global sales opportunity",
)
HEAD = """# TPC-H as recipes

The 22 questions of TPC-H, a benchmark of decision support, said as recipes. Each gives what DuckDB answers to its own
text of the question on the same data, cell by cell (numbers to a relative 1e-9, since the platform keeps decimals as
double precision). CI asks them at scale factor 0.01; at 0.1 (600,000 order lines) it takes a minute:

```bash
python -m datasense_assets_tests.recipes.tpch --scale 0.1 --url postgresql://postgres@127.0.0.1:5432/postgres
```

The data is made by DuckDB's own generator, which comes as a wheel (`duckdb-extension-tpch`, in the extra `test`).
This page is written from the recipes in `datasense_assets_tests/recipes/tpch_recipes.py`.

| | question | tables | steps | how |
|---|---|---|---|---|
"""
TAIL = """
## What the language cannot say, and what is written instead

All 22 can be said, and none of them as SQL says it where it nests:

| in SQL | why a recipe has no such thing | instead |
|---|---|---|
| a subquery that gives one value (11, 15, 22) | a step sees one table | a window over all rows, then a filter |
| a correlated subquery (2, 17, 20) | the same | a window by the column on which it hangs, or `aggregate` first |
| `EXISTS` with more than equal keys (4, 21) | a join compares for equality only | `aggregate` with a filter, or distinct keys |
| a filter on the other table before a join (13, 16) | `join` takes an input as it is | start with that table, filter after an inner join, or make it a recipe of its own |
| `LIKE` with `%` inside (13, 16) | | `matches` with a regular expression |
| a parameter, such as question 11's share by scale factor | a recipe is data | the number is written into it |

## Question 21 as an example

"""


def page() -> str:
    """The whole page."""
    lines = []
    for (number, (tables, steps, how)), title in zip(recipes(1.0).items(), TITLES, strict=True):
        lines.append(f"| {number} | {title} | {', '.join(tables.split())} | {len(steps)} | {how} |\n")
    example = "[\n" + ",\n".join(f" {json.dumps(step)}" for step in recipes(1.0)[21][1]) + "\n]"
    return HEAD + "".join(lines) + TAIL + f"```json\n{example}\n```\n"


if __name__ == "__main__":
    sys.stdout.write(page())
