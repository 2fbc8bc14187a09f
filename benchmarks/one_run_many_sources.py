"""Whether an organisation's small due sources are cheaper in one run than in a run each: five CSV sources of 100 rows.

    python benchmarks/one_run_many_sources.py [--times 4]

In one warm process, with Dagster's storage in Postgres; CPU seconds of the process and of the server, by source. Each
source has ten new rows each time. The two ways take turns.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

import yaml

SOURCES, ROWS, NEW = 5, 100, 10


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=4)
    given = parser.parse_args()
    from measuring import fresh_database, server_url
    from sensor_tick import server_cpu

    with (
        tempfile.TemporaryDirectory() as home,
        tempfile.TemporaryDirectory() as files,
        fresh_database(server_url()) as url,
    ):
        os.environ.update(DATASENSE_DATABASE_URL=url, DATASENSE_HOME=home)
        os.environ.pop("DAGSTER_HOME", None)
        from datasense_assets import definitions
        from datasense_assets.catalog.apply import apply_manifest
        from datasense_assets.catalog.manifest import parse_manifest
        from datasense_assets.catalog.snapshot import read_snapshot
        from datasense_assets.running.graph_index import source_keys
        from datasense_assets.running.instance import open_instance
        from datasense_assets.running.loading import prepare_catalog
        from datasense_assets.running.local import run_locally
        from datasense_assets.running.owners import catalog_engine

        def write(rows: int) -> None:
            for number in range(SOURCES):
                lines = "".join(f"{n},{n * number},place {n}\n" for n in range(rows))
                Path(files, f"{number}.csv").write_text(f"code,people,name\n{lines}", encoding="utf-8")

        write(ROWS)
        sources = [
            {
                "slug": f"s-{n}",
                "connector": "csv",
                "config": {"url": f"{files}/{n}.csv", "key": ["code"]},
                "tables": [{"slug": "places", "resource": "places"}],
                "schedule": "manual",
            }
            for n in range(SOURCES)
        ]
        manifest = {"version": 1, "organization": {"slug": "org", "name": "Org"}, "sources": sources}
        prepare_catalog(catalog_engine())
        with catalog_engine().begin() as connection:
            apply_manifest(connection, parse_manifest(yaml.safe_dump(manifest), Path(home, "m.yaml")))
        with catalog_engine().connect() as connection:
            (org,) = read_snapshot(connection).organizations
        keys = [source_keys(org, source) for source in org.sources]
        ways = {"a run each": keys, "all in one run": [tuple(key for each in keys for key in each)]}
        cpu: dict[str, list[float]] = {name: [] for name in ways}
        server: dict[str, list[float]] = {name: [] for name in ways}
        with open_instance() as instance:
            for turn in range(given.times + 1):
                for at, (name, runs) in enumerate(ways.items()):
                    write(ROWS + NEW * (2 * turn + at))
                    here, there = time.process_time(), server_cpu(url)
                    for each in runs:
                        done = run_locally(definitions.definitions, each, instance=instance, tags={})
                        assert done.success, done.failures
                    if turn:
                        cpu[name].append((time.process_time() - here) / SOURCES)
                        server[name].append((server_cpu(url) - there) / SOURCES)
        print("| CPU s a source | worker | Postgres | both |\n|---|---|---|---|")
        for name in ways:
            here, there = statistics.median(cpu[name]), statistics.median(server[name])
            print(f"| {name} | {here:.3f} | {there:.3f} | {here + there:.3f} |")
        catalog_engine().dispose()


if __name__ == "__main__":
    main()
