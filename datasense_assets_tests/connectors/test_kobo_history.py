"""Edits found by the form's history, where the token may see it; by reading again where not."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from datasense_assets.connectors import NetworkPolicy, open_connector
from datasense_assets.connectors.base import Connector, ReadRequest
from datasense_assets.connectors.errors import Unavailable
from examples import kobo_faults
from examples.kobo_form import Form
from examples.kobo_stand_in import StandIn, serve

TOKEN = "k0b0-t0ken"
NOW = datetime.now(UTC).replace(microsecond=0)
SINCE = NOW - timedelta(days=30)


@pytest.fixture
def form() -> Form:
    form = Form("aVisits", "Visits", {"survey": [{"type": "integer", "name": "n"}]})
    for number in range(60):
        form.add({"n": str(number)}, at=NOW - timedelta(days=70 - number))
    return form


@pytest.fixture
def kobo(form: Form) -> Iterator[StandIn]:
    with serve([form, Form("aOther", "Other", {})], token=TOKEN) as server:
        yield server


@pytest.fixture
def connector(kobo: StandIn, local_policy: NetworkPolicy, pauses: list[float]) -> Iterator[Connector]:
    opened = open_connector("kobo", {"base_url": kobo.url, "edits": "history"}, {"token": TOKEN}, local_policy)
    yield opened
    opened.close()


def changed(connector: Connector, uid: str = "aVisits") -> list[dict[str, Any]]:
    pages = connector.read(ReadRequest(uid, changed_since=SINCE))
    return [row for page in pages for row in page.data.to_pylist()]


def test_edits_of_any_age_are_read_and_nothing_else(connector: Connector, kobo: StandIn, form: Form) -> None:
    form.edit(1, {"n": "1000"})
    form.edit(1, {"n": "1001"})
    form.edit(55, {"n": "5500"})
    form.delete(2)
    form.edit(3, {"n": "gone soon"})
    form.delete(3)
    assert sorted((row["_id"], row["n"]) for row in changed(connector)) == [("1", "1001"), ("55", "5500")]
    assert connector.stats.notes == []
    assert kobo.count_requests("/history/") == 1
    assert connector.stats.api_calls <= 4


def test_many_edits_are_asked_for_in_addresses_of_bounded_length(
    connector: Connector, kobo: StandIn, form: Form
) -> None:
    for number in range(1, 51):
        form.edit(number, {"n": "x"})
    for entry in form.history:  # as a long history: several pages
        form.history = [*form.history, {**entry, "action": "update-settings", "metadata": {}}]
    assert {row["_id"] for row in changed(connector)} == {str(number) for number in range(1, 51)}
    longest = max(len(str(httpx.QueryParams(dict(r.query)))) for r in kobo.requests)
    assert longest < 6_000


def test_without_edits_nothing_is_read(connector: Connector, kobo: StandIn) -> None:
    assert changed(connector) == []
    assert "query" not in kobo.requests[-1].query


@pytest.mark.parametrize("refusal", ["not a manager", "no history on this server"])
def test_where_the_history_is_closed_what_came_lately_is_read_again_and_that_is_said_once(
    connector: Connector, kobo: StandIn, form: Form, refusal: str
) -> None:
    if refusal == "not a manager":
        form.managed = False
    else:
        kobo.fail(kobo_faults.missing("/history/", times=9))
    form.edit(60, {"n": "6000"})
    rows = {row["_id"]: row["n"] for row in changed(connector)}
    assert rows["60"] == "6000"
    assert len(rows) == 20
    changed(connector, "aOther")
    assert kobo.count_requests("/history/") == 1
    (note,) = connector.stats.notes
    assert "may manage the project" in note


@pytest.mark.parametrize("broken", ["no uuid", "one that is nowhere", "no page"])
def test_a_history_that_does_not_tell_is_not_relied_on(
    connector: Connector, kobo: StandIn, form: Form, broken: str
) -> None:
    form.edit(60, {"n": "6000"})
    if broken == "no uuid":
        form.history[0]["metadata"]["submission"] = {"submitted_by": "x"}
    elif broken == "one that is nowhere":
        form.history[0]["metadata"]["submission"]["root_uuid"] = "nobody"
    else:
        kobo.fail(kobo_faults.Fault(200, "/history/", body=b"[]"))
    assert len(changed(connector)) == 20
    assert len(connector.stats.notes) == 1


def test_a_server_that_fails_is_no_closed_history(connector: Connector, kobo: StandIn) -> None:
    kobo.fail(kobo_faults.bad_gateway("/history/", times=9))
    with pytest.raises(Unavailable):
        changed(connector)
