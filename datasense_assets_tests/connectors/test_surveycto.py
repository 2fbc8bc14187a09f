"""The SurveyCTO connector against the stand-in server: what it reads, how repeats are told, how it fails."""

from __future__ import annotations

import json
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasense_assets.catalog.models import ColumnType
from datasense_assets.connectors import NetworkPolicy, open_connector, validate_config
from datasense_assets.connectors.base import INDEX, PARENT_ID, ROW_ID, Page, ReadRequest, Window
from datasense_assets.connectors.errors import (
    AccessForbidden,
    BadConfig,
    BadData,
    CredentialRefused,
    ResourceGone,
    SourceError,
    Throttled,
)
from datasense_assets.connectors.surveycto import SurveyctoConnector
from datasense_assets.connectors.surveycto_repeats import find_layout
from datasense_assets.connectors.surveycto_rows import server_moment, server_text
from datasense_assets_tests.connectors.conftest import Answer, Web
from datasense_assets_tests.stand_ins.surveycto import PASSWORD, USER, Form, StandIn, serve
from examples.kobo_faults import Fault, bad_gateway

START = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)
QUESTIONS: list[Any] = [
    "starttime",
    "village",
    ("members", ["name", "age", ("tests", ["score"]), "note"]),
    "people_count",
    "remarks",
]

Opener = Callable[..., SurveyctoConnector]


@pytest.fixture
def form() -> Form:
    return Form("households", QUESTIONS)


@pytest.fixture
def server(form: Form) -> Iterator[StandIn]:
    with serve([form]) as running:
        yield running


@pytest.fixture
def opened(local_policy: NetworkPolicy, pauses: list[float]) -> Iterator[Opener]:
    connectors: list[SurveyctoConnector] = []

    def connect(
        url: str, *, password: str = PASSWORD, private_key: str | None = None, budget: Any = None, **config: object
    ) -> SurveyctoConnector:
        credentials = {"username": USER, "password": password}
        if private_key is not None:
            credentials["private_key"] = private_key
        connector = open_connector("surveycto", {"server": url, **config}, credentials, local_policy, budget=budget)
        assert isinstance(connector, SurveyctoConnector)
        connectors.append(connector)
        return connector

    yield connect
    for connector in connectors:
        connector.close()


def read(connector: SurveyctoConnector, cursor: str | None = None, window: Window | None = None) -> list[Page]:
    return list(connector.read(ReadRequest("households", cursor=cursor, window=window)))


def rows(pages: list[Page], *path: str) -> list[dict[str, str | None]]:
    return [row for page in pages if page.path == path for row in page.data.to_pylist()]


def ids(pages: list[Page], *path: str) -> list[str | None]:
    return [row[ROW_ID] for row in rows(pages, *path)]


# --- reading


def test_a_submission_becomes_a_row_and_its_repeats_rows_of_their_own(
    opened: Opener, server: StandIn, form: Form
) -> None:
    members = [
        {"name": "Asha", "age": "31", "tests": [{"score": "7.10"}, {"score": ""}], "note": "head"},
        {"name": "", "age": "", "tests": []},
    ]
    form.add({"starttime": "Mar 1, 2026 9:05:00 AM", "village": "Amla\0", "members": members}, at=START)
    form.add({"village": "आमला", "members": [], "people_count": 4, "remarks": "May 2026"}, at=START + SECOND)
    pages = read(opened(server.url))
    assert [page.path for page in pages] == [(), ("members",), ("members", "tests")]
    assert {str(field.type) for page in pages for field in page.data.schema} == {"string"}
    first, second = rows(pages)
    assert first[ROW_ID] == first["KEY"] == "uuid:00000001"
    assert (first["CompletionDate"], first["starttime"]) == ("2026-03-01T12:00:00+00:00", "2026-03-01T09:05:00+00:00")
    assert (first["village"], first["members_count"], first["remarks"]) == ("Amla", "2", None)
    assert (second["village"], second["people_count"], second["remarks"]) == ("आमला", "4", "May 2026")
    assert not {"name_1", "age_2", "tests_count_1"} & set(first)
    asha, nobody = rows(pages, "members")
    key = first["KEY"]
    assert (asha[ROW_ID], asha[PARENT_ID], asha[INDEX]) == (f"{key}/1", key, "1")
    assert (asha["name"], asha["age"], asha["tests_count"], asha["note"]) == ("Asha", "31", "2", "head")
    assert (nobody[ROW_ID], nobody["name"], nobody["tests_count"]) == (f"{key}/2", None, "0")
    assert [(t[ROW_ID], t[PARENT_ID], t[INDEX], t["score"]) for t in rows(pages, "members", "tests")] == [
        (f"{key}/1/1", f"{key}/1", "1", "7.10"),
        (f"{key}/1/2", f"{key}/1", "2", None),
    ]


def test_the_first_read_asks_for_everything_and_the_next_from_the_cursors_own_second(
    opened: Opener, server: StandIn, form: Form
) -> None:
    for minute in range(3):
        form.add({}, at=START + timedelta(minutes=minute))
    connector = opened(server.url, lag_seconds=0)
    pages = read(connector)
    assert pages[-1].cursor == "2026-03-01T12:02:00+00:00"
    form.add({}, at=START + timedelta(minutes=2))
    again = read(connector, pages[-1].cursor)
    assert ids(again) == ["uuid:00000003", "uuid:00000004"]
    assert [request.query["date"] for request in server.requests] == ["0", "Mar 1, 2026 12:02:00 PM"]
    assert again[-1].cursor == pages[-1].cursor
    assert read(connector, "2026-03-02T00:00:00+00:00") == []


def test_a_live_read_starts_its_lag_before_the_cursor_and_never_moves_it_back(
    opened: Opener, server: StandIn, form: Form
) -> None:
    form.add({}, at=START - timedelta(minutes=4))
    form.add({}, at=START - timedelta(minutes=6))
    pages = read(opened(server.url), START.isoformat())
    assert ids(pages) == ["uuid:00000001"]
    assert pages[-1].cursor == START.isoformat()


def test_a_window_holds_its_start_and_not_its_end(opened: Opener, server: StandIn, form: Form) -> None:
    for offset in (-1, 0, 1, 59, 60, 61):
        form.add({"village": str(offset)}, at=START + offset * SECOND)
    pages = read(opened(server.url), window=Window(START, START + timedelta(minutes=1)))
    assert [row["village"] for row in rows(pages)] == ["0", "1", "59"]
    assert [request.query["date"] for request in server.requests] == ["Mar 1, 2026 12:00:00 PM"]


def test_no_submission_is_no_page(opened: Opener, server: StandIn) -> None:
    assert read(opened(server.url)) == []


def test_the_newest_rows_come_last_whatever_the_servers_order(opened: Opener, server: StandIn, form: Form) -> None:
    form.add({}, at=START + timedelta(days=9))
    for minute in range(2300):
        form.add({}, at=START + timedelta(minutes=minute))
    connector = opened(server.url)
    pages = read(connector)
    assert [page.data.num_rows for page in pages if not page.path] == [1000, 1000, 301]
    assert len(set(ids(pages))) == 2301
    assert ids(pages)[-2:] == ["uuid:00002301", "uuid:00000001"]
    assert pages[-1].cursor == (START + timedelta(days=9)).isoformat()


def test_reviewed_submissions_are_chosen_by_status(opened: Opener, server: StandIn, form: Form) -> None:
    form.add({}, at=START)
    form.add({}, at=START, review="PENDING")
    form.add({}, at=START, review="REJECTED")
    assert ids(read(opened(server.url))) == ["uuid:00000001"]
    server.pass_time(300)
    both = opened(server.url, review_status=["approved", "rejected"])
    assert ids(read(both)) == ["uuid:00000001", "uuid:00000003"]
    assert "r" not in server.requests[0].query
    assert server.requests[1].query["r"] == "approved|rejected"


def test_an_encrypted_form_is_read_with_its_key_and_told_without(opened: Opener, local_policy: NetworkPolicy) -> None:
    secret = Form("households", ["village"], private_key="-----BEGIN KEY-----\nabc\n-----END KEY-----")
    secret.add({"village": "Amla"}, at=START)
    with serve([secret]) as server:
        without = opened(server.url)
        assert "village" not in rows(read(without))[0]
        assert "encrypted" in without.stats.notes[0]
        server.pass_time(300)
        with_key = opened(server.url, private_key=secret.private_key)
        assert rows(read(with_key))[0]["village"] == "Amla"
        assert with_key.stats.notes == []
        assert [request.method for request in server.requests] == ["GET", "POST"]


def test_rows_that_cannot_be_told_apart_are_set_aside_with_the_reason(opened: Opener, web: Web) -> None:
    path = "/api/v2/forms/data/wide/json/households"
    bad = [{"a": "1"}, "text", {"KEY": ""}]
    web.on(path, json.dumps([*bad, {"KEY": "uuid:1", "n": 1.50, "flag": True, "list": ["x"]}]).encode())
    pages = read(opened(web.url))
    assert rows(pages) == [{"a": None, "KEY": "uuid:1", "n": "1.5", "flag": "true", "list": '["x"]', ROW_ID: "uuid:1"}]
    assert [(r.line, r.reason) for r in pages[0].rejected] == [
        (1, "it has no KEY"),
        (2, "it is no object"),
        (3, "it has no KEY"),
    ]
    web.on(path, json.dumps([{"KEY": "uuid:1", "CompletionDate": "soon"}]).encode())
    (page,) = read(opened(web.url), window=Window(START, START + SECOND))
    assert page.data.num_rows == 0
    assert "belongs to no window" in page.rejected[0].reason


def test_a_column_that_only_later_rows_have_keeps_its_place_in_the_form(opened: Opener, web: Web) -> None:
    few = {"members_count": "1", "name_1": "A", "KEY": "uuid:1"}
    more = {"members_count": "1", "name_1": "B", "age_1": "7", "plot_7": "x", "KEY": "uuid:2"}
    web.on("/api/v2/forms/data/wide/json/households", json.dumps([few, more]).encode())
    pages = read(opened(web.url))
    assert pages[0].data.column_names == ["members_count", "plot_7", "KEY", ROW_ID]
    assert [(row["name"], row["age"]) for row in rows(pages, "members")] == [("A", None), ("B", "7")]


def test_memory_does_not_grow_with_the_answer(opened: Opener, web: Web) -> None:
    row = {"CompletionDate": "Mar 1, 2026 12:00:00 PM"} | {f"q{number}": "x" * 100 for number in range(20)}
    connector = opened(web.url)

    def peak(count: int) -> int:
        body = ("[" + ",".join(json.dumps({**row, "KEY": f"uuid:{n}"}) for n in range(count)) + "]").encode()
        web.on("/api/v2/forms/data/wide/json/households", body)
        tracemalloc.start()
        try:
            assert sum(page.data.num_rows for page in connector.read(ReadRequest("households"))) == count
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(9000) < 1.3 * peak(3000)


# --- how a repeat is told


def places(*keys: str, plain: tuple[str, ...] = ()) -> dict[str, tuple[tuple[str, ...], str, tuple[int, ...]]]:
    layout = find_layout(keys, plain)
    return {k: (p.path, p.column, p.indexes) for k, p in layout.places.items() if p.path}


def test_numbered_columns_without_a_count_before_them_are_ordinary() -> None:
    assert places("crop_1", "crop_2", "people_count", "village", "plot_1") == {}


def test_a_series_with_a_gap_is_no_repeat_and_ends_the_one_before() -> None:
    found = places("members_count", "name_1", "name_2", "visit_2019", "visit_2020", "crop_1")
    assert set(found) == {"name_1", "name_2"}


@pytest.mark.parametrize(
    "keys",
    [
        ("r_count", "a_1", "b_1", "a_2", "b_2", "end"),
        ("r_count", "a_1", "a_2", "b_1", "b_2", "end"),
        ("r_count", "a_1", "b_1", "end", "a_2", "b_2"),
    ],
)
def test_either_order_of_a_repeats_columns_gives_the_same_places(keys: tuple[str, ...]) -> None:
    assert places(*keys) == {
        "a_1": (("r",), "a", (1,)),
        "a_2": (("r",), "a", (2,)),
        "b_1": (("r",), "b", (1,)),
        "b_2": (("r",), "b", (2,)),
    }


def test_a_numbered_question_behind_a_repeat_stays_ordinary_when_it_is_named() -> None:
    keys = ("members_count", "name_1", "crop_1", "crop_2")
    assert set(places(*keys)) == {"name_1", "crop_1", "crop_2"}
    assert set(places(*keys, plain=("crop",))) == {"name_1"}


@given(
    st.lists(st.sampled_from(["a", "a_1", "a_2", "a_count", "b_1_1", "b_1_2", "b_count_1", "KEY", "_1", "c_01"])),
    st.lists(st.sampled_from(["a", "b"]), max_size=1),
)
def test_every_column_has_exactly_one_place_and_no_two_share_it(keys: list[str], plain: list[str]) -> None:
    keys = list(dict.fromkeys(keys))
    layout = find_layout(keys, plain)
    assert list(layout.places) == keys
    assert len(set(layout.places.values())) == len(keys)
    for path in layout.columns:
        assert path == () or path[:-1] in layout.columns


# --- dates


@given(st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(2100, 1, 1)))
def test_the_servers_text_form_is_read_back_to_the_second(moment: datetime) -> None:
    moment = moment.replace(tzinfo=UTC, microsecond=0)
    assert server_moment(server_text(moment)) == moment


@pytest.mark.parametrize(
    ("text", "iso"),
    [
        ("Oct 10, 2015 6:26:24 PM", "2015-10-10T18:26:24+00:00"),
        ("Oct 01, 2015 12:00:00 AM", "2015-10-01T00:00:00+00:00"),
        ("Oct 1, 2015, 12:00:01\u202fPM", "2015-10-01T12:00:01+00:00"),
        ("Feb 30, 2015 6:26:24 PM", None),
        ("Oct 10, 2015 13:26:24 PM", None),
        ("on Oct 10, 2015 6:26:24 PM", None),
        ("Oct 10, 2015", None),
    ],
)
def test_only_a_whole_moment_is_read_as_one(text: str, iso: str | None) -> None:
    moment = server_moment(text)
    assert (moment.isoformat() if moment else None) == iso


# --- what there is


def test_forms_are_listed_where_the_server_lists_them_and_named_in_the_manifest_where_not(
    opened: Opener, server: StandIn, form: Form
) -> None:
    form.add({"members": [{"name": "A"}]}, at=datetime.now(UTC) - timedelta(hours=1))
    assert [(t.resource, t.path) for t in opened(server.url).discover()] == [
        ("households", ()),
        ("households", ("members",)),
    ]
    assert not [r for r in server.requests if r.query.get("date") == "0"]
    server.lists = False
    with pytest.raises(BadConfig, match="under `tables` in the manifest"):
        opened(server.url).discover()


def test_a_form_is_described_by_what_came_in_lately_without_a_full_pull(
    opened: Opener, server: StandIn, form: Form
) -> None:
    form.add({"members": [{"name": "A", "tests": [{}]}]}, at=datetime.now(UTC) - timedelta(days=30))
    tables = opened(server.url).describe("households")
    assert [(t.title, t.path) for t in tables] == [
        ("households", ()),
        ("households: members", ("members",)),
        ("households: members: tests", ("members", "tests")),
    ]
    top = {column.key: column for column in tables[0].columns}
    assert {k: top[k].type for k in ("CompletionDate", "KEY", "village")} == {
        "CompletionDate": ColumnType.DATETIME,
        "KEY": ColumnType.TEXT,
        "village": None,
    }
    assert [column.key for column in tables[1].columns] == ["name", "age", "tests_count", "note"]
    assert "0" not in [request.query["date"] for request in server.requests]


def test_a_form_without_late_submissions_shows_the_servers_own_columns(
    opened: Opener, server: StandIn, form: Form
) -> None:
    form.add({}, at=START - timedelta(days=3000))
    (table,) = opened(server.url).describe("households")
    assert [column.key for column in table.columns][0::6] == ["CompletionDate", "KEY"]


def test_a_description_reads_the_first_megabyte_alone(opened: Opener, web: Web) -> None:
    row = {"CompletionDate": "Mar 1, 2026 12:00:00 PM", "KEY": "uuid:1", "text": "x" * 10_000}
    web.on("/api/v2/forms/data/wide/json/households", json.dumps([row] * 2000).encode())
    connector = opened(web.url)
    assert "text" in [column.key for column in connector.describe("households")[0].columns]
    assert connector.stats.bytes < 5_000_000


def test_the_credential_is_tried_without_reading_a_form(opened: Opener, server: StandIn, web: Web) -> None:
    assert "accepts the user name" in opened(server.url).check()
    assert [request.status for request in server.requests] == [401, 404]
    with pytest.raises(CredentialRefused):
        opened(server.url, password="wrong").check()
    with pytest.raises(BadConfig, match="does not answer like SurveyCTO"):
        opened(web.url).check()


# --- how it fails


class Budget:
    def __init__(self) -> None:
        self.blocked: list[tuple[str, float]] = []

    def call(self, host: str) -> AbstractContextManager[float]:
        return nullcontext(0.0)

    def block(self, host: str, seconds: float) -> None:
        self.blocked.append((host, seconds))


def test_a_second_full_pull_is_throttled_for_as_long_as_the_server_says_and_the_others_are_told(
    opened: Opener, server: StandIn, form: Form, pauses: list[float]
) -> None:
    form.add({}, at=START)
    budget = Budget()
    connector = opened(server.url, budget=budget)
    read(connector)
    server.pass_time(60)
    with pytest.raises(Throttled) as caught:
        read(connector)
    assert caught.value.retry_after == 240
    assert budget.blocked == [(server.url.removeprefix("http://"), 240)]
    assert pauses == []
    server.pass_time(200)
    with pytest.raises(Throttled):
        read(connector)  # 40 s are short enough to wait for, but the stand-in's clock stands still
    assert pauses == [40.0]  # and a second time were too long for one call
    server.pass_time(40)
    assert ids(read(connector)) == ["uuid:00000001"]


def test_a_request_beside_another_is_tried_again(opened: Opener, server: StandIn, form: Form) -> None:
    form.add({}, at=START)
    server.fail(Fault(409, body=b'{"error": {"code": 409, "message": "busy"}}', times=2))
    assert len(read(opened(server.url))) == 1
    assert [request.status for request in server.requests] == [409, 409, 200]
    with server.another_request_running(), pytest.raises(Throttled):
        read(opened(server.url))


def test_connectors_of_one_process_ask_a_server_one_at_a_time(opened: Opener, server: StandIn, form: Form) -> None:
    form.add({}, at=START)
    server.slow = 0.05
    connectors = [opened(server.url) for _ in range(4)]
    threads = [threading.Thread(target=read, args=(c, START.isoformat())) for c in connectors]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [request.status for request in server.requests] == [200] * 4


@pytest.mark.parametrize(
    ("status", "kind", "advice"),
    [
        (401, CredentialRefused, "user name and password"),
        (412, AccessForbidden, "server API access"),
        (404, ResourceGone, "form's id"),
    ],
)
def test_a_refusal_says_what_to_do(
    opened: Opener, server: StandIn, status: int, kind: type[SourceError], advice: str
) -> None:
    server.fail(Fault(status, body=b'{"error": {"message": "no"}}'))
    with pytest.raises(kind) as caught:
        read(opened(server.url))
    assert advice in caught.value.advice
    assert PASSWORD not in str(caught.value)
    assert len(server.requests) == 1


def test_a_cut_answer_is_asked_for_again(opened: Opener, server: StandIn, form: Form) -> None:
    form.add({}, at=START)
    server.fail(Fault(cut=True), bad_gateway())
    assert ids(read(opened(server.url), START.isoformat())) == ["uuid:00000001"]
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"<html><body>Log in</body></html>", BadConfig),
        (b'{"error": {"message": "x"}}', BadData),
        (b'[{"KEY": "uuid:1"}, {', BadData),
        (b"", BadData),
    ],
)
def test_what_is_no_array_is_never_taken_for_an_empty_one(
    opened: Opener, web: Web, body: bytes, kind: type[SourceError]
) -> None:
    web.on("/api/v2/forms/data/wide/json/households", Answer(body))
    with pytest.raises(kind):
        read(opened(web.url))


def test_the_private_key_does_not_follow_a_redirect_to_another_server(opened: Opener, web: Web) -> None:
    web.on("/api/v2/forms/data/wide/json/households", Answer(b"", 307, {"location": f"{web.other_host}/x"}))
    with pytest.raises(BadConfig, match="redirects to another server"):
        read(opened(web.url))
    assert len(web.seen) == 1


@pytest.mark.parametrize(
    ("config", "path"),
    [
        ({}, "config.server"),
        ({"server": "example"}, "config.server"),
        ({"server": "https://example.surveycto.com/main.html#Export"}, "config.server"),
        ({"server": "https://example.surveycto.com", "review_status": "aproved"}, "config.review_status[0]"),
        ({"server": "https://example.surveycto.com", "review_status": []}, "config.review_status"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_read(config: dict[str, object], path: str) -> None:
    (problem,) = validate_config("surveycto", config, {"username", "password"})
    assert problem.path == path


def test_one_status_or_several_are_taken() -> None:
    for given_status in ("approved", "approved|pending", ["rejected", "pending"]):
        config = {"server": "https://example.surveycto.com/", "review_status": given_status}
        assert validate_config("surveycto", config, {"username", "password", "private_key"}) == []


def test_a_cursor_that_is_no_time_is_refused(opened: Opener, server: StandIn) -> None:
    with pytest.raises(BadConfig, match="is no time"):
        read(opened(server.url), "yesterday")
