"""`datasense pause` and `datasense resume`: a source, or all of an organisation, left alone by the schedule."""

from __future__ import annotations

import getpass
from typing import TYPE_CHECKING, Annotated

import typer

from datasense_assets.cli.address import Address, find_source, open_catalog, read_organization
from datasense_assets.cli.output import JsonFlag, print_json, say

if TYPE_CHECKING:
    from sqlalchemy import Connection

WhatArgument = Annotated[str, typer.Argument(metavar="ORG[/SOURCE]", help="A source, or a whole organisation.")]
_FORM = "ORG[/SOURCE]"


def pause(
    what: WhatArgument,
    reason: Annotated[str, typer.Option("--reason", help="Why, for whoever reads the status.")] = "",
    as_json: JsonFlag = False,
) -> None:
    """Stop scheduled runs. Runs that are asked for by hand go on working."""
    from datasense_assets.catalog.state import pause as pause_in_catalog

    with open_catalog() as catalog, catalog.begin() as connection:
        org_id, source_id, name = _resolve(connection, what)
        changed = pause_in_catalog(connection, org_id, source_id, reason=reason, by=person())
    say(f"{name} is paused; `datasense resume {name}` takes it back." if changed else f"{name} was paused already.")
    if as_json:
        print_json({"name": name, "paused": True, "changed": changed})


def resume(what: WhatArgument, as_json: JsonFlag = False) -> None:
    """Let the schedule run again, counted from now. A breaker that opened after failures is closed."""
    from datasense_assets.catalog.state import resume as resume_in_catalog

    with open_catalog() as catalog, catalog.begin() as connection:
        org_id, source_id, name = _resolve(connection, what)
        changed = resume_in_catalog(connection, org_id, source_id)
    say(f"{name} runs by its schedule again." if changed else f"{name} was not paused.")
    if as_json:
        print_json({"name": name, "paused": False, "changed": changed})


def person() -> str:
    """Who runs this command, as others read it in the catalog."""
    try:
        return f"cli:{getpass.getuser()}"
    except (KeyError, OSError):
        return "cli"


def _resolve(connection: Connection, what: str) -> tuple[int, int | None, str]:
    address = Address.parse(what, parts=2, form=_FORM)
    org = read_organization(connection, address.org)
    if address.name is None:
        return org.id, None, org.slug
    source = find_source(org, address.name)
    return org.id, source.id, f"{org.slug}/{source.slug}"
