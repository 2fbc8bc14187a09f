"""What steps print is kept, and shown, by the process itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import dagster as dg
import psutil
import pytest

from datasense_assets.running.storage import HomeComputeLogs

PRINTS = """
import os, signal, subprocess, sys
from pathlib import Path
from datasense_assets.running.step_output import kept
print("before")
with kept([(sys.stdout, Path(sys.argv[1], "deep", "run.out")), (sys.stderr, Path(sys.argv[1], "deep", "run.err"))]):
    print("a line of Python")
    subprocess.run(["sh", "-c", "echo a line of a program; echo a complaint >&2"])
    print("x" * 300_000)
    {then}
print("after")
"""


def printing(folder: Path, then: str, **kwargs: object) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", PRINTS.format(then=then), str(folder)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **kwargs)  # type: ignore[call-overload,no-any-return]


def test_what_a_step_prints_is_in_its_files_and_shown(tmp_path: Path) -> None:
    process = printing(tmp_path, "pass")
    shown, complaints = process.communicate(timeout=60)
    assert process.returncode == 0
    kept = (tmp_path / "deep" / "run.out").read_text()
    assert sorted(kept.split()) == sorted(f"a line of Python\na line of a program\n{'x' * 300_000}".split())
    assert shown == f"before\n{kept}after\n"
    assert (tmp_path / "deep" / "run.err").read_text() == complaints == "a complaint\n"


def test_it_is_shown_while_the_step_goes_on_and_kept_though_the_process_is_killed(tmp_path: Path) -> None:
    process = printing(tmp_path, "sys.stdout.flush(); sys.stdin.read()", stdin=subprocess.PIPE)
    assert process.stdout is not None
    # the first lines come before the step ends
    assert {process.stdout.readline() for _ in range(3)} >= {"before\n", "a line of a program\n"}
    assert [child.name() for child in psutil.Process(process.pid).children()] == []
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert "a line of Python\n" in (tmp_path / "deep" / "run.out").read_text()


def test_a_run_goes_on_where_nobody_reads_what_it_shows(tmp_path: Path) -> None:
    reads, writes = os.pipe()
    words = [sys.executable, "-c", PRINTS.format(then="Path(sys.argv[1], 'done').touch()"), str(tmp_path)]
    process = subprocess.Popen(words, stdout=writes, stderr=subprocess.PIPE, text=True)
    os.close(writes)
    with os.fdopen(reads) as shown:
        assert shown.readline() == "before\n"
    process.communicate(timeout=60)
    assert (tmp_path / "done").exists()
    assert len((tmp_path / "deep" / "run.out").read_text()) > 300_000


def test_a_run_of_dagster_finds_what_its_step_printed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    @dg.op
    def say() -> None:
        os.system("echo from a program")
        sys.stderr.write("from Python\n")

    @dg.job
    def saying() -> None:
        say()

    settings = {
        "compute_logs": {"module": "datasense_assets.running.storage", "class": "HomeComputeLogs", "config": {}},
        "telemetry": {"enabled": False},
    }
    # pytest's own stand-ins for the streams have no descriptors
    with pytest.MonkeyPatch.context() as patch, capfd.disabled():
        from datasense_assets.settings import get_settings

        patch.setenv("DATASENSE_HOME", str(tmp_path))
        get_settings.cache_clear()
        with dg.DagsterInstance.local_temp(str(tmp_path), overrides=settings) as instance:
            result = saying.execute_in_process(instance=instance)
            manager = instance.compute_log_manager
            assert isinstance(manager, HomeComputeLogs)
            (captured,) = [e for e in result.all_events if e.event_type is dg.DagsterEventType.LOGS_CAPTURED]
            key = manager.build_log_key_for_run(result.run_id, captured.logs_captured_data.file_key)
            assert manager.is_capture_complete(key)
            data = manager.get_log_data(key)
            assert data.stdout == b"from a program\n"
            assert data.stderr is not None and b"from Python\n" in data.stderr
    get_settings.cache_clear()
