"""Seventy-five syncs a minute for ten minutes, from APIs that take 30 seconds, with every lane busy.

    python benchmarks/sustained.py [--minutes 10] [--each-minute 75] [--api 30] [--slots 50] [--json FILE]

Cron schedules make 75 sources due at the start of each minute, each read once in 15 minutes. Beside them people click,
a backfill goes on and recipes are built anew as their inputs change. Late is a sync that starts so long after its slot.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
from whole_platform import Running, platform, require_redis, wait_until

LAUNCH = """
mutation($params: ExecutionParams!) {
  launchPipelineExecution(executionParams: $params) { __typename ... on LaunchRunSuccess { run { runId } } }
}
"""
WAYS = 15
OVER = ("SUCCESS", "FAILURE", "CANCELED")


def fill(running: Running, each_minute: int, api: float) -> None:
    """75 organisations of 15 sources, one due each minute; one more organisation for clicks and the backfill."""
    port = running.api.rpartition(":")[2]
    running.sql(
        "INSERT INTO datasense.organizations (slug, name) SELECT 'o' || n, 'Org ' || n FROM generate_series(0, %s) n",
        each_minute,
    )
    running.sql(
        """INSERT INTO datasense.sources (org_id, slug, connector, config, schedule)
        SELECT o.id, 's' || n, 'csv', json_build_object('url', 'http://127.0.0.' || (1 + substr(o.slug, 2)::int %% 200)
                   || ':' || %s || '/' || %s || '/' || o.slug || '-s' || n || '.csv'),
               CASE WHEN o.slug = 'o' || %s THEN '"manual"'
                    ELSE json_build_object('cron', (n %% 15) || '-59/15 * * * *')::text END::jsonb
        FROM datasense.organizations o, generate_series(0, %s) n""",
        port,
        f"{api:g}",
        each_minute,
        WAYS - 1,
    )
    running.sql(
        "INSERT INTO datasense.source_tables (source_id, slug, resource, key) SELECT s.id, 'rows', "
        "o.slug || '-' || s.slug || '.csv', '{id}' FROM datasense.sources s JOIN datasense.organizations o "
        "ON o.id = s.org_id"
    )
    # none is new: each waits for its slot, and not for the first load that is due at once
    running.sql("UPDATE datasense.source_status SET next_due_at = NULL, replan = true")
    spec = {"version": 1, "name": "latest", "inputs": {"rows": "source:s0.rows"}, "steps": []}
    running.sql(
        """INSERT INTO datasense.recipes (org_id, name, spec, spec_hash) SELECT id, 'latest', %s::json, 'first'
        FROM datasense.organizations WHERE substr(slug, 2)::int < 20""",
        json.dumps(spec),
    )


@contextmanager
def other_lanes(running: Running, org: str) -> Iterator[None]:
    """Two clicks and one backfill go on at any time."""
    over = threading.Event()

    def keep_busy(lane: str, sources: range) -> None:
        for turn in range(10_000):
            if over.is_set():
                return
            source = f"s{sources[turn % len(sources)]}"
            run_id = launch(running, [org, source, "rows"], lane)
            while (
                run_id and not over.wait(1.0) and status_of(running, run_id) not in ("SUCCESS", "FAILURE", "CANCELED")
            ):
                pass

    threads = [
        threading.Thread(target=keep_busy, args=(lane, sources), daemon=True)
        for lane, sources in (
            ("interactive", range(0, 4)),
            ("interactive", range(4, 8)),
            ("backfill", range(8, 12)),
        )
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join(30)


def launch(running: Running, path: list[str], lane: str) -> str | None:
    """Materialize over the UI's own door; the run."""
    params = {
        "selector": {
            "repositoryLocationName": "datasense",
            "repositoryName": "__repository__",
            "pipelineName": "__ASSET_JOB",
            "assetSelection": [{"path": path}],
        },
        "executionMetadata": {"tags": [{"key": "datasense/lane", "value": lane}]},
        "runConfigData": {},
        "mode": "default",
    }
    try:
        answer = httpx.post(
            f"http://127.0.0.1:{running.port}/graphql",
            json={"query": LAUNCH, "variables": {"params": params}},
            timeout=60,
        ).json()
        return str(answer["data"]["launchPipelineExecution"]["run"]["runId"])
    except (httpx.HTTPError, KeyError, TypeError):
        return None


def status_of(running: Running, run_id: str) -> str:
    """Of one run."""
    return str(running.sql("SELECT status FROM runs WHERE run_id = %s", run_id)[0][0])


def scheduled_runs(running: Running) -> list[dict[str, Any]]:
    """Slot, start and end (seconds of the epoch) and status of each scheduled sync."""
    rows = running.sql(
        """SELECT r.status, r.start_time, r.end_time, k.value FROM runs r
        JOIN run_tags l ON l.run_id = r.run_id AND l.key = 'datasense/lane' AND l.value = 'scheduled'
        JOIN run_tags k ON k.run_id = r.run_id AND k.key = 'dagster/run_key'"""
    )
    found = []
    for status, start, end, key in rows:
        slot = datetime.fromisoformat(key.partition("@")[2])
        found.append({"status": status, "slot": slot.timestamp(), "start": start, "end": end})
    return found


def percentile(values: list[float], part: float) -> float:
    """The value below which that part of them lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(part * len(ordered)))] if ordered else float("nan")


def measure(running: Running, minutes: float) -> dict[str, Any]:
    """Watch for so many minutes after one of warming up."""
    start = (time.time() // 60 + 2) * 60
    wait_until("the first whole minute", lambda: time.time() >= start, seconds=200)
    before, memory, load = running.cpu(), [], []
    end = start + minutes * 60
    while time.time() < end:
        time.sleep(min(15, max(end - time.time(), 0.1)))
        used = running.memory()
        memory.append({"minute": (time.time() - start) / 60, **used})
        load.append(os.getloadavg()[0])
        waits, goes = (
            running.sql("SELECT count(*) FROM runs WHERE status = ANY (%s)", states)[0][0]
            for states in (["QUEUED"], ["STARTING", "STARTED"])
        )
        print(
            f"minute {memory[-1]['minute']:.1f}: {goes} runs go on, {waits} wait; workers {used['workers']:.0f} MB,"
            f" all {sum(used.values()):.0f} MB; load {load[-1]:.1f}",
            flush=True,
        )
    after = running.cpu()
    # those of the last minute end too, or are counted as late
    wait_until("the last ones have started", lambda: not _waiting(running, end), seconds=180)
    runs = [each for each in scheduled_runs(running) if start <= each["slot"] < end]
    late = [(each["start"] or time.time()) - each["slot"] for each in runs]
    lasted = [each["end"] - each["start"] for each in runs if each["end"] and each["start"]]
    statuses = dict(running.sql("SELECT status, count(*) FROM runs GROUP BY 1"))
    parts = {name: (after[name] - before[name]) / max(len(runs), 1) for name in after}
    settled = [each for each in memory if each["minute"] >= minutes * 0.3] or memory
    return {
        "minutes": minutes,
        "syncs": len(runs),
        "late_s": {"p50": percentile(late, 0.5), "p95": percentile(late, 0.95), "max": max(late, default=0)},
        "run_s": {"p50": percentile(lasted, 0.5), "p95": percentile(lasted, 0.95)},
        "statuses": statuses,
        "cpu_s_per_sync": sum(parts.values()),
        "cpu_s_per_sync_by_part": parts,
        "cores_used": sum(parts.values()) * len(runs) / (minutes * 60),
        "memory_mb": {"workers": [each["workers"] for each in memory], "all": [sum(_sizes(each)) for each in memory]},
        "workers_mb_from_30_percent_on": [settled[0]["workers"], settled[-1]["workers"]],
        "load_average": statistics.mean(load),
    }


def _sizes(sample: Mapping[str, float]) -> list[float]:
    return [value for name, value in sample.items() if name != "minute"]


def _waiting(running: Running, end: float) -> int:
    ended = ("FAILURE", "CANCELED")  # a run that never came to its start is counted with the failures
    waits = [each for each in scheduled_runs(running) if not each["start"] and each["status"] not in ended]
    return sum(1 for each in waits if each["slot"] < end)


def main() -> None:
    """Run, print, and write what was measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--each-minute", type=int, default=75)
    parser.add_argument("--api", type=float, default=30)
    parser.add_argument("--slots", type=int, default=50)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    require_redis()
    with platform(DATASENSE_FRESHNESS_POLICIES="0") as running:
        fill(running, options.each_minute, options.api)
        lanes = {"scheduled": options.slots, "interactive": 3, "transform": 2, "backfill": 1}
        for lane, slots in lanes.items():
            running.datasense("limits", "set", "lane", lane, str(slots))
        running.datasense("limits", "set", "total", str(sum(lanes.values())))
        running.datasense("limits", "set", "connector", "csv", str(sum(lanes.values())))
        running.serve(lanes=lanes)
        with other_lanes(running, f"o{options.each_minute}"):
            result = measure(running, options.minutes)
    print(json.dumps({name: value for name, value in result.items() if name != "memory_mb"}, indent=2))
    if options.json:
        options.json.write_text(json.dumps(result, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
