"""The asset graph as a pure function of a snapshot."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import dagster as dg
import pytest

from datasense_assets.assets.graph import build_definitions
from datasense_assets.assets.specs import freshness_policy
from datasense_assets.catalog.models import InvalidRow, Problem, Snapshot
from datasense_assets.settings import Settings
from datasense_assets_tests.assets.literal import organization, recipe, snapshot, source


def checked() -> Snapshot:
    """A source and a recipe with checks, some of which nobody can read."""
    visits = (
        source()
        .tables[0]
        .model_copy(
            update={"checks": ({"check": "not_null", "column": "day"}, {"check": "nice", "severity": "warn"}, 7)}
        )
    )
    monthly = recipe()
    monthly = monthly.model_copy(update={"spec": {**monthly.spec, "checks": [{"check": "row_count"}]}})
    return snapshot(organization(sources=(source().model_copy(update={"tables": (visits,)}),), recipes=(monthly,)))


CHECKED = checked()


def build(made: Snapshot, **more: object) -> dg.Definitions:
    return build_definitions(made, Settings(), **more)  # type: ignore[arg-type]


def specs(made: Snapshot) -> dict[str, dg.AssetSpec]:
    return {spec.key.to_user_string(): spec for spec in build(made).resolve_all_asset_specs()}


def node(made: Snapshot, path: str) -> dg.AssetsDefinition:
    return build(made).get_repository_def().assets_defs_by_key[dg.AssetKey(path.split("/"))]


def test_keys_carry_organisation_source_and_table_and_the_group_is_the_organisation() -> None:
    found = specs(snapshot(organization(sources=(source(tables=("visits", "visits__tests")),))))
    assert {"clean_water/health_forms/visits", "clean_water/health_forms/visits__tests"} <= found.keys()
    assert found["clean_water/recipes/monthly"].group_name == "clean_water"
    assert [dep.asset_key.to_user_string() for dep in found["clean_water/recipes/monthly"].deps] == [
        "clean_water/health_forms/visits"
    ]


def test_equal_snapshots_give_equal_graphs_in_any_order_of_building() -> None:
    made = snapshot(organization(), organization("other", 2))
    assert specs(made).keys() == specs(made).keys()
    assert {k: str(v) for k, v in specs(made).items()} == {k: str(v) for k, v in specs(made).items()}


def test_two_organisations_with_equal_slugs_have_assets_and_ops_of_their_own() -> None:
    made = snapshot(organization("north", 1), organization("south", 2))
    assert node(made, "north/health_forms/visits").op.name == "source_1"
    assert node(made, "south/health_forms/visits").op.name == "source_2"


def test_partitions_are_days_of_the_organisation_up_to_today() -> None:
    partitions = node(snapshot(), "clean_water/health_forms/visits").partitions_def
    assert isinstance(partitions, dg.DailyPartitionsDefinition)
    assert partitions.timezone == "Asia/Kolkata"
    assert partitions.get_first_partition_key() == "2026-01-01"
    assert partitions.has_partition_key(date.today().isoformat())


def test_sources_of_equal_grain_start_and_zone_share_one_partitions_definition() -> None:
    made = snapshot(organization(sources=(source(1), source(2, "other-forms"))))
    first = node(made, "clean_water/health_forms/visits").partitions_def
    assert first is node(made, "clean_water/other_forms/visits").partitions_def


def test_a_source_without_tables_is_an_asset_that_finds_them() -> None:
    found = specs(snapshot(organization(sources=(source(tables=()),), recipes=())))
    assert "datasense/undiscovered" in found["clean_water/health_forms"].tags


@pytest.mark.parametrize(
    ("bad", "key", "words"),
    [
        (organization(sources=(source(connector="fax"),)), "clean_water/health_forms/visits", "no connector 'fax'"),
        (organization(recipes=(recipe(v="table:x"),)), "clean_water/recipes/monthly", "names no input"),
        (
            organization(recipes=(recipe(1, "a", v="recipe:b"), recipe(2, "b", v="recipe:a"))),
            "clean_water/recipes/a",
            "a → b → a",
        ),
        (
            organization(
                invalid=(
                    InvalidRow(
                        kind="source",
                        id=9,
                        slug="broken",
                        tables=("t",),
                        problems=(Problem(path="sources.broken.schedule", message="is no schedule."),),
                    ),
                )
            ),
            "clean_water/broken/t",
            "is no schedule",
        ),
    ],
)
def test_a_bad_row_is_a_visible_asset_that_fails_with_its_reason(bad, key, words) -> None:
    made = snapshot(bad)
    spec = specs(made)[key]
    assert "datasense/invalid" in spec.tags
    assert words in (spec.description or "")
    with pytest.raises(dg.Failure, match=words.partition(" →")[0]):
        dg.materialize(
            [node(made, key)], selection=[dg.AssetKey(key.split("/"))], instance=dg.DagsterInstance.ephemeral()
        )


def test_checks_are_asset_checks_of_their_tables_and_each_can_be_run_alone() -> None:
    repository = build(CHECKED).get_repository_def()
    dg.Definitions.validate_loadable(build(CHECKED))
    graph = repository.asset_graph
    keys = {f"{key.asset_key.to_user_string()}:{key.name}": key for key in graph.asset_check_keys}
    assert keys.keys() == {
        "_platform/catalog:graph_is_from_the_catalog",
        "_platform/catalog:nothing_fails",
        "clean_water/health_forms/visits:not_null_day",
        "clean_water/health_forms/visits:nice",
        "clean_water/health_forms/visits:check_3",
        "clean_water/recipes/monthly:row_count",
    }
    ours = [key for key in keys.values() if key.asset_key.path[0] != "_platform"]
    # The UI offers to run a check by itself where no other must run with it.
    assert {graph.get_execution_set_identifier(key) for key in ours} == {None}
    visits = node(CHECKED, "clean_water/health_forms/visits")
    assert {spec.name: spec.blocking for spec in visits.check_specs} == {
        "not_null_day": True,
        "nice": False,
        "check_3": True,
    }
    assert next(s.description for s in visits.check_specs if s.name == "not_null_day") == "No row has null in day."


def test_a_bad_row_leaves_the_others_alone() -> None:
    made = snapshot(organization(sources=(source(1), source(2, "fax-forms", connector="fax"))))
    assert "datasense/invalid" not in specs(made)["clean_water/health_forms/visits"].tags
    dg.Definitions.validate_loadable(build(made))


def test_a_graph_from_the_last_good_snapshot_has_a_failing_check_that_says_why() -> None:
    graph = build(snapshot(), stale_because="The database did not answer.")
    check = next(iter(graph.asset_checks or ()))
    result = dg.materialize(
        [check], selection=dg.AssetSelection.all_asset_checks(), instance=dg.DagsterInstance.ephemeral()
    )
    (evaluation,) = result.get_asset_check_evaluations()
    assert not evaluation.passed
    assert "The database did not answer." in (evaluation.description or "")


def test_a_sources_first_table_bears_its_promise_and_none_does_on_a_large_platform() -> None:
    def policies(made: Snapshot, **more: Any) -> dict[str, Any]:
        settings = Settings(freshness_policies=more.pop("up_to", 1000))
        found = build_definitions(made, settings, **more).resolve_all_asset_specs()
        return {spec.key.to_user_string(): spec.freshness_policy for spec in found if spec.freshness_policy}

    both = (source(1), source(2, "other-forms", fresh_within_seconds=3600))
    made = snapshot(organization(sources=both))
    found = policies(made)
    windows = {key: policy.fail_window.to_timedelta() for key, policy in found.items()}
    assert windows == {
        "clean_water/health_forms/visits": timedelta(days=2),
        "clean_water/other_forms/visits": timedelta(hours=1),
    }
    assert freshness_policy(timedelta(days=2)) is freshness_policy(timedelta(days=2))
    assert policies(made, up_to=1) == policies(made, scoped=True) == {}


def test_a_run_workers_graph_has_no_sensors() -> None:
    assert not build(snapshot(), scoped=True).sensors


def test_sensors_run_from_the_start_and_every_source_has_the_pool_of_its_connector() -> None:
    graph = build(snapshot())
    statuses = {sensor.default_status for sensor in graph.sensors or ()}
    assert statuses == {dg.DefaultSensorStatus.RUNNING}
    assert node(snapshot(), "clean_water/health_forms/visits").op.pool == "connector_kobo"
