"""SurveyCTO (API v2, wide JSON) as a source: a form is a resource.

A form's data comes in one answer of any size, which is kept on disk while it is read twice: for its columns, then for
its rows. `date=` gives what was complete at that second or later; with `date=0` the server gives everything, but to
one caller in 300 seconds. It serves one request at a time, so all processes together send one at a time to a server.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

import pyarrow as pa

from datasense_assets.catalog.models import ColumnType
from datasense_assets.connectors.addresses import shown
from datasense_assets.connectors.base import (
    ROW_ID,
    ColumnInfo,
    Page,
    Quota,
    ReadRequest,
    Rejected,
    TableInfo,
    Window,
    kept_key,
)
from datasense_assets.connectors.config import SurveyctoConfig
from datasense_assets.connectors.errors import AccessForbidden, BadConfig, CredentialRefused, ResourceGone
from datasense_assets.connectors.http import HttpClient
from datasense_assets.connectors.http_connector import HttpConnector
from datasense_assets.connectors.personal import looks_personal
from datasense_assets.connectors.plain_text import Cleaner
from datasense_assets.connectors.surveycto_answer import newest_last, ordered_keys, read_rows
from datasense_assets.connectors.surveycto_repeats import Layout, find_layout
from datasense_assets.connectors.surveycto_rows import (
    COMPLETED,
    KEY,
    Json,
    completed_at,
    flatten,
    row_key,
    server_text,
)
from datasense_assets.connectors.surveycto_server import (
    ONE_AT_A_TIME,
    one_at_a_time,
    refusals,
    temporary_file,
)

ROWS_A_PAGE = 1000
EVERYTHING = "0"
SAMPLE_SPANS = (timedelta(days=1), timedelta(days=365))
SAMPLE_BYTES = 1 << 20
_RAW_LENGTH = 500
# An id that no form has; the server judges who asks before it looks for it.
_NO_FORM = "0-connection-test"

# What the server adds to the answers of every form, encrypted ones too.
OWN_COLUMNS = {
    COMPLETED: ColumnInfo(COMPLETED, "Completion date (UTC)", ColumnType.DATETIME),
    "SubmissionDate": ColumnInfo("SubmissionDate", "Submission date (UTC)", ColumnType.DATETIME),
    "instanceID": ColumnInfo("instanceID", "Instance id", ColumnType.TEXT),
    "formdef_version": ColumnInfo("formdef_version", "Form version", ColumnType.TEXT),
    "review_quality": ColumnInfo("review_quality", "Review quality", ColumnType.TEXT),
    "review_status": ColumnInfo("review_status", "Review status", ColumnType.TEXT),
    KEY: ColumnInfo(KEY, "Submission key", ColumnType.TEXT),
}
_PERSONAL = frozenset({"deviceid", "subscriberid", "simid", "devicephonenum", "username", "text_audit"})


class SurveyctoConnector(HttpConnector):
    """One user of one SurveyCTO server; `resource` is a form's id."""

    kind: ClassVar[str] = "surveycto"
    has_history: ClassVar[bool] = True
    Config = SurveyctoConfig

    def begin(self, credentials: Mapping[str, str]) -> None:
        """The private key, and the forms met so far."""
        private_key = credentials.get("private_key")
        self._files = None if private_key is None else {"private_key": private_key.encode()}
        self._described: dict[str, list[TableInfo]] = {}

    @classmethod
    def quotas(cls, config: Mapping[str, Any], credentials: Mapping[str, str]) -> tuple[Quota, ...]:  # noqa: ARG003
        """One request at a time a server, whoever asks, for forms or for datasets."""
        return (ONE_AT_A_TIME,)

    def check(self) -> str:
        """Ask for a form that cannot be, first without the credential, then with it; one sentence.

        Raises:
            SourceError: the credential is refused; `BadConfig` where the server asks for none, so is no SurveyCTO.

        """
        stranger = HttpClient(self.policy, self.stats, budget=self.budget)
        try:
            with self._file() as file, self._turn():
                stranger.download(self._url(_NO_FORM), file, params=self._since(datetime.now(UTC)))
        except (CredentialRefused, AccessForbidden):
            pass
        except ResourceGone:
            raise self._no_surveycto() from None
        else:
            raise self._no_surveycto()
        finally:
            stranger.close()
        try:
            with self._file() as file:
                self._download(_NO_FORM, datetime.now(UTC), file)
        except ResourceGone:
            pass
        return f"{shown(self.config.server)} accepts the user name and the password."

    def discover(self) -> list[TableInfo]:
        """Tables of every form that this user may download, by id; one or two requests a form.

        Raises:
            BadConfig: the server does not list its forms; they have to be named.
            SourceError: as the server says.

        """
        url = f"{self.config.server}/api/v2/forms/ids"
        try:
            with refusals(self.config.server, "list of forms", ""), self._turn():
                answer = self.client.get_json(url)
        except ResourceGone:
            answer = None
        found = answer.get("formIds") if isinstance(answer, dict) else answer
        if not isinstance(found, list):
            raise BadConfig(
                f"{shown(self.config.server)} does not say which forms it has.",
                advice="Name them under `tables` in the manifest: {slug: households, resource: the form's id}.",
            )
        tables: list[TableInfo] = []
        for form in sorted(str(each) for each in found):
            # a form may be listed to somebody who may not download its data
            with suppress(ResourceGone, AccessForbidden):
                tables += self.describe(form)
        return tables

    def describe(self, resource: str) -> list[TableInfo]:
        """The form's table and its repeat groups', as far as a cheap request shows them.

        The columns are those of the submissions completed in the last day, else in the last year, of which the first
        megabyte is fetched; never of everything, which the server gives only once in 300 seconds. Without any, they
        are the server's own; the rest turns up when the form is read. Labels and types of questions are not in the
        API: a label is the column's name.

        Raises:
            SourceError: as the server says; `ResourceGone` where it has no such form.

        """
        if resource not in self._described:
            keys: list[str] = []
            for span in SAMPLE_SPANS:
                with self._file() as file:
                    self._download(resource, datetime.now(UTC) - span, file, head=SAMPLE_BYTES)
                    keys = ordered_keys(read_rows(file, self._where(resource), cut=True))
                if keys:
                    break
            self._described[resource] = _infos(resource, find_layout(keys, self.config.plain_columns))
        return self._described[resource]

    def read(self, request: ReadRequest) -> Iterator[Page]:
        """Submissions as asked; no page where there are none. The newest come last.

        With a cursor, those completed since it, less `lag_seconds`, the cursor's own second included. With a window,
        what was complete at its start or later is fetched and exactly the window's rows are given. The cursor of a
        page is the latest completion so far (ISO, UTC), never before the request's own.

        Raises:
            SourceError: at any page; `BadConfig` for a cursor that is no time.

        """
        cursor = None if request.cursor is None else _cursor_time(request.cursor)
        where = self._where(request.resource)
        with self._file() as file:
            self._download(request.resource, self._start(request, cursor), file)
            keys = ordered_keys(read_rows(file, where))
            self._note_missing_fields(keys)
            layout = find_layout(keys, self.config.plain_columns)
            rejected, clean = list[Rejected](), Cleaner()
            wanted = _wanted(read_rows(file, where), request.window, rejected)
            for rows in _batches(newest_last(wanted)):
                times = [moment for row in rows if (moment := completed_at(row)) is not None]
                cursor = max([*times, *([cursor] if cursor else [])], default=None)
                refused, rejected[:] = tuple(rejected), []
                for path, data in flatten(rows, layout, clean):
                    text = None if cursor is None else cursor.isoformat()
                    yield Page(path=path, data=data, cursor=text, rejected=() if path else refused)
            self.stats.notes += clean.notes()
            if rejected:  # no row was good, so that no page has told of the bad ones
                yield Page(path=(), data=pa.table({ROW_ID: pa.array([], pa.string())}), rejected=tuple(rejected))

    def _start(self, request: ReadRequest, cursor: datetime | None) -> datetime | None:
        if request.window is not None:
            return request.window.start
        if request.changed_since is not None:
            return request.changed_since
        return None if cursor is None else cursor - timedelta(seconds=self.config.lag_seconds)

    def _since(self, start: datetime | None) -> dict[str, str]:
        params = {"date": EVERYTHING if start is None else server_text(start)}
        if self.config.review_status != ("approved",):  # what the server gives unasked
            params["r"] = "|".join(self.config.review_status)
        return params

    def _download(self, form: str, start: datetime | None, file: Path, head: int | None = None) -> None:
        with self._named(form), self._turn():
            self.client.download(self._url(form), file, params=self._since(start), files=self._files, head=head)

    def _turn(self) -> Any:
        return one_at_a_time(self.config.server, self.budget)

    def _named(self, form: str) -> Any:
        """Say what a refusal means here."""
        advice = "Check `resource`: it is the form's id, as on SurveyCTO's Design tab, not its title."
        return refusals(self.config.server, f"form {form}", advice)

    def _file(self) -> Any:
        """A file for one answer, gone when it has been read."""
        return temporary_file(self.policy, "answer.json")

    def _note_missing_fields(self, keys: list[str]) -> None:
        if keys and not set(keys) - OWN_COLUMNS.keys() and self._files is None:
            self.stats.notes.append(
                "Only the server's own columns came, no answers, as from an encrypted form. Name its private key under "
                "`credentials` as private_key to load the answers too."
            )

    def _no_surveycto(self) -> BadConfig:
        return BadConfig(
            f"{shown(self.config.server)} does not answer like SurveyCTO: it asks for no user name.",
            advice="Check `server`, for example https://example.surveycto.com.",
        )

    def _url(self, form: str) -> str:
        return f"{self.config.server}/api/v2/forms/data/wide/json/{quote(form, safe='')}"

    def _where(self, form: str) -> str:
        return shown(self._url(form))


def _wanted(rows: Iterator[Any], window: Window | None, rejected: list[Rejected]) -> Iterator[Json]:
    """The rows that can be read and are the window's; the others are added to `rejected`, or left out."""
    for line, row in enumerate(rows, start=1):
        reason = None
        if not isinstance(row, dict):
            reason = "it is no object"
        elif row_key(row) is None:
            reason = f"it has no {KEY}"
        elif window is not None:
            moment = completed_at(row)
            if moment is None:
                reason = f"its {COMPLETED} is no moment, so that it belongs to no window"
            elif not window.start <= moment < window.end:
                continue
        if reason is None:
            yield row
        else:
            rejected.append(Rejected(line, reason, str(row)[:_RAW_LENGTH]))


def _batches(rows: Iterator[Json]) -> Iterator[list[Json]]:
    batch: list[Json] = []
    for row in rows:
        batch.append(row)
        if len(batch) == ROWS_A_PAGE:
            yield batch
            batch = []
    if batch:
        yield batch


def _infos(form: str, layout: Layout) -> list[TableInfo]:
    tables = []
    for path, names in layout.columns.items():
        keys = names if path else tuple(dict.fromkeys([*names, *OWN_COLUMNS]))
        columns = tuple(_column(key, own=not path) for key in keys)
        tables.append(TableInfo(form, ": ".join((form, *path)), columns, path, is_sample=True))
    return tables


def _column(key: str, *, own: bool) -> ColumnInfo:
    if own and key in OWN_COLUMNS:
        return OWN_COLUMNS[key]
    return ColumnInfo(kept_key(key), key, personal=key in _PERSONAL or looks_personal(key, key))


def _cursor_time(cursor: str) -> datetime:
    try:
        moment = datetime.fromisoformat(cursor)
    except ValueError:
        raise BadConfig(f"The stored cursor {cursor!r} is no time.", advice="Sync once with --full.") from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
