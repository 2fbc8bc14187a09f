"""Files as a source: CSV, workbooks, JSON lines and Parquet, from a path, an address or a bucket, packed or not.

A snapshot source: it has no history, so every read is of the whole. Where bytes come from is in `file_places` and
`file_s3`, what they are in `file_archive` and `file_parts`, how rows are read in `csv_rows`, `excel_rows`, `json_rows`
and `parquet_rows`; here they are put together.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from datasense_assets.connectors.authorization import basic_authorization, header_value
from datasense_assets.connectors.base import (
    ROW_ID,
    CallBudget,
    ColumnInfo,
    NetworkPolicy,
    Page,
    ReadRequest,
    ReadStats,
    TableInfo,
)
from datasense_assets.connectors.csv_dialect import read_header
from datasense_assets.connectors.csv_rows import CsvRows
from datasense_assets.connectors.csv_text import as_utf8
from datasense_assets.connectors.errors import AccessForbidden, BadConfig, BadData, Unavailable
from datasense_assets.connectors.excel_rows import EmptySheet, ExcelRows
from datasense_assets.connectors.file_config import S3_CREDENTIALS, CsvConfig, FileConfig
from datasense_assets.connectors.file_parts import Part, Parts, packed_suffixes
from datasense_assets.connectors.file_places import LocalPlace, Place, WebPlace
from datasense_assets.connectors.http import HttpClient
from datasense_assets.connectors.json_rows import JsonRows
from datasense_assets.connectors.parquet_rows import ParquetRows
from datasense_assets.connectors.row_pages import NamedReader, RowReader, read_pages


class FileConnector:
    """One file, or the files of a folder or pattern; `resource` names a member, a sheet, or the file itself."""

    kind: ClassVar[str] = "file"
    has_history: ClassVar[bool] = False
    Config: ClassVar[type[FileConfig]] = FileConfig

    def __init__(
        self,
        config: Mapping[str, Any],
        credentials: Mapping[str, str],
        policy: NetworkPolicy,
        *,
        budget: CallBudget | None = None,
    ) -> None:
        """Keep the parts; nothing is read. Raises BadConfig for credentials of another kind of address."""
        self.stats = ReadStats()
        self._config = self.Config.model_validate(dict(config))
        self._policy = policy
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._made = 0
        self._client: HttpClient | None = None
        _refuse_others(self._config, credentials)
        self._place = self._opened_place(credentials, budget)
        self._parts = Parts(self._config, self._place, self._temporary)
        self._readers: dict[Part, RowReader] = {}

    def check(self) -> str:
        """Fetch the file and read its header; one sentence; raise SourceError."""
        tables = self.discover()
        where = self._place.where
        if len(tables) == 1:
            return f"{where} can be read: {len(tables[0].columns)} columns."
        what = "CSV files" if self._config.format == "csv" else "tables"
        unread = [table.resource for table in tables if not table.columns]
        but = f" No table could be made of {', '.join(unread)}; a sync says why." if unread else ""
        return f"{where} can be read: {len(tables)} {what} ({', '.join(t.resource for t in tables)}).{but}"

    def discover(self) -> list[TableInfo]:
        """The table of the file or folder, or one for each member and sheet; an empty sheet is left out.

        One of several that cannot be read, such as a sheet whose header is not where it should be, is listed without
        columns, so that loading it says so.

        Raises:
            SourceError: the file cannot be reached, or the only table in it cannot be read.

        """
        with self._local_files():
            tables = self._parts.tables()
            found = []
            for resource, parts in tables.items():
                try:
                    found.append(self._info(resource, parts))
                except BadData as error:
                    if len(tables) == 1:
                        raise
                    if not isinstance(error, EmptySheet) or self._config.sheet:
                        found.append(TableInfo(resource=resource, title=_title(resource, parts), columns=()))
            return found

    def describe(self, resource: str) -> list[TableInfo]:
        """The one table of that name; Parquet alone declares types; raise SourceError."""
        with self._local_files():
            return [self._info(*self._parts.choose(resource))]

    def read(self, request: ReadRequest) -> Iterator[Page]:
        """The whole table in pages of at most 20,000 rows.

        Raises:
            BadConfig: a window is asked for: a file has no history; or a key column is not there.
            SourceError: the file cannot be reached or read.

        """
        if request.window is not None:
            raise BadConfig(
                f"{self._place.where} is a snapshot: it holds no earlier state.",
                advice="Fill the newest partition; older ones cannot be read any more.",
            )
        with self._local_files():
            _, parts = self._parts.choose(request.resource)
            column = self._file_column(parts)
            readers = [NamedReader(self._reader(part), self._parts.file_value(part)) for part in parts]
            key = request.key or self._config.key
            yield from read_pages(readers, key, column, self._temporary("keys"))
        self.stats.padded_rows += sum(named.reader.padded for named in readers)
        self.stats.notes += [note for named in readers for note in named.reader.notes]

    def count(self, resource: str) -> int | None:  # noqa: ARG002  the protocol's
        """None: counting is reading."""
        return None

    def row_ids(self, resource: str) -> Iterator[list[str]]:
        """Every `_ds_row_id`, page by page, by reading the file."""
        for page in self.read(ReadRequest(resource)):
            yield page.data.column(ROW_ID).to_pylist()

    def fingerprint(self, resource: str, previous: str | None) -> str | None:  # noqa: ARG002  one for all tables
        """What changes when any of the files does; raise SourceError."""
        with self._local_files():
            return self._place.fingerprint(previous)

    def close(self) -> None:
        """Close connections, delete temporary files."""
        self._readers.clear()
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None
        if self._client is not None:
            self._client.close()

    def _opened_place(self, credentials: Mapping[str, str], budget: CallBudget | None) -> Place:
        suffixes = packed_suffixes(self._config.format)
        if self._config.is_s3:
            from datasense_assets.connectors.file_s3 import S3Place

            return S3Place(self._config, credentials, self._policy, self.stats, suffixes, self._temporary, budget)
        if not self._config.is_web:
            return LocalPlace(self._config.url, self._policy, self.stats, suffixes)
        # downloads commonly end at a signed link on another host, which needs no credential
        self._client = HttpClient(
            self._policy, self.stats, authorization=_authorization(credentials), follow_elsewhere=True, budget=budget
        )
        return WebPlace(self._config.url, self._client, self._temporary)

    @contextmanager
    def _local_files(self) -> Iterator[None]:
        """Say what became of a file of this machine that cannot be read any more, or never could."""
        try:
            yield
        except PermissionError as error:
            raise AccessForbidden(
                f"{error.filename or self._place.where} may not be read by the user that the platform runs as.",
                advice="Give that user the right to read it.",
            ) from None
        except OSError:
            gone = self._place.missing() if isinstance(self._place, LocalPlace) else None
            if gone is None:
                raise
            raise Unavailable(
                f"{gone} of {self._place.where} went away while it was read.",
                advice="Sync again; what was loaded stays meanwhile.",
            ) from None

    def _temporary(self, name: str) -> Path:
        """A new path in a folder that goes when the connector is closed."""
        if self._folder is None:
            if self._policy.scratch is not None:
                self._policy.scratch.mkdir(parents=True, exist_ok=True)
            self._folder = tempfile.TemporaryDirectory(prefix="file-", dir=self._policy.scratch)
        self._made += 1
        return Path(self._folder.name) / f"{self._made:04d}-{name}"

    def _info(self, resource: str, parts: list[Part]) -> TableInfo:
        columns: dict[str, ColumnInfo] = {}
        if self._parts.file_value(parts[0]) is not None:
            name = self._file_column(parts)
            columns[name] = ColumnInfo(key=name, label=name)
        for part in parts:
            for column in self._reader(part).columns:
                if column.notes and len(parts) > 1:
                    column = replace(column, notes=tuple(f"{part.where}: {note}" for note in column.notes))
                known = columns.setdefault(column.key, column)
                if known is column:
                    continue
                # where the files do not agree, values decide
                kind = known.type if known.type is column.type else None
                columns[column.key] = replace(known, type=kind, notes=known.notes + column.notes)
        return TableInfo(resource=resource, title=_title(resource, parts), columns=tuple(columns.values()))

    def _file_column(self, parts: list[Part]) -> str:
        taken = {column.key for part in parts for column in self._reader(part).columns}
        name, number = self._config.file_column, 2
        while name in taken:
            name, number = f"{self._config.file_column} ({number})", number + 1
        return name

    def _reader(self, part: Part) -> RowReader:
        if part.fault is not None:
            raise part.fault
        if part not in self._readers:
            if part.format == "excel":  # a sheet is held in memory: one at a time
                for other in [each for each in self._readers if each.format == "excel"]:
                    del self._readers[other]
            self._readers[part] = self._opened_reader(part)
        return self._readers[part]

    def _opened_reader(self, part: Part) -> RowReader:
        path = self._parts.path_of(part)
        rows = self._config.header_row
        if part.sheet is not None:
            return ExcelRows(path, part.sheet, rows, part.where)
        if len(rows) > 1:
            raise BadConfig(f"{part.where} is no workbook: its header is one row.", advice="Give one `header_row`.")
        if part.format == "parquet":
            return ParquetRows(path, part.where)
        is_json = part.format == "json"
        text = as_utf8(path, self._config.encoding, part.where, lambda: self._temporary("text"), is_json=is_json)
        if is_json:
            return JsonRows(text, part.where, self._temporary("json"))
        return CsvRows(text, read_header(text, self._config.delimiter, rows[0], part.where), part.where)


class CsvConnector(FileConnector):
    """The same where every file is CSV, whatever its name; anything else is refused."""

    kind: ClassVar[str] = "csv"
    Config: ClassVar[type[FileConfig]] = CsvConfig


def _title(resource: str, parts: list[Part]) -> str:
    if parts[0].sheet is None:
        return PurePosixPath(resource).stem
    stem = PurePosixPath(resource.removesuffix(f"#{parts[0].sheet}")).stem
    return parts[0].sheet if stem in ("", resource, PurePosixPath(resource).stem) else f"{stem} {parts[0].sheet}"


def _refuse_others(config: FileConfig, credentials: Mapping[str, str]) -> None:
    given = frozenset(credentials)
    if not given or (config.is_s3 and given >= S3_CREDENTIALS):
        return
    if config.is_s3 or given & S3_CREDENTIALS or not config.is_web:
        fits = "access_key_id and secret_access_key" if config.is_s3 else "a token, or username and password"
        place = "s3://..." if config.is_s3 else "https://..." if config.is_web else "a local path"
        raise BadConfig(
            f"The credentials ({', '.join(sorted(given))}) are of no use for an address such as {place}.",
            advice=f"It takes {fits}, or none." if config.is_s3 or config.is_web else "It takes none.",
        )


def _authorization(credentials: Mapping[str, str]) -> str | None:
    if "token" in credentials:
        return header_value("Bearer", credentials["token"])
    return basic_authorization(credentials) if "username" in credentials else None
