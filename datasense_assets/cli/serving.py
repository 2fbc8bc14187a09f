"""`datasense daemon`, `datasense webserver`: Dagster's own, reading a location when it has changed, not each minute."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from datasense_assets.cli.errors import InputWrong, WorldFailed

_TOLERANCE = "DAGSTER_DAEMON_HEARTBEAT_TOLERANCE"


class LogFormat(StrEnum):
    """Forms of log lines that Dagster's programs know."""

    COLORED = "colored"
    JSON = "json"
    RICH = "rich"


WorkspaceFiles = Annotated[
    list[Path] | None,
    typer.Option("-w", "--workspace", help="Names the code servers; can be given more than once.", show_default="here"),
]
LogFormatOption = Annotated[LogFormat, typer.Option(help="Of what is logged.")]


def daemon(
    workspace: WorkspaceFiles = None,
    log_level: Annotated[str, typer.Option(help="DEBUG, INFO, WARNING or ERROR.")] = "INFO",
    log_format: LogFormatOption = LogFormat.COLORED,
) -> None:
    """Run schedules, sensors, the queue, monitoring and backfills until told to stop: for `dagster-daemon run`.

    Does what that does, and takes its place and its heartbeats; only it reads a location's graph when its server is
    another, and not once a minute, which with thousands of sources is most of what an idle platform costs.
    """
    from datasense_assets.running.daemon import serve_daemon
    from datasense_assets.running.instance import ensure_dagster_home
    from datasense_assets.settings import read_environment

    files = _files(workspace)
    if log_level.upper() not in {"DEBUG", "INFO", "WARNING", "ERROR"}:
        raise InputWrong(f"There is no log level {log_level!r}.", advice="Use DEBUG, INFO, WARNING or ERROR.")
    tolerance = read_environment(_TOLERANCE) or "1800"
    if not tolerance.isdecimal():
        raise InputWrong(f"{_TOLERANCE} is {tolerance!r}.", advice="Give whole seconds.")
    ensure_dagster_home()
    serve_daemon(files, heartbeat_tolerance_seconds=float(tolerance), log_level=log_level, log_format=log_format.value)


def webserver(
    workspace: WorkspaceFiles = None,
    host: Annotated[str, typer.Option("-h", "--host", help="Where it listens.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("-p", "--port", min=1, max=65535, help="Of the web UI.")] = 3000,
    path_prefix: Annotated[str, typer.Option("-l", "--path-prefix", help="Before every path, such as /dagster.")] = "",
    read_only: Annotated[bool, typer.Option("--read-only", help="Nobody can start or change anything in it.")] = False,
    log_format: LogFormatOption = LogFormat.COLORED,
) -> None:
    """Serve Dagster's web UI until told to stop: for `dagster-webserver`.

    Does what that does; only it asks code servers every five seconds, and not each second, whether they are another.
    """
    from datasense_assets.running.daemon import serve_webserver
    from datasense_assets.running.instance import ensure_dagster_home
    from datasense_assets.running.topology import is_free

    files = _files(workspace)
    if path_prefix and not path_prefix.startswith("/"):
        raise InputWrong(f"The prefix {path_prefix!r} is no path.", advice="Begin it with a slash.")
    if not is_free(host, port):
        raise WorldFailed(f"Something listens on {host}:{port} already.", advice="Stop it, or choose another --port.")
    ensure_dagster_home()
    serve_webserver(
        files, host=host, port=port, path_prefix=path_prefix, read_only=read_only, log_format=log_format.value
    )


def _files(workspace: list[Path] | None) -> list[Path]:
    files = workspace or [Path("workspace.yaml")]
    missing = [str(path) for path in files if not path.is_file()]
    if missing:
        raise InputWrong(f"There is no file {', '.join(missing)}.", advice="Name the workspace file: -w FILE.")
    return files
