"""Recipes of a manifest held against the language and, where the catalog knows their inputs' columns, against those."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from datasense_assets.catalog.manifest import Manifest
    from datasense_assets.catalog.models import Organization, Problem, Source
    from datasense_assets.recipes import Recipe, RecipeErrors
    from datasense_assets.recipes.errors import RecipeWarning


def parse_recipes(specs: Sequence[tuple[str, Mapping[str, Any]]]) -> tuple[dict[str, Recipe], list[Problem]]:
    """Recipes by path, of those that are right as far as shows without tables, and the problems of the others.

    `specs` are (path, data).
    """
    from datasense_assets.recipes import RecipeErrors

    parsed: dict[str, Recipe] = {}
    problems: list[Problem] = []
    for path, spec in specs:
        try:
            parsed[path] = read_without_tables(spec)
        except RecipeErrors as errors:
            problems += _as_problems(errors, path)
    return parsed, problems


def read_without_tables(spec: Any) -> Recipe:
    """The recipe, held against all that shows without its tables; raises RecipeErrors."""
    from datasense_assets.recipes import Recipe, RecipeErrors
    from datasense_assets.recipes.compiling.compile import known_errors

    recipe = Recipe.parse(spec)
    if wrong := known_errors(recipe, {}):
        raise RecipeErrors(wrong)
    return recipe


def _as_problems(errors: RecipeErrors, path: str) -> list[Problem]:
    from datasense_assets.cli.errors import coded_problem

    return [
        coded_problem(error, f"{path}.{error.path}" if error.path else path, error.message) for error in errors.errors
    ]


def check_recipes(connection: Connection, manifest: Manifest) -> list[Problem]:
    """What is wrong with a manifest's recipes and checks; columns are checked where the catalog knows those of all
    inputs.
    """
    from datasense_assets.cli.address import organization_or_none
    from datasense_assets.cli.table_checks import column_problems

    specs = [(f"recipes[{index}]", recipe.spec) for index, recipe in enumerate(manifest.recipes)]
    parsed, problems = parse_recipes(specs)
    checked = any(table.checks for source in manifest.sources for table in source.tables or ())
    org = organization_or_none(connection, manifest.organization.slug) if parsed or checked else None
    if org is None or not any(table.columns for source in org.sources for table in source.tables):
        return problems
    org = _as_it_will_be(org, manifest)
    return problems + column_problems(manifest, org) + _column_problems(parsed, org)


def _column_problems(recipes: Mapping[str, Recipe], org: Organization) -> list[Problem]:
    """What the columns have against them; a recipe with an input whose columns nobody knows yet is passed over."""
    from datasense_assets.catalog.models import org_schema
    from datasense_assets.cli.table_checks import look_up_errors
    from datasense_assets.recipes import RecipeErrors, TableRef
    from datasense_assets.recipes.compiling.compile import check_recipe
    from datasense_assets.recipes.inputs import input_table_refs

    problems: list[Problem] = []
    for path, recipe in recipes.items():
        inputs = input_table_refs(recipe, org)
        if len(inputs) < len(recipe.inputs):
            continue
        try:
            checked = check_recipe(recipe, inputs)
            table = TableRef(org_schema(org.slug), recipe.ident, checked.schema)
            if wrong := look_up_errors(recipe.checks, table, org):
                raise RecipeErrors(wrong)
        except RecipeErrors as errors:
            problems += _as_problems(errors, path)
    return problems


def recipe_warnings(recipes: Mapping[str, Recipe], org: Organization | None) -> list[RecipeWarning]:
    """What is probably not meant in good recipes, by path; with the organisation, what their columns tell as well."""
    from datasense_assets.recipes import RecipeErrors
    from datasense_assets.recipes.advice import form_warnings
    from datasense_assets.recipes.compiling.compile import check_recipe
    from datasense_assets.recipes.inputs import input_table_refs

    found: list[RecipeWarning] = []
    for path, recipe in recipes.items():
        warnings = form_warnings(recipe)
        if org is not None:
            with contextlib.suppress(RecipeErrors):
                warnings = check_recipe(recipe, input_table_refs(recipe, org)).warnings
        found += [replace(warning, path=f"{path}.{warning.path}") for warning in warnings]
    return found


def manifest_warnings(connection: Connection, manifest: Manifest) -> list[RecipeWarning]:
    """`recipe_warnings` of a manifest's recipes, against what the catalog knows of its organisation."""
    from datasense_assets.cli.address import organization_or_none

    specs = [(f"recipes[{index}]", recipe.spec) for index, recipe in enumerate(manifest.recipes)]
    org = organization_or_none(connection, manifest.organization.slug)
    return recipe_warnings(parse_recipes(specs)[0], None if org is None else _as_it_will_be(org, manifest))


def _as_it_will_be(org: Organization, manifest: Manifest) -> Organization:
    """The organisation with the manifest's recipes, and without tables that the manifest turns into others."""
    from datasense_assets.catalog.models import RecipeRow, identifier

    resources = {
        (identifier(source.slug), identifier(table.slug)): table.resource
        for source in manifest.sources
        for table in source.tables or ()
    }
    connectors = {identifier(source.slug): source.connector for source in manifest.sources}

    def kept(source: Source) -> Source:
        ident = identifier(source.slug)
        if connectors.get(ident) != source.connector:
            return source.model_copy(update={"tables": ()})
        tables = (
            table
            for table in source.tables
            if resources.get((ident, identifier(table.slug)), table.resource) == table.resource
        )
        return source.model_copy(update={"tables": tuple(tables)})

    recipes = tuple(
        RecipeRow(id=index, name=recipe.name, title=recipe.title, spec=recipe.spec)
        for index, recipe in enumerate(manifest.recipes)
    )
    return org.model_copy(update={"sources": tuple(map(kept, org.sources)), "recipes": recipes})
