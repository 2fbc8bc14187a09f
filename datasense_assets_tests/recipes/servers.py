"""PostgreSQL servers of other versions, and PgBouncer in transaction mode, for tests that start their own."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import psycopg
import pytest
from psycopg import conninfo

from datasense_assets_tests.places import free_port

_START_SECONDS = 60


def missing(what: str) -> None:
    """Skip the test for want of a program; where CI runs, that is a failure."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what} is not installed; .ci/run installs it")
    pytest.skip(f"{what} is not installed")


def ordinary_user() -> str | None:
    """Who is to run a server, which must not be root; None: whoever we are."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    return pytest.skip("no ordinary user to run a server as")


@contextlib.contextmanager
def folder_of(user: str | None) -> Iterator[Path]:
    """A folder that the user can write, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp(prefix="datasense-"))
    try:
        if user is not None:
            shutil.chown(folder, user)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def await_answer(url: str, process: subprocess.Popen[bytes]) -> None:
    pause = threading.Event()
    for _ in range(_START_SECONDS * 10):
        if process.poll() is not None:
            pytest.fail(f"{process.args!r} ended with {process.returncode}")
        with contextlib.suppress(psycopg.OperationalError), psycopg.connect(url, connect_timeout=2):
            return
        pause.wait(0.1)
    pytest.fail(f"{process.args!r} does not answer")


def stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(timeout=20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def system_programs() -> Path | None:
    """The folder of a PostgreSQL server that the system has: its own word, else Debian's places, the newest first."""
    found = shutil.which("pg_config")
    said = subprocess.run([found, "--bindir"], capture_output=True, text=True, check=True).stdout if found else ""
    places = [Path(said.strip())] if said.strip() else []
    debian = Path("/usr/lib/postgresql")
    places += sorted(debian.glob("*/bin"), key=lambda each: int(each.parent.name), reverse=True)
    return next((each for each in places if (each / "postgres").exists() and (each / "initdb").exists()), None)


@contextlib.contextmanager
def system_server(programs: Path) -> Iterator[str]:
    """URL of a superuser on a fresh server of those programs."""
    user, port = ordinary_user(), free_port()
    with folder_of(user) as folder:
        data = folder / "data"
        subprocess.run(
            [programs / "initdb", "-D", data, "-U", "postgres", "--auth=trust", "--no-sync", "-E", "UTF8"],
            check=True,
            capture_output=True,
            user=user,
            cwd=folder,
        )
        process = subprocess.Popen(
            [programs / "postgres", "-D", data, "-p", str(port), "-k", folder, "-c", "fsync=off"],
            user=user,
            cwd=folder,
            stderr=subprocess.DEVNULL,
        )
        url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
        try:
            await_answer(url, process)
            yield url
        finally:
            stop(process)


@contextlib.contextmanager
def pgbouncer(server_url: str, *, connections: int = 2) -> Iterator[str]:
    """URL of PgBouncer before that server: transactions of all clients share so few connections."""
    program = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
    if program is None:
        missing("pgbouncer")
    parts, user, port = urlsplit(server_url), ordinary_user(), free_port()
    login = conninfo.make_conninfo(
        host=parts.hostname or "127.0.0.1",
        port=parts.port or 5432,
        user=unquote(parts.username or "postgres"),
        password=unquote(parts.password) if parts.password else None,
    )
    with folder_of(user) as folder:
        settings = folder / "pgbouncer.ini"
        settings.write_text(
            f"[databases]\n* = {login}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n"
            f"unix_socket_dir =\nauth_type = any\npool_mode = transaction\ndefault_pool_size = {connections}\n"
            "ignore_startup_parameters = extra_float_digits,options\nmax_client_conn = 100\n"
        )
        settings.chmod(0o644)
        process = subprocess.Popen([str(program), "-q", str(settings)], user=user, stderr=subprocess.DEVNULL)
        url = f"postgresql://anybody@127.0.0.1:{port}/{parts.path.strip('/')}"
        try:
            await_answer(url, process)
            yield url
        finally:
            stop(process)
