"""Edits to what was loaded long ago: found by night, whoever else loads the source meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import dagster as dg
import pytest

from datasense_assets import definitions
from datasense_assets.automation.due import RUN_KEY
from datasense_assets.automation.nights import next_night, weekday_of
from datasense_assets.running.local import LocalRun
from datasense_assets_tests.assets.conftest import TOKEN, Yard
from datasense_assets_tests.places import today
from examples.kobo_faults import unavailable
from examples.kobo_form import Form
from examples.kobo_stand_in import StandIn, serve

PATH = "clean_water/forms"
VISITS = f"{PATH}/visits"
TABLE = "org_clean_water.forms__visits"
ZONE = "Asia/Kolkata"


@pytest.fixture
def form() -> Form:
    form = Form("aVisits", "Visits", {"survey": [{"type": "integer", "name": "n"}]})
    now = datetime.now(UTC)
    for days in (400, 45, 29, 3, 1):
        form.add({"n": str(days), "kids": [{"kids/name": f"k{days}"}]}, at=now - timedelta(days=days))
    return form


@pytest.fixture
def server(form: Form) -> Iterator[StandIn]:
    with serve([form], token=TOKEN) as running:
        yield running


def apply(yard: Yard, server: StandIn, **config: Any) -> int:
    yard.apply(
        {
            "slug": "forms",
            "connector": "kobo",
            "config": {"base_url": server.url, "full_read": "never", **config},
            "credentials": {"token": {"env": "CLEAN_WATER_KOBO_TOKEN"}},
            "tables": [{"slug": "visits", "resource": "aVisits"}],
            "partitions": {"start": today(ago=60)},
            "deletes": "mark",
        }
    )
    return int(yard.rows("SELECT id FROM datasense.sources")[0][0])


def live(yard: Yard) -> LocalRun:
    done = yard.run(PATH, partition=today())
    assert done.success, done.failures
    return done


def tick(yard: Yard, sensor: str = "nightly_rereads") -> list[dg.RunRequest]:
    """Evaluate a sensor of the whole graph as the daemon does."""
    graph = definitions.definitions()
    with dg.build_sensor_context(instance=yard.instance, definitions=graph) as context:
        result = graph.resolve_sensor_def(sensor)(context)
    assert isinstance(result, dg.SensorResult)
    return list(result.run_requests or [])


def come_night(yard: Yard, at: datetime | None = None) -> None:
    yard.execute("UPDATE datasense.rereads SET due_at = %s", at or datetime.now(UTC) - timedelta(minutes=1))


def serve_request(yard: Yard, request: dg.RunRequest) -> LocalRun:
    """Run what a sensor asked for, under its run key and with its tags, as the daemon would."""
    tags = dict(request.tags)
    partition = tags.pop("dagster/partition")
    return yard.run(PATH, partition=partition, **{**tags, RUN_KEY: str(request.run_key)})


def numbers(yard: Yard) -> list[int]:
    return [row[0] for row in yard.rows(f"SELECT n FROM {TABLE} ORDER BY _id")]


def test_an_edit_is_found_in_the_night_and_the_cursor_stays(yard: Yard, server: StandIn, form: Form) -> None:
    source_id = apply(yard, server)
    live(yard)
    assert numbers(yard) == [400, 45, 29, 3, 1]
    form.edit(3, {"n": "2900", "kids": None})
    form.edit(2, {"n": "4500"})  # older than the days that are read again
    live(yard)
    assert numbers(yard) == [400, 45, 29, 3, 1]
    cursor = yard.rows("SELECT value, boundary::text, updated_at FROM datasense.cursors")

    assert tick(yard) == []
    (due,) = yard.rows("SELECT due_at FROM datasense.rereads")[0]
    assert due == next_night(source_id, ZONE, datetime.now(UTC))
    come_night(yard)
    (request,) = tick(yard)
    assert request.tags["datasense/lane"] == "backfill"
    assert request.tags["dagster/priority"] == "0"
    assert request.tags["datasense/source_key"] == "clean_water.forms"
    assert tick(yard) == [], "of two daemons at once one asks"
    yard.execute("UPDATE datasense.rereads SET asked_at = now() - interval '1 minute'")
    again = tick(yard)
    assert [each.run_key for each in again] == [request.run_key]  # no run was seen: the daemon knows the key

    done = serve_request(yard, request)
    assert done.success, done.failures
    assert numbers(yard) == [400, 45, 2900, 3, 1]
    assert yard.rows(f"SELECT kids_name FROM {TABLE}__kids ORDER BY 1") == [("k1",), ("k3",), ("k400",), ("k45",)]
    assert done.materialized["clean_water", "forms", "visits"]["rows_loaded"] == 1
    assert yard.rows("SELECT value, boundary::text, updated_at FROM datasense.cursors") == cursor
    assert tick(yard) == []
    assert yard.rows("SELECT due_at > now(), done_at IS NOT NULL FROM datasense.rereads") == [(True, True)]
    assert {m["rows_loaded"] for m in live(yard).materialized.values()} == {0}


def test_a_night_that_broke_off_is_gone_on_with_and_done_once(
    yard: Yard, server: StandIn, form: Form, monkeypatch: pytest.MonkeyPatch
) -> None:
    from datasense_assets.connectors import http
    from datasense_assets.ingest import keeping

    monkeypatch.setattr(http, "ATTEMPTS", 1)
    monkeypatch.setattr(keeping, "KEEP_ROWS", 1)
    apply(yard, server, page_size=1)
    live(yard)
    for number in (3, 4, 5):
        form.edit(number, {"n": str(number)})
    tick(yard)
    come_night(yard)
    (request,) = tick(yard)
    fault = unavailable(path="/data/")
    fault.after = 3  # the first is the description's
    server.fail(fault)
    broken = serve_request(yard, request)
    assert not broken.success
    assert numbers(yard) == [400, 45, 29, 3, 1]
    assert tick(yard) == []  # that night was served; what tries the run again is the daemon
    server.clear_faults()
    asked = len(server.requests)
    again = yard.run(
        PATH, partition=today(),
        **{"datasense/reread": request.tags["datasense/reread"], "datasense/lane": "backfill",
           "dagster/root_run_id": broken.run_id, "dagster/parent_run_id": broken.run_id},
    )  # fmt: skip
    assert again.success, again.failures
    assert numbers(yard) == [400, 45, 3, 4, 5]
    queries = [request.query.get("query", "") for request in server.requests[asked:]]
    assert [query for query in queries if '"$gte"' in query and '"_id"' not in query] == []  # not from the start


def test_a_slot_that_comes_while_the_night_is_worked_stays_due(yard: Yard, server: StandIn) -> None:
    apply(yard, server)
    yard.execute("UPDATE datasense.source_status SET next_due_at = now() - interval '1 minute', replan = false")
    night = yard.instance.create_run_for_job(
        definitions.definitions().resolve_implicit_global_asset_job_def(),
        asset_selection=frozenset({dg.AssetKey(VISITS.split("/"))}),
        tags={"datasense/lane": "backfill", "datasense/reread": "2026-01-01T00:00:00+00:00"},
        status=dg.DagsterRunStatus.STARTED,
    )
    assert [request.run_key is not None for request in tick(yard, "due_sources")] == [True]
    yard.instance.delete_run(night.run_id)


def test_nothing_is_read_again_where_it_is_not_wanted_or_paused(yard: Yard, server: StandIn) -> None:
    source_id = apply(yard, server, reread_days=0)
    tick(yard)
    come_night(yard)
    assert tick(yard) == []
    assert yard.rows("SELECT due_at > now() FROM datasense.rereads") == [(True,)]
    apply(yard, server, reread_days=10)
    come_night(yard)
    yard.execute("INSERT INTO datasense.pauses (source_id, reason, paused_by) VALUES (%s, '', 'x')", source_id)
    assert tick(yard) == []
    yard.execute("DELETE FROM datasense.pauses")
    (request,) = tick(yard)
    since = datetime.fromisoformat(request.tags["datasense/reread"])
    assert timedelta(days=10) <= datetime.now(UTC) - since < timedelta(days=11)


def test_once_a_week_all_is_read_again_where_that_is_wanted(yard: Yard, server: StandIn, form: Form) -> None:
    source_id = apply(yard, server, full_read="weekly")
    live(yard)
    form.edit(1, {"n": "4000"})
    tick(yard)
    slot = next_night(source_id, ZONE, datetime.now(UTC) - timedelta(days=8))
    while slot.astimezone(ZoneInfo(ZONE)).weekday() != weekday_of(source_id):
        slot = next_night(source_id, ZONE, slot)
    come_night(yard, slot)
    (request,) = tick(yard)
    assert request.tags["datasense/full"] == "true"
    done = serve_request(yard, request)
    assert done.success, done.failures
    assert numbers(yard)[0] == 4000
    come_night(yard, next_night(source_id, ZONE, slot))
    (request,) = tick(yard)
    assert "datasense/full" not in request.tags
