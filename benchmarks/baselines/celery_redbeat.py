"""Syncs with Celery, RedBeat and dlt, as a careful engineer would write them for one kind of source.

A lock a source, retries with growing pauses, everything imported before the fork; `plain_sync` has the rest.

    celery -A baselines.celery_redbeat worker -Q sync -c 1
    celery -A baselines.celery_redbeat beat -S redbeat.RedBeatScheduler
"""

from __future__ import annotations

import os

import httpx
import psycopg
import redis
from celery import Celery
from celery.schedules import crontab
from redis.exceptions import LockError

from baselines.plain_sync import SOURCES, load, prepare

__all__ = ["app", "prepare", "sync"]

REDIS = os.environ["BENCH_REDIS_URL"]

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
        f"source-{number}": {
            "task": "sync",
            "schedule": crontab() if "BENCH_EACH_MINUTE" in os.environ else 86400.0,
            "args": [number],
        }
        for number in range(SOURCES)
    },
)
_redis = redis.Redis.from_url(REDIS)


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
        load(source)
    finally:
        try:
            lock.release()
        except LockError:
            print(f"the lock of {source} had run out")
