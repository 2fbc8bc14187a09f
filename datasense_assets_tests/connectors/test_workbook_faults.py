"""Errors, and formulas that nobody has calculated: no cell of a workbook is empty or 0 without a word and its place."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from python_calamine import CalamineWorkbook

from datasense_assets.connectors import NetworkPolicy, excel_faults, excel_rows, open_connector
from datasense_assets.connectors.base import ROW_ID, Connector
from datasense_assets.connectors.errors import BadData
from datasense_assets.connectors.excel_faults import cell_name, find_faults
from datasense_assets_tests.connectors.conftest import rows

SAVE = "Open the file in Excel or LibreOffice and save it again, so that it holds the results"


def opened(path: Path, **config: Any) -> Connector:
    return open_connector("file", {"url": str(path), **config}, {}, NetworkPolicy())


def notes(connector: Connector, resource: str = "") -> dict[str, tuple[str, ...]]:
    return {column.key: column.notes for column in connector.describe(resource)[0].columns if column.notes}


def write(path: Path, *lines: list[Any], sheet: str = "S") -> Path:
    """A workbook as openpyxl writes it: of formulas without their results."""
    book = openpyxl.Workbook()
    book.active.title = sheet
    for line in lines:
        book.active.append(line)
    book.save(path)
    return path


def rewritten(path: Path, member: str, change: Callable[[str], str]) -> None:
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    before = parts[member].decode()
    parts[member] = change(before).encode()
    assert parts[member].decode() != before
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)


def stored(path: Path, **cells: str) -> None:
    """Put what a program that calculates stores beside a formula: by its place the rest of the cell's element."""

    def change(text: str) -> str:
        for place, (kind, value) in {name: given.split("|") for name, given in cells.items()}.items():
            start = text.index(f'<c r="{place}"')
            end = text.index("</c>", start)
            formula = text[text.index("<f>", start) : text.index("</f>", start) + 4]
            text = f'{text[:start]}<c r="{place}"{kind}>{formula}{value}{text[end:]}'
        return text

    rewritten(path, "xl/worksheets/sheet1.xml", change)


def test_a_formula_without_its_result_is_empty_and_told_with_its_place_and_what_to_do(tmp_path: Path) -> None:
    path = write(tmp_path / "b.xlsx", ["n", "twice", "name"], *([n, f"=A{n + 1}*2", "x"] for n in range(1, 6)))
    stored(path, B3="|<v>4</v>")
    connector = opened(path)
    assert notes(connector) == {
        "twice": (f"has a formula without its result in 4 cells (B2, B4, B5 and 1 more), loaded as empty. {SAVE}",)
    }
    assert [row["twice"] for row in rows(connector, "S")] == [None, "4", None, None, None]


def test_a_result_that_is_an_empty_text_is_a_result(tmp_path: Path) -> None:
    path = write(tmp_path / "b.xlsx", ["n", "word"], [1, '=IF(A2>5,"many","")'], [2, '=IF(A3>5,"many","")'])
    stored(path, B2=' t="str"|<v></v>', B3=' t="str"|<v>few</v>')
    connector = opened(path)
    assert notes(connector) == {}
    assert [row["word"] for row in rows(connector, "S")] == [None, "few"]


def test_errors_are_empty_and_told_with_their_word(tmp_path: Path) -> None:
    path = write(tmp_path / "b.xlsx", ["n", "share", "found"], [0, "=1/A2", "=VLOOKUP(9,A:A,1)"], [2, "=1/A3", "=A3"])
    stored(path, B2=' t="e"|<v>#DIV/0!</v>', C2=' t="e"|<v>#N/A</v>', B3="|<v>0.5</v>", C3="|<v>2</v>")
    connector = opened(path)
    assert notes(connector) == {
        "share": ("has an error instead of a value in 1 cell (B2 #DIV/0!), loaded as empty",),
        "found": ("has an error instead of a value in 1 cell (C2 #N/A), loaded as empty",),
    }
    assert [(row["share"], row["found"]) for row in rows(connector, "S")] == [(None, None), ("0.5", "2")]


def test_rows_and_columns_of_nothing_but_such_cells_are_there(tmp_path: Path) -> None:
    path = write(tmp_path / "b.xlsx", ["n", None], [1], ["=A2+1", "=A2"], [3])
    connector = opened(path)
    assert [(row[ROW_ID], row["n"], row["column 2"]) for row in rows(connector, "S")] == [
        ("2", "1", None),
        ("3", None, None),
        ("4", "3", None),
    ]
    assert notes(connector).keys() == {"n", "column 2"}


@pytest.mark.parametrize("lines", [[["=B9", "=C9"], [1, 2]], [["=B9"], ["=C9"]]])
def test_a_header_without_its_results_is_refused_with_what_to_do(tmp_path: Path, lines: list[list[Any]]) -> None:
    with pytest.raises(BadData, match=r"results of formulas are not stored in it \(A1.*save it again"):
        opened(write(tmp_path / "b.xlsx", *lines)).discover()


@pytest.mark.parametrize("size", range(1, 40))
def test_a_formula_is_seen_wherever_the_reading_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(excel_faults, "_CHUNK", size)
    assert notes(opened(write(tmp_path / "b.xlsx", ["n"], ["=1+1"])))


def test_what_stands_above_the_header_is_not_told(tmp_path: Path) -> None:
    path = write(tmp_path / "b.xlsx", ["=TODAY()"], ["n"], [1])
    assert notes(opened(path, header_row=2)) == {}


def test_zeros_of_a_program_that_does_not_calculate_are_told(tmp_path: Path) -> None:
    path = write(tmp_path / "b.xlsx", ["n", "twice"], [1, "=A2*2"], [2, "=A3*2"])
    stored(path, B2="|<v>0</v>", B3="|<v>0</v>")
    (note,) = notes(opened(path))["twice"]
    assert note.startswith("has a formula in 2 cells (B2, B3) that the program which wrote the file did not calculate")
    assert note.endswith(SAVE)
    stored(path, B3="|<v>4</v>")
    assert notes(opened(path)) == {}, "it did calculate"
    stored(path, B3="|<v>0</v>")
    rewritten(path, "xl/workbook.xml", lambda text: text.replace(' fullCalcOnLoad="1"', ""))
    assert notes(opened(path)) == {}, "Excel takes that word away"


def test_merged_cells_under_the_header_are_told(tmp_path: Path) -> None:
    lines = [["all", None], ["district", "village"], ["Ajmer", "a"], [None, "b"], ["c", None], [None, None], ["d", "e"]]
    path = write(tmp_path / "b.xlsx", *lines)
    book = openpyxl.load_workbook(path)
    for cells in ("A1:B1", "A3:A4", "A5:B5", "A6:B6"):
        book.active.merge_cells(cells)
    book.save(path)
    connector = opened(path, header_row=2)
    said = notes(connector)
    assert said["district"][0].startswith("has merged cells (A3:A4), of which only the first holds the value")
    assert said["village"][0].startswith("has merged cells (A5:B5), of which")
    assert [row["district"] for row in rows(connector, "S")] == ["Ajmer", None, "c", "d"]


def test_of_a_binary_workbook_it_is_said_that_errors_are_not_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = tmp_path / "old.xls"
    old.write_bytes(b"\xd0\xcf\x11\xe0")
    path = write(tmp_path / "b.xlsx", ["n"], [1])
    sheet = CalamineWorkbook.from_path(str(path)).get_sheet_by_name("S")
    assert find_faults(old, sheet).is_binary
    assert not find_faults(path, sheet).is_binary
    monkeypatch.setattr(excel_rows, "find_faults", lambda _path, found: find_faults(old, found))
    connector = opened(path)
    connector.describe("S")
    assert len(rows(connector, "S")) == 1
    (note,) = connector.stats.notes
    assert "in an xls or xlsb workbook errors such as #N/A cannot be told" in note


def test_each_sheet_is_looked_at_by_itself_wherever_it_lies(tmp_path: Path) -> None:
    path = write(tmp_path / "b.xlsx", ["n"], [1], sheet="Plain & simple")
    book = openpyxl.load_workbook(path)
    book.create_sheet("नमस्ते").append(["m"])
    book["नमस्ते"].append(["=1+1"])
    book.save(path)
    rewritten(path, "xl/_rels/workbook.xml.rels", lambda text: text.replace("/xl/worksheets/", "worksheets/"))
    connector = opened(path)
    assert notes(connector, "Plain & simple") == {}
    assert list(notes(connector, "नमस्ते")) == ["m"]


def test_a_folder_of_workbooks_says_which_of_them(tmp_path: Path) -> None:
    for name, value in (("jan", 1), ("feb", "=1+1"), ("mar", "=2+1")):
        write(tmp_path / f"{name}.xlsx", ["n"], [value])
    said = notes(opened(tmp_path / "*.xlsx"), "S")["n"]
    where = f"sheet 'S' of {tmp_path}/"
    assert [note.partition(" has a formula without its result in 1 cell (A2)")[0] for note in said] == [
        f"{where}feb.xlsx:",
        f"{where}mar.xlsx:",
    ]


NAMES = " ".join(
    f'xmlns:{name}="urn:oasis:names:tc:opendocument:xmlns:{name}:1.0"' for name in ("office", "table", "text")
)


def ods(path: Path, *table_rows: str) -> Path:
    """A workbook of two sheets, the second of which has these rows."""
    cell = '<table:table-cell table:formula="of:=1"/>'
    other = f'<table:table table:name="Other"><table:table-row>{cell}</table:table-row></table:table>'
    body = "".join(table_rows)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        archive.writestr(
            "content.xml",
            f'<?xml version="1.0" encoding="UTF-8"?><office:document-content {NAMES} xmlns:calcext="urn:calcext">'
            f"<office:body><office:spreadsheet>{other}"
            f'<table:table table:name="S">{body}</table:table></office:spreadsheet></office:body>'
            "</office:document-content>",
        )
        archive.writestr("META-INF/manifest.xml", "<?xml version='1.0'?><m/>")
    return path


def word(text: str) -> str:
    return f'<table:table-cell office:value-type="string"><text:p>{text}</text:p></table:table-cell>'


def test_of_an_opendocument_sheet_the_same_is_told(tmp_path: Path) -> None:
    number = '<table:table-cell table:formula="of:=2" office:value-type="float" office:value="2"><text:p>2</text:p>'
    error = (
        '<table:table-cell table:formula="of:=1/0" office:value-type="string" office:string-value="" '
        'calcext:value-type="error"><text:p>#DIV/0!</text:p></table:table-cell>'
    )
    path = ods(
        tmp_path / "b.ods",
        f"<table:table-row>{word('name')}{word('n')}{word('m')}</table:table-row>",
        f'<table:table-row table:number-rows-repeated="2">{word("x")}{number}</table:table-cell>'
        "<table:table-cell/></table:table-row>",
        f'<table:table-row>{word("y")}<table:table-cell table:formula="of:=[.A1]" table:number-columns-repeated="2"/>'
        "</table:table-row>",
        f"<table:table-row>{word('z')}<table:table-cell/>{error}</table:table-row>",
        f'<table:table-row><table:table-cell table:number-columns-repeated="2"/>{error}</table:table-row>',
    )
    connector = opened(path, sheet="S")
    assert notes(connector) == {
        "n": (f"has a formula without its result in 1 cell (B4), loaded as empty. {SAVE}",),
        "m": (
            "has an error instead of a value in 2 cells (C5 #DIV/0!, C6 #DIV/0!), loaded as empty",
            f"has a formula without its result in 1 cell (C4), loaded as empty. {SAVE}",
        ),
    }
    assert [(row["name"], row["n"], row["m"]) for row in rows(connector, "S")] == [
        ("x", "2", None),
        ("x", "2", None),
        ("y", None, None),
        ("z", None, None),
        (None, None, None),
    ]


@pytest.mark.parametrize(("place", "name"), [((0, 0), "A1"), ((1, 25), "Z2"), ((9, 26), "AA10"), ((0, 16383), "XFD1")])
def test_cells_are_called_as_people_call_them(place: tuple[int, int], name: str) -> None:
    assert cell_name(place) == name
