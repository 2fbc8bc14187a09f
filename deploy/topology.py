"""Which services of docker-compose.yml there are, and where each is on this machine: folders, ports, passwords."""

from __future__ import annotations

import os
import pwd
import re
import secrets
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from deploy.compose_file import interpolated, read_env_file

ROOT = Path(__file__).resolve().parents[1]
HOME_OF_DAGSTER, STATE, FILES = "/opt/dagster/dagster_home", "/var/lib/datasense", "/srv/datasense/files"
# where each service listens in its container; those that a person looks at keep their port where it is free
PORTS = {
    "postgres": 5432,
    "pgbouncer": 6432,
    "redis": 6379,
    "code-server": 3030,
    "webserver": 3000,
    "webserver-read-only": 3001,
    "metrics": 9464,
}
SEEN_BY_PEOPLE = ("webserver", "webserver-read-only", "metrics")


class Missing(Exception):
    """A program that is not installed, or a service that does not come up: what, and what to do."""


def ordinary_user() -> str | None:
    """Who runs what may not be run by root; None: whoever we are."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    raise Missing("PostgreSQL does not run as root, and there is no user postgres or nobody. Run this as another user.")


class Topology:
    """The services, by name as in docker-compose.yml; `slots` are workers' lanes with another number of slots."""

    def __init__(
        self,
        folder: Path,
        env_file: Path | None,
        *,
        slots: Mapping[str, int],
        settings: Sequence[str] = (),
        without: Sequence[str] = (),
        variables: Sequence[str] = (),
    ) -> None:
        """`settings`: of PostgreSQL, as `name=value`, over those of the compose file; `without`: services to leave out;
        `variables`: of one service, as `service:NAME=value`.

        Raises:
            Missing: there is no service of a name in `without`.
        """
        self.folder, self.slots, self.settings, self.variables = folder, slots, settings, variables
        self.folder.mkdir(parents=True, exist_ok=True)
        self.user = ordinary_user()
        self.ports = {name: _port(port, name in SEEN_BY_PEOPLE) for name, port in PORTS.items()}
        self.passwords = self._passwords()
        self.given = read_env_file(env_file) if env_file else self._made_up()
        text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
        described: dict[str, Any] = yaml.safe_load(interpolated(text, self.passwords))["services"]
        unknown = [name for name in without if name not in described]
        if unknown:
            raise Missing(f"There is no service {', '.join(unknown)}; there are {', '.join(described)}.")
        self.services = {name: service for name, service in described.items() if name not in without}

    def _passwords(self) -> dict[str, str]:
        """Made up once and kept in the folder, as the database keeps them too."""
        kept = self.folder / "passwords.env"
        if not kept.exists():
            names = re.findall(r"^(\w+)=$", (ROOT / "deploy/compose/env.example").read_text("utf-8"), re.MULTILINE)
            kept.touch(mode=0o600)
            kept.write_text("".join(f"{name}={secrets.token_hex(24)}\n" for name in names), encoding="utf-8")
        return read_env_file(kept)

    def _made_up(self) -> dict[str, str]:
        """What deploy/compose/datasense.env would say, where there is none: a secret key, kept in the folder."""
        kept = self.folder / "datasense.env"
        if not kept.exists():
            from cryptography.fernet import Fernet

            kept.touch(mode=0o600)
            kept.write_text(f"DATASENSE_SECRET_KEY={Fernet.generate_key().decode()}\n", encoding="utf-8")
        return read_env_file(kept)

    def here(self, text: str, service: str) -> str:
        """A word of the compose file as it is on this machine: addresses, ports, folders."""
        for name, port in PORTS.items():
            text = text.replace(f"{name}:{port}", f"127.0.0.1:{self.ports[name]}")
        port = PORTS.get(service)
        if port is not None:
            text = re.sub(rf"(?<![\d.]){port}(?!\d)", str(self.ports[service]), text)
        text = text.replace("0.0.0.0", "127.0.0.1").replace(HOME_OF_DAGSTER, str(self.folder / "dagster_home"))
        return text.replace(STATE, str(self.folder / "state")).replace(FILES, str(self.folder / "files"))

    def environment(self, service: str) -> dict[str, str]:
        """Of a service: the compose file's, over what its image brings; nothing of ours comes from outside."""
        described = self.services[service]
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("DATASENSE_", "DAGSTER_", "PG", "POSTGRES_"))}
        kept["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", ""), "/usr/sbin"])
        image = {"DAGSTER_HOME": HOME_OF_DAGSTER, "DATASENSE_HOME": STATE, "DATASENSE_FILES_ROOT": FILES}
        image["DATASENSE_ENV"] = "production"
        own = {**image, **self.given} if "env_file" in described else {}
        own |= {name: str(value) for name, value in (described.get("environment") or {}).items()}
        own |= dict(each.partition(":")[2].split("=", 1) for each in self.variables if each.startswith(f"{service}:"))
        return {**kept, "PYTHONUNBUFFERED": "1", **{name: self.here(value, service) for name, value in own.items()}}

    def words(self, service: str) -> list[str]:
        """The command line of a service of the platform."""
        given = [self.here(str(word), service) for word in self.services[service]["command"]]
        lane = service.removeprefix("worker-")
        if lane in self.slots:
            given[given.index("--slots") + 1] = str(self.slots[lane])
        return given

    def command(self, words: Sequence[str], service: str, *, user: str | None = None) -> None:
        """Run something against the PostgreSQL server as its superuser; Missing with its words where it fails."""
        own = {"PGHOST": "127.0.0.1", "PGPORT": str(self.ports["postgres"])}
        own["PGPASSWORD"] = self.passwords["POSTGRES_PASSWORD"]
        environment = {**self.environment(service), **own}
        done = subprocess.run(list(words), env=environment, user=user, cwd="/", capture_output=True, text=True)
        if done.returncode != 0:
            raise Missing(f"{words[0]} failed:\n{done.stdout}{done.stderr}")

    def addresses(self) -> dict[str, str]:
        """What a person needs to use it."""
        password, port = self.passwords["DATASENSE_DB_PASSWORD"], self.ports["pgbouncer"]
        pages = {"ui": "webserver", "ui_read_only": "webserver-read-only", "metrics": "metrics"}
        seen = {page: self.ports[name] for page, name in pages.items() if name in self.services}
        return {
            **{page: f"http://127.0.0.1:{at}{'/metrics' * (page == 'metrics')}" for page, at in seen.items()},
            "DATASENSE_DATABASE_URL": f"postgresql://datasense:{password}@127.0.0.1:{port}/datasense",
            "DATASENSE_STORAGE_URL": f"postgresql://datasense:{password}@127.0.0.1:{port}/dagster",
            "DATASENSE_REDIS_URL": f"redis://:{self.passwords['REDIS_PASSWORD']}@127.0.0.1:{self.ports['redis']}/0",
            "DATASENSE_HOME": str(self.folder / "state"),
            "DAGSTER_HOME": str(self.folder / "dagster_home"),
            "DATASENSE_FILES_ROOT": str(self.folder / "files"),
            "DATASENSE_ENV": "production",
        }


def _port(wanted: int, keep: bool) -> int:
    for port in ([wanted] if keep else []) + [0]:
        with suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise Missing("no free port")
