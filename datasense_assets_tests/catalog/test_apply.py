"""Applying, exporting and deleting: the catalog as files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.fernet import Fernet
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from sqlalchemy import Connection, Engine, text

from datasense_assets.catalog.apply import Change, apply_manifest, plan_apply
from datasense_assets.catalog.delete import DeleteRefused, delete_organization, delete_recipe, delete_source
from datasense_assets.catalog.export import UnknownOrganization, export_organization
from datasense_assets.catalog.manifest import Manifest, ManifestErrors, parse_manifest
from datasense_assets.catalog.models import Problem
from datasense_assets.catalog.snapshot import read_snapshot
from datasense_assets.catalog.state import DiscoveredTable, read_revision, read_tables, upsert_tables
from datasense_assets.catalog.yaml_text import write_yaml
from datasense_assets_tests.catalog.conftest import MANIFEST
from datasense_assets_tests.catalog.test_manifest import documents


def edited(*changes: tuple[str, str]) -> Manifest:
    text = MANIFEST
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return parse_manifest(text, Path("/srv/manifests/clean-water.yaml"))


def summary(changes: tuple[Change, ...]) -> list[tuple[str, str]]:
    return [(change.action, change.path) for change in changes]


def source_id(connection: Connection, slug: str) -> int:
    return int(connection.execute(text("SELECT id FROM datasense.sources WHERE slug = :s"), {"s": slug}).scalar_one())


def test_applying_twice_changes_nothing_and_leaves_the_revision(catalog: Engine, manifest: Manifest) -> None:
    with catalog.begin() as connection:
        first = apply_manifest(connection, manifest)
    assert {change.action for change in first.changes} == {"create"}
    with catalog.connect() as connection:
        before = read_revision(connection)
    with catalog.begin() as connection:
        second = apply_manifest(connection, manifest)
    assert second.changed == ()
    with catalog.connect() as connection:
        assert read_revision(connection) == before


def test_a_plan_writes_nothing_and_says_what_apply_does(connection: Connection, manifest: Manifest) -> None:
    planned = plan_apply(connection, manifest)
    assert connection.execute(text("SELECT count(*) FROM datasense.organizations")).scalar() == 0
    assert apply_manifest(connection, manifest) == planned


def test_the_catalog_becomes_equal_to_the_file(connection: Connection, manifest: Manifest) -> None:
    apply_manifest(connection, manifest)
    changed = edited(
        ("name: Clean Water Trust", "name: Clean Water"),
        ("schedule: hourly", "schedule: daily"),
        ('{base_url: "https://kf.kobotoolbox.org"', '{base_url: "https://eu.kobotoolbox.org"'),
        ("      - {slug: homes, resource: aXb4, title: Homes}\n", "      - {slug: wells, resource: aXb5}\n"),
        ("source:health-forms.homes", "source:health-forms.wells"),
        ("{token: {env: CLEAN_WATER_KOBO_TOKEN}}", "{other: {file: /t}}"),
        ("columns: {zeta: z, alpha: a}", "columns: {alpha: a, zeta: z}"),
    )
    plan = apply_manifest(connection, changed)
    assert summary(plan.changed) == [
        ("update", "clean-water"),
        ("update", "clean-water/health-forms"),
        ("delete", "clean-water/health-forms:token"),
        ("create", "clean-water/health-forms:other"),
        ("delete", "clean-water/health-forms/homes"),
        ("create", "clean-water/health-forms/wells"),
        ("update", "clean-water/recipes/monthly_visits"),
        ("update", "clean-water/recipes/clean_people"),
    ]
    assert plan.changed[1].details == ("config.base_url", "schedule: hourly → daily")
    assert plan_apply(connection, changed).changed == ()
    gone = edited(
        ("  - slug: census\n    connector: csv\n", "  - slug: other\n    connector: csv\n"),
        ("census.villages", "other.v"),
    )
    assert ("delete", "clean-water/census") in summary(apply_manifest(connection, gone).changed)
    assert plan_apply(connection, gone).changed == ()


def test_a_recipes_order_survives(connection: Connection, manifest: Manifest) -> None:
    apply_manifest(connection, manifest)
    recipe = read_snapshot(connection).organizations[0].recipes[1]
    assert list(recipe.inputs) == ["visits", "people", "a"]
    assert list(recipe.spec["steps"][0]["columns"]) == ["zeta", "alpha"]


def test_discovered_tables_stay_and_those_of_another_form_go(connection: Connection, manifest: Manifest) -> None:
    apply_manifest(connection, manifest)
    census = source_id(connection, "census")
    upsert_tables(connection, census, [DiscoveredTable("v.csv", "Villages"), DiscoveredTable("w.csv", "Wards")])
    assert plan_apply(connection, manifest).changed == ()
    forms = source_id(connection, "health-forms")
    upsert_tables(connection, forms, [DiscoveredTable("aXb3", "Visits", path=("members",))])
    assert [table.slug for table in read_tables(connection, forms)] == ["visits", "visits__members", "homes"]
    assert plan_apply(connection, manifest).changed == ()
    another = apply_manifest(connection, edited(("resource: aXb3", "resource: aXb9")))
    assert summary(another.changed) == [
        ("delete", "clean-water/health-forms/visits"),
        ("create", "clean-water/health-forms/visits"),
    ]
    assert [table.slug for table in read_tables(connection, forms)] == ["visits", "homes"]
    kobo = edited(("connector: csv", "connector: kobo"))
    apply_manifest(connection, kobo)
    assert read_tables(connection, census) == []


def test_a_discovered_table_can_be_renamed_and_typed_in_the_file(connection: Connection, manifest: Manifest) -> None:
    apply_manifest(connection, manifest)
    census = source_id(connection, "census")
    upsert_tables(connection, census, [DiscoveredTable("v.csv", "Villages"), DiscoveredTable("w.csv", "Wards")])
    named = edited(
        (
            "member: villages.csv}\n",
            "member: villages.csv}\n    discover_all: true\n"
            "    tables: [{slug: hamlets, resource: v.csv, types: {pop: integer}}]\n",
        )
    )
    apply_manifest(connection, named)
    assert sorted(table.slug for table in read_tables(connection, census)) == ["hamlets", "wards"]
    assert plan_apply(connection, named).changed == ()
    exported = yaml.safe_load(export_organization(connection, "clean-water"))["sources"][1]
    assert (exported["discover_all"], exported["tables"][0]["types"]) == (True, {"pop": "integer"})


def test_problems_of_other_rooms_and_locked_secrets_are_told_together(connection: Connection) -> None:
    token = Fernet(Fernet.generate_key()).encrypt(b"x").decode()
    manifest = edited(("{env: CLEAN_WATER_KOBO_TOKEN}", f"{{encrypted: {token}}}"))
    with pytest.raises(ManifestErrors) as caught:
        apply_manifest(
            connection,
            manifest,
            secret_keys=[Fernet.generate_key().decode()],
            check_source=lambda source: [Problem(path="config.url", message="bad.")] if source.slug == "census" else [],
            check_recipes=lambda whole: [Problem(path="recipes[0].steps[0]", message="bad.")],
        )
    assert [problem.path for problem in caught.value.problems] == [
        "sources[0].credentials.token",
        "sources[1].config.url",
        "recipes[0].steps[0]",
    ]
    assert connection.execute(text("SELECT count(*) FROM datasense.organizations")).scalar() == 0


def test_an_export_applies_back_to_the_same(connection: Connection, manifest: Manifest) -> None:
    apply_manifest(connection, manifest)
    exported = export_organization(connection, "clean-water")
    again = parse_manifest(exported)
    assert plan_apply(connection, again).changed == ()
    before = read_snapshot(connection).organizations[0]
    delete_organization(connection, "clean-water")
    apply_manifest(connection, again)
    after = read_snapshot(connection).organizations[0]
    assert without_ids(after) == without_ids(before)
    assert export_organization(connection, "clean-water") == exported


def without_ids(value: Any) -> Any:
    def strip(node: Any) -> Any:
        if isinstance(node, dict):
            return {name: strip(each) for name, each in node.items() if name not in ("id", "spec_hash")}
        return [strip(each) for each in node] if isinstance(node, (list, tuple)) else node

    return strip(value.model_dump())


@pytest.fixture
def rolled_back(connection: Connection) -> Connection:
    return connection


@given(document=documents())
@hypothesis_settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_manifest_is_idempotent_and_round_trips(document: dict[str, Any], rolled_back: Connection) -> None:
    manifest = parse_manifest(write_yaml(document))
    with rolled_back.begin_nested() as savepoint:
        apply_manifest(rolled_back, manifest)
        assert plan_apply(rolled_back, manifest).changed == ()
        exported = parse_manifest(export_organization(rolled_back, manifest.organization.slug))
        assert plan_apply(rolled_back, exported).changed == ()
        assert not any(org.invalid for org in read_snapshot(rolled_back).organizations)
        savepoint.rollback()


def test_an_unknown_organization_has_no_export(connection: Connection) -> None:
    with pytest.raises(UnknownOrganization):
        export_organization(connection, "nobody")


def test_what_is_read_is_not_deleted_unless_forced(connection: Connection, manifest: Manifest) -> None:
    apply_manifest(connection, manifest)
    with pytest.raises(DeleteRefused, match="clean_people") as caught:
        delete_source(connection, "clean-water", "health-forms")
    assert len(caught.value.problems) == 2
    with pytest.raises(DeleteRefused, match="monthly_visits"):
        delete_recipe(connection, "clean-water", "clean-people")
    assert delete_recipe(connection, "clean-water", "monthly_visits").warehouse_tables == (
        "org_clean_water.monthly_visits",
    )
    assert delete_recipe(connection, "clean-water", "clean_people", force=True).paths == (
        "clean-water/recipes/clean_people",
    )
    gone = delete_source(connection, "clean-water", "health-forms")
    assert gone.paths == (
        "clean-water/health-forms",
        "clean-water/health-forms/visits",
        "clean-water/health-forms/homes",
    )
    assert "org_clean_water.health_forms__visits" in gone.warehouse_tables
    for missing in (
        lambda: delete_source(connection, "clean-water", "health-forms"),
        lambda: delete_recipe(connection, "clean-water", "clean_people"),
        lambda: delete_organization(connection, "nobody"),
    ):
        with pytest.raises(DeleteRefused, match="no such"):
            missing()


def test_deleting_an_organization_takes_all_it_owns(connection: Connection, manifest: Manifest) -> None:
    apply_manifest(connection, manifest)
    gone = delete_organization(connection, "clean-water")
    assert "clean-water/recipes/clean_people" in gone.paths
    for table in ("sources", "source_tables", "recipes", "credentials", "source_status", "recipe_inputs"):
        assert connection.execute(text(f"SELECT count(*) FROM datasense.{table}")).scalar() == 0
