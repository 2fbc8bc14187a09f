"""`datasense daemon`, `datasense webserver`: a graph is read when its code server is another, and only then."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import dagster as dg
import httpx
import pytest
import yaml
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.remote_origin import GrpcServerCodeLocationOrigin
from dagster._daemon.controller import create_daemon_grpc_server_registry

from datasense_assets.cli.main import app
from datasense_assets.running import workspace as steady
from datasense_assets.running.workspace import SteadyWorkspace
from datasense_assets_tests.conftest import fresh_database
from datasense_assets_tests.places import free_port
from datasense_assets_tests.platform.running import HASTE, ROOT, Platform, hear_sigint, until

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with ExitStack() as stack:
        yield Served(tmp_path, stack)


class Served:
    """Code servers in processes of their own, and the workspace file that names them."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder, self.stack = folder, stack
        self.file = folder / "workspace.yaml"
        self.ports: dict[str, int] = {}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def write(self, name: str, *assets: str) -> None:
        """What the server serves after it is started or reloaded."""
        lines = ["import dagster as dg", *(f"{each} = dg.AssetSpec('{each}')" for each in assets)]
        text = "\n".join([*lines, f"defs = dg.Definitions(assets=[{', '.join(assets)}])\n"])
        (self.folder / f"{name}.py").write_text(text, encoding="utf-8")

    def start(self, name: str, *assets: str) -> None:
        """Start it, at the port it had before, and name it in the file."""
        self.write(name, *assets)
        port = self.ports.setdefault(name, free_port())
        words = [str(Path(sys.executable).parent / "dagster"), "code-server", "start", "-f", f"{name}.py"]
        words += ["-h", "127.0.0.1", "-p", str(port), "--location-name", name]
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                words,
                cwd=self.folder,
                stdout=log,
                stderr=log,
                preexec_fn=hear_sigint,
            )
        self.stack.callback(self.end, name)
        until(f"{name} answers", lambda: self.answers(name), seconds=60)
        servers = [
            {"grpc_server": {"host": "127.0.0.1", "port": port, "location_name": each}}
            for each, port in self.ports.items()
        ]
        self.file.write_text(yaml.safe_dump({"load_from": servers}), encoding="utf-8")

    def end(self, name: str) -> None:
        """As SIGTERM does, with the process that holds the code."""
        process = self.processes[name]
        process.terminate()
        process.wait(timeout=60)

    def client(self, name: str) -> Any:
        return GrpcServerCodeLocationOrigin("127.0.0.1", self.ports[name]).create_client()

    def answers(self, name: str) -> bool:
        try:
            return bool(self.client(name).get_server_id(timeout=2))
        except DagsterUserCodeUnreachableError:
            return False


@contextmanager
def workspace_of(served: Served) -> Iterator[SteadyWorkspace]:
    with (
        dg.instance_for_test() as instance,
        create_daemon_grpc_server_registry(instance) as servers,
        SteadyWorkspace(instance, [served.file], servers) as workspace,
    ):
        yield workspace


def assets_of(workspace: SteadyWorkspace) -> dict[str, set[str]]:
    """What is known of each location; of one that could not be read, nothing."""
    found: dict[str, set[str]] = {}
    for name, entry in workspace.get_current_workspace().code_location_entries.items():
        repositories = entry.code_location.get_repositories().values() if entry.code_location else ()
        found[name] = {key.to_user_string() for each in repositories for key in each.asset_graph.get_all_asset_keys()}
    return found


def read(workspace: SteadyWorkspace) -> dict[str, int]:
    """Which reading of each location this is."""
    return {
        name: id(each.code_location) for name, each in workspace.get_current_workspace().code_location_entries.items()
    }


def test_nothing_is_read_again_until_a_server_or_the_file_is_another(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    served.start("one", "wells")
    monkeypatch.setattr(steady, "LOOK_SECONDS", 0.2)
    with workspace_of(served) as workspace:
        first = read(workspace)
        workspace.refresh_workspace()
        workspace.refresh_workspace()
        assert read(workspace) == first
        assert assets_of(workspace) == {"one": {"wells"}}

        served.write("one", "wells", "pumps")
        served.client("one").reload_code(timeout=60)
        until("the new graph is read", lambda: assets_of(workspace) == {"one": {"wells", "pumps"}}, seconds=60)
        workspace.refresh_workspace()
        again = read(workspace)
        assert again != first

        served.start("two", "schools")
        workspace.refresh_workspace()
        assert assets_of(workspace) == {"one": {"wells", "pumps"}, "two": {"schools"}}

        # a server with an identity given by hand never says that its code is another
        last = read(workspace)
        workspace.refresh_workspace()
        assert read(workspace) == last
        monkeypatch.setattr(steady, "LONGEST_SECONDS", 0.0)
        workspace.refresh_workspace()
        assert read(workspace)["one"] != last["one"]


@pytest.mark.filterwarnings("ignore:Error loading repository location one")
def test_a_server_that_was_away_is_read_when_it_is_back(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    served.start("one", "wells")
    monkeypatch.setattr(steady, "LOOK_SECONDS", 0.2)
    with workspace_of(served) as workspace:
        served.end("one")
        until("it is not there", lambda: assets_of(workspace) == {"one": set()}, seconds=60)
        served.start("one", "wells", "pumps")
        until("it is back", lambda: assets_of(workspace) == {"one": {"wells", "pumps"}}, seconds=60)


def test_what_the_process_serves_itself_is_read_when_dagster_asks_and_by_no_look(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    served.write("own", "wells")
    served.file.write_text(yaml.safe_dump({"load_from": [{"python_file": str(served.folder / "own.py")}]}))
    looks: list[float] = []
    refresh = SteadyWorkspace._refresh
    monkeypatch.setattr(SteadyWorkspace, "_refresh", lambda self, **how: (refresh(self, **how), looks.append(0)))
    monkeypatch.setattr(steady, "LOOK_SECONDS", 0.05)
    with workspace_of(served) as workspace:
        first = read(workspace)
        until("it has been looked at", lambda: len(looks) > 3, seconds=60)
        assert read(workspace) == first
        workspace.refresh_workspace()
        assert read(workspace) != first


SHOWN = """
query {
  assetNodes { assetKey { path } }
  locationStatusesOrError { ... on WorkspaceLocationStatusEntries { entries { permissions { permission value } } } }
}
"""


def test_the_web_ui_shows_a_new_graph_under_its_prefix_and_lets_nobody_change_anything(
    served: Served, server_url: str, platform_template: str, tmp_path: Path
) -> None:
    served.start("one", "wells")
    port = free_port()
    with fresh_database(server_url, "ui", template=platform_template) as url:
        platform = Platform(tmp_path, url, port=port)
        words = [sys.executable, "-m", "datasense_assets.cli.main", "webserver", "-w", str(served.file)]
        words += ["-p", str(port), "--read-only", "--path-prefix", "/data"]
        with (tmp_path / "ui.log").open("w") as log:
            environment = {**platform.environment, "PYTHONPATH": str(HASTE)}
            process = subprocess.Popen(words, cwd=ROOT, env=environment, stdout=log, stderr=log)
        try:

            def shown() -> dict[str, Any] | None:
                with suppress(httpx.TransportError):
                    answer = httpx.post(f"http://127.0.0.1:{port}/data/graphql", json={"query": SHOWN}, timeout=30)
                    data: dict[str, Any] = answer.json()["data"]
                    return data
                assert process.poll() is None, (tmp_path / "ui.log").read_text()
                return None

            def assets() -> set[str]:
                return {node["assetKey"]["path"][0] for node in (shown() or {"assetNodes": []})["assetNodes"]}

            until("the UI shows the graph", lambda: assets() == {"wells"}, seconds=90)
            served.write("one", "wells", "pumps")
            served.client("one").reload_code(timeout=60)
            until("the UI shows the new graph", lambda: assets() == {"wells", "pumps"}, seconds=60)
            (location,) = (shown() or {})["locationStatusesOrError"]["entries"]
            allowed = {each["permission"] for each in location["permissions"] if each["value"]}
            assert not allowed & {
                "launch_pipeline_execution",
                "launch_partition_backfill",
                "reload_repository_location",
            }
            process.terminate()
            assert process.wait(timeout=60) in (0, -15)
        finally:
            process.kill()
            process.wait()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("daemon", "-w", "nowhere.yaml"), "There is no file nowhere.yaml"),
        (("daemon", "-w", "{file}", "--log-level", "loud"), "There is no log level 'loud'"),
        (("daemon", "-w", "{file}", "--log-format", "pretty"), "pretty"),
        (("webserver", "-w", "nowhere.yaml"), "There is no file nowhere.yaml"),
        (("webserver", "-w", "{file}", "--path-prefix", "data"), "The prefix 'data' is no path"),
    ],
)
def test_what_cannot_work_is_said(
    tmp_path: Path, words: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "workspace.yaml"
    file.write_text("load_from: []", encoding="utf-8")
    assert app([word.format(file=file) for word in words], standalone_mode=False) == 1
    assert said in capsys.readouterr().err
