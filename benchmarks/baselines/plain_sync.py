"""One sync of one source with httpx and dlt alone: what each of the other ways to run syncs runs.

A status row, merge by primary key. What it has not: partitions, history, backfills, lineage, checks, quotas, walls
between organisations, types, a UI.
"""

from __future__ import annotations

import csv
import io
import os
from datetime import UTC, datetime
from pathlib import Path

import dlt
import httpx
import psycopg
from dlt.destinations import postgres

DATABASE, API = os.environ["BENCH_DATABASE_URL"], os.environ["BENCH_API"]
FOLDER = Path(os.environ["BENCH_FOLDER"])
PATH = os.environ.get("BENCH_PATH", "0")
SOURCES = int(os.environ.get("BENCH_SOURCES", "5"))
AT_ONCE = int(os.environ.get("BENCH_AT_ONCE", "4"))

_BEGIN = """WITH noted AS (INSERT INTO sync_starts (source) VALUES (%(source)s))
INSERT INTO sync_status (source, state, started_at) VALUES (%(source)s, 'running', now())
ON CONFLICT (source) DO UPDATE SET state = 'running', started_at = now()"""
_END = "UPDATE sync_status SET state = %s, rows = %s, ended_at = now(), done = done + 1 WHERE source = %s"


def prepare(database: str) -> None:
    """The table of statuses, and the schema, so that first loads do not race for it."""
    with psycopg.connect(database) as connection:
        connection.execute(
            "CREATE TABLE IF NOT EXISTS sync_status (source int PRIMARY KEY, state text, started_at timestamptz, "
            "ended_at timestamptz, rows bigint, done int NOT NULL DEFAULT 0)"
        )
        connection.execute("CREATE TABLE IF NOT EXISTS sync_starts (source int, at timestamptz DEFAULT now())")
        connection.execute("CREATE SCHEMA IF NOT EXISTS baseline")


def load(source: int) -> None:
    """Read one source and merge its rows, with its status row before and after."""
    with psycopg.connect(DATABASE, autocommit=True) as connection:
        connection.execute(_BEGIN, {"source": source})
        try:
            rows = _load(source)
        except BaseException:
            connection.execute(_END, ("failed", None, source))
            raise
        connection.execute(_END, ("done", rows, source))


def _load(source: int) -> int:
    answer = httpx.get(f"{API}/{PATH}/b{source}.csv", timeout=120)
    answer.raise_for_status()
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    loaded_at = datetime.now(UTC)
    resource = dlt.resource(
        ({**row, "loaded_at": loaded_at} for row in rows),
        name=f"source_{source}",
        primary_key="id",
        write_disposition={"disposition": "merge", "strategy": "upsert"},
    )
    pipeline = dlt.pipeline(
        f"source_{source}",
        pipelines_dir=str(FOLDER / "pipelines"),
        destination=postgres(credentials=DATABASE),
        dataset_name="baseline",
    )
    pipeline.run(resource)
    return len(rows)
