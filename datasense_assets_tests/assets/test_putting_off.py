"""A server that asks for a long pause: the run gives its slot back, and the catalog remembers when to come again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest
from sqlalchemy import text

from datasense_assets import definitions
from datasense_assets.assets import putting_off
from datasense_assets.automation.requests import request_for
from datasense_assets.catalog.snapshot import read_snapshot
from datasense_assets.catalog.state import due_sources, open_requests
from datasense_assets.catalog.status import State, organization_status
from datasense_assets.connectors import http
from datasense_assets.running import failures
from datasense_assets.running import tags as t
from datasense_assets.running.graph_index import GraphIndex
from datasense_assets.running.owners import catalog_engine
from datasense_assets.running.scope import scope_of, scoped_to
from datasense_assets.settings import get_settings
from datasense_assets_tests.assets.conftest import TOKEN, Yard
from examples import kobo_faults

PATH = "clean_water/forms"


def visits_of(kobo: Any, **more: Any) -> dict[str, Any]:
    """A source of one form, as a manifest has it."""
    return {
        "slug": "forms",
        "connector": "kobo",
        "config": {"base_url": kobo.url},
        "credentials": {"token": {"env": "CLEAN_WATER_KOBO_TOKEN"}},
        "tables": [{"slug": "visits", "resource": kobo.site.accounts[TOKEN][0].uid}],
        "partitions": {"start": "2026-01-01"},
        **more,
    }


@pytest.fixture
def forms(yard: Yard, kobo: Any) -> dict[str, Any]:
    source = visits_of(kobo, schedule="daily")
    yard.apply(source)
    return source


def run_as_queued(yard: Yard, **tags: str) -> dg.ExecuteInProcessResult:
    """A run as the queue makes it: nobody waits for it, so that it may be tried again."""
    keys = yard.keys(PATH)
    with scoped_to(scope_of(t.selected(keys))):
        graph = definitions.definitions()
    return dg.materialize(
        [asset for asset in graph.assets or () if isinstance(asset, dg.AssetsDefinition)],
        selection=[dg.AssetKey(list(key)) for key in keys],
        instance=yard.instance,
        tags=tags,
        raise_on_error=False,
    )


def words(result: dg.ExecuteInProcessResult) -> str:
    (failed,) = [event for event in result.all_events if event.is_step_failure]
    data = failed.step_failure_data.user_failure_data
    assert data is not None
    return str(data.description)


def status(yard: Yard) -> dict[str, Any]:
    with catalog_engine().connect() as connection:
        return dict(connection.execute(text("SELECT * FROM datasense.source_status")).mappings().one())


def test_a_live_run_ends_at_once_and_comes_again_when_the_server_said(
    yard: Yard, kobo: Any, forms: dict[str, Any]
) -> None:
    kobo.fail(kobo_faults.throttled(300))
    before = datetime.now(UTC)
    today = f"{datetime.now(UTC) + timedelta(hours=5, minutes=30):%Y-%m-%d}"
    live = {t.LANE: "scheduled", t.LIVE: "true", t.RANGE_START: today, t.RANGE_END: today}
    result = run_as_queued(yard, **live)
    assert not result.success
    assert not [event for event in result.all_events if event.is_step_up_for_retry]
    assert "put off until" in words(result)
    assert kobo.count_requests() == 1
    row = status(yard)
    assert row["put_off_until"] == row["next_due_at"]
    assert 300 <= (row["next_due_at"] - before).total_seconds() <= 300 * 1.25 + 60
    assert row["failures_in_a_row"] == 0
    assert row["failure_kind"] == "throttled"
    with catalog_engine().connect() as connection:
        (told,) = [r for r in organization_status(connection) if r.path.endswith("/visits")]
        assert told.state is State.PUT_OFF
        assert due_sources(connection, row["next_due_at"] - timedelta(seconds=1), 10) == []
        assert [d.slug for d in due_sources(connection, row["next_due_at"], 10)] == ["forms"]
    held = run_as_queued(yard, **live)
    assert "asked to be left alone" in words(held)
    assert kobo.count_requests() == 1
    yard.execute("UPDATE datasense.quota_state SET blocked_until = now()")
    assert run_as_queued(yard, **live).success
    assert status(yard)["put_off_until"] is None


def test_a_backfill_is_asked_for_again_with_its_partitions(yard: Yard, kobo: Any, forms: dict[str, Any]) -> None:
    span = {t.RANGE_START: "2026-01-02", t.RANGE_END: "2026-01-04", t.LANE: "backfill"}
    for _ in range(2):
        kobo.fail(kobo_faults.throttled(300))
        assert "put off until" in words(run_as_queued(yard, **span))
        yard.execute("UPDATE datasense.quota_state SET blocked_until = now()")
    with catalog_engine().connect() as connection:
        assert open_requests(connection, 10) == []
        yard.execute("UPDATE datasense.sync_requests SET not_before = now() - interval '1 hour'")
        (asked,) = open_requests(connection, 10)
        index = GraphIndex.of(read_snapshot(connection), "")
    assert (asked.tables, asked.partition_first, asked.partition_last) == (("visits",), "2026-01-02", "2026-01-04")
    made = request_for(index, asked)
    assert isinstance(made, dg.RunRequest)
    assert made.tags[t.LANE] == "backfill"


def test_a_local_sync_says_when_to_come_again_and_leaves_it_to_the_person(
    yard: Yard, kobo: Any, forms: dict[str, Any]
) -> None:
    yard.apply({**forms, "schedule": "manual"})
    yard.execute("UPDATE datasense.source_status SET next_due_at = NULL")
    kobo.fail(kobo_faults.throttled(300))
    done = yard.run(PATH)
    assert not done.success
    assert "put off until" in done.failures[0]
    assert status(yard)["next_due_at"] is None
    assert yard.rows("SELECT count(*) FROM datasense.sync_requests") == [(0,)]


def test_a_server_that_keeps_silent_holds_no_place_for_a_second_try(
    yard: Yard, kobo: Any, forms: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "ATTEMPTS", 1)
    monkeypatch.setattr(putting_off, "SLOW_SECONDS", 0.2)
    monkeypatch.setenv("DATASENSE_HTTP_TIMEOUT", "0.3")
    get_settings.cache_clear()
    today = f"{datetime.now(UTC) + timedelta(hours=5, minutes=30):%Y-%m-%d}"
    live = {t.LANE: "scheduled", t.LIVE: "true", t.RANGE_START: today, t.RANGE_END: today}
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    for times in (1, 2):
        kobo.fail(kobo_faults.slow(1.0))
        yard.execute("UPDATE datasense.source_status SET next_due_at = %s", tomorrow)
        before = datetime.now(UTC)
        result = run_as_queued(yard, **live)
        assert not [event for event in result.all_events if event.is_step_up_for_retry]
        assert "put off until" in words(result)
        row = status(yard)
        assert row["failures_in_a_row"] == times, "it is a failure all the same"
        assert row["put_off_until"] is None
        assert 120 * times <= (row["next_due_at"] - before).total_seconds() <= 120 * times + 60
    soon = datetime.now(UTC) + timedelta(seconds=30)
    kobo.fail(kobo_faults.slow(1.0))
    yard.execute("UPDATE datasense.source_status SET next_due_at = %s", soon)
    run_as_queued(yard, **live)
    assert status(yard)["next_due_at"] == soon, "its schedule is earlier"
    monkeypatch.delenv("DATASENSE_HTTP_TIMEOUT")
    get_settings.cache_clear()
    assert run_as_queued(yard, **live).success


def test_the_waits_of_a_scheduled_run_count_together_and_somebody_who_waits_has_all_tries(
    yard: Yard, kobo: Any, forms: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "ATTEMPTS", 1)
    # what is waited is not what this is about: it counts as if it were
    monkeypatch.setattr(failures, "wait_before_retry", lambda number, asked: 0.0)
    today = f"{datetime.now(UTC) + timedelta(hours=5, minutes=30):%Y-%m-%d}"
    live = {t.LIVE: "true", t.RANGE_START: today, t.RANGE_END: today}
    yard.execute("UPDATE datasense.source_status SET next_due_at = %s", datetime.now(UTC) + timedelta(days=1))

    def tries(times: int, lane: str) -> tuple[dg.ExecuteInProcessResult, int]:
        """A run whose server fails so many times, and how often it was tried."""
        kobo.fail(kobo_faults.unavailable(times=times))
        before = kobo.count_requests()
        result = run_as_queued(yard, **live, **{t.LANE: lane})
        return result, kobo.count_requests() - before if not result.success else 0

    blip, _ = tries(1, "scheduled")
    assert blip.success, "what passes in a quarter of a minute is waited for"
    outage, tried = tries(9, "scheduled")
    assert tried == 2, "15 and then 30 seconds are too long to keep a place from others"
    assert "put off until" in words(outage)
    row = status(yard)
    assert row["failures_in_a_row"] == 1, "a run fails once, however often it tries"
    assert 60 <= (row["next_due_at"] - datetime.now(UTC)).total_seconds() <= 120
    kobo.clear_faults()
    del live[t.LIVE]
    night = {t.REREAD: f"{datetime.now(UTC) - timedelta(days=3):%Y-%m-%dT00:00:00+00:00}"}
    kobo.fail(kobo_faults.unavailable(times=9))
    before = kobo.count_requests()
    assert not run_as_queued(yard, **live, **night, **{t.LANE: "backfill"}).success
    assert kobo.count_requests() - before == 2, "the next night comes by itself"
    assert status(yard)["failures_in_a_row"] == 1
    kobo.clear_faults()
    clicked, tried = tries(9, "interactive")
    assert tried == failures.MAX_RETRIES + 1
    assert "put off until" not in words(clicked)
