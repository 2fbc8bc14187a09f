"""What a child of a warm worker does with a run: its scope, its lease, and nothing of it left behind."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import dagster as dg
from celery import Task

from datasense_assets.running.logs import about_run
from datasense_assets.running.scope import scope_of_run, scoped_to
from datasense_assets.running.warm.broker import shared_redis
from datasense_assets.running.warm.cleaning import as_before
from datasense_assets.running.warm.lease import HeldElsewhere, RunLease

_log = logging.getLogger("datasense.worker")


class RunIsGone(RuntimeError):
    """The run that a message names is not in this platform's storage."""


class RunTask(Task):  # type: ignore[misc]
    """The base of dagster-celery's task. What goes wrong here fails the run; a signal's handler would only log it."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Execute one run in this process."""
        with as_before():
            body = partial(self.run, *args, **kwargs)
            return execute(run_named_in(kwargs), body, holder=str(self.request.hostname))


def run_named_in(message: Mapping[str, Any]) -> str:
    """The run of a message as dagster-celery sends it; Dagster packs it under an older name.

    Raises:
        RunIsGone: the message names none.
    """
    packed = message.get("execute_job_args_packed", {})
    run_id = packed.get("pipeline_run_id") or packed.get("run_id")
    if not run_id:
        raise RunIsGone("The message names no run: the worker and who sent it have different versions of Dagster.")
    return str(run_id)


def execute(run_id: str, body: Callable[[], Any], *, holder: str) -> Any:
    """Execute a run under its lease and scope; one that is over or was canceled is left as it is.

    Raises:
        RunIsGone: there is no such run.
    """
    with dg.DagsterInstance.get() as instance:
        try:
            return _execute(instance, run_id, body, holder)
        except HeldElsewhere as why:
            _log.warning("%s", why)
            return None
        except Exception as error:
            run = instance.get_run_by_id(run_id)
            if run is not None and not run.is_finished:
                instance.report_run_failed(run, f"The worker could not execute the run: {type(error).__name__}.")
            raise


def _execute(instance: dg.DagsterInstance, run_id: str, body: Callable[[], Any], holder: str) -> Any:
    def still_wanted() -> bool:
        now = instance.get_run_by_id(run_id)
        return now is not None and not now.is_finished and now.status is not dg.DagsterRunStatus.CANCELING

    def give_up() -> None:
        _canceled(instance, run_id, "It did not stop when it was asked to, so its process was killed.")

    lease = RunLease(
        shared_redis(), run_id, holder=f"{holder} {os.getpid()}", still_wanted=still_wanted, give_up=give_up
    )
    result: Any = None
    with lease.held():
        # read after the lease is taken: whoever cancels looks in the other order
        run = instance.get_run_by_id(run_id)
        if run is None:
            raise RunIsGone(f"Run {run_id} is not in this platform's storage; do two platforms share one Redis?")
        if run.is_finished:
            _log.info("run %s is over (%s), nothing to do", run_id, run.status.value)
            return result
        if not lease.cancelled and run.status is not dg.DagsterRunStatus.CANCELING:
            with scoped_to(scope_of_run(run)), about_run(run):
                result = body()
    if lease.cancelled or run.status is dg.DagsterRunStatus.CANCELING:
        _canceled(instance, run_id, "It was canceled before it began.")
    return result


def _canceled(instance: dg.DagsterInstance, run_id: str, why: str) -> None:
    run = instance.get_run_by_id(run_id)
    if run is not None and not run.is_finished:
        instance.report_run_canceled(run, why)
