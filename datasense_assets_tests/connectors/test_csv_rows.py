"""Rows of a CSV file against a slow reference: nothing lost, nothing moved, every refused row with its true line."""

from __future__ import annotations

import csv
import io
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasense_assets.connectors import NetworkPolicy, csv_rows, open_connector
from datasense_assets.connectors.base import ROW_ID, ReadRequest
from datasense_assets.connectors.errors import BadConfig, BadData
from datasense_assets_tests.connectors.conftest import CsvOpener, pages, rows


def test_short_rows_are_padded_and_longer_ones_refused_with_their_line(csv_of: CsvOpener) -> None:
    connector = csv_of('a,b,c\n1,"x\r\ny",3\n\n4\n5,6,7,8\n"9\n\n",10\n11,12,13,\n1,2,3,4,5\n')
    assert rows(connector) == [
        {"a": "1", "b": "x\r\ny", "c": "3", ROW_ID: "1"},
        {"a": "4", "b": None, "c": None, ROW_ID: "2"},
        {"a": "9\n\n", "b": "10", "c": None, ROW_ID: "4"},
        {"a": "11", "b": "12", "c": "13", ROW_ID: "5"},
    ]
    assert connector.stats.padded_rows == 2
    rejected = [(r.line, r.raw) for page in pages(connector) for r in page.rejected]
    assert rejected == [(6, "5,6,7,8"), (11, "1,2,3,4,5")]
    assert pages(connector)[0].rejected[0].reason == "has 4 values, the header 3 columns"


def test_empty_is_null_and_quoted_empty_is_text(csv_of: CsvOpener) -> None:
    assert rows(csv_of('a,b,c\n,"",\n"",\n,,\n')) == [
        {"a": None, "b": "", "c": None, ROW_ID: "1"},
        {"a": "", "b": None, "c": None, ROW_ID: "2"},
        {"a": None, "b": None, "c": None, ROW_ID: "3"},
    ]


def test_words_that_look_like_null_and_numbers_stay_text(csv_of: CsvOpener) -> None:
    found = rows(csv_of("a,b\nNA,007\nnull,1e5\nTrue, 1 \n"))
    assert [(r["a"], r["b"]) for r in found] == [("NA", "007"), ("null", "1e5"), ("True", " 1 ")]


def test_a_quote_left_open_loses_no_row_in_silence(csv_of: CsvOpener) -> None:
    with pytest.raises(BadData, match="does not close it"):
        rows(csv_of('a,b\n1,2\n3,"four\n5,6\n7,8\n'))
    with pytest.raises(BadData, match="quote"):
        rows(csv_of('a,b\n1,2\n3,"four\n' + "5,6\n" * 3_000_000))
    # a value of two lines before a refused row that holds an inch mark
    assert rows(csv_of('a,b\n1,"two\nlines"\n1,2,3"\n'))[0]["b"] == "two\nlines"
    # an inch mark is no quote
    assert rows(csv_of('a,b\n5" pipe,2\n3,4\n'))[0]["a"] == '5" pipe'


def test_when_every_row_is_refused_the_read_fails(csv_of: CsvOpener) -> None:
    with pytest.raises(BadData, match="not one of the 3 rows"):
        rows(csv_of("title\na;b\n1;2\n3;4\n".replace(";", ","), delimiter=","))


def test_rows_are_known_by_their_key(csv_of: CsvOpener) -> None:
    connector = csv_of('id,part,n\n1,a,x\n1,b,y\n1,a,z\n,c,w\n"1|a",,v\n"1","a|",u\n', key=["id", "part"])
    (page,) = pages(connector)
    assert page.data.column(ROW_ID).to_pylist() == ["1|a", "1|b", "1|a\\|"]
    assert [(r.line, r.reason) for r in page.rejected] == [
        (4, "has the same key (id, part) as an earlier row"),
        (5, "has no value in its key (id, part)"),
        (6, "has no value in its key (id, part)"),
    ]


def test_a_key_of_the_table_goes_before_the_configs(csv_of: CsvOpener) -> None:
    connector = csv_of("id,n\n7,x\n", key=["n"])
    assert [p.data.column(ROW_ID).to_pylist() for p in connector.read(ReadRequest("f", key=("id",)))] == [["7"]]
    with pytest.raises(BadConfig, match=r"'uid'.*id, n"):
        list(connector.read(ReadRequest("f", key=("uid",))))


def test_pages_are_bounded_and_numbered_through(csv_of: CsvOpener) -> None:
    text = "a,b\n" + "".join(f"{i},x\n" if i % 9_999 else f"{i},x,y\n" for i in range(1, 45_001))
    found = pages(csv_of(text))
    assert [p.data.num_rows for p in found] == [20_000, 20_000, 4_996]
    ids = [i for p in found for i in p.data.column(ROW_ID).to_pylist()]
    assert ids == [str(i) for i in range(1, 45_001) if i % 9_999]
    assert ids == [a for p in found for a in p.data.column("a").to_pylist()]
    assert [[r.line for r in p.rejected] for p in found] == [[10_000, 19_999], [29_998, 39_997], []]


def test_memory_stays_bounded_however_long_the_file(tmp_path: Path) -> None:
    import pyarrow as pa

    path = tmp_path / "long.csv"
    with path.open("w") as file:
        file.write("a,b,c\n")
        for start in range(0, 1_500_000, 1000):
            file.writelines(f"{i},some text of row {i},2026-11-22\n" for i in range(start, start + 1000))
    connector = open_connector("csv", {"url": str(path)}, {}, NetworkPolicy())
    before, highest, count = pa.total_allocated_bytes(), 0, 0
    tracemalloc.start()
    for page in connector.read(ReadRequest("x")):
        count += page.data.num_rows
        highest = max(highest, pa.total_allocated_bytes() - before)
    python_peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 1_500_000
    assert path.stat().st_size > 60_000_000
    assert highest < 100_000_000
    assert python_peak < 60_000_000


# --- the reference

field = st.text(st.sampled_from('ab,;"\n é'), max_size=5)
quoted = field.map(lambda text: '"' + text.replace('"', '""') + '"')
plain = st.text(st.sampled_from('ab é"'), max_size=4).filter(lambda text: not text.startswith('"'))
record = st.lists(st.one_of(plain, quoted), min_size=1, max_size=5).map(",".join)
ends = st.sampled_from(["\n", "\r\n", "\n\n"])


def reference(body: str, width: int) -> tuple[list[tuple[str, list[str]]], list[int]]:
    """Rows by number and lines of refused rows, by the standard library's reader."""
    reader = csv.reader(io.StringIO(body, newline=""))
    good: list[tuple[str, list[str]]] = []
    refused: list[int] = []
    number, before = 0, 0
    for fields in reader:
        start, before = before + 1, reader.line_num
        if not fields:
            continue
        number += 1
        if any(fields[width:]):
            refused.append(start)
        else:
            good.append((str(number), (fields + [""] * width)[:width]))
    return good, [line + 1 for line in refused]


@settings(max_examples=400, deadline=None)
@given(records=st.lists(st.tuples(record, ends), max_size=40), block=st.sampled_from([16, 32, 64, 257, 8 * 1024**2]))
def test_rows_are_those_of_the_reference(records: list[tuple[str, str]], block: int) -> None:
    import tempfile

    body = "".join(text + end for text, end in records)
    expected, refused = reference(body, 3)
    with tempfile.NamedTemporaryFile("w", suffix=".csv", newline="", encoding="utf-8") as file:
        file.write("k,l,m\n" + body)
        file.flush()
        connector = open_connector("csv", {"url": file.name, "delimiter": "comma"}, {}, NetworkPolicy())
        size = csv_rows.BLOCK_BYTES
        csv_rows.BLOCK_BYTES = block
        try:
            found, lines = [], []
            for page in connector.read(ReadRequest("x")):
                lines += [r.line for r in page.rejected]
                for row in page.data.to_pylist():
                    row_id = row.pop(ROW_ID)
                    found.append((row_id, ["" if v is None else v for v in row.values()]))
        except BadData as error:
            assert "not one of" in str(error) and not expected
            return
        finally:
            csv_rows.BLOCK_BYTES = size
            connector.close()
    assert found == expected
    assert lines == refused
