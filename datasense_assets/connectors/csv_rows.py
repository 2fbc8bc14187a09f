"""Rows of a UTF-8 CSV file as pages of Arrow text columns: streamed, exact about ragged rows, bounded in memory.

The fast path is Arrow's streaming reader with every column as text: empty is null, quoted empty is text. Rows of
another width than the header's are handed over by Arrow's `invalid_row_handler`, with their number among the
file's records (exact because the reader runs without threads; empty lines are not records). A short row is given the
delimiters it lacks and read again by the same reader, so that quoting means the same, and goes back to its place. A
longer row is rejected, unless what is too much is empty. The number of a rejected row becomes a line of the file, line
breaks in quoted values counted, by `LineFinder`.
"""

from __future__ import annotations

import io
import re
from collections import deque
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from datasense_assets.connectors.base import ColumnInfo
from datasense_assets.connectors.csv_dialect import Header, LineFinder
from datasense_assets.connectors.csv_text import Utf8Text
from datasense_assets.connectors.errors import BadData
from datasense_assets.connectors.personal import looks_personal
from datasense_assets.connectors.row_pages import Block, Refused

# Arrow reads 32 blocks ahead; a record longer than a block is no record to it, so a file that has one is begun again
BLOCK_BYTES = 1024**2
LONGEST_RECORD = 8 * 1024**2


class _RecordTooLong(BadData):
    """A record is longer than a block."""


class CsvRows:
    """The rows of one CSV file. `columns` have no types: values decide."""

    def __init__(self, text: Utf8Text, header: Header, where: str) -> None:
        """Keep the parts; `where` names the file in messages."""
        self.where, self.padded = where, 0
        self.notes = text.notes(where)
        self.columns = tuple(
            ColumnInfo(key=key, label=label, personal=looks_personal(key, label))
            for key, label in zip(header.keys, header.labels, strict=True)
        )
        self._text, self._header = text, header
        self._finder: LineFinder | None = None

    def blocks(self) -> Iterator[Block]:
        """Arrow's blocks with the number of each row, padded rows put back in their place, and the rows refused.

        Raises:
            BadData: a value is larger than 8 MB, or a quote is never closed: the rest of the file would be one value.

        """
        self.padded = 0
        last: str | None = None  # the last value of the file's last record, where that was read
        with closing(LineFinder(self._text, self._header)) as finder:
            self._finder = finder
            for block in self._blocks_of_any_size():
                if block.data.num_rows:
                    last = block.data.column(self._header.keys[-1])[-1].as_py()
                if block.refused and (not block.data.num_rows or block.refused[-1].number > block.numbers[-1].as_py()):
                    last = None
                yield block
        _refuse_swallowed(self._text, last, self.where)

    def line_of(self, number: int) -> int:
        """The line of the file that the record starts on, line breaks in quoted values counted."""
        assert self._finder is not None  # noqa: S101  asked while blocks are gone through
        return self._finder.line_of(number)

    def _blocks_of_any_size(self) -> Iterator[Block]:
        if not _has_more(self._text.path, self._header.offset):
            return
        delivered = 0
        try:
            for block in self._blocks(min(BLOCK_BYTES, LONGEST_RECORD), 0):
                yield block
                delivered = max(delivered, block.last)
        except _RecordTooLong:
            yield from self._blocks(LONGEST_RECORD, delivered)

    def _blocks(self, size: int, delivered: int) -> Iterator[Block]:
        """Blocks read by so many bytes, without the records up to number `delivered`."""
        text, header = self._text, self._header
        ragged: deque[pacsv.InvalidRow] = deque()

        def keep(row: Any) -> str:
            ragged.append(row)
            return "skip"

        parser = _Parser(header, size, quoted=text.quotes > 0)
        following = 1
        with pa.OSFile(str(text.path)) as file, _arrow_errors(self.where):
            file.seek(header.offset)
            reader = parser.stream(file, keep)
            for batch in reader:
                runs, following, taken = _number(batch.num_rows, following, ragged)
                table = pa.Table.from_batches([batch])
                numbers = pa.concat_arrays([pa.arange(run.start, run.stop) for run in runs or [range(0)]])
                if delivered:
                    new = pc.greater(numbers, delivered)
                    table, numbers = table.filter(new), numbers.filter(new)
                    taken = [row for row in taken if row.number > delivered]
                yield self._mended(table, numbers, taken, parser)
            _, _, taken = _number(0, following, ragged)
            taken = [row for row in taken if row.number > delivered]
            if taken:
                yield self._mended(parser.empty(), pa.array([], pa.int64()), taken, parser)

    def _mended(self, table: pa.Table, numbers: pa.Array, ragged: list[Any], parser: _Parser) -> Block:
        refused: list[Refused] = []
        mended_numbers: list[int] = []
        lines: list[str] = []
        for row in ragged:
            line = parser.mended(row.text, row.expected_columns - row.actual_columns)
            if line is None:
                reason = f"has {row.actual_columns} values, the header {row.expected_columns} columns"
                refused.append(Refused(row.number, reason, row.text))
                continue
            self.padded += row.actual_columns < row.expected_columns
            mended_numbers.append(row.number)
            lines.append(line)
        if not lines:
            return Block(numbers, table, refused)
        parts, kept = parser.parse(lines)
        unread = sorted(set(range(len(lines))) - set(kept))
        refused += [Refused(mended_numbers[i], "opens a quote that is not closed", lines[i]) for i in unread]
        whole = pa.concat_tables([table, *parts])
        all_numbers = pa.concat_arrays([numbers, pa.array([mended_numbers[index] for index in kept], pa.int64())])
        order = pc.sort_indices(all_numbers)
        refused.sort(key=lambda r: r.number)
        return Block(all_numbers.take(order), whole.take(order), refused)


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


class _Parser:
    """Arrow's reader with one set of options, for the file and for mended rows alike."""

    def __init__(self, header: Header, size: int, *, quoted: bool) -> None:
        self._size = size
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

    def parse(self, lines: list[str]) -> tuple[list[pa.Table], list[int]]:
        """The lines as rows, and which of them are rows: the others are no single one."""
        table = self._parsed("\n".join(lines))
        if table is not None and table.num_rows == len(lines):
            return [table], list(range(len(lines)))
        singles = [self._parsed(line) for line in lines]
        kept = [i for i, single in enumerate(singles) if single is not None and single.num_rows == 1]
        return [singles[i] for i in kept], kept

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
        return pacsv.ReadOptions(column_names=self._keys, block_size=self._size, use_threads=False)

    def _options(self, handler: Any) -> pacsv.ParseOptions:
        return pacsv.ParseOptions(
            delimiter=self._delimiter, newlines_in_values=self._quoted, invalid_row_handler=handler
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
            raise _RecordTooLong(
                f"{where} holds a row of more than {LONGEST_RECORD:,} bytes: most likely a quote is not closed.",
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
