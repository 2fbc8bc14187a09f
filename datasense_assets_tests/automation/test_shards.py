"""Organisations parted over several code locations: each is served by one, and a move between them loses nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import dagster as dg
import pytest
import yaml
from typer.testing import CliRunner

from datasense_assets.assets.graph import build_definitions
from datasense_assets.automation.due import build_due_sensor
from datasense_assets.catalog.sharding import shard_of
from datasense_assets.catalog.snapshot import SnapshotScope, read_snapshot
from datasense_assets.cli.main import app
from datasense_assets.running.graph_index import GraphIndex
from datasense_assets.running.loading import load_snapshot
from datasense_assets.settings import Settings, Shard, get_settings
from datasense_assets_tests.automation.test_due_order import add, catalog

__all__ = ["catalog"]
SLUGS = [f"org-{n}" for n in range(300)]


def test_an_organisation_that_comes_moves_no_other_and_a_shard_that_comes_takes_from_all_alike() -> None:
    before = {slug: shard_of(slug, 4) for slug in SLUGS}
    assert {slug: shard_of(slug, 4) for slug in [*SLUGS, "another"]}.items() >= before.items()
    after = {slug: shard_of(slug, 5) for slug in SLUGS}
    moved = [slug for slug in SLUGS if after[slug] != before[slug]]
    assert {after[slug] for slug in moved} == {4}
    assert {before[slug] for slug in moved} == {0, 1, 2, 3}
    assert 30 < len(moved) < 90
    sizes = [list(before.values()).count(index) for index in range(4)]
    assert min(sizes) > 50


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def ask(catalog: Any, instance: dg.DagsterInstance, count: int) -> list[dg.RunRequest]:
    """What the due sensors of all shards ask for, one after the other."""
    asked: list[dg.RunRequest] = []
    for index in range(count):
        shard = Shard(index=index, count=count)
        with catalog.connect() as connection:
            graph = GraphIndex.of(read_snapshot(connection, shard=shard), "content")
        sensor = build_due_sensor(graph, Settings(shard=shard, jitter_minutes=0))
        result = sensor(dg.build_sensor_context(instance=instance))
        asked += result.run_requests or ()  # type: ignore[union-attr]
    return asked


def test_a_move_between_shards_neither_doubles_nor_loses_a_slot(catalog: Any, instance: dg.DagsterInstance) -> None:
    for number in range(12):
        add(catalog, f"org-{number}", 1, late=5)
    first = ask(catalog, instance, 2)
    assert sorted(each.tags["datasense/org"] for each in first) == sorted(f"org_{n}" for n in range(12))
    # the daemon dies before it has made the last four runs
    for each in first[:8]:
        tags = {**each.tags, "dagster/run_key": str(each.run_key)}
        keys = frozenset(each.asset_selection or ())
        instance.add_run(dg.DagsterRun("__ASSET_JOB", tags=tags, asset_selection=keys))
    assert ask(catalog, instance, 3) == []
    with catalog.begin() as connection:
        connection.exec_driver_sql(
            "UPDATE datasense.source_status SET last_requested_at = now() - interval '2 minutes'"
        )
    again = ask(catalog, instance, 3)
    assert {each.run_key for each in again} == {each.run_key for each in first[8:]}


def test_a_run_that_was_queued_before_the_move_finds_its_source(catalog: Any) -> None:
    add(catalog, "org-1", 1)
    elsewhere = Shard(index=1 - shard_of("org-1", 2), count=2)
    settings = get_settings().model_copy(update={"shard": elsewhere})
    assert load_snapshot(settings, None).snapshot.organizations == ()
    scope = SnapshotScope(sources=frozenset({("org_1", "s_0")}))
    assert [org.slug for org in load_snapshot(settings, scope).snapshot.organizations] == ["org-1"]


def test_asset_keys_are_the_same_in_every_parting_and_no_key_is_in_two_locations(catalog: Any) -> None:
    for number in range(6):
        add(catalog, f"org-{number}", 1)
    parts: dict[int, list[dg.AssetKey]] = {}
    for count in (1, 2, 3):
        parts[count] = []
        for index in range(count):
            shard = Shard(index=index, count=count)
            with catalog.connect() as connection:
                graph = build_definitions(read_snapshot(connection, shard=shard), Settings(shard=shard))
            parts[count] += graph.get_repository_def().asset_graph.get_all_asset_keys()
        assert len(parts[count]) == len(set(parts[count]))
    of_orgs = [{key for key in keys if key.path[0] != "_platform"} for keys in parts.values()]
    assert of_orgs[0] == of_orgs[1] == of_orgs[2]


def test_the_workspace_of_several_locations_is_written_for_them(catalog: Any, tmp_path: Any) -> None:
    add(catalog, "org-1", 2)
    path = tmp_path / "workspace.yaml"
    done = CliRunner().invoke(app, ["workspace", "--shards", "3", "--host", "code-{i}", "-o", str(path)])
    assert done.exit_code == 0, done.stderr
    servers = [each["grpc_server"] for each in yaml.safe_load(path.read_text())["load_from"]]
    assert servers == [{"host": f"code-{i}", "port": 3030, "location_name": f"datasense-{i}"} for i in range(3)]
    line = next(line for line in done.stderr.splitlines() if f"DATASENSE_SHARD={shard_of('org-1', 3)}/3" in line)
    assert "1 organisations, 2 sources" in line
    here = CliRunner().invoke(app, ["workspace", "--shards", "1"])
    assert yaml.safe_load(here.stdout)["load_from"][0]["grpc_server"]["location_name"] == "datasense"
