"""Sheets of a workbook (xlsx, xlsb, xls, ods) as rows of text, through calamine.

A cell's own type decides how it is written: dates as dates, `TRUE` as true, a number without a fraction as an integer,
the text `007` as it is. The whole sheet is in memory, as in whatever program made it. A formula's error, and a formula
whose result the file does not hold, are empty, and the column says how many and where.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
from python_calamine import (
    CalamineError,
    CalamineSheet,
    CalamineWorkbook,
    PasswordError,
    SheetTypeEnum,
    SheetVisibleEnum,
)

from datasense_assets.connectors.base import ColumnInfo
from datasense_assets.connectors.errors import BadData
from datasense_assets.connectors.excel_faults import find_faults
from datasense_assets.connectors.excel_notes import column_notes, no_header
from datasense_assets.connectors.google_cells import read_header
from datasense_assets.connectors.google_ranges import Area
from datasense_assets.connectors.personal import looks_personal
from datasense_assets.connectors.row_pages import PAGE_ROWS, Block

_EXACT_INTEGER = 2**63


def sheet_names(path: Path, where: str) -> dict[str, bool]:
    """Sheets that hold cells, in the workbook's order, and whether they are visible.

    Raises:
        BadData: the workbook cannot be read.

    """
    visible = SheetVisibleEnum.Visible
    kinds = SheetTypeEnum.WorkSheet
    return {s.name: s.visible == visible for s in _opened(path, where).sheets_metadata if s.typ == kinds}


def _opened(path: Path, where: str) -> CalamineWorkbook:
    try:
        return CalamineWorkbook.from_path(str(path))
    except PasswordError:
        raise BadData(f"{where} is protected by a password.", advice="Save it without a password.") from None
    except CalamineError as error:
        raise BadData(f"{where} is a damaged workbook ({error}).", advice="Open it, save it again.") from None


class EmptySheet(BadData):
    """A sheet without any value."""


class ExcelRows:
    """The rows of one sheet. A row without any value is left out; a row's number is the sheet's own."""

    def __init__(self, path: Path, sheet: str, header_rows: Sequence[int], where: str) -> None:
        """Read the sheet.

        Raises:
            BadData: it cannot be read, is empty, or has no header where it should be.

        """
        self.where, self.padded = where, 0
        self.notes: list[str] = []
        workbook = _opened(path, where)
        try:
            found = workbook.get_sheet_by_name(sheet)
            cells: list[list[Any]] = found.to_python(skip_empty_area=False)
        except CalamineError as error:
            raise BadData(f"{where} cannot be read ({error}).", advice="Open it, save it again.") from None
        header_at = [number - 1 for number in header_rows]
        self._first = header_at[-1] + 1
        self._faults = find_faults(path, found)
        if self._faults.is_binary:
            self.notes.append(
                f"{where}: in an xls or xlsb workbook errors such as #N/A cannot be told from empty cells. "
                "Save it as xlsx to be told of them."
            )
        # calamine ends where all that follows is empty to it
        told = {(at, i) for at, i in self._faults.empty if at >= self._first}
        full = {at for at, row in enumerate(cells) if at >= self._first and any(value != "" for value in row)}
        self._rows = [(at, cells[at] if at < len(cells) else []) for at in sorted(full | {at for at, _ in told})]
        header = {at: cells[at] if at < len(cells) else [] for at in header_at}
        self._refuse_headless(header, cells)
        width = max([*(len(row) for row in cells), *(i + 1 for _, i in told)], default=0)
        with_time = self._columns_with_time(width)
        self._with_time = with_time
        texts = {at: [cell_text(value, has_time=False) for value in row] for at, row in header.items()}
        area = Area(0, sheet, 0, 0, len(cells), width)
        merges = _merges(found)
        named = read_header(texts, area, merges, width)
        full_merges = [m for m in merges if m.top >= self._first and _value_at(cells, m.top, m.left) != ""]
        filled = {i for _, row in self._rows for i, value in enumerate(row) if value != ""}
        filled |= {i for _, i in told}
        self._kept = [i for i in range(width) if named.labels[i] or i in filled]
        notes = column_notes(self._faults, full_merges, header_at[0])
        self.columns = tuple(
            ColumnInfo(key, label or key, personal=looks_personal(key, label), notes=notes.get(i, ()))
            for i, key, label in ((i, named.keys[i], named.labels[i]) for i in self._kept)
        )

    def blocks(self) -> Iterator[Block]:
        """Every row that holds a value."""
        for start in range(0, len(self._rows), PAGE_ROWS):
            chunk = self._rows[start : start + PAGE_ROWS]
            data = {
                info.key: pa.array([self._text(row, index) for _, row in chunk], pa.string())
                for index, info in zip(self._kept, self.columns, strict=True)
            }
            yield Block(pa.array([at + 1 for at, _ in chunk], pa.int64()), pa.table(data), [])

    def line_of(self, number: int) -> int:
        """The sheet's row."""
        return number

    def _text(self, row: Sequence[Any], index: int) -> str | None:
        return cell_text(row[index], has_time=index in self._with_time) if index < len(row) else None

    def _columns_with_time(self, width: int) -> set[int]:
        """Columns where a date has a time of day in some row: then all their dates are moments."""
        return {i for i in range(width) for _, row in self._rows if i < len(row) and isinstance(row[i], datetime)}

    def _refuse_headless(self, header: dict[int, list[Any]], cells: list[list[Any]]) -> None:
        if any(value != "" for row in header.values() for value in row):
            return
        first = next((at for at, row in enumerate(cells) if any(value != "" for value in row)), None)
        unstored = sorted(place for place in self._faults.unstored if place[0] in header or first is None)
        if unstored:
            raise no_header(self.where, unstored)
        if first is None:
            raise EmptySheet(f"{self.where} is empty.", advice="Fill it in; the table keeps its last rows meanwhile.")
        rows = ", ".join(str(at + 1) for at in header)
        raise BadData(
            f"{self.where} has no header in row {rows}, though row {first + 1} holds values.",
            advice=f"If the header is there, set `header_row: {first + 1}`.",
        )


def cell_text(value: Any, *, has_time: bool) -> str | None:
    """A cell as text, None for an empty one; `has_time`: a date is written as the start of its day."""
    if value is None or value == "":
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < _EXACT_INTEGER else repr(value)
    if isinstance(value, datetime):
        return value.isoformat(timespec="milliseconds" if value.microsecond else "seconds")
    if isinstance(value, date):
        return f"{value.isoformat()}T00:00:00" if has_time else value.isoformat()
    if isinstance(value, time):
        return value.isoformat(timespec="milliseconds" if value.microsecond else "seconds")
    if isinstance(value, timedelta):
        seconds = round(value.total_seconds())
        sign, seconds = ("-", -seconds) if seconds < 0 else ("", seconds)
        return f"{sign}{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
    return str(value)


def _value_at(cells: list[list[Any]], row: int, column: int) -> Any:
    return cells[row][column] if row < len(cells) and column < len(cells[row]) else ""


def _merges(sheet: CalamineSheet) -> list[Area]:
    ranges = sheet.merged_cell_ranges or []
    return [Area(0, sheet.name, top, left, bottom + 1, right + 1) for (top, left), (bottom, right) in ranges]
