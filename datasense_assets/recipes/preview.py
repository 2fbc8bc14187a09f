"""Looking at what a recipe makes, at any of its steps, on a part of the data and with little time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from datasense_assets.recipes.compiling.compile import Compiled, compile_recipe
from datasense_assets.recipes.recipe import Recipe
from datasense_assets.recipes.tableref import TableRef
from datasense_assets.warehouse.swap import LimitExceeded, SessionLimits, apply_limits

MASK = "•••"


@dataclass(frozen=True)
class Preview:
    """The first rows of a step, personal columns masked. `sampled`: the first input was read in part only."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    sql: str
    sampled: bool


def preview_step(
    connection: psycopg.Connection,
    recipe: Recipe,
    inputs: Mapping[str, TableRef],
    *,
    step: int | None = None,
    rows: int = 50,
    sample: int | None = 10_000,
    limits: SessionLimits | None = None,
) -> Preview:
    """The first `rows` rows after the first `step` steps (all of them by default; 0 is the first input itself).

    Only `sample` rows of the first input are read (None: all), so figures over groups are of a part. Nothing is
    written, and the limits (20 s by default) end with the call.

    Raises:
        RecipeErrors: a step up to there has mistakes; those of later steps do not matter.
        LimitExceeded: it took too long.
        ValueError: the recipe has no such step.

    """
    last = len(recipe.steps) if step is None else step
    if not 0 <= last <= len(recipe.steps):
        raise ValueError(f"the recipe has {len(recipe.steps)} steps; there is no step {last}")
    compiled = compile_recipe(recipe.upto(last), inputs, sample=sample)
    limits = limits or SessionLimits(statement_timeout=20.0)
    statement = sql.SQL("SELECT * FROM ({}) AS preview LIMIT {}").format(sql.SQL(compiled.sql), sql.Literal(rows))
    try:
        with connection.transaction(force_rollback=True):
            apply_limits(connection, limits)
            connection.execute("SET LOCAL transaction_read_only = on")
            found = connection.execute(statement).fetchall()
    except psycopg.errors.QueryCanceled:
        raise LimitExceeded(
            f"The preview of {recipe.name} took longer than {limits.statement_timeout:g} s.",
            advice="Look at an earlier step, or let the first steps filter.",
        ) from None
    names = tuple(compiled.schema.names)
    hidden = personal_columns(compiled, inputs.values())
    return Preview(names, tuple(mask(names, row, hidden) for row in found), compiled.sql, sample is not None)


def personal_columns(compiled: Compiled, inputs: Iterable[TableRef]) -> frozenset[str]:
    """The result's columns that are made of a personal column."""
    personal = {(ref.table, name) for ref in inputs for name in ref.personal}
    return frozenset(name for name, sources in compiled.lineage.items() if personal.intersection(sources))


def mask(names: tuple[str, ...], row: tuple[Any, ...], hidden: frozenset[str]) -> tuple[Any, ...]:
    """The row with every value of a hidden column covered; null shows as null."""
    return tuple(
        MASK if name in hidden and value is not None else value for name, value in zip(names, row, strict=True)
    )
