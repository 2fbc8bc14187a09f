"""Which part of the graph this process needs: a run worker builds the assets of its run and nothing else.

With 5,000 sources the whole graph costs a run 24-40 CPU seconds, its own part 3 (docs/decisions/run-scope.md).
The scope is found from, in order: what `scoped_to` was given, the run named in the arguments of
`dagster api execute_run`, the run that Dagster is loading this location for in this process; else there is none.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import FrameType
from typing import Any, TypeVar

import dagster as dg

from datasense_assets.catalog.snapshot import SnapshotScope
from datasense_assets.running import metering
from datasense_assets.running.tags import PLATFORM, Selected, selected
from datasense_assets.settings import get_settings

_explicit: ContextVar[SnapshotScope | None] = ContextVar("datasense_scope", default=None)
_built: ContextVar[dict[Callable[[], Any], Any] | None] = ContextVar("datasense_built", default=None)
# Dagster's name for the job that holds every asset of a location.
_ALL_ASSETS = "__ASSET_JOB"
T = TypeVar("T")
_RUN_ID = re.compile(r'"run_id":\s*"([0-9a-f-]{36})"')


@contextmanager
def scoped_to(scope: SnapshotScope | None) -> Iterator[None]:
    """Build only `scope` while the context lasts: for tests, the CLI and warm workers."""
    metering.begin()
    token, built = _explicit.set(scope), _built.set({})
    try:
        yield
    finally:
        _built.reset(built)
        _explicit.reset(token)


def once_in_scope(build: Callable[[], T]) -> T:
    """What `build` gives, made once as long as an explicit scope lasts.

    Dagster loads a run's location twice: for its job, and for the part of it that the run selects.
    """
    built = _built.get()
    if built is None:
        return build()
    if build not in built:
        built[build] = build()
    found: T = built[build]
    return found


def current_scope() -> SnapshotScope | None:
    """The scope of this process's run, or None where the whole graph is wanted."""
    explicit = _explicit.get()
    if explicit is not None:
        return explicit
    run = _run_of_arguments() or _run_being_loaded(sys._getframe())
    if run is None:
        return None
    metering.begin_with_process()
    if get_settings().log_lines is not None:
        from datasense_assets.running.logs import process_is_about

        process_is_about(run)
    return scope_of_run(run)


def touched_paths(run: dg.DagsterRun) -> set[tuple[str, ...]]:
    """Key paths of the assets that a run selects, by themselves or by a check of theirs alone."""
    keys = set(run.asset_selection or ()) | {check.asset_key for check in run.asset_check_selection or ()}
    return {tuple(key.path) for key in keys}


def scope_of(what: Selected) -> SnapshotScope | None:
    """The scope that holds a selection; None for an empty one."""
    if not what.sources and not what.recipes:
        return None
    return SnapshotScope(sources=what.sources, recipes=what.recipes)


def scope_of_run(run: dg.DagsterRun) -> SnapshotScope | None:
    """What a warm worker builds for a run; None: everything, for a run of all assets.

    A scope of nothing is the platform's own part: its jobs, and the checks of the catalog itself.
    """
    if run.job_name == _ALL_ASSETS and run.asset_selection is None and run.asset_check_selection is None:
        return None
    what = selected(path for path in touched_paths(run) if path[:1] != (PLATFORM,))
    return SnapshotScope(sources=what.sources, recipes=what.recipes)


def _run_of_arguments() -> dg.DagsterRun | None:
    """The run of `dagster api execute_run <json>`, as a run pod is started."""
    if "execute_run" not in sys.argv:
        return None
    match = next((m for m in map(_RUN_ID.search, sys.argv) if m), None)
    if match is None:
        return None
    with dg.DagsterInstance.get() as instance:
        return instance.get_run_by_id(match[1])


def _run_being_loaded(frame: FrameType | None) -> dg.DagsterRun | None:
    """The run in whose name Dagster is loading definitions right now.

    The default launcher spawns a worker that has the run only as a local of the function that loads the job;
    no argument, variable or public call tells it. Where that changes, the worker builds the whole graph: slower, and
    as right; a test counts the assets that a worker builds.
    """
    while frame is not None:
        if frame.f_code.co_name == "core_execute_run":
            run = frame.f_locals.get("dagster_run")
            return run if isinstance(run, dg.DagsterRun) else None
        frame = frame.f_back
    return None
