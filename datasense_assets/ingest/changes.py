"""What a change of a source's shape does to the organisation's recipes, and tables that a source no longer has.

Everything here is rare and goes by the catalog alone: recipes are compiled against the columns as they were and as they
are now, and what uses a changed column is known from the lineage of columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from sqlalchemy import select

from datasense_assets.catalog.models import InputReference, Organization, RecipeRow, SourceColumn, identifier
from datasense_assets.catalog.snapshot import SnapshotScope, read_snapshot
from datasense_assets.catalog.state import (
    AffectedRecipe,
    SchemaChange,
    impact_of_deleting,
    impact_of_schema_changes,
    mark_gone,
    read_table_status,
    record_schema_changes,
)
from datasense_assets.catalog.tables import recipes, sources

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from datasense_assets.ingest.report import SyncPlan

TABLE_REMOVED = SchemaChange("table_removed", None)
TABLE_RETURNED = SchemaChange("table_returned", None)


def with_affected(
    catalog: Connection,
    plan: SyncPlan,
    table_id: int,
    before: Sequence[SourceColumn],
    changes: Sequence[SchemaChange],
) -> list[SchemaChange]:
    """The changes with the recipes that they reach, at whatever remove. The catalog has the new columns already.

    A recipe that compiles against the columns `before` and not against those of now breaks; it is named with the
    changes whose columns it uses, or with all where no column of its own tells.
    """
    org = _organization(catalog, plan)
    if org is None:
        return list(changes)
    from datasense_assets.recipes.recording import refresh_lineage

    was = _with_columns(org, table_id, before)
    refresh_lineage(catalog, was)
    names = {row.id: row.name for row in org.recipes}
    broken = {row.name: why for row in org.recipes if (why := _broken(row, was, org)) is not None}
    # a new label changes nothing that a recipe reads; of a new column nothing is used yet
    reached = {
        index: [names[each.recipe_id] for each in impact_of_schema_changes(catalog, table_id, [_as_used(change)])]
        for index, change in enumerate(changes)
        if change.kind in ("removed", "returned", "retyped")
    }
    said = {name for found in reached.values() for name in found}
    unsaid = [name for name in broken if name not in said]
    found = []
    for index, change in enumerate(changes):
        # a column that is gone stays in the warehouse: what reads it still compiles
        can_break = change.kind in ("added", "retyped")
        affected = _affected(reached.get(index, ()), unsaid if can_break else (), broken if can_break else {})
        found.append(replace(change, affects=affected))
    return found


def _as_used(change: SchemaChange) -> SchemaChange:
    return SchemaChange("removed", change.column_name) if change.kind == "returned" else change


def _affected(users: Iterable[str], others: Iterable[str], broken: Mapping[str, str]) -> tuple[AffectedRecipe, ...]:
    names = dict.fromkeys([*users, *others])
    found = [AffectedRecipe(n, "breaks", broken[n]) if n in broken else AffectedRecipe(n, "uses") for n in names]
    return tuple(sorted(found, key=lambda each: (each.effect, each.recipe)))


def _broken(row: RecipeRow, before: Organization, now: Organization) -> str | None:
    """Why the recipe no longer compiles; None where it does, or did not before either."""
    error = _mistake(row, now)
    return error if error is not None and _mistake(row, before) is None else None


def _mistake(row: RecipeRow, org: Organization) -> str | None:
    from datasense_assets.recipes import Recipe, RecipeErrors
    from datasense_assets.recipes.compiling.compile import check_recipe
    from datasense_assets.recipes.inputs import input_table_refs

    try:
        recipe = Recipe.parse(row.spec)
        check_recipe(recipe, input_table_refs(recipe, org))
    except RecipeErrors as errors:
        return str(errors.errors[0].message)
    return None


def _organization(catalog: Connection, plan: SyncPlan) -> Organization | None:
    """The whole organisation, its own recipes and all its tables, as this transaction sees them."""
    org = identifier(plan.org.slug)
    of_sources = catalog.execute(select(sources.c.slug).where(sources.c.org_id == plan.org.id)).scalars()
    of_recipes = catalog.execute(select(recipes.c.name).where(recipes.c.org_id == plan.org.id)).scalars()
    scope = SnapshotScope(
        frozenset((org, identifier(slug)) for slug in of_sources),
        frozenset((org, identifier(name)) for name in of_recipes),
    )
    found = read_snapshot(catalog, scope=scope).organizations if scope.recipes else ()
    return found[0] if found else None


def _with_columns(org: Organization, table_id: int, columns: Sequence[SourceColumn]) -> Organization:
    sources = tuple(
        source.model_copy(
            update={
                "tables": tuple(
                    each.model_copy(update={"columns": tuple(columns)}) if each.id == table_id else each
                    for each in source.tables
                )
            }
        )
        for source in org.sources
    )
    return org.model_copy(update={"sources": sources})


def note_removed(catalog: Connection, plan: SyncPlan, table_id: int, table: str) -> SchemaChange | None:
    """Keep as an event that the source no longer has the table; None where that was said before.

    What was loaded stays. The event names every recipe that reads the table, through others too.
    """
    status = read_table_status(catalog, table_id)
    if status is None or status.loaded_at is None or status.gone_since is not None:
        return None
    mark_gone(catalog, table_id, gone=True)
    org = _organization(catalog, plan)
    if org is not None:
        from datasense_assets.recipes.recording import refresh_lineage

        refresh_lineage(catalog, org)
    names = {row.id: row.name for row in org.recipes} if org is not None else {}
    reference = InputReference.of_table(plan.source.slug, table).text
    users = [names[each.recipe_id] for each in impact_of_deleting(catalog, plan.org.id, [reference])]
    change = replace(TABLE_REMOVED, affects=_affected(users, (), {}))
    record_schema_changes(catalog, table_id, run_id=plan.run_id, changes=[change])
    return change
