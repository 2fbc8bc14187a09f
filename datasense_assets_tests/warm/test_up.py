"""`datasense up`: the whole platform on one machine, started and stopped by one command."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from datasense_assets.cli.main import app
from datasense_assets.settings import get_settings
from datasense_assets_tests.conftest import fresh_database
from datasense_assets_tests.places import free_port
from datasense_assets_tests.platform.running import HASTE, ROOT, Graphql, Platform, until
from datasense_assets_tests.warm.conftest import manifest, redis_program
from datasense_assets_tests.warm.gates import serve_gates

pytestmark = [pytest.mark.xdist_group("up"), pytest.mark.timeout(300)]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for name in ("DATASENSE_REDIS_URL", "DAGSTER_HOME", "DATASENSE_DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DATASENSE_HOME", str(tmp_path))
    get_settings.cache_clear()
    yield tmp_path
    get_settings.cache_clear()


def said(*words: str, capsys: pytest.CaptureFixture[str], code: int) -> tuple[str, str]:
    assert app(list(words), standalone_mode=False) == code
    return capsys.readouterr()


def test_the_plan_names_every_process_and_starts_none(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    redis_program()
    out, _ = said("up", "--dry-run", "--json", "--lane", "sync=3", "--lane", "interactive=1", capsys=capsys, code=0)
    plan = {part["name"]: part["command"] for part in json.loads(out)["processes"]}
    assert list(plan) == ["redis", "code-server", "worker", "webserver", "daemon"]
    assert plan["worker"][-4:] == ["--lane", "scheduled=3", "--lane", "interactive=1"]
    assert not (home / "up").exists()
    out, _ = said("up", "--dry-run", "--json", "--separate", capsys=capsys, code=0)
    names = [part["name"] for part in json.loads(out)["processes"]]
    assert names[2:6] == ["worker-scheduled", "worker-interactive", "worker-transform", "worker-backfill"]
    out, _ = said("up", "--dry-run", "--json", "--cold", capsys=capsys, code=0)
    assert [part["name"] for part in json.loads(out)["processes"]] == ["code-server", "webserver", "daemon"]


def test_what_cannot_work_is_said_before_anything_starts(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "means nothing" in said("up", "--cold", "--lane", "sync", capsys=capsys, code=1)[1]
    assert "Did you mean scheduled?" in said("up", "--lane", "schedule", capsys=capsys, code=1)[1]
    assert "given twice" in said("up", "--lane", "sync", "--lane", "scheduled=2", capsys=capsys, code=1)[1]
    assert "no number of runs" in said("worker", "--lane", "sync=none", capsys=capsys, code=1)[1]
    assert "DATASENSE_REDIS_URL is not set" in said("worker", "--lane", "sync", capsys=capsys, code=2)[1]
    monkeypatch.setenv("DATASENSE_REDIS_URL", "redis://:pa55word@127.0.0.1:1/0")
    get_settings.cache_clear()
    for command in (("up",), ("worker", "--lane", "sync")):
        words = said(*command, capsys=capsys, code=2)[1]
        assert "Redis at 127.0.0.1:1 does not answer" in words
        assert "pa55word" not in words
    monkeypatch.setenv("DATASENSE_REDIS_URL", "http://127.0.0.1")
    get_settings.cache_clear()
    assert "is not the URL of a Redis server" in said("worker", "--lane", "sync", capsys=capsys, code=2)[1]
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert "already" in said("up", "--cold", "--port", port, capsys=capsys, code=2)[1]
    assert not (home / "up").exists()


def test_one_command_runs_everything_keeps_it_alive_and_leaves_nothing_behind(
    server_url: str, platform_template: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    redis_program()
    port = free_port()
    with fresh_database(server_url, "up", template=platform_template) as url, serve_gates() as gates:
        platform = Platform(tmp_path, url, port=port)
        (tmp_path / "acme.yaml").write_text(yaml.safe_dump(manifest(gates)), encoding="utf-8")
        platform.datasense("apply", "--no-discover", str(tmp_path / "acme.yaml"))
        log = tmp_path / "up.log"
        words = [
            sys.executable,
            "-m",
            "datasense_assets.cli.main",
            "up",
            "--port",
            str(port),
            "--lane",
            "interactive=2",
        ]
        environment = {**platform.environment, "PYTHONPATH": str(HASTE)}
        with log.open("w") as out:
            process = subprocess.Popen(words, cwd=ROOT, env=environment, stdout=out, stderr=out)
        try:
            until("it is up", lambda: _up(process, log), seconds=150)
            tree = psutil.Process(process.pid)
            parts = tree.children(recursive=True)
            daemon = next(part for part in tree.children() if "cli.main daemon" in " ".join(part.cmdline()))
            assert daemon.environ()["FRESHNESS_DAEMON_INTERVAL_SECONDS"] == "300"
            ui = Graphql(platform)
            assert ui.finished(ui.click("acme/one/one")) == "SUCCESS"
            worker = next(part for part in tree.children() if "worker" in part.cmdline())
            worker.kill()
            until("the worker was missed", lambda: "worker ended with code -9" in log.read_text(), seconds=30)
            assert ui.finished(ui.click("acme/two/two"), seconds=90) == "SUCCESS"
            parts += tree.children(recursive=True)
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=90) == 0
        finally:
            if process.poll() is None:
                process.kill()
        assert log.read_text().rstrip().endswith("Stopped.")
        assert [part for part in parts if _lives(part)] == []


def _up(process: subprocess.Popen[Any], log: Path) -> bool:
    assert process.poll() is None, log.read_text()
    return "Up: http" in log.read_text()


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE and process.pid != os.getpid()
    except psutil.NoSuchProcess:
        return False
