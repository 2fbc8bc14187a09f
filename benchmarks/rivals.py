"""The same 100 sources synced each minute by this platform and by others: what a sync costs, and how late it starts.

    python benchmarks/rivals.py [--minutes 2] [--sources 100] [--at-once 4] [--python VENV/bin/python] [--only NAME ...]

All are due at the start of each minute, 100 rows of 20 columns over HTTP from an API that answers at once, in as many
places as `--at-once`. Celery needs `pip install celery-redbeat` here; the others need packages that must not stand
beside this platform's: make a virtual environment with
`pip install 'dlt[postgres]' 'psycopg[binary]' httpx apscheduler arq prefect` and name its Python. CPU seconds are those
of all processes, PostgreSQL and Redis too; the API's stand-in is not counted.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from sustained import percentile, scheduled_runs
from whole_platform import ROOT, Running, cpu, platform, require_redis, wait_until

from datasense_assets.running.topology import free_port

OTHERS: dict[str, list[list[str]]] = {
    "Celery + RedBeat": [
        ["-m", "celery", "-A", "baselines.celery_redbeat", "worker", "-Q", "sync", "-c", "AT_ONCE", "-l", "WARNING"],
        ["-m", "celery", "-A", "baselines.celery_redbeat", "beat", "-S", "redbeat.RedBeatScheduler", "-l", "WARNING"],
    ],
    "APScheduler, one process": [["-m", "baselines.apscheduler_process"]],
    "ARQ": [["-m", "arq", "baselines.arq_worker.Worker"]],
    "Prefect": [["-m", "prefect", "server", "start", "--port", "PORT"], ["-m", "baselines.prefect_flows"]],
}
OURS = "this platform"


def window(minutes: float, used: Callable[[], Mapping[str, float]]) -> tuple[float, float, dict[str, float]]:
    """From the second next full minute on for so many: start and end (epoch), and CPU seconds by part."""
    start = (time.time() // 60 + 2) * 60
    wait_until("the first whole minute", lambda: time.time() >= start - 1, seconds=200)
    before = used()
    end = start + minutes * 60
    wait_until("the last minute", lambda: time.time() >= end - 1, seconds=minutes * 60 + 60)
    after = used()
    return start, end, {name: after[name] - before[name] for name in after}


def ours(sources: int, at_once: int, minutes: float) -> dict[str, Any]:
    """This platform, in its usual setting."""
    with platform(DATASENSE_FRESHNESS_POLICIES="0") as running:
        running.fill(sources, "0", per_org=10)
        port = running.api.rpartition(":")[2]
        # a server of its own for each, as no server gets more than a few calls at once
        running.sql(
            "UPDATE datasense.sources SET schedule = '{\"cron\": \"* * * * *\"}', config = json_build_object('url', "
            "'http://127.0.0.' || (1 + id %% 200) || ':' || %s || '/0/x' || id || '.csv')",
            port,
        )
        running.sql("UPDATE datasense.source_status SET replan = true")
        for scope in (("lane", "scheduled"), ("connector", "csv"), ("total",)):
            running.datasense("limits", "set", *scope, str(at_once))
        running.serve(lanes={"scheduled": at_once})
        start, end, parts = window(minutes, running.cpu)
        runs = [each for each in scheduled_runs(running) if start <= each["slot"] < end]
        done = sum(1 for each in scheduled_runs(running) if each["end"] and start <= each["end"] < end)
        late = [(each["start"] or time.time()) - each["slot"] for each in runs]
        wrong = sum(1 for each in runs if each["status"] in ("FAILURE", "CANCELED"))
        return result(sources, minutes, done, late, wrong, parts)


def another(name: str, python: str, sources: int, at_once: int, minutes: float) -> dict[str, Any]:
    """One of the others, on a PostgreSQL and a Redis of its own."""
    with platform() as running, processes_of(name, python, running, sources, at_once) as processes:

        def used() -> dict[str, float]:
            return {**{k: cpu(each) for k, each in processes.items()}, "postgres": cpu(running.postmaster())}

        start, end, parts = window(minutes, used)
        rows = running.sql(
            "SELECT extract(epoch FROM at) FROM sync_starts WHERE at >= to_timestamp(%s) AND at < to_timestamp(%s)",
            start,
            end,
        )
        # each start is of the minute it lies in; a minute's source that has not begun is late by all of the rest
        late = [float(at) % 60 for (at,) in rows]
        late += [60.0] * max(0, round(sources * minutes) - len(late))
        wrong = running.sql("SELECT count(*) FROM sync_status WHERE state = 'failed'")[0][0]
        return result(sources, minutes, len(rows), late, wrong, parts)


def result(
    sources: int, minutes: float, done: int, late: list[float], wrong: int, parts: Mapping[str, float]
) -> dict[str, Any]:
    """One line of the table."""
    return {
        "asked": round(sources * minutes),
        "done": done,
        "failed": wrong,
        "late_s": {"p50": percentile(late, 0.5), "p95": percentile(late, 0.95)},
        "cpu_s_per_sync": sum(parts.values()) / max(done, 1),
        "parts": {name: value / max(done, 1) for name, value in parts.items()},
    }


@contextmanager
def processes_of(
    name: str, python: str, running: Running, sources: int, at_once: int
) -> Iterator[dict[str, psutil.Process]]:
    """Start the processes of a contender, and stop them."""
    folder = running.home / "baseline"
    folder.mkdir()
    redis_port, http_port = free_port(), free_port()
    environment = {
        **os.environ,
        "BENCH_REDIS_URL": f"redis://127.0.0.1:{redis_port}/0",
        "BENCH_DATABASE_URL": running.url,
        "BENCH_API": running.api,
        "BENCH_FOLDER": str(folder),
        "BENCH_SOURCES": str(sources),
        "BENCH_AT_ONCE": str(at_once),
        "BENCH_EACH_MINUTE": "1",
        "RUNTIME__DLTHUB_TELEMETRY": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_HOME": str(folder / "prefect"),
        "PREFECT_API_URL": f"http://127.0.0.1:{http_port}/api",
        "PYTHONPATH": str(ROOT / "benchmarks"),
    }
    script = "import sys; from baselines.plain_sync import prepare; prepare(sys.argv[1])"
    subprocess.run([python, "-c", script, running.url], env=environment, check=True, cwd=folder)
    commands = {"redis": ["redis-server", "--port", str(redis_port), "--bind", "127.0.0.1", "--save", ""]}
    for number, words in enumerate(OTHERS[name]):
        said = {"AT_ONCE": str(at_once), "PORT": str(http_port)}
        commands[f"{name} {number + 1}"] = [python, *(said.get(word, word) for word in words)]
    started: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for each, command in commands.items():
            log = (folder / f"{each}.log").open("w")
            started[each] = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=folder)
            if "server" in command and "prefect" in command:
                wait_until("Prefect's server answers", lambda: _listens(http_port), seconds=120)
        time.sleep(15)
        for each, process in started.items():
            if process.poll() is not None:
                raise SystemExit(f"{each} ended: {(folder / f'{each}.log').read_text()[-2000:]}")
        yield {each: psutil.Process(process.pid) for each, process in started.items()}
    finally:
        for process in reversed(started.values()):
            children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
            for child in children:
                if child.is_running():
                    child.kill()


def _listens(port: int) -> bool:
    import socket

    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def main() -> None:
    """Measure one after the other and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=2)
    parser.add_argument("--sources", type=int, default=100)
    parser.add_argument("--at-once", type=int, default=4)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--only", nargs="+", choices=[OURS, *OTHERS])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    require_redis()
    results: dict[str, Any] = {}
    for name in options.only or [OURS, *OTHERS]:
        if name == OURS:
            found = ours(options.sources, options.at_once, options.minutes)
        else:
            # ARQ wants an older Redis client than Celery takes
            python = sys.executable if name.startswith("Celery") else options.python
            found = another(name, python, options.sources, options.at_once, options.minutes)
        results[name] = found
        parts = ", ".join(f"{part} {value:.3f}" for part, value in sorted(found["parts"].items()))
        late = found["late_s"]
        print(
            f"{name}: {found['done']} of {found['asked']} syncs, {found['failed']} failed; "
            f"{found['cpu_s_per_sync']:.2f} CPU s each ({parts}); "
            f"late {late['p50']:.1f} s (p50), {late['p95']:.1f} s (p95)",
            flush=True,
        )
    if options.json:
        options.json.write_text(json.dumps(results, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
