"""JSON lines, or one array of objects, as rows of text: nested objects flattened by `/`, lists as JSON.

Which columns there are is known at the end only, so the file is gone through once, to pages on disk, and read back.
A line that is no object is refused and kept; numbers stay as they were written.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ijson
import pyarrow as pa

from datasense_assets.connectors.base import ColumnInfo, kept_key, own_name
from datasense_assets.connectors.csv_text import Utf8Text
from datasense_assets.connectors.errors import BadData
from datasense_assets.connectors.personal import looks_personal
from datasense_assets.connectors.plain_text import Cleaner
from datasense_assets.connectors.row_pages import PAGE_ROWS, Block, Refused

MAX_LINE = 16 * 1024**2
MAX_REFUSED_A_PAGE = 5000


class _Written(str):
    """A number with a fraction, as it was written."""

    __slots__ = ()


class _Once(dict[str, Any]):
    """An object whose names may each come once; `twice` is one that came again, whose first value would be lost."""

    twice: str | None = None

    def __setitem__(self, name: str, value: Any) -> None:
        if name in self:
            self.twice = name
        super().__setitem__(name, value)

    @classmethod
    def of(cls, pairs: list[tuple[str, Any]]) -> _Once:
        found = cls(pairs)
        if len(found) < len(pairs):
            names = [name for name, _ in pairs]
            found.twice = next(name for name in names if names.count(name) > 1)
        return found


class JsonRows:
    """The rows of one JSON file, gone through when made; `folder` is for its pages and must not exist yet."""

    def __init__(self, text: Utf8Text, where: str, folder: Path) -> None:
        """Go through the file.

        Raises:
            BadData: it is an array that is not JSON, or holds no object at all.

        """
        self.where, self.padded = where, 0
        self._clean = Cleaner()
        self._text, self._folder = text, folder
        self._pages = 0
        self._is_array = _starts_with_bracket(text)
        folder.mkdir(parents=True)
        keys: dict[str, None] = {}
        for numbers, rows, refused in self._chunks():
            names = dict.fromkeys(key for row in rows for key in row)
            keys.update(names)
            self._write(numbers, rows, names, refused)
        if not keys:
            raise BadData(f"{where} holds no JSON object.", advice="Give a file with one object a line.")
        self.notes = [*text.notes(where), *self._clean.notes(where)]
        self.columns = tuple(ColumnInfo(key, own_name(key), personal=looks_personal(key, key)) for key in keys)

    def blocks(self) -> Iterator[Block]:
        """The pages as they were written."""
        for page in range(self._pages):
            with pa.OSFile(str(self._folder / f"{page}.arrow")) as file:
                table = pa.ipc.open_file(file).read_all()
            refused = json.loads((self._folder / f"{page}.json").read_text())
            numbers = table.column(0).combine_chunks()
            yield Block(numbers, table.select(range(1, table.num_columns)), [Refused(*each) for each in refused])

    def line_of(self, number: int) -> int:
        """The line; in an array, the object's place from 1."""
        return number

    def _chunks(self) -> Iterator[tuple[list[int], list[dict[str, str | None]], list[Refused]]]:
        numbers: list[int] = []
        rows: list[dict[str, str | None]] = []
        refused: list[Refused] = []
        for number, raw, value in self._array() if self._is_array else self._lines():
            try:
                if not isinstance(value, Mapping):
                    raise ValueError(value if isinstance(value, str) else "is no JSON object")
                row: dict[str, str | None] = {}
                _flatten(value, "", row)
            except ValueError as error:
                refused.append(Refused(number, str(error), raw))
            else:
                numbers.append(number)
                rows.append(row)
            if len(rows) == PAGE_ROWS or len(refused) == MAX_REFUSED_A_PAGE:
                yield numbers, rows, refused
                numbers, rows, refused = [], [], []
        if rows or refused:
            yield numbers, rows, refused

    def _lines(self) -> Iterator[tuple[int, str, Any]]:
        decode = json.JSONDecoder(parse_float=_Written, parse_constant=_constant, object_pairs_hook=_Once.of).decode
        with self._text.path.open("rb") as file:
            file.seek(self._text.start)
            number = 0
            while line := file.readline(MAX_LINE):
                number += 1
                if len(line) == MAX_LINE and not line.endswith(b"\n"):
                    while (rest := file.readline(MAX_LINE)) and not rest.endswith(b"\n"):
                        pass
                    yield number, line[:1000].decode("utf-8", "replace"), f"is longer than {MAX_LINE:,} bytes"
                    continue
                raw = line.decode("utf-8", "replace").strip()
                if raw:
                    try:
                        yield number, raw, decode(raw)
                    except (ValueError, RecursionError) as error:
                        yield number, raw, f"is not JSON: {error}"

    def _array(self) -> Iterator[tuple[int, str, Any]]:
        try:
            with self._text.path.open("rb") as file:
                file.seek(self._text.start)
                for number, value in enumerate(ijson.items(file, "item", map_type=_Once), start=1):
                    raw = "" if isinstance(value, Mapping) else str(value)
                    yield number, raw, value if isinstance(value, Mapping) else None
        except ijson.JSONError as error:
            raise BadData(f"{self.where} is not JSON: {str(error)[:200]}.", advice="Write the file again.") from None

    def _write(
        self, numbers: list[int], rows: list[dict[str, str | None]], names: Mapping[str, None], refused: list[Refused]
    ) -> None:
        columns = [pa.array(numbers, pa.int64()), *(self._array_of([row.get(name) for row in rows]) for name in names)]
        table = pa.Table.from_arrays(columns, names=[" number", *names])
        with (
            pa.OSFile(str(self._folder / f"{self._pages}.arrow"), "wb") as file,
            pa.ipc.new_file(file, table.schema) as writer,
        ):
            writer.write_table(table)
        said = json.dumps([(each.number, each.reason[:500], each.raw[:1000]) for each in refused])
        (self._folder / f"{self._pages}.json").write_text(said)
        self._pages += 1

    def _array_of(self, values: list[str | None]) -> pa.Array:
        try:
            return self._clean.texts(pa.array(values, pa.string()))
        except UnicodeEncodeError:  # half a surrogate pair, which no UTF-8 can hold
            return pa.array([None if value is None else self._clean(value) for value in values], pa.string())


def _flatten(value: Mapping[str, Any], prefix: str, row: dict[str, str | None]) -> None:
    if isinstance(value, _Once) and value.twice is not None:
        raise ValueError(f"has two values for {prefix}{value.twice}")
    for name, inner in value.items():
        key = prefix + (name.strip() or "no name")
        if isinstance(inner, Mapping) and inner:
            _flatten(inner, f"{key}/", row)
            continue
        key = kept_key(key)
        if key in row:
            raise ValueError(f"has two values for {key}")
        row[key] = value_text(inner)


def value_text(value: Any) -> str | None:
    """A JSON value as text: numbers as written, booleans as `true` and `false`, lists and empty objects as JSON."""
    if value is None or type(value) is str:
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | Mapping):
        return json.dumps(_plain(value), ensure_ascii=False)
    return str(value)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        if isinstance(value, _Once) and value.twice is not None:
            raise ValueError(f"has two values for {value.twice}")
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    if value is None or isinstance(value, bool | int) or type(value) is str:
        return value
    return float(value)


def _constant(name: str) -> _Written | None:
    return None if name == "NaN" else _Written(name)


def _starts_with_bracket(text: Utf8Text) -> bool:
    with text.path.open("rb") as file:
        file.seek(text.start)
        return file.read(4096).lstrip()[:1] == b"["
