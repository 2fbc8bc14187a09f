"""Housekeeping, once a night: a job of one small op that puts away what runs left behind (`putting_away`)."""

from datetime import UTC, datetime

import dagster as dg

from datasense_assets.automation.putting_away import put_everything_away
from datasense_assets.running.owners import catalog_engine
from datasense_assets.settings import get_settings

JOB_NAME = "housekeeping"
# After the night's reads, before people come; which minute does not matter.
_WHEN = "40 5 * * *"


@dg.op(description="Puts away old records, staged tables and scratch of runs that are dead.")
def put_away(context: dg.OpExecutionContext) -> None:
    """Log what was put away; fail only where the catalog cannot be reached."""
    for each in put_everything_away(catalog_engine(), get_settings(), context.instance, datetime.now(UTC)):
        if each.skipped is not None:
            context.log.warning("%s: %s", each.where, each.skipped)
        elif each.count:
            context.log.info("%s: %d %s", each.where, each.count, each.what)


@dg.job(
    name=JOB_NAME, description="Once a night: puts away what runs left behind.", executor_def=dg.in_process_executor
)
def housekeeping_job() -> None:
    """The op alone."""
    put_away()


def housekeeping_schedule() -> dg.ScheduleDefinition:
    """Every night at 05:40 UTC; of several code locations the first one's."""
    return dg.ScheduleDefinition(
        name=JOB_NAME,
        job=housekeeping_job,
        cron_schedule=_WHEN,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Puts away what runs left behind, once a night.",
    )
