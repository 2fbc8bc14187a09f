"""How long a click on Materialize waits: 500 scheduled syncs in the queue, every scheduled place taken, 10 clicks.

    PYTHONPATH=. python benchmarks/click_latency.py [CLICKS] [--warm]

A real `dagster dev` with the settings of dagster.yaml and the default launcher, which starts a process a run; with
`--warm` it is `datasense up`, whose workers have imported everything before. Those that wait, and those that have the
places, are rows of Dagster's storage: what is measured is the click's own way.
"""

from __future__ import annotations

import os
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

import dagster as dg
import yaml
from measuring import fresh_database, server_url

from datasense_assets_tests.platform.running import ROOT, Graphql, Platform, until

WAITING, BUSY = 500, 5
_CLONE = """
WITH made AS (
    INSERT INTO runs (run_id, snapshot_id, pipeline_name, mode, status, run_body, create_timestamp, update_timestamp)
    SELECT n.id, r.snapshot_id, r.pipeline_name, r.mode, %s,
           replace(replace(replace(replace(replace(r.run_body, r.run_id, n.id), 'DagsterRunStatus.SUCCESS',
               'DagsterRunStatus.' || %s), '"interactive"', '"scheduled"'), 'local.towns', 'l' || n.number || '.towns'),
               '"dagster/priority": "30"', '"dagster/priority": "10"'),
           now(), now()
    FROM runs r, (SELECT gen_random_uuid()::text AS id, number FROM generate_series(1, %s) number) n
    WHERE r.run_id = %s RETURNING run_id
) INSERT INTO run_tags (run_id, key, value) SELECT run_id, 'datasense/lane', 'scheduled' FROM made
"""


def platform(home: Path, url: str) -> Platform:
    """A catalog with one CSV source, and dagster.yaml as it is but for the watch over runs that nobody executes."""
    config = yaml.safe_load((ROOT / "dagster.yaml").read_text(encoding="utf-8"))
    config["run_monitoring"]["enabled"] = False
    # those in the places are clones of one run: its organisation and connector are not what is measured
    limits = config["concurrency"]["runs"]["tag_concurrency_limits"]
    kept = [each for each in limits if each["key"] in ("datasense/lane", "datasense/source_key")]
    config["concurrency"]["runs"]["tag_concurrency_limits"] = kept
    (home / "dagster.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    source = {
        "slug": "towns",
        "connector": "csv",
        "config": {"url": str(ROOT / "examples" / "data" / "towns.csv")},
        "tables": [{"slug": "towns", "resource": "towns"}],
        "schedule": "manual",
    }
    manifest = {"version": 1, "organization": {"slug": "local", "name": "Local"}, "sources": [source]}
    (home / "local.yaml").write_text(yaml.safe_dump(manifest), encoding="utf-8")
    made = Platform(home=home, database_url=url, variables={"DAGSTER_HOME": str(home)})
    made.datasense("apply", "--no-discover", str(home / "local.yaml"))
    return made


PARTS = {
    "in the queue": dg.DagsterEventType.RUN_STARTING,
    "to its worker's start": dg.DagsterEventType.RUN_START,
    "to its step": dg.DagsterEventType.STEP_START,
}


def measured(ui: Graphql, instance: dg.DagsterInstance, clicks: int) -> dict[str, list[float]]:
    """Seconds of each part of the way of each click, and of all of it."""
    found: dict[str, list[float]] = {name: [] for name in [*PARTS, "click to step start"]}
    for _ in range(clicks):
        # the queue is looked at in a rhythm of its own, in which nobody clicks
        time.sleep(random.uniform(0, 2))
        clicked = before = time.time()
        run_id = ui.click("local/towns/towns")
        ui.finished(run_id)
        events = instance.get_records_for_run(run_id).records
        for name, kind in PARTS.items():
            at = next(e.timestamp for e in events if e.event_log_entry.dagster_event_type is kind)
            found[name].append(at - before)
            before = at
        found["click to step start"].append(before - clicked)
    return found


def main() -> None:
    """Start the platform, fill its queue, click, and print how long each part took."""
    words = sys.argv[1:]
    clicks = next((int(word) for word in words if word.isdecimal()), 10)
    command = ("-m", "datasense_assets.cli.main", "up") if "--warm" in words else ()
    with tempfile.TemporaryDirectory() as folder, fresh_database(server_url()) as url:
        home = Path(folder)
        made = platform(home, url)
        os.environ.update({name: made.environment[name] for name in ("DATASENSE_HOME", "DATASENSE_DATABASE_URL")})
        with made.dagster_dev(*command), dg.DagsterInstance.from_config(str(home)) as instance:
            ui = Graphql(made)
            until("the graph is there", lambda: ui.asset("local/towns/towns"))
            first = ui.click("local/towns/towns")
            assert ui.finished(first) == "SUCCESS"
            for status, count in (("STARTED", BUSY), ("QUEUED", WAITING)):
                made.execute(_CLONE, status, status, count, first)
            parts = measured(ui, instance, clicks)
            left = instance.get_runs_count(dg.RunsFilter(statuses=[dg.DagsterRunStatus.QUEUED]))
    print(f"{clicks} clicks beside {WAITING} scheduled syncs that wait ({left} at the end) and {BUSY} in their places")
    for name, seconds in parts.items():
        ordered = sorted(seconds)
        p95 = ordered[min(len(ordered) - 1, round(0.95 * len(ordered)))]
        print(f"{name}: p50 {statistics.median(ordered):.2f} s, p95 {p95:.2f} s")


if __name__ == "__main__":
    main()
