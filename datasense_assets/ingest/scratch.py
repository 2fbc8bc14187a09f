"""Pages on disk between reading and loading: text in Arrow's own format, one folder a table, thrown away after.

Keeps what needs the whole load: the types' votes, the row ids, the content's hash. Knows nothing of Postgres.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc

from datasense_assets.catalog.models import ColumnType
from datasense_assets.connectors.base import INDEX, PARENT_ID, ROW_ID, Rejected
from datasense_assets.ingest.typing import Vote

# a fifth of the CPU that Parquet takes to write and read back, for twice the space on disk
_WRITING = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)
BATCH_ROWS = 20_000
_CHUNK = 1 << 20
BATCH_BYTES = 32 * 1024 * 1024
IDS_AT_ONCE = 250_000
SPECIAL_COLUMNS = (ROW_ID, PARENT_ID, INDEX)


@dataclass(frozen=True)
class Duplicates:
    """Row ids that came more than once: `last` has the position of the last row of each, which is the one to keep;
    `surplus` is how many rows there are too many.
    """

    last: Mapping[str, int]
    surplus: int


class TableScratch:
    """The pages of one table of one load. `declared` maps a source's key to the type it is declared to have."""

    def __init__(self, folder: Path, declared: Mapping[str, ColumnType]) -> None:
        """Nothing is written before the first page."""
        self._folder = folder
        self._declared = declared
        self._parts: list[tuple[Path, pa.Schema]] = []
        self._file: Any = None
        self._writer: Any = None
        self._schema: pa.Schema = pa.schema([])
        self._pending: list[pa.Table] = []
        self._pending_rows = self._pending_bytes = 0
        self.votes: dict[str, Vote] = {}
        self.rows = 0
        self._last_id: int | None = -1

    @property
    def keys(self) -> list[str]:
        """The source's keys seen so far, in order of first sight."""
        return list(self.votes)

    @property
    def content_hash(self) -> str:
        """Hash of all pages in their order, 32 hex digits; equal content read in equal pages gives an equal hash.

        Of the files as written, a fifth of what they hold. Asked after `close`.
        """
        found = hashlib.blake2b(digest_size=16)
        for part, _ in self._parts:
            with part.open("rb") as file:
                while chunk := file.read(_CHUNK):
                    found.update(chunk)
        return found.hexdigest()

    def add(self, data: pa.Table) -> None:
        """Take one page: all columns text, `_ds_row_id` among them."""
        self.rows += data.num_rows
        self._pending.append(data)
        self._pending_rows += data.num_rows
        self._pending_bytes += data.nbytes
        if self._pending_rows >= BATCH_ROWS or self._pending_bytes >= BATCH_BYTES:
            self._flush()

    def close(self) -> None:
        """Finish the files; nothing can be added after."""
        self._flush()
        self._finish_part()

    def _flush(self) -> None:
        if not self._pending:
            return
        data = pa.concat_tables(self._pending, promote_options="default")
        self._pending, self._pending_rows, self._pending_bytes = [], 0, 0
        # many pages at once: a vote costs by the call more than by the row
        for name in data.column_names:
            if name not in SPECIAL_COLUMNS:
                self.votes.setdefault(name, Vote(self._declared.get(name))).add(data[name])
        self._last_id = _ascends(data[ROW_ID], self._last_id)
        new = [field for field in data.schema if field.name not in self._schema.names]
        if self._writer is None or new:
            self._finish_part()
            self._folder.mkdir(parents=True, exist_ok=True)
            self._schema = pa.schema([*self._schema, *(pa.field(f.name, pa.string()) for f in new)])
            part = self._folder / f"{len(self._parts):05d}.arrow"
            self._parts.append((part, self._schema))
            self._file = pa.OSFile(str(part), "wb")
            self._writer = pa.ipc.new_file(self._file, self._schema, options=_WRITING)
        whole = with_columns(data, self._schema.names).combine_chunks()
        self._writer.write_table(whole, max_chunksize=BATCH_ROWS)

    def _finish_part(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._file.close()
            self._writer = None

    def batches(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        """The rows in their order, in tables of at most `BATCH_ROWS` rows with exactly these columns (null where a
        page had none).
        """
        for part, schema in self._parts:
            present = [index for index, name in enumerate(schema.names) if name in columns]
            reading = pa.ipc.IpcReadOptions(included_fields=present, use_threads=False)
            with pa.OSFile(str(part)) as file:
                reader = pa.ipc.open_file(file, options=reading)
                for number in range(reader.num_record_batches):
                    yield with_columns(pa.Table.from_batches([reader.get_batch(number)]), columns)

    def duplicates(self) -> Duplicates:
        """Row ids that came more than once. Of many rows, only a part of the ids is in memory at a time.

        Nothing is looked at where the ids are numbers, each higher than the one before.
        """
        if self._last_id is not None:
            return Duplicates({}, 0)
        passes = -(-self.rows // IDS_AT_ONCE)
        found: dict[str, int] = {}
        surplus = 0
        for number in range(passes):
            ids = pa.chunked_array([ids for _, ids in self._ids(number, passes)], pa.string())
            if pc.count_distinct(ids).as_py() == len(ids):
                continue
            counted = ids.value_counts()
            often = counted.filter(pc.greater(counted.field("counts"), 1))
            surplus += pc.sum(often.field("counts")).as_py() - len(often)
            wanted = often.field("values")
            for start, page in self._ids(0, 1):
                at = pc.indices_nonzero(pc.is_in(page, value_set=wanted))
                found.update(zip(page.take(at).to_pylist(), (start + i for i in at.to_pylist()), strict=True))
        return Duplicates(found, surplus)

    def _ids(self, number: int, passes: int) -> Iterator[tuple[int, pa.Array]]:
        """The row ids of one of so many parts, by page, with the page's position; a part is told by an id's end."""
        start = 0
        for page in self.batches([ROW_ID]):
            ids = page[ROW_ID].combine_chunks()
            if passes > 1:
                ends = pc.utf8_slice_codeunits(ids, -3).dictionary_encode()
                chosen = [zlib.crc32(end.encode()) % passes == number for end in ends.dictionary.to_pylist()]
                ids = ids.filter(pa.array(chosen, pa.bool_()).take(ends.indices))
            yield start, ids
            start += page.num_rows


def _ascends(ids: pa.ChunkedArray, last: int | None) -> int | None:
    """The last of the ids, if they are numbers above `last`, each higher than the one before; None where not."""
    if last is None or not len(ids):
        return last
    try:
        numbers = ids.cast(pa.int64()).combine_chunks()
    except pa.ArrowInvalid:
        return None
    rises = pc.all(pc.greater(numbers.slice(1), numbers.slice(0, len(numbers) - 1))).as_py()
    if numbers[0].as_py() <= last or not rises:
        return None
    return int(numbers[-1].as_py())


class RejectedScratch:
    """Rows that could not be read, all of them, on disk until they are written beside the table; `count` of them."""

    def __init__(self, path: Path) -> None:
        """Nothing is written before the first row."""
        self._path = path
        self._file: IO[str] | None = None
        self.count = 0

    def add(self, rows: Iterable[Rejected]) -> None:
        """Take the rejected rows of one page."""
        for row in rows:
            if self._file is None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._file = self._path.open("w", encoding="utf-8", errors="surrogatepass")
            self._file.write(json.dumps(astuple(row)) + "\n")
            self.count += 1

    def close(self) -> None:
        """Finish the file; nothing can be added after."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __iter__(self) -> Iterator[Rejected]:
        """The rows in their order."""
        if self.count:
            with self._path.open(encoding="utf-8") as file:
                for line in file:
                    yield Rejected(*json.loads(line))


def with_columns(data: pa.Table, names: Sequence[str]) -> pa.Table:
    """The table with exactly these columns in this order, all text, null where it has none."""
    present = set(data.column_names)
    nothing = pa.nulls(data.num_rows, pa.string())
    return pa.table({n: data[n].cast(pa.string()) if n in present else nothing for n in names})
