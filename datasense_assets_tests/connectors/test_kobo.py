"""The Kobo connector against the stand-in server: what it finds, what it reads, where it stops, how it fails."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from datasense_assets.catalog.models import ColumnType
from datasense_assets.connectors import NetworkPolicy, open_connector
from datasense_assets.connectors.base import INDEX, PARENT_ID, ROW_ID, Page, ReadRequest, TableInfo, Window
from datasense_assets.connectors.errors import (
    BadConfig,
    BadData,
    CredentialRefused,
    ResourceGone,
    Throttled,
    Unavailable,
)
from datasense_assets.connectors.kobo import KoboConnector
from datasense_assets.connectors.kobo_form import form_tables
from datasense_assets_tests.connectors.conftest import Answer, Web
from examples import kobo_faults
from examples.kobo_form import Form, with_xpaths
from examples.kobo_stand_in import StandIn, serve

TOKEN = "k0b0-t0ken"
START = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)

SURVEY: list[dict[str, Any]] = [
    {"type": "start", "name": "start"},
    {"type": "today", "name": "today"},
    {"type": "note", "name": "hello", "label": ["Hello", "नमस्ते"]},
    {"type": "begin_group", "name": "place", "label": ["Place", "स्थान"]},
    {"type": "text", "$autoname": "village", "label": ["Village", "गाँव"]},
    {"type": "begin_group", "name": "inner"},
    {"type": "geopoint", "name": "gps", "label": ["Position", None]},
    {"type": "end_group"},
    {"type": "end_group"},
    {"type": "select_one", "name": "works", "label": ["Works?", "चालू?"], "select_from_list_name": "yn"},
    {"type": "select_multiple yn", "name": "several"},
    {"type": "integer", "name": "people", "label": ["People", "लोग"]},
    {"type": "decimal", "name": "depth"},
    {"type": "calculate", "name": "score"},
    {"type": "text", "name": "caretaker_phone"},
    {"type": "begin_group", "name": "water"},
    {"type": "begin_repeat", "name": "tests", "label": ["Test", "जाँच"]},
    {"type": "time", "name": "at"},
    {"type": "begin_repeat", "name": "readings"},
    {"type": "decimal", "name": "value"},
    {"type": "end_repeat"},
    {"type": "end_repeat"},
    {"type": "end_group"},
    {"type": "begin_group", "name": "soil"},
    {"type": "begin_repeat", "name": "tests"},
    {"type": "text", "name": "kind"},
    {"type": "end_repeat"},
    {"type": "end_group"},
]
CONTENT = {
    "survey": with_xpaths(SURVEY),
    "choices": [
        {"list_name": "yn", "name": "yes", "label": ["Yes", "हाँ"]},
        {"list_name": "yn", "$autovalue": "no", "label": ["No"]},
    ],
    "translations": [None, "Hindi (hi)"],
}


@pytest.fixture
def form() -> Form:
    return Form("aVisits", "Visits", CONTENT, deployed_at=datetime(2026, 1, 5, tzinfo=UTC))


@pytest.fixture
def kobo(form: Form) -> Iterator[StandIn]:
    with serve([form], token=TOKEN) as server:
        yield server


@pytest.fixture
def connector(kobo: StandIn, local_policy: NetworkPolicy, pauses: list[float]) -> Iterator[KoboConnector]:
    opened = connect(kobo.url, local_policy)
    yield opened
    opened.close()


def connect(url: str, policy: NetworkPolicy, **config: object) -> KoboConnector:
    opened = open_connector("kobo", {"base_url": url, **config}, {"token": TOKEN}, policy)
    assert isinstance(opened, KoboConnector)
    return opened


def top_ids(pages: list[Page]) -> list[str]:
    return [row_id for page in pages if page.path == () for row_id in page.data.column(ROW_ID).to_pylist()]


def read(connector: KoboConnector, cursor: str | None = None, window: Window | None = None) -> list[Page]:
    return list(connector.read(ReadRequest("aVisits", cursor=cursor, window=window)))


# --- what there is


def test_a_form_becomes_tables_with_labels_choices_and_types(connector: KoboConnector, form: Form) -> None:
    form.add({}, at=START)
    tables = connector.discover()
    assert [(t.path, t.title) for t in tables] == [
        ((), "Visits"),
        (("tests",), "Visits: Test"),
        (("tests", "readings"), "Visits: Test: readings"),
        (("soil_tests",), "Visits: tests"),
    ]
    assert {t.resource for t in tables} == {"aVisits"}
    top = {c.key: c for c in tables[0].columns}
    assert list(top)[:4] == ["start", "today", "place/village", "place/inner/gps"]
    assert (top["place/village"].label, top["place/village"].labels) == (
        "Village",
        {"": "Village", "Hindi (hi)": "गाँव"},
    )
    assert top["place/inner/gps"].labels == {"": "Position"}
    assert top["depth"].label == "depth"
    assert [(c.value, c.labels) for c in top["works"].choices] == [
        ("yes", {"": "Yes", "Hindi (hi)": "हाँ"}),
        ("no", {"": "No"}),
    ]
    assert top["several"].choices == top["works"].choices
    assert {
        k: top[k].type for k in ("start", "today", "works", "people", "depth", "score", "_id", "_submission_time")
    } == {
        "start": ColumnType.DATETIME,
        "today": ColumnType.DATE,
        "works": ColumnType.TEXT,
        "people": ColumnType.INTEGER,
        "depth": ColumnType.NUMBER,
        "score": None,
        "_id": ColumnType.INTEGER,
        "_submission_time": ColumnType.DATETIME,
    }
    assert {k for k, c in top.items() if c.personal} >= {"place/inner/gps", "caretaker_phone", "_submitted_by"}
    assert "hello" not in top
    assert [c.key for c in tables[2].columns] == ["water/tests/readings/value"]
    assert (tables[0].rows, tables[0].history_start) == (1, date(2026, 3, 1))


def test_history_of_an_empty_form_starts_when_it_was_deployed(connector: KoboConnector) -> None:
    assert connector.describe("aVisits")[0].history_start == date(2026, 1, 5)
    assert read(connector) == []
    assert connector.count("aVisits") == 0


def test_drafts_and_encrypted_forms_are_not_tables_but_are_told(local_policy: NetworkPolicy, form: Form) -> None:
    draft, secret = Form("aDraft", "Draft", CONTENT, has_deployment=False), Form("aS", "S", CONTENT, encrypted=True)
    with serve([draft, secret, form], token=TOKEN) as server:
        connector = connect(server.url + "/", local_policy)
        assert {t.resource for t in connector.discover()} == {"aVisits"}
        assert "2 deployed forms, 1 of them encrypted" in connector.check()
        with pytest.raises(BadConfig, match="encrypted"):
            connector.describe("aS")


def test_many_forms_are_all_listed(local_policy: NetworkPolicy) -> None:
    forms = [Form(f"a{i}", f"F{i}", {"survey": []}) for i in range(230)]
    with serve(forms, token=TOKEN) as server:
        assert "230 deployed forms" in connect(server.url, local_policy).check()
        assert server.count_requests() == 3


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"survey": None, "choices": None, "translations": None},
        {"survey": [{"type": "end_group"}, {}, {"type": "text"}, {"type": "begin_repeat", "name": "r"}]},
        {"survey": [{"type": "text", "name": "q", "label": "bare"}], "choices": [{"list_name": "x"}]},
    ],
)
def test_a_form_that_is_half_broken_still_has_tables(content: dict[str, Any]) -> None:
    tables = form_tables({"uid": "a", "name": "A", "content": content}).infos(None, None)
    assert tables[0].path == ()
    assert any(c.key == "_id" for c in tables[0].columns)


# --- reading


def test_submissions_become_flat_text_pages_with_nested_repeats(connector: KoboConnector, form: Form) -> None:
    form.add(
        {
            "place/village": "Amla\0",
            "people": 12,
            "old/question": True,
            "water/tests": [
                {"water/tests/at": "09:00", "water/tests/readings": [{"water/tests/readings/value": "7.10"}]},
                {
                    "water/tests/at": "10:00",
                    "water/tests/readings": [{"water/tests/readings/value": "8"}, {"new": "x"}],
                },
            ],
            "soil/tests": [{"soil/tests/kind": "clay"}],
            "gone/members": [{"gone/members/name": "A"}],
            "_geolocation": [22.5, 78.25],
            "_attachments": [{"filename": "a.jpg", "uid": "att1"}],
            "_validation_status": {"uid": "validation_status_approved", "label": "Approved"},
        },
        at=START,
    )
    form.add(
        {"water/tests": [], "several": "yes no", "place/inner/gps": "26.9 75.8 0 0"}, at=START + timedelta(minutes=1)
    )
    pages = read(connector)
    assert [p.path for p in pages] == [(), ("tests",), ("tests", "readings"), ("soil_tests",), ("members",)]
    assert {str(f.type) for p in pages for f in p.data.schema} == {"string"}
    first, second = pages[0].data.to_pylist()
    assert (first[ROW_ID], first["_id"], first["people"], first["old/question"]) == ("1", "1", "12", "true")
    assert (first["place/village"], first["depth"]) == ("Amla", None)
    assert json.loads(first["_geolocation"]) == [22.5, 78.25]
    assert json.loads(first["_attachments"])[0]["filename"] == "a.jpg"
    assert first["_validation_status"] == "validation_status_approved"
    assert (second["_geolocation"], second["_attachments"], second["_validation_status"]) == (None, None, None)
    assert (second["several"], second["place/inner/gps"]) == ("yes no", "26.9 75.8 0 0")
    assert pages[0].cursor == "2026-03-01T12:01:00"
    tests = [(r[ROW_ID], r[PARENT_ID], r[INDEX], r["water/tests/at"]) for r in pages[1].data.to_pylist()]
    assert tests == [("1/1", "1", "1", "09:00"), ("1/2", "1", "2", "10:00")]
    readings = [
        (r[ROW_ID], r[PARENT_ID], r[INDEX], r["water/tests/readings/value"], r["new"])
        for r in pages[2].data.to_pylist()
    ]
    assert readings == [
        ("1/1/1", "1/1", "1", "7.10", None),
        ("1/2/1", "1/2", "1", "8", None),
        ("1/2/2", "1/2", "2", None, "x"),
    ]
    assert pages[4].data.to_pylist()[0]["gone/members/name"] == "A"


def test_pages_follow_the_key_and_hold_every_row_once(kobo: StandIn, connector: KoboConnector, form: Form) -> None:
    for i in range(2_050):
        form.add({"people": str(i)}, at=START + timedelta(seconds=i), id=3 * i + 1)
    pages = connector.read(ReadRequest("aVisits"))
    found = top_ids([next(pages)])
    form.delete(1, 4, 7)  # rows already read: an offset would now skip three
    found += top_ids(list(pages))
    assert found == [str(3 * i + 1) for i in range(2_050)]
    queries = [r.query.get("query") for r in kobo.requests if r.path.endswith("/data/")]
    assert queries == [None, '{"_id":{"$gt":2998}}', '{"_id":{"$gt":5998}}']
    assert connector.count("aVisits") == 2_047
    assert [len(ids) for ids in connector.row_ids("aVisits")] == [1_000, 1_000, 47]


def test_a_server_that_sends_fewer_than_asked_loses_no_row(kobo: StandIn, connector: KoboConnector, form: Form) -> None:
    kobo.site.most_rows = 7
    for i in range(20):
        form.add({}, at=START + timedelta(seconds=i))
    assert top_ids(read(connector)) == [str(i) for i in range(1, 21)]


def test_a_short_page_without_a_link_to_the_next_is_not_the_end(web: Web, local_policy: NetworkPolicy) -> None:
    turns = [{"count": 2, "results": [{"_id": 1}]}, {"count": 1, "results": [{"_id": 2}]}]
    web.on("/api/v2/assets/aVisits/", b'{"uid": "aVisits", "content": {}}')
    web.on("/api/v2/assets/aVisits/data/", *(json.dumps(turn).encode() for turn in turns))
    assert top_ids(read(connect(web.url, local_policy))) == ["1", "2"]


def test_a_live_read_starts_a_lag_before_its_cursor(kobo: StandIn, connector: KoboConnector, form: Form) -> None:
    for minutes in (0, 4, 5, 6, 10):
        form.add({}, at=START + timedelta(minutes=minutes))
    pages = read(connector, cursor="2026-03-01T12:10:00")
    assert top_ids(pages) == ["3", "4", "5"]
    assert pages[-1].cursor == "2026-03-01T12:10:00"
    assert '"_submission_time":{"$gte":"2026-03-01T12:05:00"}' in kobo.requests[-1].query["query"]


def test_the_cursor_is_the_highest_time_and_never_goes_back(connector: KoboConnector, form: Form) -> None:
    form.add({}, at=START + timedelta(minutes=9))
    form.add({}, at=START)  # written late: a higher _id with an earlier time
    assert [p.cursor for p in read(connector)] == ["2026-03-01T12:09:00"]
    assert [p.cursor for p in read(connector, cursor="2026-03-01T12:12:00")] == ["2026-03-01T12:12:00"]
    with pytest.raises(BadConfig, match="no time"):
        read(connector, cursor="yesterday")


def test_a_window_takes_its_start_and_leaves_its_end(kobo: StandIn, connector: KoboConnector, form: Form) -> None:
    for hours in (0, 1, 2, 3):
        form.add({}, at=START + timedelta(hours=hours))
    india = timedelta(hours=5, minutes=30)
    from datetime import timezone

    zone = timezone(india)
    window = Window((START + timedelta(hours=1)).astimezone(zone), (START + timedelta(hours=3)).astimezone(zone))
    assert top_ids(read(connector, window=window, cursor="2030-01-01T00:00:00")) == ["2", "3"]
    fraction = Window(START + timedelta(microseconds=1), START + timedelta(hours=1, microseconds=1))
    assert top_ids(read(connector, window=fraction)) == ["2"]


def test_a_server_under_a_path_is_found(web: Web, local_policy: NetworkPolicy, form: Form) -> None:
    asset = {"uid": "aVisits", "name": "V", "has_deployment": True, "content": CONTENT}
    web.on("/kobo/api/v2/assets/aVisits/", json.dumps(asset).encode())
    web.on("/kobo/api/v2/assets/aVisits/data/", b'{"count": 0, "results": []}')
    tables: list[TableInfo] = connect(f"{web.url}/kobo/", local_policy).describe("aVisits")
    assert tables[0].title == "V"


# --- failing


def test_a_server_that_ignores_the_query_does_not_loop_for_ever(web: Web, local_policy: NetworkPolicy) -> None:
    page = {"count": 99_999, "results": [{"_id": i, "_submission_time": "2026-01-01T00:00:00"} for i in range(1, 1001)]}
    web.on("/api/v2/assets/aVisits/", b'{"uid": "aVisits", "content": {}}')
    web.on("/api/v2/assets/aVisits/data/", json.dumps(page).encode())
    with pytest.raises(BadData, match="does not page by _id: 1 came after 1000"):
        read(connect(web.url, local_policy))
    unsorted = {"count": 2, "results": [{"_id": 2}, {"_id": 1}]}
    web.on("/api/v2/assets/aVisits/data/", json.dumps(unsorted).encode())
    with pytest.raises(BadData, match="1 came after 2"):
        read(connect(web.url, local_policy))


def test_a_refused_token_is_a_matter_for_a_person(kobo: StandIn, connector: KoboConnector) -> None:
    kobo.fail(kobo_faults.unauthorized())
    with pytest.raises(CredentialRefused, match="Invalid token") as caught:
        connector.check()
    assert caught.value.permanent
    assert TOKEN not in repr(caught.value)


def test_a_form_that_is_gone_or_forbidden_says_both(connector: KoboConnector) -> None:
    for call in (connector.describe, connector.count, lambda uid: list(connector.row_ids(uid))):
        with pytest.raises(ResourceGone, match=r"not on .* or this token may not see it"):
            call("aNothing")


def test_a_form_shared_without_its_data_can_still_be_described(kobo: StandIn, connector: KoboConnector) -> None:
    kobo.fail(kobo_faults.missing("/data/"))
    assert connector.describe("aVisits")[0].history_start == date(2026, 1, 5)


def test_passing_failures_are_tried_again(
    kobo: StandIn, connector: KoboConnector, form: Form, pauses: list[float]
) -> None:
    form.add({}, at=START)
    kobo.fail(
        kobo_faults.bad_gateway("/data/"),
        kobo_faults.throttled(11, "/data/"),
        kobo_faults.cut_short("/data/"),
    )
    assert top_ids(read(connector)) == ["1"]
    assert pauses[1] == 11
    assert connector.stats.throttled_seconds == 11


def test_failures_that_last_are_told_as_what_they_are(kobo: StandIn, connector: KoboConnector) -> None:
    kobo.fail(kobo_faults.bad_gateway("/data/", times=9))
    with pytest.raises(Unavailable, match="502 Bad Gateway"):
        connector.count("aVisits")
    kobo.clear_faults()
    kobo.fail(kobo_faults.unavailable(900, "/data/"))
    with pytest.raises(Throttled) as caught:
        connector.count("aVisits")
    assert caught.value.retry_after == 900


def test_a_slow_server_is_unavailable(kobo: StandIn, pauses: list[float]) -> None:
    slow = connect(kobo.url, NetworkPolicy(allow_private_addresses=True, timeout=0.1))
    kobo.fail(kobo_faults.slow(0.4, times=9))
    with pytest.raises(Unavailable, match="silent"):
        slow.check()


@pytest.mark.parametrize("body", [b"[]", b'{"results": 5}', b"<!doctype html><body>Welcome</body>"])
def test_another_server_at_the_address_is_told(web: Web, local_policy: NetworkPolicy, body: bytes) -> None:
    web.on("/api/v2/assets/", Answer(body))
    with pytest.raises(BadConfig, match=r"does not answer like KoboToolbox|web page"):
        connect(web.url, local_policy).check()
