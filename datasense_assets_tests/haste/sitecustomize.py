"""Shorter pauses between two looks of a daemon, for processes that have this folder on their path.

Dagster looks at its sensors every five seconds and at backfills every thirty, and takes no setting for that; what of
our own looks has none is here too. Each look is the real one, and the pause between two of them proves nothing.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
from types import ModuleType
from typing import Any

# by module what says how many seconds lie between two looks, and how many shall
PAUSES: dict[str, dict[str, float]] = {
    "dagster._daemon.sensor": {"MIN_INTERVAL_LOOP_TIME": 1},
    "dagster._daemon.controller": {"DEFAULT_DAEMON_INTERVAL_SECONDS": 1},
    # of the queue: its setting is a whole number, and each run waits for a look
    "dagster._core.run_coordinator.queued_run_coordinator": {"QueuedRunCoordinator.dequeue_interval_seconds": 0.5},
    "datasense_assets.automation.lost": {"INTERVAL_SECONDS": 3},
    "datasense_assets.running.workspace": {"LOOK_SECONDS": 0.5},
}


class _Hasty(importlib.abc.MetaPathFinder):
    """Finds these modules as everybody else does, and sets their constants once they are loaded."""

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        if fullname not in PAUSES:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            load = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                load(module)
                for place, seconds in PAUSES[fullname].items():
                    holder, _, name = place.rpartition(".")
                    owner = getattr(module, holder) if holder else module
                    # one that is called otherwise would leave the tests slow, and nobody would know why
                    if not hasattr(owner, name):
                        raise AttributeError(f"{fullname} has no {place}")
                    setattr(owner, name, seconds)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


sys.meta_path.insert(0, _Hasty())
