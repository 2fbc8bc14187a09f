"""Dagster's daemon, over a workspace that is read again when a code server is another, not when a minute is over.

Dagster's own entry point, `dagster-daemon run`, reads the whole graph of every location once a minute, and beside that
asks each code server once a second whether it is still the same, to read its graph when it is not. Here the second is
the only way, and it is asked every five seconds, as often as the daemon looks at sensors: an answer passes through a
new channel to the server and another to the process with the code. Either program can take the other's place.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from time import monotonic
from typing import Any, Self

import dagster as dg
from dagster._core.errors import DagsterUserCodeUnreachableError  # noqa: TID251
from dagster._core.remote_origin import GrpcServerCodeLocationOrigin  # noqa: TID251
from dagster._core.remote_representation.code_location import GrpcServerCodeLocation  # noqa: TID251
from dagster._core.remote_representation.grpc_server_registry import GrpcServerRegistry  # noqa: TID251
from dagster._core.workspace.context import WorkspaceProcessContext  # noqa: TID251
from dagster._core.workspace.load_target import WorkspaceFileTarget  # noqa: TID251
from dagster._core.workspace.workspace import CodeLocationEntry  # noqa: TID251
from dagster._daemon.controller import (
    DagsterDaemonController,
    create_daemon_grpc_server_registry,
    create_daemons_from_instance,
)
from dagster._utils.interrupts import capture_interrupts, setup_interrupt_handlers
from dagster._utils.log import configure_loggers

_log = logging.getLogger(__name__)
_ANSWER_SECONDS = 5
LOOK_SECONDS = 5.0
# A server that was given an identity of its own (`--fixed-server-id`) does not say when its code is another.
LONGEST_SECONDS = 3600.0


class SteadyWorkspace(WorkspaceProcessContext):
    """A workspace that looks by itself whether every code server is the one that was read, and else reads all anew."""

    def __init__(
        self, instance: dg.DagsterInstance, workspace_files: Sequence[Path], servers: GrpcServerRegistry
    ) -> None:
        """Read the locations that the files name."""
        self._read_at = monotonic()
        self._reading = threading.Lock()
        self._over = threading.Event()
        self._looking = threading.Thread(target=self._look, name="datasense-workspace", daemon=True)
        target = WorkspaceFileTarget(paths=[str(path) for path in workspace_files])
        super().__init__(instance, target, grpc_server_registry=servers)

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
        """Read all locations again if one of them is not what was read: its server, its address, or an error."""
        with self._reading:
            if monotonic() - self._read_at < LONGEST_SECONDS and self.is_current():
                return
            super().refresh_workspace()
            self._read_at = monotonic()

    def _look(self) -> None:
        while not self._over.wait(LOOK_SECONDS):
            try:
                self.refresh_workspace()
            except Exception:  # noqa: BLE001 - looked at again, whatever it was
                _log.exception("The code locations could not be looked at; it is tried again.")

    def _start_watch_thread(self, origin: GrpcServerCodeLocationOrigin) -> None:
        """Dagster's look each second at one server: ours does for all."""

    def is_current(self) -> bool:
        """Whether the workspace file names the servers that were read, and each is still the process it was then."""
        entries = self.get_current_workspace().code_location_entries
        target = self.workspace_load_target
        origins = {} if target is None else {origin.location_name: origin for origin in target.create_origins()}
        return origins == {name: entry.origin for name, entry in entries.items()} and all(
            map(_is_same, entries.values())
        )


def _is_same(entry: CodeLocationEntry) -> bool:
    location = entry.code_location
    if not isinstance(entry.origin, GrpcServerCodeLocationOrigin) or not isinstance(location, GrpcServerCodeLocation):
        return False
    try:
        return location.client.get_server_id(timeout=_ANSWER_SECONDS) == location.server_id
    except DagsterUserCodeUnreachableError:
        return False


def serve_daemon(
    workspace_files: Sequence[Path],
    *,
    heartbeat_tolerance_seconds: float,
    log_level: str,
    log_format: str,
) -> None:
    """Run the daemons that the instance of DAGSTER_HOME asks for, until SIGTERM or SIGINT.

    Raises:
        Exception: a daemon's thread has died, or no location could be read for five minutes; start it again.
    """
    setup_interrupt_handlers()
    with suppress(KeyboardInterrupt), capture_interrupts(), ExitStack() as stack:
        instance = stack.enter_context(dg.DagsterInstance.get())
        servers = stack.enter_context(create_daemon_grpc_server_registry(instance))
        daemons = [stack.enter_context(daemon) for daemon in create_daemons_from_instance(instance)]
        workspace = stack.enter_context(SteadyWorkspace(instance, workspace_files, servers))
        configure_loggers(handler="default", formatter=log_format, log_level=log_level.upper())
        controller = stack.enter_context(
            DagsterDaemonController(
                workspace,
                daemons,
                heartbeat_tolerance_seconds=heartbeat_tolerance_seconds,
                grpc_server_registry=servers,
            )
        )
        controller.check_daemon_loop()
