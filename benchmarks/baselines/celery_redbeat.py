"""Syncs with Celery, RedBeat and dlt alone, as a careful engineer would write them for one kind of source.

A lock a source, retries with growing pauses, a status row, merge by primary key, everything imported before the fork.
What it has not: partitions, history, backfills, lineage, checks, quotas, walls between organisations, types, a UI.

    celery -A baselines.celery_redbeat worker -Q sync -c 1
    celery -A baselines.celery_redbeat beat -S redbeat.RedBeatScheduler
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
import redis
from celery import Celery
from dlt.destinations import postgres
from redis.exceptions import LockError

REDIS, DATABASE, API = (os.environ[name] for name in ("BENCH_REDIS_URL", "BENCH_DATABASE_URL", "BENCH_API"))
FOLDER = Path(os.environ["BENCH_FOLDER"])
PATH = os.environ.get("BENCH_PATH", "0")
SOURCES = int(os.environ.get("BENCH_SOURCES", "5"))
EVERY = float(os.environ.get("BENCH_EVERY_SECONDS", "86400"))

app = Celery("syncs", broker=REDIS, backend="disabled://")
app.conf.update(
    task_ignore_result=True,
    worker_prefetch_multiplier=1,
    task_default_queue="sync",
    broker_connection_retry_on_startup=True,
    redbeat_redis_url=REDIS,
    redbeat_lock_timeout=60,
    beat_max_loop_interval=1,
    beat_schedule={
        f"source-{number}": {"task": "sync", "schedule": EVERY, "args": [number]} for number in range(SOURCES)
    },
)
_redis = redis.Redis.from_url(REDIS)
_BEGIN = """INSERT INTO sync_status (source, state, started_at) VALUES (%s, 'running', now())
ON CONFLICT (source) DO UPDATE SET state = 'running', started_at = now()"""
_END = "UPDATE sync_status SET state = %s, rows = %s, ended_at = now(), done = done + 1 WHERE source = %s"


def prepare(database: str) -> None:
    """The table of statuses, and the schema, so that first loads do not race for it."""
    with psycopg.connect(database) as connection:
        connection.execute(
            "CREATE TABLE IF NOT EXISTS sync_status (source int PRIMARY KEY, state text, started_at timestamptz, "
            "ended_at timestamptz, rows bigint, done int NOT NULL DEFAULT 0)"
        )
        connection.execute("CREATE SCHEMA IF NOT EXISTS baseline")


@app.task(
    name="sync", autoretry_for=(httpx.HTTPError, psycopg.OperationalError), retry_backoff=15, max_retries=3, bind=True
)
def sync(self: object, source: int) -> None:
    """Load one source."""
    del self
    lock = _redis.lock(f"lock:{source}", timeout=900)
    if not lock.acquire(blocking=False):
        return
    try:
        _load(source)
    finally:
        try:
            lock.release()
        except LockError:
            print(f"the lock of {source} had run out")


def _load(source: int) -> None:
    with psycopg.connect(DATABASE, autocommit=True) as connection:
        connection.execute(_BEGIN, (source,))
        try:
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
        except BaseException:
            connection.execute(_END, ("failed", None, source))
            raise
        connection.execute(_END, ("done", len(rows), source))
