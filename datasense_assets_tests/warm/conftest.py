"""A real Redis, real workers and a real daemon, webserver and code server, shared by the tests of a module."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
import psutil
import pytest
import redis
import yaml

from datasense_assets.running.owners import catalog_engine
from datasense_assets.settings import get_settings
from datasense_assets_tests.conftest import fresh_database
from datasense_assets_tests.places import free_port
from datasense_assets_tests.platform.running import ROOT, Graphql, Platform, until
from datasense_assets_tests.warm.gates import Gates, serve_gates


def redis_program() -> str:
    """Path of redis-server; a test without one is skipped, and fails in CI."""
    found = shutil.which("redis-server")
    if found is None:
        if os.environ.get("CI") == "true":
            pytest.fail("redis-server is not installed, and CI has to have it (.ci/run installs it)")
        pytest.skip("redis-server is not installed")
    return found


@dataclass
class RedisServer:
    """A Redis of the test's own; `restart` loses its data where it keeps none."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def client(self) -> redis.Redis:
        return redis.Redis.from_url(self.url, decode_responses=True)

    def start(self) -> None:
        words = [redis_program(), "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)]
        words += ["--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction"]
        self.process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until("Redis answers", self._answers, seconds=20)

    def stop(self) -> None:
        assert self.process is not None
        self.process.terminate()
        self.process.wait(timeout=20)

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.RedisError:
            return False


@contextmanager
def redis_server(folder: Path) -> Iterator[RedisServer]:
    made = RedisServer(folder, free_port())
    made.start()
    try:
        yield made
    finally:
        made.stop()


@dataclass
class Worker:
    """A worker process and its children."""

    process: subprocess.Popen[bytes]
    log: Path

    def children(self) -> list[psutil.Process]:
        with suppress(psutil.NoSuchProcess):
            return psutil.Process(self.process.pid).children()
        return []

    def stop(self, number: int = signal.SIGTERM, *, seconds: float = 60.0) -> int:
        self.process.send_signal(number)
        return self.process.wait(timeout=seconds)


@dataclass
class Warm:
    """The running platform."""

    platform: Platform
    ui: Graphql
    instance: dg.DagsterInstance
    redis: RedisServer
    gates: Gates
    workers: list[Worker] = field(default_factory=list)

    def worker(self, *lanes: str, module: str = "datasense_assets.cli.main", **options: Any) -> Worker:
        """Start a worker, and wait until the queue may count on it."""
        name = f"test-{os.urandom(4).hex()}"
        words = [sys.executable, "-m", module, "worker", "--name", name]
        for lane in lanes:
            words += ["--lane", lane]
        for option, value in options.items():
            words += [f"--{option.replace('_', '-')}", str(value)]
        log = self.platform.home / f"worker-{len(self.workers)}.log"
        with log.open("w") as out:
            process = subprocess.Popen(
                words,
                cwd=ROOT,
                env=self.platform.environment,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        made = Worker(process, log)
        self.workers.append(made)

        def ready() -> bool:
            assert process.poll() is None, log.read_text()[-4000:]
            return bool(self.redis.client.keys(f"datasense:slots:*:{name}@*"))

        until(f"the worker of {lanes} is ready", ready)
        return made

    def stop_workers(self) -> None:
        for worker in self.workers:
            if worker.process.poll() is None:
                with suppress(subprocess.TimeoutExpired):
                    worker.stop(signal.SIGQUIT, seconds=20)
            with suppress(ProcessLookupError):
                os.killpg(worker.process.pid, signal.SIGKILL)
            worker.process.wait()
        self.workers.clear()
        for key in self.redis.client.scan_iter(match="datasense:slots:*"):
            self.redis.client.delete(key)

    def click(self, source: str) -> str:
        return self.ui.click(f"acme/{source}/{source}")

    def into_step(self, source: str) -> str:
        """A run of a source whose server lets it wait, once it waits."""
        name = source.replace("_", "-")
        self.gates.shut(name)
        before = self.gates.asked[name]
        run_id = self.click(source)
        until(f"{source} is being read", lambda: self.gates.asked[name] > before)
        return run_id

    def let(self, source: str) -> None:
        """Have the server answer all who wait for it."""
        self.gates.let(source.replace("_", "-"))

    def run(self, run_id: str) -> dg.DagsterRun:
        found = self.instance.get_run_by_id(run_id)
        assert found is not None
        return found

    def status(self, run_id: str) -> str:
        return self.run(run_id).status.value

    def becomes(self, run_id: str, *statuses: str, seconds: float = 60.0) -> str:
        def reached() -> str | None:
            now = self.status(run_id)
            return now if now in statuses else None

        try:
            return str(until(f"run is {statuses}", reached, seconds=seconds))
        except AssertionError:
            said = [entry.user_message or entry.message for entry in self.instance.all_logs(run_id)]
            logs = "\n".join(worker.log.read_text()[-3000:] for worker in self.workers)
            raise AssertionError(f"{self.status(run_id)} instead of {statuses}: {said}\n{logs}") from None

    def succeeds(self, run_id: str, *, seconds: float = 60.0) -> None:
        ended = self.becomes(run_id, "SUCCESS", "FAILURE", "CANCELED", seconds=seconds)
        assert ended == "SUCCESS", self.said(run_id)

    def retry_of(self, run_id: str, *, seconds: float = 60.0) -> str:
        def child() -> str | None:
            found = self.instance.get_runs(dg.RunsFilter(tags={"dagster/parent_run_id": run_id}))
            return found[0].run_id if found else None

        return str(until(f"run {run_id} is tried again", child, seconds=seconds))

    def said(self, run_id: str) -> str:
        return "\n".join(entry.user_message or entry.message or "" for entry in self.instance.all_logs(run_id))

    def terminate(self, run_id: str) -> None:
        query = """mutation($id: String!) { terminateRun(runId: $id) { __typename
            ... on TerminateRunFailure { message } ... on PythonError { message } } }"""
        # Dagster's UI takes no cancel in the moment between the queue and the start: a person presses again
        until(
            "Dagster takes the cancel, or the run is over",
            lambda: (
                self.ui.ask(query, id=run_id)["terminateRun"]["__typename"] == "TerminateRunSuccess"
                or self.status(run_id) in ("SUCCESS", "CANCELED")
            ),
            seconds=20,
        )


SOURCES = ("one", "two", "three", "four", "five", "six")


def manifest(gates: Gates) -> dict[str, Any]:
    """For each name a source that is answered at once, and one (`held-…`) that waits for the test."""
    sources = [
        {
            "slug": slug,
            "connector": "csv",
            "config": {"url": gates.url(kind, slug)},
            "tables": [{"slug": slug, "resource": slug}],
            "schedule": "manual",
        }
        for name in SOURCES
        for kind, slug in (("open", name), ("gate", f"held-{name}"))
    ]
    return {"version": 1, "organization": {"slug": "acme", "name": "Acme"}, "sources": sources}


def _quick(config: dict[str, Any]) -> None:
    """The settings of dagster.yaml, looked at more often; the limits are not what this is about."""
    config["run_coordinator"]["config"]["dequeue_interval_seconds"] = 1
    config["run_monitoring"].update(poll_interval_seconds=1, cancel_timeout_seconds=120)
    config["concurrency"]["runs"] = {
        "max_concurrent_runs": 50,
        "tag_concurrency_limits": [
            {"key": "datasense/source_key", "value": {"applyLimitPerUniqueValue": True}, "limit": 1}
        ],
    }


@pytest.fixture(scope="module")
def warm(server_url: str, platform_template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warm]:
    home = tmp_path_factory.mktemp("warm")
    config = yaml.safe_load((ROOT / "dagster.yaml").read_text(encoding="utf-8"))
    _quick(config)
    (home / "dagster.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    with (
        fresh_database(server_url, "warm", template=platform_template) as url,
        redis_server(tmp_path_factory.mktemp("redis")) as broker,
        serve_gates() as gates,
        pytest.MonkeyPatch.context() as patch,
    ):
        variables = {"DAGSTER_HOME": str(home), "DATASENSE_REDIS_URL": broker.url}
        # a run is held for as long as the test takes, which on a busy machine is more than a server may be silent for
        platform = Platform(home, url, variables={**variables, "DATASENSE_HTTP_TIMEOUT": "600"})
        (home / "acme.yaml").write_text(yaml.safe_dump(manifest(gates)), encoding="utf-8")
        platform.datasense("apply", "--no-discover", str(home / "acme.yaml"))
        for name in ("DATASENSE_HOME", "DATASENSE_DATABASE_URL", "DATASENSE_REDIS_URL", "DAGSTER_HOME"):
            patch.setenv(name, platform.environment[name])
        get_settings.cache_clear()
        catalog_engine.cache_clear()
        with platform.dagster_dev(), dg.DagsterInstance.from_config(str(home)) as instance:
            made = Warm(platform, Graphql(platform), instance, broker, gates)
            until("the graph is there", lambda: made.ui.asset("acme/one/one"))
            try:
                yield made
            finally:
                made.stop_workers()
        catalog_engine.cache_clear()
    get_settings.cache_clear()
