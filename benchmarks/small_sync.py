"""What a small sync costs end to end, all processes together: 100 rows of 20 columns over HTTP, one sync after another.

    python benchmarks/small_sync.py [--rounds 4] [--sources 50] [--json FILE]

Ours: due sensor, queue, a warm worker, history, checks, lineage; beside it Celery + RedBeat + dlt
(benchmarks/baselines/celery_redbeat.py), on the same database server, in the same run; `pip install celery-redbeat`.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
from noop_run import SOURCES, syncs
from whole_platform import BIN, ROOT, Running, cpu, platform, require_redis, wait_until

from datasense_assets.running.topology import free_port


def ours(running: Running, rounds: int) -> dict[str, Any]:
    """CPU seconds a sync, by part, and what the platform takes beside them when nothing happens."""
    syncs(running, 2)
    running.settle()
    before, started = running.cpu(), time.monotonic()
    count = syncs(running, rounds)
    after, took = running.cpu(), time.monotonic() - started
    idle_before, began = running.cpu(), time.monotonic()
    time.sleep(15)
    idle_after = running.cpu()
    idle = sum(idle_after.values()) - sum(idle_before.values())
    parts = {name: (after[name] - before[name]) / count for name in after}
    return {
        "syncs": count,
        "cpu_s": sum(parts.values()),
        "parts": parts,
        "seconds_a_sync": took / count,
        "idle_cpu_s_per_s": idle / (time.monotonic() - began),
    }


def celery(running: Running, rounds: int) -> dict[str, Any]:
    """The same of Celery, RedBeat and dlt."""
    folder = running.home / "baseline"
    folder.mkdir()
    port = free_port()
    redis = subprocess.Popen(
        ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", ""],
        stdout=subprocess.DEVNULL,
    )
    environment = {
        **os.environ,
        "BENCH_REDIS_URL": f"redis://127.0.0.1:{port}/0",
        "BENCH_DATABASE_URL": running.url,
        "BENCH_API": running.api,
        "BENCH_FOLDER": str(folder),
        "RUNTIME__DLTHUB_TELEMETRY": "false",
        "PYTHONPATH": f"{ROOT}:{ROOT / 'benchmarks'}",
    }
    script = "import sys; from baselines.celery_redbeat import prepare; prepare(sys.argv[1])"
    words = [str(BIN / "celery"), "-A", "baselines.celery_redbeat"]
    processes = {"redis": redis}
    try:
        subprocess.run([sys.executable, "-c", script, running.url], env=environment, check=True)
        for name, more in (
            ("workers", ["worker", "-Q", "sync", "-c", "1", "--without-gossip", "--without-mingle", "-l", "WARNING"]),
            ("beat", ["beat", "-S", "redbeat.RedBeatScheduler", "-l", "WARNING"]),
        ):
            log = (folder / f"{name}.log").open("w")
            processes[name] = subprocess.Popen(words + more, env=environment, stdout=log, stderr=log, cwd=folder)
        _rounds(running, environment, 2)
        before = _parts(running, processes)
        started = time.monotonic()
        count = _rounds(running, environment, rounds)
        after, took = _parts(running, processes), time.monotonic() - started
    finally:
        for process in reversed(processes.values()):
            process.terminate()
            process.wait(30)
    parts = {name: (after[name] - before[name]) / count for name in after}
    return {"syncs": count, "cpu_s": sum(parts.values()), "parts": parts, "seconds_a_sync": took / count}


def _parts(running: Running, processes: Mapping[str, subprocess.Popen[bytes]]) -> dict[str, float]:
    found = {name: cpu(psutil.Process(process.pid)) for name, process in processes.items()}
    return {**found, "postgres": cpu(running.postmaster())}


def _rounds(running: Running, environment: Mapping[str, str], rounds: int) -> int:
    """Send each source's task, wait until all are done; the sender is not counted, as beat would send them."""
    script = "from baselines.celery_redbeat import sync\nfor n in range(5): sync.delay(n)"
    for _ in range(rounds):
        before = _done(running)
        subprocess.run([sys.executable, "-c", script], env=environment, check=True)
        wait_until("all are synced", lambda before=before: _done(running) >= before + len(SOURCES))
    return rounds * len(SOURCES)


def _done(running: Running) -> int:
    return int(running.sql("SELECT coalesce(sum(done), 0) FROM sync_status WHERE state <> 'failed'")[0][0])


def show(name: str, each: Mapping[str, Any]) -> None:
    """One line."""
    parts = ", ".join(f"{part} {value:.3f}" for part, value in sorted(each["parts"].items()))
    print(f"{name}: {each['cpu_s']:.2f} CPU s a sync ({parts}); {each['seconds_a_sync']:.1f} s each", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--sources", type=int, default=50)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    require_redis()
    if importlib.util.find_spec("redbeat") is None:
        raise SystemExit("the baseline needs celery-redbeat: pip install celery-redbeat")
    with platform(DATASENSE_DUE_INTERVAL_SECONDS="1") as running:
        running.fill(options.sources, "0")
        running.serve(lanes={"scheduled": 1})
        results = {"ours": ours(running, options.rounds)}
        show("ours", results["ours"])
        running.stop()
        results["celery + redbeat + dlt"] = celery(running, options.rounds)
        show("celery + redbeat + dlt", results["celery + redbeat + dlt"])
    print(f"ours at rest: {results['ours']['idle_cpu_s_per_s'] * 100:.1f} % of a core")
    print(f"ratio: {results['ours']['cpu_s'] / results['celery + redbeat + dlt']['cpu_s']:.2f}")
    if options.json:
        options.json.write_text(json.dumps(results, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
