"""`datasense import`: recipes out of other programs' files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from datasense_assets.cli.address import open_catalog, read_organization
from datasense_assets.cli.apply import read_text
from datasense_assets.cli.errors import INPUT_WRONG, InputWrong
from datasense_assets.cli.output import JsonFlag, print_json, print_text, say, warn

if TYPE_CHECKING:
    from datasense_assets.catalog.models import ColumnType

app = typer.Typer(no_args_is_help=True, help="Recipes out of other programs' files.")


@app.callback()
def imports() -> None:
    """Recipes out of other programs' files."""


@app.command()
def dalgo(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Operations of dbt-automation, as YAML or JSON.")],
    org: Annotated[
        str | None, typer.Option("--org", metavar="ORG", help="Take the types of columns from its tables.")
    ] = None,
    folder: Annotated[
        Path | None, typer.Option("--into", metavar="FOLDER", help="Write each recipe to a file there.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be written, and write nothing.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Turn Dalgo's operations into recipes: printed as YAML, or written to files; apply them with a manifest.

    What has no recipe is told with its place and reason, and nothing is printed or written then; the exit code is 1.
    """
    from datasense_assets.catalog.yaml_text import read_yaml
    from datasense_assets.cli.errors import problem_entry
    from datasense_assets.recipes.dalgo import import_dalgo

    document = read_yaml(read_text(file))
    if document.problems:
        raise InputWrong(f"{file} cannot be read.", problems=document.problems)
    done = import_dalgo(document.data, _types(org) if org is not None else None)
    for note in done.notes:
        warn(str(note))
    for problem in done.problems:
        say(f"{problem.path}: {problem.message} {problem.fix or ''}".strip(), style="red")
    targets = [] if folder is None else [folder / f"{recipe['name']}.json" for recipe in done.recipes]
    written = bool(targets) and not (dry_run or done.problems)
    if written:
        _write(targets, done.recipes)
    for target in targets:
        say(f"{'Wrote' if written else 'Not written:'} {target}")
    if as_json:
        print_json(
            {
                "recipes": done.recipes,
                "problems": [problem_entry(each) for each in done.problems],
                "notes": [problem_entry(each) for each in done.notes],
                "files": [str(target) for target in targets] if written else [],
            }
        )
    elif folder is None and not done.problems:
        print_text(_as_yaml(done.recipes))
    if done.problems:
        raise typer.Exit(INPUT_WRONG)


def _types(slug: str) -> dict[str, dict[str, ColumnType]]:
    """Columns of an organisation's tables, by reference."""
    from datasense_assets.catalog.models import identifier

    with open_catalog() as catalog, catalog.connect() as connection:
        org = read_organization(connection, slug)
    return {
        f"source:{name}.{table.slug}": {column.name: column.type for column in table.columns}
        for source in org.sources
        for table in source.tables
        for name in {source.slug, identifier(source.slug)}
    }


def _write(targets: list[Path], recipes: list[dict[str, Any]]) -> None:
    there = [str(target) for target in targets if target.exists()]
    if there:
        raise InputWrong(f"There is {', '.join(there)} already.", advice="Move it away; nothing was written.")
    for target, recipe in zip(targets, recipes, strict=True):
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(recipe, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _as_yaml(recipes: list[dict[str, Any]]) -> str:
    import yaml

    return yaml.safe_dump({"recipes": recipes}, sort_keys=False, allow_unicode=True) if recipes else ""
