"""`datasense export` and `datasense delete`: the catalog back as a file, and rows out of it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from datasense_assets.cli.address import Address, find_recipe, open_catalog, read_organization, unknown
from datasense_assets.cli.errors import InputWrong, WorldFailed
from datasense_assets.cli.moving import delete_with_data
from datasense_assets.cli.output import JsonFlag, print_json, print_text, progress, say, warn

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from datasense_assets.catalog.delete import Deleted
    from datasense_assets.catalog.models import Organization

_FORM = "ORG[/SLUG]"


def export(
    org: Annotated[str, typer.Argument(metavar="ORG", help="The organisation.")],
    to: Annotated[
        Path | None,
        typer.Option("--to", help="A new folder for the manifest and all its tables as CSV.", show_default=False),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Print an organisation as a manifest that, applied, gives the same again. Secrets are references, never values.

    With --to its data goes into a folder too: tables/NAME.csv.gz, all of one moment, and columns.json with the labels.
    """
    from datasense_assets.catalog.export import export_organization

    address = Address.parse(org, parts=1, form="ORG")
    if to is not None:
        _take_along(address.org, to, as_json=as_json)
        return
    with open_catalog() as catalog, catalog.connect() as connection:
        print_text(export_organization(connection, read_organization(connection, address.org).slug))


def _take_along(slug: str, folder: Path, *, as_json: bool) -> None:
    from datasense_assets.operations.organizations.taking import take_along
    from datasense_assets.settings import get_settings

    if folder.exists():
        raise InputWrong(f"{folder} is there already.", advice="Name a folder that is yet to be made.")
    with open_catalog() as catalog, progress(f"Writing {folder}") as shown:
        with catalog.connect() as connection:
            org = read_organization(connection, slug)
        try:
            counted = take_along(catalog, get_settings(), org, folder, told=shown.update)
        except OSError as error:
            raise WorldFailed(f"{folder} cannot be written: {error.strerror}.", advice="Free the disk.") from None
    say(f"{folder}: {len(counted)} tables, {sum(counted.values()):,} rows, and the manifest.")
    if as_json:
        print_json({"folder": folder, "rows": counted})


def delete(
    what: Annotated[
        str, typer.Argument(metavar=_FORM, help="An organisation, a source (ORG/SLUG) or a recipe (ORG/NAME).")
    ],
    force: Annotated[bool, typer.Option("--force", help="Delete it even though recipes read it.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would go and which recipes would break; delete nothing.")
    ] = False,
    with_data: Annotated[
        bool,
        typer.Option("--with-data", help="Of an organisation: its tables, roles, secrets, history and files too."),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="With --with-data: do not ask for the name again.")] = False,
    wait: Annotated[
        float, typer.Option("--wait", metavar="MINUTES", help="With --with-data: for runs that go on.")
    ] = 10,
    as_json: JsonFlag = False,
) -> None:
    """Take an organisation, a source or a recipe out of the catalog. Tables stay where they are unless --with-data.

    Where a source and a recipe have the same name, ORG/SLUG is the source and ORG/recipes/NAME the recipe.
    """
    from datasense_assets.catalog.delete import DeleteRefused

    address = Address.parse(what, parts=3, form=_FORM)
    if with_data:
        if address.name is not None:
            raise InputWrong("--with-data is for a whole organisation.", advice="Drop a source's tables by hand.")
        delete_with_data(address.org, dry_run=dry_run, yes=yes, wait=wait, as_json=as_json)
        return
    try:
        with open_catalog() as catalog, catalog.begin() as connection:
            deleted = _delete(
                connection, read_organization(connection, address.org), address, force=force, dry_run=dry_run
            )
    except DeleteRefused as error:
        raise InputWrong(f"{what} was not deleted.", problems=error.problems) from None
    for path in deleted.paths:
        say(f"- {path}", style="red")
    if deleted.warehouse_tables:
        say(f"Left in the warehouse: {', '.join(deleted.warehouse_tables)}.")
    for impact in deleted.impacts:
        warn(str(impact))
    for check in deleted.checks:
        warn(check)
    if dry_run:
        refused = bool(deleted.impacts or deleted.checks)
        say("Nothing was deleted (--dry-run)." + (" Without --force it is refused." if refused else ""))
    if as_json:
        print_json(
            {
                "dry_run": dry_run,
                "deleted": list(deleted.paths),
                "warehouse_tables": list(deleted.warehouse_tables),
                "impacts": [{**asdict(impact), "message": str(impact)} for impact in deleted.impacts],
                "checks": list(deleted.checks),
            }
        )


def _delete(connection: Connection, org: Organization, address: Address, *, force: bool, dry_run: bool) -> Deleted:
    from datasense_assets.catalog.delete import delete_organization, delete_recipe, delete_source
    from datasense_assets.catalog.models import identifier

    if address.name is None:
        return delete_organization(connection, org.slug, dry_run=dry_run)
    if address.table is not None:
        if address.name != "recipes":
            raise InputWrong(
                "A single table cannot be deleted.",
                advice="Take it out of the source's tables in the manifest and apply that.",
            )
        return delete_recipe(connection, org.slug, find_recipe(org, address.table).name, force=force, dry_run=dry_run)
    invalid = {kind: [row.slug for row in org.invalid if row.kind == kind] for kind in ("source", "recipe")}
    sources = [*(source.slug for source in org.sources), *invalid["source"]]
    recipes = [*(recipe.name for recipe in org.recipes), *invalid["recipe"]]
    wanted = identifier(address.name)
    as_source = [slug for slug in sources if identifier(slug) == wanted]
    as_recipe = [name for name in recipes if identifier(name) == wanted]
    if as_source:
        return delete_source(connection, org.slug, as_source[0], force=force, dry_run=dry_run)
    if as_recipe:
        return delete_recipe(connection, org.slug, as_recipe[0], force=force, dry_run=dry_run)
    raise unknown("source or recipe", address.name, [*sources, *recipes], where=org.slug)
