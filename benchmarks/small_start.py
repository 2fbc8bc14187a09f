"""The memory of a small start: everything on one machine with an embedded PostgreSQL, 50 sources, one sync at a time.

    python benchmarks/small_start.py [--sources 50] [--rows 1000000] [--warm] [--json FILE]

`datasense up --cold` starts a process for each run, as a beginner has it; `--warm` uses warm workers and Redis. Memory
is PSS: what processes share is divided among them. Last comes one source of a million rows, and the peak of what
executes its run.
"""

from __future__ import annotations

import argparse
import json
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
from noop_run import syncs_of
from whole_platform import Running, platform, pss_mb, require_redis


class Watch:
    """Samples memory in a thread: the largest sum of all parts, and the largest of one executing process."""

    def __init__(self, running: Running) -> None:
        self._running, self._over = running, threading.Event()
        self.largest: dict[str, float] = {}
        self.run_worker = 0.0
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._over.wait(0.5):
            with suppress(psutil.Error, OSError):
                now = self._running.memory()
                if sum(now.values()) > sum(self.largest.values()):
                    self.largest = now
                self.run_worker = max([self.run_worker, *map(pss_mb, self._executing())])

    def _executing(self) -> list[psutil.Process]:
        """Run workers: spawned by the code server, or the children of a warm worker."""
        parts = self._running.parts()
        spawned = [
            child
            for server in parts.get("code server", [])
            for child in server.children(recursive=True)
            if "spawn_main" in " ".join(child.cmdline())
        ]
        return spawned + [child for worker in parts.get("workers", []) for child in worker.children()]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sources", type=int, default=50)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--warm", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.warm:
        require_redis()
    with platform() as running:
        running.fill(options.sources, "0")
        running.datasense("limits", "set", "total", "1")
        lanes = {"scheduled": 1} if options.warm else {}
        running.serve(lanes=lanes, words=() if options.warm else ("--cold",))
        time.sleep(10)
        rest = running.memory()
        names = [f"o0/s{number}" for number in range(options.sources)]
        with Watch(running) as small:
            syncs_of(running, names, seconds=1200)
        running.sql(
            "UPDATE datasense.sources SET config = json_build_object('url', %s::text) WHERE slug = 's0'",
            f"{running.api}/rows/{options.rows}.csv",
        )
        with Watch(running) as large:
            syncs_of(running, ["o0/s0"], seconds=1200)
    result: dict[str, Any] = {
        "sources": options.sources,
        "warm": options.warm,
        "at_rest_mb": rest,
        "while_syncing_mb": small.largest,
        "run_worker_mb": {"100 rows": small.run_worker, f"{options.rows} rows": large.run_worker},
    }
    for name, parts in (("at rest", rest), ("while it syncs", small.largest)):
        said = ", ".join(f"{part} {size:.0f}" for part, size in sorted(parts.items()))
        print(f"{name}: {sum(parts.values()):.0f} MB ({said})")
    for name, size in result["run_worker_mb"].items():
        print(f"the process of a run, {name}: {size:.0f} MB at most")
    if options.json:
        options.json.write_text(json.dumps(result, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
