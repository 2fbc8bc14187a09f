"""The exporter: reads everything at a scrape, and goes on when a part of it cannot be read, saying so."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from datasense_assets.operations.metrics.catalog import catalog_metrics, gauge
from datasense_assets.operations.metrics.machine import (
    dagster_metrics,
    database_metrics,
    database_parts,
    process_metrics,
)
from datasense_assets.operations.metrics.runs import RunMetrics, in_progress

if TYPE_CHECKING:
    import dagster as dg
    from sqlalchemy import Engine

    from datasense_assets.settings import Settings

LOOK_BACK = timedelta(hours=1)
PARTS_EVERY_SECONDS = 300.0
# Of several Prometheis each gets what was read a moment ago.
_AGAIN_AFTER_SECONDS = 2.0
_log = logging.getLogger("datasense.metrics")


class Exporter(Collector):
    """All metrics as text, one scrape after the other.

    Counters and histograms of runs start at `since` and live as long as the process; everything else is read anew.
    """

    def __init__(
        self,
        catalog: Callable[[], Engine],
        instance: Callable[[], dg.DagsterInstance],
        settings: Settings,
        *,
        since: datetime | None = None,
    ) -> None:
        """`catalog` and `instance` are asked at each scrape, since the database may be away when this starts."""
        self._catalog, self._instance, self._settings = catalog, instance, settings
        self._registry = CollectorRegistry()
        # before its counters, which are told at the end of a scrape what the scrape has found
        self._registry.register(self)
        self._runs = RunMetrics(self._registry, since=since or datetime.now(UTC))
        self._parts: Metric | None = None
        self._parts_at = float("-inf")
        self._lock = threading.Lock()
        self._text, self._text_at = b"", float("-inf")

    def text(self) -> bytes:
        """A scrape in Prometheus' text format."""
        with self._lock:
            if monotonic() - self._text_at > _AGAIN_AFTER_SECONDS:
                self._text = generate_latest(self._registry)
                self._text_at = monotonic()
            return self._text

    def describe(self) -> Iterable[Metric]:
        """Nothing: registering reads nothing."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Each part, and how long and whether it could be read."""
        took, works = [], []
        away = self._why_away()
        for name, read in (
            ("runs", self._read_runs),
            ("catalog", self._read_catalog),
            ("database", self._read_database),
            ("dagster", self._read_dagster),
            ("processes", self._read_processes),
        ):
            if away is not None and name != "processes":
                works.append(((name,), 0.0))
                continue
            started = monotonic()
            try:
                yield from [*read()]
                works.append(((name,), 1.0))
            except Exception as error:  # noqa: BLE001 - one part that is away must not take the others along
                _log.warning("metrics of %s cannot be read: %s", name, type(error).__name__)
                works.append(((name,), 0.0))
            took.append(((name,), monotonic() - started))
        yield gauge("datasense_up", "1 where this part could be read.", *works, labels=("part",))
        yield gauge("datasense_scrape_seconds", "How long reading it took.", *took, labels=("part",))

    def _why_away(self) -> str | None:
        """Why the database cannot be reached: then nothing else is tried, since Dagster tries for a long time."""
        try:
            with self._catalog().connect():
                return None
        except Exception as error:  # noqa: BLE001 - told by datasense_up
            _log.warning("the database cannot be read: %s", error if hasattr(error, "advice") else type(error).__name__)
            return type(error).__name__

    def _read_runs(self) -> Iterator[Metric]:
        instance = self._instance()
        self._runs.count_ended(instance, self._catalog())
        yield from self._runs.gauges(in_progress(instance), datetime.now(UTC))

    def _read_catalog(self) -> Iterator[Metric]:
        with self._catalog().connect() as connection:
            yield from catalog_metrics(connection, datetime.now(UTC))

    def _read_database(self) -> Iterator[Metric]:
        with self._catalog().connect() as connection:
            yield from database_metrics(connection)
            if monotonic() - self._parts_at > PARTS_EVERY_SECONDS:
                self._parts, self._parts_at = database_parts(connection), monotonic()
        if self._parts is not None:
            yield self._parts

    def _read_dagster(self) -> Iterator[Metric]:
        yield from dagster_metrics(self._instance(), datetime.now(UTC))

    def _read_processes(self) -> Iterator[Metric]:
        yield from process_metrics(self._settings.home)
