"""Building a recipe: whether there is anything to do, the making of its table, and a report of what came of it."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from typing import Any

import psycopg

from datasense_assets.catalog.state import LastBuild
from datasense_assets.recipes.compiling.compile import Compiled, compile_recipe
from datasense_assets.recipes.compiling.lineage import Source
from datasense_assets.recipes.compiling.statement import postgres_type
from datasense_assets.recipes.language.derived import LabelValues
from datasense_assets.recipes.making import BuildFailed, Inspect, Made, Maker
from datasense_assets.recipes.preview import mask, personal_columns
from datasense_assets.recipes.questions import answered_questions, ask
from datasense_assets.recipes.recipe import Recipe
from datasense_assets.recipes.tableref import TableRef
from datasense_assets.recipes.versions import build_key, columns_hash, local_day, short_hash
from datasense_assets.warehouse.columns import ColumnSpec
from datasense_assets.warehouse.reading import fetch_rows
from datasense_assets.warehouse.swap import SessionLimits

__all__ = ["BuildFailed", "BuildReport", "build_recipe"]


@dataclass(frozen=True)
class BuildReport:
    """What a build made. `lossy_casts` counts, by column, the values that could not be read and became null.

    `unchanged`: the table was there already, made by the same recipe of the same inputs, and nothing was done (then
    nothing was counted). `rows_removed`: taken out by an incremental build, which writes changed rows alone; else None.
    `lost_views`: recipes kept as views that no longer fit the table and are gone until they are built. `built_for`: the
    day it asked for as today. `questions`, `build_key`, `definition_hash`, `columns_hash`, `content_hash`: as in
    `catalog.state.LastBuild`.
    """

    table: str
    rows: int
    columns: tuple[ColumnSpec, ...]
    questions: Mapping[str, str]
    sql: str
    sql_hash: str
    lossy_casts: Mapping[str, int]
    lineage: Mapping[str, list[Source]]
    row_lineage: list[Source]
    preview: tuple[Mapping[str, Any], ...]
    unchanged: bool
    rows_written: int
    rows_removed: int | None
    lost_views: tuple[str, ...]
    definition_hash: str
    build_key: str | None
    columns_hash: str
    content_hash: str
    built_for: date | None
    uses_labels: bool


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
    on_start: Callable[[], None] | None = None,
    inspect: Inspect | None = None,
) -> BuildReport:
    """Makes `org_schema.<recipe>` hold what the recipe says, as the connection's role, and reports on it.

    Args:
        connection: to the organisation's warehouse, as its role, in autocommit.
        org_schema: where the table is made.
        recipe: what to make.
        inputs: the tables it reads, by alias.
        limits: of the session; its time zone is the organisation's.
        preview_rows: rows to show in the report.
        versions: data version of each input by alias, read before the build; None: not known.
        last: the build that made the table that is there; where this one would make an equal one, nothing is done, and
            an incremental recipe of the same definition changes only rows that changed.
        force: build the whole table all the same.
        on_start: called before the table is touched, so that the last build can be forgotten: a process that dies after
            the commit must not leave a record of another table than the one that is there.
        inspect: looks at the new table before it takes the old one's place, or at the one that stays.

    Raises:
        RecipeErrors: the recipe has mistakes.
        BuildFailed: a value cannot be read where `on_error` is `fail`, a number is too large, an input has changed.
        SwapRefused, TableBusy, LimitExceeded: from `warehouse.swap` and `warehouse.increment`.
        Exception: whatever `inspect` raises; the old table stays.

    """
    limits = limits or SessionLimits()
    today = local_day(limits.timezone, datetime.now(UTC))
    compiled = compile_recipe(recipe, inputs)
    specs = tuple(ColumnSpec(name, postgres_type(dtype)) for name, dtype in compiled.schema.items())
    definition = _definition_hash(compiled, recipe, specs, limits.timezone, today)
    key = None if versions is None else build_key(definition, versions, compiled.clock, today)
    hidden = personal_columns(compiled, inputs.values())
    maker = Maker(connection, org_schema, recipe, compiled, specs, limits, tuple(inputs.values()), hidden, inspect)
    stands = last if last is not None and not force and maker.is_there() else None
    if stands is not None and key is not None and stands.build_key == key:
        made = Made(rows=stands.row_count or 0, content=stands.content_hash, unchanged=True)
        maker.look_over()
    else:
        if on_start is not None:
            on_start()
        made = maker.make(incrementally=stands is not None and stands.definition_hash == definition)
    asked = ask(
        connection,
        org_schema,
        recipe.ident,
        answered_questions(connection, compiled, inputs),
        {} if last is None else last.questions,
        limits,
    )
    names = tuple(compiled.schema.names)
    shown = fetch_rows(connection, org_schema, recipe.ident, preview_rows)
    return BuildReport(
        table=recipe.ident,
        rows=made.rows,
        columns=tuple(replace(column, comment=asked.comments.get(column.name)) for column in specs),
        questions=asked.given,
        sql=compiled.sql,
        sql_hash=hashlib.sha256(compiled.sql.encode()).hexdigest()[:16],
        lossy_casts=made.lost,
        lineage=compiled.lineage,
        row_lineage=compiled.row_lineage,
        preview=tuple(
            dict(zip(names, mask(names, tuple(row[n] for n in names), hidden), strict=True)) for row in shown
        ),
        unchanged=made.unchanged,
        rows_written=0 if made.unchanged else made.rows if made.added is None else made.added,
        rows_removed=made.removed,
        lost_views=made.lost_views,
        definition_hash=definition,
        build_key=key,
        columns_hash=columns_hash(specs),
        content_hash=made.content or (uuid.uuid4().hex if key is None else short_hash(key)),
        built_for=None if compiled.clock == "none" else today,
        uses_labels=any(isinstance(step, LabelValues) for step in recipe.steps),
    )


def _definition_hash(
    compiled: Compiled, recipe: Recipe, columns: Sequence[ColumnSpec], timezone: str, today: date
) -> str:
    """Equal when the same inputs give the same table: SQL, columns, how the table is kept and described, time zone."""
    return short_hash(
        compiled.sql,
        columns_hash(columns),
        [column.comment for column in columns],
        recipe.output.model_dump(mode="json"),
        recipe.description or recipe.title,
        timezone,
        # rows that were made on another day must not stand beside those of today
        today.isoformat() if compiled.increment is not None and compiled.clock == "day" else "",
    )
