"""Cells of a spreadsheet as text: dates from serial numbers, and the header that names the columns.

A date comes as a number of days since 1899-12-30; only the cell's number format tells it from any other number. So
both count: the format of the cell, or of its column's sample where the cell's own was not read, and the values of the
whole column, since a time of day in one of them makes the column a column of moments.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

from datasense_assets.catalog.times import offset_at
from datasense_assets.connectors.csv_dialect import distinct_keys
from datasense_assets.connectors.google_ranges import Area

EPOCH = datetime(1899, 12, 30)
ERRORS = frozenset({"#NULL!", "#DIV/0!", "#VALUE!", "#REF!", "#NAME?", "#NUM!", "#N/A", "#ERROR!"})
DATE, MOMENT, TIME, DURATION, PERCENT, PLAIN = "date", "moment", "time", "duration", "percent", "plain"
_FORMATS = {"DATE": DATE, "DATE_TIME": MOMENT, "TIME": TIME, "PERCENT": PERCENT}
_NUMBERS = frozenset({PERCENT, PLAIN})
_DAY_MS = 86_400_000
_EXACT_INTEGER = 2**63


def is_number(value: object) -> bool:
    """Whether the cell holds a number (Python's booleans are integers too)."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def format_kind(number_format: Mapping[str, Any] | None) -> str:
    """What a number of that `numberFormat` stands for; `[h]:mm` in its pattern is a length of time."""
    found = number_format or {}
    kind = _FORMATS.get(str(found.get("type")), PLAIN)
    if kind == TIME and re.search(r"\[(?:h+|m+|s+)\+?\]", str(found.get("pattern", "")), re.I):
        return DURATION
    return kind


@dataclass
class ColumnFormats:
    """What is known of one column: kinds of number formats by row, and what its numbers are like over all rows.

    `whole`: the format of every row was read.
    """

    kinds: dict[int, str] = field(default_factory=dict)
    whole: bool = False
    has_fraction: bool = False
    numbers: int = 0

    def see(self, value: Any) -> None:
        """Take one value into account."""
        if is_number(value):
            self.numbers += 1
            self.has_fraction = self.has_fraction or value % 1 != 0

    @property
    def is_mixed(self) -> bool:
        """Whether the formats of its numbers do not agree on what they are."""
        kinds = (PLAIN if kind in _NUMBERS else MOMENT if kind == DATE else kind for kind in self.kinds.values())
        return len(set(kinds)) > 1

    @property
    def has_some_percentages(self) -> bool:
        """Whether some of its numbers are percentages and others are plain numbers."""
        return set(self.kinds.values()) >= _NUMBERS

    @property
    def has_moments(self) -> bool:
        """Whether its dates have a time of day."""
        found = set(self.kinds.values())
        return MOMENT in found or (DATE in found and self.has_fraction and not self.is_mixed)

    def kind_of(self, row: int) -> str:
        """What a number in that row stands for."""
        if row in self.kinds:
            kind = self.kinds[row]
        elif self.whole or not self.kinds:
            return PLAIN
        else:
            kind = next(iter(self.kinds.values()))
        return MOMENT if kind == DATE and self.has_moments else kind


def cell_text(value: Any, kind: str, zone: ZoneInfo | None) -> str | None:
    """A cell's value as text; None for an empty one.

    Args:
        value: as `UNFORMATTED_VALUE` sends it.
        kind: what a number stands for: one of `DATE`, `MOMENT`, `TIME`, `DURATION`, `PERCENT` (a fraction), `PLAIN`.
        zone: the spreadsheet's own; a moment gets its offset (none: it has no offset).

    """
    if value is None or value == "":
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if not is_number(value):
        return str(value)
    if kind not in _NUMBERS and math.isfinite(value):
        written = _from_serial(float(value), kind, zone)
        if written is not None:
            return written
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT_INTEGER:
        return str(int(value))
    return repr(value)


def _from_serial(serial: float, kind: str, zone: ZoneInfo | None) -> str | None:
    milliseconds = round(serial * _DAY_MS)
    if kind == DURATION or (kind == TIME and 0 <= milliseconds < _DAY_MS):
        return _clock(milliseconds)
    try:
        moment = EPOCH + timedelta(milliseconds=milliseconds)
        if kind == DATE and milliseconds % _DAY_MS == 0:
            return moment.date().isoformat()
        if zone is not None:
            offset = offset_at(moment, zone)
            moment = moment.replace(tzinfo=timezone(offset))
            if offset.total_seconds() % 60:  # local mean time, before zones
                moment = moment.astimezone(UTC)
    except (OverflowError, ValueError):
        return None  # a number that is no date: it stays as it is
    return moment.isoformat(timespec="milliseconds" if moment.microsecond else "seconds")


def _clock(milliseconds: int) -> str:
    seconds, rest = divmod(abs(milliseconds), 1000)
    sign = "-" if milliseconds < 0 else ""
    fraction = f".{rest:03d}" if rest else ""
    return f"{sign}{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}{fraction}"


@dataclass(frozen=True)
class SheetHeader:
    """Labels as written and distinct keys, one for each column of the table, headed or not."""

    labels: tuple[str, ...]
    keys: tuple[str, ...]


def read_header(
    rows: Mapping[int, Sequence[str | None]], area: Area, merges: Sequence[Area], width: int
) -> SheetHeader:
    """Name the columns.

    Args:
        rows: texts of the header's rows by their index in the tab, from the area's first column on.
        area: the table's cells.
        merges: merged cells of the tab: what their first cell says is said of all.
        width: how many columns the table has, with those that only data has.

    """
    parts: list[list[str]] = [[] for _ in range(width)]
    for row in sorted(rows):
        for column in range(width):
            text = " ".join((_merged(rows, row, column, area, merges) or "").split())
            if text and text not in parts[column][-1:]:
                parts[column].append(text)
    labels = tuple(" / ".join(each) for each in parts)
    return SheetHeader(labels, distinct_keys(labels))


def _merged(
    rows: Mapping[int, Sequence[str | None]], row: int, column: int, area: Area, merges: Sequence[Area]
) -> str | None:
    own = rows[row][column] if column < len(rows[row]) else None
    if own:
        return own
    place = column + area.left
    for merge in merges:
        if merge.top <= row < merge.bottom and merge.left <= place < merge.right:
            first = rows.get(merge.top, ())
            at = merge.left - area.left
            return first[at] if 0 <= at < len(first) else None
    return own
