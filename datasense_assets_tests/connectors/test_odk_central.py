"""ODK Central: what is found, what is read live, by window and in pages, and how it fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from datasense_assets.catalog.models import ColumnType
from datasense_assets.connectors import NetworkPolicy, open_connector, quotas_of
from datasense_assets.connectors.base import Connector, Page, ReadRequest, Window
from datasense_assets.connectors.errors import BadConfig, BadData, CredentialRefused, ResourceGone, SourceError
from datasense_assets_tests.connectors.conftest import Web
from datasense_assets_tests.stand_ins.odk_central import PASSWORD, USER, Central, Form, serve

START = datetime(2026, 1, 10, 8, 0, 0, 123000, tzinfo=UTC)
FIELDS = [
    ("name", "string"),
    ("house/size", "int"),
    ("house/place", "geopoint"),
    ("members", "repeat"),
    ("members/age", "int"),
    ("members/pets", "repeat"),
    ("members/pets/kind", "string"),
    ("visited", "date"),
]
Opener = Callable[..., Connector]


@pytest.fixture
def form() -> Form:
    form = Form("visits", FIELDS)
    for number in range(5):
        members = [{"age": number + i, "pets": [{"kind": "cat"}] if i else []} for i in range(number % 3)]
        answers = {"name": f"N{number}", "house": {"size": number}, "members": members, "visited": "2026-01-10"}
        form.add(answers, at=START + timedelta(hours=number))
    form.submissions[1].answers["house"]["place"] = {"type": "Point", "coordinates": [36.8, -1.3]}
    return form


@pytest.fixture
def central(form: Form) -> Iterator[Central]:
    with serve([form, Form("draft", [("a", "string")], published=False), Form("empty", [("a", "string")])]) as running:
        yield running


@pytest.fixture
def connect(central: Central, local_policy: NetworkPolicy, pauses: list[float]) -> Iterator[Opener]:
    opened: list[Connector] = []

    def make(password: str = PASSWORD, **config: Any) -> Connector:
        settings = {"base_url": central.url, "project": 1, **config}
        opened.append(open_connector("odk_central", settings, {"username": USER, "password": password}, local_policy))
        return opened[-1]

    yield make
    for connector in opened:
        connector.close()


def tables(pages: list[Page]) -> dict[tuple[str, ...], list[dict[str, Any]]]:
    found: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for page in pages:
        found.setdefault(page.path, []).extend(page.data.to_pylist())
    return found


def names(pages: list[Page]) -> list[str]:
    return sorted(row["name"] for row in tables(pages).get((), []))


def test_a_user_that_works_is_said_to(connect: Opener) -> None:
    assert connect().check().endswith("accepts the user: 2 forms in project 1.")


def test_published_forms_are_found_with_their_repeats_and_types(connect: Opener) -> None:
    found = connect().discover()
    assert [(info.resource, info.path) for info in found] == [
        ("empty", ()),
        ("visits", ()),
        ("visits", ("members",)),
        ("visits", ("members", "pets")),
    ]
    types = {column.key: column.type for column in found[1].columns}
    assert types["house/size"] is ColumnType.INTEGER
    assert types["visited"] is ColumnType.DATE
    assert types["house/place"] is None
    assert types["__system/submissionDate"] is ColumnType.DATETIME
    assert [column.key for column in found[3].columns] == ["kind"]


@pytest.mark.parametrize("page_size", [1, 2, 5, 1000])
def test_every_submission_comes_once_with_its_repeats_whatever_the_page(connect: Opener, page_size: int) -> None:
    pages = list(connect(page_size=page_size).read(ReadRequest("visits")))
    read = tables(pages)
    assert names(pages) == [f"N{n}" for n in range(5)]
    rows = {row["_ds_row_id"]: row for row in read[()]}
    assert rows["uuid:00000002"]["house/place"] == '{"type": "Point", "coordinates": [36.8, -1.3]}'
    assert sorted(
        (rows[member["_ds_parent_id"]]["name"], member["_ds_index"], member["age"]) for member in read[("members",)]
    ) == [(f"N{n}", str(i + 1), str(n + i)) for n in range(5) for i in range(n % 3)]
    members = {member["_ds_row_id"] for member in read[("members",)]}
    assert {pet["_ds_parent_id"] for pet in read[("members", "pets")]} <= members
    assert len(read[("members", "pets")]) == 1
    assert pages[-1].cursor == "2026-01-10T12:00:00.123Z"


def test_a_row_that_comes_in_between_two_pages_moves_no_other(connect: Opener, form: Form) -> None:
    pages = connect(page_size=2).read(ReadRequest("visits"))
    first = next(pages)
    form.add({"name": "late"}, at=START + timedelta(days=1))
    assert names([first, *pages]) == [f"N{n}" for n in range(5)]


def test_a_live_read_brings_what_is_new_and_what_was_edited(connect: Opener, form: Form) -> None:
    connector = connect(lag_seconds=0)
    assert names(list(connector.read(ReadRequest("visits", cursor="2026-01-10T11:00:00.123Z")))) == ["N3", "N4"]
    form.submissions[0].updated = START + timedelta(days=2)
    pages = list(connector.read(ReadRequest("visits", cursor="2026-01-10T12:00:00.124Z")))
    assert names(pages) == ["N0"]
    assert pages[-1].cursor == "2026-01-12T08:00:00.123Z"
    lagging = connect(lag_seconds=3600)
    assert names(list(lagging.read(ReadRequest("visits", cursor="2026-01-10T12:00:00.123Z")))) == ["N0", "N3", "N4"]


def test_a_window_is_exact_to_the_millisecond(connect: Opener) -> None:
    start = START + timedelta(hours=1)
    window = Window(start, start + timedelta(hours=2))
    assert names(list(connect().read(ReadRequest("visits", window=window)))) == ["N1", "N2"]
    just_after = Window(start + timedelta(microseconds=1), start + timedelta(hours=2, microseconds=1))
    assert names(list(connect().read(ReadRequest("visits", window=just_after)))) == ["N2", "N3"]


def test_rows_are_counted_and_named_for_deletions(connect: Opener) -> None:
    connector = connect(page_size=2)
    assert connector.count("visits") == 5
    ids = [row for page in connector.row_ids("visits") for row in page]
    assert sorted(ids) == [f"uuid:{n:08d}" for n in range(1, 6)]
    assert list(connector.read(ReadRequest("empty"))) == []


@pytest.mark.parametrize(
    ("what", "kind"),
    [
        (lambda connect: connect("wrong").check(), CredentialRefused),
        (lambda connect: connect(project=9).check(), ResourceGone),
        (lambda connect: connect().describe("gone"), ResourceGone),
        (lambda connect: list(connect().read(ReadRequest("visits", cursor="yesterday"))), BadConfig),
    ],
)
def test_what_cannot_be_read_says_so_without_the_password(
    connect: Opener, what: Callable[[Opener], Any], kind: type[SourceError]
) -> None:
    with pytest.raises(kind) as caught:
        what(connect)
    assert PASSWORD not in str(caught.value)


def test_a_server_that_is_no_central_and_a_link_to_elsewhere_lead_nowhere(
    web: Web, local_policy: NetworkPolicy, pauses: list[float]
) -> None:
    settings = {"base_url": web.url, "project": 1}
    connector = open_connector("odk_central", settings, {"username": USER, "password": PASSWORD}, local_policy)
    web.on("/v1/projects/1/forms", b'{"hello": 1}')
    with pytest.raises(BadData, match="ODK Central"):
        connector.check()
    web.on("/v1/projects/1/forms/f/fields", b"[]")
    stolen = b'{"value": [{"__id": "1"}], "@odata.nextLink": "http://localhost:1/stolen?%24skiptoken=a"}'
    web.on("/v1/projects/1/forms/f.svc/Submissions", stolen)
    with pytest.raises(BadData, match="same page again"):
        list(connector.read(ReadRequest("f")))
    connector.close()


def test_its_calls_are_counted_by_user_and_server() -> None:
    config, credentials = {"base_url": "https://x.org", "project": 1}, {"username": USER, "password": PASSWORD}
    (quota,) = quotas_of("odk_central", config, credentials)
    assert (quota.name, quota.shared_by, quota.calls) == ("odk_central.account", USER, 120)
