"""Rows of a UTF-8 CSV file as pages of Arrow text columns: streamed, exact about ragged rows, bounded in memory.

The fast path is Arrow's streaming reader with every column as text: empty is null, quoted empty is text. Rows of
another width than the header's are handed to `_Ragged` by Arrow's `invalid_row_handler`, with their number among the
file's records (exact because the reader runs without threads; empty lines are not records). A short row is given the
delimiters it lacks and read again by the same reader, so that quoting means the same, and goes back to its place. A
longer row is rejected, unless what is too much is empty. The number of a rejected row becomes a line of the file, line
breaks in quoted values counted, by `LineFinder`.
"""

from __future__ import annotations

import io
import re
import sqlite3
from collections import deque
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from datasense_assets.connectors.base import ROW_ID, ReadStats, Rejected
from datasense_assets.connectors.csv_dialect import Header, LineFinder
from datasense_assets.connectors.csv_text import Utf8Text
from datasense_assets.connectors.errors import BadConfig, BadData

PAGE_ROWS = 20_000
BLOCK_BYTES = 8 * 1024**2
RAW_CHARACTERS = 500


@dataclass(frozen=True)
class RowPage:
    """`data` has the columns and `_ds_row_id`; `rejected` the rows of the same stretch of the file."""

    data: pa.Table
    rejected: tuple[Rejected, ...]


def read_rows(
    text: Utf8Text, header: Header, *, key: tuple[str, ...], where: str, stats: ReadStats, seen: Path
) -> Iterator[RowPage]:
    """Yield pages of at most 20,000 rows.

    Args:
        text: the file.
        header: its delimiter and columns.
        key: columns that identify a row; () for the row's number among the records.
        where: the file's name in messages.
        stats: `padded_rows` is counted here.
        seen: path of a temporary database of the keys met so far; made only where there is a key.

    Raises:
        BadData: a value is larger than 8 MB (a quote is not closed), or every row is wider than the header.

    """
    good = bad = 0
    last: str | None = None  # the last value of the file's last record, where that was read
    finder = LineFinder(text, header)
    try:
        with closing(_Keys(key, header, seen, where)) as keys:
            for numbers, table, rejected in _pages(_blocks(text, header, where, stats)):
                data, refused = keys.identify(table, numbers)
                every = sorted([*rejected, *refused], key=lambda r: r.number)
                good, bad = good + data.num_rows, bad + len(every)
                if table.num_rows:
                    last = table.column(header.keys[-1])[-1].as_py()
                if rejected and (not table.num_rows or rejected[-1].number > numbers[-1].as_py()):
                    last = None
                found = (Rejected(finder.line_of(r.number), r.reason, r.raw[:RAW_CHARACTERS]) for r in every)
                yield RowPage(data, tuple(found))
    finally:
        finder.close()
    _refuse_swallowed(text, last, where)
    if bad and not good:
        raise BadData(
            f"{where}: not one of the {bad:,} rows could be read; the header has {len(header.keys)} columns.",
            advice="Check `header_row`, `delimiter` and `key` in the source's config.",
        )


@dataclass(frozen=True)
class _Refused:
    number: int
    reason: str
    raw: str


_Block = tuple[pa.Array, pa.Table, list[_Refused]]


def _pages(blocks: Iterator[_Block]) -> Iterator[_Block]:
    """Blocks cut into pages of 20,000 rows; a rejected row goes with the page that its number falls in."""
    for numbers, table, rejected in blocks:
        waiting = deque(rejected)
        for start in range(0, max(table.num_rows, 1), PAGE_ROWS):
            page, page_numbers = table.slice(start, PAGE_ROWS), numbers.slice(start, PAGE_ROWS)
            is_last = start + PAGE_ROWS >= table.num_rows
            here = []
            while waiting and (is_last or waiting[0].number < page_numbers[-1].as_py()):
                here.append(waiting.popleft())
            yield page_numbers, page, here


def _blocks(text: Utf8Text, header: Header, where: str, stats: ReadStats) -> Iterator[_Block]:
    """Arrow's blocks with the number of each row, padded rows put back in their place, and the rows refused."""
    if not _has_more(text.path, header.offset):
        return
    ragged: deque[pacsv.InvalidRow] = deque()

    def keep(row: Any) -> str:
        ragged.append(row)
        return "skip"

    parser = _Parser(header, quoted=text.quotes > 0)
    following = 1
    with pa.OSFile(str(text.path)) as file, _arrow_errors(where):
        file.seek(header.offset)
        reader = parser.stream(file, keep)
        for batch in reader:
            runs, following, taken = _number(batch.num_rows, following, ragged)
            numbers = pa.concat_arrays([pa.array(run, pa.int64()) for run in runs or [range(0)]])
            yield _mended(pa.Table.from_batches([batch]), numbers, taken, parser, stats)
        _, _, taken = _number(0, following, ragged)
        if taken:
            yield _mended(parser.empty(), pa.array([], pa.int64()), taken, parser, stats)


def _number(rows: int, following: int, ragged: deque[Any]) -> tuple[list[range], int, list[Any]]:
    """Numbers of the next `rows` good records, the number after them, and the ragged records among and behind them."""
    runs: list[range] = []
    taken: list[Any] = []
    while True:
        if ragged and ragged[0].number == following:
            taken.append(ragged.popleft())
            following += 1
        elif rows:
            length = min(rows, ragged[0].number - following) if ragged else rows
            runs.append(range(following, following + length))
            following += length
            rows -= length
        else:
            return runs, following, taken


def _mended(table: pa.Table, numbers: pa.Array, ragged: list[Any], parser: _Parser, stats: ReadStats) -> _Block:
    refused: list[_Refused] = []
    mended_numbers: list[int] = []
    lines: list[str] = []
    for row in ragged:
        line = parser.mended(row.text, row.expected_columns - row.actual_columns)
        if line is None:
            reason = f"has {row.actual_columns} values, the header {row.expected_columns} columns"
            refused.append(_Refused(row.number, reason, row.text))
            continue
        stats.padded_rows += row.actual_columns < row.expected_columns
        mended_numbers.append(row.number)
        lines.append(line)
    if not lines:
        return numbers, table, refused
    parts = parser.parse(lines)
    for number, line, part in zip(mended_numbers, lines, parts, strict=True):
        if part is None:
            refused.append(_Refused(number, "opens a quote that is not closed", line))
    kept = [number for number, part in zip(mended_numbers, parts, strict=True) if part is not None]
    whole = pa.concat_tables([table, *(part for part in parts if part is not None)])
    all_numbers = pa.concat_arrays([numbers, pa.array(kept, pa.int64())])
    order = pc.sort_indices(all_numbers)
    refused.sort(key=lambda r: r.number)
    return all_numbers.take(order), whole.take(order), refused


class _Parser:
    """Arrow's reader with one set of options, for the file and for mended rows alike."""

    def __init__(self, header: Header, *, quoted: bool) -> None:
        self._delimiter = header.delimiter
        self._keys = list(header.keys)
        self._quoted = quoted
        self._convert = pacsv.ConvertOptions(
            column_types=dict.fromkeys(self._keys, pa.string()),
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
            null_values=[""],
            check_utf8=False,  # proved when the file was opened
        )

    def stream(self, file: Any, handler: Any) -> Any:
        return pacsv.open_csv(
            file, read_options=self._read_options(), parse_options=self._options(handler), convert_options=self._convert
        )

    def empty(self) -> pa.Table:
        return pa.schema([(key, pa.string()) for key in self._keys]).empty_table()

    def mended(self, raw: str, lacking: int) -> str | None:
        """The row with the delimiters it lacks, or without surplus ones at its end; None: too many values."""
        if lacking > 0:
            return raw + self._delimiter * lacking
        surplus = re.search(rf'(?:{re.escape(self._delimiter)}(?:"")?){{{-lacking}}}\Z', raw)
        return raw[: surplus.start()] if surplus else None

    def parse(self, lines: list[str]) -> list[pa.Table | None]:
        """One-row tables of the lines; None for a line that is no single row."""
        table = self._parsed("\n".join(lines))
        if table is not None and table.num_rows == len(lines):
            return [table.slice(i, 1) for i in range(len(lines))]
        singles = [self._parsed(line) for line in lines]
        return [t if t is not None and t.num_rows == 1 else None for t in singles]

    def _parsed(self, body: str) -> pa.Table | None:
        wrong: list[Any] = []

        def refuse(row: Any) -> str:
            wrong.append(row)
            return "skip"

        try:
            table = pacsv.read_csv(
                io.BytesIO(body.encode()),
                read_options=self._read_options(),
                parse_options=self._options(refuse),
                convert_options=self._convert,
            )
        except pa.ArrowInvalid:
            return None
        return None if wrong else table

    def _read_options(self) -> pacsv.ReadOptions:
        return pacsv.ReadOptions(column_names=self._keys, block_size=BLOCK_BYTES, use_threads=False)

    def _options(self, handler: Any) -> pacsv.ParseOptions:
        return pacsv.ParseOptions(
            delimiter=self._delimiter, newlines_in_values=self._quoted, invalid_row_handler=handler
        )


class _Keys:
    r"""Gives rows their `_ds_row_id`: the row's number, or the key columns joined by `|` (itself and `\` escaped).

    Rows without a key, and later rows with the key of an earlier one, are refused. The keys met so far are kept in a
    database on disk, so that memory stays bounded.
    """

    def __init__(self, key: tuple[str, ...], header: Header, seen: Path, where: str) -> None:
        self._columns = [_key_column(name, header, where) for name in key]
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

    def identify(self, page: pa.Table, numbers: pa.Array) -> tuple[pa.Table, list[_Refused]]:
        if self._seen is None:
            return page.append_column(ROW_ID, numbers.cast(pa.string())), []
        parts = [page.column(name) for name in self._columns]
        if len(parts) == 1:
            ids = parts[0].to_pylist()
        else:
            escaped = [pc.replace_substring_regex(p, r"([\\|])", r"\\\1") for p in parts]
            ids = pc.binary_join_element_wise(*escaped, "|").to_pylist()
        keep: list[bool] = []
        refused: list[_Refused] = []
        for position, row_id in enumerate(ids):
            reason = self._refusal(row_id)
            keep.append(reason is None)
            if reason is not None:
                values = page.slice(position, 1).to_pylist()[0].values()
                raw = " | ".join("" if value is None else value for value in values)
                refused.append(_Refused(numbers[position].as_py(), reason, raw))
        return page.append_column(ROW_ID, pa.array(ids, pa.string())).filter(pa.array(keep, pa.bool_())), refused

    def _refusal(self, row_id: str | None) -> str | None:
        assert self._seen is not None  # noqa: S101  asked only where there is a key
        if row_id is None:
            return f"has no value in its key ({', '.join(self._columns)})"
        if self._seen.execute("INSERT OR IGNORE INTO seen VALUES (?)", (row_id,)).rowcount == 0:
            return f"has the same key ({', '.join(self._columns)}) as an earlier row"
        return None


def _key_column(name: str, header: Header, where: str) -> str:
    if name in header.keys:
        return name
    if name in header.labels:
        return header.keys[header.labels.index(name)]
    raise BadConfig(
        f"{where} has no column {name!r} to use as a key.", advice=f"Its columns are: {', '.join(header.keys)}."
    )


def _has_more(path: Path, offset: int) -> bool:
    with path.open("rb") as file:
        file.seek(offset)
        while chunk := file.read(1 << 20):
            if chunk.strip(b"\r\n"):
                return True
    return False


@contextmanager
def _arrow_errors(where: str) -> Iterator[None]:
    try:
        yield
    except pa.ArrowInvalid as error:
        if "straddling" in str(error) or "out of sync" in str(error):
            raise BadData(
                f"{where} holds a row of more than {BLOCK_BYTES:,} bytes: most likely a quote is not closed.",
                advice='Close it, or double a quote (") that is part of a quoted text.',
            ) from None
        raise BadData(f"{where} cannot be read as CSV: {str(error)[:200]}", advice="Check the file.") from None


def _refuse_swallowed(text: Utf8Text, last: str | None, where: str) -> None:
    """A quote that is never closed makes the rest of the file one value: refuse that, rather than lose its rows."""
    if text.quotes % 2 == 0 or last is None or "\n" not in last:
        return
    swallowed = ('"' + last.replace('"', '""')).encode()
    with text.path.open("rb") as file:
        file.seek(max(0, text.path.stat().st_size - len(swallowed)))
        if file.read() == swallowed:
            raise BadData(
                f"{where} opens a quote near its end and does not close it: rows would be lost.",
                advice='Close it, or double a quote (") that is part of a quoted text.',
            )
