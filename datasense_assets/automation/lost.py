"""Runs that ended without a word: stopped by Dagster at their hard time limit, or their worker died and died again;
and runs that will never begin, since what was sent to a worker is lost.

The load itself writes into the catalog how it ended. A run that is killed cannot, and its source would look as if
nothing had happened; so the failures that Dagster knows of are read, and those that the catalog does not know recorded.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import dagster as dg

from datasense_assets.catalog.times import as_utc, now
from datasense_assets.running import tags as t
from datasense_assets.running.graph_index import GraphIndex
from datasense_assets.running.owners import catalog_engine

if TYPE_CHECKING:
    from datasense_assets.catalog.state import FailureRecord

INTERVAL_SECONDS = 30
# Between Dagster's word that a run starts and its being on its way there is a blink, on a busy machine a long one.
_ON_ITS_WAY = timedelta(seconds=20)
# Of lanes whose runs say how fresh a source is.
_TELLING = (t.Lane.SCHEDULED, t.Lane.INTERACTIVE)


def build_lost_runs_sensor(index: GraphIndex) -> dg.SensorDefinition:
    """The sensor over failed runs of the sources of `index`."""
    sources = {".".join(entry.ident): number for number, entry in index.sources.items()}

    @dg.run_failure_sensor(
        name="lost_runs",
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Records the failure of runs that could not do so themselves: stopped, or without a worker.",
    )
    def lost_runs(context: dg.RunFailureSensorContext) -> dg.SkipReason:
        run = context.dagster_run
        source_id = sources.get(run.tags.get(t.SOURCE_KEY, ""))
        if source_id is None or run.tags.get(t.LANE) not in _TELLING:
            return dg.SkipReason(f"run {run.run_id} says nothing of how fresh a source is")
        if run.tags.get(t.WILL_RETRY) == "true":
            return dg.SkipReason(f"run {run.run_id} is run again")
        failure = _failure(context.failure_event.message or "")
        if not record_lost(context.instance, run.run_id, source_id, failure):
            return dg.SkipReason(f"run {run.run_id} said itself how it ended")
        return dg.SkipReason(f"run {run.run_id}: {failure.kind}")

    return lost_runs


def build_unbegun_runs_sensor() -> dg.SensorDefinition:
    """The sensor over runs that were handed to warm workers; where there are none it has nothing to do."""

    @dg.sensor(
        name="unbegun_runs",
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Fails runs whose message was lost on the way to a worker, so that they are run again at once.",
    )
    def unbegun_runs(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        lost = fail_unbegun(context.instance, now())
        return dg.SkipReason(f"{len(lost)} runs were lost on their way" if lost else "no run was lost on its way")

    return unbegun_runs


def fail_unbegun(instance: dg.DagsterInstance, moment: datetime) -> list[str]:
    """Mark runs as failed that no worker will ever take, as Dagster would after `start_timeout_seconds`; their ids.

    That of a launcher that cannot say so of a run is left to Dagster.
    """
    is_lost = getattr(instance.run_launcher, "is_lost", None)
    if is_lost is None:
        return []
    failed = []
    for record in instance.get_run_records(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTING])):
        run = record.dagster_run
        if moment - as_utc(record.update_timestamp) < _ON_ITS_WAY or not is_lost(run.run_id):
            continue
        # it may have begun, and even ended, since it was read
        again = instance.get_run_by_id(run.run_id)
        if again is not None and again.status is dg.DagsterRunStatus.STARTING:
            instance.report_run_failed(run, "The run was lost on its way to a worker: Redis has lost its data.")
            failed.append(run.run_id)
    return failed


def record_lost(instance: dg.DagsterInstance, run_id: str, source_id: int, failure: FailureRecord) -> bool:
    """Record the failure, unless the run itself or a later one has said how it ended; whether it was recorded."""
    from sqlalchemy import select

    from datasense_assets.catalog.state import record_source_result
    from datasense_assets.catalog.tables import source_status

    record = instance.get_run_record_by_id(run_id)
    if record is None:
        return False
    began = datetime.fromtimestamp(record.start_time, UTC) if record.start_time else as_utc(record.create_timestamp)
    with catalog_engine().begin() as connection:
        query = select(source_status.c.last_started_at).where(source_status.c.source_id == source_id).with_for_update()
        known = connection.execute(query).one_or_none()
        if known is None or (known.last_started_at is not None and known.last_started_at >= began):
            return False
        record_source_result(connection, source_id, run_id=run_id, started_at=began, failure=failure)
    return True


def _failure(said: str) -> FailureRecord:
    """What became of a run that Dagster failed with these words."""
    from datasense_assets.catalog.state import FailureRecord

    if "maximum runtime" in said:
        return FailureRecord(
            "took_too_long",
            "The load did not end within the time that its source may take, and was stopped.",
            "Set `max_minutes` of the source higher, or have it read less: fewer tables, or a range in parts.",
        )
    return FailureRecord(
        "worker_lost",
        "The load was lost with the process that worked on it, and so were the tries after it.",
        "See the run's log; a machine that is short of memory kills what takes most of it.",
    )
