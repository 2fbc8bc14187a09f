"""What a scrape of `datasense metrics` costs at growing sizes: CPU seconds of the exporter and its backends.

    python benchmarks/metrics_scrape.py [--sizes 50 500 5000] [--scrapes 10]

It makes and drops databases on the server of DATASENSE_DATABASE_URL. Each has so many sources of five an organisation,
one in twenty late, one in fifty failing, a hundred runs in progress, and 75 runs that have ended before each scrape.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from datetime import UTC, datetime

import dagster as dg
import psutil
import psycopg
from measuring import fresh_database, server_url

from datasense_assets.catalog.migrate import migrate
from datasense_assets.operations.metrics import Exporter
from datasense_assets.running.instance import open_instance
from datasense_assets.settings import get_settings
from datasense_assets.warehouse.database import engine

ENDED = 75

_FILL = (
    "INSERT INTO datasense.organizations (slug, name) SELECT 'org-' || n, 'Org' FROM generate_series(1, %(orgs)s) n",
    "INSERT INTO datasense.sources (org_id, slug, connector, schedule)"
    " SELECT o.id, 'forms-' || n, 'kobo', '\"hourly\"' FROM datasense.organizations o, generate_series(1, 5) n",
    "INSERT INTO datasense.source_tables (source_id, slug, resource, warehouse_name)"
    " SELECT id, 'visits', 'a', 't' || id FROM datasense.sources",
    "INSERT INTO datasense.recipes (org_id, name, spec) SELECT org_id, replace(slug, '-', '_') || '_' || id,"
    " '{\"inputs\": {}}' FROM datasense.sources",
    "UPDATE datasense.table_status SET loaded_at = now(), fresh_as_of = now() - CASE WHEN table_id %% 20 = 0"
    " THEN interval '5 hours' ELSE interval '10 minutes' END",
    "UPDATE datasense.source_status SET next_due_at = now() + interval '20 minutes', last_success_at = now(),"
    " failures_in_a_row = CASE WHEN source_id %% 50 = 0 THEN 2 ELSE 0 END, failure_kind = 'unavailable'",
    "INSERT INTO datasense.quota_state (key, name, host, calls, allowed_calls, allowed_seconds)"
    " SELECT 'k' || id, 'kobo.account', 'kf.kobotoolbox.org', 5, 240, 60 FROM datasense.organizations",
    "ANALYZE",
)


@dg.op
def _nothing() -> None: ...


@dg.job
def _job() -> None:
    _nothing()


def measured(server: str, size: int, scrapes: int) -> tuple[float, float, float, int]:
    """CPU seconds of client and of backends and seconds gone by, each a scrape; samples of one."""
    with fresh_database(server) as url, tempfile.TemporaryDirectory() as home:
        os.environ |= {"DATASENSE_DATABASE_URL": url, "DATASENSE_HOME": home}
        get_settings.cache_clear()
        catalog = engine(url)
        migrate(catalog)
        with psycopg.connect(url, autocommit=True) as connection:
            for statement in _FILL:
                connection.execute(statement.encode(), {"orgs": max(1, size // 5)})
        with open_instance() as instance:
            tags = {"datasense/lane": "scheduled", "datasense/connector": "kobo", "datasense/org": "org_1"}
            for _ in range(100):
                instance.create_run_for_job(_job, tags=tags)
            exporter = Exporter(lambda: catalog, lambda: instance, get_settings(), since=datetime.now(UTC))
            exporter.text()
            client = backends = wall = 0.0
            for _ in range(scrapes):
                for _ in range(ENDED):
                    instance.report_run_canceled(instance.create_run_for_job(_job, tags=tags))
                exporter._text_at = float("-inf")
                pids = _backends(url)
                before, started, mine = _cpu(pids), time.perf_counter(), time.process_time()
                said = exporter.text()
                client += time.process_time() - mine
                wall += time.perf_counter() - started
                backends += _cpu(pids) - before
        catalog.dispose()
        samples = sum(not line.startswith(b"#") for line in said.splitlines())
    return client / scrapes, backends / scrapes, wall / scrapes, samples


def _backends(url: str) -> list[int]:
    with psycopg.connect(url) as connection:
        query = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        return [pid for (pid,) in connection.execute(query)]


def _cpu(pids: list[int]) -> float:
    """Of backends that live through a scrape; Dagster's storage connects anew, which is not seen here."""
    return sum(sum(psutil.Process(pid).cpu_times()[:2]) for pid in pids if psutil.pid_exists(pid))


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[50, 500, 5000])
    parser.add_argument("--scrapes", type=int, default=10)
    given = parser.parse_args()
    server = server_url()
    print("| sources + as many recipes | client CPU s | backend CPU s | s gone by | samples |\n|---|---|---|---|---|")
    for size in given.sizes:
        client, backends, wall, samples = measured(server, size, given.scrapes)
        print(f"| {size} | {client:.3f} | {backends:.3f} | {wall:.3f} | {samples} |")


if __name__ == "__main__":
    main()
