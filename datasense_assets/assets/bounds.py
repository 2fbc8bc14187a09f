"""What bounds a load besides quotas: the time that its source may take, and the memory and disk of this machine."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import dagster as dg

from datasense_assets.assets.reading_mode import Mode, Reading
from datasense_assets.catalog.models import Source
from datasense_assets.connectors import has_history, max_minutes_of
from datasense_assets.running import tags as t
from datasense_assets.running.failures import NoRoomHere, TookTooLong
from datasense_assets.running.owners import catalog_engine
from datasense_assets.settings import Settings

_MEGABYTE = 1024 * 1024
# Where a container sees its own limit.
_CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class TimeLimit:
    """The moment (seconds of the epoch) up to which a load may go on; it is looked at between pages and tables.

    A load that does not come to its next page is stopped by Dagster, by the tag `dagster/max_runtime`, ten minutes
    later.
    """

    minutes: int
    ends_at: float

    @classmethod
    def of_run(cls, context: dg.AssetExecutionContext, started_at: float, source: Source) -> TimeLimit:
        """Counted from the start of the run (seconds of the epoch), retries, their waits and runs before it included.

        Those before are the ones in whose place Dagster made this run. Where it had stopped one of them there is no
        time left: else what hangs would hang again, and nobody would have written down why.
        """
        minutes = source.max_minutes or max_minutes_of(source.connector)
        before = _taken_before(context)
        left = minutes * 60 - sum(before)
        hard = context.run.tags.get(t.MAX_RUNTIME, "")
        if hard.isdecimal() and max(before, default=0.0) >= int(hard):
            left = 0
        return cls(minutes, started_at + left)

    def check(self) -> None:
        """Raise TookTooLong where the time is over."""
        if time.time() >= self.ends_at:
            raise TookTooLong(self.minutes)


def _taken_before(context: dg.AssetExecutionContext) -> list[float]:
    """Seconds that each run took whose worker was lost and in whose place this one is."""
    tags = context.run.tags
    if t.RETRY_NUMBER not in tags or t.ROOT_RUN not in tags:
        return []
    root = context.instance.get_run_record_by_id(tags[t.ROOT_RUN])
    others = context.instance.get_run_records(dg.RunsFilter(tags={t.ROOT_RUN: tags[t.ROOT_RUN]}))
    return [
        record.end_time - record.start_time
        for record in [*([root] if root else []), *others]
        if record.start_time is not None and record.end_time is not None
    ]


def refuse_heavy_without_room(source: Source, reading: Reading, settings: Settings) -> None:
    """Keep a heavy load from a machine that is short of memory or disk.

    Light is what reads only what is new: a source with history that has been loaded before, live.

    Raises:
        NoRoomHere: there is less free than the settings ask for.

    """
    said = shortage(settings.min_free_memory_mb, settings.min_free_disk_mb, settings.home)
    if said is not None and _is_heavy(source, reading):
        raise NoRoomHere(said, again_after=settings.no_room_wait_seconds)


def shortage(memory_mb: int, disk_mb: int, folder: Path) -> str | None:
    """A sentence where less memory, or less disk below `folder`, is free than that (0: any); None where it is not."""
    import psutil

    there = next(path for path in (folder, *folder.parents) if path.exists())
    memory, disk = _free_memory() // _MEGABYTE, psutil.disk_usage(str(there)).free // _MEGABYTE
    if memory < memory_mb:
        return f"This machine has {memory} MB of memory free, less than the {memory_mb} MB that a heavy load needs."
    if disk < disk_mb:
        return f"This machine has {disk} MB of disk free, less than the {disk_mb} MB that a heavy load needs."
    return None


def _free_memory() -> int:
    """Bytes that may still be taken: of the machine, or of the container where that is given less."""
    import psutil

    free = int(psutil.virtual_memory().available)
    # a limit of "max" is no number, and other systems have none of these files
    with suppress(OSError, ValueError, KeyError):
        limit, used = (int((_CGROUP / name).read_text()) for name in ("memory.max", "memory.current"))
        stat = dict(line.split() for line in (_CGROUP / "memory.stat").read_text().splitlines())
        # what was read from files and is kept in case it is read again counts as used, and is given back when needed
        free = min(free, limit - used + int(stat["inactive_file"]))
    return free


def _is_heavy(source: Source, reading: Reading) -> bool:
    if reading.mode is not Mode.LIVE or not has_history(source.connector):
        return True
    from sqlalchemy import select

    from datasense_assets.catalog.tables import source_status

    with catalog_engine().connect() as connection:
        query = select(source_status.c.last_success_at).where(source_status.c.source_id == source.id)
        return connection.execute(query).scalar_one_or_none() is None
