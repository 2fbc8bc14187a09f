"""The checks of the catalog: whether the graph was made from it as it is, and whether anything fails now."""

import dagster as dg

from datasense_assets.automation.failing import CATALOG_KEY, CHECK_NAME, failing_result
from datasense_assets.running.owners import catalog_engine
from datasense_assets.settings import Shard


def catalog_key(shard: Shard | None) -> dg.AssetKey:
    """Of several code locations each has a key of its own: what each was made from is a question to each."""
    if shard is None or shard.index == 0:
        return CATALOG_KEY
    return dg.AssetKey(["_platform", f"catalog_{shard.index}_of_{shard.count}"])


def catalog_asset(shard: Shard | None = None) -> dg.AssetSpec:
    """The catalog itself, as an asset that nothing materializes."""
    return dg.AssetSpec(
        key=catalog_key(shard), group_name="_platform", description="The catalog that this asset graph is made from."
    )


def catalog_check(stale_because: str | None, shard: Shard | None = None) -> dg.AssetChecksDefinition:
    """Fails while the location runs on the last good snapshot; `stale_because` is why."""

    @dg.asset_check(
        asset=catalog_key(shard),
        name="graph_is_from_the_catalog",
        description="The graph was read from the catalog itself.",
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


def failing_check() -> dg.AssetChecksDefinition:
    """Fails while a source or recipe fails, and lists them; the alerts sensor reports it whenever that changes."""

    @dg.asset_check(asset=CATALOG_KEY, name=CHECK_NAME, description="No source and no recipe fails now.")
    def nothing_fails() -> dg.AssetCheckResult:
        from datasense_assets.catalog.troubles import failing_now

        with catalog_engine().connect() as connection:
            return failing_result(failing_now(connection))

    return nothing_fails
