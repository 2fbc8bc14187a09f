"""Runs that people ask for through the catalog."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import dagster as dg

from datasense_assets.automation.requests import request_for
from datasense_assets.catalog.state import AskedRun
from datasense_assets.running.graph_index import GraphIndex
from datasense_assets_tests.assets.literal import organization, snapshot, source

INDEX = GraphIndex.of(
    snapshot(organization(sources=(source(1, tables=("visits", "people")), source(2, "new", tables=())))), "content"
)


def asked(**more: Any) -> AskedRun:
    fields: dict[str, Any] = {
        "id": 7,
        "org_id": 1,
        "org_slug": "clean-water",
        "source_id": 1,
        "source_slug": "health-forms",
        "recipe_id": None,
        "recipe_name": None,
        "tables": None,
        "partition_first": None,
        "partition_last": None,
        "full_reload": False,
        "lane": "interactive",
        "requested_by": "asha",
        "requested_at": datetime(2026, 11, 22, tzinfo=UTC),
        "last_success_at": None,
    }
    return AskedRun(**{**fields, **more})


def made(**more: Any) -> dg.RunRequest:
    found = request_for(INDEX, asked(**more))
    assert isinstance(found, dg.RunRequest)
    return found


def paths(run: dg.RunRequest) -> set[str]:
    return {key.to_user_string() for key in run.asset_selection or ()}


def test_a_request_is_a_run_of_all_tables_with_every_tag_and_a_key_of_its_own() -> None:
    run = made()
    assert paths(run) == {"clean_water/health_forms/visits", "clean_water/health_forms/people"}
    assert run.run_key == "request-7"
    assert run.tags["datasense/request"] == "7"
    assert run.tags["datasense/lane"] == "interactive"
    assert run.tags["datasense/live"] == "true"
    assert run.tags["datasense/source_key"] == "clean_water.health_forms"
    assert run.tags["dagster/priority"] == "30"
    assert "dagster/partition" in run.tags


def test_a_range_is_no_live_run_and_takes_in_both_ends() -> None:
    run = made(partition_first="2026-02-01", partition_last="2026-02-03", tables=("visits",))
    assert paths(run) == {"clean_water/health_forms/visits"}
    assert "datasense/live" not in run.tags
    assert run.tags["dagster/asset_partition_range_start"] == "2026-02-01"
    assert run.tags["dagster/asset_partition_range_end"] == "2026-02-03"


def test_a_full_reload_says_so_and_a_source_without_tables_has_no_partition() -> None:
    assert made(full_reload=True).tags["datasense/full"] == "true"
    assert not [tag for tag in made(source_id=2).tags if "partition" in tag]


def test_a_table_that_is_not_there_is_named_and_an_unknown_source_waits_for_the_graph() -> None:
    said = request_for(INDEX, asked(tables=("vists",)))
    assert isinstance(said, str)
    assert "vists" in said
    assert "visits" in said
    assert request_for(INDEX, asked(source_id=99)) is None


def test_a_request_for_an_organisation_builds_all_its_recipes_in_one_run() -> None:
    assert paths(made(source_id=None)) == {"clean_water/recipes/monthly"}
