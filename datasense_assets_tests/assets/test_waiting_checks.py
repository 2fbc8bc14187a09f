"""Checks that look into a table which is still to be loaded or built, as at the first load of everything at once."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from datasense_assets.automation.stale import buildable
from datasense_assets.catalog.state import stale_recipes
from datasense_assets.catalog.status import StatusRow, organization_status
from datasense_assets.catalog.troubles import troubles
from datasense_assets.recipes.checking import source_tables
from datasense_assets.recipes.versions import COMPILER_VERSION
from datasense_assets.running.owners import catalog_engine
from datasense_assets_tests.assets.conftest import Yard
from datasense_assets_tests.places import today

WELLS, PLACES = "clean_water/wells/wells", "clean_water/places/places"
CHECK = "exists_in_district"
FOUND: dict[str, Any] = {"check": "exists_in", "column": "district", "in": "source:places.places", "to": "name"}
DEEP: dict[str, Any] = {"name": "deep", "version": 1, "inputs": {"wells": "source:wells.wells"}, "steps": []}


class Both:
    """Wells whose districts are held against places, each a file."""

    def __init__(self, yard: Yard, folder: Path) -> None:
        self.yard, self.folder = yard, folder
        self.write("wells", "well,district\nw1,Ajmer\nw2,Alwar\n")
        self.write("places", "name\nAjmer\nAlwar\n")

    def write(self, name: str, text: str) -> None:
        (self.folder / f"{name}.csv").write_text(text)

    def apply(self, *checks: dict[str, Any], recipes: tuple[dict[str, Any], ...] = (DEEP,)) -> None:
        def source(slug: str, *checks: dict[str, Any]) -> dict[str, Any]:
            tables = [{"slug": slug, "resource": f"{slug}.csv", "checks": list(checks)}]
            config = {"url": str(self.folder / f"{slug}.csv")}
            return {"slug": slug, "connector": "csv", "config": config, "schedule": "manual", "tables": tables}

        self.yard.apply(source("wells", *checks), source("places"), recipes=list(recipes))

    def load(self, path: str) -> Any:
        return self.yard.run(path, partition=today())

    def shown(self, check: str = CHECK) -> tuple[bool, str]:
        """What Dagster shows of the check: whether it passes, and how much it matters if not."""
        key = dg.AssetCheckKey(dg.AssetKey(WELLS.split("/")), check)
        (last,) = self.yard.instance.event_log_storage.get_asset_check_execution_history(key, limit=1)
        assert last.event is not None and last.event.dagster_event is not None
        told = last.event.dagster_event.asset_check_evaluation_data
        return told.passed, told.severity.value

    def ready(self) -> list[str]:
        """Recipes that the sensor would have built now."""
        with catalog_engine().connect() as connection:
            rows = stale_recipes(connection, datetime.now(UTC), COMPILER_VERSION)
        return [row.name for row in buildable(rows, frozenset(), frozenset(row.recipe_id for row in rows))]

    def status(self) -> dict[str, StatusRow]:
        with catalog_engine().connect() as connection:
            rows = organization_status(connection, "clean-water", now=datetime.now(UTC))
        return {row.path.removeprefix("clean-water/"): row for row in rows}

    def alerts(self) -> list[str]:
        with catalog_engine().connect() as connection:
            return [each.subject for each in troubles(connection, datetime.now(UTC)) if each.kind == "check"]


@pytest.fixture
def both(yard: Yard, tmp_path: Path) -> Both:
    return Both(yard, tmp_path)


@pytest.mark.parametrize("places", ["name\nAjmer\nAlwar\n", "name\nAjmer\n"])
def test_a_check_waits_for_the_first_load_of_what_it_looks_into_and_is_run_by_it(both: Both, places: str) -> None:
    both.write("places", places)
    both.apply(FOUND)
    done = both.load(WELLS)
    assert done.success, done.failures
    assert both.shown() == (False, "WARN")
    assert (both.ready(), both.alerts()) == ([], [])
    status = both.status()
    assert "Still to be checked: exists_in_district (source:places.places is not there yet" in (
        status["wells/wells"].warning
    )
    assert status["recipes/deep"].why == "Its input wells is still to be checked; there is no table yet."
    done = both.load(PLACES)
    assert done.success, done.failures
    holds = "Alwar" in places
    assert both.shown() == (holds, "ERROR")
    assert both.ready() == (["deep"] if holds else [])
    assert both.alerts() == ([] if holds else ["wells/wells"])
    status = both.status()
    assert status["wells/wells"].warning == ""
    assert status["recipes/deep"].why == (
        "It has not been built yet." if holds else "Its input wells breaks a check; there is no table yet."
    )
    # and again with the load of its own table
    done = both.load(WELLS)
    assert done.success == holds
    assert both.shown() == (holds, "ERROR")


def test_of_two_first_loads_at_once_one_sees_what_the_other_has_written(
    both: Both, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The places come between a look at them, in vain, and the writing down of it."""
    both.apply(FOUND)
    record = source_tables.record_checks
    loads: list[Any] = []

    def recording(*args: Any, **more: Any) -> None:
        if not loads:
            loads.append(None)
            loads.append(both.load(PLACES))
        record(*args, **more)

    monkeypatch.setattr(source_tables, "record_checks", recording)
    done = both.load(WELLS)
    assert done.success, done.failures
    assert loads[1].success, loads[1].failures
    assert both.shown() == (True, "ERROR")
    assert both.ready() == ["deep"]


def test_a_recipe_whose_check_waits_is_built_again_once_the_table_is_there(both: Both) -> None:
    checked = {**DEEP, "checks": [FOUND]}
    both.apply(recipes=(checked,))
    assert both.load(WELLS).success
    assert both.ready() == ["deep"]
    done = both.yard.run("clean_water/recipes/deep")
    assert not done.success
    assert "source:places.places is not there yet" in done.failures[0]
    assert both.ready() == []
    assert both.load(PLACES).success
    assert both.ready() == ["deep"]
    assert both.yard.run("clean_water/recipes/deep").success


def test_a_check_waits_for_a_recipe_too(both: Both) -> None:
    names = {**DEEP, "name": "names", "inputs": {"places": "source:places.places"}}
    both.apply({**FOUND, "in": "recipe:names"}, recipes=(DEEP, names))
    assert both.load(WELLS).success
    assert both.load(PLACES).success
    assert both.ready() == ["names"]
    done = both.yard.run("clean_water/recipes/names")
    assert done.success, done.failures
    assert both.shown() == (True, "ERROR")
    assert both.ready() == ["deep"]


@pytest.mark.parametrize("is_built", [False, True])
def test_a_check_that_waits_for_itself_says_so_in_the_status(both: Both, is_built: bool) -> None:
    """What another program has written; a manifest with it is refused."""
    above = {**DEEP, "name": "above", "inputs": {"deep": "recipe:deep"}}
    both.apply(FOUND, recipes=(DEEP, above))
    if is_built:
        both.write("places", "name\nAjmer\nAlwar\nSikar\n")
        assert both.load(PLACES).success
        assert both.load(WELLS).success
        assert both.yard.run("clean_water/recipes/deep").success
        assert both.yard.run("clean_water/recipes/above").success
        both.write("wells", "well,district\nw1,Ajmer\nw2,Alwar\nw3,Sikar\n")
    both.yard.execute(
        "UPDATE datasense.source_tables SET checks ="
        """ '[{"check": "exists_in", "column": "district", "in": "recipe:above"}]' WHERE slug = 'wells'"""
    )
    assert both.load(WELLS).success is not is_built
    assert both.ready() == []
    status = both.status()
    said = (
        "The check of source:wells.wells that looks into recipe:above waits for itself in a circle: "
        "source:wells.wells → recipe:above → recipe:deep → source:wells.wells. "
        "Give the check severity: warn, or have it look into another table."
    )
    assert {path: row.warning.endswith(said) for path, row in status.items()} == {
        "wells/wells": True,
        "places/places": False,
        "recipes/deep": True,
        "recipes/above": True,
    }
    why = "breaks a check; it stays as it is." if is_built else "is still to be checked; there is no table yet."
    assert status["recipes/deep"].why == f"Its input wells {why}"


def test_what_will_never_be_there_is_waited_for_by_nothing(both: Both) -> None:
    both.apply(FOUND)
    both.yard.execute(
        "UPDATE datasense.source_tables SET checks = jsonb_set(checks, '{0,in}', '\"source:places.plaecs\"')"
        " WHERE slug = 'wells'"
    )
    done = both.load(WELLS)
    assert not done.success
    assert "source:places.plaecs does not exist" in done.failures[0]
