"""WHEN things run: sensors over the catalog. `sensors` builds all of them for a loaded graph."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import dagster as dg

    from datasense_assets.running.graph_index import GraphIndex
    from datasense_assets.settings import Settings


def sensors(index: GraphIndex, settings: Settings) -> list[dg.SensorDefinition]:
    """Every sensor of the code location."""
    from datasense_assets.automation.alerts.sensor import build_alerts_sensor
    from datasense_assets.automation.due import build_due_sensor
    from datasense_assets.automation.lost import build_lost_runs_sensor, build_unbegun_runs_sensor
    from datasense_assets.automation.reload import build_reload_sensor
    from datasense_assets.automation.requests import build_requests_sensor
    from datasense_assets.automation.rereads import build_reread_sensor
    from datasense_assets.automation.stale import build_stale_sensor

    # what is wrong is looked up in the whole catalog, and what is lost in all runs, so one shard does it for all
    of_all = [build_alerts_sensor(settings)]
    if settings.redis_url is not None:
        of_all.append(build_unbegun_runs_sensor())
    return [
        *(of_all if settings.shard is None or settings.shard.index == 0 else []),
        build_due_sensor(index, settings),
        build_stale_sensor(index, settings),
        build_requests_sensor(index, settings),
        build_reread_sensor(index, settings),
        build_lost_runs_sensor(index),
        build_reload_sensor(index, settings),
    ]
