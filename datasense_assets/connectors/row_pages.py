"""From rows of any file format to pages: row ids, keys that repeat, rejected rows with their lines, several files.

A format yields blocks of text columns with each row's number; what is the same for all formats is here.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pyarrow.compute as pc

from datasense_assets.connectors.base import ROW_ID, ColumnInfo, Page, Rejected
from datasense_assets.connectors.errors import BadConfig, BadData

PAGE_ROWS = 20_000
RAW_CHARACTERS = 500


@dataclass(frozen=True)
class Refused:
    """A row that could not be read: its number among the file's records, why, and its raw text."""

    number: int
    reason: str
    raw: str


@dataclass(frozen=True)
class Block:
    """Rows in their order: `numbers` (int64) of the rows of `data` (all text), and the rows refused among them."""

    numbers: pa.Array
    data: pa.Table
    refused: list[Refused]

    @property
    def last(self) -> int:
        """The highest number in it, 0 where it is empty."""
        read = self.numbers[-1].as_py() if len(self.numbers) else 0
        return max(read, self.refused[-1].number if self.refused else 0)


class RowReader(Protocol):
    """One opened file of rows. `columns` are described, `padded` counts rows that were filled up, `notes` are what is
    to be said of the file when it has been read.
    """

    where: str
    columns: tuple[ColumnInfo, ...]
    padded: int
    notes: list[str]

    def blocks(self) -> Iterator[Block]:
        """Every row once, read or refused, in order; raise SourceError."""

    def line_of(self, number: int) -> int:
        """The line (or row, as people count it) of a record; asked in ascending order as `blocks` is gone through."""


@dataclass(frozen=True)
class NamedReader:
    """A reader, and the value of the file column in its rows; None where the table has no such column."""

    reader: RowReader
    name: str | None = None


def read_pages(readers: Sequence[NamedReader], key: tuple[str, ...], file_column: str, seen: Path) -> Iterator[Page]:
    """Pages of at most 20,000 rows, of one file after the other.

    Args:
        readers: the files of one table.
        key: columns that identify a row in all of them together; () for the row's number, after its file's name.
        file_column: key of the column with the file's name.
        seen: path of a temporary database of the keys met so far; made only where there is a key.

    Raises:
        BadConfig: a file has no such key column.
        BadData: not one row of a file could be read.

    """
    with closing(_Keys(key, seen)) as keys:
        for named in readers:
            yield from _pages_of(named, keys, file_column)


def _pages_of(named: NamedReader, keys: _Keys, file_column: str) -> Iterator[Page]:
    reader = named.reader
    keys.of(reader.columns, reader.where)
    good = bad = 0
    for block in _cut(reader.blocks()):
        page, refused = keys.identify(block.data, block.numbers, named.name)
        good, bad = good + page.num_rows, bad + len(block.refused) + (0 if named.name else len(refused))
        if named.name is not None:
            page = page.append_column(file_column, pa.repeat(pa.scalar(named.name, pa.string()), page.num_rows))
        prefix = f"{named.name}: " if named.name else ""
        rejected = tuple(
            Rejected(reader.line_of(each.number), prefix + each.reason, each.raw[:RAW_CHARACTERS])
            for each in sorted([*block.refused, *refused], key=lambda each: each.number)
        )
        yield Page(path=(), data=page, rejected=rejected)
    if bad and not good:
        raise BadData(
            f"{reader.where}: not one of the {bad:,} rows could be read; the header has {len(reader.columns)} columns.",
            advice="Check `header_row`, `delimiter`, `format` and `key` in the source's config.",
        )


def _cut(blocks: Iterator[Block]) -> Iterator[Block]:
    """Blocks of at most 20,000 rows; a refused row goes with the block that its number falls in."""
    for block in blocks:
        waiting = deque(block.refused)
        rows = block.data.num_rows
        for start in range(0, max(rows, 1), PAGE_ROWS):
            numbers = block.numbers.slice(start, PAGE_ROWS)
            is_last = start + PAGE_ROWS >= rows
            here = []
            while waiting and (is_last or waiting[0].number < numbers[-1].as_py()):
                here.append(waiting.popleft())
            yield Block(numbers, block.data.slice(start, PAGE_ROWS), here)


class _Keys:
    r"""Gives rows their `_ds_row_id`: the row's number, or the key columns joined by `|` (itself and `\` escaped).

    Rows without a key, and later rows with the key of an earlier one, are refused. The keys met so far are kept in a
    database on disk, so that memory stays bounded.
    """

    def __init__(self, key: tuple[str, ...], seen: Path) -> None:
        self._key = key
        self._columns: list[str] = []
        self._seen: sqlite3.Connection | None = None
        if key:
            self._seen = sqlite3.connect(seen, isolation_level=None)
            self._seen.execute("PRAGMA journal_mode=OFF")
            self._seen.execute("PRAGMA synchronous=OFF")
            self._seen.execute("DROP TABLE IF EXISTS seen")
            self._seen.execute("CREATE TABLE seen (id TEXT PRIMARY KEY) WITHOUT ROWID")

    def close(self) -> None:
        if self._seen is not None:
            self._seen.close()

    def of(self, columns: Sequence[ColumnInfo], where: str) -> None:
        """The files that follow have these columns."""
        self._columns = [_key_column(name, columns, where) for name in self._key]

    def identify(self, page: pa.Table, numbers: pa.Array, name: str | None) -> tuple[pa.Table, list[Refused]]:
        if self._seen is None:
            ids = numbers.cast(pa.string())
            if name is not None:
                ids = pc.binary_join_element_wise(name, ids, ":")
            return page.append_column(ROW_ID, ids), []
        nothing = pa.nulls(page.num_rows, pa.string())
        parts = [page.column(c) if c in page.column_names else nothing for c in self._columns]
        if len(parts) == 1:
            ids = parts[0].to_pylist()
        else:
            escaped = [pc.replace_substring_regex(p, r"([\\|])", r"\\\1") for p in parts]
            ids = pc.binary_join_element_wise(*escaped, "|").to_pylist()
        keep: list[bool] = []
        refused: list[Refused] = []
        for position, row_id in enumerate(ids):
            reason = self._refusal(row_id)
            keep.append(reason is None)
            if reason is not None:
                values = page.slice(position, 1).to_pylist()[0].values()
                raw = " | ".join("" if value is None else value for value in values)
                refused.append(Refused(numbers[position].as_py(), reason, raw))
        return page.append_column(ROW_ID, pa.array(ids, pa.string())).filter(pa.array(keep, pa.bool_())), refused

    def _refusal(self, row_id: str | None) -> str | None:
        assert self._seen is not None  # noqa: S101  asked only where there is a key
        if row_id is None:
            return f"has no value in its key ({', '.join(self._columns)})"
        if self._seen.execute("INSERT OR IGNORE INTO seen VALUES (?)", (row_id,)).rowcount == 0:
            return f"has the same key ({', '.join(self._columns)}) as an earlier row"
        return None


def _key_column(name: str, columns: Sequence[ColumnInfo], where: str) -> str:
    for column in columns:
        if name == column.key:
            return name
    for column in columns:
        if name == column.label:
            return column.key
    raise BadConfig(
        f"{where} has no column {name!r} to use as a key.",
        advice=f"Its columns are: {', '.join(column.key for column in columns)}.",
    )
