"""The shape of a CSV file: its delimiter, its header, and a key of its own for every column.

Pure functions of the beginning of a UTF-8 file.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import BinaryIO

from datasense_assets.connectors.base import kept_key
from datasense_assets.connectors.csv_text import Utf8Text
from datasense_assets.connectors.errors import BadData

CANDIDATES = (",", ";", "\t", "|")
FIELD_LIMIT = 16 * 1024**2
_SAMPLE_RECORDS = 200
_SAMPLE_LINE = 1 << 20
_PREFERRED_COLUMN = "column {}"


@dataclass(frozen=True)
class Header:
    """`labels` as the file has them; `keys` the same, made distinct; the records begin at byte `offset`, which is
    line `line` (from 1) of the file.
    """

    delimiter: str
    labels: tuple[str, ...]
    keys: tuple[str, ...]
    offset: int
    line: int


def read_header(text: Utf8Text, delimiter: str, header_row: int, where: str) -> Header:
    """Find delimiter and header.

    Args:
        text: the file.
        delimiter: one character, or `auto`.
        header_row: the line that the header starts on, from 1; empty lines after it are passed over.
        where: the file's name in messages.

    Raises:
        BadData: there is no header on that line.

    """
    csv.field_size_limit(FIELD_LIMIT)
    with text.path.open("rb") as file:
        file.seek(text.start)
        for _ in range(header_row - 1):
            file.readline(FIELD_LIMIT)
        line, named = header_row, None
        position = file.tell()
        while (first := file.readline(FIELD_LIMIT)) and not first.strip(b" \r\n"):
            line, position = line + 1, file.tell()
        if first[:4].lower() == b"sep=" and len(first.strip()) in (4, 5):  # Excel's own word for the delimiter
            named = first[4:5].decode("utf-8", "replace") if len(first.rstrip(b"\r\n")) == 5 else None
            line, position = line + 1, file.tell()
        file.seek(position)
        chosen = named or (sniff_delimiter(file) if delimiter == "auto" else delimiter)
        file.seek(position)
        lines = _Lines(file)
        reader = csv.reader(lines, delimiter=chosen)
        try:
            labels = next(reader, [])
        except csv.Error:
            labels = []
    if not labels:
        raise BadData(f"{where} has no header on line {line}.", advice="Set `header_row` to the header's line.")
    return Header(
        delimiter=chosen,
        labels=tuple(labels),
        keys=distinct_keys(labels),
        offset=position + lines.read,
        line=line + reader.line_num,
    )


def sniff_delimiter(file: BinaryIO) -> str:
    """The delimiter that cuts most records into as many fields as the header has; `,` where none cuts at all.

    Reads at most 200 lines from where the file stands.
    """
    sample = list(islice(_Lines(file), _SAMPLE_RECORDS))
    best, best_score = ",", (0.0, 0)
    for candidate in CANDIDATES:
        try:
            records = [r for r in csv.reader(sample, delimiter=candidate) if r]
        except csv.Error:
            continue
        width = len(records[0]) if records else 0
        if width < 2:
            continue
        # the last record may be cut by the end of the sample
        rest = records[1:-1] or records[1:]
        agreeing = sum(len(r) == width for r in rest) / len(rest) if rest else 1.0
        score = (round(agreeing, 1), width)
        if score > best_score:
            best, best_score = candidate, score
    return best


def distinct_keys(labels: Sequence[str]) -> tuple[str, ...]:
    """A key for each header: the header itself, trimmed; `column 3` for an empty one; ` (2)` added to a repeated one.

    Keys are distinct, never empty, and never one of the platform's own columns.
    """
    plain = [kept_key(label.strip()) or _PREFERRED_COLUMN.format(i) for i, label in enumerate(labels, start=1)]
    used: set[str] = set()
    given = set(plain)
    keys: list[str] = []
    for base in plain:
        key, number = base, 1
        while key in used or (number > 1 and key in given):
            number += 1
            key = f"{base} ({number})"
        used.add(key)
        keys.append(key)
    return tuple(keys)


class _Lines:
    """Lines of a binary file as text for `csv.reader`, counting the bytes that were taken."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.read = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._file.readline(_SAMPLE_LINE)
        if not line:
            raise StopIteration
        self.read += len(line)
        return line.decode("utf-8", "replace")


class LineFinder:
    """The line of the file that a record starts on.

    Arrow's reader numbers records, not lines, and a quoted value may hold several lines. So the file is walked a
    second time with the standard library's reader, but only as far as the last rejected row.
    """

    def __init__(self, text: Utf8Text, header: Header) -> None:
        """Open the file a second time, at the first record."""
        csv.field_size_limit(FIELD_LIMIT)
        self._file = text.path.open("rb")
        self._file.seek(header.offset)
        self._reader = csv.reader(_Lines(self._file), delimiter=header.delimiter)
        self._first = header.line
        self._record = 0

    def line_of(self, record: int) -> int:
        """The line (from 1) of the `record`-th record after the header (from 1); ask in ascending order."""
        before = self._reader.line_num
        while self._record < record:
            before = self._reader.line_num
            try:
                fields = next(self._reader, None)
            except csv.Error:
                fields = [""]
            if fields is None:
                break
            self._record += bool(fields)
        return self._first + before

    def close(self) -> None:
        """Close the file."""
        self._file.close()
