"""What a child of a warm worker does with a run: its scope, its lease, and nothing of it left behind."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import dagster as dg
from celery import Task

# What a worker's process does with a run has no public name; dagster-celery calls the same.
from dagster._cli.api import _execute_run_command_body

from datasense_assets.running.instance import ensure_dagster_home
from datasense_assets.running.logs import about_run
from datasense_assets.running.scope import scope_of_run, scoped_to
from datasense_assets.running.warm.broker import shared_redis
from datasense_assets.running.warm.cleaning import as_before
from datasense_assets.running.warm.lease import HeldElsewhere, RunLease

_log = logging.getLogger("datasense.worker")

Body = Callable[[dg.DagsterInstance, str], Any]
"""Executes the run of that id, and gives back what the task gives back."""


class RunIsGone(RuntimeError):
    """The run that a message names is not in this platform's storage."""


class RunTask(Task):  # type: ignore[misc]
    """The base of dagster-celery's task. What goes wrong here fails the run; a signal's handler would only log it."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Execute one run in this process."""
        del args
        with as_before():
            return execute(run_named_in(kwargs), run_whole, holder=str(self.request.hostname))


@lru_cache(maxsize=1)
def instance_of_process(home: Path) -> dg.DagsterInstance:
    """The instance that all runs of this process use: reading its file and opening it costs 20 ms, a tenth of a run."""
    return dg.DagsterInstance.from_config(str(home))


def run_whole(instance: dg.DagsterInstance, run_id: str) -> int:
    """Execute a run as dagster-celery's task does it, which opens an instance of its own; not 0: it failed."""
    return _execute_run_command_body(
        run_id=run_id, instance=instance, write_stream_fn=lambda _event: None, set_exit_code_on_failure=True
    )


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


def execute(run_id: str, body: Body, *, holder: str) -> Any:
    """Execute a run under its lease and scope; one that is over or was canceled is left as it is.

    Raises:
        RunIsGone: there is no such run.
    """
    instance = instance_of_process(ensure_dagster_home())
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


def _execute(instance: dg.DagsterInstance, run_id: str, body: Body, holder: str) -> Any:
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
                result = body(instance, run_id)
    if lease.cancelled or run.status is dg.DagsterRunStatus.CANCELING:
        _canceled(instance, run_id, "It was canceled before it began.")
    return result


def _canceled(instance: dg.DagsterInstance, run_id: str, why: str) -> None:
    run = instance.get_run_by_id(run_id)
    if run is not None and not run.is_finished:
        instance.report_run_canceled(run, why)
