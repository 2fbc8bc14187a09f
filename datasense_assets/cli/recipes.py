"""`datasense build` and `datasense check`: recipes made into tables, and files looked over before they are applied."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from datasense_assets.cli.address import Address, find_recipe, open_catalog, read_organization
from datasense_assets.cli.apply import check_raw, check_source, read_text, refusal
from datasense_assets.cli.asking import NO_DAEMON, daemon_is_alive, wait_for
from datasense_assets.cli.errors import InputWrong
from datasense_assets.cli.here import instance_for_runs, run_here
from datasense_assets.cli.outcomes import Outcome, exit_code, print_outcomes
from datasense_assets.cli.output import JsonFlag, print_json, progress, say, warn
from datasense_assets.cli.pausing import person

if TYPE_CHECKING:
    import dagster as dg
    from sqlalchemy import Engine

    from datasense_assets.catalog.models import Organization, Problem, RecipeRow, Source
    from datasense_assets.recipes.errors import RecipeWarning

_FORM = "ORG[/RECIPE]"


def build(
    what: Annotated[str, typer.Argument(metavar=_FORM, help="All recipes of an organisation, or one.")],
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Only ask the queue for it.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the end (the default).")] = False,
    local: Annotated[bool, typer.Option("--local", help="Run here and now, whether a daemon is alive or not.")] = False,
    with_inputs: Annotated[
        bool, typer.Option("--with-inputs", help="First load the sources and build the recipes that they read.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Build even where recipe and inputs are those of the last build.")
    ] = False,
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
        wish = BuildWish(name, org, recipes, single=address.name is not None, with_inputs=with_inputs, force=force)
        with instance_for_runs() as instance:
            alive = daemon_is_alive(instance)
            if local or not (alive or no_wait):
                if not local:
                    say(f"{NO_DAEMON} Building here and now.")
                outcomes = _here(catalog, instance, wish)
            else:
                outcomes = _through_queue(catalog, instance, wish, wait=not no_wait)
    print_outcomes(outcomes, as_json=as_json, daemon_alive=alive)
    raise typer.Exit(exit_code(outcomes))


@dataclass(frozen=True)
class BuildWish:
    """What to build: `single` one recipe, else all of the organisation; `with_inputs`: all that lies above it first."""

    name: str
    org: Organization
    recipes: list[RecipeRow]
    single: bool
    with_inputs: bool = False
    force: bool = False

    @property
    def sources(self) -> list[Source]:
        """The sources to be loaded first."""
        from datasense_assets.running.upstream import sources_read_by, with_upstream_recipes

        return sources_read_by(self.org, with_upstream_recipes(self.org, self.recipes)) if self.with_inputs else []


def build_here(
    instance: dg.DagsterInstance, org: Organization, recipes: list[RecipeRow], name: str, *, force: bool = False
) -> Outcome:
    """Build the recipes in this process, in one run; Dagster orders them."""
    from datasense_assets.running import tags as t
    from datasense_assets.running.graph_index import recipe_key

    keys = [recipe_key(org.slug, recipe.name) for recipe in recipes]
    asked = {t.LANE: t.Lane.INTERACTIVE.value}
    if force:
        asked[t.FULL] = "true"
    tags = {**asked, **t.run_tags(asked, t.selected(keys), t.Owner(tier=org.tier.value))}
    with progress(f"Building {len(keys)} {'recipe' if len(keys) == 1 else 'recipes'} of {org.slug}"):
        return run_here(name, keys, instance=instance, tags=tags)


def _here(catalog: Engine, instance: dg.DagsterInstance, wish: BuildWish) -> list[Outcome]:
    """Here and now; recipes are not built where a source above them cannot be loaded."""
    from datasense_assets.catalog.state import old_tables
    from datasense_assets.cli import syncing
    from datasense_assets.running.upstream import with_upstream_recipes

    recipes, loaded = wish.recipes, []
    if wish.with_inputs:
        recipes = with_upstream_recipes(wish.org, recipes)
        loaded = syncing.sync_here(catalog, instance, wish.org, [syncing.Wish(source) for source in wish.sources])
        failed = [outcome.name for outcome in loaded if outcome.status == "failed"]
        if failed:
            with catalog.connect() as connection:
                stays = old_tables(connection, wish.org.id, wish.recipes[0].id if wish.single else None)
            said = f"It was not built, for {', '.join(failed)} could not be loaded; {stays}."
            return [*loaded, Outcome(wish.name, "failed", failures=(said,))]
    return [*loaded, build_here(instance, wish.org, recipes, wish.name, force=wish.force)]


def _through_queue(catalog: Engine, instance: dg.DagsterInstance, wish: BuildWish, *, wait: bool) -> list[Outcome]:
    from datasense_assets.catalog.state import add_request

    asked = []
    with catalog.begin() as connection:
        for source in wish.sources:
            request = add_request(connection, org_id=wish.org.id, source_id=source.id, requested_by=person())
            asked.append(Outcome(f"{wish.org.slug}/{source.slug}", "asked", request_id=request))
        # A request that names neither a source nor a recipe is for all recipes of the organisation, in one run.
        request = add_request(
            connection,
            org_id=wish.org.id,
            recipe_id=wish.recipes[0].id if wish.single else None,
            full_reload=wish.force,
            requested_by=person(),
            after=[outcome.request_id for outcome in asked if outcome.request_id is not None],
        )
    asked.append(Outcome(wish.name, "asked", request_id=request))
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
    """Look a recipe or a manifest over and list every problem; needs no database unless --org is given.

    Warnings are of what is allowed and probably not meant; they fail nothing.
    """
    text = read_text(file)
    is_manifest, data = _read(text, file)
    problems, warnings = _look_at_manifest(text, file, org) if is_manifest else _look_at_recipe(data, org)
    what = "manifest" if is_manifest else "recipe"
    if problems:
        error = refusal(problems)
        raise InputWrong(error.message.replace("manifest", what), problems=problems)
    for warning in warnings:
        warn(str(warning))
    say(f"{file} is a good {what}.", style="green")
    if as_json:
        entries = [asdict(warning) for warning in warnings]
        print_json({"file": str(file), "kind": what, "problems": [], "warnings": entries})


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


def _look_at_manifest(text: str, file: Path, org: str | None) -> tuple[list[Problem], list[RecipeWarning]]:
    from datasense_assets.catalog.manifest import ManifestErrors, parse_manifest
    from datasense_assets.catalog.manifest_approval import check_manifest
    from datasense_assets.cli.recipe_checks import check_recipes, manifest_warnings, parse_recipes, recipe_warnings

    try:
        manifest = parse_manifest(text, file, check_raw=check_raw)
    except ManifestErrors as error:
        return list(error.problems), []
    if org is None:
        specs = [(f"recipes[{index}]", recipe.spec) for index, recipe in enumerate(manifest.recipes)]
        parsed, problems = parse_recipes(specs)
        return [*check_manifest(manifest, check_source=check_source), *problems], recipe_warnings(parsed, None)
    with open_catalog() as catalog, catalog.connect() as connection:
        read_organization(connection, org)
        found = check_manifest(
            manifest, check_source=check_source, check_recipes=lambda given: check_recipes(connection, given)
        )
        return found, [] if found else manifest_warnings(connection, manifest)


def _look_at_recipe(data: Any, org: str | None) -> tuple[list[Problem], list[RecipeWarning]]:
    """Raises RecipeErrors, whose paths count from the recipe."""
    if org is None:
        from datasense_assets.cli.recipe_checks import read_without_tables
        from datasense_assets.recipes.advice import form_warnings

        return [], form_warnings(read_without_tables(data))
    from datasense_assets.recipes.compiling.compile import check_recipe
    from datasense_assets.recipes.inputs import input_table_refs
    from datasense_assets.recipes.recipe import Recipe

    with open_catalog() as catalog, catalog.connect() as connection:
        stored = read_organization(connection, org)
    recipe = Recipe.parse(data, lambda readable: input_table_refs(readable, stored))
    return [], check_recipe(recipe, input_table_refs(recipe, stored)).warnings
