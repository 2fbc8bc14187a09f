"""A spreadsheet as Google Sheets keeps it: tabs of cells with number formats, merged cells, named ranges, A1 ranges.

What it says is written from Google's reference of API v4 and shares nothing with the connector.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]
EPOCH = dt.datetime(1899, 12, 30)


class RangeError(Exception):
    """A range that cannot be read; the words are Google's."""


@dataclass(frozen=True)
class Cell:
    """What a cell holds, and its number format's type and pattern ("" for none)."""

    value: bool | float | str | None
    type: str = ""
    pattern: str = ""

    @property
    def is_dated(self) -> bool:
        return self.type in ("DATE", "TIME", "DATE_TIME") and isinstance(self.value, int | float)

    def formatted(self) -> str:
        """As the user sees it."""
        if self.value is None:
            return ""
        if isinstance(self.value, bool):
            return str(self.value).upper()
        if isinstance(self.value, str):
            return self.value
        if self.is_dated:
            moment = EPOCH + dt.timedelta(days=self.value)
            return moment.strftime({"DATE": "%d/%m/%Y", "TIME": "%H:%M:%S"}.get(self.type, "%d/%m/%Y %H:%M:%S"))
        if self.type == "PERCENT":
            return f"{self.value * 100:g}%"
        return f"₹{self.value:,.2f}" if self.type == "CURRENCY" else f"{self.value:g}"

    def rendered(self, option: str, date_option: str) -> Any:
        if option == "FORMATTED_VALUE":
            return self.formatted()
        if self.is_dated and date_option == "FORMATTED_STRING":
            return self.formatted()
        return self.value


def cell(value: Any) -> Cell:
    """A cell of a Python value: dates and times become serial numbers with the format Google gives them."""
    if isinstance(value, Cell):
        return value
    if isinstance(value, dt.datetime):
        return Cell((value - EPOCH) / dt.timedelta(days=1), "DATE_TIME", "dd/mm/yyyy hh:mm:ss")
    if isinstance(value, dt.date):
        return Cell((dt.datetime.combine(value, dt.time()) - EPOCH).days, "DATE", "dd/mm/yyyy")
    if isinstance(value, dt.time):
        seconds = value.hour * 3600 + value.minute * 60 + value.second
        return Cell(seconds / 86400, "TIME", "hh:mm:ss")
    if isinstance(value, dt.timedelta):
        return Cell(value / dt.timedelta(days=1), "TIME", "[h]:mm:ss")
    return Cell(None if value == "" else value)


@dataclass(frozen=True)
class Box:
    """Cells of a tab, from 0, ends exclusive."""

    tab: Tab
    top: int
    left: int
    bottom: int
    right: int

    def grid_range(self) -> Json:
        return {
            "sheetId": self.tab.id,
            "startRowIndex": self.top,
            "endRowIndex": self.bottom,
            "startColumnIndex": self.left,
            "endColumnIndex": self.right,
        }

    def a1(self) -> str:
        title = self.tab.title
        shown = title if re.fullmatch(r"[A-Za-z_]\w*", title) else "'" + title.replace("'", "''") + "'"
        return f"{shown}!{_letters(self.left)}{self.top + 1}:{_letters(self.right - 1)}{self.bottom}"

    def values(self, option: str, date_option: str) -> list[list[Any]]:
        """Rows with trailing empty cells and rows left out; an empty cell between others is ""."""
        rows: list[list[Any]] = []
        for r in range(self.top, self.bottom):
            row: list[Any] = []
            for c in range(self.left, self.right):
                value = self.tab.at(r, c).rendered(option, date_option)
                row.append("" if value is None else value)
            while row and row[-1] == "":
                row.pop()
            rows.append(row)
        while rows and not rows[-1]:
            rows.pop()
        return rows

    def grid_data(self) -> Json:
        """As `includeGridData` shows it: zeros are left out, empty cells are `{}`."""
        rows = []
        for r in range(self.top, self.bottom):
            cells = []
            for c in range(self.left, self.right):
                one = self.tab.at(r, c)
                if one.value is None and not one.type:
                    cells.append({})
                    continue
                shown: Json = {"formattedValue": one.formatted()}
                if one.type:
                    number_format = {"type": one.type} | ({"pattern": one.pattern} if one.pattern else {})
                    shown["userEnteredFormat"] = shown["effectiveFormat"] = {"numberFormat": number_format}
                else:
                    shown["effectiveFormat"] = {"padding": {"left": 3}}
                cells.append(shown)
            rows.append({"values": cells})
        places = {"startRow": self.top, "startColumn": self.left}
        return {name: place for name, place in places.items() if place} | {"rowData": rows}


@dataclass
class Tab:
    """A tab. `merges` are A1 ranges in it; `grid` its size where it is larger than its rows."""

    title: str
    rows: list[list[Any]] = field(default_factory=list)
    id: int = 0
    merges: Sequence[str] = ()
    grid: tuple[int, int] = (1000, 26)
    kind: str = "GRID"

    @property
    def row_count(self) -> int:
        return max(self.grid[0], len(self.rows))

    @property
    def column_count(self) -> int:
        return max([self.grid[1], *(len(row) for row in self.rows)])

    def merged(self) -> list[Box]:
        return [self.box(merge) for merge in self.merges]

    def at(self, row: int, column: int) -> Cell:
        if row >= len(self.rows) or column >= len(self.rows[row]):
            return Cell(None)
        for merge in self.merged():
            inside = merge.top <= row < merge.bottom and merge.left <= column < merge.right
            if inside and (row, column) != (merge.top, merge.left):
                return Cell(None)
        return cell(self.rows[row][column])

    def box(self, cells: str) -> Box:
        """`A1`, `A1:B2`, `A2:C`, `2:3` or `B:B`; raises RangeError."""
        match = re.fullmatch(r"([A-Za-z]*)(\d*)(?::([A-Za-z]*)(\d*))?", cells)
        if match is None or not (match[1] or match[2]):
            raise RangeError(f"Unable to parse range: {self.title}!{cells}")
        end_column, end_row = (match[3], match[4]) if ":" in cells else (match[1], match[2])
        left, top = (_index(match[1]) if match[1] else 0), (int(match[2]) - 1 if match[2] else 0)
        right = _index(end_column) + 1 if end_column else self.column_count
        bottom = int(end_row) if end_row else self.row_count
        if top >= self.row_count or left >= self.column_count:
            raise RangeError(
                f"Range ({self.title}!{cells}) exceeds grid limits. "
                f"Max rows: {self.row_count}, max columns: {self.column_count}"
            )
        return Box(self, top, left, min(bottom, self.row_count), min(right, self.column_count))


@dataclass
class Book:
    """A spreadsheet; `shared` are the accounts that may read it."""

    id: str
    title: str
    tabs: list[Tab]
    shared: set[str] = field(default_factory=set)
    timezone: str = "Asia/Kolkata"
    named: Mapping[str, str] = field(default_factory=dict)
    modified: str = "2026-03-01T10:00:00.000Z"
    is_office_file: bool = False

    def __post_init__(self) -> None:
        for position, tab in enumerate(self.tabs):
            tab.id = tab.id or position * 1000  # the first tab's id is 0, as in a new spreadsheet

    def touch(self) -> None:
        """Have Drive say that it has changed, a minute after the last time."""
        moment = dt.datetime.fromisoformat(self.modified) + dt.timedelta(minutes=1)
        self.modified = moment.strftime("%Y-%m-%dT%H:%M:%S.000Z")

    def tab(self, title: str) -> Tab | None:
        return next((tab for tab in self.tabs if tab.title.casefold() == title.casefold()), None)

    def box(self, text: str) -> Box:
        """A range in A1 notation, or a named one; raises RangeError."""
        quoted = re.fullmatch(r"'((?:[^']|'')*)'(?:!(.+))?", text)
        if quoted:
            title, cells = quoted[1].replace("''", "'"), quoted[2]
        elif text in self.named:
            return self.box(self.named[text])
        elif "!" in text:
            title, _, cells = text.rpartition("!")
        elif self.tab(text) is not None:
            title, cells = text, None
        else:
            title, cells = self.tabs[0].title, text
        tab = self.tab(title)
        if tab is None or tab.kind != "GRID":
            raise RangeError(f"Unable to parse range: {text}")
        if cells is None:
            return Box(tab, 0, 0, tab.row_count, tab.column_count)
        try:
            return tab.box(cells)
        except RangeError as error:
            raise RangeError(str(error) if "exceeds" in str(error) else f"Unable to parse range: {text}") from None

    def described(self, ranges: Sequence[str], *, data: bool) -> Json:
        """`spreadsheets.get`, unmasked."""
        boxes = [self.box(text) for text in ranges]
        sheets = []
        for index, tab in enumerate(self.tabs):
            asked = [box for box in boxes if box.tab is tab]
            if ranges and not asked:
                continue
            sheets.append(self._sheet(index, tab, asked, data=data))
        named = [
            {"namedRangeId": f"n{i}", "name": name, "range": self.box(text).grid_range()}
            for i, (name, text) in enumerate(self.named.items())
        ]
        answer: Json = {
            "spreadsheetId": self.id,
            "properties": {
                "title": self.title,
                "locale": "en_GB",
                "autoRecalc": "ON_CHANGE",
                "timeZone": self.timezone,
            },
            "sheets": sheets,
            "spreadsheetUrl": f"https://docs.google.com/spreadsheets/d/{self.id}/edit",
        }
        return answer | ({"namedRanges": named} if named else {})

    def _sheet(self, index: int, tab: Tab, asked: Sequence[Box], *, data: bool) -> Json:
        properties: Json = {"sheetId": tab.id, "title": tab.title, "index": index, "sheetType": tab.kind}
        if tab.kind != "GRID":
            return {"properties": properties}
        properties["gridProperties"] = {"rowCount": tab.row_count, "columnCount": tab.column_count}
        sheet: Json = {"properties": properties}
        if tab.merges:
            sheet["merges"] = [box.grid_range() for box in tab.merged()]
        if data:
            whole = [Box(tab, 0, 0, tab.row_count, tab.column_count)]
            sheet["data"] = [box.grid_data() for box in asked or whole]
        return sheet


def masked(value: Any, mask: str) -> Any:
    """What a `fields` mask leaves of a JSON value: `a,b(c,d/e),f.g`."""
    wanted: dict[str, list[str]] = {}
    for part in _parts(mask):
        match = re.fullmatch(r"(\w+|\*)(?:[./](.+)|\((.+)\))?", part)
        if match is None:
            raise RangeError(f"Invalid field selection {part}")
        wanted.setdefault(match[1], []).append(match[2] or match[3] or "*")
    return _picked(value, wanted)


def _picked(value: Any, wanted: Mapping[str, list[str]]) -> Any:
    if isinstance(value, list):
        return [_picked(item, wanted) for item in value]
    if not isinstance(value, dict) or "*" in wanted:
        return value
    return {k: v if "*" in wanted[k] else masked(v, ",".join(wanted[k])) for k, v in value.items() if k in wanted}


def _parts(mask: str) -> list[str]:
    parts, depth, start = [], 0, 0
    for i, letter in enumerate(mask):
        depth += (letter == "(") - (letter == ")")
        if letter == "," and depth == 0:
            parts.append(mask[start:i])
            start = i + 1
    return [part.strip() for part in [*parts, mask[start:]]]


def _letters(index: int) -> str:
    return (_letters(index // 26 - 1) if index >= 26 else "") + chr(65 + index % 26)


def _index(letters: str) -> int:
    number = 0
    for letter in letters.upper():
        number = number * 26 + ord(letter) - 64
    return number - 1
