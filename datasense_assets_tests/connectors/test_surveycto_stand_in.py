"""The stand-in SurveyCTO server, proven by the client that IDinsight wrote for the real one."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pysurveycto
import pytest
import requests

from datasense_assets_tests.stand_ins.surveycto import PASSWORD, USER, Dataset, Form, StandIn, serve

START = datetime(2026, 3, 9, 8, 5, 0, tzinfo=UTC)
HOST = "https://standin.surveycto.com"


@pytest.fixture
def form() -> Form:
    form = Form("visits", ["village", ("members", ["name"])])
    form.add({"village": "Amla", "members": [{"name": "Asha"}, {"name": "Ravi"}]}, at=START)
    form.add({"village": "Betul", "members": []}, at=START + timedelta(hours=12))
    form.add({"village": "Chicholi"}, at=START, review="REJECTED")
    return form


@pytest.fixture
def server(form: Form) -> Iterator[StandIn]:
    with serve([form]) as running:
        yield running


@pytest.fixture
def led_to(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Leads what the client sends to its only possible host to a stand-in."""
    asked = requests.sessions.Session.request

    def lead(server: StandIn) -> None:
        def request(self: Any, method: str, url: str, **more: Any) -> Any:
            assert url.startswith(HOST)
            return asked(self, method, server.url + url.removeprefix(HOST), **more)

        monkeypatch.setattr(requests.sessions.Session, "request", request)

    return lead


@pytest.fixture
def client() -> Any:
    return pysurveycto.SurveyCTOObject("standin", USER, PASSWORD)


def test_the_client_reads_everything_approved(client: Any, led_to: Any, server: StandIn) -> None:
    led_to(server)
    rows = client.get_form_data("visits", format="json")
    assert [row["village"] for row in rows] == ["Amla", "Betul"]
    assert list(rows[0]) == [
        *("CompletionDate", "SubmissionDate", "village", "members_count", "name_1", "name_2"),
        *("instanceID", "formdef_version", "review_quality", "review_status", "KEY"),
    ]
    assert (rows[0]["CompletionDate"], rows[1]["CompletionDate"]) == (
        "Mar 9, 2026 8:05:00 AM",
        "Mar 9, 2026 8:05:00 PM",
    )
    assert rows[1]["members_count"] == "0"


def test_the_clients_date_is_inclusive_to_the_second(client: Any, led_to: Any, server: StandIn) -> None:
    led_to(server)
    at = (START + timedelta(hours=12)).replace(tzinfo=None)
    for date, villages in ((at, ["Betul"]), (at + timedelta(seconds=1), [])):
        rows = client.get_form_data("visits", format="json", oldest_completion_date=date)
        assert [row["village"] for row in rows] == villages


def test_the_client_chooses_by_review_status(client: Any, led_to: Any, server: StandIn) -> None:
    led_to(server)
    rows = client.get_form_data("visits", format="json", review_status=["approved", "rejected"])
    assert {row["village"] for row in rows} == {"Amla", "Betul", "Chicholi"}


def test_the_client_is_told_to_wait_after_a_full_pull(
    client: Any, led_to: Any, server: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    led_to(server)
    client.get_form_data("visits", format="json")
    server.pass_time(33)
    with pytest.raises(requests.HTTPError) as caught:
        client.get_form_data("visits", format="json")
    assert caught.value.response.status_code == 417
    assert "Please wait for 267 seconds" in capsys.readouterr().out


def test_the_client_enters_by_digest_where_basic_is_not_taken(client: Any, led_to: Any, form: Form) -> None:
    with serve([form], digest_only=True) as server:
        led_to(server)
        assert len(client.get_form_data("visits", format="json")) == 2
        assert {request.status for request in server.requests} == {401, 200}


def test_the_client_opens_an_encrypted_form_with_its_key(client: Any, led_to: Any) -> None:
    secret = Form("visits", ["village"], private_key="the key")
    secret.add({"village": "Amla"}, at=START)
    with serve([secret]) as server:
        led_to(server)
        date = START.replace(tzinfo=None)
        (closed,) = client.get_form_data("visits", format="json", oldest_completion_date=date)
        (opened,) = client.get_form_data("visits", format="json", oldest_completion_date=date, key="the key")
    assert "village" not in closed
    assert opened["village"] == "Amla"


@pytest.mark.parametrize(("status", "more"), [(412, {"api_access": False}), (404, {}), (409, {})])
def test_the_client_is_refused_as_by_the_real_one(
    client: Any, led_to: Any, form: Form, status: int, more: dict[str, bool]
) -> None:
    with serve([form], **more) as server:
        led_to(server)
        with pytest.raises(requests.HTTPError) as caught:
            if status == 409:
                with server.another_request_running():
                    client.get_form_data("visits", format="json")
            else:
                client.get_form_data("no_such_form", format="json")
        assert caught.value.response.status_code == status


def test_the_client_downloads_a_server_dataset(client: Any, led_to: Any) -> None:
    with serve([], [Dataset("cases", ["id", "label"], [["1", "a, b"]])]) as server:
        led_to(server)
        assert client.get_server_dataset("cases").splitlines() == ["id,label", '1,"a, b"']
