"""What the doctor finds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

# What tenants write and what fills up by itself: said at each start, and no reason to keep a whole platform down.
_CHANGES_WHILE_IT_RUNS = frozenset({"places", "quotas", "secrets", "shards", "disk"})


class Level(StrEnum):
    """`fine`; `note`: holds today, and worth a look; `wrong`: cannot hold; `unseen`: it could not be looked at."""

    FINE = "fine"
    NOTE = "note"
    WRONG = "wrong"
    UNSEEN = "unseen"


@dataclass(frozen=True)
class Finding:
    """One thing looked at: what was found in a sentence with its numbers, the sum behind it, and what to do."""

    name: str
    level: Level
    said: str
    fix: str = ""
    sums: tuple[str, ...] = ()


def fine(name: str, said: str, *sums: str) -> Finding:
    """Nothing to do."""
    return Finding(name, Level.FINE, said, sums=sums)


def note(name: str, said: str, fix: str, *sums: str) -> Finding:
    """Worth a look."""
    return Finding(name, Level.NOTE, said, fix, sums)


def wrong(name: str, said: str, fix: str, *sums: str) -> Finding:
    """It cannot hold."""
    return Finding(name, Level.WRONG, said, fix, sums)


def worst(findings: Iterable[Finding]) -> Level:
    """The level of all of them together: `wrong` before `unseen` before `note`."""
    levels = {finding.level for finding in findings}
    return next((each for each in (Level.WRONG, Level.UNSEEN, Level.NOTE) if each in levels), Level.FINE)


def against_starting(findings: Iterable[Finding]) -> list[Finding]:
    """Those for which nothing of a production is started: what operators have set, and what could not be seen."""
    bad = (Level.WRONG, Level.UNSEEN)
    return [each for each in findings if each.level in bad and each.name not in _CHANGES_WHILE_IT_RUNS]
