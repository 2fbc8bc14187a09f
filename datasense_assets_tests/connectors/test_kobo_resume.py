"""A read of Kobo submissions broken off after any page and gone on with gives what an unbroken one gives."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from datasense_assets.connectors import NetworkPolicy, open_connector
from datasense_assets.connectors.base import Page, ReadRequest
from datasense_assets.connectors.kobo import KoboConnector
from examples.kobo_form import Form
from examples.kobo_stand_in import StandIn, serve

TOKEN = "k0b0-t0ken"
START = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


@pytest.fixture
def form() -> Form:
    form = Form("aVisits", "Visits", {"survey": [{"type": "integer", "name": "n"}]})
    for number in range(25):
        answers: dict[str, object] = {"n": str(number)}
        if number >= 4:  # repeat groups of an older version of the form: only the data knows them
            answers["b/members"] = [{"b/members/name": f"b{number}", "b/members/x": [{"v": "1"}]}]
        if number >= 12:
            answers["a/members"] = [{"a/members/name": f"a{number}"}]
        form.add(answers, at=START + timedelta(minutes=number))
    return form


@pytest.fixture
def kobo(form: Form) -> Iterator[StandIn]:
    with serve([form], token=TOKEN) as server:
        yield server


@pytest.fixture
def connector(kobo: StandIn, local_policy: NetworkPolicy) -> Iterator[KoboConnector]:
    opened = open_connector("kobo", {"base_url": kobo.url, "page_size": 5}, {"token": TOKEN}, local_policy)
    assert isinstance(opened, KoboConnector)
    yield opened
    opened.close()


def content(pages: list[Page]) -> dict[tuple[str, ...], list[dict[str, str]]]:
    found: dict[tuple[str, ...], list[dict[str, str]]] = {}
    for page in pages:
        rows = [{k: v for k, v in row.items() if v is not None} for row in page.data.to_pylist()]
        found.setdefault(page.path, []).extend(rows)
    return found


@pytest.mark.parametrize("cursor", [None, "2026-03-01T12:08:00"])
def test_broken_off_after_any_page_it_goes_on_to_the_same_end(connector: KoboConnector, cursor: str | None) -> None:
    whole = list(connector.read(ReadRequest("aVisits", cursor=cursor)))
    marks = [(number, page.resume) for number, page in enumerate(whole, start=1) if page.resume]
    assert len(marks) >= 4
    for number, mark in marks:
        rest = list(connector.read(ReadRequest("aVisits", cursor=cursor, resume=mark)))
        assert content([*whole[:number], *rest]) == content(whole)
        assert [page.cursor for page in rest] == [page.cursor for page in whole[number:]]
    assert set(content(whole)) == {(), ("members",), ("members", "x"), ("a_members",)}


def test_only_the_last_page_of_a_submissions_tables_can_be_gone_on_from(connector: KoboConnector) -> None:
    pages = list(connector.read(ReadRequest("aVisits")))
    for page, following in pairwise(pages):
        assert (page.resume is not None) == (following.path == ())


def test_a_mark_among_new_submissions_holds_the_cursor_for_those_that_are_written_late(
    connector: KoboConnector, form: Form
) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    for number in range(10):
        form.add({"n": "new"}, at=now - timedelta(minutes=60 - number), id=100 + number)
    pages = list(connector.read(ReadRequest("aVisits")))
    unbroken = pages[-1].cursor
    tops = [page for page in pages if page.resume]
    mark, held = tops[-2].resume, tops[-2].cursor
    assert mark is not None
    assert json.loads(mark)["hold"] == held
    form.add({"n": "late"}, at=now - timedelta(minutes=57), id=99)  # behind the mark's _id
    rest = list(connector.read(ReadRequest("aVisits", resume=mark)))
    assert {page.cursor for page in rest} == {held}
    assert held is not None
    assert unbroken is not None
    assert held < unbroken
    live = content(list(connector.read(ReadRequest("aVisits", cursor=held))))
    assert "99" in {row["_id"] for row in live[()]}
    old = next(page.resume for page in tops if page.resume)
    assert json.loads(old)["hold"] is None
