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
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

if not __package__:  # run by its path: the package `deploy` is in the folder above
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from deploy.compose_file import in_order
from deploy.local_servers import pgbouncer, postgres, redis
from deploy.topology import ROOT, Missing, Topology

READY_SECONDS = 300


class Services:
    """The services of a topology as processes: started in order, watched, and ended."""

    def __init__(self, topology: Topology) -> None:
        """Nothing is started yet."""
        self.topology = topology
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self._well: set[str] = set()

    @contextmanager
    def started(self) -> Iterator[None]:
        """All services, each once those that it depends on are well; they end with the block."""
        self._lay_out()
        try:
            for name in in_order(self.topology.services):
                self._start(name)
                if name != "migrate":
                    continue
                if self.running.pop(name).wait(READY_SECONDS) != 0:
                    raise Missing(f"migrate failed:\n{self.log(name)}")
            for name in self.running:
                self._await(name)
            yield
        finally:
            self.stop()

    def _lay_out(self) -> None:
        folder = self.topology.folder
        home = folder / "dagster_home"
        for made in (home, folder / "state", folder / "files", folder / "logs"):
            made.mkdir(exist_ok=True)
        shutil.copy(ROOT / "dagster.yaml", home / "dagster.yaml")
        workspace = (ROOT / "deploy/compose/workspace.yaml").read_text(encoding="utf-8")
        workspace = workspace.replace("host: code-server", "host: 127.0.0.1")
        port = self.topology.ports["code-server"]
        (home / "workspace.yaml").write_text(workspace.replace("port: 3030", f"port: {port}"), encoding="utf-8")

    def _start(self, name: str) -> None:
        for other, how in (self.topology.services[name].get("depends_on") or {}).items():
            if how["condition"] == "service_healthy" and other in self.running:
                self._await(other)
        servers = {"postgres": postgres, "pgbouncer": pgbouncer, "redis": redis}
        words = servers[name](self.topology) if name in servers else self.topology.words(name)
        self._run(name, words, user=self.topology.user if name in servers else None)
        if name == "postgres" and not (self.topology.folder / "initialized").exists():
            self._await(name)
            self.topology.command(["sh", str(ROOT / "deploy/compose/postgres-init.sh")], "postgres")
            (self.topology.folder / "initialized").touch()

    def _run(self, name: str, words: Sequence[str], *, user: str | None) -> None:
        with (self.topology.folder / "logs" / f"{name}.log").open("ab") as log:
            self.running[name] = subprocess.Popen(
                list(words),
                env=self.topology.environment(name),
                cwd=self.topology.folder if user is None else "/",
                stdout=log,
                stderr=subprocess.STDOUT,
                user=user,
                group=None if user is None else pwd.getpwnam(user).pw_gid,
                start_new_session=True,
            )

    def is_well(self, name: str) -> bool:
        """What the service's health check says now; one that has none is well while it runs."""
        check = (self.topology.services[name].get("healthcheck") or {}).get("test")
        if not check:
            return self.running[name].poll() is None
        if name in self.topology.ports and not _listens(self.topology.ports[name]):
            # some checks take seconds to say as much
            return False
        words = [self.topology.here(word, name) for word in check[1:]]
        with suppress(subprocess.TimeoutExpired):
            done = subprocess.run(words, env=self.topology.environment(name), capture_output=True, timeout=60)
            return done.returncode == 0
        return False

    def _await(self, name: str) -> None:
        """Until it is well for the first time: to ask again for each that depends on it imports Dagster each time."""
        pause, end = threading.Event(), time.monotonic() + READY_SECONDS
        while name not in self._well and not self.is_well(name):
            if self.running[name].poll() is not None or time.monotonic() > end:
                raise Missing(f"{name} does not come up:\n{self.log(name)}")
            pause.wait(0.5)
        self._well.add(name)

    def log(self, name: str) -> str:
        """The last that a service has said."""
        return (self.topology.folder / "logs" / f"{name}.log").read_text(encoding="utf-8", errors="replace")[-3000:]

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
        services = Services(topology)
        with services.started():
            print(json.dumps(topology.addresses()), flush=True)
            print("Everything is up; Ctrl-C ends it.", file=sys.stderr)
            while not done.wait(1.0):
                for name, process in services.running.items():
                    if process.poll() is not None:
                        raise Missing(f"{name} has ended:\n{services.log(name)}")
    except Missing as missing:
        print(f"Error: {missing}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
