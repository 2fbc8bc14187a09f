"""The check that says whether the graph was made from the catalog as it is, or from the last good snapshot."""

import dagster as dg

CATALOG_KEY = dg.AssetKey(["_platform", "catalog"])


def catalog_asset() -> dg.AssetSpec:
    """The catalog itself, as an asset that nothing materializes."""
    return dg.AssetSpec(
        key=CATALOG_KEY, group_name="_platform", description="The catalog that this asset graph is made from."
    )


def catalog_check(stale_because: str | None) -> dg.AssetChecksDefinition:
    """Fails while the location runs on the last good snapshot; `stale_because` is why."""

    @dg.asset_check(
        asset=CATALOG_KEY, name="graph_is_from_the_catalog", description="The graph was read from the catalog itself."
    )
    def graph_is_from_the_catalog() -> dg.AssetCheckResult:
        if stale_because is None:
            return dg.AssetCheckResult(passed=True, description="The graph was read from the catalog.")
        return dg.AssetCheckResult(
            passed=False,
            description="The catalog could not be read when this location was loaded; the last good snapshot is shown."
            f" {stale_because} Reload the location once the database answers.",
        )

    return graph_is_from_the_catalog
