"""What Dagster's Helm chart makes of helm-values.yaml: the instance's dagster.yaml, and the code server's container.

The chart itself is no package of a registry, so that a test cannot have it; test_helm_values.py renders the real one
where a developer has it, and compares.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
Values = dict[str, Any]
RELEASE, NAMESPACE = "datasense", "datasense"
INSTANCE = f"{RELEASE}-dagster-instance"
PASSWORD_VARIABLE, PASSWORD_KEY = "DAGSTER_PG_PASSWORD", "postgresql-password"


def read_values(*names: str) -> Values:
    """helm-values.yaml, and over it further files as `helm -f` takes them: maps are merged, lists replaced."""
    merged: Values = {}
    for name in ("helm-values.yaml", *names):
        merged = _merge(merged, yaml.safe_load((ROOT / name).read_text(encoding="utf-8")))
    return merged


def _merge(base: Values, over: Values) -> Values:
    both = dict(base)
    for key, value in over.items():
        old = both.get(key)
        both[key] = _merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return both


def image_name(image: Mapping[str, Any]) -> str:
    return f"{image['repository']}:{image['tag']}"


def instance_config(values: Values) -> Values:
    """The dagster.yaml of the config map that every pod mounts."""
    daemon, concurrency = values["dagsterDaemon"], values["concurrency"]
    monitoring, retries, sensors = daemon["runMonitoring"], daemon["runRetries"], daemon["sensors"]
    storage = {"postgres_db": _postgres(values["postgresql"])}
    runs, pools = concurrency["runs"], concurrency["pools"]
    return {
        "scheduler": {"module": "dagster.core.scheduler", "class": "DagsterDaemonScheduler"},
        "schedule_storage": _class("dagster_postgres.schedule_storage", "PostgresScheduleStorage", storage),
        "run_storage": _class("dagster_postgres.run_storage", "PostgresRunStorage", storage),
        "event_log_storage": _class("dagster_postgres.event_log", "PostgresEventLogStorage", storage),
        "run_launcher": _class("dagster_k8s", "K8sRunLauncher", _launcher(values)),
        "run_coordinator": dict(daemon["runCoordinator"]["config"]["customRunCoordinator"]),
        "compute_logs": {"module": "dagster.core.storage.noop_compute_log_manager", "class": "NoOpComputeLogManager"},
        "run_monitoring": {
            "enabled": monitoring["enabled"],
            "start_timeout_seconds": monitoring["startTimeoutSeconds"],
            "cancel_timeout_seconds": monitoring["cancelTimeoutSeconds"],
            "max_resume_run_attempts": monitoring["maxResumeRunAttempts"],
            "poll_interval_seconds": monitoring["pollIntervalSeconds"],
            "free_slots_after_run_end_seconds": monitoring["freeSlotsAfterRunEndSeconds"],
        },
        "run_retries": {
            "enabled": retries["enabled"],
            "max_retries": retries["maxRetries"],
            "retry_on_asset_or_op_failure": retries["retryOnAssetOrOpFailure"],
        },
        "sensors": {
            "use_threads": sensors["useThreads"],
            "num_workers": sensors["numWorkers"],
            "num_submit_workers": sensors["numSubmitWorkers"],
        },
        "concurrency": {
            "runs": {
                "max_concurrent_runs": runs["maxConcurrentRuns"],
                "tag_concurrency_limits": runs["tagConcurrencyLimits"],
            },
            "pools": {"default_limit": pools["defaultLimit"], "granularity": pools["granularity"]},
        },
        "telemetry": values["telemetry"],
        "python_logs": {"managed_python_loggers": values["pythonLogs"]["managedPythonLoggers"]},
        "retention": {
            kind: {"purge_after_days": values["retention"][kind]["purgeAfterDays"]} for kind in ("schedule", "sensor")
        },
        **values["additionalInstanceConfig"],
    }


def _class(module: str, name: str, config: Values) -> Values:
    return {"module": module, "class": name, "config": config}


def _postgres(values: Values) -> Values:
    return {
        "username": values["postgresqlUsername"],
        "password": {"env": PASSWORD_VARIABLE},
        "hostname": values["postgresqlHost"],
        "db_name": values["postgresqlDatabase"],
        "port": values["service"]["port"],
        "params": values.get("postgresqlParams", {}),
        "scheme": values["postgresqlScheme"],
    }


def _launcher(values: Values) -> Values:
    given = values["runLauncher"]["config"]["k8sRunLauncher"]
    snake = {
        "jobSpecConfig": "job_spec_config",
        "podSpecConfig": "pod_spec_config",
        "containerConfig": "container_config",
    }
    kubeconfig = {"kubeconfig_file": given["kubeconfigFile"]} if "kubeconfigFile" in given else {}
    return {
        "load_incluster_config": given["loadInclusterConfig"],
        **kubeconfig,
        "job_namespace": NAMESPACE,
        "image_pull_policy": given["imagePullPolicy"],
        "service_account_name": values["global"]["serviceAccountName"],
        "dagster_home": values["global"]["dagsterHome"],
        "instance_config_map": INSTANCE,
        "postgres_password_secret": values["global"]["postgresqlSecretName"],
        **({"env_config_maps": [each["name"] for each in given["envConfigMaps"]]} if given["envConfigMaps"] else {}),
        "env_secrets": [each["name"] for each in given["envSecrets"]],
        "env_vars": given["envVars"],
        "security_context": given["securityContext"],
        "run_k8s_config": {snake[key]: value for key, value in given["runK8sConfig"].items()},
    }


def user_config_map(deployment: Mapping[str, Any]) -> str:
    return f"{RELEASE}-dagster-user-deployments-{deployment['name']}-user-env"


def code_server(values: Values, number: int = 0) -> tuple[Sequence[str], dict[str, str]]:
    """Command line of a code server's container, and the variables that the chart sets in it, secrets apart."""
    given = values["dagster-user-deployments"]["deployments"][number]
    context = {
        "k8s": {
            "image_pull_policy": given["image"]["pullPolicy"],
            "env_config_maps": [user_config_map(given)],
            "env_secrets": [each["name"] for each in given["envSecrets"]],
            "volume_mounts": given["volumeMounts"],
            "volumes": given["volumes"],
            "resources": given["resources"],
            "namespace": NAMESPACE,
            "service_account_name": values["global"]["serviceAccountName"],
            "env": given["env"],
            "run_k8s_config": {"pod_spec_config": {"automount_service_account_token": True}},
        }
    }
    words = ["dagster", "code-server", "start", "-h", "0.0.0.0", "-p", str(given["port"])]
    variables = {each["name"]: each["value"] for each in given["env"]}
    if given["includeConfigInLaunchedRuns"]["enabled"]:
        variables["DAGSTER_CONTAINER_CONTEXT"] = json.dumps(context)
    return [*words, *given["codeServerArgs"]], {
        **variables,
        "DAGSTER_CURRENT_IMAGE": image_name(given["image"]),
        "DAGSTER_HOME": values["global"]["dagsterHome"],
    }
