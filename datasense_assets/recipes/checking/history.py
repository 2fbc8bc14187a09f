"""Whether a number of rows has changed too much: by limits that someone set, or by what has been usual.

Field data comes in bursts: nothing on a Sunday, thousands on a campaign day, an empty table for a month before the
first. A distance from the median in median absolute deviations (MAD) alone is no guide: where most loads bring nothing
the MAD is 0 and every campaign day is infinitely far. So a change is unusual only if it is far from the median *and*
beyond all that the history has seen *and* large beside the table itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from statistics import median

from datasense_assets.recipes.language.checks import FEWEST_LOADS, RowCountChangeCheck

MAD_TO_SIGMA = 1.4826
"""A normal distribution's standard deviation in MADs."""

_SIGMAS = 6.0
_LARGE_FALL = 0.5
_EXPLOSION = 5.0
_ENOUGH_ROWS = 1000
_FEW_ROWS = 30
_SAME_LEVEL = 0.2
_KEPT = 0.8
_OFTEN = 0.05
_WEEKDAYS_SHOW = timedelta(days=14)


@dataclass(frozen=True)
class LoadCount:
    """How many rows a table had after a load. `accepted`: the number was taken for right."""

    at: datetime
    rows: int
    accepted: bool = True


@dataclass(frozen=True)
class Judgement:
    """`settled`: the same number as the last one, which was objected to, came again; it is taken for right now."""

    passed: bool
    message: str
    settled: bool = False


def judge(check: RowCountChangeCheck, history: Sequence[LoadCount], rows: int, now: datetime) -> Judgement:
    """Judge a new number of rows by the loads before, oldest first.

    It is compared with the last number that was accepted, so that a table which has lost its rows stays objected to.
    Only where the check warns does a number that comes twice become the new level.
    """
    accepted = [each for each in history if each.accepted]
    if not accepted:
        return Judgement(True, f"{rows} rows; there is no earlier load to compare with.")
    last = history[-1]
    if check.severity == "warn" and not last.accepted and _is_near(last.rows, rows):
        return Judgement(True, f"{rows} rows; that is the level now, as at the load before.", settled=True)
    past = accepted[-check.loads :]
    problem = _by_limits(check, past[-1].rows, rows) if not check.is_learnt else _unusual(past, rows, now)
    if problem is not None:
        return Judgement(False, problem)
    if check.is_learnt and len(past) < FEWEST_LOADS:
        return Judgement(True, f"{rows} rows; too few loads yet to know what is usual ({len(past)} of {FEWEST_LOADS}).")
    return Judgement(True, f"{rows} rows, {past[-1].rows} before.")


def _is_near(one: int, other: int) -> bool:
    return abs(one - other) <= _SAME_LEVEL * max(one, other)


def _by_limits(check: RowCountChangeCheck, before: int, rows: int) -> str | None:
    if before == 0:
        return None
    change = 100 * (rows - before) / before
    if check.max_drop_percent is not None and -change > check.max_drop_percent:
        return f"{rows} rows, {-change:.0f} % fewer than the {before} before; {check.max_drop_percent:g} % are allowed."
    if check.max_growth_percent is not None and change > check.max_growth_percent:
        return f"{rows} rows, {change:.0f} % more than the {before} before; {check.max_growth_percent:g} % are allowed."
    return None


def _unusual(past: Sequence[LoadCount], rows: int, now: datetime) -> str | None:
    """What is unusual about the new number; None where nothing is, or where too little is known."""
    counts = [each.rows for each in past]
    before, loads = counts[-1], len(past)
    if loads < FEWEST_LOADS or rows == before or max(rows, before) < _FEW_ROWS:
        return None
    if _goes_up_and_down(counts):
        # Two weeks show what a Sunday looks like.
        if now - past[0].at >= _WEEKDAYS_SHOW and _leaves_its_levels(counts, rows):
            return f"{rows} rows; in {loads} loads it had {min(counts)} to {max(counts)}."
    elif rows < before and _falls(counts, rows):
        return f"{rows} rows, {before} before: it has never lost so many in {loads} loads."
    elif rows > before and _grows(past, rows, now):
        return f"{rows} rows, {before} before: it has never gained so many in {loads} loads."
    return None


def _goes_up_and_down(counts: Sequence[int]) -> bool:
    """Whether the table is filled anew each time, such as with the rows of a day, and not added to."""
    falls = sum(after < _KEPT * before for before, after in pairwise(counts))
    return falls >= 2 and falls >= _OFTEN * len(counts)


def _leaves_its_levels(counts: Sequence[int], rows: int) -> bool:
    if not _far(rows, counts):
        return False
    return rows < min(counts) / _EXPLOSION or (rows >= _ENOUGH_ROWS and rows > _EXPLOSION * max(counts))


def _falls(counts: Sequence[int], rows: int) -> bool:
    ratios = [_ratio(after, before) for before, after in pairwise(counts)]
    fall = _ratio(rows, counts[-1])
    return fall < math.log(_LARGE_FALL) and fall < min(ratios) and _far(fall, ratios)


def _grows(past: Sequence[LoadCount], rows: int, now: datetime) -> bool:
    """Whether the table looks as if it was loaded twice, or has exploded, as by a join on a key that repeats."""
    counts = [each.rows for each in past]
    gains = [after - before for before, after in pairwise(counts)]
    steps = [(after.at - before.at).total_seconds() for before, after in pairwise(past)]
    # After a gap, such as a source that was paused, the rows of all the time since come at once.
    patience = max(1.0, (now - past[-1].at).total_seconds() / max(median(steps), 1.0))
    before, gain = counts[-1], rows - counts[-1]
    if gain <= max(gains) * patience or not _far(gain / patience, gains):
        return False
    usual = max(0.0, median(gains)) * patience
    doubled = any(0.995 * times * before <= rows <= 1.005 * times * (before + 2 * usual) for times in (2, 3))
    return before > 0 and (doubled or (before >= _ENOUGH_ROWS and rows >= _EXPLOSION * before))


def _ratio(rows: int, before: int) -> float:
    """The change as a logarithm; no rows at all count as half a one."""
    return math.log(max(rows, 0.5) / max(before, 0.5))


def _far(value: float, seen: Sequence[float]) -> bool:
    """Whether the value is many deviations from the median of those seen, on either side."""
    middle = median(seen)
    spread = MAD_TO_SIGMA * median([abs(each - middle) for each in seen])
    return abs(value - middle) > _SIGMAS * spread
