"""`datasense housekeeping`: by hand what the nightly schedule does."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer

from datasense_assets.cli.address import open_catalog
from datasense_assets.cli.here import instance_for_runs
from datasense_assets.cli.output import JsonFlag, print_json, print_table, say
from datasense_assets.settings import get_settings

app = typer.Typer(help="Putting away what runs leave behind.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keep `run` a command of its own."""


@app.command("run")
def run(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be put away.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Put away old records, staged tables, kept pages and scratch of dead runs, as the nightly schedule does."""
    from datasense_assets.automation.putting_away import put_everything_away

    with open_catalog() as catalog, instance_for_runs() as instance:
        done = put_everything_away(catalog, get_settings(), instance, datetime.now(UTC), dry_run=dry_run)
    if as_json:
        print_json({"dry_run": dry_run, "done": [asdict(each) for each in done]})
        return
    told = [each for each in done if each.count or each.skipped]
    if not told:
        say("Nothing is lying about.")
        return
    print_table(
        ("where", "what", "would be put away" if dry_run else "put away"),
        [(each.where, each.what, each.skipped or f"{each.count} {' '.join(each.names[:5])}".strip()) for each in told],
    )
