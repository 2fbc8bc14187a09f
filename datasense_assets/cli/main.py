"""The door of the command line: the commands, and from whatever they raise to words and an exit code."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import typer
from typer.core import TyperGroup

from datasense_assets.cli import (
    alerting,
    apply,
    backup,
    checks,
    database,
    demo,
    doctor,
    exporting,
    housekeeping,
    importing,
    keys,
    limits,
    lineage,
    listing,
    metrics,
    moving,
    pausing,
    preview,
    recipes,
    serving,
    simulating,
    sources,
    status,
    syncing,
    working,
    workspace,
)
from datasense_assets.cli.errors import DONE, INPUT_WRONG, INTERRUPTED, WORLD_FAILED, Explained, explain
from datasense_assets.cli.output import print_text, say, show_failure

# The common parent of all that the parser refuses; where it lives differs between versions of typer.
_UsageError: Any = typer.BadParameter.__base__


class Commands(TyperGroup):
    """The group of all commands; it never shows a traceback for an error that was to be expected."""

    def main(self, args: Sequence[str] | None = None, *, standalone_mode: bool = True, **more: Any) -> Any:  # type: ignore[override]
        """Run a command line; exit with its code, or return it where `standalone_mode` is off."""
        given = list(sys.argv[1:] if args is None else args)
        code = self._outcome(given, **more)
        if standalone_mode:
            sys.exit(code)
        return code

    def _outcome(self, args: list[str], **more: Any) -> int:
        as_json = "--json" in args
        try:
            returned = super().main(args, standalone_mode=False, **more)
            return returned if isinstance(returned, int) else DONE
        except typer.Abort:
            say("Stopped.")
            return INTERRUPTED
        except _UsageError as error:
            return _refuse(error, as_json)
        except Exception as error:  # noqa: BLE001 - the last place where it can be put in words
            failure = explain(error)
            if failure is None:
                traceback.print_exc()
                text = f"{type(error).__name__}: this should not happen; it is a defect of DataSense."
                failure = Explained(WORLD_FAILED, text, "Please report it with the lines above.")
            show_failure(failure, as_json=as_json)
            return failure.exit_code


def _refuse(error: Any, as_json: bool) -> int:
    """Say what is wrong with the command line itself; asking for nothing shows the help."""
    context = getattr(error, "ctx", None)
    message = error.format_message()
    if type(error).__name__ == "NoArgsIsHelpError":
        print_text(message)
        return DONE
    path = context.command_path if context is not None else "datasense"
    show_failure(Explained(INPUT_WRONG, message, f"See `{path} --help`."), as_json=as_json)
    return INPUT_WRONG


app = typer.Typer(
    name="datasense",
    cls=Commands,
    help="NGO data sources as fresh, typed, documented Postgres tables.",
    epilog="Exit codes: 0 done, 1 your input is wrong (every problem is listed), 2 the world failed (try again).",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        try:
            print_text(version("datasense-assets"))
        except PackageNotFoundError:
            print_text("unknown")
        raise typer.Exit()


@app.callback()
def datasense(
    show_version: bool = typer.Option(
        False, "--version", callback=_show_version, is_eager=True, help="Print the version and leave."
    ),
) -> None:
    """NGO data sources as fresh, typed, documented Postgres tables."""
    del show_version


_CATALOG, _RUNNING, _RECIPES, _PLATFORM = "The catalog", "Sources", "Recipes", "Platform"

app.command(rich_help_panel="Start here")(demo.demo)
app.command(rich_help_panel=_CATALOG)(apply.apply)
app.command(rich_help_panel=_CATALOG)(exporting.export)
app.command(rich_help_panel=_CATALOG)(exporting.delete)
app.command(rich_help_panel=_CATALOG)(moving.move)
app.command("list", rich_help_panel=_CATALOG)(listing.show_list)
app.command(rich_help_panel=_RUNNING)(sources.discover)
app.command(rich_help_panel=_RUNNING)(sources.test)
app.command(rich_help_panel=_RUNNING)(syncing.sync)
app.command(rich_help_panel=_RECIPES)(recipes.build)
app.command(rich_help_panel=_RECIPES, cls=preview.PreviewCommand)(preview.preview)
app.command(rich_help_panel=_RECIPES)(recipes.check)
app.command(rich_help_panel=_RECIPES)(lineage.lineage)
app.command(rich_help_panel=_RUNNING)(status.status)
app.add_typer(checks.app, name="checks", rich_help_panel=_RUNNING)
app.command(rich_help_panel=_RUNNING)(pausing.pause)
app.command(rich_help_panel=_RUNNING)(pausing.resume)
app.add_typer(alerting.app, name="alerts", rich_help_panel=_PLATFORM)
app.command(rich_help_panel=_PLATFORM)(backup.backup)
app.command(rich_help_panel=_PLATFORM)(backup.restore)
app.add_typer(housekeeping.app, name="housekeeping", rich_help_panel=_PLATFORM)
app.add_typer(keys.app, name="keys", rich_help_panel=_PLATFORM)
app.add_typer(limits.app, name="limits", rich_help_panel=_PLATFORM)
app.command(rich_help_panel=_PLATFORM)(metrics.metrics)
app.command(rich_help_panel=_PLATFORM)(doctor.doctor)
app.add_typer(importing.app, name="import", rich_help_panel=_RECIPES)
app.command(rich_help_panel=_PLATFORM)(working.up)
app.command(rich_help_panel=_PLATFORM)(working.worker)
app.command(rich_help_panel=_PLATFORM)(serving.daemon)
app.command(rich_help_panel=_PLATFORM)(serving.webserver)
app.command(rich_help_panel=_PLATFORM)(simulating.simulate)
app.command(rich_help_panel=_PLATFORM)(workspace.workspace)
app.add_typer(database.app, name="db", rich_help_panel=_PLATFORM)


def main() -> None:
    """The `datasense` program."""
    app()


if __name__ == "__main__":
    main()
