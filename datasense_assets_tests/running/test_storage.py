"""Dagster's storage through one pool a process."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import psycopg
import pytest
from dagster._core.scheduler.instigation import InstigatorType, TickData, TickStatus
from sqlalchemy.event import listen

from datasense_assets.running.storage import pooled_engine, storage_url
from datasense_assets_tests.platform.running import home_of_process, until


@pytest.fixture
def home(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with home_of_process(tmp_path, monkeypatch, DATASENSE_DATABASE_URL=database_url) as folder:
        yield folder


def backends(url: str) -> set[int]:
    query = """SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
               AND backend_type = 'client backend'"""
    with psycopg.connect(url, autocommit=True) as connection:
        return {row[0] for row in connection.execute(query).fetchall()}


def held(url: str) -> set[int]:
    """Those that the pool keeps: one that was closed is there until its server process has heard of it."""
    pool = pooled_engine(storage_url()).pool

    def settled() -> set[int]:
        found = backends(url)
        return found if len(found) == pool.checkedin() else set()  # type: ignore[attr-defined]

    return until("the server knows as many connections as the pool", settled)


def work(home: Path) -> str:
    """An instance opened, a run written and read, as each run of a warm worker does it."""
    with dg.DagsterInstance.from_config(str(home)) as instance:
        run = instance.add_run(dg.DagsterRun(job_name="any"))
        instance.report_engine_event("said", run)
        assert [e.dagster_event.message for e in instance.all_logs(run.run_id) if e.dagster_event] == ["said"]
        return run.run_id


def test_many_instances_and_threads_of_a_process_share_a_few_connections(home: Path, database_url: str) -> None:
    work(home)
    first = held(database_url)
    assert len(first) <= 2
    asked: list[str] = []
    listen(pooled_engine(storage_url()), "before_cursor_execute", lambda *call: asked.append(call[2]))
    for _ in range(5):
        work(home)
    assert held(database_url) == first
    assert asked
    # which columns Dagster's tables have is known by now
    assert not [each for each in asked if "pg_catalog" in each]
    threads = [threading.Thread(target=work, args=(home,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(held(database_url)) <= 4


def test_a_forked_process_opens_connections_of_its_own(home: Path, database_url: str) -> None:
    work(home)
    before = held(database_url)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work(home)
            status = 0 if len(backends(database_url) - before) >= 1 and before <= backends(database_url) else 2
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    # and the parent's are as they were
    work(home)
    assert held(database_url) == before


def test_a_connection_that_the_server_closed_is_replaced(home: Path, database_url: str) -> None:
    work(home)
    pooled = pooled_engine(storage_url())
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    for record in _idle(pooled):
        record.info["given_back"] = 0.0
    work(home)


def _idle(engine) -> list:  # type: ignore[no-untyped-def,type-arg]
    """The records of connections that wait in the pool: as if they had waited for long."""
    found = []
    while engine.pool.checkedin() > 0:
        record = engine.pool._do_get()
        found.append(record)
    for record in found:
        engine.pool._do_return_conn(record)
    return found


def test_old_ticks_are_put_away_once_for_all_looks_of_a_while(home: Path, database_url: str) -> None:
    day = 86_400.0

    def tick(instance: dg.DagsterInstance, age: float) -> None:
        instance.create_tick(
            TickData(
                instigator_origin_id="origin",
                instigator_name="due_sources",
                instigator_type=InstigatorType.SENSOR,
                status=TickStatus.SKIPPED,
                timestamp=time.time() - age,
                selector_id="due",
            )
        )

    def purge(instance: dg.DagsterInstance, selector: str = "due") -> None:
        instance.purge_ticks("origin", selector, time.time() - 2 * day, [TickStatus.SKIPPED])

    with dg.DagsterInstance.from_config(str(home)) as instance:
        tick(instance, 3 * day)
        tick(instance, 1 * day)
        purge(instance)
        assert len(instance.get_ticks("origin", "due")) == 1
        asked: list[str] = []
        listen(pooled_engine(storage_url()), "before_cursor_execute", lambda *call: asked.append(call[2]))
        for _ in range(5):
            purge(instance)
        assert asked == []
        purge(instance, "another")
        assert len(asked) == 1
