"""Syncs by ARQ: one asyncio worker over Redis, whose threads do what blocks.

arq baselines.arq_worker.Worker
"""

from __future__ import annotations

import asyncio
import os
from typing import Any, ClassVar

import httpx
import psycopg
from arq import Retry, cron
from arq.connections import RedisSettings

from baselines.plain_sync import AT_ONCE, SOURCES, load


def job(source: int) -> Any:
    """The coroutine of one source, which ARQ gives to one worker a slot."""

    async def sync(context: dict[str, Any]) -> None:
        try:
            await asyncio.to_thread(load, source)
        except (httpx.HTTPError, psycopg.OperationalError):
            raise Retry(defer=15 * context["job_try"]) from None

    return cron(sync, name=f"source-{source}", second=0, unique=True, max_tries=3, timeout=900)


class Worker:
    """What `arq` reads."""

    redis_settings = RedisSettings.from_dsn(os.environ["BENCH_REDIS_URL"])
    cron_jobs: ClassVar[list[Any]] = [job(number) for number in range(SOURCES)]
    max_jobs = AT_ONCE
    poll_delay = 0.5
