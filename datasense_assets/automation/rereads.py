"""The reread sensor: once a night, what may have been edited at each source is read again.

Forms say nothing of edits, so the last days of each are read again by night, or, where the source's config asks for it,
all of it once a week. A night is asked for as a slot of the due sensor is: with a run key made of source and slot, the
next night being set when a run of that key is seen. The runs are in the backfill lane, behind whatever is new.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import dagster as dg

from datasense_assets.automation.due import RUN_KEY, in_progress_runs, is_placeholder, run_request
from datasense_assets.automation.nights import first_moment, is_weekly_night, next_night
from datasense_assets.catalog.times import now
from datasense_assets.connectors import rereading
from datasense_assets.connectors.registry import HISTORY_KINDS
from datasense_assets.running import tags as t
from datasense_assets.running.graph_index import GraphIndex, SourceEntry
from datasense_assets.running.owners import catalog_engine
from datasense_assets.running.partitions import source_partitions
from datasense_assets.settings import Settings

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from datasense_assets.catalog.state import DueReread

# The rest of the night's work waits in the catalog and not in the queue.
MOST_IN_QUEUE = 20
INTERVAL_SECONDS = 60


def reread_key(source_id: int, slot: datetime) -> str:
    """The run key of a source's night: the same in every daemon."""
    return f"reread-{source_id}@{slot.astimezone(UTC).isoformat()}"


def build_reread_sensor(index: GraphIndex, settings: Settings) -> dg.SensorDefinition:
    """The sensor over the sources of `index`."""

    @dg.sensor(
        name="nightly_rereads",
        asset_selection=dg.AssetSelection.all(),
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Asks, once a night a source, for what may have been edited to be read again.",
    )
    def nightly_rereads(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        with catalog_engine().begin() as connection:
            tick = _Tick(context.instance, connection, index, settings, now())
            tick.plan()
            requests = list(tick.due())
        return dg.SensorResult(run_requests=requests, skip_reason=None if requests else "nothing is to be read again")

    return nightly_rereads


class _Tick:
    """One evaluation."""

    def __init__(
        self, instance: dg.DagsterInstance, connection: Connection, index: GraphIndex, settings: Settings, now: datetime
    ) -> None:
        self.instance, self.connection, self.index, self.now = instance, connection, index, now
        self.shard = settings.shard

    def plan(self) -> None:
        """Give every source that has none its next night."""
        from datasense_assets.catalog.state import set_reread_due, sources_without_reread

        for source_id, timezone in sources_without_reread(self.connection, HISTORY_KINDS, shard=self.shard):
            set_reread_due(self.connection, source_id, next_night(source_id, timezone, self.now))

    def due(self) -> Iterator[dg.RunRequest]:
        """A run for each source whose night has come, as long as the queue is short."""
        from datasense_assets.catalog.state import due_rereads, mark_reread_asked

        rows = due_rereads(self.connection, self.now, MOST_IN_QUEUE * 2, self.shard)
        waiting = [run for run in in_progress_runs(self.instance) if t.REREAD in run.tags] if rows else []
        busy = {key for run in waiting for key in t.selected(tuple(k.path) for k in run.asset_selection or ()).sources}
        room = MOST_IN_QUEUE - len(waiting)
        for row in rows:
            entry = self.index.sources.get(row.source_id)
            asked = None if entry is None else _asked(entry, row, self.now)
            # still busy with the night before, or nothing to do: the next night will do
            if entry is None or asked is None or entry.ident in busy or self._is_served(row):
                self._settle(row)
            elif room > 0 and mark_reread_asked(self.connection, row.source_id, row.due_at):
                room -= 1
                key = reread_key(row.source_id, row.due_at)
                yield run_request(entry, entry.keys, run_key=key, asked=asked, partition_tags={})

    def _is_served(self, row: DueReread) -> bool:
        if not row.slot_asked:
            return False
        tags = {RUN_KEY: reread_key(row.source_id, row.due_at)}
        return bool(self.instance.get_run_ids(filters=dg.RunsFilter(tags=tags), limit=1))

    def _settle(self, row: DueReread) -> None:
        from datasense_assets.catalog.state import set_reread_due

        set_reread_due(self.connection, row.source_id, next_night(row.source_id, row.timezone, self.now))


def _asked(entry: SourceEntry, row: DueReread, now: datetime) -> dict[str, str] | None:
    """The tags that say what to read again, and the partition that is running; None for a source that wants nothing,
    or whose tables or partitions are not there yet.
    """
    wanted = rereading(entry.source.connector, entry.source.config, entry.source.full_reload)
    keys = source_partitions(entry.org, entry.source).get_partition_keys(current_time=now)
    if is_placeholder(entry) or not keys:
        return None
    lane = {t.LANE: t.Lane.BACKFILL.value, t.PARTITION: keys[-1]}
    if wanted.weekly and is_weekly_night(row.source_id, row.timezone, row.due_at):
        return {**lane, t.FULL: "true", t.REREAD: t.REREAD_ALL}
    if wanted.days:
        return {**lane, t.REREAD: first_moment(row.due_at, row.timezone, wanted.days).isoformat()}
    return None
