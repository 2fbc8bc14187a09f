"""A platform as the chart runs it: code server, daemon, and a pod a run on the stand-in cluster; no webserver."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import dagster as dg
import pytest
import yaml

from datasense_assets.cli.metrics import open_lasting_instance
from datasense_assets.running.owners import catalog_engine
from datasense_assets.settings import get_settings
from datasense_assets_tests.conftest import fresh_database
from datasense_assets_tests.kubernetes import chart
from datasense_assets_tests.places import free_port
from datasense_assets_tests.platform.running import HASTE, ROOT, Platform, hear_sigint, until
from datasense_assets_tests.stand_ins.kubernetes import Cluster, serve
from examples.kobo_faults import Fault
from examples.kobo_stand_in import serve as serve_kobo
from examples.make_submissions import demo_accounts

SOURCES = ("killed", "cancelled", "unpullable")
TOKEN = "token-of-the-cluster-tests"
ENDED = ("SUCCESS", "FAILURE", "CANCELED")


class Gate:
    """Where the source's server holds so many requests for rows: each of another run, until the test is over."""

    def __init__(self, runs: int) -> None:
        self.fault = Fault(status=None, path="/data", times=runs, act=self._hold)
        self._arrived, self._opened, self._runs = threading.Semaphore(0), threading.Event(), runs

    def _hold(self) -> None:
        self._arrived.release()
        self._opened.wait(600)

    def wait(self) -> None:
        """Until all runs are held."""
        for _ in range(self._runs):
            assert self._arrived.acquire(timeout=180), "a run does not come to its source"

    def open(self) -> None:
        self._opened.set()


@dataclass
class World:
    platform: Platform
    instance: dg.DagsterInstance
    cluster: Cluster
    kobo: Any
    image: str

    def runs(self, source: str) -> list[dg.DagsterRun]:
        """Oldest first."""
        found = self.instance.get_runs(dg.RunsFilter(tags={"datasense/source": source}))
        return list(reversed(list(found)))

    def first(self, source: str) -> dg.DagsterRun:
        return until(f"there is a run of {source}", lambda: self.runs(source), seconds=60)[0]

    def ended(self, run_id: str, *, seconds: float = 120.0) -> str:
        def status() -> str | None:
            run = self.instance.get_run_by_id(run_id)
            return run.status.value if run is not None and run.status.value in ENDED else None

        return str(until(f"run {run_id} has ended", status, seconds=seconds))

    def said(self, run_id: str) -> str:
        return "\n".join(entry.message for entry in self.instance.all_logs(run_id))


def _values(home: Path, url: str) -> chart.Values:
    """helm-values.yaml, with the places of this machine and the haste of a test."""
    values, parts = chart.read_values(), urlsplit(url)
    values["global"]["dagsterHome"] = str(home)
    values["postgresql"].update(
        postgresqlHost=parts.hostname,
        postgresqlUsername=unquote(parts.username or "postgres"),
        postgresqlDatabase=parts.path.strip("/"),
        service={"port": parts.port or 5432},
    )
    launcher = values["runLauncher"]["config"]["k8sRunLauncher"]
    # in the folder where daemon and test work, and no pod: a run that opened the cluster's API for itself would fail
    launcher.update(loadInclusterConfig=False, kubeconfigFile="kubeconfig")
    monitoring = values["dagsterDaemon"]["runMonitoring"]
    monitoring.update(pollIntervalSeconds=2)
    values["dagsterDaemon"]["runCoordinator"]["config"]["customRunCoordinator"]["config"][
        "dequeue_interval_seconds"
    ] = 1
    (deployment,) = values["dagster-user-deployments"]["deployments"]
    deployment["port"] = free_port()
    moved = {"DATASENSE_HOME": str(home / "state")}
    deployment["env"] = [{**each, "value": moved.get(each["name"], each["value"])} for each in deployment["env"]]
    launcher["envVars"] = [f"{each['name']}={each['value']}" for each in deployment["env"]]
    return values


@contextmanager
def _process(name: str, words: list[str], home: Path, environment: dict[str, str]) -> Iterator[None]:
    with (home / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            words,
            cwd=home,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=hear_sigint,
        )
    try:
        yield
        assert process.poll() is None, (home / f"{name}.log").read_text()[-6000:]
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _manifest(address: str, form: str) -> str:
    source = {
        "connector": "kobo",
        "config": {"base_url": address},
        "credentials": {"token": {"env": "CLUSTER_KOBO_TOKEN"}},
        "tables": [{"slug": "visits", "resource": form}],
        "schedule": "manual",
        "partitions": {"start": date.today().isoformat()},
    }
    sources = [{"slug": slug, **source} for slug in SOURCES]
    return yaml.safe_dump({"version": 1, "organization": {"slug": "pods", "name": "Pods"}, "sources": sources})


@pytest.fixture(scope="module")
def world(server_url: str, platform_template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    home = tmp_path_factory.mktemp("cluster")
    accounts, _ = demo_accounts(date.today())
    with ExitStack() as stack:
        url = stack.enter_context(fresh_database(server_url, "cluster", template=platform_template))
        kobo = stack.enter_context(serve_kobo(accounts.forms, token=TOKEN))
        cluster = stack.enter_context(serve(home))
        values = _values(home, url)
        image = chart.image_name(values["dagsterWebserver"]["image"])
        _fill(cluster, values, url, image)
        cluster.write_kubeconfig(home / "kubeconfig")
        variables = {
            **cluster.store.secrets["datasense"],
            "DAGSTER_HOME": str(home),
            chart.PASSWORD_VARIABLE: unquote(urlsplit(url).password or "none"),
        }
        platform = Platform(home=home / "state", database_url=url, variables=variables)
        (home / "dagster.yaml").write_text(yaml.safe_dump(chart.instance_config(values)), encoding="utf-8")
        (home / "pods.yaml").write_text(_manifest(kobo.url, accounts.forms[0].uid), encoding="utf-8")
        (home / "state").mkdir()
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        for name, value in platform.environment.items():
            if name.startswith(("DATASENSE_", "DAGSTER_", "CLUSTER_")):
                patch.setenv(name, value)
        stack.callback(get_settings.cache_clear)
        stack.callback(catalog_engine.cache_clear)
        stack.callback(open_lasting_instance.cache_clear)
        patch.chdir(home)
        get_settings.cache_clear()
        catalog_engine.cache_clear()
        command("apply", "--no-discover", str(home / "pods.yaml"))
        # before the daemon's container its init containers, of which one is ours
        (doctor,) = values["dagsterDaemon"]["extraPrependedInitContainers"]
        assert doctor["args"][:3] == ["datasense", "doctor", "--"]
        command("doctor")
        _start(stack, values, platform, home)
        instance = stack.enter_context(dg.DagsterInstance.from_config(str(home)))
        yield World(platform, instance, cluster, kobo, image)


def command(*words: str) -> None:
    """A command line, in this process: a process of its own takes longer than all it does."""
    from datasense_assets.cli.main import app

    assert app(list(words), standalone_mode=False) == 0, words


def _fill(cluster: Cluster, values: chart.Values, url: str, image: str) -> None:
    """The secrets and config maps that helm-values.yaml asks for, and the image with its own environment."""
    store = cluster.store
    store.images.add(image)
    store.secrets["datasense"] = {
        "DATASENSE_DATABASE_URL": url,
        "DATASENSE_ALLOW_PRIVATE_ADDRESSES": "true",
        "CLUSTER_KOBO_TOKEN": TOKEN,
        # runs are held for as long as a test takes, which on a busy machine is more than a server may be silent for
        "DATASENSE_HTTP_TIMEOUT": "600",
    }
    password = unquote(urlsplit(url).password or "none")
    store.secrets[values["global"]["postgresqlSecretName"]] = {chart.PASSWORD_KEY: password}
    (deployment,) = values["dagster-user-deployments"]["deployments"]
    store.config_maps |= {chart.INSTANCE: {}, chart.user_config_map(deployment): {}}
    # what a pod logs at INFO is what it says of its graph
    site = cluster.folder / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(
        "import logging\nlogging.basicConfig(level=logging.INFO)\n", encoding="utf-8"
    )
    store.environment = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}/usr/bin{os.pathsep}/bin",
        "HOME": str(site),
        "PYTHONPATH": f"{site}{os.pathsep}{ROOT}",
    }


def _start(stack: ExitStack, values: chart.Values, platform: Platform, home: Path) -> None:
    words, variables = chart.code_server(values)
    (deployment,) = values["dagster-user-deployments"]["deployments"]
    environment = {**platform.environment, "PYTHONPATH": str(ROOT)}
    stack.enter_context(_process("code-server", list(words), home, {**environment, **variables}))
    server = {"host": "127.0.0.1", "port": deployment["port"], "location_name": deployment["name"]}
    (home / "workspace.yaml").write_text(yaml.safe_dump({"load_from": [{"grpc_server": server}]}), encoding="utf-8")
    # a daemon that finds no code server looks again only after a minute
    until("the code server answers", lambda: _listens(deployment["port"]), seconds=90)
    daemon = ["dagster-daemon", "run", "-w", str(home / "workspace.yaml")]
    hasty = {**environment, "PYTHONPATH": f"{HASTE}{os.pathsep}{ROOT}"}
    stack.enter_context(_process("daemon", daemon, home, hasty))


def _listens(port: int) -> bool:
    import socket

    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
