"""Checks in runs: with a load, with a build, alone; what they hold back, and what they never tell."""

from __future__ import annotations

import itertools
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster import AssetCheckEvaluation

from datasense_assets import definitions
from datasense_assets.automation.stale import buildable
from datasense_assets.catalog.snapshot import SnapshotScope
from datasense_assets.catalog.state import StaleRecipe, stale_recipes
from datasense_assets.recipes.versions import COMPILER_VERSION
from datasense_assets.running.owners import catalog_engine
from datasense_assets.running.scope import scoped_to
from datasense_assets_tests.assets.conftest import Yard
from datasense_assets_tests.places import today

WELLS = "clean_water/wells/wells"
GOOD = "well,district,depth,phone\nw1,Ajmer,12,98290 11111\nw2,Ajmer,3,98290 22222\nw3,Alwar,7,98290 33333\n"
DEEP: dict[str, Any] = {
    "name": "deep_wells",
    "version": 1,
    "inputs": {"wells": "source:wells.wells"},
    "steps": [{"op": "filter", "where": {"column": "depth", "operator": ">", "value": 1}}],
}
ABOVE: dict[str, Any] = {"name": "above", "version": 1, "inputs": {"deep": "recipe:deep_wells"}, "steps": []}


class Wells:
    """One source of one file, and recipes over it."""

    def __init__(self, yard: Yard, folder: Path) -> None:
        self.yard, self.path = yard, folder / "wells.csv"
        self.write(GOOD)

    def write(self, text: str) -> None:
        self.path.write_text(text)

    def apply(self, *checks: dict[str, Any], recipes: tuple[dict[str, Any], ...] = (DEEP,), **table: Any) -> None:
        source = {
            "slug": "wells",
            "connector": "csv",
            "config": {"url": str(self.path)},
            "schedule": "manual",
            "tables": [{"slug": "wells", "resource": "wells.csv", "checks": list(checks), "key": ["well"], **table}],
        }
        self.yard.apply(source, recipes=list(recipes))

    def load(self) -> Any:
        return self.yard.run(WELLS, partition=today())

    def checks(self, run_id: str) -> dict[str, AssetCheckEvaluation]:
        """What the run's events say of each check."""
        found = self.yard.instance.all_logs(run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION)
        events = [entry.dagster_event.asset_check_evaluation_data for entry in found if entry.dagster_event]
        return {event.check_name: event for event in events}

    def run(self, *, assets: tuple[str, ...] = (), checks: tuple[str, ...] = ()) -> dg.ExecuteInProcessResult:
        """A run of assets and checks (as `asset:check`) together, as the UI launches it."""
        paths = [path.partition(":")[0].split("/") for path in (*assets, *checks)]
        scope = SnapshotScope(
            sources=frozenset((p[0], p[1]) for p in paths if p[1] != "recipes"),
            recipes=frozenset((p[0], p[2]) for p in paths if p[1] == "recipes"),
        )
        with scoped_to(scope):
            graph = definitions.definitions()
        selection: dg.AssetSelection = dg.AssetSelection.assets(*(path.split("/") for path in assets))
        keys = [dg.AssetCheckKey(dg.AssetKey(c.split(":")[0].split("/")), c.split(":")[1]) for c in checks]
        if checks:
            selection = dg.AssetSelection.checks(*keys)
        return dg.materialize(
            [asset for asset in graph.assets or () if isinstance(asset, dg.AssetsDefinition)],
            selection=selection,
            instance=self.yard.instance,
            raise_on_error=False,
            partition_key=today() if WELLS in assets else None,
        )

    def stale(self) -> list[StaleRecipe]:
        with catalog_engine().connect() as connection:
            return stale_recipes(connection, datetime.now(UTC), COMPILER_VERSION)

    def ready(self) -> list[str]:
        rows = self.stale()
        return [row.name for row in buildable(rows, frozenset(), frozenset(row.recipe_id for row in rows))]


@pytest.fixture
def wells(yard: Yard, tmp_path: Path) -> Wells:
    return Wells(yard, tmp_path)


PASSES: list[dict[str, Any]] = [
    {"check": "not_null", "column": "district"},
    {"check": "unique", "columns": ["well"]},
    {"check": "accepted_values", "column": "district", "values": ["Ajmer", "Alwar"]},
    {"check": "range", "column": "depth", "min": 1, "max": 20},
    {"check": "pattern", "column": "phone", "pattern": "^[0-9 ]+$"},
    {"check": "exists_in", "column": "well", "in": "source:wells.wells"},
    {"check": "row_count", "min": 3},
    {"check": "row_count_change", "max_drop_percent": 10},
    {"check": "fresh_within", "within": "1 hour"},
    {"check": "condition", "where": {"column": "depth", "operator": "is_not_null"}},
]
FAILS: list[dict[str, Any]] = [
    {"check": "not_null", "column": "depth"},
    {"check": "unique", "columns": ["district"]},
    {"check": "accepted_values", "column": "district", "values": ["Ajmer"]},
    {"check": "range", "column": "depth", "max": 5},
    {"check": "pattern", "column": "phone", "pattern": "^[0-9]+$"},
    {"check": "exists_in", "column": "district", "in": "source:wells.wells", "to": "well"},
    {"check": "row_count", "max": 2},
    {"check": "fresh_within", "within": "1 day", "column": "seen"},
    {"check": "condition", "where": {"column": "depth", "operator": ">", "value": 5}},
    {"check": "no_such_kind"},
]


def test_each_kind_of_check_that_holds_shows_so_beside_the_asset(wells: Wells) -> None:
    wells.apply(*PASSES)
    done = wells.load()
    assert done.success, done.failures
    events = wells.checks(done.run_id)
    assert len(events) == len(PASSES)
    assert all(event.passed for event in events.values()), events
    assert events["not_null_district"].description == "It holds for every row of 3."


@pytest.mark.parametrize("severity", ["warn", "error"])
def test_each_kind_of_check_that_does_not_hold_warns_or_fails_the_run(wells: Wells, severity: str) -> None:
    wells.write(
        GOOD.replace("well,district", "seen,well,district").replace("\nw", "\n2020-01-01,w") + "2020-01-01,w4,,,\n"
    )
    wells.apply(*({**check, "severity": severity} for check in FAILS))
    done = wells.load()
    assert done.success == (severity == "warn")
    events = wells.checks(done.run_id)
    assert len(events) == len(FAILS)
    assert not any(event.passed for event in events.values())
    assert {event.severity.value for event in events.values()} == {severity.upper()}
    # The data is there all the same, and its run says which check stands against it.
    assert wells.yard.rows("SELECT count(*) FROM org_clean_water.wells__wells") == [(4,)]
    assert done.materialized or severity == "error"
    if severity == "error":
        assert "range_depth: 2 of 4 rows: depth is not at most 5." in done.failures[0]
    assert events["range_depth"].metadata["broken"].value == 2
    assert events["range_depth"].metadata["some_rows"].value == ["w1", "w3"]
    assert wells.yard.rows("SELECT failures_in_a_row FROM datasense.source_status") == [(0,)]


def test_a_source_without_checks_costs_no_query_more_and_keeps_its_row_counts(wells: Wells) -> None:
    wells.apply()
    assert wells.load().success
    assert wells.yard.rows("SELECT row_count, accepted FROM datasense.row_counts") == [(3, True)]
    assert wells.yard.rows("SELECT count(*) FROM datasense.check_results") == [(0,)]


def test_personal_values_are_in_no_event_and_no_row_of_the_catalog(wells: Wells) -> None:
    """The phone number is the key here, so that it is the row's id too."""
    wells.apply(
        {"check": "pattern", "column": "phone", "pattern": "^[0-9]{10}$"},
        {"check": "accepted_values", "column": "phone", "values": ["none"]},
        {"check": "range", "column": "depth", "max": 1},
        {"check": "unique", "columns": ["district"]},
        {"check": "condition", "where": {"column": "phone", "operator": "=", "value": "1"}},
        key=["phone"],
    )
    done = wells.load()
    assert not done.success
    assert not any(event.passed for event in wells.checks(done.run_id).values())
    events = [str(entry.dagster_event) for entry in wells.yard.instance.all_logs(done.run_id) if entry.dagster_event]
    kept = wells.yard.rows("SELECT c::text FROM datasense.check_results c")
    assert "98290" not in "".join(itertools.chain(done.failures, events, (text for (text,) in kept)))


def test_an_error_keeps_recipes_on_their_last_good_data_until_the_source_is_mended(wells: Wells) -> None:
    wells.apply({"check": "not_null", "column": "district"}, recipes=(DEEP, ABOVE))
    assert wells.load().success
    assert wells.ready() == ["above", "deep_wells"]
    assert wells.yard.run("clean_water/recipes/deep_wells").success
    assert wells.yard.run("clean_water/recipes/above").success
    assert wells.ready() == []
    wells.write(GOOD + "w4,,9,\n")
    assert not wells.load().success
    (above, deep) = wells.stale()
    assert wells.ready() == []
    assert deep.waits_for == "wells breaks a check"
    assert above.waits_for == "deep waits itself" or above.blocked_upstreams == ("deep_wells",)
    assert wells.yard.rows("SELECT count(*) FROM org_clean_water.deep_wells") == [(3,)]
    wells.write(GOOD + "w4,Alwar,9,\n")
    assert wells.load().success
    assert wells.ready() == ["above", "deep_wells"]


def test_a_warning_holds_nothing_back(wells: Wells) -> None:
    wells.apply({"check": "row_count", "min": 9, "severity": "warn"})
    assert wells.load().success
    assert wells.ready() == ["deep_wells"]


def test_a_build_in_the_same_run_below_an_error_is_skipped(wells: Wells) -> None:
    wells.apply({"check": "row_count", "min": 9})
    done = wells.run(assets=(WELLS, "clean_water/recipes/deep_wells"))
    assert not done.success
    assert {event.step_key for event in done.all_events if event.is_step_start} == {"source_1"}
    assert wells.yard.rows("SELECT to_regclass('org_clean_water.deep_wells')") == [(None,)]
    assert len(done.get_asset_materialization_events()) == 1


def test_a_build_in_the_same_run_below_checks_that_hold_is_done(wells: Wells) -> None:
    wells.apply({"check": "row_count", "min": 3}, {"check": "row_count", "min": 9, "severity": "warn", "name": "more"})
    done = wells.run(assets=(WELLS, "clean_water/recipes/deep_wells"))
    assert done.success
    assert wells.yard.rows("SELECT count(*) FROM org_clean_water.deep_wells") == [(3,)]


def test_data_whose_checks_have_not_been_run_is_not_built_on(wells: Wells) -> None:
    """As when a worker dies between the load and its checks."""
    wells.apply({"check": "not_null", "column": "district"})
    assert wells.load().success
    wells.yard.execute("UPDATE datasense.table_status SET data_version = data_version + 1")
    assert wells.ready() == []
    assert wells.run(checks=(f"{WELLS}:not_null_district",)).success
    assert wells.ready() == ["deep_wells"]


def test_a_check_that_is_taken_away_or_changed_holds_nothing_back(wells: Wells) -> None:
    wrong = {"check": "row_count", "min": 9}
    wells.apply(wrong, {"check": "not_null", "column": "well"})
    assert not wells.load().success
    assert wells.ready() == []
    wells.apply({"check": "not_null", "column": "well"})
    assert wells.yard.rows("SELECT name FROM datasense.check_results") == [("not_null_well",)]
    assert wells.ready() == ["deep_wells"]


def test_checks_run_alone_look_at_the_table_and_load_nothing(wells: Wells) -> None:
    wells.apply({"check": "not_null", "column": "district"}, {"check": "row_count", "max": 3})
    assert wells.load().success
    wells.yard.execute("UPDATE org_clean_water.wells__wells SET district = NULL WHERE well = 'w1'")
    wells.path.unlink()
    done = wells.run(checks=(f"{WELLS}:not_null_district", f"{WELLS}:row_count"))
    assert not done.success
    events = wells.checks(done.run_id)
    assert {name: event.passed for name, event in events.items()} == {"not_null_district": False, "row_count": True}
    assert not done.get_asset_materialization_events()
    assert wells.yard.rows("SELECT passed FROM datasense.check_results ORDER BY name") == [(False,), (True,)]


def test_one_organisation_cannot_look_into_the_tables_of_another(wells: Wells, tmp_path: Path) -> None:
    (tmp_path / "secret.csv").write_text("name\nAjmer\nAlwar\n")
    other = {
        "slug": "secret",
        "connector": "csv",
        "config": {"url": str(tmp_path / "secret.csv")},
        "tables": [{"slug": "names", "resource": "secret.csv"}],
    }
    wells.yard.apply(other, slug="other-org")
    assert wells.yard.run("other_org/secret/names", partition=today()).success
    peek = {"check": "exists_in", "column": "district", "in": "source:secret.names", "to": "name"}
    wells.apply()
    # As another program may write it into the catalog, past the manifest's own look.
    wells.yard.execute(
        "UPDATE datasense.source_tables SET checks = %s::jsonb WHERE slug = 'wells'",
        json.dumps([peek, {**peek, "in": "source:other_org.secret"}, {**peek, "in": "org_other_org.x"}]),
    )
    done = wells.load()
    assert not done.success
    events = wells.checks(done.run_id)
    assert [event.passed for event in events.values()] == [False, False, False]
    assert "does not exist yet" in (events["exists_in_district"].description or "")


def test_a_fall_in_rows_blocks_until_the_rows_are_back(wells: Wells) -> None:
    wells.apply({"check": "row_count_change", "max_drop_percent": 30})
    assert wells.load().success
    wells.write("".join(GOOD.splitlines(keepends=True)[:2]))
    for _ in range(2):
        assert not wells.load().success
        assert wells.ready() == []
    counts = "SELECT row_count, accepted FROM datasense.row_counts ORDER BY id"
    assert wells.yard.rows(counts) == [(3, True), (1, False)]
    wells.write(GOOD)
    assert wells.load().success
    assert wells.ready() == ["deep_wells"]
    assert wells.yard.rows(counts)[-1] == (3, True)


def test_the_history_of_row_counts_is_kept_short(wells: Wells) -> None:
    wells.apply()
    assert wells.load().success
    wells.yard.execute(
        "INSERT INTO datasense.row_counts (table_id, row_count) "
        "SELECT table_id, n FROM datasense.row_counts, generate_series(1, 300) n"
    )
    assert wells.load().success
    assert wells.yard.rows("SELECT count(*), max(row_count) FROM datasense.row_counts") == [(100, 300)]


# -- recipes -----------------------------------------------------------------------------------------------------------


def build(wells: Wells, name: str = "deep_wells") -> Any:
    return wells.yard.run(f"clean_water/recipes/{name}")


def test_a_recipe_whose_new_table_breaks_an_error_keeps_its_last_good_one(wells: Wells) -> None:
    checked = {**DEEP, "checks": [{"check": "not_null", "column": "district"}, {"check": "row_count", "min": 2}]}
    wells.apply(recipes=({**checked, "checks": [{"check": "row_count", "min": 4}]},))
    assert wells.load().success
    first = build(wells)
    assert "deep_wells was built and not put in place, it has no table yet, for checks do not hold" in first.failures[0]
    wells.apply(recipes=(checked, ABOVE))
    done = build(wells)
    assert done.success, done.failures
    assert {name: event.passed for name, event in wells.checks(done.run_id).items()} == {
        "not_null_district": True,
        "row_count": True,
    }
    assert build(wells, "above").success
    wells.write(GOOD + "w4,,9,\n")
    assert wells.load().success
    refused = build(wells)
    assert not refused.success
    assert "its last good table stays" in refused.failures[0]
    assert "not_null_district: 1 of 4 rows: district is null." in refused.failures[0]
    events = wells.checks(refused.run_id)
    assert {name: event.passed for name, event in events.items()} == {"not_null_district": False, "row_count": True}
    assert events["not_null_district"].metadata["some_rows"].value == ["w4"]
    assert not refused.materialized
    assert wells.yard.rows("SELECT count(*) FROM org_clean_water.deep_wells") == [(3,)]
    assert wells.yard.rows("SELECT count(*) FROM pg_class WHERE relname LIKE '\\_ds\\_new%%'") == [(0,)]
    assert wells.ready() == []
    failing = "SELECT failure_kind FROM datasense.recipe_status WHERE failures_in_a_row > 0"
    assert wells.yard.rows(failing) == [("checks_failed",)]
    wells.write(GOOD + "w4,Alwar,9,\n")
    assert wells.load().success
    assert wells.ready() == ["above", "deep_wells"]
    assert build(wells).success
    assert wells.yard.rows("SELECT count(*) FROM org_clean_water.deep_wells") == [(4,)]


def test_a_recipe_that_only_warns_is_put_in_place(wells: Wells) -> None:
    wells.apply(recipes=({**DEEP, "checks": [{"check": "row_count", "max": 1, "severity": "warn"}]},))
    assert wells.load().success
    done = build(wells)
    assert done.success, done.failures
    assert [event.passed for event in wells.checks(done.run_id).values()] == [False]
    assert wells.yard.rows("SELECT count(*) FROM org_clean_water.deep_wells") == [(3,)]


def test_recipes_below_one_that_breaks_an_error_are_not_built_in_its_run(wells: Wells) -> None:
    wells.apply(recipes=({**DEEP, "checks": [{"check": "row_count", "max": 1}]}, ABOVE))
    assert wells.load().success
    done = wells.run(assets=("clean_water/recipes/deep_wells", "clean_water/recipes/above"))
    assert not done.success
    assert wells.yard.rows("SELECT to_regclass('org_clean_water.above')") == [(None,)]


def test_values_lost_to_casts_are_counted_against_their_limit(wells: Wells) -> None:
    casts = [{"op": "cast", "columns": [{"column": "well", "to": "integer"}]}]
    checks = [{"check": "max_lossy_casts", "max": 2}, {"check": "max_lossy_casts", "column": "well", "max": 3}]
    wells.apply(recipes=({**DEEP, "steps": casts, "checks": checks},))
    assert wells.load().success
    done = build(wells)
    assert not done.success
    assert "3 values could not be read by casts (well: 3); 2 are allowed." in done.failures[0]
    assert [event.passed for event in wells.checks(done.run_id).values()] == [False, True]


def test_values_lost_to_casts_stay_told_while_nothing_is_built(wells: Wells) -> None:
    casts = [{"op": "cast", "columns": [{"column": "well", "to": "integer"}]}]
    warned = {"check": "max_lossy_casts", "max": 2, "severity": "warn"}
    wells.apply(recipes=({**DEEP, "steps": casts, "checks": [{"check": "row_count", "min": 1}]},))
    assert wells.load().success
    assert build(wells).success
    wells.apply(recipes=({**DEEP, "steps": casts, "checks": [warned]},))
    added = build(wells)
    assert [event.passed for event in wells.checks(added.run_id).values()] == [False]
    looked = wells.run(checks=("clean_water/recipes/deep_wells:max_lossy_casts",))
    assert [event.passed for event in wells.checks(looked.run_id).values()] == [False]


def test_a_check_that_is_added_is_run_on_a_table_that_needs_no_new_build(wells: Wells) -> None:
    wells.apply()
    assert wells.load().success
    assert build(wells).success
    wells.apply(recipes=({**DEEP, "checks": [{"check": "row_count", "max": 1}]},))
    done = build(wells)
    assert not done.success
    assert [event.passed for event in wells.checks(done.run_id).values()] == [False]
    wells.apply(recipes=({**DEEP, "checks": [{"check": "row_count", "max": 3}]},))
    assert build(wells).success


def test_the_rows_of_a_recipe_are_compared_with_its_last_good_build(wells: Wells) -> None:
    wells.apply(recipes=({**DEEP, "checks": [{"check": "row_count_change", "max_drop_percent": 50}]},))
    assert wells.load().success
    assert build(wells).success
    wells.write("".join(GOOD.splitlines(keepends=True)[:2]))
    assert wells.load().success
    assert not build(wells).success
    assert wells.yard.rows("SELECT row_count, accepted FROM datasense.row_counts WHERE recipe_id IS NOT NULL") == [
        (3, True),
        (1, False),
    ]
    assert wells.yard.rows("SELECT count(*) FROM org_clean_water.deep_wells") == [(3,)]


def test_a_recipe_without_a_column_is_as_fresh_as_its_oldest_input(wells: Wells) -> None:
    wells.apply(recipes=({**DEEP, "checks": [{"check": "fresh_within", "within": "2 hours"}]},))
    assert wells.load().success
    assert build(wells).success
    wells.yard.execute("UPDATE datasense.table_status SET fresh_as_of = now() - interval '3 hours'")
    assert not wells.run(checks=("clean_water/recipes/deep_wells:fresh_within",)).success


def test_personal_values_of_a_recipe_are_in_no_event(wells: Wells) -> None:
    """The number goes through two recipes, renamed, and is what must be unique."""
    renamed = {**DEEP, "steps": [{"op": "rename", "columns": {"phone": "reach"}}, {"op": "drop", "columns": ["well"]}]}
    checks = [
        {"check": "unique", "columns": ["reach"], "severity": "warn"},
        {"check": "pattern", "column": "reach", "pattern": "^[0-9]{10}$", "severity": "warn"},
    ]
    drop = {"op": "drop", "columns": ["_ds_row_id"]}
    wells.apply(recipes=({**renamed, "checks": checks}, {**ABOVE, "steps": [drop], "checks": checks}), key=["phone"])
    assert wells.load().success
    for name in ("deep_wells", "above"):
        done = build(wells, name)
        assert done.success, done.failures
        assert not wells.checks(done.run_id)["pattern_reach"].passed
        logs = wells.yard.instance.all_logs(done.run_id)
        assert "98290" not in "".join(str(entry.dagster_event) for entry in logs if entry.dagster_event)
    assert "98290" not in str(wells.yard.rows("SELECT c::text FROM datasense.check_results c"))


def test_a_source_that_is_loaded_again_unchanged_is_not_scanned_again(
    wells: Wells, monkeypatch: pytest.MonkeyPatch
) -> None:
    wells.apply({"check": "not_null", "column": "district"})
    assert wells.load().success
    from datasense_assets.recipes.checking import source_tables

    monkeypatch.setattr(source_tables, "run_checks", lambda *_, **__: pytest.fail("the table was scanned"))
    done = wells.load()
    assert done.success, done.failures
    assert wells.checks(done.run_id)["not_null_district"].passed


@pytest.mark.parametrize("kept", [{"materialize": "view"}, {"materialize": "incremental", "key": ["_ds_row_id"]}])
def test_a_view_and_an_incremental_table_are_looked_over_before_they_change(wells: Wells, kept: dict[str, Any]) -> None:
    checked = {**DEEP, "output": kept, "checks": [{"check": "row_count", "max": 3}]}
    wells.apply(recipes=(checked,))
    assert wells.load().success
    assert build(wells).success
    wells.write(GOOD + "w4,Alwar,9,\n")
    assert wells.load().success
    refused = build(wells)
    assert not refused.success
    assert "4 rows; from 1 to 3 expected." in refused.failures[0]
    # A view shows its inputs as they are; what is refused is to count it as built.
    rows = 4 if kept["materialize"] == "view" else 3
    assert wells.yard.rows("SELECT count(*) FROM org_clean_water.deep_wells") == [(rows,)]
    assert wells.yard.rows("SELECT count(*) FROM pg_class WHERE relname LIKE '\\_ds\\_new%%'") == [(0,)]
