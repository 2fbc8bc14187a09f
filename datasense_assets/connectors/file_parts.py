"""What the files of a source are as tables: members of archives, sheets of workbooks, and which of them go together.

A part is one file, member or sheet. A table is one part, or the parts of the same name in all files of a folder: a
folder of CSVs is one table, a folder of zips with the same members is a table a member.
"""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from datasense_assets.connectors import file_archive
from datasense_assets.connectors.errors import BadConfig, BadData, ResourceGone
from datasense_assets.connectors.excel_rows import sheet_names
from datasense_assets.connectors.file_config import FileConfig
from datasense_assets.connectors.file_places import FoundFile, Place, wanted_names

CSV_SUFFIXES = frozenset({".csv", ".tsv", ".tab", ".txt", ".psv"})
_BY_SUFFIX = (
    dict.fromkeys(CSV_SUFFIXES, "csv")
    | dict.fromkeys((".xlsx", ".xlsm", ".xlsb", ".xls", ".ods"), "excel")
    | dict.fromkeys((".jsonl", ".ndjson", ".json", ".geojson"), "json")
    | dict.fromkeys((".parquet", ".pq"), "parquet")
)
_PACKED = frozenset({".zip", ".gz", ".tgz"})
_LISTED = 20


def suffixes_of(wanted: str) -> frozenset[str]:
    """How files of that format are named."""
    return frozenset(s for s, each in _BY_SUFFIX.items() if wanted in ("auto", each))


@dataclass(frozen=True)
class Part:
    """One file, member or sheet; `format` is csv, excel, json or parquet. `fault`: why it cannot be read, where it is
    a table of its own, so that the others can.
    """

    file: FoundFile
    packing: str
    member: str | None
    sheet: str | None
    format: str
    fault: BadData | None = None

    @property
    def where(self) -> str:
        """As messages name it."""
        where = self.file.where if self.member is None else f"{self.member} in {self.file.where}"
        return where if self.sheet is None else f"sheet {self.sheet!r} of {where}"


class Parts:
    """The parts of a source, found once; `temporary` makes paths for what is unpacked."""

    def __init__(self, config: FileConfig, place: Place, temporary: Callable[[str], Path]) -> None:
        """Keep the parts; nothing is looked at."""
        self._config, self._place, self._temporary = config, place, temporary
        self._tables: dict[str, list[Part]] | None = None
        self._unpacked: dict[tuple[str, str | None], Path] = {}

    def tables(self) -> dict[str, list[Part]]:
        """Parts by the resource they are tables of, in the order of the files; raise SourceError."""
        if self._tables is None:
            tables: dict[str, list[Part]] = {}
            for file in self._place.files():
                for part in self._parts_of(file):
                    tables.setdefault(self._resource(part), []).append(part)
            self._tables = tables
        return self._tables

    def choose(self, resource: str) -> tuple[str, list[Part]]:
        """The table that is meant, whatever it was called when there is but one.

        Raises:
            ResourceGone: no table of that name.
            BadConfig: several, and none was named; all are listed.

        """
        tables = self.tables()
        if resource in tables:
            return resource, tables[resource]
        if len(tables) == 1:
            return next(iter(tables.items()))
        for name, parts in tables.items():  # a workbook that cannot be opened does not say which sheets it has
            if parts[0].fault is not None and resource.startswith(f"{name}#"):
                return name, parts
        listed, what = ", ".join(tables), self._what()
        if resource:
            raise ResourceGone(f"{self._place.where} has no member {resource!r}.", advice=f"Its {what} are: {listed}.")
        raise BadConfig(
            f"{self._place.where} holds several {what} and none is named.", advice=f"Set `member` to one of: {listed}."
        )

    def path_of(self, part: Part) -> Path:
        """The part's bytes as a plain local file, unpacked once; raise SourceError."""
        return self._plain(part.file, part.packing, part.member)

    def file_value(self, part: Part) -> str | None:
        """What the file column says of the part's rows; None where the table has no such column."""
        if self._config.combine:
            return "/".join(name for name in (part.file.name, part.member) if name)
        return part.file.name if self._place.is_set and self._config.combine is None else None

    def _what(self) -> str:
        return "CSV files" if self._config.format == "csv" else "tables"

    def _resource(self, part: Part) -> str:
        if self._config.combine:
            names: list[str | None] = []
        elif self._place.is_set and self._config.combine is False:
            names = [part.file.name, part.member]
        else:
            names = [part.member]
        path = "/".join(name for name in names if name)
        if part.sheet is not None:
            return f"{path}#{part.sheet}" if path else part.sheet
        return path or self._own_name(part)

    def _own_name(self, part: Part) -> str:
        if not self._place.is_set and self._config.combine is not True:
            name = part.file.name
            return (name[:-3] if part.packing == "gzip" and name.lower().endswith(".gz") else name) or name
        parents = [p for p in PurePosixPath(self._place.where).parts if not set("*?[") & set(p)]
        return (parents[-1].strip("/:") if parents else "") or "files"

    def _parts_of(self, file: FoundFile) -> list[Part]:
        raw = self._place.fetch(file)
        packing = file_archive.packing_of(raw)
        if packing in ("plain", "gzip"):
            return self._expanded_or_faulty(file, packing, None)
        names = file_archive.members(raw, packing, file.where)
        chosen = self._chosen(names, file.where)
        return [part for name in chosen for part in self._expanded_or_faulty(file, packing, name)]

    def _expanded_or_faulty(self, file: FoundFile, packing: str, member: str | None) -> list[Part]:
        try:
            return self._expanded(file, packing, member)
        except BadData as error:
            own = self._config.combine is False or (self._config.combine is None and not self._place.is_set)
            if not own or (member is None and not self._place.is_set):
                raise
            return [Part(file, packing, member, None, "csv", error)]

    def _chosen(self, names: list[str], where: str) -> list[str]:
        real = [n for n in names if "__MACOSX/" not in n and not PurePosixPath(n).name.startswith(".")]
        found = wanted_names(names, suffixes_of(self._config.format)) or (real if len(real) == 1 else [])
        member, what = self._config.member, self._what()
        if member is not None:
            chosen = [member] if member in names else sorted(fnmatch.filter(found, member))
            if not chosen:
                listed = ", ".join(found[:_LISTED])
                raise ResourceGone(f"{where} has no member {member!r}.", advice=f"Its {what} are: {listed}.")
            return chosen
        if not found:
            listed = ", ".join(names[:_LISTED]) or "nothing"
            what = "CSV file" if self._config.format == "csv" else "file that is read"
            raise BadData(f"{where} holds no {what}; it holds {listed}.", advice="Put a .csv file into it.")
        return found

    def _expanded(self, file: FoundFile, packing: str, member: str | None) -> list[Part]:
        where = file.where if member is None else f"{member} in {file.where}"
        by_name = _BY_SUFFIX.get(PurePosixPath(member or "").suffix.lower()) if self._config.format == "auto" else None
        kind = by_name if by_name in ("csv", "parquet", "json") else self._format_of(file, packing, member, where)
        if kind != "excel":
            return [Part(file, packing, member, None, str(kind))]
        sheets = sheet_names(self._plain(file, packing, member), where)
        chosen = list(self._config.sheet) or [name for name, visible in sheets.items() if visible] or list(sheets)
        missing = [name for name in chosen if name not in sheets]
        if missing:
            raise ResourceGone(
                f"{where} has no sheet {', '.join(map(repr, missing))}.", advice=f"Its sheets are: {', '.join(sheets)}."
            )
        return [Part(file, packing, member, name, "excel") for name in chosen]

    def _format_of(self, file: FoundFile, packing: str, member: str | None, where: str) -> str:
        path, wanted = self._plain(file, packing, member), self._config.format
        if not path.stat().st_size:
            raise BadData(f"{where} is empty.", advice="Upload it again; the table keeps its last rows meanwhile.")
        is_workbook = file_archive.is_workbook(path)
        if wanted == "csv" and is_workbook:
            raise BadData(
                f"{where} is an Excel workbook, not CSV.",
                advice="Write `connector: file`, which reads workbooks too, or save the sheet as CSV (UTF-8).",
            )
        if wanted == "excel" and not is_workbook:
            raise BadData(f"{where} is no workbook.", advice="Give an xlsx, xls or ods file, or leave `format` out.")
        if wanted != "auto":
            return wanted
        return "excel" if is_workbook else _format_of_content(path, member or file.name.removesuffix(".gz"), where)

    def _plain(self, file: FoundFile, packing: str, member: str | None) -> Path:
        raw = self._place.fetch(file)
        if packing == "plain":
            return raw
        key = (file.name, member)
        if key not in self._unpacked:
            target = self._temporary("member")
            file_archive.unpack(raw, packing, member or "", target, file.where)
            self._unpacked[key] = target
        return self._unpacked[key]


def packed_suffixes(wanted: str) -> frozenset[str]:
    """How files of that format may be named when packed too."""
    return suffixes_of(wanted) | _PACKED


def _format_of_content(path: Path, name: str, where: str) -> str:
    with path.open("rb") as file:
        start = file.read(65_536)
    if start.startswith(b"PAR1"):
        return "parquet"
    named = _BY_SUFFIX.get(PurePosixPath(name).suffix.lower())
    if named == "excel" and start.startswith((b"PK", b"\xd0\xcf")):
        raise BadData(f"{where} is a damaged workbook.", advice="Open it, save it again.")
    if named == "json":
        return "json"
    first = start.removeprefix(b"\xef\xbb\xbf").lstrip().partition(b"\n")[0]
    if named is None and first[:1] == b"{":
        try:
            json.loads(first)
        except ValueError:
            return "csv"
        return "json"
    return "csv"
