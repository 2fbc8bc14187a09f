"""Building a recipe: its SELECT into a typed table that takes the old one's place, and a report of what came of it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import psycopg

from datasense_assets.recipes.compiling.compile import Compiled, compile_recipe
from datasense_assets.recipes.compiling.lineage import Source
from datasense_assets.recipes.compiling.statement import postgres_type
from datasense_assets.recipes.preview import mask, personal_columns
from datasense_assets.recipes.recipe import Recipe
from datasense_assets.recipes.tableref import TableRef
from datasense_assets.warehouse.errors import WarehouseError
from datasense_assets.warehouse.reading import fetch_rows
from datasense_assets.warehouse.swap import (
    ColumnSpec,
    IndexSpec,
    LimitExceeded,
    SessionLimits,
    apply_limits,
    replace_table,
)


class BuildFailed(WarehouseError):
    """The recipe compiles, and its data or the tables under it stood in the way; the old table stays."""


@dataclass(frozen=True)
class BuildReport:
    """What a build made. `lossy_casts` counts, by column, the values that could not be read and became null."""

    table: str
    rows: int
    columns: tuple[ColumnSpec, ...]
    sql: str
    sql_hash: str
    lossy_casts: Mapping[str, int]
    lineage: Mapping[str, list[Source]]
    row_lineage: list[Source]
    preview: tuple[Mapping[str, Any], ...]


def build_recipe(
    connection: psycopg.Connection,
    org_schema: str,
    recipe: Recipe,
    inputs: Mapping[str, TableRef],
    *,
    limits: SessionLimits | None = None,
    preview_rows: int = 10,
) -> BuildReport:
    """Makes `org_schema.<recipe>` hold what the recipe says, as the connection's role, and reports on it.

    Raises:
        RecipeErrors: the recipe has mistakes.
        BuildFailed: a value cannot be read where `on_error` is `fail`, a number is too large, an input has changed.
        SwapRefused, TableBusy, LimitExceeded: from `replace_table`.

    """
    compiled = compile_recipe(recipe, inputs)
    limits = limits or SessionLimits()
    specs = tuple(ColumnSpec(name, postgres_type(dtype)) for name, dtype in compiled.schema.items())
    try:
        lost = _count_lost(connection, compiled, limits)
        rows = replace_table(
            connection,
            org_schema,
            recipe.ident,
            specs,
            compiled.sql,
            indexes=[IndexSpec(tuple(index)) for index in recipe.output.indexes],
            table_comment=recipe.description or recipe.title,
            limits=limits,
        )
    except psycopg.errors.QueryCanceled:
        raise LimitExceeded(
            f"Counting unreadable values of {recipe.name} took longer than {limits.statement_timeout:g} s.",
            advice="Let it read less (filter earlier), or raise the limit.",
        ) from None
    except (psycopg.DataError, psycopg.ProgrammingError) as error:
        raise _failed(recipe, error) from error
    hidden = personal_columns(compiled, inputs.values())
    names = tuple(compiled.schema.names)
    shown = fetch_rows(connection, org_schema, recipe.ident, preview_rows)
    return BuildReport(
        table=recipe.ident,
        rows=rows,
        columns=specs,
        sql=compiled.sql,
        sql_hash=hashlib.sha256(compiled.sql.encode()).hexdigest()[:16],
        lossy_casts=lost,
        lineage=compiled.lineage,
        row_lineage=compiled.row_lineage,
        preview=tuple(
            dict(zip(names, mask(names, tuple(row[n] for n in names), hidden), strict=True)) for row in shown
        ),
    )


def _count_lost(connection: psycopg.Connection, compiled: Compiled, limits: SessionLimits) -> dict[str, int]:
    """Before the swap, so that the swap's lock on the old table is short."""
    lost: Counter[str] = Counter()
    if not compiled.lossy_casts:
        return {}
    with connection.transaction():
        apply_limits(connection, limits)
        for column, query in compiled.lossy_casts:
            row = connection.execute(query).fetchone()
            lost[column] += 0 if row is None else int(row[0])
    return dict(lost)


def _failed(recipe: Recipe, error: psycopg.Error) -> BuildFailed:
    reason = (error.diag.message_primary or str(error)).strip()
    if "cannot be read as" in reason:
        advice = "Mend the value at its source, replace it before the cast, or set on_error to null."
    elif isinstance(error, (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn)):
        advice = "An input has changed since the recipe was compiled; build it again."
    elif isinstance(error, psycopg.errors.NumericValueOutOfRange):
        advice = "A number is too large for its type; cast the columns it is made of to number first."
    else:
        advice = "Look at the recipe's preview step by step to see where it happens."
    return BuildFailed(f"{recipe.name} was not built, its old table stays: {reason}.", advice=advice)
