"""A SurveyCTO source from the manifest to the warehouse: live runs, a backfill, parent and child tables."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from datasense_assets.running.tags import FULL
from datasense_assets_tests.assets.conftest import Yard
from datasense_assets_tests.places import today
from datasense_assets_tests.stand_ins.surveycto import PASSWORD, USER, Dataset, Form, StandIn, serve

START = datetime(2026, 1, 10, 20, 0, 0, tzinfo=UTC)  # 01:30 of the 11th in Asia/Kolkata
PATH = "clean_water/survey"


@pytest.fixture
def form() -> Form:
    form = Form("household_survey", ["village", ("members", ["name", "age"]), "remarks"])
    for number in range(6):
        members = [{"name": f"M{number}-{i}", "age": str(30 + i)} for i in range(number % 3)]
        form.add({"village": f"V{number}", "members": members}, at=START + timedelta(hours=6 * number))
    return form


@pytest.fixture
def server(form: Form) -> Iterator[StandIn]:
    with serve([form]) as running:
        yield running


def apply(yard: Yard, server: StandIn, monkeypatch: pytest.MonkeyPatch, start: str = "", **config: Any) -> None:
    monkeypatch.setenv("SCTO_USER", USER)
    monkeypatch.setenv("SCTO_PASS", PASSWORD)
    yard.apply(
        {
            "slug": "survey",
            "connector": "surveycto",
            "config": {"server": server.url, **config},
            "credentials": {"username": {"env": "SCTO_USER"}, "password": {"env": "SCTO_PASS"}},
            "tables": [{"slug": "households", "resource": "household_survey"}],
            "partitions": {"start": start or today(ago=30)},
        }
    )


def test_live_runs_load_the_form_with_its_repeats_and_then_only_what_is_new(
    yard: Yard, server: StandIn, form: Form, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply(yard, server, monkeypatch)
    done = yard.run(PATH, partition=today())
    assert done.success, done.failures
    table = "org_clean_water.survey__households"
    households = yard.rows(f"SELECT village, members_count, completiondate FROM {table} ORDER BY village")
    assert households[:2] == [("V0", 0, START), ("V1", 1, START + timedelta(hours=6))]
    children = yard.rows(
        f"SELECT h.village, m._ds_index, m.name, m.age FROM {table}__members m "
        f"JOIN {table} h ON h._ds_row_id = m._ds_parent_id ORDER BY 1, 2"
    )
    assert [(village, name, age) for village, _, name, age in children] == [
        (f"V{n}", f"M{n}-{i}", 30 + i) for n in range(6) for i in range(n % 3)
    ]
    again = yard.run(PATH, partition=today())
    assert again.success, again.failures
    assert {metadata["rows_loaded"] for metadata in again.materialized.values()} == {0}
    form.add({"village": "V6", "members": [{"name": "new", "age": "1"}]}, at=START + timedelta(hours=30))
    more = yard.run(PATH, partition=today())
    assert more.success, more.failures
    loaded = {key[2]: metadata["rows_loaded"] for key, metadata in more.materialized.items()}
    assert loaded == {"households": 1, "households__members": 1}
    assert [r.query["date"] for r in server.requests if r.query["date"] == "0"] == ["0"]


def test_what_lately_came_without_a_repeat_says_nothing_of_the_form(
    yard: Yard, server: StandIn, form: Form, monkeypatch: pytest.MonkeyPatch
) -> None:
    form.narrow = True
    apply(yard, server, monkeypatch)
    assert yard.run(PATH, partition=today()).success
    members = "SELECT count(*) FROM org_clean_water.survey__households__members"
    assert yard.rows(members) == [(6,)]
    yard.execute("DELETE FROM datasense.schema_changes")
    now = datetime.now(UTC).replace(microsecond=0)
    for hours in (30, 2):  # the second time, only that one came within the day that a description looks at
        form.add({"village": "alone", "members": []}, at=now - timedelta(hours=hours))
        assert yard.run(PATH, partition=today()).success
    form.submissions[5].answers, form.submissions[5].at = {"village": "V5", "members": []}, now - timedelta(hours=1)
    done = yard.run(PATH, partition=today())
    assert done.success
    assert yard.rows(members) == [(4,)]
    assert yard.rows("SELECT kind, column_name FROM datasense.schema_changes") == []
    form.submissions.clear()
    server.pass_time(400)
    yard.execute("UPDATE datasense.quota_state SET blocked_until = 'epoch'")
    assert yard.run(PATH, partition=today(), **{FULL: "true"}).success
    assert yard.rows("SELECT kind, column_name FROM datasense.schema_changes") == []


def test_a_backfill_loads_exactly_its_days_in_the_organisations_time(
    yard: Yard, server: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply(yard, server, monkeypatch, start="2026-01-01")
    done = yard.run(f"{PATH}/households", partition="2026-01-11")
    assert done.success, done.failures
    villages = yard.rows("SELECT village FROM org_clean_water.survey__households ORDER BY 1")
    assert villages == [("V0",), ("V1",), ("V2",), ("V3",)]
    assert yard.rows("SELECT value FROM datasense.cursors WHERE value IS NOT NULL") == []


def test_a_refused_password_is_tried_once_and_says_what_to_do(
    yard: Yard, server: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply(yard, server, monkeypatch)
    monkeypatch.setenv("SCTO_PASS", "wrong-and-secret")
    done = yard.run(f"{PATH}/households", partition=today())
    assert not done.success
    assert "user name and password" in done.failures[0]
    assert "wrong-and-secret" not in str(done.failures)
    assert len(server.requests) == 1


def test_datasets_are_found_and_mirrored(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    towns = Dataset("towns", ["code", "name"], [["1", "Amla"], ["2", "Betul"]], unique="code")
    with serve([], [towns]) as server:
        monkeypatch.setenv("SCTO_USER", USER)
        monkeypatch.setenv("SCTO_PASS", PASSWORD)
        yard.apply(
            {
                "slug": "lists",
                "connector": "surveycto_datasets",
                "config": {"server": server.url},
                "credentials": {"username": {"env": "SCTO_USER"}, "password": {"env": "SCTO_PASS"}},
            }
        )
        found = yard.run("clean_water/lists")
        assert found.success, found.failures
        for rows in ([["1", "Amla"], ["2", "Betul"]], [["2", "Betul city"]]):
            towns.rows[:] = rows
            done = yard.run("clean_water/lists", partition=today())
            assert done.success, done.failures
            loaded = yard.rows("SELECT code, name FROM org_clean_water.lists__towns ORDER BY 1")
            assert loaded == [(int(code), name) for code, name in rows]
        again = yard.run("clean_water/lists", partition=today())
        assert {metadata["rows_loaded"] for metadata in again.materialized.values()} == {0}
