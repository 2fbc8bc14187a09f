"""Runs: those that wait or go on now, and each that has ended, counted once.

What goes on is one query as long as the queue. What has ended is read from where the last scrape stopped, so that a
scrape costs as much as ended since and not as much as is kept.
"""

from __future__ import annotations

from collections import Counter as Count
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache

import dagster as dg
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from sqlalchemy import Engine, text

from datasense_assets.automation.due import RUN_KEY
from datasense_assets.catalog.times import as_utc
from datasense_assets.connectors import kinds
from datasense_assets.running import tags as t

_RUN = dg.DagsterRunStatus
WAITING = (_RUN.NOT_STARTED, _RUN.QUEUED)
IN_PROGRESS = [*WAITING, _RUN.STARTING, _RUN.STARTED, _RUN.CANCELING]
ENDED = [_RUN.SUCCESS, _RUN.FAILURE, _RUN.CANCELED]
_PAGE = 500
# A run's row may be committed a little after the moment that it bears.
_OVERLAP = timedelta(seconds=30)
# A tag that an ended run is given (that it is tried again) moves its row's moment; it was counted then.
_REMEMBERED = timedelta(minutes=10)
_DELAYS = (1, 5, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200)
_DURATIONS = (0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200)

_MEMORY = tuple(size * 2**20 for size in (128, 192, 256, 320, 384, 512, 768, 1024, 2048, 4096))

_FAILURE_KINDS = """
SELECT last_run_id AS run_id, failure_kind FROM datasense.source_status
WHERE last_run_id = ANY (:runs) AND failures_in_a_row > 0
UNION ALL
SELECT run_id, failure_kind FROM datasense.recipe_status
WHERE run_id = ANY (:runs) AND failures_in_a_row > 0
"""
_COSTS = """
SELECT run_id, kind, sum(cpu_seconds) AS cpu, max(peak_memory_bytes) AS memory, sum(bytes_read) AS bytes,
       sum(rows_written) FILTER (WHERE kind = 'source') AS rows
FROM datasense.run_costs WHERE ended_at > :since AND run_id = ANY (:runs) GROUP BY 1, 2
"""


def waits_since(record: dg.RunRecord) -> datetime:
    """Since when a run has waited: the slot of a scheduled one, else the moment in which it was asked for."""
    slot = record.dagster_run.tags.get(RUN_KEY, "").rpartition("@")[2]
    try:
        due = datetime.fromisoformat(slot)
    except ValueError:
        due = None
    return due if due is not None and due.tzinfo is not None else as_utc(record.create_timestamp)


def _touched_later(record: dg.RunRecord) -> bool:
    if record.end_time is None:
        return False
    return as_utc(record.update_timestamp).timestamp() - record.end_time > 0.9 * _REMEMBERED.total_seconds()


def connector_label(kind: str) -> str:
    """The kind of a connector that is there, `recipe`, `none`, else `other`: a run's tags may say anything."""
    return kind if kind in ("recipe", "none") or kind in _known_kinds() else "other"


@cache
def _known_kinds() -> frozenset[str]:
    return frozenset(kinds())


def in_progress(instance: dg.DagsterInstance) -> Sequence[dg.RunRecord]:
    """Records of all runs that wait or go on."""
    return instance.get_run_records(filters=dg.RunsFilter(statuses=IN_PROGRESS))


class RunMetrics:
    """Counts and histograms of ended runs, kept from scrape to scrape, and gauges of those in progress."""

    def __init__(self, registry: CollectorRegistry, *, since: datetime) -> None:
        """`since`: runs that ended before are not counted."""
        self._since, self._seen = since, dict[str, datetime]()
        labels = ("lane", "connector")
        self._ended = Counter(
            "datasense_runs_ended", "Runs that have ended, by state.", ("state", *labels), registry=registry
        )
        self._failed = Counter(
            "datasense_run_failures", "Failed runs, by the type of failure.", ("kind", "connector"), registry=registry
        )
        self._rows = Counter(
            "datasense_rows_loaded", "Rows that loads added or changed.", ("connector",), registry=registry
        )
        self._bytes = Counter(
            "datasense_bytes_read", "Bytes that loads read from their sources.", ("connector",), registry=registry
        )
        self._cpu = Counter(
            "datasense_run_cpu_seconds", "CPU seconds of workers for runs that ended.", labels, registry=registry
        )
        self._memory = Histogram(
            "datasense_worker_peak_memory_bytes",
            "The most that a run's worker process held meanwhile.",
            ("connector",),
            buckets=_MEMORY,
            registry=registry,
        )
        self._delay = Histogram(
            "datasense_run_start_delay_seconds",
            "From when a run was due (or asked for) to its start.",
            ("lane",),
            buckets=_DELAYS,
            registry=registry,
        )
        self._duration = Histogram(
            "datasense_run_duration_seconds",
            "From a run's start to its end.",
            labels,
            buckets=_DURATIONS,
            registry=registry,
        )

    def count_ended(self, instance: dg.DagsterInstance, catalog: Engine) -> int:
        """Count what has ended since the last time; how many runs that were."""
        counted = 0
        while True:
            records = instance.get_run_records(
                filters=dg.RunsFilter(statuses=ENDED, updated_after=self._since - _OVERLAP),
                limit=_PAGE + len(self._seen),
                order_by="update_timestamp",
                ascending=True,
            )
            new = [each for each in records if each.dagster_run.run_id not in self._seen and not _touched_later(each)]
            self._observe(new, catalog)
            counted += len(new)
            if records:
                self._since = max(self._since, as_utc(records[-1].update_timestamp))
            self._seen |= {each.dagster_run.run_id: as_utc(each.update_timestamp) for each in records}
            self._seen = {run: at for run, at in self._seen.items() if at > self._since - _REMEMBERED}
            if len(new) < _PAGE:
                return counted

    def _observe(self, records: Iterable[dg.RunRecord], catalog: Engine) -> None:
        found = list(records)
        if not found:
            return
        ids = [each.dagster_run.run_id for each in found]
        with catalog.connect() as connection:
            said = {row.run_id: row.failure_kind for row in connection.execute(text(_FAILURE_KINDS), {"runs": ids})}
            since = min(as_utc(each.create_timestamp) for each in found)
            costs = connection.execute(text(_COSTS), {"runs": ids, "since": since}).all()
        lanes = {each.dagster_run.run_id: self.labels(each.dagster_run) for each in found}
        for cost in costs:
            lane, connector = lanes[cost.run_id]
            self._cpu.labels(lane, connector).inc(cost.cpu)
            self._memory.labels(connector).observe(float(cost.memory))
            if cost.kind == "source":
                self._rows.labels(connector).inc(float(cost.rows or 0))
                self._bytes.labels(connector).inc(float(cost.bytes))
        for record in found:
            run = record.dagster_run
            lane, connector = lanes[run.run_id]
            self._ended.labels(run.status.value.lower(), lane, connector).inc()
            if run.status is _RUN.FAILURE:
                self._failed.labels(said.get(run.run_id) or "unknown", connector).inc()
            if record.start_time is None:
                continue
            started = datetime.fromtimestamp(record.start_time, UTC)
            self._delay.labels(lane).observe(max(0.0, (started - waits_since(record)).total_seconds()))
            if record.end_time is not None:
                self._duration.labels(lane, connector).observe(max(0.0, record.end_time - record.start_time))

    def labels(self, run: dg.DagsterRun) -> tuple[str, str]:
        """Lane and connector of a run; `recipe` stands for the connector of a build."""
        lane, connector = run.tags.get(t.LANE, ""), run.tags.get(t.CONNECTOR)
        lane = lane if lane in set(t.Lane) else "none"
        if connector is None:
            connector = "recipe" if t.RECIPE in run.tags or lane == t.Lane.TRANSFORM else "none"
        return lane, connector_label(connector)

    def gauges(self, records: Sequence[dg.RunRecord], now: datetime) -> Iterator[Metric]:
        """Runs in progress by state, lane and connector; depth and longest wait of the queue by lane."""
        counts: Count[tuple[str, str, str]] = Count()
        oldest = dict.fromkeys((lane.value for lane in t.Lane), 0.0)
        depth = dict.fromkeys(oldest, 0)
        for record in records:
            run = record.dagster_run
            lane, connector = self.labels(run)
            counts[(run.status.value.lower(), lane, connector)] += 1
            if run.status in WAITING:
                waited = (now - waits_since(record)).total_seconds()
                oldest[lane] = max(oldest.get(lane, 0.0), waited)
                depth[lane] = depth.get(lane, 0) + 1
        runs = GaugeMetricFamily(
            "datasense_runs", "Runs that wait or go on now.", labels=("state", "lane", "connector")
        )
        for labels, number in counts.items():
            runs.add_metric(labels, number)
        yield runs
        queue = GaugeMetricFamily("datasense_queue_depth", "Runs that wait in the queue.", labels=("lane",))
        wait = GaugeMetricFamily(
            "datasense_queue_oldest_wait_seconds",
            "How long the longest waiting run of the queue has been due or asked for.",
            labels=("lane",),
        )
        for lane, number in depth.items():
            queue.add_metric((lane,), number)
            wait.add_metric((lane,), oldest.get(lane, 0.0))
        yield from (queue, wait)
