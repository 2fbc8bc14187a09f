"""The instance of a laptop and the one of a cluster: both load, and say the same limits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import dagster as dg
import jsonschema
import pytest
import yaml

from datasense_assets.running.coordinator import TaggingRunCoordinator
from datasense_assets.running.instance import open_instance
from datasense_assets.settings import get_settings

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = ROOT.parent / "shared" / "helm" / "values.schema.json"


def read(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))
    return found


def test_the_cluster_has_the_limits_of_the_laptop() -> None:
    laptop, cluster = read("dagster.yaml")["concurrency"], read("helm-values.yaml")["concurrency"]
    assert cluster["runs"]["maxConcurrentRuns"] == laptop["runs"]["max_concurrent_runs"]
    assert cluster["runs"]["tagConcurrencyLimits"] == laptop["runs"]["tag_concurrency_limits"]
    assert cluster["pools"] == {
        "defaultLimit": laptop["pools"]["default_limit"],
        "granularity": laptop["pools"]["granularity"],
    }


def test_the_cluster_names_the_same_run_coordinator() -> None:
    laptop = read("dagster.yaml")["run_coordinator"]
    cluster = read("helm-values.yaml")["dagsterDaemon"]["runCoordinator"]["config"]["customRunCoordinator"]
    assert cluster == laptop


def test_a_cluster_reads_no_file_of_its_image_for_whoever_writes_a_sources_address() -> None:
    values = read("helm-values.yaml")
    (deployment,) = values["dagster-user-deployments"]["deployments"]
    root = {each["name"]: each["value"] for each in deployment["env"]}["DATASENSE_FILES_ROOT"]
    assert Path(root).is_absolute()
    assert values["runLauncher"]["config"]["k8sRunLauncher"]["envVars"] == [f"DATASENSE_FILES_ROOT={root}"]


def _without_required(node: Any) -> Any:
    """The schema for a file of overrides: what it leaves out, the chart's own values give."""
    if isinstance(node, dict):
        return {k: _without_required(v) for k, v in node.items() if not (k == "required" and isinstance(v, list))}
    return [_without_required(each) for each in node] if isinstance(node, list) else node


@pytest.mark.skipif(not SCHEMA.is_file(), reason="the chart's schema is not on this machine")
def test_the_values_fit_the_charts_schema() -> None:
    jsonschema.validate(read("helm-values.yaml"), _without_required(json.loads(SCHEMA.read_text(encoding="utf-8"))))


def test_the_instance_of_dagster_yaml_opens_with_our_storage_and_coordinator(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATASENSE_DATABASE_URL", database_url)
    monkeypatch.setenv("DATASENSE_HOME", str(tmp_path))
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    get_settings.cache_clear()
    try:
        with open_instance() as instance:
            assert isinstance(instance.run_coordinator, TaggingRunCoordinator)
            assert instance.get_runs() == []
            assert instance.get_settings("telemetry") == {"enabled": False}
            assert isinstance(instance, dg.DagsterInstance)
    finally:
        get_settings.cache_clear()
