"""The asset graph as a pure function of a snapshot and the settings: `build_definitions`."""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from datasense_assets.assets.catalog_check import catalog_asset, catalog_check, failing_check
from datasense_assets.assets.invalid import invalid_asset
from datasense_assets.assets.recipes import recipe_asset
from datasense_assets.assets.sources import source_asset
from datasense_assets.assets.validation import usable
from datasense_assets.automation import sensors
from datasense_assets.catalog.models import Snapshot
from datasense_assets.running.graph_index import GraphIndex, graph_hash
from datasense_assets.running.loading import load_snapshot
from datasense_assets.running.scope import current_scope, once_in_scope
from datasense_assets.settings import Settings, get_settings

_log = logging.getLogger("datasense.graph")


def build_definitions(
    snapshot: Snapshot, settings: Settings, *, stale_because: str | None = None, scoped: bool = False
) -> dg.Definitions:
    """Everything that the code location holds: assets of every row, sensors over them, an in-process executor.

    Args:
        snapshot: what exists; rows that cannot be used become visible failing assets.
        settings: of this process.
        stale_because: why the snapshot is not the catalog's newest, where it is not.
        scoped: the snapshot is only a run's part: neither sensors nor the catalog's own check are built. With no
            organisation in it the run is the platform's own, and they are.
    """
    checked = usable(snapshot)
    assets: list[dg.AssetsDefinition | dg.AssetSpec] = []
    # a daemon looks at each policy twice a minute, so that they are for a platform of ordinary size; a run needs none
    sources = sum(len(org.sources) for org in checked.organizations)
    policies = not scoped and sources <= settings.freshness_policies
    for org in checked.organizations:
        assets += [source_asset(org, source, settings.backfill_chunk, promised=policies) for source in org.sources]
        assets += [recipe_asset(org, recipe) for recipe in org.recipes]
        assets += [invalid_asset(org, row) for row in org.invalid]
    if scoped and checked.organizations:
        return dg.Definitions(assets=assets, executor=dg.in_process_executor)
    from datasense_assets.automation.housekeeping import housekeeping_job, housekeeping_schedule

    # of several code locations one keeps house for all
    first = settings.shard is None or settings.shard.index == 0
    return dg.Definitions(
        assets=[*assets, catalog_asset(settings.shard)],
        jobs=[housekeeping_job] if first else [],
        schedules=[housekeeping_schedule()] if first else [],
        asset_checks=[catalog_check(stale_because, settings.shard), *([failing_check()] if first else [])],
        sensors=sensors(GraphIndex.of(checked, graph_hash(snapshot)), settings),
        executor=dg.in_process_executor,
    )


def load_definitions() -> dg.Definitions:
    """The graph of the catalog as it is: the whole of it, or the part of the run that this process works for.

    Raises:
        DatabaseUnavailable: the catalog cannot be read and there is no last good snapshot.
    """
    return once_in_scope(_load)


def _load() -> dg.Definitions:
    settings, scope = get_settings(), current_scope()
    loaded = load_snapshot(settings, scope)
    orgs = loaded.snapshot.organizations
    _log.info(
        "building the graph of %d sources and %d recipes, %s",
        sum(len(org.sources) for org in orgs),
        sum(len(org.recipes) for org in orgs),
        "which is all there is" if scope is None else "which is what this run needs",
    )
    if scope is not None:
        return build_definitions(loaded.snapshot, settings, stale_because=loaded.stale_because, scoped=True)
    with _long_lived():
        return build_definitions(loaded.snapshot, settings, stale_because=loaded.stale_because)


@contextmanager
def _long_lived() -> Iterator[None]:
    """What is made here lives as long as the process: it is not searched for garbage, now or later.

    Looking through half a million objects again and again took a quarter of the time of building 5,000 sources. A graph
    that was built before, in the same process, is searched again.
    """
    gc.unfreeze()
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        gc.enable()
