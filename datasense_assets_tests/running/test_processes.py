"""Processes that belong together: kept alive, and stopped together, whatever one of them does."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from datasense_assets.running.processes import Part, PartFailed, ProcessTree
from datasense_assets_tests.platform.running import until

SLEEPS = "import time, os, sys; print(os.getpid(), flush=True); open(sys.argv[1], 'a').write(f'{os.getpid()}\\n'); "


def part(folder: Path, name: str, *, code: str = "time.sleep(600)", waits: bool = True, **more: float) -> Part:
    """A process that writes its pid into a file as it starts, and then does as `code` says."""
    file = folder / f"{name}.pids"
    command = [sys.executable, "-c", SLEEPS + code, str(file)]
    return Part(name, command, ready=(lambda: len(pids(folder, name)) > 0) if waits else None, **more)


def pids(folder: Path, name: str) -> list[int]:
    file = folder / f"{name}.pids"
    return [int(line) for line in file.read_text().split()] if file.exists() else []


def run(tree: ProcessTree, while_up: Callable[[], None]) -> None:
    """Run the tree on this thread; once all is ready do something beside it, then ask it to stop by SIGTERM."""
    failed: list[BaseException] = []

    def beside() -> None:
        try:
            while_up()
        except BaseException as error:  # noqa: BLE001 - raised below
            failed.append(error)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    tree.run(lambda: threading.Thread(target=beside).start())
    if failed:
        raise failed[0]


def test_what_dies_is_started_again_and_all_ends_on_sigterm(tmp_path: Path) -> None:
    said: list[str] = []
    tree = ProcessTree([part(tmp_path, "one"), part(tmp_path, "two")], tmp_path / "logs", said.append)

    def kill_one() -> None:
        os.kill(pids(tmp_path, "one")[0], signal.SIGKILL)
        until("one is there again", lambda: len(pids(tmp_path, "one")) == 2, seconds=30)

    run(tree, kill_one)
    assert not any(psutil.pid_exists(pid) for name in ("one", "two") for pid in pids(tmp_path, name))
    assert len(pids(tmp_path, "two")) == 1
    assert ["one ended with code -9" in line for line in said] == [True]
    assert str(pids(tmp_path, "one")[1]) in (tmp_path / "logs" / "one.log").read_text()


def test_one_that_does_not_end_is_killed_with_what_it_has_started(tmp_path: Path) -> None:
    deaf = "import signal, subprocess; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    deaf += "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']); time.sleep(600)"
    said: list[str] = []
    tree = ProcessTree([part(tmp_path, "deaf", code=deaf, stop_seconds=0.5)], tmp_path / "logs", said.append)
    children: list[psutil.Process] = []

    def look() -> None:
        parent = psutil.Process(pids(tmp_path, "deaf")[0])
        children.extend(until("it has a child", parent.children, seconds=20))

    run(tree, look)
    # a process that was killed is there until whoever reaps the orphans has seen to it
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not [child for child in alive if child.status() != psutil.STATUS_ZOMBIE]
    assert "was killed" in said[-1]


def test_one_that_does_not_come_up_stops_those_before_it_and_says_where_to_look(tmp_path: Path) -> None:
    parts = [part(tmp_path, "one"), part(tmp_path, "broken", code="sys.exit(3)")]
    parts[1] = Part("broken", parts[1].command, ready=lambda: False)
    with pytest.raises(PartFailed, match=r"broken did not start: it ended with code 3\. See .*broken\.log"):
        ProcessTree(parts, tmp_path / "logs", lambda _: None).run(lambda: pytest.fail("not all is up"))
    assert not psutil.pid_exists(pids(tmp_path, "one")[0])
