"""What one call of a quota costs: the CPU seconds of this process, and of the database's backend where it can be seen.

    python benchmarks/quota_call.py [calls]

It makes and drops a database on the server of DATASENSE_DATABASE_URL. Two quotas a call, as Google Sheets has.
"""

from __future__ import annotations

import os
import sys
import time
import uuid

import psutil
import psycopg
from psycopg import sql

from datasense_assets.catalog.migrate import migrate
from datasense_assets.settings import get_settings
from datasense_assets.warehouse import quotas
from datasense_assets.warehouse.database import database_url, engine
from datasense_assets.warehouse.quotas import Allowance, quota_key

HOST = "sheets.googleapis.com"


def allowances(calls: int) -> list[Allowance]:
    """A user's and a project's, wide enough for all calls of the benchmark, or for none."""
    names = ("google_sheets.user", "google_sheets.project")
    return [Allowance(quota_key(name, HOST, "me"), name, calls, 60.0, False) for name in names]


def measured(url: str, calls: int, allowed: int) -> tuple[float, float | None, float]:
    """CPU seconds of client and of backend, and seconds gone by, each a call."""
    catalog = engine(url)
    asked = allowances(allowed)
    quotas.ask(catalog, HOST, asked, "benchmark")
    with catalog.connect() as connection:
        pid = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
    backend = psutil.Process(pid) if psutil.pid_exists(pid) else None

    def backend_seconds() -> float | None:
        return sum(backend.cpu_times()[:2]) if backend is not None else None

    before, started, mine = backend_seconds(), time.perf_counter(), time.process_time()
    for _ in range(calls):
        quotas.ask(catalog, HOST, asked, "benchmark")
    client = (time.process_time() - mine) / calls
    after = backend_seconds()
    theirs = (after - before) / calls if after is not None and before is not None else None
    return client, theirs, (time.perf_counter() - started) / calls


def main(calls: int) -> None:
    """Print a line for a call that is allowed and one for a call that has to wait."""
    server = database_url(get_settings())
    name = f"bench_quota_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    url = f"{server.rpartition('/')[0]}/{name}"
    try:
        migrate(engine(url))
        for what, allowed in (("allowed", 2_000_000_000), ("refused", 1)):
            client, theirs, wall = measured(url, calls, allowed)
            said = "unknown" if theirs is None else f"{theirs:.6f}"
            print(f"{what}: client {client:.6f} CPU s a call, backend {said}, {wall:.6f} s gone by")
    finally:
        engine(url).dispose()
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


if __name__ == "__main__":
    os.environ.setdefault("DATASENSE_DATABASE_URL", os.environ.get("DATASENSE_TEST_SERVER_URL", ""))
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2000)
