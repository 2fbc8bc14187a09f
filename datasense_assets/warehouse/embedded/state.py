"""What is known of the embedded server without asking it: our state file, Postgres's pid file, its process and port."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

from datasense_assets.warehouse.embedded.install import Account
from datasense_assets.warehouse.errors import EmbeddedServerError

if TYPE_CHECKING:
    import psutil

HOST = "127.0.0.1"
SUPERUSER = DATABASE = "datasense"
START_SECONDS = 120
FAST_STOP_SECONDS = 20


@dataclass(frozen=True)
class ServerState:
    """What `postgres.json` keeps from one start to the next."""

    port: int
    password: str

    @property
    def url(self) -> str:
        """URL of the superuser."""
        return f"postgresql://{SUPERUSER}:{self.password}@{HOST}:{self.port}/{DATABASE}"


@dataclass(frozen=True)
class Postmaster:
    """What Postgres's own pid file says; `port` is None until it has been written."""

    pid: int
    port: int | None
    status: str

    @property
    def ready(self) -> bool:
        """Whether it says that it accepts connections."""
        return self.status == "ready"


def read_state(home: Path) -> ServerState | None:
    """The saved state; None where there is none or it is damaged (a new password is set at the next start).

    Raises:
        EmbeddedServerError: it belongs to another OS user.
    """
    path = home / "postgres.json"
    try:
        content = json.loads(path.read_text())
        return ServerState(port=int(content["port"]), password=str(content["password"]))
    except FileNotFoundError:
        return None
    except PermissionError:
        raise EmbeddedServerError(
            f"The embedded PostgreSQL in {home} belongs to another OS user: {path} cannot be read.",
            advice="Run as that user, set DATASENSE_HOME to a folder of your own, or set DATASENSE_DATABASE_URL.",
        ) from None
    except (ValueError, KeyError, TypeError):
        return None


def write_state(home: Path, state: ServerState, account: Account | None) -> None:
    """Save the state in one step, readable by its owner only."""
    new = home / f"postgres.json.{secrets.token_hex(4)}"
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump({"port": state.port, "password": state.password}, file)
        file.flush()
        os.fsync(file.fileno())
    give_to(new, home, account)
    new.replace(home / "postgres.json")


def give_to(path: Path, home: Path, account: Account | None) -> None:
    """In a home of the account's own, what root writes must be the account's too."""
    if account is not None and home.stat().st_uid == account.uid:
        os.chown(path, account.uid, account.gid, follow_symlinks=False)


def request_stop(data: Path) -> None:
    """Stop the running server (sessions ended, open transactions rolled back) and wait for it.

    PostgreSQL 18 never ends a fast stop that meets its own recovery from a crash, so after a while an immediate stop
    is asked for: nothing committed is lost, the next start recovers.

    Raises:
        EmbeddedServerError: it belongs to another OS user, or did not stop in time.
    """
    import psutil

    for order, seconds in ((signal.SIGINT, FAST_STOP_SECONDS), (signal.SIGQUIT, START_SECONDS)):
        postmaster = read_postmaster(data)
        if postmaster is None:
            return
        try:
            process = psutil.Process(postmaster.pid)
            os.kill(postmaster.pid, order)
        except (ProcessLookupError, psutil.NoSuchProcess):
            return
        except PermissionError:
            raise EmbeddedServerError(
                f"The embedded PostgreSQL in {data} belongs to another OS user.", advice="Stop it as that user."
            ) from None
        # the pid file goes before the process, which may still be writing to the disk
        if _comes_true(partial(_has_ended, process), seconds):
            return
    raise _too_slow("stop", data)


def read_postmaster(data: Path) -> Postmaster | None:
    """What Postgres says of itself in `postmaster.pid`; lines it has not written yet count as not ready."""
    try:
        lines = (data / "postmaster.pid").read_text().splitlines()
    except (FileNotFoundError, PermissionError):
        return None
    if not lines or not lines[0].strip().isdigit():
        return None
    port = int(lines[3]) if len(lines) > 3 and lines[3].strip().isdigit() else None
    return Postmaster(int(lines[0]), port, status=lines[7].strip() if len(lines) > 7 else "")


def _has_ended(process: psutil.Process) -> bool:
    """Whether it is gone, or a zombie that a careless init has not collected."""
    import psutil

    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def is_alive(data: Path) -> bool:
    """Whether the pid file's process is a live server of this data folder: no zombie, no reused pid."""
    import psutil

    postmaster = read_postmaster(data)
    if postmaster is None:
        return False
    try:
        process = psutil.Process(postmaster.pid)
        if process.status() == psutil.STATUS_ZOMBIE or not process.name().startswith("postgres"):
            return False
        return bool(process.cwd() == str(data.resolve()))
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True


def clear_crash(data: Path) -> None:
    """After a kill -9: end sessions that outlived their server, drop a pid file whose pid may be somebody else's."""
    import psutil

    leftovers = []
    for process in psutil.process_iter(["name"]):
        with suppress(psutil.Error):
            if process.info["name"].startswith("postgres") and process.cwd() == str(data):
                process.send_signal(signal.SIGQUIT)
                leftovers.append(process)
    if not _comes_true(lambda: all(map(_has_ended, leftovers)), 5):
        for process in leftovers:
            with suppress(psutil.Error):
                process.kill()
        _comes_true(lambda: all(map(_has_ended, leftovers)), 5)
    (data / "postmaster.pid").unlink(missing_ok=True)


def pid_exists(pid: int) -> bool:
    """Whether there is a process of that id, a zombie included."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def listening(port: int) -> bool:
    """Whether something accepts connections at the port."""
    try:
        with socket.create_connection((HOST, port), timeout=2):
            return True
    except OSError:
        return False


def port_is_free(port: int) -> bool:
    """Whether a server could listen at the port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def wait_until(done: Callable[[], bool], verb: str, data: Path) -> None:
    """Wait until `done`, looking twenty times a second.

    Raises:
        EmbeddedServerError: it took longer than START_SECONDS.
    """
    if not _comes_true(done, START_SECONDS):
        raise _too_slow(verb, data)


def _comes_true(done: Callable[[], bool], seconds: float) -> bool:
    pause = Event()
    until = time.monotonic() + seconds
    while not done():
        if time.monotonic() > until:
            return False
        pause.wait(0.05)
    return True


def _too_slow(verb: str, data: Path) -> EmbeddedServerError:
    return EmbeddedServerError(
        f"The embedded PostgreSQL in {data} did not {verb} within {START_SECONDS} s. {last_lines(log_tail(data))}",
        advice="See server.log in that folder.",
    )


def log_tail(data: Path) -> str:
    """The end of the server's log; empty where there is none."""
    try:
        return (data / "server.log").read_text(errors="replace")[-4000:]
    except OSError:
        return ""


def last_lines(text: str, count: int = 3) -> str:
    """The last lines of a text on one line."""
    return " / ".join(text.strip().splitlines()[-count:])
