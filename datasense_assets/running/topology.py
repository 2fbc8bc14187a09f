"""The whole platform on one machine as processes: what `datasense up` starts, with which command."""

from __future__ import annotations

import random
import socket
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from datasense_assets.running.processes import Part
from datasense_assets.settings import get_settings

LOCATION = "datasense"
_DEFINITIONS = "datasense_assets.definitions"
# Below the range that the OS gives to outgoing connections: one of those is soon gone to one.
_PORTS = range(25_432, 28_000)


@dataclass(frozen=True)
class Topology:
    """What runs, and where.

    `slots`: runs at once by lane, in warm workers; none: a process is started for each run instead. `separate`: a
    worker a lane, so that none of them touches another. `grace`: seconds that runs have to end when all is stopped.
    """

    folder: Path
    host: str
    port: int
    code_port: int
    slots: Mapping[str, int]
    separate: bool = False
    grace: float = 30.0
    redis_socket: Path | None = None
    redis_program: str | None = None

    @property
    def workspace(self) -> Path:
        """The workspace that webserver and daemon read: the code server alone, which they do not start themselves."""
        return self.folder / "workspace.yaml"

    @property
    def url(self) -> str:
        """Of the web UI."""
        return f"http://{'127.0.0.1' if self.host == '0.0.0.0' else self.host}:{self.port}"  # noqa: S104 - compared

    def write(self) -> None:
        """Write the workspace file."""
        self.folder.mkdir(parents=True, exist_ok=True)
        server = {"host": "127.0.0.1", "port": self.code_port, "location_name": LOCATION}
        self.workspace.write_text(yaml.safe_dump({"load_from": [{"grpc_server": server}]}), encoding="utf-8")

    def parts(self) -> list[Part]:
        """The processes, in the order in which they start."""
        return [*self._redis(), self._code_server(), *self._workers(), self._webserver(), self._daemon()]

    def document(self) -> dict[str, Any]:
        """The plan as plain data."""
        return {
            "url": self.url,
            "logs": str(self.folder / "logs"),
            "processes": [{"name": part.name, "command": list(part.command)} for part in self.parts()],
        }

    def _redis(self) -> list[Part]:
        if self.redis_program is None or self.redis_socket is None:
            return []
        place = self.redis_socket
        words = [self.redis_program, "--port", "0", "--unixsocket", str(place), "--unixsocketperm", "700"]
        # what is in it is of no use to the next one: runs that were lost are run again
        words += ["--dir", str(place.parent), "--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction"]
        return [Part("redis", words, ready=place.is_socket)]

    def _code_server(self) -> Part:
        words = [
            _program("dagster"),
            "code-server",
            "start",
            "-m",
            _DEFINITIONS,
            "-h",
            "127.0.0.1",
            "-p",
            str(self.code_port),
        ]
        words += ["--location-name", LOCATION]
        words += _log_format()
        return Part("code-server", words, ready=lambda: _listens(self.code_port))

    def _workers(self) -> list[Part]:
        if not self.slots:
            return []
        groups = [{lane: count} for lane, count in self.slots.items()] if self.separate else [dict(self.slots)]
        found = []
        for group in groups:
            name = f"worker-{next(iter(group))}" if self.separate else "worker"
            lanes = [word for lane, count in group.items() for word in ("--lane", f"{lane}={count}")]
            words = [sys.executable, "-m", "datasense_assets.cli.main", "worker", *lanes]
            found.append(Part(name, words, stop_seconds=self.grace))
        return found

    def _webserver(self) -> Part:
        words = [sys.executable, "-m", "datasense_assets.cli.main", "webserver", "-w", str(self.workspace)]
        words += ["-h", self.host, "-p", str(self.port), *_log_format()]
        return Part("webserver", words, ready=lambda: _listens(self.port))

    def _daemon(self) -> Part:
        words = [sys.executable, "-m", "datasense_assets.cli.main", "daemon", "-w", str(self.workspace)]
        return Part("daemon", [*words, *_log_format()])


def _program(name: str) -> str:
    """A program of this very environment, whatever PATH says."""
    own = Path(sys.executable).parent / name
    return str(own) if own.is_file() else name


def free_port() -> int:
    """A port on loopback that nobody listens on now."""
    return next(port for port in random.sample(_PORTS, len(_PORTS)) if is_free("127.0.0.1", port))


def is_free(host: str, port: int) -> bool:
    """Whether a server could listen there."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def _listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def _log_format() -> list[str]:
    """For what Dagster's own programs write before they open an instance, from which on `running.logs` has its form."""
    return ["--log-format", "json"] if get_settings().log_lines == "json" else []
