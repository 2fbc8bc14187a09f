"""Runs that end without a word: what the catalog is told of them, and what a run made in their place may still do."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import dagster as dg
import pytest

from datasense_assets.automation.lost import build_lost_runs_sensor
from datasense_assets.catalog.snapshot import read_snapshot
from datasense_assets.catalog.state import record_source_result
from datasense_assets.running import tags as t
from datasense_assets.running.graph_index import GraphIndex
from datasense_assets.running.owners import catalog_engine
from datasense_assets_tests.assets.conftest import Yard
from datasense_assets_tests.assets.test_putting_off import run_as_queued, status, visits_of, words

TAGS = {t.SOURCE_KEY: "clean_water.forms", t.LANE: "scheduled"}


@pytest.fixture
def forms(yard: Yard, kobo: Any) -> None:
    yard.apply(visits_of(kobo))


def lose(yard: Yard, why: str, **tags: str) -> str:
    """A run that was started and that Dagster failed from outside; what the sensor says of it."""
    run = yard.instance.create_run_for_job(any_job(), tags={**TAGS, **tags})
    kinds = dg.DagsterEventType
    for kind in (kinds.RUN_START, kinds.RUN_FAILURE):
        yard.instance.report_dagster_event(dg.DagsterEvent(kind.value, job_name="any", message=why), run_id=run.run_id)
    failure = next(
        record.event_log_entry.dagster_event
        for record in yard.instance.get_records_for_run(run.run_id).records
        if record.event_log_entry.dagster_event_type is kinds.RUN_FAILURE
    )
    failed = yard.instance.get_run_by_id(run.run_id)
    assert failed is not None
    assert failure is not None
    with catalog_engine().connect() as connection:
        sensor = build_lost_runs_sensor(GraphIndex.of(read_snapshot(connection), ""))
    context = dg.build_run_status_sensor_context(
        sensor_name="lost_runs", dagster_event=failure, dagster_instance=yard.instance, dagster_run=failed
    ).for_run_failure()
    said = sensor(context)
    assert isinstance(said, dg.SkipReason)
    return str(said.skip_message)


def any_job() -> dg.JobDefinition:
    @dg.op
    def nothing() -> None:
        pass

    @dg.job(name="any")
    def made() -> None:
        nothing()

    return made


def test_the_failure_of_a_run_that_was_killed_is_recorded_once_all_its_tries_are_lost(yard: Yard, forms: None) -> None:
    assert "is run again" in lose(yard, "gone", **{"dagster/will_retry": "true"})
    assert status(yard)["failure_kind"] is None
    assert "worker_lost" in lose(yard, "Detected run worker status FAILED. Marking run as failed.")
    assert (status(yard)["failure_kind"], status(yard)["failures_in_a_row"]) == ("worker_lost", 1)
    assert "took_too_long" in lose(yard, "Exceeded maximum runtime of 7800 seconds.")
    assert (status(yard)["failure_kind"], status(yard)["failures_in_a_row"]) == ("took_too_long", 2)
    # a backfill says nothing of how fresh a source is
    assert "says nothing" in lose(yard, "gone", **{t.LANE: "backfill"})
    assert status(yard)["failures_in_a_row"] == 2


def test_a_run_that_said_how_it_ended_is_not_recorded_again(yard: Yard, forms: None) -> None:
    with catalog_engine().begin() as connection:
        soon = datetime(2100, 1, 1, tzinfo=UTC)
        record_source_result(connection, status(yard)["source_id"], run_id="later", started_at=soon, failure=None)
    assert "said itself" in lose(yard, "a step failed")
    assert status(yard)["failures_in_a_row"] == 0


def test_a_run_in_place_of_one_that_was_stopped_has_no_time_left(yard: Yard, kobo: Any, forms: None) -> None:
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    first = yard.instance.create_run_for_job(any_job(), tags=TAGS)
    for kind in (dg.DagsterEventType.RUN_START, dg.DagsterEventType.RUN_FAILURE):
        yard.instance.report_dagster_event(dg.DagsterEvent(kind.value, job_name="any"), run_id=first.run_id)
    again = {t.ROOT_RUN: first.run_id, t.RETRY_NUMBER: "1", t.LIVE: "true", t.RANGE_START: today, t.RANGE_END: today}
    stopped = run_as_queued(yard, **TAGS, **again, **{t.MAX_RUNTIME: "0"})
    assert "was stopped after" in words(stopped)
    assert status(yard)["failure_kind"] == "took_too_long"
    assert kobo.count_requests() == 0
    assert run_as_queued(yard, **TAGS, **again, **{t.MAX_RUNTIME: "7800"}).success, "one whose worker died has its time"
