"""What a worker builds of a catalog of 5,000 sources and 5,000 recipes, counted in the worker itself.

Each worker is started as its launcher starts it. A `sitecustomize` on its path looks, as the interpreter ends, at the
asset definitions that it holds.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from datasense_assets_tests.conftest import fresh_database
from datasense_assets_tests.platform.running import LAUNCH, ROOT, Platform, key, until

pytestmark = [pytest.mark.xdist_group("scoped"), pytest.mark.timeout(600)]

WELLS, RECIPE = "clean_water/wells/wells", "clean_water/recipes/deep"
COUNT = """
import atexit, gc, json, os, sys
def count():
    dagster = sys.modules.get("dagster")
    if not hasattr(dagster, "AssetsDefinition"):
        return
    held = [o for o in gc.get_objects() if isinstance(o, dagster.AssetsDefinition)]
    said = {
        "made": sorted({k.to_user_string() for o in held if o.is_executable for k in o.keys}),
        "checks": sorted({k.name for o in held for k in o.check_keys}),
    }
    path = os.path.join(os.environ["COUNT_FOLDER"], str(os.getpid()))
    with open(path, "w") as file:
        json.dump(said, file)
    os.rename(path, path + ".json")  # whole, for whoever looks meanwhile
atexit.register(count)
"""
MANY = """
INSERT INTO datasense.organizations (slug, name) SELECT 'many-' || n, 'Many' FROM generate_series(1, 100) n;
INSERT INTO datasense.sources (org_id, slug, connector, config, schedule)
    SELECT o.id, 'forms-' || n, 'kobo', '{"base_url": "https://kf.kobotoolbox.org"}', '"manual"'
    FROM datasense.organizations o, generate_series(1, 50) n WHERE o.slug LIKE 'many-%';
INSERT INTO datasense.source_tables (source_id, slug, resource)
    SELECT id, 'visits', 'a' || id FROM datasense.sources WHERE slug LIKE 'forms-%';
INSERT INTO datasense.recipes (org_id, name, spec)
    SELECT s.org_id, 'monthly_' || s.id,
        json_build_object('inputs', json_build_object('v', 'source:' || s.slug || '.visits'))
    FROM datasense.sources s WHERE s.slug LIKE 'forms-%';
"""


@dataclass
class World:
    """The platform, and what each of its processes held when it ended."""

    platform: Platform
    counts: Path

    def counted(self) -> list[dict[str, Any]]:
        return [json.loads(each.read_text()) for each in self.counts.glob("*.json")]

    def holds(self, *assets: str) -> bool:
        """Whether a process that has ended had exactly these assets to make, for whatever it was started."""
        return sorted(assets) in [each["made"] for each in self.counted()]

    def forget(self) -> None:
        for each in self.counts.glob("*.json"):
            each.unlink()

    def launch(self, checks: list[dict[str, Any]] | None = None, *assets: str) -> str:
        """Start a run by the default launcher, as the UI does; its id."""
        params = {
            "selector": {
                "repositoryLocationName": "datasense",
                "repositoryName": "__repository__",
                "pipelineName": "__ASSET_JOB",
                "assetSelection": [key(path) for path in assets],
                "assetCheckSelection": checks or [],
            },
            "executionMetadata": {"tags": []},
            "runConfigData": {},
            "mode": "default",
        }
        made = self.platform.graphql(LAUNCH, params=params)["launchPipelineExecution"]
        assert made["__typename"] == "LaunchRunSuccess", made
        return str(made["run"]["runId"])

    def ended(self, run_id: str) -> str:
        query = "SELECT status FROM runs WHERE run_id = %s AND status IN ('SUCCESS', 'FAILURE')"
        return str(until(f"run {run_id} ends", lambda: self.platform.rows(query, run_id), seconds=120)[0][0])


@pytest.fixture(scope="module")
def world(server_url: str, platform_template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    home, files = tmp_path_factory.mktemp("scoped"), tmp_path_factory.mktemp("files")
    counts, path, dagster_home = home / "counts", home / "path", home / "dagster"
    for each in (counts, path, dagster_home):
        each.mkdir()
    (path / "sitecustomize.py").write_text(COUNT)
    # the default launcher and no queue, which would need a daemon
    instance = yaml.safe_load((ROOT / "dagster.yaml").read_text())
    instance = {name: instance[name] for name in ("storage", "compute_logs", "telemetry")}
    instance["run_coordinator"] = {"module": "dagster._core.run_coordinator", "class": "DefaultRunCoordinator"}
    (dagster_home / "dagster.yaml").write_text(yaml.safe_dump(instance))
    with fresh_database(server_url, "scoped", template=platform_template) as url:
        variables = {"COUNT_FOLDER": str(counts), "PYTHONPATH": str(path), "DAGSTER_HOME": str(dagster_home)}
        made = World(Platform(home, url, variables), counts)
        (files / "wells.csv").write_text("code,depth\n1,10\n2,60\n", encoding="utf-8")
        recipe = {
            "version": 1,
            "name": "deep",
            "inputs": {"wells": "source:wells.wells"},
            "steps": [{"op": "filter", "where": {"column": "depth", "operator": ">=", "value": 40}}],
        }
        manifest = {
            "version": 1,
            "organization": {"slug": "clean-water", "name": "Clean Water"},
            "sources": [
                {
                    "slug": "wells",
                    "connector": "csv",
                    "config": {"url": str(files / "wells.csv")},
                    "schedule": "manual",
                }
            ],
            "recipes": [recipe],
        }
        (home / "manifest.yaml").write_text(yaml.safe_dump(manifest))
        made.platform.datasense("apply", str(home / "manifest.yaml"))
        made.platform.datasense("sync", "clean-water/wells", "--local")
        made.platform.execute(MANY)
        # a webserver with its code server, and no daemon
        with made.platform.dagster_dev("-m", "dagster_webserver", seconds=300):
            yield made


def test_the_command_line_builds_its_source_alone(world: World) -> None:
    world.forget()
    world.platform.process("sync", "clean-water/wells", "--local")
    assert world.counted() == [{"made": [WELLS], "checks": []}]
    world.forget()
    world.platform.process("build", "clean-water/deep", "--local")
    assert world.counted() == [{"made": [RECIPE], "checks": []}]


def test_a_worker_of_the_default_launcher_builds_its_run_alone(world: World) -> None:
    world.forget()
    assert world.ended(world.launch(None, RECIPE)) == "SUCCESS"
    until("the worker has ended", lambda: world.holds(RECIPE), seconds=30)
    world.forget()
    check = {"assetKey": {"path": ["_platform", "catalog"]}, "name": "nothing_fails"}
    assert world.ended(world.launch([check])) == "SUCCESS"
    until("the worker has ended", lambda: world.counted() and world.holds(), seconds=30)
    (worker,) = [each for each in world.counted() if not each["made"]]
    assert worker["checks"] == ["graph_is_from_the_catalog", "nothing_fails"]


def test_a_run_pod_builds_its_run_alone(world: World) -> None:
    """`dagster api execute_run`, with the arguments of the run that the launcher of Kubernetes gives it."""
    world.forget()
    run_id = world.launch(None, WELLS)
    assert world.ended(run_id) == "SUCCESS"
    until("the worker of the default launcher has ended", lambda: world.holds(WELLS), seconds=60)
    world.forget()
    world.platform.execute("UPDATE runs SET status = 'STARTING' WHERE run_id = %s", run_id)
    program = """
import sys, dagster as dg
from dagster._core.execution.api import ReexecutionOptions
from dagster._grpc.types import ExecuteRunArgs
from dagster_shared.serdes import serialize_value
with dg.DagsterInstance.get() as instance:
    run = instance.get_run_by_id(sys.argv[1])
    print(serialize_value(ExecuteRunArgs(run.job_code_origin, run.run_id, instance.get_ref())))
"""
    arguments = subprocess.run(
        [sys.executable, "-c", program, run_id],
        cwd=ROOT,
        env={**world.platform.environment, "PYTHONPATH": ""},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    world.platform.command(sys.executable, "-m", "dagster", "api", "execute_run", arguments)
    assert world.counted() == [{"made": [WELLS], "checks": []}]


def test_a_recipes_input_is_there_as_a_bare_spec(world: World) -> None:
    assert os.environ.get("COUNT_FOLDER") is None
    from datasense_assets.assets.graph import build_definitions
    from datasense_assets.catalog.snapshot import SnapshotScope, read_snapshot
    from datasense_assets.settings import Settings
    from datasense_assets.warehouse.database import engine

    scope = SnapshotScope(recipes=frozenset({("clean_water", "deep")}))
    catalog = engine(world.platform.database_url)
    with catalog.connect() as connection:
        snapshot = read_snapshot(connection, scope=scope)
    catalog.dispose()
    graph = build_definitions(snapshot, Settings(), scoped=True).get_repository_def().asset_graph
    assert {k.to_user_string() for k in graph.get_all_asset_keys()} == {RECIPE, WELLS}
    assert {k.to_user_string() for k in graph.executable_asset_keys} == {RECIPE}
    assert dg.AssetKey(WELLS.split("/")) in graph.external_asset_keys
