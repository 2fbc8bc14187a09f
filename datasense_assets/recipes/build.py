"""Building a recipe: its SELECT into a typed table that takes the old one's place, and a report of what came of it."""

from __future__ import annotations

import hashlib
import uuid
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any

import psycopg

from datasense_assets.catalog.state import LastBuild
from datasense_assets.recipes.compiling.compile import Compiled, compile_recipe
from datasense_assets.recipes.compiling.lineage import Source
from datasense_assets.recipes.compiling.statement import postgres_type
from datasense_assets.recipes.inputs import ibis_type
from datasense_assets.recipes.language.derived import LabelValues
from datasense_assets.recipes.preview import mask, personal_columns
from datasense_assets.recipes.recipe import Recipe
from datasense_assets.recipes.tableref import TableRef
from datasense_assets.recipes.versions import (
    build_key,
    columns_hash,
    content_hash,
    definition_hash,
    local_day,
    short_hash,
)
from datasense_assets.warehouse.errors import WarehouseError
from datasense_assets.warehouse.reading import fetch_rows, table_columns
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
    """What a build made. `lossy_casts` counts, by column, the values that could not be read and became null.

    `unchanged`: the table was there already, made by the same recipe of the same inputs, and nothing was done (then
    nothing was counted). `built_for`: the day it asked for as today. `build_key`, `definition_hash`, `columns_hash`,
    `content_hash`: as in `catalog.state.LastBuild`.
    """

    table: str
    rows: int
    columns: tuple[ColumnSpec, ...]
    sql: str
    sql_hash: str
    lossy_casts: Mapping[str, int]
    lineage: Mapping[str, list[Source]]
    row_lineage: list[Source]
    preview: tuple[Mapping[str, Any], ...]
    unchanged: bool
    definition_hash: str
    build_key: str | None
    columns_hash: str
    content_hash: str
    built_for: date | None
    uses_labels: bool


@dataclass
class _Made:
    """What came of making the table."""

    rows: int
    content: str | None = None
    lost: dict[str, int] = field(default_factory=dict)
    unchanged: bool = False


def build_recipe(
    connection: psycopg.Connection,
    org_schema: str,
    recipe: Recipe,
    inputs: Mapping[str, TableRef],
    *,
    limits: SessionLimits | None = None,
    preview_rows: int = 10,
    versions: Mapping[str, int] | None = None,
    last: LastBuild | None = None,
    force: bool = False,
) -> BuildReport:
    """Makes `org_schema.<recipe>` hold what the recipe says, as the connection's role, and reports on it.

    Args:
        connection: to the organisation's warehouse, as its role.
        org_schema: where the table is made.
        recipe: what to make.
        inputs: the tables it reads, by alias.
        limits: of the session; its time zone is the organisation's.
        preview_rows: rows to show in the report.
        versions: data version of each input by alias, read before the build; None: not known.
        last: the build that made the table that is there; where this one would make an equal one, nothing is done.
        force: build all the same.

    Raises:
        RecipeErrors: the recipe has mistakes.
        BuildFailed: a value cannot be read where `on_error` is `fail`, a number is too large, an input has changed.
        SwapRefused, TableBusy, LimitExceeded: from `replace_table`.

    """
    limits = limits or SessionLimits()
    today = local_day(limits.timezone, datetime.now(UTC))
    compiled = compile_recipe(recipe, inputs)
    specs = tuple(ColumnSpec(name, postgres_type(dtype)) for name, dtype in compiled.schema.items())
    definition = definition_hash(compiled, recipe, specs, limits.timezone)
    key = None if versions is None else build_key(definition, versions, compiled.clock, today)
    same = last if last is not None and key is not None and last.build_key == key and not force else None
    if same is not None and _is_there(connection, org_schema, recipe.ident, specs):
        made = _Made(rows=same.row_count or 0, content=same.content_hash, unchanged=True)
    else:
        made = _make(connection, org_schema, recipe, compiled, specs, limits)
    columns = columns_hash(specs)
    content = made.content or (uuid.uuid4().hex if key is None else short_hash(key))
    hidden = personal_columns(compiled, inputs.values())
    names = tuple(compiled.schema.names)
    shown = fetch_rows(connection, org_schema, recipe.ident, preview_rows)
    return BuildReport(
        table=recipe.ident,
        rows=made.rows,
        columns=specs,
        sql=compiled.sql,
        sql_hash=hashlib.sha256(compiled.sql.encode()).hexdigest()[:16],
        lossy_casts=made.lost,
        lineage=compiled.lineage,
        row_lineage=compiled.row_lineage,
        preview=tuple(
            dict(zip(names, mask(names, tuple(row[n] for n in names), hidden), strict=True)) for row in shown
        ),
        unchanged=made.unchanged,
        definition_hash=definition,
        build_key=key,
        columns_hash=columns,
        content_hash=content,
        built_for=None if compiled.clock == "none" else today,
        uses_labels=any(isinstance(step, LabelValues) for step in recipe.steps),
    )


def _is_there(connection: psycopg.Connection, schema: str, table: str, columns: tuple[ColumnSpec, ...]) -> bool:
    """Whether the table has the columns that the recipe gives it; somebody may have dropped or altered it."""
    found = [(column.name, ibis_type(column.pg_type)) for column in table_columns(connection, schema, table)]
    return found == [(column.name, ibis_type(column.pg_type)) for column in columns]


def _make(
    connection: psycopg.Connection,
    schema: str,
    recipe: Recipe,
    compiled: Compiled,
    columns: tuple[ColumnSpec, ...],
    limits: SessionLimits,
) -> _Made:
    made = _Made(rows=0)

    def hash_content(inside: psycopg.Connection, new: str) -> None:
        found = content_hash(inside, schema, new)
        made.content = None if found is None else short_hash(columns_hash(columns), found)

    try:
        made.lost = _count_lost(connection, compiled, limits)
        made.rows = replace_table(
            connection,
            schema,
            recipe.ident,
            columns,
            compiled.sql,
            indexes=[IndexSpec(tuple(index)) for index in recipe.output.indexes],
            table_comment=recipe.description or recipe.title,
            limits=limits,
            staged=hash_content,
        )
    except psycopg.errors.QueryCanceled:
        raise LimitExceeded(
            f"Counting unreadable values of {recipe.name} took longer than {limits.statement_timeout:g} s.",
            advice="Let it read less (filter earlier), or raise the limit.",
        ) from None
    except (psycopg.DataError, psycopg.ProgrammingError) as error:
        raise _failed(recipe, error) from error
    return made


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
