"""The promise of freshness: what it is, who breaks it, and who only fails, waits or has nothing new."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection, text
from sqlalchemy.exc import IntegrityError

from datasense_assets.catalog.apply import apply_manifest
from datasense_assets.catalog.export import export_organization
from datasense_assets.catalog.freshness import duration_text, parse_duration, recipe_promise, source_promise
from datasense_assets.catalog.lateness import late_recipes, late_sources
from datasense_assets.catalog.manifest import Manifest, ManifestErrors, parse_manifest
from datasense_assets.catalog.models import Cron
from datasense_assets.catalog.promises import read_promises
from datasense_assets.catalog.snapshot import read_snapshot
from datasense_assets.catalog.state import (
    FailureRecord,
    mark_outdated,
    pause,
    record_source_result,
    record_unchanged,
    set_next_due,
    stale_recipes,
)
from datasense_assets.catalog.status import State, StatusRow, failing_rows, organization_status
from datasense_assets.catalog.troubles import troubles
from datasense_assets_tests.catalog.conftest import MANIFEST
from datasense_assets_tests.catalog.test_state import COMPILER, NOW, Catalog

HOUR = timedelta(hours=1)
FORMS = "clean-water/health-forms/visits"
DOWN = FailureRecord("unavailable", "The server does not answer.", "Wait.")


@pytest.fixture
def world(connection: Connection, manifest: Manifest) -> Catalog:
    apply_manifest(connection, manifest)
    catalog = Catalog(connection)
    # added long enough ago that nothing is excused for being new
    catalog.run(f"UPDATE datasense.source_tables SET created_at = '{NOW - 30 * timedelta(days=1)}'")
    catalog.settle()
    return catalog


def status(world: Catalog, path: str, now: datetime) -> StatusRow:
    return next(row for row in organization_status(world.connection, now=now) if row.path == path)


def late(world: Catalog, now: datetime) -> list[str]:
    return [each.subject for each in (*late_sources(world.connection, now), *late_recipes(world.connection, now))]


@given(st.integers(1, 99), st.sampled_from(["minute", "hour", "day", "week"]))
def test_a_length_of_time_is_read_as_it_is_written(count: int, unit: str) -> None:
    length = parse_duration(f"{count} {unit}{'s' if count > 1 else ''}")
    assert parse_duration(duration_text(length)) == length


@pytest.mark.parametrize("text", ["", "2", "2 fortnights", "0 days", "-1 hours", "1.5 hours", "99999 weeks", "soon"])
def test_what_is_no_length_of_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no length of time"):
        parse_duration(text)


def test_a_promise_is_twice_the_interval_unless_it_is_written() -> None:
    assert source_promise("15min", None) == timedelta(minutes=30)
    assert source_promise("weekly", None) == timedelta(days=14)
    assert source_promise("manual", None) is None
    assert source_promise("manual", HOUR) == source_promise("daily", HOUR) == HOUR
    assert source_promise(Cron(cron="*/20 * * * *"), None) == timedelta(minutes=40)
    assert source_promise(Cron(cron="0 6 * * 1-5"), None) == timedelta(days=6)  # from Friday to Monday
    assert source_promise(Cron(cron="0 0 29 2 *"), None) > timedelta(days=2 * 1460)
    assert recipe_promise([None, HOUR, 3 * HOUR], None) == 3 * HOUR
    assert recipe_promise([None], None) == timedelta(days=1)
    assert recipe_promise([HOUR], 5 * HOUR) == 5 * HOUR


def test_promises_come_from_the_manifest_and_go_back_into_it(connection: Connection) -> None:
    document = yaml.safe_load(MANIFEST)
    document["sources"][0] |= {"fresh_within": "90 minutes", "full_reload": "weekly"}
    document["recipes"][1]["fresh_within"] = "3 days"
    manifest = parse_manifest(yaml.safe_dump(document))
    apply_manifest(connection, manifest)
    assert apply_manifest(connection, manifest).changed == ()
    exported = yaml.safe_load(export_organization(connection, "clean-water"))
    assert exported["sources"][0]["fresh_within"] == "90 minutes"
    assert exported["sources"][0]["full_reload"] == "weekly"
    assert exported["recipes"][1]["fresh_within"] == "3 days"
    assert "fresh_within" not in exported["sources"][1]
    assert apply_manifest(connection, parse_manifest(yaml.safe_dump(exported))).changed == ()
    forms = next(s for s in read_snapshot(connection).organizations[0].sources if s.slug == "health-forms")
    assert (forms.fresh_within, forms.full_reload) == (timedelta(minutes=90), "weekly")
    spec = connection.execute(text("SELECT spec FROM datasense.recipes WHERE name = 'clean_people'")).scalar_one()
    assert "fresh_within" not in spec  # another promise builds nothing again
    promises = read_promises(connection)
    assert sorted(map(str, promises.sources.values())) == ["1:30:00", "2 days, 0:00:00"]
    assert list(promises.recipes.values()) == [timedelta(days=3), timedelta(days=3)]  # the other from its inputs


def test_a_wrong_promise_is_told_with_its_place() -> None:
    document = yaml.safe_load(MANIFEST)
    document["sources"][0]["fresh_within"] = "soon"
    document["recipes"][0]["fresh_within"] = 7
    with pytest.raises(ManifestErrors) as caught:
        parse_manifest(yaml.safe_dump(document), Path("m.yaml"))
    assert {each.path for each in caught.value.problems} == {"sources[0].fresh_within", "recipes[0].fresh_within"}
    assert all("6 hours" in str(each) and each.line for each in caught.value.problems)


def test_a_promise_written_by_another_program_is_held_to_sense(world: Catalog) -> None:
    with pytest.raises(IntegrityError, match="fresh_within_seconds_sane"), world.connection.begin_nested():
        world.run("UPDATE datasense.sources SET fresh_within_seconds = 0")


def test_a_sync_that_brings_nothing_new_is_fresh(world: Catalog) -> None:
    for table in (world.visits, world.homes):
        world.load(table)
    assert status(world, FORMS, NOW + 3 * HOUR).state == State.LATE
    for table in (world.visits, world.homes):
        record_unchanged(world.connection, table, run_id="r", fresh_as_of=NOW + 2 * HOUR)
    row = status(world, FORMS, NOW + 3 * HOUR)
    assert (row.state, row.late) == (State.FRESH, False)
    assert late(world, NOW + 3 * HOUR) == []
    assert late(world, NOW + 5 * HOUR) == ["health-forms"]


def test_late_is_told_apart_from_failing_and_paused(world: Catalog) -> None:
    connection = world.connection
    for table in (world.visits, world.homes):
        world.load(table)
    now = NOW + 3 * HOUR
    set_next_due(connection, world.forms, NOW + HOUR)
    (told,) = [each for each in troubles(connection, now) if each.kind == "late"]
    assert (told.path, told.since) == ("clean-water/health-forms", NOW + 2 * HOUR)
    assert "no older than 2 hours" in told.what
    assert "no run has begun" in told.what
    for number in range(3):
        record_source_result(connection, world.forms, run_id=f"r{number}", started_at=NOW, failure=DOWN)
    row = status(world, FORMS, now)
    assert (row.state, row.late) == (State.FAILING, True)  # its state says why, `late` what it means
    assert [each.kind for each in troubles(connection, now) if each.org_id] == ["failing"]
    pause(connection, world.org, world.forms, reason="Rainy season.", by="someone")
    assert status(world, FORMS, now).state == State.PAUSED
    assert [each.kind for each in troubles(connection, now) if each.org_id] == []


def test_a_recipe_is_late_when_it_stays_behind_what_it_reads(world: Catalog) -> None:
    path = "clean-water/recipes/clean_people"
    world.load(world.homes)
    world.build(world.people)

    def look(at: datetime) -> None:
        mark_outdated(world.connection, stale_recipes(world.connection, at, COMPILER), at, None)

    look(NOW)
    days = NOW + timedelta(days=9)
    record_unchanged(world.connection, world.homes, run_id="r", fresh_as_of=days)
    assert (status(world, path, days).state, status(world, path, days).late) == (State.FRESH, False)
    world.load(world.homes, fresh_as_of=days)
    look(days)
    look(days + HOUR)  # since the first look
    assert status(world, path, days + HOUR).state == State.OUTDATED
    assert list(late_recipes(world.connection, days + HOUR)) == []
    row = status(world, path, days + 2.1 * HOUR)
    assert (row.state, row.late, row.fresh_within, row.since) == (State.LATE, True, 2 * HOUR, days)
    record_unchanged(world.connection, world.homes, run_id="r", fresh_as_of=days + 2 * HOUR)
    record_unchanged(world.connection, world.visits, run_id="r", fresh_as_of=days + 2 * HOUR)
    assert late(world, days + 2.1 * HOUR) == ["recipes/clean_people"]
    world.build(world.people)
    assert status(world, path, days + 2.1 * HOUR).state == State.FRESH
    assert late(world, days + 2.1 * HOUR) == []


def test_a_recipe_waits_for_busy_inputs_but_not_for_ever(world: Catalog) -> None:
    world.load(world.homes)
    set_next_due(world.connection, world.forms, NOW - HOUR)

    def people(at: datetime) -> str | None:
        rows = stale_recipes(world.connection, at, COMPILER, patience=HOUR)
        mark_outdated(world.connection, rows, at, None)
        return next(row for row in rows if row.name == "clean_people").waits_for

    assert people(NOW) == people(NOW + HOUR) == "homes is due or running"
    assert people(NOW + HOUR + timedelta(seconds=1)) is None
    record_source_result(world.connection, world.forms, run_id="r", started_at=NOW, failure=DOWN)
    assert people(NOW + 2 * HOUR) == "homes has failed"  # patience is for what is busy alone


def test_what_fails_is_listed_once_a_source_the_longest_first(world: Catalog) -> None:
    connection = world.connection
    world.load(world.visits)
    for at, source in ((NOW, world.census), (NOW - HOUR, world.forms)):
        record_source_result(connection, source, run_id="r", started_at=at, failure=None)
        world.run(f"UPDATE datasense.source_status SET last_success_at = '{at}' WHERE source_id = {source}")
        record_source_result(connection, source, run_id="r", started_at=NOW, failure=DOWN)
    rows = failing_rows(organization_status(connection, now=datetime.now(UTC)))
    assert [row.path.split("/")[1] for row in rows] == ["health-forms", "census"]
    assert {row.what_to_do for row in rows} == {"Wait."}
