"""Syncs by APScheduler in one process: threads, no queue, nothing kept over a restart.

python -m baselines.apscheduler_process
"""

from __future__ import annotations

import httpx
import psycopg
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.blocking import BlockingScheduler
from apscheduler.triggers.cron import CronTrigger

from baselines.plain_sync import AT_ONCE, SOURCES, load

TRIES = 3


def sync(source: int) -> None:
    """Load one source; one that does not answer is asked again at once."""
    for left in reversed(range(TRIES)):
        try:
            load(source)
            return
        except (httpx.HTTPError, psycopg.OperationalError):
            if not left:
                raise


def main() -> None:
    """Run until stopped."""
    scheduler = BlockingScheduler(
        executors={"default": ThreadPoolExecutor(AT_ONCE)},
        job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
    )
    for number in range(SOURCES):
        scheduler.add_job(sync, CronTrigger(second=0), [number], id=f"source-{number}")
    scheduler.start()


if __name__ == "__main__":
    main()
