"""What a warm worker spends on a sync that finds nothing new, with 10 and with 5,000 sources in the catalog.

    python benchmarks/noop_run.py [--sizes 10 5000] [--runs 40] [--plain] [--json FILE]

`--plain` measures the same run in the plain way too: the whole graph, built in a new process, with Dagster's executor.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
from pathlib import Path
from typing import Any

from whole_platform import BIN, ROOT, Running, platform, require_redis, wait_until

SOURCES = [f"o0/s{number}" for number in range(5)]


def syncs(running: Running, rounds: int) -> int:
    """Make five sources due, wait for their runs, again and again; how many runs that were."""
    for _ in range(rounds):
        syncs_of(running, SOURCES)
    return rounds * len(SOURCES)


def syncs_of(running: Running, names: list[str], *, seconds: float = 300) -> None:
    """Make sources due and wait for the end of their runs, all of which have to succeed."""
    before = sum(running.ended().values())
    running.make_due(names)
    wait_until("all are synced", lambda: _all_over(running, before + len(names)), seconds=seconds)
    failed = {status: count for status, count in running.ended().items() if status != "SUCCESS"}
    if failed:
        raise SystemExit(f"runs that did not succeed: {failed}")


def _all_over(running: Running, total: int) -> bool:
    ended = running.ended()
    over = sum(count for status, count in ended.items() if status in ("SUCCESS", "FAILURE", "CANCELED"))
    return over >= total and sum(ended.values()) == over


def measure(size: int, runs: int, *, plain: bool) -> dict[str, Any]:
    """CPU seconds a run, by part; the plain way's beside it."""
    with platform(DATASENSE_DUE_INTERVAL_SECONDS="1", DATASENSE_FRESHNESS_POLICIES="0") as running:
        running.fill(size, "same")
        running.serve(lanes={"scheduled": 2})
        syncs(running, 3)
        running.settle()
        sessions = _sessions(running)
        before = running.cpu()
        count = syncs(running, runs // len(SOURCES))
        after = running.cpu()
        opened = _sessions(running) - sessions
        result: dict[str, Any] = {"sources": size, "runs": count, "sessions_per_run": opened / count}
        result["cpu_s_per_run"] = {name: (after[name] - before[name]) / count for name in after}
        running.stop()
        if plain:
            result["plain_cpu_s"] = plain_run(running)
    return result


def _sessions(running: Running) -> int:
    return int(running.sql("SELECT sessions FROM pg_stat_database WHERE datname = current_database()")[0][0])


def plain_run(running: Running) -> float:
    """One run of one source in the plain way; CPU seconds of the process and of those that it starts."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    day = running.sql("SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD')")[0][0]
    words = ["asset", "materialize", "-m", "baselines.plain_graph", "--select", 'key:"o0/s0/rows"', "--partition", day]
    environment = {**running.environment, "DAGSTER_HOME": str(running.home / "dagster")}
    done = subprocess.run(
        [str(BIN / "dagster"), *words],
        cwd=ROOT / "benchmarks",
        env={**environment, "PYTHONPATH": f"{ROOT}:{ROOT / 'benchmarks'}"},
        capture_output=True,
        text=True,
    )
    if done.returncode != 0 or "RUN_SUCCESS" not in done.stderr + done.stdout:
        raise SystemExit(done.stderr[-3000:])
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10, 5000])
    parser.add_argument("--runs", type=int, default=40)
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    require_redis()
    results = [measure(size, options.runs, plain=options.plain) for size in options.sizes]
    for each in results:
        parts = ", ".join(f"{name} {value:.3f}" for name, value in sorted(each["cpu_s_per_run"].items()))
        print(f"{each['sources']:>6} sources, {each['runs']} runs: CPU s a run: {parts}")
        print(f"{'':15} sessions of the database a run: {each['sessions_per_run']:.1f}")
        if "plain_cpu_s" in each:
            ratio = each["plain_cpu_s"] / each["cpu_s_per_run"]["workers"]
            print(f"{'':15} the plain way: {each['plain_cpu_s']:.1f} CPU s, {ratio:.0f} times the worker's")
    if len(results) > 1:
        first, last = (each["cpu_s_per_run"]["workers"] for each in (results[0], results[-1]))
        print(f"worker at {results[-1]['sources']} sources / at {results[0]['sources']}: {last / first:.2f}")
    if options.json:
        options.json.write_text(json.dumps(results, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
