"""Whether joins multiply rows, counted in the tables as they are: what no shape of a recipe tells, a query does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import psycopg
from psycopg import sql

from datasense_assets.recipes.compiling.stored import DELETED_AT
from datasense_assets.recipes.errors import RecipeWarning
from datasense_assets.recipes.language.step import step_label
from datasense_assets.recipes.language.tables import Join
from datasense_assets.recipes.recipe import Recipe
from datasense_assets.recipes.tableref import TableRef
from datasense_assets.warehouse.swap import SessionLimits, apply_limits

_MOST = 1_000


def measured_warnings(
    connection: psycopg.Connection,
    recipe: Recipe,
    inputs: Mapping[str, TableRef],
    warnings: Sequence[RecipeWarning],
    *,
    limits: SessionLimits | None = None,
) -> list[RecipeWarning]:
    """The warnings, with those of joins that may multiply rows replaced by what the joined tables really hold.

    A join on columns that are unique there now has no warning. One that cannot be counted in time (5 s unless
    `limits` say otherwise) keeps the warning that it has.
    """
    found = list(warnings)
    limits = limits or SessionLimits(statement_timeout=5.0)
    for index, step in enumerate(recipe.steps):
        if not isinstance(step, Join) or step.how in ("semi", "anti") or step.with_ not in inputs:
            continue
        path = f"steps[{index}].on"
        columns = sorted({pair.right for pair in step.on})
        try:
            repeated = _repeated(connection, inputs[step.with_], columns, limits)
        except psycopg.errors.QueryCanceled:
            continue
        found = [warning for warning in found if (warning.code, warning.path) != ("join_multiplies", path)]
        if repeated:
            many = f"{repeated}" if repeated <= _MOST else f"more than {_MOST}"
            values = "value comes" if repeated == 1 else "values come"
            message = (
                f"{step_label(index, step)}: {many} {values} several times in {', '.join(columns)} of the input "
                f"{step.with_!r}, so rows that meet them are multiplied; deduplicate it in a recipe of its own."
            )
            found.append(RecipeWarning("join_multiplies", path, message))
    return found


def _repeated(connection: psycopg.Connection, ref: TableRef, columns: list[str], limits: SessionLimits) -> int:
    """How many combinations of values come more than once; counting stops a little above `_MOST`."""
    names = [sql.Identifier(column) for column in columns]
    conditions = [sql.SQL("{} IS NOT NULL").format(name) for name in names]
    if DELETED_AT in ref.columns:
        conditions.append(sql.SQL("{} IS NULL").format(sql.Identifier(DELETED_AT)))
    query = sql.SQL(
        "SELECT count(*) FROM (SELECT 1 FROM {} WHERE {} GROUP BY {} HAVING count(*) > 1 LIMIT {}) AS repeated"
    ).format(
        sql.Identifier(ref.schema, ref.table),
        sql.SQL(" AND ").join(conditions),
        sql.SQL(", ").join(names),
        sql.Literal(_MOST + 1),
    )
    with connection.transaction(force_rollback=True):
        apply_limits(connection, limits)
        connection.execute("SET LOCAL transaction_read_only = on")
        row = connection.execute(query).fetchone()
    return 0 if row is None else int(row[0])
