"""A warm worker: Celery set up for runs that last seconds to hours, in processes that imported everything once."""

from __future__ import annotations

import logging
import socket
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from datasense_assets.running.warm.broker import RENEW_SECONDS, announce_slots, queue_of, shared_redis, withdraw_slots

if TYPE_CHECKING:
    from celery import Celery

_log = logging.getLogger("datasense.worker")


@dataclass(frozen=True)
class WorkerPlan:
    """How a worker is set up.

    `slots`: runs at once, by lane; `recycle_after` runs a child is replaced, or once it is larger than `max_memory_mb`;
    a child that is busy with one run for `hard_limit_hours` is killed.
    """

    slots: Mapping[str, int]
    name: str
    recycle_after: int = 200
    max_memory_mb: int = 600
    hard_limit_hours: float = 6.0

    @property
    def processes(self) -> int:
        """Children: one a slot."""
        return sum(self.slots.values())


def default_name(lanes: Mapping[str, int]) -> str:
    """A name that no other worker has: two of one name would answer for each other."""
    return f"{'-'.join(lanes)}-{uuid.uuid4().hex[:8]}"


def serve(plan: WorkerPlan, *, log_level: str = "INFO") -> int:
    """Take runs until told to stop: SIGTERM lets those that go on end, SIGQUIT does not. Returns the exit code.

    Raises:
        WrongLauncher: the Dagster instance gives its runs to something else.
    """
    from dagster_celery.tasks import create_execute_job_task

    from datasense_assets.running.warm.preloading import preload
    from datasense_assets.running.warm.task import RunTask

    app = _app()
    options: dict[str, Any] = {"base": RunTask}
    create_execute_job_task(app, **options)
    app.steps["consumer"].add(_announcing(dict(plan.slots)))
    preload()
    _keep_log_lines()
    worker = app.Worker(
        hostname=_full_name(plan.name),
        queues=[queue_of(lane) for lane in plan.slots],
        concurrency=plan.processes,
        pool="prefork",
        optimization="fair",
        prefetch_multiplier=1,
        max_tasks_per_child=plan.recycle_after,
        max_memory_per_child=plan.max_memory_mb * 1024,
        time_limit=plan.hard_limit_hours * 3600,
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        loglevel=log_level,
        quiet=True,
    )
    worker.start()
    return int(worker.exitcode or 0)


def _keep_log_lines() -> None:
    """Where log lines have a form of ours, Celery writes its own in it too, and sets up nothing itself."""
    from datasense_assets.settings import get_settings

    if get_settings().log_lines is None:
        return
    from celery.signals import setup_logging

    from datasense_assets.running.logs import set_up_logging

    def ours(**_more: Any) -> None:
        root = logging.getLogger()
        if not root.handlers:
            root.addHandler(logging.StreamHandler())
            root.setLevel(logging.INFO)
        set_up_logging()

    setup_logging.connect(ours, weak=False)


class WrongLauncher(Exception):
    """Runs of this Dagster instance go elsewhere, so that a worker would wait for ever."""

    def __init__(self, name: str) -> None:
        """`name`: of the class that gets the runs."""
        self.message = f"This Dagster instance gives its runs to {name}, not to warm workers."
        self.advice = "Name datasense_assets.running.launcher.HomeRunLauncher under `run_launcher:` of dagster.yaml."
        super().__init__(f"{self.message} {self.advice}")


def _app() -> Celery:
    import dagster as dg

    from datasense_assets.running.warm.launcher import WarmRunLauncher

    with dg.DagsterInstance.get() as instance:
        launcher = instance.run_launcher
        if not isinstance(launcher, WarmRunLauncher):
            raise WrongLauncher(type(launcher).__name__)
        return launcher.celery


def _full_name(name: str) -> str:
    """Celery's form of a worker's name, `what@host`."""
    return (name if "@" in name else f"{name}@%h").replace("%h", socket.gethostname())


def _announcing(slots: dict[str, int]) -> Any:
    """A step of Celery's consumer: while it consumes, and no longer, the worker's slots count."""
    from celery import bootsteps

    class AnnounceSlots(bootsteps.StartStopStep):  # type: ignore[misc]
        """Tells Redis every few seconds; stops with the consumer, so that no run is sent to who is going."""

        requires = ("celery.worker.consumer.tasks:Tasks",)

        def __init__(self, consumer: Any, **_more: Any) -> None:
            self._timer: Any = None
            super().__init__(consumer)

        def start(self, consumer: Any) -> None:
            """Begin, also after the connection was lost."""
            self.stop(consumer)
            self._tell(consumer.hostname)
            self._timer = consumer.timer.call_repeatedly(RENEW_SECONDS, self._tell, (consumer.hostname,))

        def stop(self, consumer: Any) -> None:
            """End: with the worker, or with the connection."""
            if self._timer is None:
                return
            self._timer.cancel()
            self._timer = None
            try:
                withdraw_slots(shared_redis(), consumer.hostname, slots)
            except Exception as error:  # noqa: BLE001 - it goes by itself in ten seconds
                _log.debug("slots were not withdrawn: %s", type(error).__name__)

        shutdown = stop

        def _tell(self, name: str) -> None:
            try:
                announce_slots(shared_redis(), name, slots)
            except Exception as error:  # noqa: BLE001 - the consumer sees it too, and starts this step again
                _log.warning("slots were not announced: %s", type(error).__name__)

    return AnnounceSlots
