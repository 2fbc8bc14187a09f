"""Every step of a recipe as SQL, for looking at what each leaves. The steps are walked once.

Compiling the recipe up to each step would write the SQL of all casts before it again each time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import ibis.expr.types as ir

from datasense_assets.recipes.compiling.compile import counting, known_columns
from datasense_assets.recipes.compiling.frame import Lossy
from datasense_assets.recipes.compiling.statement import select_statement
from datasense_assets.recipes.compiling.walk import run_steps
from datasense_assets.recipes.errors import RecipeErrors
from datasense_assets.recipes.language.recipe import RecipeModel
from datasense_assets.recipes.tableref import TableRef


@dataclass(frozen=True)
class Stage:
    """The first input, or what a step leaves; `casts` are of this step alone. SQL is written when it is asked for."""

    table: ir.Table
    casts: tuple[Lossy, ...]
    known: Mapping[tuple[str, str], tuple[str, ...]]

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns, in order."""
        return tuple(self.table.columns)

    @property
    def sql(self) -> str:
        """As `compile_recipe` gives it for the recipe up to this step."""
        return select_statement(self.table, self.known)

    @property
    def lossy_casts(self) -> list[tuple[str, str]]:
        """What to count, as in `Compiled`."""
        return [counting(item, self.known) for item in self.casts]


def compile_stages(recipe: RecipeModel, inputs: Mapping[str, TableRef], *, sample: int | None = None) -> list[Stage]:
    """The first input and what each step leaves; `sample` as in `compile_recipe`.

    Raises:
        RecipeErrors: every mistake at once.

    """
    seen: list[tuple[ir.Table, int]] = []
    frame, context = run_steps(recipe, inputs, sample, seen=lambda f, c: seen.append((f.table, len(c.lossy))))
    if context.errors:
        raise RecipeErrors(context.errors)
    seen.append((frame.table, len(context.lossy)))
    known = known_columns(inputs)
    starts = [0, *(casts for _, casts in seen)]
    return [
        Stage(table, tuple(context.lossy[before:casts]), known)
        for before, (table, casts) in zip(starts, seen, strict=False)
    ]
