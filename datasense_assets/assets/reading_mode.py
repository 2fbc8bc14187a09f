"""What a run reads, from the partitions it was asked for: live, exactly a window, or everything again. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Mode(StrEnum):
    """How a source is read."""

    LIVE = "live"
    BACKFILL = "backfill"
    FULL = "full"
    REREAD = "reread"


@dataclass(frozen=True)
class Reading:
    """The mode, and the partitions that it fills (first and last, both taken in)."""

    mode: Mode
    first: str
    last: str


class PastOfSnapshot(ValueError):
    """An older partition of a source that has no history was asked for."""


def choose_reading(
    asked: Sequence[str],
    current: str,
    *,
    has_history: bool,
    full: bool,
    live: bool,
    reread: bool = False,
) -> Reading:
    """Decide how to read.

    Args:
        asked: partition keys of the run, in order; empty where the run names none.
        current: the key of the partition that is running now.
        has_history: whether the source can be asked for a stretch of time.
        full: everything was asked for again.
        reread: what may have changed of late was asked for again, whatever partition the run names.
        live: the due sensor (or `datasense sync` without a partition) asked: its range only says what to mark.

    A run for the running partition alone is live, as is one marked so, whose range reaches back to the last success.
    Any other range is a backfill: it reads its window, and neither reads nor moves the cursor.

    Raises:
        PastOfSnapshot: an older partition of a source without history.
    """
    first, last = (asked[0], asked[-1]) if asked else (current, current)
    if not has_history and (first != current or last != current) and not live:
        raise PastOfSnapshot(
            f"Partition {first} cannot be filled: this kind of source has no history, it can only be read as it is now."
            f" Materialize the partition {current}."
        )
    if full:
        return Reading(Mode.FULL, first, last)
    if reread and has_history:
        return Reading(Mode.REREAD, first, last)
    if not has_history or live or (first == last == current):
        return Reading(Mode.LIVE, first, last)
    return Reading(Mode.BACKFILL, first, last)
