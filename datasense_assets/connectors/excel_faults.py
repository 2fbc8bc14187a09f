"""Cells of a workbook whose value is not what its reader makes of them: errors, and formulas that were not calculated.

calamine gives errors (`#N/A`, `#DIV/0!`) and formulas without a result as empty cells. A program that writes workbooks
without calculating keeps the formula alone (openpyxl), or 0 for each (XlsxWriter) and a word that they are to be
calculated when the workbook is opened. All this stands in the XML of xlsx and ods; of the binary formats xls and xlsb,
which always keep results, errors are not told.
"""

from __future__ import annotations

import posixpath
import re
import zipfile
import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice, product
from pathlib import Path
from typing import IO, Any
from xml.etree import ElementTree
from xml.parsers import expat

from python_calamine import CalamineSheet

from datasense_assets.connectors.google_ranges import column_letters

Place = tuple[int, int]
"""Row and column of a cell, both from 0."""

_CHUNK = 1 << 20
_LONGEST_TOKEN = 64
# of xlsx, with and without a prefix, and of ods
_HINTS = (b"<f>", b"<f ", b"<f/", b":f>", b":f ", b":f/", b't="e"', b"t='e'", b":formula=", b'"error"', b"'error'")
_REFERENCE = re.compile(r"([A-Z]{1,3})([0-9]{1,7})")
_MOST_REPEATED = 10_000


@dataclass
class Faults:
    """By place: errors with their word, formulas without a result, and those whose result is a 0 that means nothing.

    `is_binary`: in such a workbook none can be found.
    """

    errors: dict[Place, str] = field(default_factory=dict)
    unstored: set[Place] = field(default_factory=set)
    uncalculated: set[Place] = field(default_factory=set)
    is_binary: bool = False

    @property
    def empty(self) -> set[Place]:
        """Cells that hold something and come as empty."""
        return self.unstored | self.errors.keys()


def find_faults(path: Path, sheet: CalamineSheet) -> Faults:
    """Look through the XML of a sheet that calamine could read; nothing is found in a binary workbook."""
    found = Faults(is_binary=True)
    if not zipfile.is_zipfile(path):
        return found
    # what is damaged here did not keep calamine from reading the cells
    with suppress(zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError), zipfile.ZipFile(path) as archive:
        names, member = set(archive.namelist()), "content.xml"
        reader: _Reader = _OdsReader(sheet.name, found)
        found.is_binary = "xl/workbook.bin" in names
        if "xl/workbook.xml" in names:
            member, is_calculated = _member_of(archive, sheet.name)
            reader = _XlsxReader(found, is_calculated=is_calculated)
        if member in names and _has_hint(archive, member):
            with archive.open(member) as file:
                reader.read(file)
    return found


def cell_name(place: Place) -> str:
    """As people call it: `B2`."""
    row, column = place
    return f"{column_letters(column)}{row + 1}"


def _member_of(archive: zipfile.ZipFile, sheet: str) -> tuple[str, bool]:
    """The file of an xlsx that holds the sheet ('' where the workbook does not say), and whether it was calculated."""
    try:
        book = ElementTree.fromstring(archive.read("xl/workbook.xml"))  # noqa: S314  expat bounds what entities make
        relations = ElementTree.fromstring(archive.read("xl/_rels/workbook.xml.rels"))  # noqa: S314
    except (KeyError, ElementTree.ParseError):
        return "", True
    later = [each.get("fullCalcOnLoad") in ("1", "true") for each in book.iter() if _local(each.tag) == "calcPr"]
    ids = [
        next((value for name, value in each.attrib.items() if name.endswith("}id")), "")
        for each in book.iter()
        if _local(each.tag) == "sheet" and each.get("name") == sheet
    ]
    targets = {each.get("Id"): each.get("Target") or "" for each in relations}
    target = targets.get(ids[0], "") if ids else ""
    whole = target.lstrip("/") if target.startswith("/") else posixpath.normpath(posixpath.join("xl", target))
    return whole, not any(later)


def _has_hint(archive: zipfile.ZipFile, member: str) -> bool:
    """Whether there is a formula or an error at all: to find none costs a tenth of looking at each cell."""
    end = b""
    with archive.open(member) as file:
        while chunk := file.read(_CHUNK):
            end += chunk
            if any(hint in end for hint in _HINTS):
                return True
            end = end[-_LONGEST_TOKEN:]
    return False


def _local(name: str) -> str:
    return name.rpartition("}")[2]


class _Reader:
    """Goes through an XML file; what opens, closes and stands between is the subclass's matter."""

    def __init__(self, found: Faults) -> None:
        self.found = found
        self.text: list[str] | None = None

    def read(self, file: IO[bytes]) -> None:
        parser = expat.ParserCreate(namespace_separator="}")
        parser.buffer_text = True
        parser.StartElementHandler = lambda name, attributes: self.opens(_local(name), attributes)
        parser.EndElementHandler = lambda name: self.closes(_local(name))
        parser.CharacterDataHandler = self.says
        try:
            parser.ParseFile(file)
        except expat.ExpatError:
            return  # calamine has read what there is

    def says(self, text: str) -> None:
        if self.text is not None:
            self.text.append(text)

    def opens(self, name: str, attributes: Mapping[str, Any]) -> None:
        raise NotImplementedError

    def closes(self, name: str) -> None:
        raise NotImplementedError


class _XlsxReader(_Reader):
    """`<row r="2"><c r="B2" t="e"><f>1/0</f><v>#DIV/0!</v></c></row>`; `r` may be left out."""

    row, column = -1, -1
    kind = ""
    has_formula = False
    value = ""

    def __init__(self, found: Faults, *, is_calculated: bool) -> None:
        super().__init__(found)
        self.is_calculated = is_calculated

    def opens(self, name: str, attributes: Mapping[str, Any]) -> None:
        if name == "row":
            self.row = int(attributes["r"]) - 1 if "r" in attributes else self.row + 1
            self.column = -1
        elif name == "c":
            self.column = _column_of(str(attributes.get("r", "")), self.column + 1)
            self.kind, self.has_formula, self.value = str(attributes.get("t", "")), False, ""
        elif name == "f":
            self.has_formula = True
        elif name == "v":
            self.text = []

    def closes(self, name: str) -> None:
        if name == "v" and self.text is not None:
            self.value, self.text = "".join(self.text), None
        elif name == "c":
            if self.kind == "e" and self.value:
                self.found.errors[self.row, self.column] = self.value
            elif self.has_formula and not self.value and self.kind != "str":  # an empty text is a result
                self.found.unstored.add((self.row, self.column))
            elif self.has_formula and not self.is_calculated:
                if self.value == "0":
                    self.found.uncalculated.add((self.row, self.column))
                else:  # one that is none says that they were
                    self.is_calculated = True
                    self.found.uncalculated.clear()


def _column_of(reference: str, otherwise: int) -> int:
    match = _REFERENCE.fullmatch(reference)
    if match is None:
        return otherwise
    number = 0
    for letter in match[1]:
        number = number * 26 + ord(letter) - ord("A") + 1
    return number - 1


class _OdsReader(_Reader):
    """`<table-row><table-cell formula="of:=[.A2]/0" value-type="error">`; rows and cells may be repeated."""

    row, column = 0, 0
    rows, columns = 1, 1
    inside = False
    formula, kind, error = False, "", False

    def __init__(self, sheet: str, found: Faults) -> None:
        super().__init__(found)
        self.sheet = sheet

    def opens(self, name: str, attributes: Mapping[str, Any]) -> None:
        given: dict[str, list[str]] = {}
        for key, value in attributes.items():
            given.setdefault(_local(key), []).append(str(value))
        if name == "table":
            self.inside = given.get("name") == [self.sheet]
            self.row = 0
        elif not self.inside:
            return
        elif name == "table-row":
            self.rows, self.column = int(given.get("number-rows-repeated", ["1"])[0]), 0
        elif name in ("table-cell", "covered-table-cell"):
            self.columns = int(given.get("number-columns-repeated", ["1"])[0])
            kinds = given.get("value-type", [])
            self.formula, self.kind, self.error = "formula" in given, kinds[0] if kinds else "", "error" in kinds
            self.text = [] if self.error else None

    def closes(self, name: str) -> None:
        if not self.inside:
            return
        if name == "table":
            self.inside = False
        elif name == "table-row":
            self.row += self.rows
        elif name in ("table-cell", "covered-table-cell"):
            word, self.text = "".join(self.text or ()).strip(), None
            if self.error or (self.formula and not self.kind):
                self._note(word)
            self.column += self.columns

    def _note(self, word: str) -> None:
        cells = product(range(self.row, self.row + self.rows), range(self.column, self.column + self.columns))
        for place in islice(cells, _MOST_REPEATED):
            if self.error:
                self.found.errors[place] = word or "#ERROR!"
            else:
                self.found.unstored.add(place)
