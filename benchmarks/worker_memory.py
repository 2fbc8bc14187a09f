"""The memory of one warm process over hundreds of syncs, none of which replaces it: 100 new rows over HTTP each time.

    python benchmarks/worker_memory.py [--runs 500] [--json FILE]

A worker in service replaces a process after 200 runs, or once it is larger than 600 MB; this one does neither.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from pathlib import Path

import psutil
from noop_run import SOURCES, syncs
from whole_platform import BIN, ROOT, platform, pss_mb, require_redis, wait_until


def measure(runs: int) -> list[tuple[int, float, float]]:
    """Runs until then, and megabytes of the process that executes them: its own (USS), and its part of all (PSS)."""
    with tempfile.TemporaryDirectory(prefix="ds-redis-") as folder:
        place = f"{folder}/redis.sock"
        redis = subprocess.Popen(
            ["redis-server", "--port", "0", "--unixsocket", place, "--save", "", "--maxmemory-policy", "noeviction"],
            stdout=subprocess.DEVNULL,
        )
        worker: subprocess.Popen[bytes] | None = None
        try:
            wait_until("Redis is there", lambda: Path(place).is_socket(), seconds=20)
            with platform(DATASENSE_DUE_INTERVAL_SECONDS="1", DATASENSE_REDIS_URL=f"unix://{place}") as running:
                running.fill(10, "0")
                running.serve(lanes={"interactive": 1})
                environment = {**running.environment, "DAGSTER_HOME": str(running.home / "dagster")}
                words = ["worker", "--lane", "scheduled=1", "--recycle-after", "100000", "--max-memory-mb", "4000"]
                log = (running.home / "worker.log").open("w")
                worker = subprocess.Popen(
                    [str(BIN / "datasense"), *words], cwd=ROOT, env=environment, stdout=log, stderr=log
                )
                samples = []
                done = 0
                while done < runs:
                    done += syncs(running, 5)
                    (child,) = psutil.Process(worker.pid).children()
                    samples.append((done, child.memory_full_info().uss / 1e6, pss_mb(child)))
                    print(f"{done} runs: {samples[-1][1]:.1f} MB its own, {samples[-1][2]:.1f} MB", flush=True)
                worker.terminate()
                worker.wait(60)
                return samples
        finally:
            if worker is not None and worker.poll() is None:
                worker.kill()
            redis.terminate()
            redis.wait(20)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    require_redis()
    samples = measure(options.runs)
    settled = [each for each in samples if each[0] >= options.runs * 0.2]
    grown = (settled[-1][1] - settled[0][1]) / max(settled[-1][0] - settled[0][0], 1)
    print(f"one process, {len(SOURCES)} sources in turn: {grown * 1000:.0f} kB more a run after the first fifth")
    if options.json:
        options.json.write_text(json.dumps(samples), encoding="utf-8")


if __name__ == "__main__":
    main()
