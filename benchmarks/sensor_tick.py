"""What a tick of the due sensor and of the stale-recipe sensor costs with 5,000 sources and 5,000 recipes.

    python benchmarks/sensor_tick.py [--sources 500 5000] [--due 75]

A real catalog and Dagster's own storage in one Postgres of their own. CPU seconds a tick of the process that evaluates
the sensor and, apart, of the database server; median of seven ticks. At rest nothing is due and nothing is stale.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import psycopg

TICKS = 7
FILL = """
INSERT INTO datasense.organizations (slug, name) SELECT 'org-' || n, 'Org ' || n FROM generate_series(1, {orgs}) n;
INSERT INTO datasense.sources (org_id, slug, connector, config, schedule)
    SELECT o.id, 'forms-' || n, 'kobo', json_build_object('base_url', 'https://kobo-' || o.id || '.example.org'),
           '"hourly"' FROM datasense.organizations o, generate_series(1, 5) n;
INSERT INTO datasense.credentials (source_id, name, reference) SELECT id, 'token', '{{"env": "T"}}'
    FROM datasense.sources;
INSERT INTO datasense.source_tables (source_id, slug, resource) SELECT id, 'visits', 'a' || id FROM datasense.sources;
INSERT INTO datasense.recipes (org_id, name, spec)
    SELECT s.org_id, 'monthly_' || s.id,
           json_build_object('inputs', json_build_object('v', 'source:' || s.slug || '.visits'))
    FROM datasense.sources s;
UPDATE datasense.source_status SET next_due_at = now() + interval '1 hour', replan = false,
    last_success_at = now() - interval '1 hour', last_started_at = now() - interval '1 hour';
UPDATE datasense.table_status SET loaded_at = now(), data_version = 1, row_count = 5,
    changed_at = now() - interval '1 hour';
UPDATE datasense.recipe_status st SET built_at = now(), spec_hash = r.spec_hash, timezone = o.timezone,
    compiler_version = {compiler}, data_version = 1
    FROM datasense.recipes r JOIN datasense.organizations o ON o.id = r.org_id WHERE r.id = st.recipe_id;
UPDATE datasense.recipe_inputs i SET built_version = ts.data_version, built_columns = ts.columns_hash,
    built_labels = coalesce(ts.labels_hash, '')
    FROM datasense.recipes r, datasense.sources s, datasense.source_tables t, datasense.table_status ts
    WHERE r.id = i.recipe_id AND s.org_id = r.org_id AND replace(s.slug, '-', '_') = i.source_ident
      AND t.source_id = s.id AND ts.table_id = t.id;
"""
# What was just written was written an hour ago; the triggers that write the time are left out.
SETTLE = """
SET LOCAL session_replication_role = replica;
UPDATE datasense.recipes SET updated_at = now() - interval '1 hour';
UPDATE datasense.organizations SET updated_at = now() - interval '1 hour';
UPDATE datasense.recipe_status SET built_at = now() - interval '1 hour';
UPDATE datasense.table_status SET columns_changed_at = now() - interval '1 hour';
"""
MAKE_DUE = """
UPDATE datasense.source_status SET last_slot = NULL, last_requested_at = NULL, next_due_at = now() +
    CASE WHEN source_id % (SELECT count(*) / {due} FROM datasense.sources) = 0 THEN interval '-1 minute'
    ELSE interval '1 hour' END
"""
MAKE_STALE = """
UPDATE datasense.recipe_status SET last_requested_at = NULL;
UPDATE datasense.table_status SET data_version = CASE WHEN table_id %
    (SELECT count(*) / {due} FROM datasense.sources) = 0 THEN 2 ELSE 1 END, changed_at = now() - CASE WHEN table_id %
    (SELECT count(*) / {due} FROM datasense.sources) = 0 THEN interval '0' ELSE interval '1 hour' END
"""


def server_cpu(url: str) -> float:
    """CPU seconds of the server's processes, those that have ended too."""
    with psycopg.connect(url) as connection:
        folder = connection.execute("SHOW data_directory").fetchone()
    postmaster = int((Path(folder[0]) / "postmaster.pid").read_text().split()[0])  # type: ignore[index]
    ticks = 0
    for each in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = each.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(each.parent.name) == postmaster:
            ticks += sum(map(int, fields[11:15]))
        elif int(fields[1]) == postmaster:
            ticks += sum(map(int, fields[11:13]))
    return ticks / os.sysconf("SC_CLK_TCK")


def measure(url: str, tick: Callable[[], object], before: str) -> tuple[float, float, float]:
    """CPU ms of client, CPU ms of server, wall ms: a tick."""
    client, wall, server = [], [], 0.0
    tick()  # imports, caches, connections
    for _ in range(TICKS):
        if before:
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute(before.encode())
        at, cpu, there = time.perf_counter(), time.process_time(), server_cpu(url)
        tick()
        client.append(time.process_time() - cpu)
        wall.append(time.perf_counter() - at)
        server += server_cpu(url) - there
    return 1000 * statistics.median(client), 1000 * server / TICKS, 1000 * statistics.median(wall)


@contextmanager
def platform(server: str, sources: int) -> Iterator[tuple[str, dict[str, Callable[[], object]]]]:
    """A catalog of that many sources and recipes, settled; its two sensors, each as a function that ticks."""
    from measuring import fresh_database

    with tempfile.TemporaryDirectory() as home, fresh_database(server) as url:
        os.environ.update(DATASENSE_DATABASE_URL=url, DATASENSE_HOME=home)
        os.environ.pop("DAGSTER_HOME", None)
        from datasense_assets.assets.graph import load_definitions
        from datasense_assets.recipes.versions import COMPILER_VERSION
        from datasense_assets.running.instance import open_instance
        from datasense_assets.running.loading import prepare_catalog
        from datasense_assets.running.owners import catalog_engine
        from datasense_assets.settings import get_settings

        get_settings.cache_clear()
        catalog_engine.cache_clear()
        prepare_catalog(catalog_engine())
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(FILL.format(orgs=sources // 5, compiler=COMPILER_VERSION).encode())
            with connection.transaction():
                connection.execute(SETTLE)
            connection.execute("VACUUM ANALYZE")
        repository = load_definitions().get_repository_def()
        with open_instance() as instance:

            def ticking(name: str) -> Callable[[], object]:
                sensor = repository.get_sensor_def(name)
                return lambda: sensor.evaluate_tick(
                    dg.build_sensor_context(instance=instance, repository_def=repository)
                )

            yield url, {name: ticking(name) for name in ("due_sources", "stale_recipes")}
        catalog_engine().dispose()


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sources", type=int, nargs="+", default=[500, 5000])
    parser.add_argument("--due", type=int, default=75)
    given = parser.parse_args()
    from measuring import server_url

    server = server_url()
    print("| a tick, CPU ms | sources | evaluating process | Postgres | wall ms |\n|---|---|---|---|---|")
    for sources in given.sources:
        with platform(server, sources) as (url, tick):
            due, stale = MAKE_DUE.format(due=given.due), MAKE_STALE.format(due=given.due)
            for name, sensor, before in (
                ("due sensor, at rest", "due_sources", ""),
                ("stale sensor, at rest", "stale_recipes", ""),
                (f"due sensor, {given.due} due", "due_sources", due),
                (f"stale sensor, {given.due} stale", "stale_recipes", stale),
            ):
                client, there, wall = measure(url, tick[sensor], before)
                print(f"| {name} | {sources:,} | {client:.0f} | {there:.0f} | {wall:.0f} |", flush=True)


if __name__ == "__main__":
    main()
