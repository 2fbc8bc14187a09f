"""`datasense build` and `datasense check`: recipes made into tables, and files looked over before they are applied."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from datasense_assets.cli.address import Address, find_recipe, open_catalog, read_organization
from datasense_assets.cli.apply import check_raw, check_source, read_text, refusal
from datasense_assets.cli.asking import NO_DAEMON, daemon_is_alive, wait_for
from datasense_assets.cli.errors import InputWrong
from datasense_assets.cli.here import instance_for_runs, run_here
from datasense_assets.cli.outcomes import Outcome, exit_code, print_outcomes
from datasense_assets.cli.output import JsonFlag, print_json, progress, say
from datasense_assets.cli.pausing import person

if TYPE_CHECKING:
    import dagster as dg
    from sqlalchemy import Engine

    from datasense_assets.catalog.models import Organization, Problem, RecipeRow

_FORM = "ORG[/RECIPE]"


def build(
    what: Annotated[str, typer.Argument(metavar=_FORM, help="All recipes of an organisation, or one.")],
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Only ask the queue for it.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the end (the default).")] = False,
    local: Annotated[bool, typer.Option("--local", help="Run here and now, whether a daemon is alive or not.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Build recipes into tables, each after the recipes that it reads.

    Through the run queue where a Dagster daemon is alive, and waits for the end; here and now where none is.
    """
    if no_wait and (wait or local):
        raise InputWrong("--no-wait excludes --wait and --local.", advice="Leave one of them out.")
    address = Address.parse(what, parts=2, form=_FORM)
    with open_catalog() as catalog:
        with catalog.connect() as connection:
            org = read_organization(connection, address.org)
        recipes = [find_recipe(org, address.name)] if address.name is not None else list(org.recipes)
        if not recipes:
            raise InputWrong(f"{org.slug} has no recipe.", advice="Add recipes to its manifest and apply it.")
        name = f"{org.slug}/{recipes[0].name}" if address.name is not None else f"{org.slug}/recipes"
        with instance_for_runs() as instance:
            alive = daemon_is_alive(instance)
            if local or not (alive or no_wait):
                if not local:
                    say(f"{NO_DAEMON} Building here and now.")
                outcomes = [build_here(instance, org, recipes, name)]
            else:
                outcomes = _through_queue(catalog, instance, org, address, recipes, name, wait=not no_wait)
    print_outcomes(outcomes, as_json=as_json, daemon_alive=alive)
    raise typer.Exit(exit_code(outcomes))


def build_here(instance: dg.DagsterInstance, org: Organization, recipes: list[RecipeRow], name: str) -> Outcome:
    """Build the recipes in this process, in one run; Dagster orders them."""
    from datasense_assets.running import tags as t
    from datasense_assets.running.graph_index import recipe_key

    keys = [recipe_key(org.slug, recipe.name) for recipe in recipes]
    asked = {t.LANE: t.Lane.INTERACTIVE.value}
    tags = {**asked, **t.run_tags(asked, t.selected(keys), t.Owner(tier=org.tier.value))}
    with progress(f"Building {len(keys)} {'recipe' if len(keys) == 1 else 'recipes'} of {org.slug}"):
        return run_here(name, keys, instance=instance, tags=tags)


def _through_queue(
    catalog: Engine,
    instance: dg.DagsterInstance,
    org: Organization,
    address: Address,
    recipes: list[RecipeRow],
    name: str,
    *,
    wait: bool,
) -> list[Outcome]:
    from datasense_assets.catalog.state import add_request

    # A request that names neither a source nor a recipe is for all recipes of the organisation, in one run.
    recipe_id = recipes[0].id if address.name is not None else None
    with catalog.begin() as connection:
        request = add_request(connection, org_id=org.id, recipe_id=recipe_id, requested_by=person())
    asked = [Outcome(name, "asked", request_id=request)]
    if wait:
        return wait_for(catalog, instance, asked)
    say("Asked for. Follow it with `datasense list runs`.")
    return asked


def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A recipe (JSON or YAML) or a manifest.")],
    org: Annotated[
        str | None,
        typer.Option("--org", metavar="ORG", help="Hold the recipe's columns against this organisation's tables."),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Look a recipe or a manifest over and list every problem; needs no database unless --org is given."""
    text = read_text(file)
    is_manifest, data = _read(text, file)
    problems = _manifest_problems(text, file, org) if is_manifest else _recipe_problems(data, org)
    what = "manifest" if is_manifest else "recipe"
    if problems:
        error = refusal(problems)
        raise InputWrong(error.message.replace("manifest", what), problems=problems)
    say(f"{file} is a good {what}.", style="green")
    if as_json:
        print_json({"file": str(file), "kind": what, "problems": []})


def _read(text: str, file: Path) -> tuple[bool, Any]:
    """Whether the file is a manifest, and its data."""
    from datasense_assets.catalog.yaml_text import read_yaml

    document = read_yaml(text)
    if document.data is None and document.problems:
        raise InputWrong(f"{file} cannot be read.", problems=document.problems)
    data = document.data
    if not isinstance(data, dict):
        raise InputWrong(f"{file} holds neither a recipe nor a manifest.", advice="Both start with version: 1.")
    return ("steps" not in data and "inputs" not in data) or "organization" in data, data


def _manifest_problems(text: str, file: Path, org: str | None) -> list[Problem]:
    from datasense_assets.catalog.manifest import ManifestErrors, parse_manifest
    from datasense_assets.catalog.manifest_checks import check_manifest
    from datasense_assets.cli.recipe_checks import check_recipes, parse_recipes

    try:
        manifest = parse_manifest(text, file, check_raw=check_raw)
    except ManifestErrors as error:
        return list(error.problems)
    if org is None:
        specs = [(f"recipes[{index}]", recipe.spec) for index, recipe in enumerate(manifest.recipes)]
        return [*check_manifest(manifest, check_source=check_source), *parse_recipes(specs)[1]]
    with open_catalog() as catalog, catalog.connect() as connection:
        read_organization(connection, org)
        return check_manifest(
            manifest, check_source=check_source, check_recipes=lambda given: check_recipes(connection, given)
        )


def _recipe_problems(data: Any, org: str | None) -> list[Problem]:
    """What is wrong with a recipe; raises RecipeErrors, whose paths count from the recipe."""
    from datasense_assets.recipes import Recipe, compile_recipe

    recipe = Recipe.parse(data)
    if org is not None:
        from datasense_assets.recipes.inputs import input_table_refs

        with open_catalog() as catalog, catalog.connect() as connection:
            stored = read_organization(connection, org)
        compile_recipe(recipe, input_table_refs(recipe, stored))
    return []
