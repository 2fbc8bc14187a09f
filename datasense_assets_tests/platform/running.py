"""A whole platform for a test: catalog, stand-in server, and a real `dagster dev` in processes of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import httpx
import psycopg
import pytest
from typer.testing import CliRunner

from datasense_assets.cli.main import app
from datasense_assets.running.owners import catalog_engine
from datasense_assets.settings import get_settings
from datasense_assets_tests.places import free_port

ROOT = Path(__file__).resolve().parents[2]
# On the path of a daemon it looks more often at what there is to do.
HASTE = ROOT / "datasense_assets_tests" / "haste"
# How much longer a machine may take that has other things to do.
PATIENCE = 3
T = TypeVar("T")


@cache
def http_client() -> httpx.Client:
    """One for all questions of a process, since making one costs as much as an answer. It keeps no connection, and one
    that a busy machine refuses is made again; an answer is taken as it is.
    """
    limits = httpx.Limits(max_keepalive_connections=0)
    return httpx.Client(transport=httpx.HTTPTransport(retries=5, limits=limits), timeout=60)


def hear_sigint() -> None:
    """For processes that tests stop: one that inherits an ignored SIGINT is deaf to it, and Dagster's to SIGTERM."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def home_of_process(folder: Path, patch: pytest.MonkeyPatch, **variables: str) -> Iterator[Path]:
    """This process works in the folder, with the project's dagster.yaml and these variables of the environment."""
    (folder / "dagster.yaml").write_text((ROOT / "dagster.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    for name, value in {"DATASENSE_HOME": str(folder), **variables}.items():
        patch.setenv(name, value)
    get_settings.cache_clear()
    catalog_engine.cache_clear()
    yield folder
    catalog_engine.cache_clear()
    get_settings.cache_clear()


def until(what: str, check: Callable[[], T], *, seconds: float = 90.0) -> T:
    """The first true answer of `check`; fails naming `what` when none comes.

    `seconds`: what it takes at most where nothing else goes on. It says when to give up, and proves nothing: a machine
    that is busy is given more.
    """
    start = time.monotonic()
    while True:
        found = check()
        if found:
            return found
        waited = time.monotonic() - start
        if waited > seconds * PATIENCE:
            raise AssertionError(f"not in {seconds * PATIENCE:.0f} s: {what} (last seen: {found!r})")
        # a look costs whoever is asked, so that what takes long is asked seldom
        time.sleep(min(0.05 + waited / 10, 0.5))


@dataclass
class Platform:
    """One home folder and one database; `process`, `command` and `dagster_dev` run as a user would run them."""

    home: Path
    database_url: str
    variables: Mapping[str, str] = field(default_factory=dict)
    port: int = 0

    @property
    def environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("DATASENSE_", "DAGSTER_"))}
        return {
            **kept,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
            "DATASENSE_HOME": str(self.home),
            "DATASENSE_DATABASE_URL": self.database_url,
            "DATASENSE_ALLOW_PRIVATE_ADDRESSES": "true",
            "DATASENSE_JITTER_MINUTES": "0",
            # what is asked for and what is new in the catalog is seen at the daemon's next look at its sensors
            "DATASENSE_REQUESTS_INTERVAL_SECONDS": "1",
            "DATASENSE_RELOAD_INTERVAL_SECONDS": "2",
            # what Dagster waits before it runs again what lost its worker
            "DAGSTER_EVENT_LOG_CONSUMER_DAEMON_INTERVAL_SECONDS": "1",
            **self.variables,
        }

    def command(self, *words: str, code: int = 0) -> str:
        """Run a command line; its standard output. Fails when the exit code is another."""
        done = subprocess.run(words, cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=240)
        assert done.returncode == code, (
            f"{words} ended with {done.returncode}\n{done.stdout[-4000:]}\n{done.stderr[-6000:]}"
        )
        return done.stdout

    def datasense(self, *words: str, code: int = 0) -> str:
        """Run one of our commands here, as if in a process of its own, which takes longer than all that most do."""
        with pytest.MonkeyPatch.context() as patch:
            # all of it is put back, what the command sets too
            before = dict(os.environ)
            patch.chdir(ROOT)
            os.environ.clear()
            os.environ.update(self.environment)
            _forget()
            try:
                done = CliRunner().invoke(app, words)
                catalog_engine().dispose()
            finally:
                os.environ.clear()
                os.environ.update(before)
                _forget()
        assert done.exit_code == code, f"{words} ended with {done.exit_code}\n{done.output[-6000:]}\n{done.exception!r}"
        return done.stdout

    def process(self, *words: str, code: int = 0) -> str:
        """Run one of our commands in a process of its own."""
        return self.command(sys.executable, "-m", "datasense_assets.cli.main", *words, code=code)

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            return connection.execute(query.encode(), values or None).fetchall() if query else []

    def execute(self, query: str, *values: Any) -> None:
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            connection.execute(query.encode(), values or None)

    def is_looked_at(self) -> None:
        """Returns when the due sensor has looked once more, from the beginning to the end, at all that is due now."""
        looks = "SELECT coalesce(max(id), 0) FROM job_ticks WHERE tick_body LIKE '%%\"due_sources\"%%'"
        ((before,),) = self.rows(looks)
        ended = f"{looks} AND status IN ('SKIPPED', 'SUCCESS')"
        until("the due sensor has looked", lambda: self.rows(ended)[0][0] > before, seconds=60)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def graphql(self, query: str, **variables: Any) -> Any:
        answer = http_client().post(f"{self.url}/graphql", json={"query": query, "variables": variables}).json()
        assert "errors" not in answer, json.dumps(answer["errors"])[:3000]
        return answer["data"]

    @contextmanager
    def dagster_dev(self, *words: str, seconds: float = 90.0) -> Iterator[Path]:
        """`dagster dev`, or another Python command that serves the same, until the block ends; gives its log."""
        self.port = free_port()
        log = self.home / "dagster-dev.log"
        with log.open("w") as out:
            process = subprocess.Popen(
                [sys.executable, *(words or ("-m", "dagster", "dev")), "--port", str(self.port)],
                cwd=ROOT,
                env={"PYTHONPATH": str(HASTE), **self.environment},
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=hear_sigint,
            )
        try:
            until("the webserver answers", lambda: self._answers(process, log), seconds=seconds)
            yield log
        finally:
            process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=60)
            # a code server that waits for a run to end outlives its parent
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _answers(self, process: subprocess.Popen[bytes], log: Path) -> bool:
        assert process.poll() is None, log.read_text()[-6000:]
        try:
            return http_client().get(f"{self.url}/server_info", timeout=5).status_code == 200
        except httpx.TransportError:
            return False


def _forget() -> None:
    get_settings.cache_clear()
    catalog_engine.cache_clear()


RUNS = """
query($filter: RunsFilter, $limit: Int) {
  runsOrError(filter: $filter, limit: $limit) { ... on Runs { results {
    runId status tags { key value } assetSelection { path } } } }
}
"""
LAUNCH = """
mutation($params: ExecutionParams!) {
  launchPipelineExecution(executionParams: $params) {
    __typename
    ... on LaunchRunSuccess { run { runId status tags { key value } } }
    ... on PythonError { message stack }
    ... on RunConfigValidationInvalid { errors { message } }
    ... on InvalidSubsetError { message }
  }
}
"""
BACKFILL = """
mutation($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) {
    __typename
    ... on LaunchBackfillSuccess { backfillId }
    ... on PythonError { message stack }
  }
}
"""
BACKFILL_STATUS = """
query($id: String!) { partitionBackfillOrError(backfillId: $id) { ... on PartitionBackfill { status numPartitions } } }
"""
ASSET = """
query($key: AssetKeyInput!) {
  assetNodeOrError(assetKey: $key) {
    __typename
    ... on AssetNode {
      groupName description dependencyKeys { path }
      assetMaterializations(limit: 1) { runId partition metadataEntries { __typename label
        ... on IntMetadataEntry { intValue } ... on TextMetadataEntry { text } ... on MarkdownMetadataEntry { mdStr }
        ... on TableColumnLineageMetadataEntry { lineage { columnName columnDeps { assetKey { path } columnName } } }
        ... on TableSchemaMetadataEntry { schema { columns { name type description } } } } }
      partitionStats { numMaterialized numPartitions }
    }
  }
}
"""


def key(path: str) -> dict[str, list[str]]:
    return {"path": path.split("/")}


def tags_of(run: Mapping[str, Any]) -> dict[str, str]:
    return {tag["key"]: tag["value"] for tag in run["tags"]}


class Graphql:
    """What the UI asks and does, as it asks and does it."""

    def __init__(self, platform: Platform) -> None:
        self.ask = platform.graphql

    def click(self, *paths: str, partition: str | None = None, tags: Mapping[str, str] | None = None) -> str:
        """Press Materialize, with tags as the UI's launchpad lets one write them; the run's id."""
        given = {**(tags or {}), **({"dagster/partition": partition} if partition else {})}
        params = {
            "selector": {
                "repositoryLocationName": "datasense",
                "repositoryName": "__repository__",
                "pipelineName": "__ASSET_JOB",
                "assetSelection": [key(path) for path in paths],
            },
            "executionMetadata": {"tags": [{"key": name, "value": value} for name, value in given.items()]},
            "runConfigData": {},
            "mode": "default",
        }
        made = self.ask(LAUNCH, params=params)["launchPipelineExecution"]
        assert made["__typename"] == "LaunchRunSuccess", made
        return str(made["run"]["runId"])

    def backfill(self, path: str, partitions: list[str]) -> str:
        params = {"assetSelection": [key(path)], "partitionNames": partitions}
        made = self.ask(BACKFILL, params=params)["launchPartitionBackfill"]
        assert made["__typename"] == "LaunchBackfillSuccess", made
        return str(made["backfillId"])

    def backfill_status(self, backfill_id: str) -> str:
        return str(self.ask(BACKFILL_STATUS, id=backfill_id)["partitionBackfillOrError"]["status"])

    def runs(self, limit: int = 100, **filters: Any) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.ask(RUNS, filter=filters, limit=limit)["runsOrError"]["results"]
        return found

    def run(self, run_id: str) -> dict[str, Any]:
        return self.runs(runIds=[run_id])[0]

    def finished(self, run_id: str, *, seconds: float = 120.0) -> str:
        """Wait for the end of a run; its last status."""

        def ended() -> str | None:
            status = self.run(run_id)["status"]
            return status if status in ("SUCCESS", "FAILURE", "CANCELED") else None

        return str(until(f"run {run_id} has ended", ended, seconds=seconds))

    def asset(self, path: str) -> dict[str, Any] | None:
        found = self.ask(ASSET, key=key(path))["assetNodeOrError"]
        return found if found["__typename"] == "AssetNode" else None

    def metadata(self, path: str) -> dict[str, Any]:
        """Metadata of the newest materialization, by label."""
        node = self.asset(path)
        if not node or not node["assetMaterializations"]:
            return {}
        return {entry["label"]: entry for entry in node["assetMaterializations"][0]["metadataEntries"]}
