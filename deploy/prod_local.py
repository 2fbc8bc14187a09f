"""The services of docker-compose.yml as plain processes of this machine: `make prod-local`, or

    python deploy/prod_local.py [--folder .datasense/prod-local] [--env-file deploy/compose/datasense.env]

The compose file is read and not repeated: commands, environment, health checks and the order of starting are what
stands there. What differs is where things are: every service is on 127.0.0.1 at a port of its own, and files that an
image or a volume would hold are below the folder. PostgreSQL comes from the `embedded` extra, or else from the system,
as PgBouncer and Redis do (Debian: apt-get install pgbouncer redis-server).

Once every health check has passed it prints one line of JSON with the addresses, and goes on until Ctrl-C.
"""

from __future__ import annotations

import argparse
import json
import os
import pwd
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml

if not __package__:  # run by its path: the package `deploy` is in the folder above
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from deploy.compose_file import in_order, interpolated, read_env_file
from deploy.local_servers import Missing, ordinary_user, pgbouncer, postgres, redis

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
READY_SECONDS = 300


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
        self.running: dict[str, subprocess.Popen[bytes]] = {}

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

    @contextmanager
    def started(self) -> Iterator[None]:
        """All services, each once those that it depends on are well; they end with the block."""
        self._lay_out()
        try:
            for name in in_order(self.services):
                self._start(name)
                if name != "migrate":
                    continue
                if self.running.pop(name).wait(READY_SECONDS) != 0:
                    raise Missing(f"migrate failed:\n{self._log(name)}")
            for name in self.running:
                self._await(name)
            yield
        finally:
            self.stop()

    def _lay_out(self) -> None:
        home = self.folder / "dagster_home"
        for made in (home, self.folder / "state", self.folder / "files", self.folder / "logs"):
            made.mkdir(exist_ok=True)
        shutil.copy(ROOT / "dagster.yaml", home / "dagster.yaml")
        workspace = (ROOT / "deploy/compose/workspace.yaml").read_text(encoding="utf-8")
        workspace = workspace.replace("host: code-server", "host: 127.0.0.1")
        port = self.ports["code-server"]
        (home / "workspace.yaml").write_text(workspace.replace("port: 3030", f"port: {port}"), encoding="utf-8")

    def _start(self, name: str) -> None:
        for other, how in (self.services[name].get("depends_on") or {}).items():
            if how["condition"] == "service_healthy" and other in self.running:
                self._await(other)
        servers = {"postgres": postgres, "pgbouncer": pgbouncer, "redis": redis}
        words = servers[name](self) if name in servers else self.words(name)
        self._run(name, words, user=self.user if name in servers else None)
        if name == "postgres" and not (self.folder / "initialized").exists():
            self._await(name)
            self.command(["sh", str(ROOT / "deploy/compose/postgres-init.sh")], "postgres")
            (self.folder / "initialized").touch()

    def _run(self, name: str, words: Sequence[str], *, user: str | None) -> None:
        with (self.folder / "logs" / f"{name}.log").open("ab") as log:
            self.running[name] = subprocess.Popen(
                list(words),
                env=self.environment(name),
                cwd=self.folder if user is None else "/",
                stdout=log,
                stderr=subprocess.STDOUT,
                user=user,
                group=None if user is None else pwd.getpwnam(user).pw_gid,
                start_new_session=True,
            )

    def command(self, words: Sequence[str], service: str, *, user: str | None = None) -> None:
        """Run something against the PostgreSQL server as its superuser; Missing with its words where it fails."""
        own = {"PGHOST": "127.0.0.1", "PGPORT": str(self.ports["postgres"])}
        own["PGPASSWORD"] = self.passwords["POSTGRES_PASSWORD"]
        environment = {**self.environment(service), **own}
        done = subprocess.run(list(words), env=environment, user=user, cwd="/", capture_output=True, text=True)
        if done.returncode != 0:
            raise Missing(f"{words[0]} failed:\n{done.stdout}{done.stderr}")

    def is_well(self, name: str) -> bool:
        """What the service's health check says now; one that has none is well while it runs."""
        check = (self.services[name].get("healthcheck") or {}).get("test")
        if not check:
            return self.running[name].poll() is None
        if name in self.ports and not _listens(self.ports[name]):
            # some checks take seconds to say as much
            return False
        words = [self.here(word, name) for word in check[1:]]
        with suppress(subprocess.TimeoutExpired):
            return subprocess.run(words, env=self.environment(name), capture_output=True, timeout=60).returncode == 0
        return False

    def _await(self, name: str) -> None:
        pause, end = threading.Event(), time.monotonic() + READY_SECONDS
        while not self.is_well(name):
            if self.running[name].poll() is not None or time.monotonic() > end:
                raise Missing(f"{name} does not come up:\n{self._log(name)}")
            pause.wait(1.0)

    def _log(self, name: str) -> str:
        return (self.folder / "logs" / f"{name}.log").read_text(encoding="utf-8", errors="replace")[-3000:]

    def stop(self) -> None:
        """End the services, the last that was started first; runs that go on are given a minute."""
        for name, process in reversed(self.running.items()):
            if process.poll() is not None:
                continue
            # a server of PostgreSQL waits for its clients at SIGTERM
            process.send_signal(signal.SIGINT if name == "postgres" else signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(60)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

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


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _parsed(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--folder", type=Path, default=ROOT / ".datasense" / "prod-local", help="where all state is")
    parser.add_argument("--env-file", type=Path, help="secrets of sources, as deploy/compose/datasense.env")
    parser.add_argument(
        "--slots", action="append", default=[], metavar="LANE=N", help="another number of a lane's slots"
    )
    parser.add_argument("--without", action="append", default=[], metavar="SERVICE", help="a service to leave out")
    parser.add_argument(
        "--env", action="append", default=[], metavar="SERVICE:NAME=VALUE", help="a variable of one service alone"
    )
    parser.add_argument("--postgres", action="append", default=[], metavar="NAME=VALUE", help="a setting of PostgreSQL")
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> int:
    """Start everything, say where it is, end it at Ctrl-C or SIGTERM. 2: something is missing or does not come up."""
    given = _parsed(words)
    done = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: done.set())
    slots = {lane: int(count) for lane, _, count in (each.partition("=") for each in given.slots)}
    try:
        topology = Topology(
            given.folder.resolve(), given.env_file, slots=slots, settings=given.postgres, without=given.without,
            variables=given.env,
        )  # fmt: skip
        print(f"Starting {', '.join(topology.services)}; logs are in {topology.folder / 'logs'}.", file=sys.stderr)
        with topology.started():
            print(json.dumps(topology.addresses()), flush=True)
            print("Everything is up; Ctrl-C ends it.", file=sys.stderr)
            while not done.wait(1.0):
                for name, process in topology.running.items():
                    if process.poll() is not None:
                        raise Missing(f"{name} has ended:\n{topology._log(name)}")
    except Missing as missing:
        print(f"Error: {missing}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
