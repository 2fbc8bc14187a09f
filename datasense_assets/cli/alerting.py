"""`datasense alerts`: what is wrong now and who was told, and a message to try the contacts by."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from datasense_assets.cli.address import open_catalog, read_organization
from datasense_assets.cli.errors import DONE, INPUT_WRONG, WORLD_FAILED
from datasense_assets.cli.output import JsonFlag, ago, print_json, print_table, say
from datasense_assets.settings import get_settings

app = typer.Typer(help="What is wrong now, and telling people of it.", no_args_is_help=True)


@app.command("list")
def show_alerts(
    org: Annotated[str | None, typer.Argument(metavar="[ORG]", help="Only this organisation.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show what is wrong now, the oldest first, and messages that could not be sent yet."""
    from datasense_assets.catalog.state.alerts import open_alerts
    from datasense_assets.catalog.state.messages import stuck_messages

    with open_catalog() as catalog, catalog.connect() as connection:
        slug = read_organization(connection, org).slug if org is not None else None
        alerts = open_alerts(connection, slug)
        stuck = stuck_messages(connection, slug)
    if as_json:
        print_json({"alerts": [asdict(alert) for alert in alerts], "stuck_messages": stuck})
        return
    if alerts:
        print_table(
            ("since", "where", "what", "what to do"),
            [
                (
                    ago(alert.opened_at),
                    f"{alert.org_slug}/{alert.subject}" if alert.org_slug else "platform",
                    alert.what,
                    alert.advice,
                )
                for alert in alerts
            ],
        )
    else:
        say("Nothing is wrong that anybody was told of.")
    for message in stuck:
        say(f"Not sent after {message['attempts']} tries: {message['title']} ({message['last_error']})")


@app.command("test")
def test_contacts(
    org: Annotated[str | None, typer.Argument(metavar="[ORG]", help="Its contacts; left out: the operators'.")] = None,
    as_json: JsonFlag = False,
) -> int:
    """Send a test message to the contacts of an organisation, or to the operators (DATASENSE_OPERATOR_CONTACTS)."""
    from datasense_assets.automation.alerts.services import ContactRefused, contact_urls, notify, operator_urls
    from datasense_assets.catalog.credentials import SecretMissing, read_organization_secrets

    settings = get_settings()
    name, trusted = "the operators", True
    try:
        if org is None:
            urls = operator_urls(settings)
        else:
            with open_catalog() as catalog, catalog.connect() as connection:
                found = read_organization(connection, org)
                contacts = read_organization_secrets(connection, found.id).contacts
            name, trusted = found.slug, False
            urls = contact_urls(contacts, settings)
        if not urls:
            fix = "set DATASENSE_OPERATOR_CONTACTS" if org is None else "add contacts: [{env: ...}] to its manifest"
            return _said(as_json, f"There is no contact of {name}; {fix}.", INPUT_WRONG)
        failed = notify(
            urls,
            "A test message of DataSense",
            f"It was sent to the contacts of {name}. If you can read it, alerts reach you.",
            trusted=trusted,
            allow_private=settings.allow_private_addresses,
        )
    except (SecretMissing, ContactRefused) as error:
        return _said(as_json, str(error), INPUT_WRONG)
    if failed is not None:
        return _said(as_json, f"{failed} See whether its URL is right and the service can be reached.", WORLD_FAILED)
    return _said(as_json, f"{len(urls)} contact{'s' if len(urls) > 1 else ''} of {name} took a test message.", DONE)


def _said(as_json: bool, words: str, code: int) -> int:
    if as_json:
        print_json({"ok": code == DONE, "message": words})
    else:
        say(words)
    return code
