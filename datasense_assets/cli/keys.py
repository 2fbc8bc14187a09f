"""`datasense keys`: the key that secrets in the catalog are kept by, changed while everything runs."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from datasense_assets.cli.address import open_catalog
from datasense_assets.cli.errors import InputWrong
from datasense_assets.cli.output import JsonFlag, print_json, print_text, progress, say
from datasense_assets.settings import get_settings

if TYPE_CHECKING:
    from collections.abc import Sequence

app = typer.Typer(
    help="The key of the secrets in the catalog. With DATASENSE_SECRET_KEY, in this order, each for every process: "
    "OLD,NEW; then NEW,OLD; then `keys rotate`; then NEW alone. With a key file `keys rotate` does all of it.",
    no_args_is_help=True,
)


@app.command("new")
def new() -> None:
    """Print a new key. It is stored nowhere."""
    from datasense_assets.catalog.rotation import new_key

    print_text(new_key())


@app.command("status")
def status(as_json: JsonFlag = False) -> None:
    """Say how many secrets are kept by which key, and whether the older ones may go."""
    from datasense_assets.catalog.credentials import secret_keys
    from datasense_assets.catalog.rotation import key_use

    with open_catalog() as catalog, catalog.connect() as connection:
        use = key_use(connection, get_settings())
    keys = len(secret_keys(get_settings()))
    if as_json:
        print_json({"keys": keys, **asdict(use)})
        return
    say(f"{keys} key{'s'[: keys - 1]}: {use.newest} secrets by the newest, {use.older} by an older one.")
    _tell_of_lost(use.lost)
    if keys > 1:
        say("The older keys are still needed: `datasense keys rotate`." if use.older else "The older keys may go.")


@app.command("rotate")
def rotate(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count; nothing is changed.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Encrypt every secret in the catalog anew with the newest key. Everything runs on; after a crash run it again.

    Where the key is a file of DATASENSE_HOME that holds one key, a new one is made and written there first, before it.
    """
    from datasense_assets.catalog.credentials import key_file, secret_keys
    from datasense_assets.catalog.rotation import new_key, write_key_file
    from datasense_assets.catalog.rotation import rotate as rotate_all

    settings = get_settings()
    keys = secret_keys(settings)
    if len(keys) == 1 and settings.secret_key is not None:
        raise InputWrong(
            "DATASENSE_SECRET_KEY holds one key, which all secrets are kept by.",
            advice="Make one with `datasense keys new`, and set NEW,OLD for this and every other process first.",
        )
    with open_catalog() as catalog, progress("Encrypting anew") as shown:
        if len(keys) == 1 and not dry_run:
            write_key_file(key_file(settings), (new_key(), *keys))
            shown.done(f"A new key is in {key_file(settings)}, before the old one.")
        done = rotate_all(
            catalog,
            settings,
            dry_run=dry_run,
            told=lambda what, number: shown.update(f"{what}: {number} encrypted anew"),
        )
    total = sum(done.rotated.values())
    if dry_run and len(keys) == 1:
        say(f"A new key would be made, and all {done.current} secrets encrypted with it.")
    else:
        would = "would be" if dry_run else "were"
        say(f"{total} secrets {would} encrypted anew, {done.current} are by the newest key already.")
    _tell_of_lost(done.lost)
    if not dry_run and not done.lost:
        say("When every process has the newer key, `datasense keys forget` says whether the older may go.")
    if as_json:
        print_json({"dry_run": dry_run, **asdict(done)})
    if done.lost:
        raise typer.Exit(1)


@app.command("forget")
def forget(as_json: JsonFlag = False) -> None:
    """Drop the older keys of the key file once no secret needs them; of DATASENSE_SECRET_KEY, say that they may go."""
    from datasense_assets.catalog.credentials import key_file, secret_keys
    from datasense_assets.catalog.rotation import key_use, write_key_file

    settings = get_settings()
    keys = secret_keys(settings)
    with open_catalog() as catalog, catalog.connect() as connection:
        use = key_use(connection, settings)
    if use.older:
        raise InputWrong(
            f"{use.older} secrets in the catalog are kept by an older key.", advice="First run `datasense keys rotate`."
        )
    _tell_of_lost(use.lost)
    dropped = len(keys) - 1
    if settings.secret_key is None and dropped:
        write_key_file(key_file(settings), keys[:1])
        say(f"{key_file(settings)} holds the newest key alone.")
    elif dropped:
        say("No secret needs the older keys: set DATASENSE_SECRET_KEY to the first one alone, for every process.")
    else:
        say("There is one key; nothing to forget.")
    if as_json:
        print_json({"older_keys": dropped, "dropped": dropped if settings.secret_key is None else 0})


def _tell_of_lost(lost: Sequence[str]) -> None:
    for name in lost:
        say(f"No key that is here opens the {name}; it stays as it is. Give it again, or add its key.", style="red")
