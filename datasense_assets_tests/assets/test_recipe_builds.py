"""Builds that need not be done, builds that come after their inputs, and the day and hour they are done in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from datasense_assets.automation.requests import build_requests_sensor
from datasense_assets.automation.stale import build_stale_sensor
from datasense_assets.catalog.snapshot import read_snapshot
from datasense_assets.catalog.state import add_request, open_requests, read_request, settle_request
from datasense_assets.running.graph_index import GraphIndex
from datasense_assets.running.owners import catalog_engine
from datasense_assets.settings import get_settings
from datasense_assets_tests.assets.conftest import Yard
from datasense_assets_tests.assets.test_lost_runs import any_job
from datasense_assets_tests.assets.test_recipe_runs import ABOVE, DEEP, apply
from datasense_assets_tests.places import today

WELLS, DEEP_WELLS, TOP = "clean_water/wells/wells", "clean_water/recipes/deep_wells", "clean_water/recipes/above"


@pytest.fixture
def wells(yard: Yard, tmp_path: Path) -> Path:
    path = tmp_path / "wells.csv"
    path.write_text("district,depth,since\nAjmer,12,2026-01-31T20:00:00Z\nAlwar,7,2026-02-01T20:00:00Z\n")
    return path


def said(yard: Yard, path: str, **tags: str) -> dict[str, Any]:
    done = yard.run(path, **tags)
    assert done.success, done.failures
    return dict(done.materialized[tuple(path.split("/"))])


def index() -> GraphIndex:
    with catalog_engine().connect() as connection:
        return GraphIndex.of(read_snapshot(connection), "content")


def tick(yard: Yard, sensor: dg.SensorDefinition) -> list[dg.RunRequest]:
    result = sensor(dg.build_sensor_context(instance=yard.instance))
    assert isinstance(result, dg.SensorResult)
    return list(result.run_requests or [])


def asked_paths(request: dg.RunRequest) -> set[str]:
    return {key.to_user_string() for key in request.asset_selection or ()}


def test_a_recipe_is_not_built_again_from_the_same_inputs_unless_forced(yard: Yard, wells: Path) -> None:
    apply(yard, wells, DEEP, ABOVE)
    assert yard.run(WELLS, partition=today()).success
    first = said(yard, DEEP_WELLS)
    assert said(yard, TOP)["build"] == "built"
    assert (first["build"], first["rows_loaded"]) == ("built", 2)
    oid = "SELECT 'org_clean_water.deep_wells'::regclass::oid"
    before = yard.rows(oid)
    again = said(yard, DEEP_WELLS)
    assert again["build"].startswith("unchanged: recipe and inputs are those of the build of ")
    assert (again["rows_loaded"], again["dagster/row_count"]) == (0, 2)
    assert again["dagster/column_lineage"] == first["dagster/column_lineage"]
    assert yard.rows(oid) == before
    forced = said(yard, DEEP_WELLS, **{"datasense/full": "true"})
    assert forced["build"] == "built, with the same content as before"
    assert yard.rows(oid) != before
    assert yard.rows("SELECT data_version FROM datasense.recipe_status") == [(1,), (1,)]
    # a table that somebody dropped is made again
    yard.execute("DROP TABLE org_clean_water.deep_wells")
    assert said(yard, DEEP_WELLS)["build"] == "built, with the same content as before"
    versions = [
        record.asset_materialization.tags["dagster/data_version"]  # type: ignore[union-attr, index]
        for record in yard.instance.fetch_materializations(dg.AssetKey(DEEP_WELLS.split("/")), limit=9).records
    ]
    assert len(versions) == 4
    assert len(set(versions)) == 1


def test_equal_content_stops_what_is_below_and_other_content_does_not(yard: Yard, wells: Path) -> None:
    apply(yard, wells, DEEP, ABOVE)
    assert yard.run(WELLS, partition=today()).success
    said(yard, DEEP_WELLS)
    said(yard, TOP)
    yard.execute("UPDATE datasense.source_status SET next_due_at = now() + interval '1 day', replan = false")
    sensor = build_stale_sensor(index(), get_settings())
    assert tick(yard, sensor) == []
    # the same sums from other rows
    wells.write_text("district,depth,since\nAjmer,11,\nAjmer,1,\nAlwar,7,\n")
    assert yard.run(WELLS, partition=today()).success
    (request,) = tick(yard, sensor)
    assert asked_paths(request) == {DEEP_WELLS, TOP}
    assert said(yard, DEEP_WELLS)["build"] == "built, with the same content as before"
    assert tick(yard, sensor) == []
    assert said(yard, TOP)["build"].startswith("unchanged")
    wells.write_text("district,depth,since\nAjmer,13,\n")
    assert yard.run(WELLS, partition=today()).success
    assert said(yard, DEEP_WELLS)["build"] == "built"
    (request,) = tick(yard, sensor)
    assert asked_paths(request) == {TOP}
    assert said(yard, TOP)["build"] == "built"


def test_days_and_hours_are_those_of_the_organisation(yard: Yard, wells: Path) -> None:
    steps = [
        {"op": "date_part", "column": "since", "part": "month", "into": "month"},
        {"op": "date_part", "column": "since", "part": "hour", "into": "hour"},
        {"op": "date_part", "column": "since", "part": "trunc_day", "into": "day"},
        {"op": "formula", "column": "today", "formula": "today()"},
        {"op": "sort", "by": ["district"]},
        {"op": "select", "columns": ["month", "hour", "day", "today"]},
        {"op": "limit", "rows": 1},
    ]
    recipe = {"name": "days", "version": 1, "inputs": {"wells": "source:wells.wells"}, "steps": steps}
    apply(yard, wells, recipe)
    assert yard.run(WELLS, partition=today()).success
    said(yard, "clean_water/recipes/days")
    # 20:00 UTC of the last of January is 01:30 of the first of February in India
    query = "SELECT month, hour, day::date::text, today = (now() AT TIME ZONE 'Asia/Kolkata')::date"
    assert yard.rows(f"{query} FROM org_clean_water.days") == [(2, 1, "2026-02-01", True)]
    recorded = "SELECT built_for = (now() AT TIME ZONE 'Asia/Kolkata')::date, timezone FROM datasense.recipe_status"
    assert yard.rows(recorded) == [(True, "Asia/Kolkata")]
    yard.execute("UPDATE datasense.organizations SET timezone = 'America/Lima'")
    said(yard, "clean_water/recipes/days")
    assert yard.rows("SELECT month, hour FROM org_clean_water.days") == [(1, 15)]


def test_a_build_with_its_inputs_waits_for_them_and_takes_the_recipes_between(yard: Yard, wells: Path) -> None:
    apply(yard, wells, DEEP, ABOVE)
    graph = index()
    (org,) = {entry.org.id for entry in graph.recipes.values()}
    (source,) = graph.sources
    top = next(key for key, entry in graph.recipes.items() if entry.recipe.name == "above")

    def ask() -> tuple[int, int]:
        with catalog_engine().begin() as connection:
            load = add_request(connection, org_id=org, source_id=source)
            return load, add_request(connection, org_id=org, recipe_id=top, after=[load])

    sensor = build_requests_sensor(graph, get_settings())
    load, build = ask()
    (request,) = tick(yard, sensor)
    assert asked_paths(request) == {WELLS}
    loaded = yard.run(WELLS, partition=today(), **{"datasense/request": str(load)})
    assert tick(yard, sensor) == []
    (request,) = tick(yard, sensor)
    assert asked_paths(request) == {DEEP_WELLS, TOP}
    assert request.tags["datasense/request"] == str(build)
    with catalog_engine().begin() as connection:
        settle_request(connection, build, run_id=loaded.run_id)
        assert open_requests(connection, 9) == []

    wells.unlink()
    load, build = ask()
    assert not yard.run(WELLS, partition=today(), **{"datasense/request": str(load)}).success
    assert tick(yard, sensor) == []
    assert tick(yard, sensor) == []
    with catalog_engine().connect() as connection:
        result = read_request(connection, build)
    assert result is not None
    assert result.error is not None
    assert "an input was not loaded" in result.error
    assert result.error.endswith("; there is no table yet")


def test_a_build_with_its_inputs_waits_for_the_run_in_place_of_one_whose_worker_was_lost(
    yard: Yard, wells: Path
) -> None:
    apply(yard, wells, DEEP, ABOVE)
    graph = index()
    (org,) = {entry.org.id for entry in graph.recipes.values()}
    (source,) = graph.sources
    top = next(key for key, entry in graph.recipes.items() if entry.recipe.name == "above")
    sensor = build_requests_sensor(graph, get_settings())
    with catalog_engine().begin() as connection:
        load = add_request(connection, org_id=org, source_id=source)
        add_request(connection, org_id=org, recipe_id=top, after=[load])
    (request,) = tick(yard, sensor)
    assert asked_paths(request) == {WELLS}
    lost = yard.instance.create_run_for_job(any_job(), tags={"datasense/request": str(load)})
    for kind in (dg.DagsterEventType.RUN_START, dg.DagsterEventType.RUN_FAILURE):
        yard.instance.report_dagster_event(dg.DagsterEvent(kind.value, job_name="any"), run_id=lost.run_id)
    yard.instance.add_run_tags(lost.run_id, {"dagster/will_retry": "true"})
    for _ in range(2):
        assert tick(yard, sensor) == [], "another one is about to be made"
    again = yard.run(WELLS, partition=today(), **{"datasense/request": str(load)})
    yard.instance.add_run_tags(lost.run_id, {"dagster/auto_retry_run_id": again.run_id})
    (request,) = tick(yard, sensor)
    assert asked_paths(request) == {DEEP_WELLS, TOP}


def test_a_view_of_ours_does_not_stand_in_the_way_of_a_column_of_another_type(yard: Yard, wells: Path) -> None:
    view = {
        "name": "seen",
        "version": 1,
        "inputs": {"wells": "source:wells.wells"},
        "steps": [{"op": "select", "columns": ["district", "depth"]}],
        "output": {"materialize": "view"},
    }

    def load(kind: str, third: str) -> None:
        wells.write_text(f"district,depth\nAjmer,12\nAlwar,7\nSikar,{third}\n")
        table = {"slug": "wells", "resource": "wells.csv", "types": {"depth": kind}}
        yard.apply(
            {"slug": "wells", "connector": "csv", "config": {"url": str(wells)}, "tables": [table]}, recipes=[view]
        )
        done = yard.run(WELLS, partition=today())
        assert done.success, done.failures

    depths = "SELECT depth FROM org_clean_water.seen ORDER BY district"
    load("integer", "3")
    said(yard, "clean_water/recipes/seen")
    assert yard.rows(depths) == [(12,), (7,), (3,)]
    load("text", "deep")
    assert yard.rows(depths) == [("12",), ("7",), ("deep",)]
    assert said(yard, "clean_water/recipes/seen")["build"] == "built"
    assert yard.rows(depths) == [("12",), ("7",), ("deep",)]
