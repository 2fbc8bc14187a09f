"""The code locations as a long-lived process sees them: read again when a code server is another, and only then.

Dagster's daemon reads the whole graph of every location once a minute, and daemon and webserver each ask every code
server once a second whether it is still the same. Here one thread asks all of them every five seconds, as often as the
daemon looks at sensors (an answer passes through a new channel to the server and another to the process with the code),
and what has not changed is not read.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import monotonic
from typing import Any, Self

import dagster as dg
from dagster._core.errors import DagsterUserCodeUnreachableError  # noqa: TID251
from dagster._core.remote_origin import GrpcServerCodeLocationOrigin  # noqa: TID251
from dagster._core.remote_representation.code_location import CodeLocation, GrpcServerCodeLocation  # noqa: TID251
from dagster._core.remote_representation.grpc_server_registry import GrpcServerRegistry  # noqa: TID251
from dagster._core.workspace.context import WorkspaceProcessContext  # noqa: TID251
from dagster._core.workspace.load_target import WorkspaceFileTarget  # noqa: TID251
from dagster._core.workspace.workspace import CodeLocationEntry  # noqa: TID251

_log = logging.getLogger(__name__)
LOOK_SECONDS = 5.0
_ANSWER_SECONDS = 5
# A server that is being restarted is away for a moment; after so many looks in a row its location is an error.
_LOOKS_AWAY = 2
# A server that was given an identity of its own (`--fixed-server-id`) does not say when its code is another.
LONGEST_SECONDS = 3600.0


class SteadyWorkspace(WorkspaceProcessContext):
    """A workspace that looks by itself whether every code server is the one that was read."""

    def __init__(
        self,
        instance: dg.DagsterInstance,
        workspace_files: Sequence[Path],
        servers: GrpcServerRegistry | None = None,
        *,
        version: str = "",
        read_only: bool = False,
    ) -> None:
        """Read the locations that the files name."""
        self._read_at = monotonic()
        self._away: Counter[str] = Counter()
        self._reading = threading.Lock()
        self._over = threading.Event()
        self._looking = threading.Thread(target=self._look, name="datasense-workspace", daemon=True)
        self._files = WorkspaceFileTarget(paths=[str(path) for path in workspace_files])
        super().__init__(instance, self._files, version=version, read_only=read_only, grpc_server_registry=servers)

    def __enter__(self) -> Self:
        """Begin to look."""
        self._looking.start()
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        """Look no more, and let go of all locations."""
        self._over.set()
        self._looking.join()
        super().__exit__(*error)

    def refresh_workspace(self) -> None:
        """Read again what is not what was read: all where the file names others, else each whose server is another.

        And what this process serves itself, whose server Dagster's controller has let go of before it asks for this.
        """
        self._refresh(own_too=True)

    def _refresh(self, *, own_too: bool) -> None:
        with self._reading:
            entries = self.get_current_workspace().code_location_entries
            if monotonic() - self._read_at >= LONGEST_SECONDS or not self._names(entries):
                super().refresh_workspace()
                self._read_at = monotonic()
                return
            for name, entry in entries.items():
                served = isinstance(entry.origin, GrpcServerCodeLocationOrigin)
                if self._is_another(name, entry.code_location) if served else own_too:
                    self.refresh_code_location(name)

    def _names(self, entries: Mapping[str, CodeLocationEntry]) -> bool:
        """Whether the files still name these locations, at the same addresses."""
        origins = {origin.location_name: origin for origin in self._files.create_origins()}
        return origins == {name: entry.origin for name, entry in entries.items()}

    def _is_another(self, name: str, location: CodeLocation | None) -> bool:
        if not isinstance(location, GrpcServerCodeLocation):
            return True
        try:
            found = location.client.get_server_id(timeout=_ANSWER_SECONDS)
        except DagsterUserCodeUnreachableError:
            self._away[name] += 1
            return self._away[name] >= _LOOKS_AWAY
        del self._away[name]
        return bool(found != location.server_id)

    def _look(self) -> None:
        while not self._over.wait(LOOK_SECONDS):
            try:
                self._refresh(own_too=False)
            except Exception:  # noqa: BLE001 - looked at again, whatever it was
                _log.exception("The code locations could not be looked at; it is tried again.")

    def _start_watch_thread(self, origin: GrpcServerCodeLocationOrigin) -> None:
        """Dagster's look each second at one server: ours does for all."""
