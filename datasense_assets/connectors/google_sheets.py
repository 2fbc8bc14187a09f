"""Google Sheets as a source: every tab or named range is a table, read as it is now.

Few requests, since Google counts them by the minute: the spreadsheet's metadata, the values of all small tables in
one, and, where there are numbers, the formats of a sample, which tell dates from numbers. A big tab is read in blocks
of rows. A snapshot source: there is no history. Cells become text in `google_cells`, a table's rows in `google_table`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar
from urllib.parse import quote
from zoneinfo import ZoneInfo

from datasense_assets.connectors.addresses import server_of
from datasense_assets.connectors.base import (
    ROW_ID,
    CallBudget,
    NetworkPolicy,
    Page,
    Quota,
    ReadRequest,
    ReadStats,
    TableInfo,
)
from datasense_assets.connectors.config import GoogleSheetsConfig
from datasense_assets.connectors.errors import BadConfig, BadData, SourceError
from datasense_assets.connectors.google_account import GoogleApi, ServiceAccount
from datasense_assets.connectors.google_drive import DriveFile, drive_root
from datasense_assets.connectors.google_ranges import METADATA_FIELDS, Area, Book, read_book
from datasense_assets.connectors.google_table import SheetTable

SMALL_CELLS = 200_000
BATCH_CELLS = 500_000
BATCH_TABLES = 40
BATCH_CHARACTERS = 3000  # of ranges in an address; that of the formats names each twice
BLOCK_CELLS = 100_000
FORMAT_FIELDS = (
    "sheets(properties(sheetId),data(startRow,startColumn,"
    "rowData(values(effectiveFormat(numberFormat(type,pattern))))))"
)
_AS_STORED = [("valueRenderOption", "UNFORMATTED_VALUE"), ("dateTimeRenderOption", "SERIAL_NUMBER")]


class GoogleSheetsConnector:
    """One spreadsheet; `resource` is a tab's title, `gid=` and its number, a named range or an A1 range."""

    kind: ClassVar[str] = "google_sheets"
    has_history: ClassVar[bool] = False

    def __init__(
        self,
        config: Mapping[str, Any],
        credentials: Mapping[str, str],
        policy: NetworkPolicy,
        *,
        budget: CallBudget | None = None,
    ) -> None:
        """Read the key; nothing is connected. Raises CredentialRefused for a key that is none."""
        self.stats = ReadStats()
        self._config = GoogleSheetsConfig.model_validate(dict(config))
        account = ServiceAccount.from_key(credentials["service_account"])
        self._api = GoogleApi(account, self._config.api_base_url, self._config.spreadsheet, policy, self.stats, budget)
        drive = self._config.drive_base_url or drive_root(self._config.api_base_url)
        self._drive = DriveFile(account, drive, self._config.spreadsheet, policy, self.stats, budget)
        self._scratch = policy.scratch
        self._known: Book | None = None
        self._tables: dict[str, SheetTable] = {}

    @classmethod
    def quotas(cls, config: Mapping[str, Any], credentials: Mapping[str, str]) -> tuple[Quota, ...]:
        """Google's own: reads a minute of a user, which a service account is, and of its project; Drive's apart."""
        email, project = ServiceAccount.owner(credentials["service_account"])
        settings = GoogleSheetsConfig.model_validate(dict(config))
        sheets = server_of(settings.api_base_url)
        drive = server_of(settings.drive_base_url or drive_root(settings.api_base_url))
        return (
            Quota("google_sheets.user", shared_by=email, calls=60, host=sheets),
            Quota("google_sheets.project", shared_by=project, calls=300, host=sheets),
            Quota("google_drive.project", shared_by=project, calls=12_000, host=drive),
        )

    def check(self) -> str:
        """Read the spreadsheet's metadata; one sentence; raise SourceError."""
        book = self._book()
        tabs = "1 tab" if len(book.tabs) == 1 else f"{len(book.tabs)} tabs"
        named = f" and {len(book.named)} named ranges" if book.named else ""
        return f"The spreadsheet {book.title!r} can be read by {self._api.account.email}: {tabs}{named}."

    def discover(self) -> list[TableInfo]:
        """The config's ranges, or every tab and named range that holds anything; raise SourceError.

        One whose header is missing is listed without columns, so that loading it says what is wrong.
        """
        book = self._book()
        found = []
        for resource in self._resources(book):
            table = self._with_header(resource)
            if not table.is_empty() or self._config.ranges:
                found.append(self._info(resource, table))
        return found

    def describe(self, resource: str) -> list[TableInfo]:
        """The one table of a tab or range; types are found by its values.

        Raises:
            ResourceGone: there is no such tab or range.
            BadData: it is empty, or has no header where the config says.

        """
        table = self._with_header(resource)
        table.columns()
        return [self._info(resource, table)]

    def fingerprint(self, resource: str, previous: str | None) -> str | None:  # noqa: ARG002  one for all tabs
        """When Drive says that the spreadsheet was changed last; None where the key may not ask, or must not."""
        return self._drive.fingerprint(previous) if self._config.skip_unchanged else None

    def read(self, request: ReadRequest) -> Iterator[Page]:
        """The whole table in pages of at most 20,000 rows; rows without any value are left out.

        Raises:
            BadConfig: a window is asked for: a spreadsheet has no history; or a key column is not there.
            SourceError: it cannot be read.

        """
        if request.window is not None:
            raise BadConfig(
                "A spreadsheet is a snapshot: it holds no earlier state.",
                advice="Fill the newest partition; older ones cannot be read any more.",
            )
        table = self._table(request.resource)
        self._complete(table)
        if table.zone is None:
            self.stats.notes.append(
                f"{table.where}: the spreadsheet's time zone ({self._book().timezone}) is not known here; "
                "its times are taken to be in the organisation's."
            )
        yield from table.pages(request.key or self._config.key, self.stats.notes)

    def count(self, resource: str) -> int | None:  # noqa: ARG002  the protocol's
        """None: counting is reading."""
        return None

    def row_ids(self, resource: str) -> Iterator[list[str]]:
        """Every `_ds_row_id`, page by page, by reading the table."""
        for page in self.read(ReadRequest(resource)):
            yield page.data.column(ROW_ID).to_pylist()

    def close(self) -> None:
        """Close connections, delete temporary files."""
        for table in self._tables.values():
            table.close()
        self._tables.clear()
        self._api.close()

    def _book(self) -> Book:
        if self._known is None:
            self._known = read_book(self._api.get("", [("includeGridData", "false"), ("fields", METADATA_FIELDS)]))
        return self._known

    def _resources(self, book: Book) -> list[str]:
        return list(self._config.ranges) or book.resources(self._config.header_row[-1])

    def _info(self, resource: str, table: SheetTable) -> TableInfo:
        columns = tuple(info for _, info in table.columns()) if table.has_header() else ()
        rows = table.row_count if table.is_whole else None
        return TableInfo(resource=resource, title=resource.removeprefix("range:"), columns=columns, rows=rows)

    def _table(self, resource: str) -> SheetTable:
        """The table with its header, and with all its values where it is small; others come along in one request."""
        if resource not in self._tables:
            self._fetch(self._batch(resource))
        return self._tables[resource]

    def _with_header(self, resource: str) -> SheetTable:
        """The table; where a big one has no header all of it is read, to tell an empty tab from a moved header."""
        table = self._table(resource)
        if not table.has_header():
            self._complete(table)
        return table

    def _batch(self, resource: str) -> dict[str, SheetTable]:
        book = self._book()
        chosen = {resource: self._make(book, resource)}
        cells, characters = chosen[resource].area.cells, 0
        for other in self._resources(book):
            if other in self._tables or other in chosen or len(chosen) == BATCH_TABLES:
                continue
            try:
                area = book.area(other)
            except SourceError:
                continue  # its own affair, when it is asked for
            characters += len(quote(area.a1()))
            if characters > BATCH_CHARACTERS:
                break
            if area.cells <= SMALL_CELLS and cells + area.cells <= BATCH_CELLS:
                chosen[other] = self._make(book, other)
                cells += area.cells
        return chosen

    def _make(self, book: Book, resource: str) -> SheetTable:
        area = book.area(resource)
        try:
            zone = ZoneInfo(book.timezone) if book.timezone else None
        except (ValueError, OSError, LookupError):
            zone = None
        where = f"{resource.removeprefix('range:')!r} in the spreadsheet {book.title!r}"
        return SheetTable(area, self._config.header_row, book.merges.get(area.sheet_id, ()), zone, where)

    def _fetch(self, chosen: Mapping[str, SheetTable]) -> None:
        asked: list[tuple[SheetTable, Area]] = []
        for table in chosen.values():
            is_small = table.area.cells <= SMALL_CELLS
            part = table.area if is_small else table.area.rows(table.area.top, table.first_data_row)
            if part.cells:
                asked.append((table, part))
            table.is_whole = is_small or not part.cells
        if asked:
            ranges = [("ranges", part.a1()) for _, part in asked]
            answer = self._api.get("/values:batchGet", [*ranges, *_AS_STORED, ("majorDimension", "ROWS")])
            found = answer.get("valueRanges") or []
            if len(found) != len(asked):
                raise BadData("Google sent other ranges than those asked for.", advice="Sync again.")
            for (table, part), values in zip(asked, found, strict=True):
                table.add(part.top, values.get("values") or [])
        self._read_formats(list(chosen.values()))
        self._tables.update(chosen)

    def _complete(self, table: SheetTable) -> None:
        """Read a big table's rows in blocks, to disk."""
        if table.is_whole:
            return
        table.spool(self._scratch)
        area = table.area
        step = max(500, BLOCK_CELLS // max(1, area.right - area.left))
        for top in range(table.first_data_row, area.bottom, step):
            block = area.rows(top, top + step)
            answer = self._api.get(f"/values/{quote(block.a1(), safe='')}", [*_AS_STORED, ("majorDimension", "ROWS")])
            table.add(top, answer.get("values") or [])
        table.is_whole = True
        self._read_formats([table])

    def _read_formats(self, tables: Sequence[SheetTable]) -> None:
        """One request for the samples of all tables; more only for columns whose formats do not agree."""
        samples = [(table, areas) for table in tables if (areas := table.sample())]
        if not samples:
            return
        found = self._formats([area for _, areas in samples for area in areas])
        for table, areas in samples:
            for index in table.take_formats(areas, found):
                column = table.column_area(index)
                whole: dict[tuple[int, int, int], Mapping[str, Any]] = {}
                for top in range(column.top, column.bottom, BLOCK_CELLS):
                    whole |= self._formats([column.rows(top, top + BLOCK_CELLS)])
                table.take_column(index, whole)

    def _formats(self, areas: Sequence[Area]) -> dict[tuple[int, int, int], Mapping[str, Any]]:
        """Number formats by tab's id, row and column; a cell without one is left out."""
        ranges = [("ranges", area.a1()) for area in areas]
        answer = self._api.get("", [*ranges, ("includeGridData", "true"), ("fields", FORMAT_FIELDS)])
        found: dict[tuple[int, int, int], Mapping[str, Any]] = {}
        for sheet in answer.get("sheets") or []:
            sheet_id = int((sheet.get("properties") or {}).get("sheetId") or 0)
            for data in sheet.get("data") or []:
                top, left = int(data.get("startRow") or 0), int(data.get("startColumn") or 0)
                for row, cells in enumerate(data.get("rowData") or [], start=top):
                    for column, cell in enumerate(cells.get("values") or [], start=left):
                        number_format = (cell.get("effectiveFormat") or {}).get("numberFormat")
                        if number_format:
                            found[sheet_id, row, column] = number_format
        return found
