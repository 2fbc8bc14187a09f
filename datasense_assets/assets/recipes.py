"""Recipe → asset, downstream of the tables and recipes that its inputs name."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from datasense_assets.assets.checks import check_recipe, check_specs, checks_alone
from datasense_assets.assets.nodes import asset_node
from datasense_assets.assets.specs import input_keys_by_alias, recipe_spec
from datasense_assets.catalog.models import Organization, RecipeRow
from datasense_assets.running.graph_index import recipe_key

RECIPE_POOL = "recipes"


def recipe_asset(org: Organization, recipe: RecipeRow) -> dg.AssetsDefinition:
    """The asset of a recipe."""
    upstream = list(dict.fromkeys(input_keys_by_alias(org, recipe).values()))

    def build(context: dg.AssetExecutionContext) -> Iterator[Any]:
        if checks_alone(context):
            yield from check_recipe(context, org, recipe)
            return
        from datasense_assets.assets.building import build_recipe_table

        yield from build_recipe_table(context, org, recipe)

    return asset_node(
        f"recipe_{recipe.id}",
        build,
        [recipe_spec(org, recipe, upstream)],
        checks=check_specs(recipe_key(org.slug, recipe.name), recipe.checks),
        # So that checks can be run without a build.
        can_subset=bool(recipe.checks),
        pool=RECIPE_POOL,
    )
