"""CSV files as a source: a local path or an http(s) address, plain, gzipped, or inside a zip or tar.gz.

A snapshot source: it has no history, so every read is of the whole file. How bytes are got, decoded and cut into rows
is in `csv_file`, `csv_text`, `csv_dialect` and `csv_rows`; here they are put together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any, ClassVar

from datasense_assets.connectors.base import (
    CallBudget,
    ColumnInfo,
    NetworkPolicy,
    Page,
    ReadRequest,
    ReadStats,
    TableInfo,
)
from datasense_assets.connectors.config import CsvConfig
from datasense_assets.connectors.csv_dialect import Header, read_header
from datasense_assets.connectors.csv_file import CsvFile
from datasense_assets.connectors.csv_rows import read_rows
from datasense_assets.connectors.csv_text import Utf8Text, as_utf8
from datasense_assets.connectors.errors import BadConfig
from datasense_assets.connectors.http import HttpClient, basic_authorization, header_value
from datasense_assets.connectors.personal import looks_personal


class CsvConnector:
    """One CSV file, or all those in an archive; `resource` is the file's or the member's name."""

    kind: ClassVar[str] = "csv"
    has_history: ClassVar[bool] = False

    def __init__(
        self,
        config: Mapping[str, Any],
        credentials: Mapping[str, str],
        policy: NetworkPolicy,
        *,
        budget: CallBudget | None = None,
    ) -> None:
        """Keep the parts; nothing is read."""
        self.stats = ReadStats()
        self._config = CsvConfig.model_validate(dict(config))
        self._client: HttpClient | None = None
        if self._config.is_web:
            # downloads commonly end at a signed link on another host, which needs no credential
            self._client = HttpClient(
                policy, self.stats, authorization=_authorization(credentials), follow_elsewhere=True, budget=budget
            )
        self._file = CsvFile(self._config, policy, self._client)
        self._texts: dict[str, Utf8Text] = {}

    def check(self) -> str:
        """Fetch the file and read its header; one sentence; raise SourceError."""
        tables = self.discover()
        if len(tables) == 1:
            return f"{self._file.where} can be read: {len(tables[0].columns)} columns."
        return f"{self._file.where} can be read: {len(tables)} CSV files ({', '.join(t.resource for t in tables)})."

    def discover(self) -> list[TableInfo]:
        """The file's table, or one for each CSV file in the archive where the config names no member.

        Raises:
            SourceError: the file cannot be reached, or one in it is no CSV.

        """
        members = [self._file.choose(None)] if self._config.member else self._file.members()
        return [table for member in members for table in self.describe(member)]

    def describe(self, resource: str) -> list[TableInfo]:
        """The one table of that file or member; types are unknown; raise SourceError."""
        member, _, header = self._opened(resource)
        columns = tuple(
            ColumnInfo(key=key, label=label, personal=looks_personal(key, label))
            for key, label in zip(header.keys, header.labels, strict=True)
        )
        return [TableInfo(resource=member, title=PurePosixPath(member).stem, columns=columns)]

    def read(self, request: ReadRequest) -> Iterator[Page]:
        """The whole file in pages of at most 20,000 rows.

        Raises:
            BadConfig: a window is asked for: a file has no history; or a key column is not there.
            SourceError: the file cannot be reached or read.

        """
        if request.window is not None:
            raise BadConfig(
                f"{self._file.where} is a snapshot: it holds no earlier state.",
                advice="Fill the newest partition; older ones cannot be read any more.",
            )
        member, text, header = self._opened(request.resource)
        pages = read_rows(
            text,
            header,
            key=request.key or self._config.key,
            where=self._name(member),
            stats=self.stats,
            seen=self._file.temporary("keys.sqlite"),
        )
        for page in pages:
            yield Page(path=(), data=page.data, rejected=page.rejected)

    def count(self, resource: str) -> int | None:  # noqa: ARG002  the protocol's
        """None: counting is reading."""
        return None

    def row_ids(self, resource: str) -> Iterator[list[str]]:
        """Every `_ds_row_id`, page by page, by reading the file."""
        for page in self.read(ReadRequest(resource)):
            yield page.data.column("_ds_row_id").to_pylist()

    def fingerprint(self, resource: str, previous: str | None) -> str | None:  # noqa: ARG002  the protocol's
        """A local file's time and size; None for a download; raise SourceError."""
        return None if self._config.is_web else self._file.fingerprint()

    def close(self) -> None:
        """Close connections, delete temporary files."""
        self._texts.clear()
        self._file.close()
        if self._client is not None:
            self._client.close()

    def _opened(self, resource: str) -> tuple[str, Utf8Text, Header]:
        member = self._file.choose(resource)
        where = self._name(member)
        if member not in self._texts:
            plain = self._file.open_plain(member)
            text = as_utf8(
                plain, self._config.encoding, where, lambda: self._file.temporary(f"text-{len(self._texts)}")
            )
            self._texts[member] = text
            self._note(text, where)
        text = self._texts[member]
        return member, text, read_header(text, self._config.delimiter, self._config.header_row, where)

    def _note(self, text: Utf8Text, where: str) -> None:
        if text.guessed:
            self.stats.notes.append(
                f"{where} does not say how its letters are encoded; {text.encoding} was guessed. "
                "Set `encoding` if letters look wrong."
            )
        if text.replaced:
            self.stats.notes.append(f"{where}: {text.replaced} bytes that are not UTF-8 were replaced by \ufffd.")
        if text.dropped:
            self.stats.notes.append(f"{where}: {text.dropped} NUL characters were left out.")

    def _name(self, member: str) -> str:
        where = self._file.where
        return where if PurePosixPath(where).name == member else f"{member} in {where}"


def _authorization(credentials: Mapping[str, str]) -> str | None:
    if "token" in credentials:
        return header_value("Bearer", credentials["token"])
    return basic_authorization(credentials) if "username" in credentials else None
