"""A row that cannot be used → an asset at its own key that says what is wrong and fails with that message.

It never kills the location, and it never vanishes.
"""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from datasense_assets.assets.nodes import asset_node
from datasense_assets.assets.specs import INVALID_TAG, tags_of
from datasense_assets.catalog.models import InvalidRow, Organization, identifier
from datasense_assets.running.graph_index import recipe_key, table_key, undiscovered_key


def invalid_keys(org: Organization, row: InvalidRow) -> list[tuple[str, ...]]:
    """The keys that the row would have had: its tables', its own, or the recipe's."""
    if row.kind == "recipe":
        return [recipe_key(org.slug, row.slug)]
    if row.tables:
        return [table_key(org.slug, row.slug, table) for table in row.tables]
    return [undiscovered_key(org.slug, row.slug)]


def invalid_asset(org: Organization, row: InvalidRow) -> dg.AssetsDefinition:
    """The visible, failing asset of a bad row."""
    said = "\n".join(f"- {problem}" for problem in row.problems)
    words = f"This {row.kind} cannot be used as it is stored in the catalog:\n\n{said}"

    def refuse(_: dg.AssetExecutionContext) -> Iterator[Any]:
        yield from ()
        raise dg.Failure(description=words, allow_retries=False)

    return asset_node(
        f"{row.kind}_{row.id}",
        refuse,
        [
            dg.AssetSpec(
                key=dg.AssetKey(list(key)),
                group_name=identifier(org.slug),
                description=words,
                tags=tags_of(**{"datasense/org": identifier(org.slug), INVALID_TAG: ""}),
            )
            for key in invalid_keys(org, row)
        ],
        can_subset=True,
    )
