"""`datasense checks`: what came of the checks of tables and recipes, running them now, accepting a number of rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from datasense_assets.cli.address import Address, find_recipe, find_source, find_table, open_catalog, read_organization
from datasense_assets.cli.errors import DONE, WORLD_FAILED, InputWrong
from datasense_assets.cli.here import instance_for_runs
from datasense_assets.cli.output import JsonFlag, ago, print_json, print_table, progress, quiet, say
from datasense_assets.cli.pausing import person

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from datasense_assets.catalog.models import Organization, RecipeRow, Source, SourceTable
    from datasense_assets.catalog.state.checks import CheckOwner, CheckRecord

_FORM = "ORG[/SOURCE[/TABLE] | /recipes[/NAME]]"
_What = Annotated[str, typer.Argument(metavar=_FORM, help="All tables and recipes of an organisation, or some.")]

app = typer.Typer(name="checks", help="Checks of tables and recipes.", no_args_is_help=True)


@dataclass(frozen=True)
class Checked:
    """A table or recipe that has checks: its asset key path and its id in the catalog."""

    path: tuple[str, ...]
    owner: CheckOwner
    declared: tuple[Any, ...]


@app.command("list")
def show(what: _What, as_json: JsonFlag = False) -> None:
    """Show what came of every check when it was last run."""
    with open_catalog() as catalog:
        _, found = _find(catalog, what)
        rows = _rows(catalog, found)
    _print(rows, as_json=as_json)


@app.command("run")
def run(what: _What, as_json: JsonFlag = False) -> None:
    """Run checks here and now on the tables as they stand; nothing is loaded or built. Exits with 2 if one blocks."""
    from datasense_assets.assets.graph import load_definitions
    from datasense_assets.cli.errors import WorldFailed
    from datasense_assets.running import tags as t
    from datasense_assets.running.local import check_locally
    from datasense_assets.settings import get_settings

    with open_catalog() as catalog:
        org, found = _find(catalog, what)
        keys = [each.path for each in found]
        asked = {t.LANE: t.Lane.INTERACTIVE.value}
        tags = {**asked, **t.run_tags(asked, t.selected(keys), t.Owner(tier=org.tier.value))}
        log = get_settings().home / "logs" / "runs.log"
        with instance_for_runs() as instance, progress(f"Checking {what}"), quiet(log):
            done = check_locally(load_definitions, keys, instance=instance, tags=tags)
        rows = _rows(catalog, found)
    if done.failures:
        raise WorldFailed("The checks could not be run.", advice=" ".join(done.failures))
    _print(rows, as_json=as_json)
    raise typer.Exit(WORLD_FAILED if any(row["blocks"] for row in rows) else DONE)


@app.command("accept")
def accept(
    what: Annotated[str, typer.Argument(metavar="ORG/SOURCE/TABLE | ORG/recipes/NAME", help="One table or recipe.")],
    as_json: JsonFlag = False,
) -> None:
    """Take the number of rows that row_count_change objects to for right; what waits for it goes on."""
    from datasense_assets.catalog.state.checks import accept_row_count

    with open_catalog() as catalog:
        _, found = _find(catalog, what)
        if len(found) != 1 or what.count("/") != 2:
            raise InputWrong(
                f"{what!r} is not one table or recipe.", advice="Write ORG/SOURCE/TABLE or ORG/recipes/NAME."
            )
        with catalog.begin() as connection:
            rows = accept_row_count(connection, found[0].owner, by=person())
    if rows is None:
        raise InputWrong(f"No check objects to the number of rows of {what}.", advice="See `datasense checks list`.")
    say(f"{what}: {rows} rows are right.", style="green")
    if as_json:
        print_json({"accepted": what, "rows": rows})


def _find(catalog: Engine, what: str) -> tuple[Organization, list[Checked]]:
    """The organisation, and what of it has checks.

    Raises:
        InputWrong: there is no such thing, or it has no check.

    """
    address = Address.parse(what, parts=3, form=_FORM)
    with catalog.connect() as connection:
        org = read_organization(connection, address.org)
    found: list[Checked] = []
    if address.name == "recipes":
        recipes = [find_recipe(org, address.table)] if address.table is not None else list(org.recipes)
        found = [_recipe(org, row) for row in recipes]
    elif address.name is not None:
        source = find_source(org, address.name)
        tables = [find_table(org, source, address.table)] if address.table is not None else list(source.tables)
        found = [_table(org, source, table) for table in tables]
    else:
        found = [_table(org, source, table) for source in org.sources for table in source.tables]
        found += [_recipe(org, row) for row in org.recipes]
    checked = [each for each in found if each.declared]
    if not checked:
        raise InputWrong(
            f"{what} has no checks.",
            advice="Write them under `checks` of a table or recipe (docs/checks.md) and apply.",
        )
    return org, checked


def _table(org: Organization, source: Source, table: SourceTable) -> Checked:
    from datasense_assets.catalog.state.checks import CheckOwner
    from datasense_assets.running.graph_index import table_key

    return Checked(table_key(org.slug, source.slug, table.slug), CheckOwner(table_id=table.id), table.checks)


def _recipe(org: Organization, row: RecipeRow) -> Checked:
    from datasense_assets.catalog.state.checks import CheckOwner
    from datasense_assets.running.graph_index import recipe_key

    return Checked(recipe_key(org.slug, row.name), CheckOwner(recipe_id=row.id), row.checks)


def _rows(catalog: Engine, found: Sequence[Checked]) -> list[dict[str, Any]]:
    """One row a check, whether it has been run or not."""
    from datasense_assets.catalog.state.checks import read_checks
    from datasense_assets.recipes.checking.naming import check_names, kind_of_check, severity_of

    rows: list[dict[str, Any]] = []
    with catalog.connect() as connection:
        for each in found:
            stored = read_checks(connection, each.owner)
            known = {record.name: record for record in stored.records}
            for name, check in zip(check_names(each.declared), each.declared, strict=True):
                row = {"asset": "/".join(each.path), "check": name, "kind": kind_of_check(check)}
                row |= {"severity": severity_of(check), **_outcome(known.get(name), stored.checked_at)}
                rows.append(row)
    return rows


def _outcome(record: CheckRecord | None, at: datetime | None) -> dict[str, Any]:
    if record is None:
        return {"passed": None, "blocks": False, "broken": None, "message": "Not run yet.", "samples": [], "at": None}
    said = asdict(record)
    kept = {name: said[name] for name in ("passed", "broken", "message")}
    if record.waits:
        kept["passed"] = None
    blocks = record.severity == "error" and not record.passed
    return {**kept, "blocks": blocks, "samples": list(record.samples), "at": at}


def _print(rows: Sequence[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        print_json({"checks": list(rows)})
        return
    words = {None: "not run", True: "holds", False: "BROKEN"}
    print_table(
        ("asset", "check", "severity", "", "rows", "run", "what was found"),
        [
            (
                row["asset"],
                row["check"],
                row["severity"],
                words[row["passed"]],
                row["broken"],
                ago(row["at"]) if row["at"] is not None else "",
                row["message"] + (f" Such as {', '.join(row['samples'])}." if row["samples"] else ""),
            )
            for row in rows
        ],
    )
