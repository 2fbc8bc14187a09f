"""Dagster's daemon and Dagster's webserver over a workspace that reads a graph when it has changed.

They do the same work as `dagster-daemon run` and `dagster-webserver`, and either can take the other's place.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

import dagster as dg
from dagster._daemon.controller import (
    DagsterDaemonController,
    create_daemon_grpc_server_registry,
    create_daemons_from_instance,
)
from dagster._utils.interrupts import capture_interrupts, setup_interrupt_handlers
from dagster._utils.log import configure_loggers

from datasense_assets.running.workspace import SteadyWorkspace

# A pooler, or a server that is restarted, closes what is kept for longer.
_RECYCLE_SECONDS = 600
# What the UI asks for while it shows a run: as often as from `dagster-webserver`.
_POLL_MS = 2000


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


def serve_webserver(
    workspace_files: Sequence[Path], *, host: str, port: int, path_prefix: str, read_only: bool, log_format: str
) -> None:
    """Serve Dagster's web UI of the instance of DAGSTER_HOME, until SIGTERM or SIGINT.

    Raises:
        OSError: the port is taken.
    """
    from dagster_webserver import cli as stock
    from dagster_webserver.version import __version__

    setup_interrupt_handlers()
    configure_loggers(formatter=log_format, log_level="INFO")
    with ExitStack() as stack:
        instance = stack.enter_context(dg.DagsterInstance.get())
        instance.optimize_for_webserver(
            stock.DEFAULT_DB_STATEMENT_TIMEOUT, _RECYCLE_SECONDS, stock.DEFAULT_POOL_MAX_OVERFLOW
        )
        workspace = SteadyWorkspace(instance, workspace_files, version=__version__, read_only=read_only)
        stack.enter_context(workspace)
        stock.host_dagster_ui_with_workspace_process_context(workspace, host, port, path_prefix, "warning", _POLL_MS)
