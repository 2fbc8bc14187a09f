"""Dagster's own records of old runs, forgotten where nothing asks for them any more.

Which partitions are filled, and with what, Dagster knows from the events of the runs that filled them: the run that
filled a partition of an asset last is kept, however old, and so is one that only evaluated checks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from time import monotonic

import dagster as dg

# Each night looks at as much again as nights may have been missed; what it has left before that is kept for good.
WINDOW = timedelta(days=14)
# 75 runs a minute are 108,000 a day; twice that lets a night make up for another.
MOST_A_NIGHT = 216_000
LONGEST_NIGHT = timedelta(hours=3)
_PAGE = 500
_ENDED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]


@dataclass(frozen=True)
class Forgotten:
    """How many runs were (or would be) forgotten, how many of that age are kept, and how many wait for the next night.

    Beyond the `most` that were asked for nothing is counted.
    """

    forgotten: int
    kept: int
    left: int = 0


def forget_runs(
    instance: dg.DagsterInstance,
    before: datetime,
    *,
    dry_run: bool = False,
    most: int = MOST_A_NIGHT,
    longest: timedelta = LONGEST_NIGHT,
) -> Forgotten:
    """Delete the records and events of runs that ended and were made in the two weeks before `before`.

    The oldest come first, so that what is left when `longest` is over is the first that the next night looks at.
    """
    needed = _Needed(instance)
    forgotten = kept = 0
    until = monotonic() + longest.total_seconds()
    found = list(_run_ids(instance, before, most))
    for run_id in found:
        if monotonic() > until:
            break
        if needed.is_needed(run_id):
            kept += 1
            continue
        forgotten += 1
        if not dry_run:
            instance.delete_run(run_id)
    return Forgotten(forgotten, kept, left=len(found) - forgotten - kept)


def _run_ids(instance: dg.DagsterInstance, before: datetime, most: int) -> Iterator[str]:
    """Day by day, the oldest day first: of what it is asked for Dagster gives the newest first."""
    day = timedelta(days=1)
    since = before - WINDOW
    while since < before and most > 0:
        found = dg.RunsFilter(statuses=_ENDED, created_after=since, created_before=since + day)
        cursor: str | None = None
        while most > 0:
            page = instance.get_run_ids(filters=found, cursor=cursor, limit=min(_PAGE, most))
            yield from page
            most -= len(page)
            if len(page) < _PAGE:
                break
            cursor = page[-1]
        since += day


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
