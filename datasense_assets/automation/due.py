"""The due sensor: asks for one run of every source whose time has come.

A slot is asked for with a run key made of source and slot, and the source's next time is set only when a run with that
key is seen: a daemon killed between the two asks again, and Dagster knows the key. Of two daemons at once one gets
the slot. The backlog stays in the catalog, where it is in a fair order: a tick asks for no more than `MAX_REQUESTS`
runs, and for none that would only wait in the queue behind many of its organisation or its server.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING

import dagster as dg

from datasense_assets.automation.room import MAX_REQUESTS, Room
from datasense_assets.automation.slots import next_due, schedule_problem
from datasense_assets.catalog.times import now
from datasense_assets.connectors import has_history
from datasense_assets.running import tags as t
from datasense_assets.running.graph_index import GraphIndex, KeyPath, SourceEntry
from datasense_assets.running.owners import catalog_engine
from datasense_assets.running.partitions import source_partitions
from datasense_assets.settings import Settings

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from datasense_assets.catalog.state import DueSource

RUN_KEY = "dagster/run_key"
_MOST_PARTITIONS = 31
_FIVE_FIELDS = "Write a cron expression of five fields, for example 0 6 * * *, or the name of a schedule."
_IN_PROGRESS = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def slot_key(source_id: int, slot: datetime) -> str:
    """The run key of a source's slot: the same in every daemon."""
    return f"source-{source_id}@{slot.astimezone(UTC).isoformat()}"


def in_progress_runs(instance: dg.DagsterInstance) -> Sequence[dg.DagsterRun]:
    """Runs that wait or run now: one query, as long as the queue and not the catalog."""
    return instance.get_runs(filters=dg.RunsFilter(statuses=_IN_PROGRESS))


def busy_sources(runs: Iterable[dg.DagsterRun]) -> set[tuple[str, str]]:
    """(org, source) of every source that a run in progress loads what is new of.

    A backfill does not: while it holds the source the slot stays due, and is served when it ends.
    """
    return {
        key
        for run in runs
        if run.tags.get(t.LANE) != t.Lane.BACKFILL
        for key in t.selected(tuple(k.path) for k in run.asset_selection or ()).sources
    }


def live_tags(entry: SourceEntry, last_success: datetime | None, now: datetime) -> dict[str, str]:
    """Partition tags of a live run: from the partition of the last success to the running one, 31 at most.

    Dagster writes an event for each partition of a range when the run is made, one insert each; what a run fills beyond
    its range is marked by the run itself. A source without history fills the running partition alone, one whose first
    partition lies ahead none.
    """
    partitions = source_partitions(entry.org, entry.source)
    keys = partitions.get_partition_keys(current_time=now)[-_MOST_PARTITIONS:]
    if not keys:
        return {}
    last = keys[-1]
    first = last
    if has_history(entry.source.connector) and last_success is not None:
        earlier = partitions.get_partition_keys(current_time=last_success)
        first = earlier[-1] if earlier and earlier[-1] in keys else keys[0]
    if first == last:
        return {t.PARTITION: last}
    return {t.RANGE_START: first, t.RANGE_END: last}


def run_request(
    entry: SourceEntry,
    keys: Sequence[KeyPath],
    *,
    run_key: str,
    asked: Mapping[str, str],
    partition_tags: Mapping[str, str],
) -> dg.RunRequest:
    """A run of `keys` of one source, bearing every tag, so that the coordinator need not ask the catalog.

    `asked`: the tags that say who asks and for what, the lane among them.
    """
    what = t.Selected(sources=frozenset({entry.ident}), recipes=frozenset())
    owner = owner_of_entry(entry)
    return dg.RunRequest(
        run_key=run_key,
        asset_selection=[dg.AssetKey(list(key)) for key in keys],
        tags={**asked, **t.run_tags(asked, what, owner), **partition_tags},
    )


def owner_of_entry(entry: SourceEntry) -> t.Owner:
    """What the tags of a run over the source are made of."""
    source = entry.source
    return t.Owner.of(entry.org.tier.value, source.connector, source.config, source.max_minutes)


def is_placeholder(entry: SourceEntry) -> bool:
    """Whether the graph holds only the asset that stands for a source's unknown tables."""
    return not entry.source.tables


def build_due_sensor(index: GraphIndex, settings: Settings) -> dg.SensorDefinition:
    """The sensor over the sources of `index`."""
    # due in the catalog, and not to be served before the graph is built anew
    unknown: set[int] = set()

    @cache
    def hosts() -> dict[int, str]:
        return {number: owner_of_entry(entry).host for number, entry in index.sources.items()}

    @dg.sensor(
        name="due_sources",
        asset_selection=dg.AssetSelection.all(),
        minimum_interval_seconds=settings.due_interval_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Asks for one run of every source whose time has come.",
    )
    def due_sources(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        with catalog_engine().begin() as connection:
            tick = _Tick(context.instance, connection, index, settings, now(), hosts, unknown)
            tick.replan()
            requests = list(tick.due())
        said = tick.words(len(requests))
        if requests:
            context.log.info(said)
        return dg.SensorResult(run_requests=requests, skip_reason=None if requests else said)

    return due_sources


class _Tick:
    """One evaluation: what it saw, and what it could not ask for."""

    def __init__(
        self,
        instance: dg.DagsterInstance,
        connection: Connection,
        index: GraphIndex,
        settings: Settings,
        now: datetime,
        hosts: Callable[[], Mapping[int, str]],
        unknown: set[int],
    ) -> None:
        self.hosts, self.unknown = hosts, unknown
        self.instance, self.connection, self.index, self.now = instance, connection, index, now
        self.shard = settings.shard
        self.jitter_limit = timedelta(minutes=settings.jitter_minutes)
        self.settled = self.not_in_graph = self.left_to_others = 0
        self.counts: dict[str, int] = {}

    def replan(self) -> None:
        """Count the next slot of sources whose schedule, time zone or pause was changed."""
        from datasense_assets.catalog.state import FailureRecord, fail_without_run, set_next_due, sources_to_replan

        for row in sources_to_replan(self.connection, shard=self.shard):
            wrong = schedule_problem(row.schedule)
            if wrong is not None:
                said = FailureRecord("bad_config", f"Its schedule means nothing: {wrong}.", _FIVE_FIELDS)
                fail_without_run(self.connection, row.source_id, said, next_due_at=None)
                continue
            following = next_due(row.schedule, row.timezone, row.source_id, self.now, self.jitter_limit)
            never_run = row.last_success_at is None and row.last_slot is None
            if never_run and row.next_due_at is not None and following is not None:
                following = min(following, row.next_due_at)
            set_next_due(self.connection, row.source_id, following)

    def due(self) -> Iterator[dg.RunRequest]:
        """A run for each source that is due and has room; a slot whose run is seen gives way to the next one."""
        from datasense_assets.catalog.state import count_due, count_due_of, leave_slot, mark_slot_asked

        self.counts = count_due(self.connection, self.now, self.shard)
        if not self.counts.get("waits"):
            return
        runs = in_progress_runs(self.instance)
        busy, room = busy_sources(runs), Room.beside(runs)
        rows = self._rows(room)
        if self.unknown:
            self.not_in_graph = count_due_of(self.connection, self.now, self.unknown)
        for row in rows:
            entry = self.index.sources[row.source_id]
            slot = row.next_due_at
            key = slot_key(row.source_id, slot)
            # Still busy with the slot before: what passes meanwhile coalesces into the next one.
            if entry.ident in busy or (row.slot_asked and self._has_run(key)):
                following = next_due(row.schedule, row.timezone, row.source_id, self.now, self.jitter_limit)
                leave_slot(self.connection, row.source_id, slot, following)
                self.settled += 1
                continue
            try:
                request = self._request(row, entry, key)
            except Exception as error:  # noqa: BLE001 - whatever a row holds that nobody foresaw stops no other's
                self._fail(row, error)
                continue
            if not room.has_place(request.tags):
                continue
            if (row.slot_asked and row.asked_lately) or not mark_slot_asked(self.connection, row.source_id, slot):
                self.left_to_others += 1
                continue
            room.take(request.tags)
            yield request

    def _request(self, row: DueSource, entry: SourceEntry, key: str) -> dg.RunRequest:
        from datasense_assets.catalog.state import WAITED_TOO_LONG

        partition_tags = {} if is_placeholder(entry) else live_tags(entry, row.last_success_at, self.now)
        asked = {t.LANE: t.Lane.SCHEDULED.value, t.LIVE: "true"}
        if row.failures_in_a_row:
            asked[t.FAILING] = "true"
        if self.now - row.next_due_at > WAITED_TOO_LONG:
            asked[t.PRIORITY] = str(t.priority(t.Lane.SCHEDULED, "premium"))
        return run_request(entry, entry.keys, run_key=key, asked=asked, partition_tags=partition_tags)

    def _fail(self, row: DueSource, error: Exception) -> None:
        from datasense_assets.catalog.state import FailureRecord, fail_without_run

        self.settled += 1
        said = f"No run could be asked for: an unexpected error ({type(error).__name__})."
        failure = FailureRecord("defect", said, "Report it as a defect, with the source's row of the catalog.")
        following = next_due(row.schedule, row.timezone, row.source_id, self.now, self.jitter_limit)
        fail_without_run(self.connection, row.source_id, failure, next_due_at=following)

    def _rows(self, room: Room) -> Sequence[DueSource]:
        """More than there is room for, since some of them are settled or wait for a place of their own."""
        from datasense_assets.catalog.state import due_sources

        full_hosts = room.full_hosts()
        held_back = [number for number, host in self.hosts().items() if host in full_hosts] if full_hosts else []
        while True:
            rows = due_sources(
                self.connection,
                self.now,
                4 * MAX_REQUESTS,
                self.shard,
                full_orgs=room.full_orgs(),
                held_back=held_back,
                no_failing=room.is_full_of_failing,
                unknown=self.unknown,
            )
            # many of them, such as all sources of a connector that is gone, would stand before everybody else
            new = {row.source_id for row in rows if not self._is_in_graph(row)}
            if not new:
                return rows
            self.unknown |= new

    def _is_in_graph(self, row: DueSource) -> bool:
        """Whether the graph holds the source, and its tables where some are known."""
        entry = self.index.sources.get(row.source_id)
        return entry is not None and not (is_placeholder(entry) and row.tables)

    def _has_run(self, run_key: str) -> bool:
        found = self.instance.get_run_ids(filters=dg.RunsFilter(tags={RUN_KEY: run_key}), limit=1)
        return bool(found)

    def words(self, asked: int) -> str:
        """What the tick shows: how many it asked for, and why not for the others."""
        waits = self.counts.get("waits", 0)
        no_place = waits - asked - self.settled - self.not_in_graph - self.left_to_others
        found = (
            (asked, "asked for"),
            (self.settled, "queued or running"),
            (no_place, "waiting for a place in the queue"),
            (self.counts.get("running", 0), "being loaded"),
            (self.counts.get("out_of_quota", 0), "waiting for their server's quota"),
            (self.counts.get("paused", 0), "paused"),
            (self.counts.get("empty", 0), "without tables"),
            (self.not_in_graph, "not in the graph yet, which is about to be reloaded"),
            (self.left_to_others, "asked for a moment ago"),
        )
        said = ", ".join(f"{number} {what}" for number, what in found if number > 0)
        return f"of {sum(self.counts.values())} due sources: {said}" if said else "nothing is due"
