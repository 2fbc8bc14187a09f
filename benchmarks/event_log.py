"""What Dagster's own tables take at ten million events: what is asked of them, and how fast old runs are forgotten.

    python benchmarks/event_log.py DATABASE_URL [--forget 200]

The database is one of Dagster's storage that somebody has filled; nothing is changed in it but the runs that are
forgotten. Milliseconds of the client's waiting, median of five; the first look at each is not counted.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import dagster as dg

TIMES = 5


def wait(ask: Callable[[], object]) -> float:
    """Median milliseconds of an answer."""
    ask()
    took = []
    for _ in range(TIMES):
        at = time.perf_counter()
        ask()
        took.append(1000 * (time.perf_counter() - at))
    return statistics.median(took)


def main() -> None:
    """Ask and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--forget", type=int, default=200)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        os.environ.update(DATASENSE_DATABASE_URL=given.url, DATASENSE_HOME=home)
        os.environ.pop("DAGSTER_HOME", None)
        from datasense_assets.running.forgetting import forget_runs
        from datasense_assets.running.instance import open_instance
        from datasense_assets.running.owners import catalog_engine

        with catalog_engine().connect() as connection:
            events = connection.exec_driver_sql("SELECT count(*) FROM event_logs").scalar_one()
            runs = connection.exec_driver_sql("SELECT count(*) FROM runs").scalar_one()
        with open_instance() as instance:
            key = instance.get_asset_keys(limit=1)[0]
            (run,) = instance.get_runs(limit=1)
            queued = dg.RunsFilter(statuses=[dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.STARTED])
            of_source = dg.RunsFilter(tags={"datasense/source_key": run.tags.get("datasense/source_key", "")})
            asked: dict[str, Callable[[], object]] = {
                "latest materialization of an asset": lambda: instance.get_latest_materialization_event(key),
                "newest 20 materializations of an asset": lambda: instance.fetch_materializations(key, limit=20),
                "all filled partitions of an asset": lambda: instance.get_materialized_partitions(key),
                "newest 25 runs": lambda: instance.get_run_records(limit=25),
                "runs that wait or run": lambda: instance.get_runs(filters=queued),
                "newest 25 runs of a source": lambda: instance.get_run_records(filters=of_source, limit=25),
                "a run by its run key": lambda: instance.get_run_ids(
                    filters=dg.RunsFilter(tags={"dagster/run_key": "source-1@2026"}), limit=1
                ),
                "what a run has filled": lambda: instance.get_records_for_run(
                    run.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION
                ),
            }
            print(f"{events:,} events of {runs:,} runs\n\n| asked | ms |\n|---|---|")
            for name, ask in asked.items():
                print(f"| {name} | {wait(ask):.1f} |", flush=True)
            at, cpu = time.perf_counter(), time.process_time()
            before = datetime.now(UTC) - timedelta(days=20)
            done = forget_runs(instance, before, most=given.forget)
            looked = done.forgotten + done.kept
            took, used = time.perf_counter() - at, time.process_time() - cpu
            print(
                f"\n{done.forgotten} runs forgotten and {done.kept} kept of {looked} looked at, in {took:.1f} s"
                f" ({used:.1f} CPU s here): {1000 * took / max(1, looked):.1f} ms a run"
            )


if __name__ == "__main__":
    main()
