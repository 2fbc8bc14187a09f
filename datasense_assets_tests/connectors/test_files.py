"""Files of every format by one door: workbooks, JSON, Parquet; folders, patterns, archives; what has not changed."""

from __future__ import annotations

import datetime as d
import io
import json
import os
import time
import zipfile
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import openpyxl
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasense_assets.catalog.models import ColumnType as T
from datasense_assets.connectors import NetworkPolicy, open_connector, validate_config
from datasense_assets.connectors.base import ROW_ID, Connector, ReadRequest
from datasense_assets.connectors.errors import BadConfig, BadData, ResourceGone, SourceError, Unavailable
from datasense_assets_tests.connectors.conftest import Answer, Web, pages, rows


@pytest.fixture
def opened(tmp_path: Path, local_policy: NetworkPolicy) -> Iterator[Any]:
    """Opens a `file` connector on a path below the test's folder."""
    made: list[Connector] = []

    def make(name: str, **config: Any) -> Connector:
        connector = open_connector("file", {"url": str(tmp_path / name), **config}, {}, local_policy)
        made.append(connector)
        return connector

    yield make
    for connector in made:
        connector.close()


def values(connector: Connector, resource: str = "") -> list[list[str | None]]:
    return [[v for k, v in row.items() if k != ROW_ID] for row in rows(connector, resource)]


def keys(connector: Connector, resource: str = "") -> list[str]:
    return [column.key for column in connector.describe(resource)[0].columns]


def rejected(connector: Connector, resource: str = "") -> list[tuple[int, str]]:
    return [(r.line, r.reason) for page in pages(connector, resource) for r in page.rejected]


# --- workbooks


def book(path: Path) -> openpyxl.Workbook:
    made = openpyxl.Workbook()
    sheet = made.active
    sheet.title = "Visits"
    sheet.append(["code", "n", "x", "day", "at", "time", "long", "ok", "big"])
    sheet.append(["007", 7, 2.5, d.date(2024, 2, 29), d.datetime(2024, 1, 2, 10, 30), d.time(10, 30),
                  d.timedelta(hours=30), True, 123456789012345])  # fmt: skip
    sheet.append(["12", None, 0.1, d.date(2024, 3, 1), d.date(2024, 1, 3), None, None, False, 1e20])
    sheet["G2"].number_format = "[h]:mm:ss"
    for row in range(4, 40):
        sheet.cell(row, 2).number_format = "0.00"  # formatted, and empty
    made.save(path)
    return made


def test_cells_of_a_workbook_keep_their_type(tmp_path: Path, opened: Any) -> None:
    book(tmp_path / "b.xlsx")
    connector = opened("b.xlsx")
    assert [(t.resource, t.title) for t in connector.discover()] == [("Visits", "Visits")]
    assert values(connector, "Visits") == [
        ["007", "7", "2.5", "2024-02-29", "2024-01-02T10:30:00", "10:30:00", "30:00:00", "true", "123456789012345"],
        ["12", None, "0.1", "2024-03-01", "2024-01-03T00:00:00", None, None, "false", "1e+20"],
    ]
    assert [row[ROW_ID] for row in rows(connector, "Visits")] == ["2", "3"]


def test_each_visible_sheet_is_a_table_and_a_named_one_is_itself(tmp_path: Path, opened: Any) -> None:
    made = book(tmp_path / "b.xlsx")
    made.create_sheet("Empty")
    hidden = made.create_sheet("Lists")
    hidden.append(["a"])
    hidden.append([1])
    hidden.sheet_state = "hidden"
    made.create_sheet("Late header")["A3"] = "a"
    made.save(tmp_path / "b.xlsx")
    found = opened("b.xlsx").discover()
    assert [(t.resource, bool(t.columns)) for t in found] == [("Visits", True), ("Late header", False)]
    assert [t.resource for t in opened("b.xlsx", sheet="Lists").discover()] == ["Lists"]
    assert values(opened("b.xlsx", sheet=["Lists"]), "Lists") == [["1"]]
    with pytest.raises(ResourceGone, match=r"no sheet 'Gone'.*Visits, Empty, Lists"):
        opened("b.xlsx", sheet="Gone").discover()
    with pytest.raises(ResourceGone, match=r"'Old name'.*Visits, Empty, Late header"):
        opened("b.xlsx").describe("Old name")
    with pytest.raises(BadData, match="is empty"):
        opened("b.xlsx").describe("Empty")
    with pytest.raises(BadData, match=r"no header in row 1, though row 3 holds.*header_row: 3"):
        opened("b.xlsx").describe("Late header")


def test_headers_of_a_workbook_lose_no_column(tmp_path: Path, opened: Any) -> None:
    made = openpyxl.Workbook()
    sheet = made.active
    sheet.append(["Title"])
    sheet.append(["id", "Men", None, "Women", None, None, 2024, "two\nlines", "id"])
    sheet.append([None, "young", "old", "young", "old"])
    sheet.merge_cells("B2:C2")
    sheet.merge_cells("D2:E2")
    sheet.append([1, 2, 3, 4, 5, 6, 7, 8, 9, 10])
    made.save(tmp_path / "h.xlsx")
    connector = opened("h.xlsx", header_row=[2, 3])
    assert keys(connector) == [
        *("id", "Men / young", "Men / old", "Women / young", "Women / old"),
        *("column 6", "2024", "two lines", "id (2)", "column 10"),
    ]
    assert values(connector) == [[str(i) for i in range(1, 11)]]


@pytest.mark.parametrize(("engine", "suffix"), [("odf", "ods"), ("openpyxl", "xlsm")])
def test_other_workbooks_are_read_too(tmp_path: Path, opened: Any, engine: str, suffix: str) -> None:
    if engine == "odf":
        (tmp_path / "w.ods").write_bytes(ods([["n", "name"], ["1", "é"]]))
    else:
        pd.DataFrame({"n": [1], "name": ["é"]}).to_excel(tmp_path / "w.xlsx", index=False)
        (tmp_path / "w.xlsx").rename(tmp_path / "w.xlsm")
    assert values(opened(f"w.{suffix}")) == [["1", "é"]]


def ods(table: list[list[str]]) -> bytes:
    def cell(text: str) -> str:
        kind = f'office:value-type="float" office:value="{text}"' if text.isdigit() else 'office:value-type="string"'
        return f"<table:table-cell {kind}><text:p>{text}</text:p></table:table-cell>"

    body = "".join(f"<table:table-row>{''.join(map(cell, row))}</table:table-row>" for row in table)
    names = " ".join(
        f'xmlns:{n}="urn:oasis:names:tc:opendocument:xmlns:{n}:1.0"' for n in ("office", "table", "text", "style")
    )
    content = (
        f'<?xml version="1.0" encoding="UTF-8"?><office:document-content {names} office:version="1.2"><office:body>'
        f'<office:spreadsheet><table:table table:name="S">{body}</table:table></office:spreadsheet>'
        "</office:body></office:document-content>"
    )
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        archive.writestr("content.xml", content)
        archive.writestr("META-INF/manifest.xml", "<?xml version='1.0'?><m/>")
    return buffer.getvalue()


def test_a_damaged_workbook_and_one_named_csv_say_so(tmp_path: Path, opened: Any) -> None:
    book(tmp_path / "b.xlsx")
    whole = (tmp_path / "b.xlsx").read_bytes()
    broken = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(whole)) as source, zipfile.ZipFile(broken, "w") as archive:
        for item in source.infolist():
            archive.writestr(item, source.read(item)[: 100 if "sheet1" in item.filename else None])
    (tmp_path / "cut.xlsx").write_bytes(broken.getvalue())
    with pytest.raises(BadData, match="save it again"):
        opened("cut.xlsx").discover()
    (tmp_path / "b.csv").write_bytes(whole)
    assert len(values(opened("b.csv"))) == 2
    with pytest.raises(BadData, match="Excel"):
        open_connector("csv", {"url": str(tmp_path / "b.csv")}, {}, NetworkPolicy()).discover()


# --- JSON


def test_json_lines_are_flattened_and_bad_ones_refused(tmp_path: Path, opened: Any) -> None:
    lines = [
        '{"id": 1, "name": "é", "at": {"place": {"lat": 12.50}, "tags": ["a", {"b": 1}]}, "ok": true}',
        "",
        '{"id": 12345678901234567890, "extra": "late", "at": {}, "name": null}',
        "{broken",
        "[1, 2]",
        '{"id": 3, "half": "\\ud800x", "n": NaN, "x": 1e5}',
    ]
    (tmp_path / "f.jsonl").write_text("\ufeff" + "\n".join(lines) + "\n")
    connector = opened("f.jsonl")
    assert keys(connector) == ["id", "name", "at/place/lat", "at/tags", "ok", "extra", "at", "half", "n", "x"]
    assert rows(connector) == [
        {"id": "1", "name": "é", "at/place/lat": "12.50", "at/tags": '["a", {"b": 1}]', "ok": "true", "extra": None,
         "at": None, "half": None, "n": None, "x": None, ROW_ID: "1"},
        {"id": "12345678901234567890", "name": None, "at/place/lat": None, "at/tags": None, "ok": None,
         "extra": "late", "at": "{}", "half": None, "n": None, "x": None, ROW_ID: "3"},
        {"id": "3", "name": None, "at/place/lat": None, "at/tags": None, "ok": None, "extra": None, "at": None,
         "half": "?x", "n": None, "x": "1e5", ROW_ID: "6"},
    ]  # fmt: skip
    found = rejected(connector)
    assert [line for line, _ in found] == [4, 5]
    assert "is not JSON" in found[0][1] and "no JSON object" in found[1][1]


@pytest.mark.parametrize("array", [False, True])
def test_an_object_that_says_something_twice_is_refused(tmp_path: Path, opened: Any, array: bool) -> None:
    lines = ['{"a": 1, "a": 2}', '{"a": 3}', '{"b": {"c": 1, "d": 2, "c": 1}}', '{"l": [{"e": 1, "e": 2}]}']
    (tmp_path / "f.json").write_text(f"[{','.join(lines)}]" if array else "\n".join(lines))
    connector = opened("f.json")
    assert [row["a"] for row in rows(connector)] == ["3"]
    assert rejected(connector) == [
        (1, "has two values for a"),
        (3, "has two values for b/c"),
        (4, "has two values for e"),
    ]


def test_an_array_of_objects_and_lines_without_a_suffix_are_json_too(tmp_path: Path, opened: Any) -> None:
    (tmp_path / "a.json").write_text('[{"a": 1.10}, {"a": "x"}, 5]')
    assert values(opened("a.json")) == [["1.10"], ["x"]]
    assert [line for line, _ in rejected(opened("a.json"))] == [3]
    (tmp_path / "export").write_text('{"a": 1}\n{"a": 2}\n')
    assert values(opened("export")) == [["1"], ["2"]]
    for text in ("", "[]", "nothing\n", '[{"a": 1'):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(BadData):
            opened("bad.json").discover()


scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.text(), st.floats(allow_nan=False))


@given(st.lists(st.dictionaries(st.text(min_size=1).map(str.strip).filter(bool), scalars, min_size=1), min_size=1))
def test_whatever_json_writes_comes_back(objects: list[dict[str, Any]]) -> None:
    import tempfile

    with tempfile.NamedTemporaryFile("w", suffix=".jsonl", encoding="utf-8") as file:
        file.writelines(json.dumps(each) + "\n" for each in objects)
        file.flush()
        connector = open_connector("file", {"url": file.name}, {}, NetworkPolicy())
        found = rows(connector)
        connector.close()
    assert len(found) == len(objects)
    for row, wrote in zip(found, objects, strict=True):
        for key, value in wrote.items():
            text = row[key if key not in (ROW_ID,) else f"{key} (2)"]
            if isinstance(value, str):
                assert text == value.replace("\0", "").encode("utf-8", "replace").decode()
            else:
                assert text is None if value is None else json.loads(str(text)) == value


# --- Parquet


def test_parquet_keeps_every_value_exactly(tmp_path: Path, opened: Any) -> None:
    moment = d.datetime(2024, 1, 2, 3, 4, 5, 678901)
    table = pa.table(
        {
            "big": pa.array([12345678901234567, -(2**63), None], pa.int64()),
            "u": pa.array([2**64 - 1, 0, None], pa.uint64()),
            "dec": pa.array([Decimal("1234567890123456789.12"), Decimal("-0.01"), None], pa.decimal128(21, 2)),
            "money": pa.array([Decimal("12.50"), Decimal("0.00"), None], pa.decimal128(9, 2)),
            "f": pa.array([0.1, 1e300, None], pa.float64()),
            "day": pa.array([d.date(2024, 2, 29), d.date(1, 1, 1), None], pa.date32()),
            "at": pa.array([moment, moment, None], pa.timestamp("us", "Asia/Kolkata")),
            "ns": pa.array([1, 1_000_000_000, None], pa.timestamp("ns")),
            "t": pa.array([d.time(10, 30), d.time(0), None], pa.time64("us")),
            "ok": pa.array([True, False, None]),
            "code": pa.array(["007", "", None]).dictionary_encode(),
            "list": pa.array([[1, 2], [], None]),
            "in": pa.array([{"a": 1, "b": {"c": "x"}}, None, {"a": 2, "b": None}]),
        }
    )
    pq.write_table(table, tmp_path / "p.parquet")
    connector = opened("p.parquet")
    (info,) = connector.discover()
    assert {c.key: c.type for c in info.columns} == {
        "big": T.INTEGER, "u": T.INTEGER, "dec": T.TEXT, "money": T.NUMBER, "f": T.NUMBER, "day": T.DATE,
        "at": T.DATETIME, "ns": T.DATETIME, "t": T.TIME, "ok": T.BOOLEAN, "code": T.TEXT, "list": T.JSON,
        "in/a": T.INTEGER, "in/b/c": T.TEXT,
    }  # fmt: skip
    found = values(connector)
    assert found[0] == [
        *("12345678901234567", "18446744073709551615", "1234567890123456789.12", "12.50", "0.1", "2024-02-29"),
        *("2024-01-02 03:04:05.678901Z", "1970-01-01 00:00:00.000000001", "10:30:00.000000", "true", "007", "[1, 2]"),
        *("1", "x"),
    ]
    assert found[1][:6] == ["-9223372036854775808", "0", "-0.01", "0.00", "1e+300", "0001-01-01"]
    assert found[1][7] == "1970-01-01 00:00:01.000000"
    assert found[1][10:] == ["", "[]", None, None]
    assert found[2] == [None] * 12 + ["2", None]


def test_a_damaged_parquet_file_is_bad_data(tmp_path: Path, opened: Any) -> None:
    (tmp_path / "p.parquet").write_bytes(b"PAR1" + b"\0" * 50)
    with pytest.raises(BadData, match="damaged Parquet"):
        opened("p.parquet").discover()


# --- folders, patterns, archives


def test_a_folder_is_one_table_with_the_files_names(tmp_path: Path, opened: Any) -> None:
    (tmp_path / "in" / "sub").mkdir(parents=True)
    (tmp_path / "in" / "jan.csv").write_text("id,n\n1,a\n2\n1,2,3\n")
    (tmp_path / "in" / "feb.csv").write_text("id;file\n3;x\n")
    (tmp_path / "in" / "sub" / "mar.csv").write_text("id\n4\n")
    (tmp_path / "in" / "notes.md").write_text("no data")
    (tmp_path / "in" / ".hidden.csv").write_text("id\n5\n")
    for url in ("in", "in/", "in/*.csv"):
        connector = opened(url)
        (info,) = connector.discover()
        assert (info.resource, [c.key for c in info.columns]) == ("in", ["file (2)", "id", "file", "n"])
        assert rows(connector) == [
            {"id": "3", "file": "x", "file (2)": "feb.csv", ROW_ID: "feb.csv:1"},
            {"id": "1", "n": "a", "file (2)": "jan.csv", ROW_ID: "jan.csv:1"},
            {"id": "2", "n": None, "file (2)": "jan.csv", ROW_ID: "jan.csv:2"},
        ]
        assert connector.stats.padded_rows == 1
        assert rejected(connector) == [(4, "jan.csv: has 3 values, the header 2 columns")]
    everywhere = opened("in/**/*.csv", file_column="from")
    assert {row["from"] for row in rows(everywhere)} == {"feb.csv", "jan.csv", "sub/mar.csv"}
    each = opened("in", combine=False).discover()
    assert [(t.resource, len(t.columns)) for t in each] == [("feb.csv", 2), ("jan.csv", 2)]


def test_a_key_is_unique_over_all_files_of_a_folder(tmp_path: Path, opened: Any) -> None:
    for name, text in (("a.csv", "id,n\n1,x\n2,y\n"), ("b.csv", "id,n\n2,z\n3,w\n")):
        (tmp_path / name).write_text(text)
    connector = opened("*.csv", key="id")
    assert [row[ROW_ID] for row in rows(connector)] == ["1", "2", "3"]
    assert rejected(connector) == [(2, "b.csv: has the same key (id) as an earlier row")]


def test_an_empty_or_unreadable_file_of_a_folder_is_named_and_nothing_is_loaded(tmp_path: Path, opened: Any) -> None:
    (tmp_path / "a.csv").write_text("id\n1\n")
    (tmp_path / "b.csv").write_text("")
    with pytest.raises(BadData, match=r"b\.csv is empty"):
        opened("*.csv").discover()
    with pytest.raises(ResourceGone, match="holds no file"):
        opened("*.parquet").discover()


@pytest.mark.parametrize("suffix", ["csv", "parquet", "xlsx"])
def test_a_file_of_a_folder_that_goes_away_meanwhile_is_a_failure_that_passes(
    tmp_path: Path, opened: Any, suffix: str
) -> None:
    (tmp_path / "in").mkdir()
    frame = pd.DataFrame({"id": [1, 2]})
    for name in ("a", "b"):
        path = tmp_path / "in" / f"{name}.{suffix}"
        if suffix == "xlsx":
            frame.to_excel(path, index=False)
        elif suffix == "parquet":
            frame.to_parquet(path)
        else:
            frame.to_csv(path, index=False)
    connector = opened("in")
    (info,) = connector.discover()
    (tmp_path / "in" / f"b.{suffix}").unlink()
    with pytest.raises(Unavailable, match=rf"b\.{suffix} of .*in went away while it was read"):
        rows(connector, info.resource)
    assert len(rows(opened("in"))) == 2


def test_what_is_broken_in_an_archive_or_a_folder_of_tables_concerns_no_other_table(
    tmp_path: Path, opened: Any
) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("good.csv", "a\n1\n")
        archive.writestr("book.xlsx", b"PK\x03\x04 and no more")
        archive.writestr("packed.csv", b"PK\x03\x04 and no more")
    connector = opened("a.zip")
    assert [(t.resource, len(t.columns)) for t in connector.discover()] == [
        ("book.xlsx", 0),
        ("good.csv", 1),
        ("packed.csv", 0),
    ]
    assert connector.check().endswith("No table could be made of book.xlsx, packed.csv; a sync says why.")
    assert values(connector, "good.csv") == [["1"]]
    for resource in ("book.xlsx", "book.xlsx#Plan"):
        with pytest.raises(BadData, match=r"book\.xlsx in .* is a damaged workbook"):
            connector.describe(resource)
    with pytest.raises(BadData, match=r"packed\.csv in .* is a packed file or a workbook, not CSV"):
        connector.describe("packed.csv")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "good.csv").write_text("a\n1\n")
    (tmp_path / "in" / "empty.csv").write_text("")
    each = opened("in", combine=False)
    assert values(each, "good.csv") == [["1"]]
    with pytest.raises(BadData, match=r"empty\.csv is empty"):
        each.describe("empty.csv")
    with pytest.raises(BadData, match=r"empty\.csv is empty"):
        opened("in").describe("in")


def test_a_file_is_named_with_the_folder_that_it_lies_in(tmp_path: Path, opened: Any) -> None:
    (tmp_path / "in" / "sub").mkdir(parents=True)
    (tmp_path / "in" / "sub" / "b.csv").write_text("")
    for url in ("in/sub", "in/sub/*.csv", "in/**/*.csv"):
        with pytest.raises(BadData, match=r"/in/sub/b\.csv is empty"):
            opened(url).discover()


def test_members_by_pattern_and_archives_in_a_folder(tmp_path: Path, opened: Any) -> None:
    for town in ("a", "b"):
        with zipfile.ZipFile(tmp_path / f"{town}.zip", "w") as archive:
            archive.writestr("stops.txt", f"stop\n{town}1\n")
            archive.writestr("trips.txt", f"trip\n{town}2\n")
            archive.writestr("LICENSE", "free")
    one = opened("a.zip")
    assert [t.resource for t in one.discover()] == ["stops.txt", "trips.txt"]
    assert [t.resource for t in opened("a.zip", member="st*").discover()] == ["stops.txt"]
    together = opened("a.zip", combine=True)
    (whole,) = together.discover()
    assert (whole.resource, [c.key for c in whole.columns]) == ("a.zip", ["file", "stop", "trip"])
    assert [row["file"] for row in rows(together)] == ["a.zip/stops.txt", "a.zip/trips.txt"]
    feeds = opened("*.zip")
    assert [t.resource for t in feeds.discover()] == ["stops.txt", "trips.txt"]
    assert values(feeds, "stops.txt") == [["a1", "a.zip"], ["b1", "b.zip"]]


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_of_two_members_of_one_name_the_later_one_is_read_once(tmp_path: Path, opened: Any) -> None:
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        for value in (1, 2):
            archive.writestr("a.csv", f"a\n{value}\n")
    assert values(opened("z.zip")) == [["2"]]


def test_formats_may_be_mixed_in_an_archive(tmp_path: Path, opened: Any) -> None:
    book(tmp_path / "b.xlsx")
    pq.write_table(pa.table({"a": [1]}), tmp_path / "p.parquet")
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for name in ("b.xlsx", "p.parquet"):
            archive.write(tmp_path / name, name)
        archive.writestr("l.jsonl", '{"a": 2}\n')
        archive.writestr("c.csv", "a\n3\n")
    connector = opened("all.zip")
    assert [t.resource for t in connector.discover()] == ["b.xlsx#Visits", "c.csv", "l.jsonl", "p.parquet"]
    assert [values(connector, name) for name in ("c.csv", "l.jsonl", "p.parquet")] == [[["3"]], [["2"]], [["1"]]]
    assert len(values(connector, "b.xlsx#Visits")) == 2


@pytest.mark.parametrize("url", ["../*.csv", "in/../../*.csv", "*/../../*.csv", "in/*"])
def test_no_pattern_leads_out_of_the_root(tmp_path: Path, url: str) -> None:
    root = tmp_path / "root"
    (root / "in").mkdir(parents=True)
    (tmp_path / "secret.csv").write_text("a\n1\n")
    (root / "in" / "link.csv").symlink_to(tmp_path / "secret.csv")
    with pytest.raises(SourceError) as caught:
        open_connector("file", {"url": url}, {}, NetworkPolicy(files_root=root)).discover()
    assert isinstance(caught.value, BadConfig | ResourceGone)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"url": "s3://bucket"}, "s3://bucket/key"),
        ({"url": "s3://key:secret@bucket/a.csv"}, "credentials"),
        ({"url": "a.csv", "endpoint_url": "https://x.org"}, "s3:// address"),
        ({"url": "a.csv", "format": "csv", "sheet": "S"}, "workbook"),
        ({"url": "a.csv", "format": "json", "header_row": [1, 2]}, "workbook"),
        ({"url": "a.csv", "format": "pdf"}, "excel"),
    ],
)
def test_what_cannot_work_is_refused_with_the_reason(config: dict[str, Any], words: str) -> None:
    (problem,) = validate_config("file", config, set())
    assert words in problem.message
    assert "secret" not in problem.message


def test_credentials_of_another_kind_of_address_are_refused() -> None:
    for url, credentials in (("a.csv", {"token": "t0p"}), ("s3://b/a.csv", {"token": "t0p"})):
        with pytest.raises(BadConfig, match="no use") as caught:
            open_connector("file", {"url": url}, credentials, NetworkPolicy())
        assert "t0p" not in str(caught.value)


# --- what has not changed


def test_a_local_fingerprint_tells_every_change(tmp_path: Path, opened: Any) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a\n1\n")

    def said(previous: str | None = None) -> str | None:
        return opened("a.csv").fingerprint("x", previous)

    fresh = said()
    assert said(fresh) == fresh
    stat = path.stat()
    path.write_text("a\n2\n")  # the same size, perhaps within the clock's tick, and the same time of change
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    second = said(fresh)
    assert second != fresh
    old = time.time() + 10
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("datasense_assets.connectors.file_places.time.time", lambda: old)
        assert said(second) == second
        assert said(None) == said(said(None))
    (tmp_path / "b.csv").write_text("a\n3\n")
    folder = opened("*.csv").fingerprint("x", None)
    (tmp_path / "b.csv").unlink()
    assert opened("*.csv").fingerprint("x", folder) != folder


HEADERS = {"ETag": '"v1"', "Last-Modified": "Sun, 22 Nov 2020 10:00:00 GMT"}


def ask(web: Web, policy: NetworkPolicy, url: str, previous: str | None) -> str | None:
    connector = open_connector("file", {"url": url}, {}, policy)
    try:
        return connector.fingerprint("x", previous)
    finally:
        connector.close()


def test_an_unchanged_download_costs_one_conditional_request(web: Web, local_policy: NetworkPolicy) -> None:
    url = web.on("/a.csv", Answer(b"a\n1\n", headers=HEADERS), Answer(status=304, headers=HEADERS))
    first = ask(web, local_policy, url, None)
    assert ask(web, local_policy, url, first) == first
    assert [s.method for s in web.seen] == ["GET", "GET"]
    assert web.seen[1].headers["if-none-match"] == '"v1"'
    assert "if-modified-since" not in web.seen[1].headers


def test_a_changed_download_is_fetched_by_the_same_request(web: Web, local_policy: NetworkPolicy) -> None:
    url = web.on("/a.csv", Answer(b"a\n1\n", headers=HEADERS), Answer(b"a\n2\n", headers={"ETag": '"v2"'}))
    first = ask(web, local_policy, url, None)
    connector = open_connector("file", {"url": url}, {}, local_policy)
    second = connector.fingerprint("x", first)
    assert second != first
    assert values(connector) == [["2"]]
    assert connector.fingerprint("y", None) == second
    assert len(web.seen) == 2
    connector.close()


def test_a_304_and_then_a_read_fetches_the_file_without_conditions(web: Web, local_policy: NetworkPolicy) -> None:
    url = web.on("/a.csv", Answer(b"a\n1\n", headers=HEADERS), Answer(status=304), Answer(b"a\n1\n", headers=HEADERS))
    first = ask(web, local_policy, url, None)
    connector = open_connector("file", {"url": url}, {}, local_policy)
    assert connector.fingerprint("x", first) == first
    assert values(connector) == [["1"]]
    assert "if-none-match" not in web.seen[2].headers
    connector.close()


@pytest.mark.parametrize("headers", [{}, {"ETag": '"same"'}])
def test_a_server_that_knows_no_conditions_is_judged_by_the_content(
    web: Web, local_policy: NetworkPolicy, headers: dict[str, str]
) -> None:
    """An ETag that stays while the body changes says nothing: the body does."""
    turns = [Answer(body, headers=headers) for body in (b"a\n1\n", b"a\n1\n", b"a\n2\n")]
    url = web.on("/a.csv", *turns)
    first = ask(web, local_policy, url, None)
    assert ask(web, local_policy, url, first) == first
    assert ask(web, local_policy, url, first) != first


@pytest.mark.parametrize("headers", [{"ETag": 'W/"v1"'}, {"Last-Modified": HEADERS["Last-Modified"]}])
def test_a_weak_mark_is_believed_for_a_day(
    web: Web, local_policy: NetworkPolicy, headers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = web.on("/a.csv", Answer(b"a\n1\n", headers=headers), Answer(status=304), Answer(b"a\n1\n", headers=headers))
    first = ask(web, local_policy, url, None)
    assert ask(web, local_policy, url, first) == first
    later = time.time() + 90_000
    monkeypatch.setattr("datasense_assets.connectors.file_places.time.time", lambda: later)
    assert ask(web, local_policy, url, first) != first
    assert not {"if-none-match", "if-modified-since"} & set(web.seen[2].headers)


def test_a_file_changed_within_the_minute_has_no_time_to_trust(web: Web, local_policy: NetworkPolicy) -> None:
    now = d.datetime.now(d.UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")
    url = web.on("/a.csv", Answer(b"a\n1\n", headers={"Last-Modified": now}))
    first = ask(web, local_policy, url, None)
    ask(web, local_policy, url, first)
    assert "if-modified-since" not in web.seen[1].headers


def test_a_304_that_nobody_asked_for_is_a_failure(web: Web, local_policy: NetworkPolicy) -> None:
    with pytest.raises(SourceError):
        ask(web, local_policy, web.on("/a.csv", Answer(status=304)), None)


def test_reading_a_query_and_a_request_leave_no_secret(web: Web, local_policy: NetworkPolicy) -> None:
    url = web.on("/gone.csv", Answer(status=404)) + "?sig=s1gn3d"
    with pytest.raises(ResourceGone) as caught:
        list(open_connector("file", {"url": url}, {}, local_policy).read(ReadRequest("x")))
    assert "s1gn3d" not in str(caught.value)
