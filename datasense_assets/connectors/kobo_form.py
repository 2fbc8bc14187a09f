"""A Kobo form's content (XLSForm as JSON) as the tables it makes: columns with labels, choices, types; repeat groups.

Pure functions of the JSON that the server gives for one form.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from datasense_assets.catalog.models import Choice, ColumnType
from datasense_assets.connectors.base import ColumnInfo, TableInfo, kept_key
from datasense_assets.connectors.personal import looks_personal

Json = Mapping[str, Any]
Path = tuple[str, ...]

_TYPES = {
    "integer": ColumnType.INTEGER,
    "decimal": ColumnType.NUMBER,
    "range": ColumnType.NUMBER,
    "date": ColumnType.DATE,
    "today": ColumnType.DATE,
    "datetime": ColumnType.DATETIME,
    "start": ColumnType.DATETIME,
    "end": ColumnType.DATETIME,
    "time": ColumnType.TIME,
}
# the result of a calculation may be anything: left to the vote over its values
_UNKNOWN = frozenset({"calculate", "hidden", "xml-external", "csv-external"})
_NO_DATA = frozenset({"note"})
_PERSONAL = frozenset(
    {"phonenumber", "email", "username", "deviceid", "subscriberid", "simserial", "geopoint", "geotrace", "geoshape"}
    | {"image", "audio", "video", "background-audio", "start-geopoint"}
)
_OPENS_GROUP = frozenset({"begin_group", "begin_score", "begin_rank", "begin_kobomatrix"})
_CLOSES = frozenset({"end_group", "end_repeat", "end_score", "end_rank", "end_kobomatrix"})

VALIDATION = (
    Choice(value="validation_status_approved", labels={"": "Approved"}),
    Choice(value="validation_status_not_approved", labels={"": "Not approved"}),
    Choice(value="validation_status_on_hold", labels={"": "On hold"}),
)
META_COLUMNS = (
    ColumnInfo("_id", "Submission id", ColumnType.INTEGER),
    ColumnInfo("_uuid", "Submission uuid", ColumnType.TEXT),
    ColumnInfo("_submission_time", "Submission time (UTC)", ColumnType.DATETIME),
    ColumnInfo("_submitted_by", "Submitted by", ColumnType.TEXT, personal=True),
    ColumnInfo("__version__", "Form version", ColumnType.TEXT),
    ColumnInfo("_validation_status", "Validation status", ColumnType.TEXT, choices=VALIDATION),
    ColumnInfo("_status", "Status", ColumnType.TEXT),
    ColumnInfo("_geolocation", "Geolocation", ColumnType.JSON, personal=True),
    ColumnInfo("_attachments", "Attachments", ColumnType.JSON, personal=True),
    ColumnInfo("_tags", "Tags", ColumnType.JSON),
    ColumnInfo("_notes", "Notes", ColumnType.JSON),
    ColumnInfo("meta/instanceID", "Instance id", ColumnType.TEXT),
    ColumnInfo("meta/rootUuid", "Root uuid", ColumnType.TEXT),
)


@dataclass
class FormTable:
    """One table of a form while it is put together: `xpath` of its repeat group ('' for the top table)."""

    xpath: str
    name: str
    title: str
    parent: FormTable | None = None
    columns: list[ColumnInfo] = field(default_factory=list)

    @property
    def path(self) -> Path:
        """Names of the repeat groups down to this one."""
        return () if self.parent is None else (*self.parent.path, self.name)


@dataclass(frozen=True)
class FormTables:
    """A form's tables, the top one first, parents before children; repeat groups by the xpath their data is under."""

    uid: str
    tables: tuple[FormTable, ...]

    @property
    def top(self) -> FormTable:
        """The table of the submissions."""
        return self.tables[0]

    @property
    def repeats(self) -> dict[str, FormTable]:
        """Repeat groups by xpath."""
        return {t.xpath: t for t in self.tables if t.parent is not None}

    def infos(self, rows: int | None, history_start: date | None) -> list[TableInfo]:
        """The tables as a connector describes them; count and start belong to the top table."""
        return [
            TableInfo(
                resource=self.uid,
                title=table.title,
                columns=tuple(table.columns),
                path=table.path,
                rows=rows if table.parent is None else None,
                history_start=history_start if table.parent is None else None,
            )
            for table in self.tables
        ]


def form_tables(asset: Json) -> FormTables:
    """The tables of a form, from the asset as the server gives it.

    Questions keep the full path of groups and repeats as their key (`group/question`). A row that is not understood
    is passed over: its data still becomes a column when it comes.
    """
    content = asset.get("content") or {}
    reader = _Reader(str(asset.get("name") or asset.get("uid")), content)
    for row in content.get("survey") or []:
        reader.take(row)
    known = {c.key for c in reader.tables[0].columns}
    reader.tables[0].columns.extend(c for c in META_COLUMNS if c.key not in known)
    return FormTables(uid=str(asset.get("uid")), tables=tuple(reader.tables))


def repeat_name(xpath: str, taken: Iterable[str]) -> str:
    """Name of a repeat group among its siblings: its own, else its whole path with `_` where another has it."""
    own = xpath.rpartition("/")[2]
    return own if own not in set(taken) else xpath.replace("/", "_")


class _Reader:
    """Walks the survey's rows, which open and close groups, with the table each group stands in."""

    def __init__(self, title: str, content: Json) -> None:
        self._languages = [str(name or "") for name in content.get("translations") or [None]]
        self._choices = _choice_lists(content, self._languages)
        self.tables = [FormTable("", "", title)]
        self._open: list[tuple[str, FormTable]] = [("", self.tables[0])]

    def take(self, row: Json) -> None:
        kind, _, argument = str(row.get("type") or "").partition(" ")
        if kind in _CLOSES:
            if len(self._open) > 1:
                self._open.pop()
            return
        name = str(row.get("$autoname") or row.get("name") or "")
        if not kind or not name:
            return
        above, table = self._open[-1]
        xpath = f"{above}/{name}" if above else name
        labels = _labels(row.get("label"), self._languages)
        if kind == "begin_repeat":
            siblings = [t.name for t in self.tables if t.parent is table]
            title = _label(labels, name)
            child = FormTable(xpath, repeat_name(xpath, siblings), f"{table.title}: {title}", parent=table)
            self.tables.append(child)
            self._open.append((xpath, child))
        elif kind in _OPENS_GROUP:
            self._open.append((xpath, table))
        elif kind not in _NO_DATA:
            choices = row.get("select_from_list_name") or argument.split(" ")[0]
            table.columns.append(
                ColumnInfo(
                    key=kept_key(xpath),
                    label=_label(labels, name),
                    type=_type(kind),
                    labels=labels,
                    choices=self._choices.get(str(choices), ()) if kind.startswith(("select", "rank", "score")) else (),
                    personal=kind in _PERSONAL or looks_personal(xpath, _label(labels, name)),
                )
            )


def _type(kind: str) -> ColumnType | None:
    if kind in _UNKNOWN:
        return None
    return _TYPES.get(kind.lower(), ColumnType.TEXT)


def _labels(value: Any, languages: list[str]) -> dict[str, str]:
    """Labels by language, '' for the unnamed one; a form without translations may hold bare text."""
    texts = value if isinstance(value, list) else [value]
    return {lang: str(text) for lang, text in zip(languages, texts, strict=False) if text not in (None, "")}


def _label(labels: Mapping[str, str], name: str) -> str:
    return next(iter(labels.values()), name)


def _choice_lists(content: Json, languages: list[str]) -> dict[str, tuple[Choice, ...]]:
    lists: dict[str, dict[str, Choice]] = {}
    for row in content.get("choices") or []:
        value = row.get("$autovalue") or row.get("name")
        if value is None or value == "":
            continue
        entries = lists.setdefault(str(row.get("list_name")), {})
        entries.setdefault(str(value), Choice(value=str(value), labels=_labels(row.get("label"), languages)))
    return {name: tuple(entries.values()) for name, entries in lists.items()}
