"""The launcher of warm workers: dagster-celery's, with lanes for queues and a lease for health."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import dagster as dg
import redis

# No public name exists for the answer of a launcher's health check.
from dagster._core.launcher import CheckRunHealthResult, WorkerStatus  # noqa: TID251
from dagster_celery.launcher import CeleryRunLauncher
from dagster_celery.tags import DAGSTER_CELERY_QUEUE_TAG

from datasense_assets.running import tags as t
from datasense_assets.running.warm.broker import (
    broker_url,
    is_settling,
    note_sent,
    queue_of,
    redis_url,
    shared_redis,
    slots_by_lane,
)
from datasense_assets.running.warm.lease import ask_to_cancel, is_held, is_lost
from datasense_assets.settings import get_settings

_MAX_RETRIES_TAG = "dagster/max_retries"
_log = logging.getLogger("datasense.launcher")

# A message is out of Redis before its run begins, so that nothing is given out twice: what dies is seen by its lease.
_CELERY: dict[str, Any] = {
    "task_acks_late": False,
    "task_ignore_result": True,
    "worker_prefetch_multiplier": 1,
    # a worker takes a message only when a slot is free; otherwise one would hold what another has room for
    "worker_disable_prefetch": True,
    "worker_send_task_events": False,
    # Dagster keeps what a step prints with its run
    "worker_redirect_stdouts": False,
    "worker_cancel_long_running_tasks_on_connection_loss": False,
    "broker_connection_retry_on_startup": True,
    "broker_connection_max_retries": None,
    "broker_transport_options": {
        # a message that was taken and not begun for so long was lost with its worker: another one gets it
        "visibility_timeout": 30,
        "max_retries": 3,
        "interval_start": 0,
        "interval_step": 0.2,
        "interval_max": 0.5,
        "socket_keepalive": True,
        "health_check_interval": 25,
        "client_name": "datasense-celery",
    },
    "task_serializer": "json",
    "accept_content": ["json"],
}


class WarmRunLauncher(CeleryRunLauncher):
    """Gives each run to the workers of its lane.

    A run is healthy while its worker holds its lease. One that is asked to stop is not tried again, however it ends.
    """

    def __init__(self, inst_data: Any = None) -> None:
        options = dict(_CELERY)
        url = redis_url(get_settings())
        if url.startswith("unix"):
            transport = {k: v for k, v in options["broker_transport_options"].items() if k != "socket_keepalive"}
            options["broker_transport_options"] = transport
        super().__init__(
            default_queue=queue_of(t.Lane.INTERACTIVE),
            broker=broker_url(url),
            backend="disabled://",
            config_source=options,
            inst_data=inst_data,
        )

    @classmethod
    def config_type(cls) -> Mapping[str, Any]:
        """No field: everything comes from the environment."""
        return {}

    @classmethod
    def from_config_value(cls, inst_data: Any, config_value: Any) -> WarmRunLauncher:
        """Connect to the Redis of DATASENSE_REDIS_URL."""
        del config_value
        return cls(inst_data=inst_data)

    def launch_run(self, context: Any) -> None:
        """Send the run to the queue of its lane."""
        run = context.dagster_run
        queue = queue_of(run.tags.get(t.LANE, t.Lane.INTERACTIVE))
        note_sent(shared_redis(), run.run_id)
        super().launch_run(context._replace(dagster_run=run.with_tags({**run.tags, DAGSTER_CELERY_QUEUE_TAG: queue})))

    @property
    def supports_resume_run(self) -> bool:
        """No: a run whose worker died is run again from its failure, as another run."""
        return False

    def slots_by_lane(self) -> Mapping[str, int]:
        """How many runs of each lane the workers take at once; none of any while Redis does not answer."""
        try:
            return slots_by_lane(shared_redis())
        except redis.RedisError as error:
            _log.warning("Redis does not answer, runs wait in Dagster's queue: %s", type(error).__name__)
            return {}

    def terminate(self, run_id: str) -> bool:
        """Stop a run at any moment: one that waits is canceled at once, one that goes on is interrupted by its worker.

        Where Redis does not answer, the worker learns it from the run's status.
        """
        run = self._instance.get_run_by_id(run_id)
        if run is None or run.is_finished:
            return False
        self._instance.add_run_tags(run_id, {_MAX_RETRIES_TAG: "0"})
        if run.status is not dg.DagsterRunStatus.CANCELING:
            self._instance.report_run_canceling(run)
        try:
            client = shared_redis()
            executed = ask_to_cancel(client, run_id)
            if not executed and not (run.status is not dg.DagsterRunStatus.STARTING and is_settling(client)):
                self._instance.report_run_canceled(run, "No worker executed the run.")
        except redis.RedisError as error:
            _log.warning("Redis does not answer, the worker of %s looks for itself: %s", run_id, type(error).__name__)
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Running while the lease is held, and while nobody can know."""
        try:
            client = shared_redis()
            if is_held(client, run.run_id):
                return CheckRunHealthResult(WorkerStatus.RUNNING)
            if is_settling(client):
                return CheckRunHealthResult(WorkerStatus.RUNNING, "Redis has just started.")
            # between the two questions the worker may have begun
            if is_held(client, run.run_id):
                return CheckRunHealthResult(WorkerStatus.RUNNING)
        except redis.RedisError as error:
            return CheckRunHealthResult(WorkerStatus.RUNNING, f"Redis does not answer: {type(error).__name__}.")
        _let_go_of_sources(run.run_id)
        # else as many dead runs as a pool has places would keep all runs of their connector in the queue
        self._instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
        return CheckRunHealthResult(WorkerStatus.FAILED, "The worker that executed the run is gone.")

    def is_lost(self, run_id: str) -> bool:
        """Whether a run that was launched, and has not begun, is in no worker's hands nor on its way to one.

        Dagster asks a launcher only after the health of runs that have begun. False while nobody can know.
        """
        try:
            client = shared_redis()
            return is_lost(client, run_id) and not is_settling(client)
        except redis.RedisError:
            return False

    def get_run_worker_debug_info(self, run: dg.DagsterRun, include_container_logs: bool | None = True) -> str | None:
        """Which lane the run was sent to, and how many workers' slots that has."""
        del include_container_logs
        lane = run.tags.get(t.LANE, t.Lane.INTERACTIVE)
        return f"Lane {lane}: {self.slots_by_lane().get(lane, 0)} slots of workers that answer now."


def _let_go_of_sources(run_id: str) -> None:
    """What the dead run was loading is free at once, and not when its hold runs out: it is tried again in seconds."""
    from psycopg import Error

    from datasense_assets.warehouse.database import connect, database_url
    from datasense_assets.warehouse.errors import WarehouseError
    from datasense_assets.warehouse.leases import release_of_dead

    try:
        with connect(database_url(get_settings())) as connection:
            release_of_dead(connection, run_id)
    except (Error, WarehouseError) as error:
        _log.warning("what run %s held is free in a minute: %s", run_id, type(error).__name__)
