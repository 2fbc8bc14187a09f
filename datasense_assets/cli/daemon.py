"""`datasense daemon`: Dagster's daemon, reading a code location again when it has changed and not each minute."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from datasense_assets.cli.errors import InputWrong

_TOLERANCE = "DAGSTER_DAEMON_HEARTBEAT_TOLERANCE"


class LogFormat(StrEnum):
    """Forms of log lines that Dagster's programs know."""

    COLORED = "colored"
    JSON = "json"
    RICH = "rich"


def daemon(
    workspace: Annotated[
        list[Path] | None,
        typer.Option(
            "-w", "--workspace", help="Names the code servers; can be given more than once.", show_default="here"
        ),
    ] = None,
    log_level: Annotated[str, typer.Option(help="DEBUG, INFO, WARNING or ERROR.")] = "INFO",
    log_format: Annotated[LogFormat, typer.Option(help="Of what is logged.")] = LogFormat.COLORED,
) -> None:
    """Run schedules, sensors, the queue, monitoring and backfills until told to stop: for `dagster-daemon run`.

    Does what that does, and takes its place and its heartbeats; only it reads a location's graph when its server is
    another, and not once a minute, which with thousands of sources is most of what an idle platform costs.
    """
    from datasense_assets.running.daemon import serve_daemon
    from datasense_assets.running.instance import ensure_dagster_home
    from datasense_assets.settings import read_environment

    files = workspace or [Path("workspace.yaml")]
    missing = [str(path) for path in files if not path.is_file()]
    if missing:
        raise InputWrong(f"There is no file {', '.join(missing)}.", advice="Name the workspace file: -w FILE.")
    if log_level.upper() not in {"DEBUG", "INFO", "WARNING", "ERROR"}:
        raise InputWrong(f"There is no log level {log_level!r}.", advice="Use DEBUG, INFO, WARNING or ERROR.")
    tolerance = read_environment(_TOLERANCE) or "1800"
    if not tolerance.isdecimal():
        raise InputWrong(f"{_TOLERANCE} is {tolerance!r}.", advice="Give whole seconds.")
    ensure_dagster_home()
    serve_daemon(files, heartbeat_tolerance_seconds=float(tolerance), log_level=log_level, log_format=log_format.value)
