"""Running assets here and now, in this process, with the same graph, records and history as through the queue."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import dagster as dg

from datasense_assets.running.failures import step_failure_words
from datasense_assets.running.graph_index import KeyPath
from datasense_assets.running.scope import scope_of, scoped_to
from datasense_assets.running.tags import ONCE, selected


@dataclass(frozen=True)
class LocalRun:
    """What came of a local run: asset key path → metadata of its materialization; failures as they were said."""

    run_id: str
    success: bool
    materialized: dict[KeyPath, Mapping[str, Any]]
    failures: tuple[str, ...]


def check_locally(
    definitions: Callable[[], dg.Definitions],
    keys: Iterable[KeyPath],
    *,
    instance: dg.DagsterInstance,
    tags: Mapping[str, str],
) -> LocalRun:
    """Run all checks of the assets of `keys` in this process, on their tables as they stand; nothing is materialized.

    A failure of the run is told in `failures` only where it is not that checks do not hold.
    """
    paths = list(keys)
    scope = scope_of(selected(paths))
    if scope is None:
        raise ValueError("nothing was selected to check")
    with scoped_to(scope):
        graph = definitions()
    result = dg.materialize(
        [asset for asset in graph.assets or () if isinstance(asset, dg.AssetsDefinition)],
        selection=dg.AssetSelection.checks_for_assets(*(dg.AssetKey(list(path)) for path in paths)),
        instance=instance,
        tags={ONCE: "true", **tags},
        raise_on_error=False,
    )
    broken = {event.step_key for event in result.all_events if _does_not_hold(event)}
    return LocalRun(
        run_id=result.run_id,
        success=result.success,
        materialized={},
        failures=tuple(
            step_failure_words(event)
            for event in result.all_events
            if event.is_step_failure and event.step_key not in broken
        ),
    )


def _does_not_hold(event: dg.DagsterEvent) -> bool:
    if event.event_type is not dg.DagsterEventType.ASSET_CHECK_EVALUATION:
        return False
    return not event.asset_check_evaluation_data.passed


def run_locally(
    definitions: Callable[[], dg.Definitions],
    keys: Iterable[KeyPath],
    *,
    instance: dg.DagsterInstance,
    tags: Mapping[str, str],
    partition_key: str | None = None,
) -> LocalRun:
    """Materialize the assets of `keys` in this process.

    Args:
        definitions: builds the graph; called with the scope set to what `keys` touch.
        keys: asset key paths.
        instance: where runs and events are recorded.
        tags: of the run; a partition range goes here (`dagster/asset_partition_range_start` and `_end`).
        partition_key: the one partition to fill.
    """
    paths = list(keys)
    scope = scope_of(selected(paths))
    if scope is None:
        raise ValueError("nothing was selected to run")
    with scoped_to(scope):
        graph = definitions()
    result = dg.materialize(
        [asset for asset in graph.assets or () if isinstance(asset, dg.AssetsDefinition)],
        selection=[dg.AssetKey(list(path)) for path in paths],
        instance=instance,
        partition_key=partition_key,
        tags={ONCE: "true", **tags},
        raise_on_error=False,
    )
    materialized: dict[KeyPath, Mapping[str, Any]] = {}
    for event in result.get_asset_materialization_events():
        done = event.step_materialization_data.materialization
        materialized[tuple(done.asset_key.path)] = {name: value.value for name, value in done.metadata.items()}
    return LocalRun(
        run_id=result.run_id,
        success=result.success,
        materialized=materialized,
        failures=tuple(step_failure_words(event) for event in result.all_events if event.is_step_failure),
    )
