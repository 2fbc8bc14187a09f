"""`datasense move`, and deleting an organisation with all its data: both while it is held still."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from datasense_assets.cli.address import Address, open_catalog, read_organization
from datasense_assets.cli.errors import InputWrong
from datasense_assets.cli.here import instance_for_runs
from datasense_assets.cli.output import JsonFlag, Progress, print_json, progress, say
from datasense_assets.cli.pausing import person
from datasense_assets.settings import get_settings

if TYPE_CHECKING:
    import dagster as dg
    from sqlalchemy import Engine

    from datasense_assets.catalog.credentials import SecretReference
    from datasense_assets.catalog.models import Organization


def move(
    org: Annotated[str, typer.Argument(metavar="ORG", help="The organisation.")],
    to: Annotated[
        str, typer.Option("--to", metavar="WHERE", help="env:NAME or file:PATH of a Postgres URL; platform.")
    ],
    drop_old: Annotated[
        bool, typer.Option("--drop-old", help="Drop the tables in the old place; else they stay as moved_org_...")
    ] = False,
    wait: Annotated[float, typer.Option("--wait", metavar="MINUTES", help="How long runs of it are waited for.")] = 10,
    as_json: JsonFlag = False,
) -> None:
    """Carry an organisation's tables to another warehouse; the next sync goes on where the last one ended.

    It is held still meanwhile: what waits in the queue is cancelled, what goes on is waited for. Until everything is
    there and counted the old place is as it was.
    """
    from datasense_assets.operations.organizations.moving import move_organization

    reference = _reference(to)
    address = Address.parse(org, parts=1, form="ORG")
    with _held(address.org, wait, f"Moving {address.org}") as (catalog, _, found, shown):
        moved = move_organization(catalog, get_settings(), found, reference, drop_old=drop_old, told=shown.update)
    say(f"{found.slug}: {len(moved.rows)} tables, {sum(moved.rows.values()):,} rows are in the new warehouse.")
    if moved.left:
        say(f"In the old one are still: {', '.join(moved.left)}. Drop them once you have looked at the new ones.")
    if as_json:
        print_json({"organization": found.slug, "rows": moved.rows, "left": list(moved.left)})


def delete_with_data(slug: str, *, dry_run: bool, yes: bool, wait: float, as_json: bool) -> None:
    """Delete an organisation with everything that is kept of it."""
    from datasense_assets.operations.organizations.leaving import forget_everything

    if dry_run:
        _say_what_would_go(slug, as_json=as_json)
        return
    if not yes:
        if not sys.stdin.isatty():
            raise InputWrong(f"Everything of {slug} would be gone.", advice="Say --yes, or look with --dry-run first.")
        if typer.prompt(f"Everything of {slug} will be gone. Type its name to go on", err=True) != slug:
            raise InputWrong("That is another name. Nothing was deleted.")
    with _held(slug, wait, f"Deleting {slug}") as (catalog, instance, found, shown):
        gone = forget_everything(catalog, instance, get_settings(), found.id, found.slug, told=shown.update)
    say(f"{found.slug} is gone: {', '.join(f'{number:,} {what}' for what, number in gone.items())}.")
    say("In dumps, in logs that were sent elsewhere and on other machines' disks it stays until those are dropped.")
    if as_json:
        print_json({"dry_run": False, "organization": found.slug, "gone": gone})


def _say_what_would_go(slug: str, *, as_json: bool) -> None:
    from datasense_assets.catalog.delete import delete_organization
    from datasense_assets.catalog.models import identifier
    from datasense_assets.operations.organizations.leaving import runs_of

    # opened, so that Dagster's tables are there to be looked into
    with open_catalog() as catalog, instance_for_runs(), catalog.connect() as connection:
        org = read_organization(connection, slug)
        would = delete_organization(connection, org.slug, dry_run=True)
        runs = len(runs_of(identifier(org.slug)))
    for table in would.warehouse_tables:
        say(f"- {table}", style="red")
    say(
        f"{len(would.warehouse_tables)} tables, its roles, {runs} runs with their history, and {len(would.paths)} rows."
    )
    say("Nothing was deleted (--dry-run).")
    if as_json:
        document = {"dry_run": True, "organization": org.slug, "warehouse_tables": list(would.warehouse_tables)}
        print_json({**document, "deleted": list(would.paths), "runs": runs})


@contextlib.contextmanager
def _held(slug: str, wait: float, words: str) -> Iterator[tuple[Engine, dg.DagsterInstance, Organization, Progress]]:
    from datasense_assets.operations.organizations.holding import held_still

    with open_catalog() as catalog, instance_for_runs() as instance, progress(words) as shown:
        with catalog.connect() as connection:
            org = read_organization(connection, slug)
        shown.update("waiting for its runs to end")
        with held_still(catalog, instance, org.id, org.slug, by=person(), wait_minutes=wait):
            yield catalog, instance, org, shown


def _reference(text: str) -> SecretReference | None:
    from datasense_assets.catalog.credentials import SecretReference

    kind, _, name = text.partition(":")
    if text == "platform":
        return None
    if kind not in ("env", "file") or not name:
        raise InputWrong(
            f"{text!r} names no warehouse.", advice="Write env:NAME or file:PATH of a secret with its URL, or platform."
        )
    return SecretReference.model_validate({kind: name})
