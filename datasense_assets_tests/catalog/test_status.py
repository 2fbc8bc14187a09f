"""How it stands, for people: one state for each table and recipe, with a reason and something to do."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Connection, text

from datasense_assets.catalog.apply import apply_manifest
from datasense_assets.catalog.listing import list_organizations, list_recipes, list_sources
from datasense_assets.catalog.manifest import Manifest
from datasense_assets.catalog.state import (
    BREAKER,
    FailureRecord,
    add_request,
    pause,
    record_discovery,
    record_source_result,
    set_next_due,
)
from datasense_assets.catalog.status import State, StatusRow, organization_status
from datasense_assets_tests.catalog.test_state import Catalog

NOW = datetime.now(UTC)
FAILURE = FailureRecord("credential_refused", "The token was refused.", "Make a new token.")
FORMS = ("clean-water/health-forms/visits", "clean-water/health-forms/homes")


@pytest.fixture
def world(connection: Connection, manifest: Manifest) -> Catalog:
    apply_manifest(connection, manifest)
    return Catalog(connection)


def status(world: Catalog, path: str = FORMS[0], later: timedelta = timedelta(0)) -> StatusRow:
    rows = organization_status(world.connection, "clean-water", now=NOW + later)
    return next(row for row in rows if row.path == path)


def test_a_new_organisation_has_a_line_for_everything(world: Catalog) -> None:
    rows = organization_status(world.connection, "clean-water")
    assert {row.path: row.state for row in rows} == {
        "clean-water/census": State.UNDISCOVERED,
        **dict.fromkeys(FORMS, State.NEVER_LOADED),
        "clean-water/recipes/clean_people": State.NEVER_LOADED,
        "clean-water/recipes/monthly_visits": State.NEVER_LOADED,
    }
    assert all(row.why and row.what_to_do for row in rows)
    assert organization_status(world.connection, "nobody") == []
    assert organization_status(world.connection) == rows


def test_a_table_goes_from_fresh_to_late_to_failing_to_paused(world: Catalog) -> None:
    connection = world.connection
    world.load(world.visits, row_count=7, fresh_as_of=NOW)
    set_next_due(connection, world.forms, NOW)
    row = status(world)
    assert (row.state, row.row_count, row.fresh_as_of, row.why) == (State.FRESH, 7, NOW, "")
    due = status(world, later=timedelta(minutes=30))
    assert (due.state, due.late, due.why) == (State.DUE, False, "It has been due for 30 minutes.")
    late = status(world, later=timedelta(hours=3))
    assert (late.state, late.late, late.fresh_within) == (State.LATE, True, timedelta(hours=2))
    assert "should be no older than 2 hours" in late.why
    assert "no run has begun" in late.why
    record_source_result(connection, world.forms, run_id="r", started_at=NOW, failure=FAILURE)
    failing = status(world)
    assert (failing.state, failing.failure, failing.what_to_do) == (State.FAILING, FAILURE.message, FAILURE.advice)
    pause(connection, world.org, world.forms, reason="It failed 5 times.", by=BREAKER, probe_at=NOW)
    paused = status(world)
    assert paused.state == State.PAUSED
    assert FAILURE.advice in paused.what_to_do
    assert "datasense resume clean-water/health-forms" in paused.what_to_do


def test_what_was_asked_for_is_queued_and_what_runs_is_said(world: Catalog) -> None:
    add_request(world.connection, org_id=world.org, source_id=world.forms)
    assert status(world).state == State.QUEUED
    world.run(f"INSERT INTO datasense.leases VALUES ({world.forms}, 'r', 1, now() + interval '1 minute')")
    assert status(world).running
    add_request(world.connection, org_id=world.org, recipe_id=world.people)
    assert status(world, "clean-water/recipes/clean_people").state == State.QUEUED


def test_a_source_by_hand_is_manual_once_loaded(world: Catalog) -> None:
    world.run("UPDATE datasense.sources SET schedule = '\"manual\"'")
    world.settle()
    assert status(world).state == State.NEVER_LOADED
    world.load(world.visits)
    assert status(world).state == State.MANUAL


def test_an_undiscovered_source_says_why(world: Catalog) -> None:
    record_discovery(world.connection, world.census, now=NOW, failure=FAILURE)
    row = status(world, "clean-water/census")
    assert (row.state, row.why, row.what_to_do) == (State.UNDISCOVERED, FAILURE.message, FAILURE.advice)


def test_a_recipe_is_fresh_when_built_and_outdated_when_its_input_moves(world: Catalog) -> None:
    path = "clean-water/recipes/clean_people"
    world.load(world.homes)
    world.build(world.people)
    assert status(world, path).state == State.FRESH
    world.load(world.homes)
    assert status(world, path).state == State.OUTDATED


def test_lists_name_what_there_is(world: Catalog) -> None:
    (org,) = list_organizations(world.connection)
    assert (org.slug, org.sources, org.recipes, org.paused) == ("clean-water", 2, 2, False)
    census, forms = list_sources(world.connection, "clean-water")
    assert (census.schedule, forms.schedule) == ("0 6 * * *", "hourly")
    assert (forms.tables, forms.credentials) == (("visits", "homes"), ("token",))
    assert list_recipes(world.connection)[0].inputs == ("source:health_forms.homes",)
    assert list_sources(world.connection, "nobody") == []
    assert world.connection.execute(text("SELECT 1")).scalar() == 1
