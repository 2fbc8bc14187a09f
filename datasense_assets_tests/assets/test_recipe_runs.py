"""Runs of recipe assets in a worker: what they build, what they say of it, and how they fail."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dagster as dg
import psycopg
import pytest

from datasense_assets_tests.assets.conftest import Yard
from datasense_assets_tests.conftest import fresh_database
from datasense_assets_tests.places import today

DEEP: dict[str, Any] = {
    "name": "deep_wells",
    "version": 1,
    "inputs": {"wells": "source:wells.wells"},
    "steps": [
        {"op": "cast", "columns": [{"column": "depth", "to": "integer"}]},
        {"op": "formula", "column": "deep", "formula": "depth > 10"},
        {
            "op": "aggregate",
            "group_by": ["district"],
            "aggregations": [{"fn": "sum", "column": "depth", "into": "metres"}],
        },
    ],
}
ABOVE = {
    "name": "above",
    "version": 1,
    "inputs": {"deep": "recipe:deep_wells"},
    "steps": [{"op": "sort", "by": ["district"]}],
}


@pytest.fixture
def wells(yard: Yard, tmp_path: Path) -> Path:
    path = tmp_path / "wells.csv"
    path.write_text("district,depth\nAjmer,12\nAjmer,n.k.\nAlwar,7\n")
    return path


def apply(yard: Yard, path: Path, *recipes: dict[str, Any], warehouse: dict[str, str] | None = None) -> None:
    source = {
        "slug": "wells",
        "connector": "csv",
        "config": {"url": str(path)},
        "tables": [{"slug": "wells", "resource": "wells.csv", "types": {"depth": "text"}}],
    }
    yard.apply(source, recipes=list(recipes), warehouse=warehouse)


def test_a_recipe_builds_its_table_and_says_what_went_into_it(yard: Yard, wells: Path) -> None:
    apply(yard, wells, DEEP, ABOVE)
    assert yard.run("clean_water/wells/wells", partition=today()).success
    done = yard.run("clean_water/recipes/deep_wells")
    assert done.success, done.failures
    assert sorted(yard.rows("SELECT district, metres FROM org_clean_water.deep_wells")) == [("Ajmer", 12), ("Alwar", 7)]
    said = done.materialized[("clean_water", "recipes", "deep_wells")]
    assert said["dagster/row_count"] == 2
    assert said["dagster/table_name"] == "org_clean_water.deep_wells"
    assert [column.type for column in said["dagster/column_schema"].columns] == ["text", "bigint"]
    assert said["values_lost_by_casts"] == {"depth": 1}
    lineage = said["dagster/column_lineage"].deps_by_column
    assert lineage["metres"] == [
        dg.TableColumnDep(asset_key=dg.AssetKey(["clean_water", "wells", "wells"]), column_name="depth")
    ]
    above = yard.run("clean_water/recipes/above")
    assert above.success, above.failures
    assert above.materialized[("clean_water", "recipes", "above")]["dagster/column_lineage"].deps_by_column[
        "metres"
    ] == [dg.TableColumnDep(asset_key=dg.AssetKey(["clean_water", "recipes", "deep_wells"]), column_name="metres")]
    owner = yard.rows(
        "SELECT t.tableowner = pg_get_userbyid(n.nspowner) FROM pg_tables t JOIN pg_namespace n "
        "ON n.nspname = t.schemaname WHERE t.tablename = 'deep_wells'"
    )
    assert owner == [(True,)]


def test_a_wrong_recipe_fails_with_every_error_and_its_old_table_stays(yard: Yard, wells: Path) -> None:
    apply(yard, wells, DEEP)
    assert yard.run("clean_water/wells/wells", partition=today()).success
    assert yard.run("clean_water/recipes/deep_wells").success
    wrong = {
        **DEEP,
        "steps": [
            {"op": "filter", "where": {"column": "distrct", "operator": "=", "value": "Ajmer"}},
            {"op": "drop", "columns": ["no_such_column"]},
        ],
    }
    apply(yard, wells, wrong)
    done = yard.run("clean_water/recipes/deep_wells")
    assert not done.success
    assert "distrct" in done.failures[0]
    assert "district" in done.failures[0]
    assert "no_such_column" in done.failures[0]
    assert len(yard.rows("SELECT * FROM org_clean_water.deep_wells")) == 2
    assert yard.rows("SELECT failure_kind, failures_in_a_row FROM datasense.recipe_status") == [("bad_recipe", 1)]


def test_a_recipe_over_a_table_that_was_never_loaded_says_so(yard: Yard, wells: Path) -> None:
    apply(yard, wells, DEEP)
    done = yard.run("clean_water/recipes/deep_wells")
    assert not done.success
    assert "does not exist yet" in done.failures[0]


def test_an_organisation_with_a_warehouse_of_its_own_lives_there_and_nowhere_else(
    yard: Yard, wells: Path, server_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fresh_database(server_url, "own") as own:
        monkeypatch.setenv("CLEAN_WATER_DB", own)
        apply(yard, wells, DEEP, warehouse={"env": "CLEAN_WATER_DB"})
        loaded = yard.run("clean_water/wells/wells", partition=today())
        assert loaded.success, loaded.failures
        built = yard.run("clean_water/recipes/deep_wells")
        assert built.success, built.failures
        with psycopg.connect(own, autocommit=True) as connection:
            rows = connection.execute("SELECT district, metres FROM org_clean_water.deep_wells ORDER BY 1").fetchall()
        assert rows == [("Ajmer", 12), ("Alwar", 7)]
        assert yard.rows("SELECT to_regclass('org_clean_water.wells__wells')") == [(None,)]


def test_a_build_keeps_its_lineage_in_the_catalog(yard: Yard, wells: Path) -> None:
    apply(yard, wells, DEEP, ABOVE)
    yard.run("clean_water/wells/wells", partition=today())
    assert yard.rows("SELECT count(*) FROM datasense.recipe_lineage") == [(0,)]
    yard.run("clean_water/recipes/deep_wells")
    yard.run("clean_water/recipes/above")
    uses = yard.rows(
        "SELECT r.name, u.column_name, u.use, coalesce(u.table_ident, u.recipe_ident), u.source_column "
        "FROM datasense.recipe_column_uses u JOIN datasense.recipes r ON r.id = u.recipe_id WHERE u.use <> 'named'"
    )
    assert sorted(uses, key=str) == [
        ("above", "district", "value", "deep_wells", "district"),
        ("above", "metres", "value", "deep_wells", "metres"),
        ("above", None, "sort", "deep_wells", "district"),
        ("deep_wells", "district", "value", "wells", "district"),
        ("deep_wells", "metres", "value", "wells", "depth"),
        ("deep_wells", None, "group", "wells", "district"),
    ]
    current = yard.rows(
        "SELECT bool_and(l.spec_hash = r.spec_hash), count(*) FROM datasense.recipe_lineage l "
        "JOIN datasense.recipes r ON r.id = l.recipe_id"
    )
    assert current == [(True, 2)]
