"""Pages kept in the warehouse while a long read goes on, so that a read which dies at page 700 goes on at page 700.

They are kept as they came, before any type is decided, beside the organisation's staged tables: whichever process
takes the load up again puts them before what it reads itself, and the load is then one load like any other. Nothing is
kept of a read that is short.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace

import pyarrow as pa
from psycopg import Connection, sql

from datasense_assets.connectors.base import Connector, Page, ReadRequest, TableInfo
from datasense_assets.warehouse.organizations import WarehouseTarget

KEPT = "_ds_kept"
KEEP_ROWS = 20_000
KEEP_BYTES = 32 * 1024 * 1024
KEEP_SECONDS = 60.0
# Fewer pages than this are read again sooner than kept, when a read breaks off.
WORTH_KEEPING = 5
# Rows kept longer than this may have changed too much at the source.
KEPT_HOURS = 24
# What pages are kept as; those of another format are read again.
FORMAT = 2
# A tenth of the CPU that Parquet takes, for half as much space again.
_WRITING = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)

_CREATE = """
CREATE TABLE IF NOT EXISTS {} (
    table_id bigint NOT NULL, number integer NOT NULL, path text[] NOT NULL, request text NOT NULL,
    fence bigint NOT NULL, started_at timestamp with time zone NOT NULL, resume text NOT NULL, cursor text,
    data bytea NOT NULL, PRIMARY KEY (table_id, number, path))
"""


def request_key(request: ReadRequest, infos: Mapping[tuple[str, ...], TableInfo], settings: object) -> str:
    """What tells an equal request: what is asked for, of what form, with what `settings` (JSON-able)."""
    form = [[list(path), [column.key for column in info.columns]] for path, info in sorted(infos.items())]
    window = None if request.window is None else [request.window.start.isoformat(), request.window.end.isoformat()]
    asked = [FORMAT, request.resource, request.cursor, window, request.changed_since, list(request.key), form, settings]
    return hashlib.blake2b(json.dumps(asked, sort_keys=True, default=str).encode(), digest_size=16).hexdigest()


@dataclass
class KeptPages:
    """The kept pages of one table's read: `resume` is the mark after the last of them, None where there are none.

    Written by the run with the highest fence alone: one that lost its lease stops keeping, and what it kept meanwhile
    is thrown away by the one that took over.
    """

    target: WarehouseTarget
    table_id: int
    request: str
    fence: int
    resume: str | None = None
    cursor: str | None = None
    number: int = 0
    notes: list[str] = field(default_factory=list)
    _pending: dict[tuple[str, ...], list[pa.Table]] = field(default_factory=dict)
    _ready: dict[tuple[str, ...], list[pa.Table]] = field(default_factory=dict)
    _pending_bytes: int = 0
    _ready_rows: int = 0
    _ready_bytes: int = 0
    _mark: str | None = None
    _marks: int = 0
    _position: str | None = None
    _since: float = field(default_factory=time.monotonic)
    _lost: bool = False

    def look(self, connection: Connection) -> None:
        """Find the pages of an equal request; those of any other are thrown away. Commits nothing itself."""
        if not _there(connection, self.target.staging_schema):
            return
        row = connection.execute(
            sql.SQL(
                "SELECT number, resume, cursor, fence, request = %s AND started_at > now() - make_interval(hours => %s)"
                " FROM {} WHERE table_id = %s ORDER BY number DESC LIMIT 1"
            ).format(self._table),
            (self.request, KEPT_HOURS, self.table_id),
        ).fetchone()
        if row is None:
            return
        number, resume, cursor, fence, usable = row
        if fence > self.fence:
            self._lost = True
        elif usable:
            take = sql.SQL("UPDATE {} SET fence = %s WHERE table_id = %s").format(self._table)
            connection.execute(take, (self.fence, self.table_id))
            self.number, self.resume, self.cursor = number, resume, cursor
        else:
            self._delete(connection)

    def read(self, connector: Connector, request: ReadRequest) -> Iterator[Page]:
        """The kept pages, then those that come after them, which are kept as they come.

        Raises:
            SourceError: the source could not be read; what was read of it is kept.
        """
        if not connector.has_history:
            yield from connector.read(request)
            return
        if self.resume is not None:
            rows = 0
            for page in self._kept_pages():
                rows += 0 if page.path else page.data.num_rows
                yield page
            self.notes.append(f"{rows:,} rows were kept from a read that had broken off; this one went on from there")
            request = replace(request, resume=self.resume)
        try:
            for page in connector.read(request):
                self._add(page)
                yield page
        except GeneratorExit:
            raise
        except BaseException:
            self._break_off()
            raise

    def _kept_pages(self) -> Iterator[Page]:
        """A parent's page before its repeat groups'."""
        query = sql.SQL("SELECT path, cursor, data FROM {} WHERE table_id = %s AND number = %s ORDER BY path")
        with self.target.connect() as connection:
            for number in range(1, self.number + 1):
                rows = connection.execute(query.format(self._table), (self.table_id, number), binary=True)
                for path, cursor, data in rows.fetchall():
                    yield Page(tuple(path), pa.ipc.open_stream(data).read_all(), cursor)

    def _add(self, page: Page) -> None:
        """Take a page that was read; every so often all of them are written, in one transaction."""
        if self._lost or page.rejected:
            self._lost = True
            return
        self._pending.setdefault(page.path, []).append(page.data)
        self._pending_bytes += page.data.nbytes
        if page.resume is None:
            if len(self._pending.get((), [])) > 1 or self._pending_bytes > 2 * KEEP_BYTES:
                # no mark comes, as from a source that cannot be gone on from: memory must not grow with it
                self._lost = True
                self._pending.clear()
            return
        for path, tables in self._pending.items():
            self._ready.setdefault(path, []).extend(tables)
        self._ready_rows += sum(table.num_rows for table in self._pending.get((), []))
        self._ready_bytes += self._pending_bytes
        self._pending_bytes = 0
        self._pending.clear()
        self._mark, self._position = page.resume, page.cursor
        self._marks += 1
        late = time.monotonic() - self._since > KEEP_SECONDS
        if self._ready_rows >= KEEP_ROWS or late or self._ready_bytes >= KEEP_BYTES:
            self._write()

    def _break_off(self) -> None:
        """Keep what is whole of a read that failed; failing in that changes nothing."""
        if not self._lost and self._marks >= WORTH_KEEPING:
            with suppress(Exception):
                self._write()

    def drop(self) -> None:
        """Throw the kept pages away: the load that they were for is recorded."""
        if not self.number or self._lost:
            return
        with self.target.connect() as connection:
            self._delete(connection)

    def _write(self) -> None:
        schema = self.target.staging_schema
        with self.target.connect() as connection:
            if not _there(connection, schema):
                _lock(connection, schema)
                connection.execute(sql.SQL(_CREATE).format(self._table))
            _lock(connection, f"{schema}.{self.table_id}")
            stale = sql.SQL(
                "DELETE FROM {} WHERE (table_id = %s AND fence < %s) OR started_at < now() - make_interval(hours => %s)"
            )
            connection.execute(stale.format(self._table), (self.table_id, self.fence, KEPT_HOURS))
            newest = sql.SQL("SELECT max(fence), max(number) FROM {} WHERE table_id = %s").format(self._table)
            fence, number = connection.execute(newest, (self.table_id,)).fetchone() or (None, None)
            if (fence is not None and fence > self.fence) or (number or 0) != self.number:
                self._lost = True
                return
            insert = sql.SQL(
                "INSERT INTO {t} SELECT %s, %s, %s, %s, %s, coalesce((SELECT min(started_at) FROM {t}"
                " WHERE table_id = %s), now()), %s, %s, %s"
            ).format(t=self._table)
            for path, tables in self._ready.items():
                data = _packed(tables)
                own = (self.table_id, self.number + 1, list(path), self.request, self.fence, self.table_id)
                connection.execute(insert, (*own, self._mark, self._position, data), binary=True)
        self.number += 1
        self._ready, self._ready_rows, self._ready_bytes = {}, 0, 0
        self._marks, self._since = 0, time.monotonic()

    def _delete(self, connection: Connection) -> None:
        query = sql.SQL("DELETE FROM {} WHERE table_id = %s AND fence <= %s").format(self._table)
        connection.execute(query, (self.table_id, self.fence))

    @property
    def _table(self) -> sql.Identifier:
        return sql.Identifier(self.target.staging_schema, KEPT)


def _there(connection: Connection, schema: str) -> bool:
    query = sql.SQL("SELECT to_regclass({}) IS NOT NULL").format(
        sql.Literal(sql.Identifier(schema, KEPT).as_string(connection))
    )
    row = connection.execute(query).fetchone()
    return bool(row and row[0])


def _lock(connection: Connection, what: str) -> None:
    connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (f"datasense.kept.{what}",))


def _packed(tables: list[pa.Table]) -> memoryview:
    data = pa.concat_tables(tables, promote_options="default").combine_chunks()
    with pa.BufferOutputStream() as out:
        with pa.ipc.new_stream(out, data.schema, options=_WRITING) as writer:
            writer.write_table(data)
        return memoryview(out.getvalue())
