"""What no table can take as it is, from each connector: columns called as the platform's, text with NUL in it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datasense_assets.connectors import NetworkPolicy, open_connector
from datasense_assets.connectors.base import INDEX, PARENT_ID, ROW_ID, Connector, ReadRequest, kept_key
from datasense_assets.connectors.plain_text import Cleaner
from datasense_assets_tests.stand_ins import odk_central, surveycto
from datasense_assets_tests.stand_ins.google_book import Book, Tab
from datasense_assets_tests.stand_ins.google_sheets import Account
from datasense_assets_tests.stand_ins.google_sheets import serve as serve_google
from examples.kobo_form import Form, with_xpaths
from examples.kobo_stand_in import serve as serve_kobo

LOCAL = NetworkPolicy(allow_private_addresses=True)
OWN = (ROW_ID, INDEX, PARENT_ID)
NOW = datetime.now(UTC).replace(microsecond=0)
Row = dict[str, str]


@contextmanager
def kobo(_: Path, row: Row) -> Iterator[Connector]:
    questions = [{"type": "text", "name": name} for name in row]
    inner = [{"type": "begin_repeat", "name": "kids"}, {"type": "text", "name": ROW_ID}, {"type": "end_repeat"}]
    form = Form("f", "F", {"survey": with_xpaths([*questions, *inner]), "choices": [], "translations": [None]})
    form.add({**row, "kids": [{ROW_ID: "own kid"}]}, at=NOW)
    with serve_kobo([form], token="t") as server:
        yield open_connector("kobo", {"base_url": server.url}, {"token": "t"}, LOCAL)


@contextmanager
def odk(_: Path, row: Row) -> Iterator[Connector]:
    form = odk_central.Form(
        "f", [*((name, "string") for name in row), ("kids", "repeat"), (f"kids/{ROW_ID}", "string")]
    )
    form.add({**row, "kids": [{ROW_ID: "own kid"}]}, NOW)
    with odk_central.serve([form]) as server:
        config = {"base_url": server.url, "project": 1}
        yield open_connector(
            "odk_central", config, {"username": odk_central.USER, "password": odk_central.PASSWORD}, LOCAL
        )


@contextmanager
def survey(_: Path, row: Row) -> Iterator[Connector]:
    form = surveycto.Form("f", [*row, ("kids", [ROW_ID])])
    form.add({**row, "kids": [{ROW_ID: "own kid"}]}, at=NOW - timedelta(hours=1))
    with surveycto.serve([form]) as server:
        credentials = {"username": surveycto.USER, "password": surveycto.PASSWORD}
        yield open_connector("surveycto", {"server": server.url}, credentials, LOCAL)


@contextmanager
def sheet(folder: Path, row: Row) -> Iterator[Connector]:
    account = Account("reader@p.iam.gserviceaccount.com")
    book = Book("f", "F", [Tab("f", [list(row), list(row.values())])], shared={account.email})
    with serve_google([book], [account]) as google:
        config = {"spreadsheet": "f", "api_base_url": google.url}
        yield open_connector("google_sheets", config, {"service_account": account.key(google.url)}, LOCAL)


def file(suffix: str) -> Any:
    @contextmanager
    def made(folder: Path, row: Row) -> Iterator[Connector]:
        path = folder / f"f{suffix}"
        if suffix == ".csv":
            path.write_text(f"{','.join(row)}\n{','.join(row.values())}\n")
        elif suffix == ".jsonl":
            path.write_text(json.dumps(row) + "\n")
        elif suffix == ".parquet":
            pq.write_table(pa.table({name: [value] for name, value in row.items()}), path)
        else:
            book = openpyxl.Workbook()
            book.active.append(list(row))
            book.active.append(list(row.values()))
            book.save(path)
        yield open_connector("file", {"url": str(path)}, {}, LOCAL)

    return made


PLACES = {"kobo": kobo, "odk": odk, "surveycto": survey, "google": sheet}
PLACES |= {suffix: file(suffix) for suffix in (".csv", ".jsonl", ".parquet", ".xlsx")}


@pytest.mark.parametrize("place", PLACES)
def test_what_is_called_as_one_of_ours_is_kept(place: str, tmp_path: Path) -> None:
    with PLACES[place](tmp_path, {name: f"own {name}" for name in OWN}) as connector:
        resource = connector.discover()[0].resource
        infos = {
            info.path: {column.key: column.label for column in info.columns} for info in connector.describe(resource)
        }
        pages = {page.path: page.data.to_pylist() for page in connector.read(ReadRequest(resource))}
        connector.close()
    (row,) = pages[()]
    assert {name: row[kept_key(name)] for name in OWN} == {name: f"own {name}" for name in OWN}
    assert "own" not in row[ROW_ID]
    assert {name: infos[()].get(kept_key(name)) for name in OWN} == {name: name for name in OWN}
    assert not set(OWN) & infos[()].keys()
    for path in infos.keys() - {()}:
        (kid,) = pages[path]
        assert "own kid" in kid.values()
        assert (kid[PARENT_ID], kid[INDEX]) == (row[ROW_ID], "1")
        assert "own" not in kid[ROW_ID]


@pytest.mark.parametrize(
    ("value", "clean", "changed"),
    [
        ({"a": "b\0c"}, {"a": "bc"}, 1),
        ({"a": "\\u0000"}, {"a": "\\u0000"}, 0),
        ({"a": "\\\0"}, {"a": "\\"}, 1),
        (["\ud800é"], ["?é"], 1),
        (["x"], ["x"], 0),
    ],
)
def test_json_is_cleaned_of_nul_and_of_nothing_else(value: Any, clean: Any, changed: int) -> None:
    cleaner = Cleaner()
    assert json.loads(cleaner.json(json.dumps(value, ensure_ascii=False))) == clean
    assert cleaner.changed == changed


@pytest.mark.parametrize("place", [each for each in PLACES if each not in (".xlsx", "google")])
def test_what_postgres_cannot_hold_is_left_out_and_told(place: str, tmp_path: Path) -> None:
    with PLACES[place](tmp_path, {"name": "Am\0la", "n": "गाँव"}) as connector:
        resource = connector.discover()[0].resource
        pages = list(connector.read(ReadRequest(resource)))
        notes = [note for note in connector.stats.notes if "NUL" in note]
        connector.close()
    (row,) = pages[0].data.to_pylist()
    assert (row["name"], row["n"]) == ("Amla", "गाँव")
    assert len(notes) == 1, connector.stats.notes
    assert "left out" in notes[0]
