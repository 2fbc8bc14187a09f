"""The alerts sensor: looks what is wrong, plans messages, sends them. It asks for no run and no run waits for it."""

from __future__ import annotations

import shutil

import dagster as dg

from datasense_assets.automation.failing import failing_content, failing_evaluation
from datasense_assets.catalog.times import now
from datasense_assets.running.owners import catalog_engine
from datasense_assets.settings import Settings


def build_alerts_sensor(settings: Settings) -> dg.SensorDefinition:
    """The sensor over everything that can go wrong. Only the first shard looks, for all of them."""

    @dg.sensor(
        name="alerts",
        minimum_interval_seconds=settings.alerts_interval_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Tells people what is wrong, once, and when it is over; asks for no run.",
    )
    def alerts(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        from datasense_assets.automation.alerts.delivery import deliver
        from datasense_assets.automation.alerts.planning import plan
        from datasense_assets.catalog.troubles import failing_now, troubles

        moment = now()
        usage = shutil.disk_usage(settings.home if settings.home.is_dir() else "/")
        with catalog_engine().begin() as connection:
            found = troubles(connection, moment, free_disk=usage.free / usage.total)
            failing = failing_now(connection)
            planned = plan(connection, found, moment, link=settings.ui_url)
        delivered = deliver(catalog_engine(), settings, moment)
        content = failing_content(failing)
        return dg.SensorResult(
            skip_reason=f"{len(found)} things are wrong; {planned}; {delivered}",
            asset_events=[failing_evaluation(failing)] if content != context.cursor else [],
            cursor=content,
        )

    return alerts
