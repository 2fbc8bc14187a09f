"""A run worker builds only its run's part of the graph."""

from __future__ import annotations

import importlib
import inspect
import sys

import dagster as dg
import pytest

from datasense_assets.catalog.snapshot import SnapshotScope
from datasense_assets.running.scope import current_scope, scoped_to

FORMS = SnapshotScope(sources=frozenset({("clean_water", "health_forms")}), recipes=frozenset())


def run_of(*paths: str) -> dg.DagsterRun:
    return dg.DagsterRun(job_name="__ASSET_JOB", asset_selection=frozenset(dg.AssetKey(p.split("/")) for p in paths))


def core_execute_run(dagster_run: dg.DagsterRun) -> SnapshotScope | None:
    """Stands where Dagster's own function of that name stands in a worker of the default launcher."""
    return current_scope()


def test_a_process_that_works_for_no_run_builds_everything() -> None:
    assert current_scope() is None


def test_a_worker_builds_the_sources_and_recipes_of_its_run() -> None:
    run = run_of(
        "clean_water/health_forms/visits", "clean_water/health_forms/visits__tests", "clean_water/recipes/monthly"
    )
    assert core_execute_run(run) == SnapshotScope(
        sources=FORMS.sources, recipes=frozenset({("clean_water", "monthly")})
    )


def test_the_checks_of_the_catalog_and_the_platforms_own_jobs_build_no_source() -> None:
    check = dg.AssetCheckKey(dg.AssetKey(["_platform", "catalog"]), "nothing_fails")
    checks = dg.DagsterRun(
        job_name="__ASSET_JOB", asset_selection=frozenset(), asset_check_selection=frozenset({check})
    )
    for run in (checks, dg.DagsterRun(job_name="housekeeping")):
        assert core_execute_run(run) == SnapshotScope()


def test_what_the_code_says_comes_first() -> None:
    with scoped_to(FORMS):
        assert core_execute_run(run_of("other/forms/visits")) == FORMS
    assert current_scope() is None


def test_a_run_without_a_selection_builds_everything() -> None:
    assert core_execute_run(dg.DagsterRun(job_name="__ASSET_JOB")) is None


def test_a_run_pod_finds_its_run_in_its_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_of("clean_water/health_forms/visits")
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_run(run)
        monkeypatch.setattr(dg.DagsterInstance, "get", staticmethod(lambda: instance))
        monkeypatch.setattr(sys, "argv", ["dagster", "api", "execute_run", f'{{"run_id": "{run.run_id}"}}'])
        assert current_scope() == FORMS


def test_dagster_still_has_the_function_whose_run_is_looked_up() -> None:
    execute = importlib.import_module("dagster._grpc.impl").core_execute_run
    assert "dagster_run" in inspect.signature(execute).parameters


def test_a_run_of_checks_alone_builds_the_source_or_recipe_that_they_are_of() -> None:
    visits, monthly = (
        dg.AssetKey(["clean_water", "health_forms", "visits"]),
        dg.AssetKey(["clean_water", "recipes", "m"]),
    )
    checks = frozenset({dg.AssetCheckKey(visits, "not_null_day"), dg.AssetCheckKey(monthly, "row_count")})
    run = dg.DagsterRun(job_name="__ASSET_JOB", asset_selection=frozenset(), asset_check_selection=checks)
    assert core_execute_run(run) == SnapshotScope(sources=FORMS.sources, recipes=frozenset({("clean_water", "m")}))
