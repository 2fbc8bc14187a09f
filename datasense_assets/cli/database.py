"""`datasense db`: the platform's database, embedded or given."""

from __future__ import annotations

import typer

from datasense_assets.cli.errors import InputWrong
from datasense_assets.cli.output import JsonFlag, print_json, print_text, progress, say

app = typer.Typer(
    help="The platform's database: where it is, start and stop the embedded one, migrate.", no_args_is_help=True
)


@app.command()
def url() -> None:
    """Print the database's URL, password included, ready to use: psql "$(datasense db url)".

    The embedded server is started if it is the one in use and does not run.
    """
    from datasense_assets.settings import get_settings
    from datasense_assets.warehouse.database import database_url

    print_text(database_url(get_settings()))


@app.command()
def start(as_json: JsonFlag = False) -> None:
    """Start the embedded server and bring its catalog to the newest schema."""
    from datasense_assets.settings import get_settings
    from datasense_assets.warehouse.embedded import start as start_server

    settings = get_settings()
    _refuse_given_database("start")
    with progress("Starting the embedded PostgreSQL"):
        address = start_server(settings.home)
        applied = _migrate(address)
    say(f"The embedded PostgreSQL of {settings.home} runs. `datasense db url` prints its URL.")
    if as_json:
        print_json({"running": True, "home": settings.home, "migrations": applied})


@app.command()
def stop(as_json: JsonFlag = False) -> None:
    """Stop the embedded server."""
    from datasense_assets.settings import get_settings
    from datasense_assets.warehouse.embedded import stop as stop_server

    settings = get_settings()
    _refuse_given_database("stop")
    stopped = stop_server(settings.home)
    say("The embedded PostgreSQL has stopped." if stopped else "The embedded PostgreSQL was not running.")
    if as_json:
        print_json({"running": False, "stopped": stopped})


@app.command()
def migrate(as_json: JsonFlag = False) -> None:
    """Create the catalog, or bring it to the newest schema. Safe to run at any time, by several processes at once."""
    from datasense_assets.settings import get_settings
    from datasense_assets.warehouse.database import database_url

    applied = _migrate(database_url(get_settings()))
    say(f"Applied: {', '.join(applied)}." if applied else "The catalog is at the newest schema already.")
    if as_json:
        print_json({"migrations": applied})


def _migrate(address: str) -> list[str]:
    from datasense_assets.catalog.migrate import migrate as migrate_catalog
    from datasense_assets.warehouse.database import engine

    return migrate_catalog(engine(address))


def _refuse_given_database(verb: str) -> None:
    from datasense_assets.settings import get_settings

    if get_settings().database_url is not None:
        raise InputWrong(
            f"DATASENSE_DATABASE_URL names a server of yours, which is not this program's to {verb}.",
            advice="Unset it to use the embedded PostgreSQL.",
        )
