"""One table of a spreadsheet: its raw cells, in memory or on disk, and what they become: header, keys, pages of text.

Nothing is fetched here. Rows are indexed as in the tab, from 0; cells count from the table's first column.
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any
from zoneinfo import ZoneInfo

import pyarrow as pa

from datasense_assets.connectors.base import ROW_ID, ColumnInfo, Page, Rejected
from datasense_assets.connectors.errors import BadData
from datasense_assets.connectors.google_cells import (
    ERRORS,
    PLAIN,
    ColumnFormats,
    SheetHeader,
    cell_text,
    format_kind,
    is_number,
    read_header,
)
from datasense_assets.connectors.google_keys import SheetKeys
from datasense_assets.connectors.google_ranges import Area, merged_notes
from datasense_assets.connectors.personal import looks_personal

PAGE_ROWS = 20_000
SAMPLE_CELLS = 10_000
RAW_CHARACTERS = 500

Formats = Mapping[tuple[int, int, int], Mapping[str, Any]]


class SheetTable:
    """The cells of one area. `header_rows` count from 1 and from the area's first row."""

    def __init__(
        self, area: Area, header_rows: Sequence[int], merges: Sequence[Area], zone: ZoneInfo | None, where: str
    ) -> None:
        """A table without cells yet; `where` names it in messages."""
        self.area, self.where, self.zone = area, where, zone
        self.is_whole = False
        self._header_at = [area.top + number - 1 for number in header_rows]
        self._merges = merges
        self._header: dict[int, list[Any]] = {row: [] for row in self._header_at}
        self._header_kinds: dict[tuple[int, int], str] = {}
        self._columns: list[ColumnFormats] = []
        self._filled: set[int] = set()
        self._first: int | None = None
        self._last = -1
        self._count = 0
        self._above: int | None = None
        self._memory: list[tuple[int, list[Any]]] = []
        self._disk: IO[str] | None = None

    @property
    def first_data_row(self) -> int:
        """The row under the header."""
        return self._header_at[-1] + 1

    @property
    def row_count(self) -> int:
        """Rows that hold a value, those of the header not counted."""
        return self._count

    def spool(self, folder: Path | None) -> None:
        """Keep rows in a temporary file from now on: the table is too large for memory."""
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        self._disk = tempfile.TemporaryFile("w+", encoding="utf-8", dir=folder)  # noqa: SIM115  closed by `close`

    def close(self) -> None:
        """Delete the temporary file."""
        if self._disk is not None:
            self._disk.close()

    def add(self, top: int, rows: Iterable[list[Any]]) -> None:
        """Take rows from `top` on into account; each row of the table comes once, in order."""
        for row, values in enumerate(rows, start=top):
            if row in self._header:
                self._header[row] = values
            if all(value is None or value == "" for value in values):
                continue
            if row < self.first_data_row:
                self._above = row if self._above is None else self._above
                continue
            self._first = row if self._first is None else self._first
            self._last = row
            self._count += 1
            while len(self._columns) < len(values):
                self._columns.append(ColumnFormats())
            for index, value in enumerate(values):
                if value is not None and value != "":
                    self._filled.add(index)
                    self._columns[index].see(value)
            if self._disk is None:
                self._memory.append((row, values))
            else:
                self._disk.write(json.dumps([row, values]) + "\n")

    def rows(self) -> Iterator[tuple[int, list[Any]]]:
        """Every row of data that holds a value."""
        if self._disk is None:
            yield from self._memory
            return
        self._disk.seek(0)
        for line in self._disk:
            row, values = json.loads(line)
            yield row, values

    def has_header(self) -> bool:
        """Whether a row of the header holds anything."""
        return any(value is not None and value != "" for row in self._header.values() for value in row)

    def is_empty(self) -> bool:
        """Whether no cell that came holds anything."""
        return self._count == 0 and self._above is None and not self.has_header()

    # --- formats

    def sample(self) -> list[Area]:
        """The cells whose number formats tell dates from numbers; [] where there is no number to tell."""
        wide = {i for i, column in enumerate(self._columns) if column.numbers}
        in_header = {i for row in self._header.values() for i, value in enumerate(row) if is_number(value)}
        if not wide | in_header:
            return []
        left = self.area.left
        span = self.area.columns(left + min(wide | in_header), left + max(wide | in_header) + 1)
        top, bottom = self._header_at[0] if in_header else self.first_data_row, self._last + 1
        rows = max(20, SAMPLE_CELLS // (span.right - span.left))
        if bottom - top <= rows:
            return [span.rows(top, max(bottom, self.first_data_row))]
        half = max(rows // 2, self.first_data_row - top)
        return [span.rows(top, top + half), span.rows(bottom - rows // 2, bottom)]

    def take_formats(self, areas: Sequence[Area], found: Formats) -> list[int]:
        """Note the formats of the sample; return the columns whose formats do not agree and must be read whole."""
        for row, values in self._header.items():
            for index, value in enumerate(values):
                if is_number(value):
                    self._header_kinds[row, index] = self._kind(found, row, index)
        for row, values in self.rows():
            if any(area.top <= row < area.bottom for area in areas):
                self._note(found, row, values, range(len(values)))
        for column in self._columns:
            column.whole = len(areas) < 2
        return [i for i, column in enumerate(self._columns) if column.is_mixed and not column.whole]

    def take_column(self, index: int, found: Formats) -> None:
        """Note the formats of a whole column."""
        for row, values in self.rows():
            self._note(found, row, values, (index,))
        self._columns[index].whole = True

    def column_area(self, index: int) -> Area:
        """The data cells of one column."""
        left = self.area.left + index
        return self.area.columns(left, left + 1).rows(self.first_data_row, self._last + 1)

    def _note(self, found: Formats, row: int, values: Sequence[Any], indexes: Iterable[int]) -> None:
        for index in indexes:
            if index < len(values) and is_number(values[index]):
                self._columns[index].kinds[row] = self._kind(found, row, index)

    def _kind(self, found: Formats, row: int, index: int) -> str:
        return format_kind(found.get((self.area.sheet_id, row, self.area.left + index)))

    # --- what it becomes

    def header(self) -> SheetHeader:
        """Labels and keys of every column.

        Raises:
            BadData: the header's rows are empty; the message says where values are.

        """
        if not self.has_header():
            raise self._headless()
        texts = {
            row: [cell_text(value, self._header_kinds.get((row, i), PLAIN), self.zone) for i, value in enumerate(cells)]
            for row, cells in self._header.items()
        }
        headed = max(len(cells) for cells in texts.values())
        first = self._header_at[0]
        for merge in self._merges:  # a merge may reach beyond its text
            if merge.top <= self._header_at[-1] and merge.bottom > first and texts.get(merge.top):
                headed = max(headed, min(merge.right, self.area.right) - self.area.left)
        return read_header(texts, self.area, self._merges, max(headed, len(self._columns)))

    def columns(self) -> list[tuple[int, ColumnInfo]]:
        """Each column that has a header or a value, with its index in the table's cells; raise BadData."""
        header = self.header()
        return [
            (index, ColumnInfo(key=key, label=label or key, personal=looks_personal(key, label)))
            for index, (key, label) in enumerate(zip(header.keys, header.labels, strict=True))
            if label or index in self._filled
        ]

    def pages(self, key: tuple[str, ...], notes: list[str]) -> Iterator[Page]:
        """Pages of at most 20,000 rows, one at least; sentences for the report are added to `notes` at the end.

        Raises:
            BadConfig: a key column is not there.
            BadData: there is no header, or not one row could be read.

        """
        columns = self.columns()
        header = self.header()
        keys = SheetKeys.of(key, header, self.where)
        errors: Counter[str] = Counter()
        good = bad = 0
        names = [info.key for _, info in columns]
        for chunk in _chunks(self.rows(), PAGE_ROWS):
            ids: list[str] = []
            cells: list[list[str | None]] = []
            rejected: list[Rejected] = []
            for row, values in chunk:
                texts = self._texts(row, values, len(header.keys), errors)
                row_id, reason = keys.identify(row, texts)
                if row_id is None:
                    raw = " | ".join(text or "" for text in texts)[:RAW_CHARACTERS]
                    rejected.append(Rejected(row + 1, reason, raw))
                else:
                    ids.append(row_id)
                    cells.append([texts[index] for index, _ in columns])
            good, bad = good + len(ids), bad + len(rejected)
            data = {name: pa.array([row[i] for row in cells], pa.string()) for i, name in enumerate(names)}
            yield Page(path=(), data=pa.table({**data, ROW_ID: pa.array(ids, pa.string())}), rejected=tuple(rejected))
        if bad and not good:
            raise BadData(
                f"{self.where}: not one of its {bad:,} rows could be read.",
                advice="Check `header_row` and `key` in the source's config.",
            )
        self._report(header, errors, notes)

    def _texts(self, row: int, values: Sequence[Any], width: int, errors: Counter[str]) -> list[str | None]:
        texts: list[str | None] = [None] * width
        for index, value in enumerate(values):
            if isinstance(value, str) and value in ERRORS:
                errors[value] += 1
            else:
                texts[index] = cell_text(value, self._columns[index].kind_of(row), self.zone)
        return texts

    def _report(self, header: SheetHeader, errors: Counter[str], notes: list[str]) -> None:
        if errors:
            listed = ", ".join(f"{word} {count}" for word, count in sorted(errors.items()))
            notes.append(f"{self.where}: cells with a formula's error are empty ({listed}).")
        for index, column in enumerate(self._columns):
            if column.is_mixed:
                notes.append(
                    f"{self.where}: {header.keys[index]!r} has dates in some rows and plain numbers or times in others."
                )
            if column.has_some_percentages:
                notes.append(
                    f"{self.where}: {header.keys[index]!r} has percentages in some rows and plain numbers in others; "
                    "25 % is 0.25, and 25 is 25."
                )
            under = [m for m in self._merges if m.top >= self.first_data_row and m.left < self.area.right]
            said = merged_notes(under, self.area.left + index)
            notes += [f"{self.where}: {header.keys[index]!r} {note}." for note in said]
        bare = sum(not header.labels[index] for index in self._filled)
        if bare * 2 > len(self._filled):
            notes.append(
                f"{self.where}: {bare} of {len(self._filled)} columns have no header in "
                f"{self._rows_named()}. If the header was moved, set `header_row`."
            )

    def _rows_named(self) -> str:
        numbers = [str(row + 1) for row in self._header_at]
        return f"row {numbers[0]}" if len(numbers) == 1 else f"rows {', '.join(numbers)}"

    def _headless(self) -> BadData:
        if self.is_empty():
            return BadData(
                f"{self.where} is empty.",
                advice="Fill it in, or take it out of the source's tables; a table loaded before stays.",
            )
        at = self._above if self._above is not None else self._first
        assert at is not None  # noqa: S101  it is not empty
        return BadData(
            f"{self.where} has no header in {self._rows_named()}, though row {at + 1} holds values.",
            advice=f"If the header was moved there, set `header_row: {at + 1 - self.area.top}`.",
        )


def _chunks(rows: Iterator[tuple[int, list[Any]]], size: int) -> Iterator[list[tuple[int, list[Any]]]]:
    chunk: list[tuple[int, list[Any]]] = []
    is_first = True
    for row in rows:
        chunk.append(row)
        if len(chunk) == size:
            yield chunk
            chunk, is_first = [], False
    if chunk or is_first:
        yield chunk
