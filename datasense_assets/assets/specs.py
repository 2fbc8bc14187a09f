"""Asset specs: how a table of a source and a recipe look in the graph before anything was loaded.

Lean on purpose: with 5,000 sources each entry of metadata is carried by every snapshot of the location. Column types
and labels come with each materialization.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from functools import cache
from typing import Any

import dagster as dg

from datasense_assets.catalog.freshness import source_promise
from datasense_assets.catalog.models import (
    InputReference,
    Organization,
    RecipeRow,
    Source,
    SourceTable,
    identifier,
    org_schema,
    table_name,
)
from datasense_assets.running.graph_index import recipe_key, table_key, undiscovered_key

INVALID_TAG = "datasense/invalid"
UNDISCOVERED_TAG = "datasense/undiscovered"
_CONNECTOR_NAMES = {
    "csv": "CSV file",
    "file": "File",
    "google_sheets": "Google Sheets table",
    "kobo": "KoboToolbox form",
    "odk_central": "ODK Central form",
    "surveycto": "SurveyCTO form",
    "surveycto_datasets": "SurveyCTO dataset",
}


@cache
def tags_of(**tags: str) -> Mapping[str, str]:
    """One mapping object for equal tags."""
    return tags


def warehouse_table_name(org: str, source: str, table: str) -> str:
    """`schema.table` as `dagster/table_name` gives it."""
    return f"{org_schema(org)}.{table_name(source, table)}"


@cache
def freshness_policy(fail_after: timedelta) -> dg.FreshnessPolicy:
    """One policy object for equal promises: each costs time when the location is loaded."""
    return dg.FreshnessPolicy.time_window(fail_window=fail_after)


def source_table_spec(
    org: Organization, source: Source, table: SourceTable, partitions: Any, *, promised: bool = False
) -> dg.AssetSpec:
    """The asset of a loaded table, in the group of its organisation; `promised`: with the source's freshness policy."""
    promise = source_promise(source.schedule, source.fresh_within) if promised else None
    title = table.title or table.slug
    said = f"**{title}**, loaded from a {_CONNECTOR_NAMES.get(source.connector, source.connector)} of {org.name}."
    if table.parent is not None:
        said += f" A repeat group of `{table.parent}`: `_ds_parent_id` is its parent's `_ds_row_id`."
    return dg.AssetSpec(
        key=dg.AssetKey(list(table_key(org.slug, source.slug, table.slug))),
        group_name=identifier(org.slug),
        description=said,
        metadata={"dagster/table_name": warehouse_table_name(org.slug, source.slug, table.slug)},
        tags=tags_of(**{"datasense/org": identifier(org.slug), "datasense/source": identifier(source.slug)}),
        kinds={"postgres", source.connector},
        partitions_def=partitions,
        freshness_policy=None if promise is None else freshness_policy(promise),
        # A retry takes only the tables that failed, so a run may end without an output for each.
        skippable=True,
    )


def undiscovered_spec(org: Organization, source: Source) -> dg.AssetSpec:
    """The asset that stands for a source until its tables are known."""
    return dg.AssetSpec(
        key=dg.AssetKey(list(undiscovered_key(org.slug, source.slug))),
        group_name=identifier(org.slug),
        description=(
            f"The tables of this {_CONNECTOR_NAMES.get(source.connector, source.connector)} of {org.name} are not known"
            " yet. Materialize it to find them; each becomes an asset of its own."
        ),
        tags=tags_of(**{"datasense/org": identifier(org.slug), UNDISCOVERED_TAG: ""}),
        kinds={source.connector},
    )


def input_keys_by_alias(org: Organization, recipe: RecipeRow) -> dict[str, dg.AssetKey]:
    """The asset key behind each alias of a recipe."""
    keys: dict[str, dg.AssetKey] = {}
    for alias, text in recipe.inputs.items():
        reference = InputReference.parse(text)
        if reference.recipe is not None:
            path = recipe_key(org.slug, reference.recipe)
        else:
            path = table_key(org.slug, reference.source or "", reference.table or "")
        keys[alias] = dg.AssetKey(list(path))
    return keys


def recipe_spec(org: Organization, recipe: RecipeRow, deps: list[dg.AssetKey]) -> dg.AssetSpec:
    """The asset of a recipe's output, downstream of the tables that it names."""
    return dg.AssetSpec(
        key=dg.AssetKey(list(recipe_key(org.slug, recipe.name))),
        group_name=identifier(org.slug),
        description=f"**{recipe.title or recipe.name}**, a recipe of {org.name}.",
        metadata={"dagster/table_name": f"{org_schema(org.slug)}.{identifier(recipe.name)}"},
        tags=tags_of(**{"datasense/org": identifier(org.slug), "datasense/recipe": identifier(recipe.name)}),
        kinds={"postgres", "recipe"},
        deps=deps,
    )
