"""helm-values.yaml: it fits the chart, and what it says is what dagster.yaml says."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import dagster as dg
import jsonschema
import pytest
import yaml
from dagster_k8s.models import k8s_model_from_dict, k8s_snake_case_dict
from kubernetes.client import ApiClient, V1Container
from kubernetes.config import ConfigException

from datasense_assets.running.coordinator import TaggingRunCoordinator
from datasense_assets.running.owners import catalog_engine
from datasense_assets.running.pods import pod_tags
from datasense_assets.settings import get_settings
from datasense_assets_tests.kubernetes import chart
from datasense_assets_tests.kubernetes.documents import check, manifests, of_kind

SCHEMA = chart.ROOT.parent / "shared" / "helm" / "values.schema.json"
SHARDS = "deploy/kubernetes/values-shards.yaml"


@pytest.fixture(scope="module")
def values() -> chart.Values:
    return chart.read_values()


@pytest.fixture(scope="module")
def laptop() -> chart.Values:
    found: chart.Values = yaml.safe_load((chart.ROOT / "dagster.yaml").read_text(encoding="utf-8"))
    return found


@pytest.fixture(scope="module")
def cluster(values: chart.Values) -> chart.Values:
    return chart.instance_config(values)


def test_the_cluster_has_the_limits_of_the_laptop(laptop: chart.Values, cluster: chart.Values) -> None:
    assert cluster["concurrency"] == laptop["concurrency"]


@pytest.mark.parametrize("part", ["run_retries", "sensors", "telemetry", "freshness", "nux", "python_logs"])
def test_the_cluster_has_the_rest_of_the_laptops_settings(
    laptop: chart.Values, cluster: chart.Values, part: str
) -> None:
    assert cluster[part] == laptop[part]


def test_runs_are_watched_alike_but_for_how_often_a_cluster_is_asked(
    laptop: chart.Values, cluster: chart.Values
) -> None:
    own = {"poll_interval_seconds", "max_resume_run_attempts"}
    assert {k: v for k, v in cluster["run_monitoring"].items() if k not in own} == {
        k: v for k, v in laptop["run_monitoring"].items() if k not in own
    }
    assert [each["run_monitoring"]["poll_interval_seconds"] for each in (laptop, cluster)] == [5, 15]
    assert cluster["run_monitoring"]["max_resume_run_attempts"] == 0
    kept = cluster["retention"]["sensor"]["purge_after_days"]
    assert laptop["retention"]["sensor"]["purge_after_days"].items() <= kept.items()


def test_everybody_looks_as_often_wherever_it_runs(values: chart.Values) -> None:
    # the one interval that Dagster has another default for, and no other
    services = yaml.safe_load((chart.ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
    platform = [each for each in services.values() if each["image"].startswith("datasense-assets:")]
    for service in platform:
        assert not [mount for mount in service["volumes"] if "dagster" in mount], "the image's dagster.yaml holds"
    given = [pair for service in platform for pair in service["environment"].items()]
    for part in (values["dagsterDaemon"], *values["dagster-user-deployments"]["deployments"]):
        given += [(each["name"], each["value"]) for each in part["env"]]
    for deployment in of_kind("Deployment"):
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        given += [(each["name"], each.get("value")) for each in container["env"]]
    assert "DAGSTER_HOME" not in dict(given)
    intervals = {(name, str(value)) for name, value in given if name.endswith("_INTERVAL_SECONDS")}
    assert intervals == {("FRESHNESS_DAEMON_INTERVAL_SECONDS", "300")}
    assert set(services["daemon"]["environment"]) & dict(intervals).keys(), "compose"
    assert {each["name"] for each in values["dagsterDaemon"]["env"]} & dict(intervals).keys(), "the chart"


def test_the_cluster_names_the_same_run_coordinator_and_sizes_of_pods_beside(
    laptop: chart.Values, cluster: chart.Values
) -> None:
    own = cluster["run_coordinator"]
    sizes = own["config"]["pods"]
    assert {**own, "config": {k: v for k, v in own["config"].items() if k != "pods"}} == laptop["run_coordinator"]
    given = dg.QueuedRunCoordinator.from_config_value(None, {})  # type: ignore[arg-type]
    assert TaggingRunCoordinator.from_config_value(None, {"pods": sizes})._pods == sizes
    assert not hasattr(given, "_pods")


def test_a_run_reads_the_limits_without_the_clusters_api(
    values: chart.Values, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = urlsplit(database_url)
    place = {"postgresqlHost": parts.hostname, "postgresqlUsername": parts.username, "service": {"port": parts.port}}
    own = {**values, "postgresql": {**values["postgresql"], **place, "postgresqlDatabase": parts.path.strip("/")}}
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump(chart.instance_config(own)), encoding="utf-8")
    monkeypatch.setenv(chart.PASSWORD_VARIABLE, unquote(parts.password or "none"))
    monkeypatch.setenv("DATASENSE_DATABASE_URL", database_url)
    get_settings.cache_clear()
    catalog_engine.cache_clear()
    try:
        with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
            assert instance.get_concurrency_config().run_queue_config.max_concurrent_runs == 8
            with pytest.raises(ConfigException):
                instance.run_launcher  # noqa: B018 - it asks for the cluster, and this is none
    finally:
        get_settings.cache_clear()
        catalog_engine.cache_clear()


def test_a_pods_size_is_that_of_its_source(cluster: chart.Values) -> None:
    sizes = cluster["run_coordinator"]["config"]["pods"]

    def memory(rows: int | None) -> str:
        (config,) = pod_tags(sizes, rows).values()
        return str(json.loads(config)["container_config"]["resources"]["limits"]["memory"])

    assert [memory(rows) for rows in (0, 200_000, 200_001, 2_000_000, 2_000_001, None)] == [
        "1Gi", "1Gi", "1536Mi", "1536Mi", "2Gi", "2Gi",
    ]  # fmt: skip
    assert pod_tags([{"above_rows": 10, "config": {}}], 10) == {}
    for size in sizes:
        assert size["config"]["pod_spec_config"]["automount_service_account_token"] is False


def test_a_cluster_reads_no_file_of_its_image_for_whoever_writes_a_sources_address(values: chart.Values) -> None:
    (deployment,) = values["dagster-user-deployments"]["deployments"]
    given = {each["name"]: each["value"] for each in deployment["env"]}
    assert Path(given["DATASENSE_FILES_ROOT"]).is_absolute()
    assert values["runLauncher"]["config"]["k8sRunLauncher"]["envVars"] == [f"{k}={v}" for k, v in given.items()]


def test_the_doctor_stands_before_the_daemon_with_what_the_daemon_has(values: chart.Values) -> None:
    daemon = values["dagsterDaemon"]
    (doctor,) = daemon["extraPrependedInitContainers"]
    model = k8s_model_from_dict(V1Container, k8s_snake_case_dict(V1Container, doctor))
    assert ApiClient().sanitize_for_serialization(model) == doctor
    assert doctor["args"] == ["datasense", "doctor", "--", "true"]
    assert doctor["image"] == chart.image_name(daemon["image"])
    assert [each["secretRef"] for each in doctor["envFrom"]] == daemon["envSecrets"]
    password = {"name": values["global"]["postgresqlSecretName"], "key": chart.PASSWORD_KEY}
    own = [each for each in daemon["env"] if not each["name"].endswith("_INTERVAL_SECONDS")]
    assert doctor["env"] == [*own, {"name": chart.PASSWORD_VARIABLE, "valueFrom": {"secretKeyRef": password}}]
    instance = doctor["volumeMounts"][-1]
    assert instance["subPath"] == "dagster.yaml"
    assert instance["mountPath"] == f"{values['global']['dagsterHome']}/dagster.yaml"
    assert doctor["volumeMounts"][:-1] == daemon["volumeMounts"]
    assert doctor["securityContext"] == daemon["securityContext"]


def test_one_image_of_this_version_serves_everything(values: chart.Values) -> None:
    images = [values[part]["image"] for part in ("dagsterDaemon", "dagsterWebserver")]
    for each in (values, chart.read_values(SHARDS)):
        images += [deployment["image"] for deployment in each["dagster-user-deployments"]["deployments"]]
    assert {chart.image_name(image) for image in images} == {f"datasense-assets:{version('datasense-assets')}"}


def test_shards_are_all_of_the_organisations_and_differ_in_nothing_else(values: chart.Values) -> None:
    (alone,) = values["dagster-user-deployments"]["deployments"]
    shards = chart.read_values(SHARDS)["dagster-user-deployments"]["deployments"]
    seen = []
    for number, shard in enumerate(shards):
        own = {each["name"]: each["value"] for each in shard["env"]}
        seen.append(own.pop("DATASENSE_SHARD"))
        assert [{"name": k, "value": v} for k, v in own.items()] == alone["env"]
        assert {**shard, "name": alone["name"], "env": alone["env"]} == alone
        assert shard["name"] == f"datasense-{number}"
    assert seen == [f"{number}/{len(shards)}" for number in range(len(shards))]


def test_priority_classes_that_are_named_are_there(values: chart.Values, cluster: chart.Values) -> None:
    named = {values["runLauncher"]["config"]["k8sRunLauncher"]["runK8sConfig"]["podSpecConfig"]["priorityClassName"]}
    for size in cluster["run_coordinator"]["config"]["pods"]:
        named |= {size["config"]["pod_spec_config"].get("priority_class_name")} - {None}
    assert named <= {each["metadata"]["name"] for each in of_kind("PriorityClass")}


@pytest.mark.parametrize("document", manifests(), ids=lambda each: f"{each['kind']}-{each['metadata']['name']}")
def test_a_manifest_is_what_the_api_takes(document: dict[str, Any]) -> None:
    check(document)


def _without_required(node: Any) -> Any:
    """The schema for a file of overrides: what it leaves out, the chart's own values give."""
    if isinstance(node, dict):
        return {k: _without_required(v) for k, v in node.items() if not (k == "required" and isinstance(v, list))}
    return [_without_required(each) for each in node] if isinstance(node, list) else node


@pytest.mark.skipif(not SCHEMA.is_file(), reason="the chart's schema is not on this machine")
@pytest.mark.parametrize("over", [(), (SHARDS,)])
def test_the_values_fit_the_charts_schema(over: tuple[str, ...]) -> None:
    jsonschema.validate(chart.read_values(*over), _without_required(json.loads(SCHEMA.read_text(encoding="utf-8"))))


CHART = os.environ.get("DAGSTER_HELM_CHART", "")


@pytest.mark.skipif(
    not (CHART and shutil.which("helm")), reason="no helm, or no chart named by DAGSTER_HELM_CHART (docs/deploying.md)"
)
def test_the_chart_makes_of_the_values_what_the_other_tests_take_it_to_make(cluster: chart.Values) -> None:
    words = [
        "helm",
        "template",
        chart.RELEASE,
        CHART,
        "-n",
        chart.NAMESPACE,
        "-f",
        str(chart.ROOT / "helm-values.yaml"),
    ]
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60)
    made = [each for each in yaml.safe_load_all(done.stdout) if each]
    (instance,) = (each for each in made if each["kind"] == "ConfigMap" and each["metadata"]["name"] == chart.INSTANCE)
    rendered = yaml.safe_load(instance["data"]["dagster.yaml"])
    for part in (
        "concurrency",
        "run_coordinator",
        "run_monitoring",
        "run_retries",
        "sensors",
        "freshness",
        "python_logs",
    ):
        assert rendered[part] == cluster[part], part
    (daemon,) = (each for each in made if each["kind"] == "Deployment" and each["metadata"]["name"].endswith("-daemon"))
    pod = daemon["spec"]["template"]["spec"]
    (doctor,) = (each for each in pod["initContainers"] if each["name"] == "doctor")
    assert {mount["name"] for mount in doctor["volumeMounts"]} <= {volume["name"] for volume in pod["volumes"]}
    theirs, ours = rendered["run_launcher"]["config"], cluster["run_launcher"]["config"]
    assert {key: theirs.get(key) for key in ours} == ours
    servers = [
        each for each in made if each["kind"] == "Deployment" and each["metadata"]["name"].endswith("-datasense")
    ]
    (container,) = servers[0]["spec"]["template"]["spec"]["containers"]
    words_of_server, variables = chart.code_server(chart.read_values())
    assert container["args"] == list(words_of_server)
    given = {each["name"]: each.get("value") for each in container["env"]}
    assert json.loads(given["DAGSTER_CONTAINER_CONTEXT"]) == json.loads(variables["DAGSTER_CONTAINER_CONTEXT"])
