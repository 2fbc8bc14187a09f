"""All that housekeeping sees to: what runs left behind, Dagster's records of old ones, the pools of connectors."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import dagster as dg

from datasense_assets.running.coordinator import TaggingRunCoordinator
from datasense_assets.running.forgetting import forget_runs
from datasense_assets.running.limits import reconcile_pools
from datasense_assets.settings import Settings

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from datasense_assets.ingest.housekeeping import Tidied


def put_everything_away(
    catalog: Engine, settings: Settings, instance: dg.DagsterInstance, now: datetime, *, dry_run: bool = False
) -> list[Tidied]:
    """Everything that is put away by night; with `dry_run` it is only said.

    Raises:
        DatabaseUnavailable: the catalog cannot be reached.
    """
    from datasense_assets.ingest.housekeeping import Tidied, keep_house

    done = keep_house(catalog, settings, now, dry_run=dry_run)
    if settings.runs_kept_days:
        old = forget_runs(instance, now - timedelta(days=settings.runs_kept_days), dry_run=dry_run)
        done.append(Tidied("dagster", "records of runs", old.forgotten))
        if old.left:
            done.append(
                Tidied("dagster", "older runs", skipped=f"{old.left} wait for the next night, this one is over")
            )
    coordinator = instance.run_coordinator
    if isinstance(coordinator, TaggingRunCoordinator):
        changed = reconcile_pools(instance, catalog, coordinator.default_limits, dry_run=dry_run)
        names = tuple(f"{pool}={slots}" for pool, slots in sorted(changed.items()))
        done.append(Tidied("dagster", "limits of pools", len(changed), names))
    return done
