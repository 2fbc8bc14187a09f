"""`datasense backup` and `datasense restore`: the whole platform in a folder, and back."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from datasense_assets.cli.errors import InputWrong, WorldFailed
from datasense_assets.cli.output import JsonFlag, print_json, progress, say, warn
from datasense_assets.settings import get_settings

FolderArgument = Annotated[Path, typer.Argument(metavar="FOLDER", help="The backup's folder.")]


def backup(folder: FolderArgument, as_json: JsonFlag = False) -> None:
    """Write catalog, tables and Dagster's history of one moment into a new folder; everything runs on meanwhile.

    The key of the secrets is not in it: keep DATASENSE_SECRET_KEY (or secret.key) elsewhere, and with it.
    """
    from datasense_assets.operations.backup import back_up

    if folder.exists():
        raise InputWrong(f"{folder} is there already.", advice="Name a folder that is yet to be made.")
    with progress(f"Writing {folder}") as shown:
        try:
            about = back_up(get_settings(), folder, told=shown.update)
        except OSError as error:
            raise WorldFailed(f"{folder} cannot be written: {error.strerror}.", advice="Free the disk.") from None
    size = sum((folder / name).stat().st_size for name in about.dumps)
    say(f"{folder}: {size:,} bytes, {len(about.organizations)} organisations, PostgreSQL {about.server}.")
    if about.elsewhere:
        warn(f"Tables of {', '.join(about.elsewhere)} are in warehouses of their own, and not in this backup.")
    if as_json:
        print_json(asdict(about))


def restore(
    folder: FolderArgument,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say whether it is whole and fits in here.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Bring a backup back into the empty database of DATASENSE_DATABASE_URL: all of it, or nothing.

    Organisations' roles are made anew. Syncs go on from the cursors of that moment.
    """
    from datasense_assets.operations import backup as bk

    settings = get_settings()
    if dry_run:
        about, problems = bk.check(settings, folder)
        for problem in problems:
            say(f"- {problem}", style="red")
        said = "It cannot be restored here." if problems else "It is whole and can be restored here."
        say(f"{folder}, made at {about.made_at}: {said}")
        if as_json:
            print_json({"about": asdict(about), "problems": problems})
        if problems:
            raise typer.Exit(1)
        return
    with progress("Restoring") as shown:
        try:
            done = bk.restore(settings, folder, told=shown.update)
        except bk.RestoreRefused as error:
            raise InputWrong(error.message, advice=error.advice) from None
    say(f"Restored as of {done.about.made_at}: {len(done.organizations)} organisations.")
    if done.lost_keys:
        warn(
            "Its secrets were kept by a key that is not here: set DATASENSE_SECRET_KEY, or give every credential again."
        )
    for statement in done.grants_left:
        warn(f"There is no such role here; once there is: {statement};")
    if as_json:
        print_json({**asdict(done), "about": asdict(done.about)})
