"""Where tables are in a spreadsheet: tabs, named ranges and ranges in A1 notation as rectangles of cells.

Pure functions of the spreadsheet's metadata. Indexes count from 0 and ends are exclusive, as in Google's GridRange;
rows in messages and in A1 notation count from 1.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from datasense_assets.connectors.errors import BadConfig, ResourceGone

METADATA_FIELDS = (
    "properties(title,locale,timeZone),sheets(properties(sheetId,title,sheetType,gridProperties(rowCount,columnCount))"
    ",merges),namedRanges"
)
_A1 = re.compile(r"(?:'((?:[^']|'')+)'|([^'!]+))!([A-Za-z]{0,3})([0-9]{0,8})(?::([A-Za-z]{0,3})([0-9]{0,8}))?")
_NAMES_SHOWN = 20
_MERGES_SHOWN = 3


@dataclass(frozen=True)
class Area:
    """A rectangle of cells of one tab."""

    sheet_id: int
    sheet: str
    top: int
    left: int
    bottom: int
    right: int

    @property
    def cells(self) -> int:
        """How many there are."""
        return max(0, self.bottom - self.top) * max(0, self.right - self.left)

    def rows(self, top: int, bottom: int) -> Area:
        """The same columns between two rows of the tab."""
        return replace(self, top=max(self.top, top), bottom=min(self.bottom, bottom))

    def columns(self, left: int, right: int) -> Area:
        """The same rows between two columns of the tab."""
        return replace(self, left=max(self.left, left), right=min(self.right, right))

    def a1(self) -> str:
        """A1 notation with the tab's name quoted: without quotes, a named range of that name would be meant."""
        quoted = self.sheet.replace("'", "''")
        return f"'{quoted}'!{column_letters(self.left)}{self.top + 1}:{column_letters(self.right - 1)}{self.bottom}"


def merged_notes(merges: Sequence[Area], column: int) -> list[str]:
    """What is to be said of a column in which cells under the header are merged: all but the first are empty."""
    found = [m for m in merges if m.left <= column < m.right and (m.left < column or m.bottom - m.top > 1)]
    if not found:
        return []
    places = [f"{column_letters(m.left)}{m.top + 1}:{column_letters(m.right - 1)}{m.bottom}" for m in found]
    more = f" and {len(places) - _MERGES_SHOWN:,} more" if len(places) > _MERGES_SHOWN else ""
    return [
        f"has merged cells ({', '.join(places[:_MERGES_SHOWN])}{more}), of which only the first holds the value, and "
        "the others are empty. Unmerge them and fill each, where the value is meant for all"
    ]


@dataclass(frozen=True)
class Book:
    """A spreadsheet's metadata. `tabs` by title, `named` by name; `merges` are the merged cells by tab's id."""

    title: str
    timezone: str
    tabs: Mapping[str, Area]
    named: Mapping[str, Area]
    merges: Mapping[int, tuple[Area, ...]]

    def area(self, resource: str) -> Area:
        """The cells of a tab's title, `gid=` and its number, a named range, or a range in A1 notation.

        Raises:
            ResourceGone: there is no such tab or named range.
            BadConfig: a range is outside its tab.

        """
        if resource in self.tabs:
            return self.tabs[resource]
        name = resource.removeprefix("range:")
        if name in self.named:
            return self.named[name]
        for tab in self.tabs.values():
            if resource == f"gid={tab.sheet_id}":
                return tab
        match = _A1.fullmatch(resource)
        title = "" if match is None else match[1].replace("''", "'") if match[1] else str(match[2])
        if match is None or title not in self.tabs:
            raise self._gone(resource)
        return _within(self.tabs[title], match, resource)

    def resources(self, header_rows: int) -> list[str]:
        """Every tab, then every named range that has room for a row under its header."""
        ranges = [name for name, area in self.named.items() if area.bottom - area.top > header_rows]
        return [*self.tabs, *(f"range:{name}" if name in self.tabs else name for name in ranges)]

    def _gone(self, resource: str) -> ResourceGone:
        names = [*self.tabs, *self.named]
        listed = ", ".join(names[:_NAMES_SHOWN]) + (", ..." if len(names) > _NAMES_SHOWN else "")
        return ResourceGone(
            f"The spreadsheet {self.title!r} has no tab or named range {resource!r}.",
            advice=f"If it was renamed, name it anew in the source's tables. There are: {listed}.",
        )


def read_book(answer: Mapping[str, Any]) -> Book:
    """The metadata as Google sends it; tabs that hold a chart or a data source's table are left out."""
    properties = answer.get("properties") or {}
    tabs: dict[str, Area] = {}
    merges: dict[int, tuple[Area, ...]] = {}
    for sheet in answer.get("sheets") or []:
        tab = sheet.get("properties") or {}
        if tab.get("sheetType", "GRID") != "GRID":
            continue
        grid = tab.get("gridProperties") or {}
        title, sheet_id = str(tab.get("title", "")), int(tab.get("sheetId") or 0)
        area = Area(sheet_id, title, 0, 0, int(grid.get("rowCount") or 0), int(grid.get("columnCount") or 0))
        tabs[title] = area
        merges[sheet_id] = tuple(_grid_range(area, merge) for merge in sheet.get("merges") or [])
    by_id = {area.sheet_id: area for area in tabs.values()}
    named = {}
    for item in answer.get("namedRanges") or []:
        place = item.get("range") or {}
        whole = by_id.get(int(place.get("sheetId") or 0))
        if whole is not None:
            named[str(item.get("name", ""))] = _grid_range(whole, place)
    return Book(
        title=str(properties.get("title", "")),
        timezone=str(properties.get("timeZone", "")),
        tabs=tabs,
        named=named,
        merges=merges,
    )


def column_letters(index: int) -> str:
    """`A` for 0, `AA` for 26."""
    letters = ""
    number = index + 1
    while number > 0:
        number, rest = divmod(number - 1, 26)
        letters = chr(65 + rest) + letters
    return letters


def column_index(letters: str) -> int:
    """0 for `A`, 26 for `AA`."""
    number = 0
    for letter in letters.upper():
        number = number * 26 + ord(letter) - 64
    return number - 1


def _grid_range(whole: Area, place: Mapping[str, Any]) -> Area:
    """A GridRange; a side that is left out is the tab's own."""
    return replace(
        whole,
        top=int(place.get("startRowIndex") or 0),
        left=int(place.get("startColumnIndex") or 0),
        bottom=min(whole.bottom, int(place.get("endRowIndex", whole.bottom))),
        right=min(whole.right, int(place.get("endColumnIndex", whole.right))),
    )


def _within(tab: Area, match: re.Match[str], resource: str) -> Area:
    first_column, first_row, last_column, last_row = match[3], match[4], match[5], match[6]
    left = column_index(first_column) if first_column else 0
    top = int(first_row) - 1 if first_row else 0
    if last_column is None:  # one cell
        last_column, last_row = first_column, first_row
    right = column_index(last_column) + 1 if last_column else tab.right
    bottom = int(last_row) if last_row else tab.bottom
    area = replace(tab, top=top, left=left, bottom=min(bottom, tab.bottom), right=min(right, tab.right))
    if top < 0 or area.bottom <= area.top or area.right <= area.left:
        raise BadConfig(
            f"The range {resource!r} is outside the tab, which has {tab.bottom} rows and {tab.right} columns.",
            advice="Correct it in the source's config.",
        )
    return area
