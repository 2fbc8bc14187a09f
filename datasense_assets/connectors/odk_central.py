"""ODK Central (OData of its API v1) as a source: each published form of a project is a resource.

Submissions come newest first, repeats nested in them (`$expand=*`), in pages that follow the server's `$skiptoken`,
which holds its place while rows come in. A row's identity is `__id`, which ODK gives to repeats' rows too.
`submissionDate` never changes and is what a window is about; a live read also takes what was edited since the cursor
(`updatedAt`).
Facts: docs.getodk.org/central-api-odata-endpoints and Central's own source (lib/data/odata.js).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import parse_qs, quote, urlsplit

from pydantic import Field

from datasense_assets.catalog.models import ColumnType
from datasense_assets.connectors.base import (
    INDEX,
    PARENT_ID,
    ROW_ID,
    ColumnInfo,
    Page,
    Quota,
    ReadRequest,
    TableInfo,
    kept_key,
)
from datasense_assets.connectors.config import ApiRoot, ConnectorConfig
from datasense_assets.connectors.errors import BadConfig, BadData
from datasense_assets.connectors.http_connector import HttpConnector
from datasense_assets.connectors.personal import looks_personal
from datasense_assets.connectors.plain_text import Cleaner

if TYPE_CHECKING:
    import pyarrow as pa

Path = tuple[str, ...]
Row = dict[str, str | None]
_TYPES = {
    "int": ColumnType.INTEGER,
    "decimal": ColumnType.NUMBER,
    "boolean": ColumnType.BOOLEAN,
    "date": ColumnType.DATE,
    "dateTime": ColumnType.DATETIME,
    "string": ColumnType.TEXT,
    "select1": ColumnType.TEXT,
    "select": ColumnType.TEXT,
    "binary": ColumnType.TEXT,
}
_SYSTEM = {
    "submissionDate": ColumnType.DATETIME,
    "updatedAt": ColumnType.DATETIME,
    "submitterName": ColumnType.TEXT,
    "reviewState": ColumnType.TEXT,
    "formVersion": ColumnType.TEXT,
    "edits": ColumnType.INTEGER,
}


class OdkCentralConfig(ConnectorConfig):
    """ODK Central. `base_url`: the server; `project`: the number in the project's address. `lag_seconds`: how far
    before its cursor a live read starts. `page_size`: submissions a call.
    """

    CREDENTIALS = (frozenset({"username", "password"}),)

    base_url: ApiRoot
    project: int = Field(ge=1)
    lag_seconds: int = Field(default=300, ge=0, le=86_400)
    page_size: int = Field(default=1000, ge=1, le=10_000)


class OdkCentralConnector(HttpConnector):
    """One project on one server; `resource` is a form's `xmlFormId`."""

    kind: ClassVar[str] = "odk_central"
    has_history: ClassVar[bool] = True
    Config = OdkCentralConfig

    @classmethod
    def quotas(cls, config: Mapping[str, Any], credentials: Mapping[str, str]) -> tuple[Quota, ...]:  # noqa: ARG003
        """A measure of ours: the server names none, and checks a password for long."""
        return (Quota("odk_central.account", shared_by=credentials["username"], calls=120),)

    def check(self) -> str:
        """List the project's forms; one sentence; raise SourceError."""
        return f"{self.config.base_url} accepts the user: {len(self._forms())} forms in project {self.config.project}."

    def discover(self) -> list[TableInfo]:
        """Tables of every published form, by id; one call a form; raise SourceError."""
        return [info for form in self._forms() for info in self.describe(form)]

    def describe(self, resource: str) -> list[TableInfo]:
        """The form's table and its repeats', by the fields of the published version; raise SourceError."""
        fields = self._get(f"forms/{quote(resource, safe='')}/fields", {"odata": "true"})
        own = tuple(ColumnInfo(f"__system/{name}", name, kind) for name, kind in _SYSTEM.items())
        columns: dict[Path, list[ColumnInfo]] = {(): list(own)}
        repeats: dict[str, Path] = {}
        for field in fields:
            place = field["path"].strip("/")
            above = max((r for r in repeats if place.startswith(f"{r}/")), key=len, default="")
            parent = repeats[above] if above else ()
            key = place.removeprefix(f"{above}/") if above else place
            if field["type"] == "repeat":
                repeats[place] = (*parent, key)
                columns[repeats[place]] = []
            elif field["type"] != "structure":
                name, kind = field["name"], _TYPES.get(field["type"])
                columns[parent].append(ColumnInfo(kept_key(key), name, kind, personal=looks_personal(key, name)))
        return [TableInfo(resource, ": ".join((resource, *p)), tuple(found), p) for p, found in columns.items()]

    def read(self, request: ReadRequest) -> Iterator[Page]:
        """Submissions as asked; raise SourceError at any page. The cursor is the latest submission or edit so far."""
        tables = {info.path: [column.key for column in info.columns] for info in self.describe(request.resource)}
        cursor, clean = request.cursor, Cleaner()
        params = {"$expand": "*", "$top": str(self.config.page_size)}
        if condition := self._condition(request):
            params["$filter"] = condition
        while True:
            answer = self._get(f"forms/{quote(request.resource, safe='')}.svc/Submissions", params)
            rows: dict[Path, list[Row]] = {path: [] for path in tables}
            for submission in answer["value"]:
                _flatten(submission, (), None, rows, clean)
                system = submission.get("__system") or {}
                moments = [system[name] for name in ("submissionDate", "updatedAt") if system.get(name)]
                cursor = max([*moments, *([cursor] if cursor else [])], key=_moment, default=None)
            for path, found in rows.items():
                if found:
                    yield Page(path, _table(tables.get(path, []), found), cursor)
            link = parse_qs(urlsplit(answer.get("@odata.nextLink") or "").query)
            following = {name: link[name][0] for name in ("$skiptoken", "$skip") if name in link}
            if not following or not answer["value"]:
                self.stats.notes += clean.notes()
                return
            if following.items() <= params.items():
                raise BadData(f"{self.config.base_url} gives the same page again.", advice="Sync again.")
            params = {name: value for name, value in params.items() if not name.startswith("$skip")} | following

    def count(self, resource: str) -> int | None:
        """How many submissions there are now."""
        answer = self._get(f"forms/{quote(resource, safe='')}.svc/Submissions", {"$top": "0", "$count": "true"})
        return int(answer["@odata.count"])

    def row_ids(self, resource: str) -> Iterator[list[str]]:
        """Every submission's `__id`."""
        for page in self.read(ReadRequest(resource)):
            if not page.path:
                yield page.data.column(ROW_ID).to_pylist()

    def _condition(self, request: ReadRequest) -> str:
        if request.window is not None:
            start, end = _written(request.window.start), _written(request.window.end)
            return f"__system/submissionDate ge {start} and __system/submissionDate lt {end}"
        if request.cursor is None:
            return ""
        since = _written(_moment(request.cursor) - timedelta(seconds=self.config.lag_seconds))
        return f"__system/submissionDate ge {since} or __system/updatedAt ge {since}"

    def _forms(self) -> list[str]:
        return sorted(form["xmlFormId"] for form in self._get("forms") if form.get("publishedAt"))

    def _get(self, tail: str, params: Mapping[str, str] | None = None) -> Any:
        answer = self.client.get_json(f"{self.config.base_url}/v1/projects/{self.config.project}/{tail}", params)
        if not (isinstance(answer, dict) and "value" in answer if ".svc/" in tail else isinstance(answer, list)):
            raise BadData(f"{self.config.base_url} does not answer like ODK Central.", advice="Check `base_url`.")
        return answer


def _flatten(
    item: Mapping[str, Any], path: Path, place: Row | None, rows: dict[Path, list[Row]], clean: Cleaner
) -> None:
    """Add a submission, or a repeat's row, to `rows` by table, and those of its own repeats."""
    row: Row = {ROW_ID: str(item["__id"]), **(place or {})}
    rows.setdefault(path, []).append(row)
    parts = [(key, value) for key, value in item.items() if key != "__id" and "@odata." not in key]
    while parts:
        key, value = parts.pop(0)
        if (*path, key) in rows or (isinstance(value, list) and value and isinstance(value[0], dict)):
            for index, inner in enumerate(value or (), start=1):
                _flatten(inner, (*path, key), {PARENT_ID: row[ROW_ID], INDEX: str(index)}, rows, clean)
        elif isinstance(value, dict) and "coordinates" not in value:  # a group, whereas GeoJSON is one value
            parts = [(f"{key}/{k}", v) for k, v in value.items() if "@odata." not in k] + parts
        else:
            row[kept_key(key)] = _text(value, clean)


def _text(value: Any, clean: Cleaner) -> str | None:
    if value is None or isinstance(value, str):
        return None if value is None else clean(value)
    return json.dumps(value, ensure_ascii=False)


def _table(keys: list[str], rows: list[Row]) -> pa.Table:
    import pyarrow as pa

    names = dict.fromkeys([*keys, *(name for row in rows for name in row)])
    return pa.table({name: pa.array([row.get(name) for row in rows], pa.string()) for name in names})


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise BadConfig(f"The stored cursor {text!r} is no time.", advice="Sync once with --full.") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _written(moment: datetime) -> str:
    """With milliseconds, as the server keeps and compares it; a part of one counts as the next."""
    whole = moment.astimezone(UTC) + timedelta(microseconds=-moment.microsecond % 1000)
    return whole.isoformat(timespec="milliseconds").replace("+00:00", "Z")
