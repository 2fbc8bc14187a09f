"""Syncs in processes of their own that die, or stop, at a named point: no hook in the product, its functions are
wrapped here.

A server process imports everything once and forks a child for each sync, which costs no more than the sync itself.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import resource
import signal
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil

from datasense_assets.catalog.snapshot import read_snapshot
from datasense_assets.connectors.base import Window
from datasense_assets.ingest.load import SyncPlan, open_sync
from datasense_assets.ingest.opening import open_source
from datasense_assets.ingest.prepared import PreparedLoad
from datasense_assets.ingest.report import TableReport
from datasense_assets.settings import Settings
from datasense_assets.warehouse.database import connect, database_url, engine
from datasense_assets.warehouse.leases import acquire
from datasense_assets.warehouse.organizations import prepare_organization

POINTS: dict[str, tuple[str, str]] = {
    "when it has claimed the table": ("datasense_assets.ingest.claims:begin", "after"),
    "after its first page": ("datasense_assets.ingest.scratch:TableScratch.add", "after"),
    "when all is read": ("datasense_assets.ingest.preparing:read_pages", "after"),
    "before the tables it made are committed": ("datasense_assets.ingest.parts:ensure_tables", "after"),
    "when the first rows are typed": ("datasense_assets.ingest.rows:_typed", "after"),
    "when the rows are staged": ("dlt.destinations.job_client_impl:SqlLoadJob.run", "before"),
    "when the first table is merged": ("dlt.destinations.job_client_impl:SqlLoadJob.run", "after"),
    "before the warehouse's last transaction is committed": ("datasense_assets.ingest.finishing:_settle", "after"),
    "between warehouse and catalog": ("datasense_assets.ingest.finishing:_record", "before"),
    "before the cursor is committed": ("datasense_assets.ingest.finishing:_move_cursor", "after"),
}


@dataclass(frozen=True)
class Order:
    """One sync to do: of which source, how, and what shall go wrong in its process."""

    settings: Settings
    environment: Mapping[str, str]
    source: str
    full: bool = False
    dies: str | None = None
    stops: str | None = None
    window: Window | None = None
    clock_ahead: float = 0.0
    file_bytes: int | None = None
    ignores_lease: bool = False
    last_words: Path | None = None


def sync(order: Order) -> list[TableReport]:
    """Sync all tables of the source here, as a run of it does: lease, read, load, record."""
    settings = order.settings
    catalog = engine(database_url(settings))
    try:
        with catalog.connect() as connection:
            (org,) = read_snapshot(connection).organizations
            source = next(each for each in org.sources if each.slug == order.source)
            connector = open_source(connection, org, source, settings)
        owner = uuid.uuid4().hex
        lease = acquire(lambda: connect(database_url(settings)), source.id, owner)
        if lease is None:
            assert order.ignores_lease, "another process holds the lease"
        reports: list[TableReport] = []
        with open_sync(
            SyncPlan(org, source, owner, order.window, order.full),
            connector=connector,
            target=prepare_organization(catalog, settings, org),
            catalog=catalog,
            scratch=settings.scratch_path,
            fence=lease.fence if lease is not None else 1,
        ) as opened:
            for table in source.tables:
                if table.parent is None:
                    prepared = opened.prepare(table)
                    if isinstance(prepared, PreparedLoad):
                        prepared.run()
                    reports += opened.finish(prepared)
        if lease is not None:
            lease.release()
        connector.close()
        return reports
    finally:
        catalog.dispose()


def _child(order: Order, ready: Any, go: Any) -> None:
    os.environ.update(order.environment)
    if order.dies is not None:
        _arm(*POINTS[order.dies], signal.SIGKILL)
    if order.stops is not None:
        _arm(*POINTS[order.stops], signal.SIGSTOP)
    if order.clock_ahead:
        _set_clock(order.clock_ahead)
    if order.file_bytes is not None:
        _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (order.file_bytes, most))
    if ready is not None:
        ready.release()
        go.wait(60)
    try:
        sync(order)
    except Exception as error:
        if order.last_words is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.getrlimit(resource.RLIMIT_FSIZE)[1],) * 2)
            order.last_words.write_text(f"{type(error).__name__}: {error}")
        raise


def _arm(where: str, when: str, what: signal.Signals) -> None:
    module, _, path = where.partition(":")
    owner: Any = importlib.import_module(module)
    *owners, name = path.split(".")
    for each in owners:
        owner = getattr(owner, each)
    original: Callable[..., Any] = getattr(owner, name)

    def struck(*args: Any, **kwargs: Any) -> Any:
        setattr(owner, name, original)
        done = original(*args, **kwargs) if when == "after" else None
        os.kill(os.getpid(), what)
        return done if when == "after" else original(*args, **kwargs)

    setattr(owner, name, struck)


def _set_clock(ahead: float) -> None:
    from datasense_assets.ingest import preparing

    class Ahead(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.now(tz or UTC) + timedelta(seconds=ahead)

    real = time.time
    time.time = lambda: real() + ahead
    preparing.datetime = Ahead  # type: ignore[misc]


def forks() -> Any:
    """A context whose processes are forked from one that has imported everything."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["datasense_assets_tests.ingest.warm"])
    return context


def run_apart(order: Order) -> int:
    """Do the sync in a process of its own; its exit code, -9 where it was killed."""
    child = forks().Process(target=_child, args=(order, None, None))
    child.start()
    child.join(120)
    assert child.exitcode is not None
    return int(child.exitcode)


def start_apart(order: Order) -> Any:
    """The process of a sync that goes on by itself."""
    child = forks().Process(target=_child, args=(order, None, None))
    child.start()
    return child


def start_and_stop(order: Order) -> Any:
    """The process of a sync that stands still at the point where the order says it stops."""
    child = start_apart(order)
    while psutil.Process(child.pid).status() != psutil.STATUS_STOPPED:
        child.join(0.02)
        assert child.is_alive(), f"it did not come to the point: {order.stops}"
    return child


def run_at_once(*orders: Order) -> list[int]:
    """Do the syncs in processes that begin at the same moment; their exit codes."""
    context = forks()
    ready, go = context.Semaphore(0), context.Event()
    children = [context.Process(target=_child, args=(order, ready, go)) for order in orders]
    for child in children:
        child.start()
    for _ in children:
        assert ready.acquire(timeout=60)
    go.set()
    for child in children:
        child.join(120)
    return [child.exitcode for child in children]
