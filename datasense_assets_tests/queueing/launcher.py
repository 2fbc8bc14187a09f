"""A run launcher that starts no worker: a run goes on until the test ends it, or as its source's slug says.

Queue, coordinator, sensors and daemon are the real ones; what a worker would do, and cost, is left out.
"""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

from dagster import DagsterEvent, DagsterEventType, DagsterRun
from dagster._core.events import JobFailureData, RunFailureReason
from dagster._core.launcher import LaunchRunContext, RunLauncher
from dagster._serdes import ConfigurableClass
from sqlalchemy import text

from datasense_assets.catalog.state import FailureRecord, put_off, record_source_result
from datasense_assets.running import tags as t
from datasense_assets.running.owners import catalog_engine


def end_run(instance: Any, run_id: str, *, success: bool = True) -> None:
    """What a worker says at the end of a run."""
    run = instance.get_run_by_id(run_id)
    # as of a step that failed: a run that failed otherwise is one that lost its worker, and is run again
    data = None if success else JobFailureData(error=None, failure_reason=RunFailureReason.STEP_FAILURE)
    kind = (DagsterEventType.RUN_SUCCESS if success else DagsterEventType.RUN_FAILURE).value
    event = DagsterEvent(kind, job_name=run.job_name, event_specific_data=data)
    instance.report_dagster_event(event, run_id=run_id)


_OUTCOMES = {
    "fine": None,
    "fail": FailureRecord("unavailable", "The server is down.", "Wait.", permanent=False),
    "throttled": FailureRecord("throttled", "Too many calls.", "Wait.", permanent=False),
}


class HeldRuns(RunLauncher, ConfigurableClass):
    """Ends runs of sources called `fine-…`, `fail-…` and `throttled-…` as their worker would; the others are held."""

    def __init__(self, inst_data: Any = None) -> None:
        self._inst_data = inst_data
        super().__init__()

    @property
    def inst_data(self) -> Any:
        return self._inst_data

    @classmethod
    def config_type(cls) -> Any:
        return {}

    @classmethod
    def from_config_value(cls, inst_data: Any, config_value: Any) -> HeldRuns:
        return cls(inst_data=inst_data)

    def launch_run(self, context: LaunchRunContext) -> None:
        run = context.dagster_run
        started = DagsterEvent(DagsterEventType.RUN_START.value, job_name=run.job_name)
        self._instance.report_dagster_event(started, run_id=run.run_id)
        if run.tags[t.SOURCE].partition("_")[0] in _OUTCOMES:
            threading.Thread(target=_work, args=(self._instance, run), daemon=True).start()

    def terminate(self, run_id: str) -> bool:
        self._instance.report_run_canceled(self._instance.get_run_by_id(run_id))
        return True


def _work(instance: Any, run: DagsterRun) -> None:
    """The end of a simulated load: what the catalog and the run are told."""
    kind = run.tags[t.SOURCE].partition("_")[0]
    failure = _OUTCOMES[kind]
    with catalog_engine().begin() as connection:
        find = (
            "SELECT s.id FROM datasense.sources s JOIN datasense.organizations o ON o.id = s.org_id "
            "WHERE replace(o.slug, '-', '_') || '.' || replace(s.slug, '-', '_') = :key"
        )
        source_id = connection.execute(text(find), {"key": run.tags[t.SOURCE_KEY]}).scalar_one()
        now = datetime.now(UTC)
        if kind == "throttled":
            put_off(connection, source_id, now + timedelta(hours=1), again=True)
        record_source_result(
            connection,
            source_id,
            run_id=run.run_id,
            started_at=now,
            failure=failure,
            counted=kind != "throttled",
        )
    end_run(instance, run.run_id, success=kind == "fine")
