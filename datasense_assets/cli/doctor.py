"""`datasense doctor`: does what is set hold, with the sums."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from typing import Annotated

import typer

from datasense_assets.cli.errors import DONE, INPUT_WRONG, WORLD_FAILED, InputWrong
from datasense_assets.cli.output import JsonFlag, print_json, print_text, say

_SIGNS = {"fine": "ok   ", "note": "note ", "wrong": "WRONG", "unseen": "?    "}
_STYLES = {"note": "yellow", "wrong": "bold red", "unseen": "yellow"}


def doctor(
    all_findings: Annotated[bool, typer.Option("--all", help="Show the sums of what is fine too.")] = False,
    as_json: JsonFlag = False,
    command: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[-- COMMAND ...]", help="Become this command where what is set holds.", show_default=False
        ),
    ] = None,
) -> None:
    """Add up what is set against what there is, and refuse what cannot hold. It changes nothing.

    Exit codes: 0 all of it holds (notes are worth a look), 1 something that is set cannot hold, 2 it could not be
    looked at. Before a process of a production: `datasense doctor -- dagster code-server start ...` starts it, unless
    what operators have set cannot hold. What tenants' schedules ask for, and a full disk, keep nothing down.
    """
    from datasense_assets.cli.metrics import open_lasting_instance
    from datasense_assets.operations.doctor import Level, against_starting, examine, log, worst
    from datasense_assets.running.logs import set_up_logging
    from datasense_assets.running.owners import catalog_engine
    from datasense_assets.settings import get_settings

    settings = get_settings()
    findings = examine(catalog_engine, open_lasting_instance, settings)
    level = worst(against_starting(findings) if command else findings)
    code = {Level.WRONG: INPUT_WRONG, Level.UNSEEN: WORLD_FAILED}.get(level, DONE)
    if command and settings.log_lines == "json":
        # it stands at the head of the log of what is started
        set_up_logging(settings)
        log(findings)
    elif as_json:
        print_json({"holds": code == DONE, "findings": [asdict(each) for each in findings]})
    else:
        for each in findings:
            line = f"{_SIGNS[each.level]} {each.name}: {each.said}"
            print_text(line)
            if each.level is not Level.FINE or all_findings:
                for line in (*each.sums, *([each.fix] if each.fix else [])):
                    print_text(f"        {line}")
        counts = ", ".join(f"{sum(f.level is kind for f in findings)} {kind}" for kind in Level)
        say(f"{counts}.", style=_STYLES.get(level))
    if command and code == DONE:
        _become(command)
    raise typer.Exit(code)


def _become(command: list[str]) -> None:
    sys.stdout.flush()
    try:
        os.execvp(command[0], command)  # noqa: S606 - the command is the caller's own
    except OSError as error:
        raise InputWrong(f"{command[0]} cannot be started: {error.strerror}.") from None
