"""Dagster's own records of old runs, forgotten where nothing asks for them any more.

Which partitions are filled, and with what, Dagster knows from the events of the runs that filled them: the run that
filled a partition of an asset last is kept, however old, and so is one that only evaluated checks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

import dagster as dg

# Each night looks at as much again as nights may have been missed; what it has left before that is kept for good.
WINDOW = timedelta(days=14)
MOST_A_NIGHT = 50_000
_PAGE = 500
_ENDED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]


@dataclass(frozen=True)
class Forgotten:
    """How many runs were (or would be) forgotten, and how many of that age are kept."""

    forgotten: int
    kept: int


def forget_runs(
    instance: dg.DagsterInstance, before: datetime, *, dry_run: bool = False, most: int = MOST_A_NIGHT
) -> Forgotten:
    """Delete the records and events of runs that ended and were made in the two weeks before `before`."""
    needed = _Needed(instance)
    forgotten = kept = 0
    for run_id in list(_run_ids(instance, before, most)):
        if needed.is_needed(run_id):
            kept += 1
            continue
        forgotten += 1
        if not dry_run:
            instance.delete_run(run_id)
    return Forgotten(forgotten, kept)


def _run_ids(instance: dg.DagsterInstance, before: datetime, most: int) -> Iterator[str]:
    """The oldest first."""
    found = dg.RunsFilter(statuses=_ENDED, created_before=before, created_after=before - WINDOW)
    cursor: str | None = None
    while most > 0:
        page = instance.get_run_ids(filters=found, cursor=cursor, limit=min(_PAGE, most))
        yield from page
        most -= len(page)
        if len(page) < _PAGE:
            return
        cursor = page[-1]


class _Needed:
    """Which runs hold what is known of a partition; each asset and partition is asked for once."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self.instance = instance
        self.latest: dict[tuple[dg.AssetKey, str | None], int] = {}

    def is_needed(self, run_id: str) -> bool:
        filled = self.instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION).records
        if not filled:
            checks = self.instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION)
            return bool(checks.records)
        for record in filled:
            event = record.event_log_entry.dagster_event
            if event is None or event.asset_key is None:
                continue
            if self._latest(event.asset_key, event.partition) <= record.storage_id:
                return True
        return False

    def _latest(self, key: dg.AssetKey, partition: str | None) -> int:
        known = self.latest.get((key, partition))
        if known is None:
            of = dg.AssetRecordsFilter(asset_key=key, asset_partitions=[partition] if partition is not None else None)
            records = self.instance.fetch_materializations(of, limit=1).records
            known = self.latest[key, partition] = records[0].storage_id if records else -1
        return known
