"""SurveyCTO's server datasets as tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from datasense_assets.connectors import NetworkPolicy, open_connector
from datasense_assets.connectors.base import Connector, ReadRequest, Window
from datasense_assets.connectors.errors import (
    AccessForbidden,
    BadConfig,
    BadData,
    CredentialRefused,
    ResourceGone,
    Unavailable,
)
from datasense_assets_tests.stand_ins.surveycto import PASSWORD, USER, Dataset, StandIn, serve
from examples import kobo_faults

Opener = Callable[..., Connector]


@pytest.fixture
def cases() -> Dataset:
    rows = [["H1", "Asha, Rampur", ""], ["H2", 'said "no"', "line\nbreak"], ["H3", "राम", "007"]]
    return Dataset("cases", ["id", "label", "users"], rows, unique="id")


@pytest.fixture
def server(cases: Dataset) -> Iterator[StandIn]:
    with serve([], [cases, Dataset("towns", ["town", "phone"], [["Amla", "1"], ["Amla", "1"]])]) as running:
        yield running


@pytest.fixture
def opened(local_policy: NetworkPolicy, pauses: list[float]) -> Iterator[Opener]:
    made: list[Connector] = []

    def make(url: str, password: str = PASSWORD) -> Connector:
        credentials = {"username": USER, "password": password}
        made.append(open_connector("surveycto_datasets", {"server": url}, credentials, local_policy))
        return made[-1]

    yield make
    for connector in made:
        connector.close()


def rows(connector: Connector, resource: str, **how: Any) -> list[dict[str, str | None]]:
    return [row for page in connector.read(ReadRequest(resource, **how)) for row in page.data.to_pylist()]


def test_every_dataset_is_a_table_with_its_fields(opened: Opener, server: StandIn) -> None:
    tables = opened(server.url).discover()
    assert [(t.resource, t.title, t.rows, [c.key for c in t.columns]) for t in tables] == [
        ("cases", "Cases", 3, ["id", "label", "users"]),
        ("towns", "Towns", 2, ["town", "phone"]),
    ]
    assert [c.personal for c in tables[1].columns] == [False, True]
    assert len(server.requests) == 1
    assert "2 datasets" in opened(server.url).check()


def test_more_datasets_than_a_page_are_all_listed(opened: Opener) -> None:
    with serve([], [Dataset(f"d{number:04d}", ["a"], []) for number in range(1_205)]) as server:
        assert len(opened(server.url).discover()) == 1_205
        assert len(server.requests) == 2


def test_rows_are_named_by_the_unique_field_else_by_their_number(opened: Opener, server: StandIn) -> None:
    connector = opened(server.url)
    cases = rows(connector, "cases")
    assert [row["label"] for row in cases] == ["Asha, Rampur", 'said "no"', "राम"]
    assert (cases[1]["users"], cases[2]["users"]) == ("line\nbreak", "007")
    assert len({row["_ds_row_id"] for row in cases}) == 3
    server.datasets["cases"].rows.insert(0, ["H0", "first", ""])
    again = {row["id"]: row["_ds_row_id"] for row in rows(connector, "cases")}
    assert {row["id"]: row["_ds_row_id"] for row in cases}.items() <= again.items()
    towns = rows(connector, "towns")
    assert len({row["_ds_row_id"] for row in towns}) == 2


def test_a_key_of_the_manifest_comes_first(opened: Opener, server: StandIn) -> None:
    server.datasets["cases"].rows.append(["H1", "other label", ""])
    assert len(rows(opened(server.url), "cases", key=("label",))) == 4


def test_a_repeated_or_missing_key_is_set_aside(opened: Opener, server: StandIn) -> None:
    server.datasets["cases"].rows += [["H1", "again", ""], ["", "no id", ""]]
    pages = list(opened(server.url).read(ReadRequest("cases")))
    assert sum(page.data.num_rows for page in pages) == 3
    assert len([refused for page in pages for refused in page.rejected]) == 2


def test_a_server_that_describes_no_dataset_still_hands_out_its_rows(opened: Opener, server: StandIn) -> None:
    server.lists = False
    connector = opened(server.url)
    (table,) = connector.describe("cases")
    assert [column.key for column in table.columns] == ["id", "label", "users"]
    assert len(rows(connector, "cases")) == 3
    with pytest.raises(ResourceGone):
        connector.discover()


def test_a_dataset_that_is_just_being_written_is_left_for_later(opened: Opener, server: StandIn) -> None:
    server.datasets["cases"].status = "DIRTY"
    with pytest.raises(Unavailable, match="being written"):
        rows(opened(server.url), "cases")


def test_refusals_say_what_to_do(opened: Opener, server: StandIn) -> None:
    with pytest.raises(ResourceGone, match=r"dataset nothing is not on .* not its title"):
        opened(server.url).describe("nothing")
    with pytest.raises(CredentialRefused, match="still log in"):
        opened(server.url, password="wrong").check()
    server.api_access = False
    with pytest.raises(AccessForbidden, match="server API access"):
        rows(opened(server.url), "cases")
    with pytest.raises(BadConfig, match="no earlier state"):
        rows(opened(server.url), "cases", window=Window(None, None))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("body", "error"), [(b"", BadData), (b"<!doctype html><body>Log in</body>", BadData), (b'{"a": 1}', BadData)]
)
def test_what_is_no_csv_is_never_taken_for_an_empty_one(
    opened: Opener, server: StandIn, body: bytes, error: type[Exception]
) -> None:
    server.fail(kobo_faults.Fault(200, "/data/csv/", body=body, times=9))
    with pytest.raises(error):
        rows(opened(server.url), "cases")


def test_it_takes_turns_with_a_forms_request_to_the_same_server(
    opened: Opener, server: StandIn, pauses: list[float]
) -> None:
    server.fail(kobo_faults.Fault(409, "/datasets", body=b'{"error": {"message": "Another request"}}'))
    assert len(rows(opened(server.url), "cases")) == 3
    assert len(pauses) == 1
