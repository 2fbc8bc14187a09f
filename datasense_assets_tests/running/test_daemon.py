"""`datasense daemon`: the graph of a code server is read when that server is another, and only then."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.remote_origin import GrpcServerCodeLocationOrigin
from dagster._daemon.controller import create_daemon_grpc_server_registry

from datasense_assets.cli.main import app
from datasense_assets.running import daemon
from datasense_assets.running.daemon import SteadyWorkspace
from datasense_assets_tests.places import free_port
from datasense_assets_tests.platform.running import until

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
            self.processes[name] = subprocess.Popen(words, cwd=self.folder, stdout=log, stderr=log)
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
        monkeypatch.setattr(daemon, "LONGEST_SECONDS", 0.0)
        workspace.refresh_workspace()
        assert read(workspace)["one"] != last["one"]


@pytest.mark.filterwarnings("ignore:Error loading repository location one")
def test_a_server_that_was_away_is_read_when_it_is_back(served: Served) -> None:
    served.start("one", "wells")
    with workspace_of(served) as workspace:
        served.end("one")
        with pytest.warns(UserWarning, match="Error loading repository location one"):
            workspace.refresh_workspace()
        assert assets_of(workspace) == {"one": set()}
        served.start("one", "wells", "pumps")
        workspace.refresh_workspace()
        assert assets_of(workspace) == {"one": {"wells", "pumps"}}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("-w", "nowhere.yaml"), "There is no file nowhere.yaml"),
        (("-w", "{file}", "--log-level", "loud"), "There is no log level 'loud'"),
        (("-w", "{file}", "--log-format", "pretty"), "pretty"),
    ],
)
def test_what_cannot_work_is_said(
    tmp_path: Path, words: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "workspace.yaml"
    file.write_text("load_from: []", encoding="utf-8")
    assert app(["daemon", *(word.format(file=file) for word in words)], standalone_mode=False) == 1
    assert said in capsys.readouterr().err
