"""CSV files: where they may lie, how they come packed and encoded, what header they have, what is no CSV."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasense_assets.connectors import NetworkPolicy, open_connector
from datasense_assets.connectors.base import INDEX, PARENT_ID, ROW_ID, ReadRequest, Window
from datasense_assets.connectors.csv_dialect import distinct_keys
from datasense_assets.connectors.errors import BadConfig, BadData, CredentialRefused, ResourceGone, SourceError
from datasense_assets_tests.connectors.conftest import Answer, CsvOpener, Web, pages, rows


def zipped(**members: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "/").replace("_", "."), content)
    return buffer.getvalue()


def header_of(connector: object) -> list[tuple[str, str]]:
    (table,) = connector.describe("file.csv")  # type: ignore[attr-defined]
    return [(c.key, c.label) for c in table.columns]


# --- where


def test_a_path_below_the_root_is_read(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.csv").write_text("a\n1\n")
    for url in ("in/a.csv", "in/../in/a.csv", str(tmp_path / "in" / "a.csv")):
        connector = open_connector("csv", {"url": url}, {}, NetworkPolicy(files_root=tmp_path))
        assert rows(connector) == rows(connector) == [{"a": "1", ROW_ID: "1"}]
        assert connector.stats.bytes == 4  # read twice, it counts once


@pytest.mark.parametrize("url", ["../outside.csv", "/etc/passwd", "link.csv", "in/../../outside.csv", "../nowhere.csv"])
def test_nothing_outside_the_root_is_read_nor_probed(tmp_path: Path, url: str) -> None:
    root = tmp_path / "root"
    (root / "in").mkdir(parents=True)
    (tmp_path / "outside.csv").write_text("a\n1\n")
    (root / "link.csv").symlink_to(tmp_path / "outside.csv")
    connector = open_connector("csv", {"url": url}, {}, NetworkPolicy(files_root=root))
    with pytest.raises(BadConfig, match="outside the folder"):
        connector.describe("x")
    with pytest.raises(BadConfig, match="outside the folder"):
        connector.fingerprint("x", None)


def test_a_missing_file_and_a_folder_without_any_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(ResourceGone, match="There is no file"):
        open_connector("csv", {"url": "a.csv"}, {}, NetworkPolicy(files_root=tmp_path)).discover()
    with pytest.raises(ResourceGone, match="holds no file"):
        open_connector("csv", {"url": "."}, {}, NetworkPolicy(files_root=tmp_path)).discover()


def test_a_download_is_made_once_and_leaves_nothing_behind(web: Web, local_policy: NetworkPolicy) -> None:
    headers = {"ETag": '"v1"', "Last-Modified": "Sun, 22 Nov 2026 10:00:00 GMT"}
    url = web.on("/d/villages.csv", Answer(b"a;b\n1;2\n", headers=headers))
    connector = open_connector("csv", {"url": url + "?sig=s1gn3d"}, {"token": "t0k"}, local_policy)
    (table,) = connector.discover()
    assert (table.resource, table.title) == ("villages.csv", "villages")
    assert rows(connector, "villages.csv") == [{"a": "1", "b": "2", ROW_ID: "1"}]
    assert [s.method for s in web.seen] == ["GET"]
    assert web.seen[0].headers["authorization"] == "Bearer t0k"
    assert (connector.stats.api_calls, connector.stats.bytes) == (1, 8)
    connector.close()
    assert local_policy.scratch is not None
    assert list(local_policy.scratch.iterdir()) == []


def test_a_user_and_password_go_as_basic_auth(web: Web, local_policy: NetworkPolicy) -> None:
    url = web.on("/a.csv", b"a\n1\n")
    open_connector("csv", {"url": url}, {"username": "u", "password": "p"}, local_policy).discover()
    assert web.seen[0].headers["authorization"] == "Basic dTpw"
    with pytest.raises(CredentialRefused):
        open_connector("csv", {"url": web.on("/b.csv", Answer(status=401))}, {}, local_policy).check()


def test_fingerprint_of_a_local_file_changes_with_it(csv_of: CsvOpener) -> None:
    one = csv_of("a\n1\n").fingerprint("x", None)
    assert csv_of("a\n1\n2\n").fingerprint("x", one) != one


# --- packed


def test_each_csv_of_a_zip_is_a_table(csv_of: CsvOpener) -> None:
    feed = zipped(stops_txt="id,n\n1,x\n", sub__routes_csv="r\n7\n", readme_pdf="%PDF", __MACOSX___stops_txt="junk")
    connector = csv_of(feed, "feed.zip")
    assert [(t.resource, t.title) for t in connector.discover()] == [
        ("stops.txt", "stops"),
        ("sub/routes.csv", "routes"),
    ]
    assert rows(connector, "stops.txt") == [{"id": "1", "n": "x", ROW_ID: "1"}]
    assert rows(connector, "sub/routes.csv") == [{"r": "7", ROW_ID: "1"}]
    assert "2 CSV files" in connector.check()


def test_one_member_chooses_itself_and_several_are_listed(csv_of: CsvOpener) -> None:
    assert rows(csv_of(zipped(only_csv="a\n1\n"), "a.zip"), "anything") == [{"a": "1", ROW_ID: "1"}]
    several = csv_of(zipped(b_csv="b\n1\n", c_csv="c\n1\n"), "b.zip")
    with pytest.raises(ResourceGone, match=r"b\.csv, c\.csv"):
        several.describe("gone.csv")
    with pytest.raises(BadConfig, match=r"several CSV files.*b\.csv, c\.csv"):
        several.describe("")
    named = csv_of(zipped(b_csv="b\n1\n", c_csv="c\n1\n"), "c.zip", member="c.csv")
    assert [t.resource for t in named.discover()] == ["c.csv"]
    with pytest.raises(ResourceGone, match=r"d\.csv.*b\.csv, c\.csv"):
        csv_of(zipped(b_csv="b\n1\n", c_csv="c\n1\n"), "d.zip", member="d.csv").discover()


def test_gzip_and_tar_gz_are_unpacked(csv_of: CsvOpener) -> None:
    packed = csv_of(gzip.compress(b"a,b\n1,2\n"), "villages.csv.gz")
    assert [t.resource for t in packed.discover()] == ["villages.csv"]
    assert rows(packed) == [{"a": "1", "b": "2", ROW_ID: "1"}]
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name in ("x.csv", "y.csv"):
            info = tarfile.TarInfo(name)
            info.size = 4
            tar.addfile(info, io.BytesIO(b"a\n1\n"))
    assert [t.resource for t in csv_of(buffer.getvalue(), "t.tgz").discover()] == ["x.csv", "y.csv"]
    assert rows(csv_of(buffer.getvalue(), "t.tgz", member="y.csv")) == [{"a": "1", ROW_ID: "1"}]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (zipped(a_pdf="x", b_doc="y"), "holds no CSV file"),
        (zipped(xl__workbook_xml="x", xl__s_xml="y"), "Excel"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600, "Excel"),
        (zipped(a_csv="a\n" + "1\n" * 5000)[:60], "damaged"),
        (gzip.compress(b"a\n" + bytes(range(256)) * 500)[:200], "damaged"),
    ],
    ids=["other files", "xlsx", "xls", "cut zip", "cut gzip"],
)
def test_packages_that_hold_no_csv_say_so(csv_of: CsvOpener, content: bytes, words: str) -> None:
    with pytest.raises(BadData, match=words):
        csv_of(content, "p.zip").discover()


# --- encoded

NAMES = "name;ville\nJosé;Besançon\nZoë;Orléans\n"


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252", "latin-1"]
)
@pytest.mark.parametrize("named", [True, False])
def test_encodings_named_or_found_give_the_same_letters(csv_of: CsvOpener, encoding: str, named: bool) -> None:
    connector = csv_of(NAMES.encode(encoding), encoding=encoding if named else "auto")
    assert [(r["name"], r["ville"]) for r in rows(connector)] == [("José", "Besançon"), ("Zoë", "Orléans")]
    guessed = not named and encoding in ("cp1252", "latin-1")
    assert bool(connector.stats.notes) is guessed


def test_other_scripts_are_found(csv_of: CsvOpener) -> None:
    cyrillic = "имя,город\nИван Петров,Москва\nПётр Ильич,Казань и область\n"
    assert rows(csv_of(cyrillic.encode("cp1251")))[0]["имя"] == "Иван Петров"


def test_a_wrongly_named_encoding_says_where(csv_of: CsvOpener) -> None:
    with pytest.raises(BadData, match=r"encoding utf-8: byte 14 "):
        csv_of(NAMES.encode("cp1252"), encoding="utf-8").describe("x")


def test_letters_far_into_a_file_decide_too(csv_of: CsvOpener) -> None:
    connector = csv_of(b"a,b\n" + b"1,2\n" * 200_000 + "José,3\n".encode("cp1252"))
    assert rows(connector)[-1]["a"] == "José"


def test_a_stray_byte_does_not_spoil_a_utf8_file(csv_of: CsvOpener) -> None:
    connector = csv_of(b"a\n" + "दिल्ली\n".encode() * 100 + b"\xff\n")
    found = rows(connector)
    assert (found[0]["a"], found[-1]["a"]) == ("दिल्ली", "�")
    assert "1 bytes that are not UTF-8" in connector.stats.notes[0]


def test_nul_characters_are_left_out_and_noted(csv_of: CsvOpener) -> None:
    connector = csv_of("a,b\n1\0,2\n")
    assert rows(connector) == [{"a": "1", "b": "2", ROW_ID: "1"}]
    assert "1 NUL" in connector.stats.notes[0]


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
def test_every_line_end_is_known(csv_of: CsvOpener, ends: str) -> None:
    assert rows(csv_of(f"a,b{ends}1,2{ends}3,4{ends}")) == [
        {"a": "1", "b": "2", ROW_ID: "1"},
        {"a": "3", "b": "4", ROW_ID: "2"},
    ]


# --- header and delimiter


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_delimiters_are_found_even_beside_decimal_commas(csv_of: CsvOpener, delimiter: str) -> None:
    other = "," if delimiter != "," else ";"
    text = delimiter.join("abc") + "\n" + (delimiter.join(["1" + other + "5", '"x\ny"', "z"]) + "\n") * 5
    assert rows(csv_of(text))[4] == {"a": f"1{other}5", "b": "x\ny", "c": "z", ROW_ID: "5"}


def test_a_delimiter_can_be_given_or_stand_in_the_file(csv_of: CsvOpener) -> None:
    assert header_of(csv_of("a,b^c\n1,2^3\n", delimiter="^")) == [("a,b", "a,b"), ("c", "c")]
    assert rows(csv_of("sep=;\na;b,c\n1;2,3\n")) == [{"a": "1", "b,c": "2,3", ROW_ID: "1"}]


def test_one_column_is_a_table_too(csv_of: CsvOpener) -> None:
    assert rows(csv_of("a\nx\n\ny\n")) == [{"a": "x", ROW_ID: "1"}, {"a": "y", ROW_ID: "2"}]


def test_headers_of_any_script_stay_as_they_are(csv_of: CsvOpener) -> None:
    assert header_of(csv_of("नाम,गाँव,आयु\nअ,ब,1\n")) == [("नाम", "नाम"), ("गाँव", "गाँव"), ("आयु", "आयु")]


def test_duplicate_and_empty_headers_are_distinct_columns(csv_of: CsvOpener) -> None:
    connector = csv_of('a,a,,"two\nlines",, b \n1,2,3,4,5,6\n')
    assert header_of(connector) == [
        ("a", "a"),
        ("a (2)", "a"),
        ("column 3", ""),
        ("two\nlines", "two\nlines"),
        ("column 5", ""),
        ("b", " b "),
    ]
    assert list(rows(connector)[0].values()) == ["1", "2", "3", "4", "5", "6", "1"]


def test_a_header_can_stand_below_a_title(csv_of: CsvOpener) -> None:
    connector = csv_of("Villages of 2024,,\n\na,b\n1,2\n1,2,3\n", header_row=2)
    assert rows(connector) == [{"a": "1", "b": "2", ROW_ID: "1"}]
    assert pages(connector)[0].rejected[0].line == 5


@given(st.lists(st.text(st.sampled_from("a (2)3column_ds") | st.characters(), max_size=8), min_size=1, max_size=30))
def test_keys_are_distinct_stable_and_never_the_platforms(labels: list[str]) -> None:
    keys = distinct_keys(labels)
    assert len(set(keys)) == len(labels)
    assert all(keys)
    assert not {ROW_ID, PARENT_ID, INDEX} & set(keys)
    assert keys == distinct_keys(labels)
    for label, key in zip(labels, keys, strict=True):
        if labels.count(label) == 1 and label == label.strip() and label and not label.startswith("_ds_"):
            assert key.startswith(label)


def test_columns_about_persons_are_marked(csv_of: CsvOpener) -> None:
    (table,) = csv_of("village,Mobile No.,फ़ोन नंबर,Father's name,name,households\n").describe("x")
    assert [c.personal for c in table.columns] == [False, True, True, True, False, False]


# --- not CSV


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "is empty"),
        ("\ufeff\r\n \n", "is empty"),
        ("\n<!DOCTYPE html>\n<html><head><title>Sign in</title></head><body>to continue</body>", "Sign in to continue"),
        ('{"detail": "Not found"}', "JSON.*Not found"),
        ("<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "XML"),
        ("%PDF-1.7\n", "PDF"),
        (bytes(range(256)) * 50, "not text"),
    ],
)
def test_what_is_no_csv_is_named(csv_of: CsvOpener, content: str | bytes, words: str) -> None:
    with pytest.raises(BadData, match=words):
        csv_of(content).discover()


def test_a_header_alone_is_a_table_without_rows(csv_of: CsvOpener) -> None:
    for text in ("a,b", "a,b\n", "a,b\r\n\r\n\n"):
        assert header_of(csv_of(text)) == [("a", "a"), ("b", "b")]
        assert pages(csv_of(text)) == []


def test_a_past_window_is_refused_with_the_reason(csv_of: CsvOpener) -> None:
    from datetime import UTC, datetime

    window = Window(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC))
    with pytest.raises(BadConfig, match="snapshot"):
        list(csv_of("a\n1\n").read(ReadRequest("x", window=window)))


@given(st.binary(max_size=400))
def test_any_bytes_at_all_end_in_rows_or_in_a_source_error(content: bytes) -> None:
    import tempfile

    with tempfile.NamedTemporaryFile(suffix=".csv") as file:
        file.write(content)
        file.flush()
        connector = open_connector("csv", {"url": file.name}, {}, NetworkPolicy())
        try:
            found = rows(connector)
        except SourceError as error:
            assert error.advice
        else:
            assert len({r[ROW_ID] for r in found}) == len(found)
        finally:
            connector.close()


@pytest.mark.parametrize("path", ["secret.key", "sub/../secret.key", "../state/secret.key"])
def test_the_platforms_own_folder_is_never_a_source(tmp_path: Path, path: str) -> None:
    state = tmp_path / "state"
    (state / "sub").mkdir(parents=True)
    (state / "secret.key").write_text("key\nvalue\n")
    policy = NetworkPolicy(private_folder=state)
    with pytest.raises(BadConfig, match="platform's own folder"):
        open_connector("csv", {"url": str(state / path)}, {}, policy).discover()
