"""What the catalog's constraints cannot see: rows that only the connectors or the recipe language can judge.

A row found bad here becomes an `InvalidRow` of its organisation, as one that the snapshot itself refused.
"""

from __future__ import annotations

from datasense_assets.catalog.models import (
    InputReference,
    InvalidRow,
    Organization,
    Problem,
    RecipeRow,
    Snapshot,
    Source,
)
from datasense_assets.connectors import problem_with


def usable(snapshot: Snapshot) -> Snapshot:
    """The snapshot with every row that cannot become an asset moved to `invalid`."""
    organizations = tuple(_usable_organization(org) for org in snapshot.organizations)
    if all(new is old for new, old in zip(organizations, snapshot.organizations, strict=True)):
        return snapshot
    return snapshot.model_copy(update={"organizations": organizations})


def _usable_organization(org: Organization) -> Organization:
    sources = [(source, _source_problems(source)) for source in org.sources]
    recipes = [(recipe, _recipe_problems(recipe)) for recipe in org.recipes]
    cyclic = _in_cycle([recipe for recipe, problems in recipes if not problems])
    recipes = [(recipe, problems or cyclic.get(recipe.name, ())) for recipe, problems in recipes]
    bad = [
        InvalidRow(
            kind="source",
            id=source.id,
            slug=source.slug,
            tables=tuple(t.slug for t in source.tables),
            problems=problems,
        )
        for source, problems in sources
        if problems
    ] + [
        InvalidRow(kind="recipe", id=recipe.id, slug=recipe.name, problems=problems)
        for recipe, problems in recipes
        if problems
    ]
    if not bad:
        return org
    return org.model_copy(
        update={
            "sources": tuple(source for source, problems in sources if not problems),
            "recipes": tuple(recipe for recipe, problems in recipes if not problems),
            "invalid": (*org.invalid, *bad),
        }
    )


def _source_problems(source: Source) -> tuple[Problem, ...]:
    problem = problem_with(source.connector)
    return () if problem is None else (problem.model_copy(update={"path": f"sources.{source.slug}.connector"}),)


def _recipe_problems(recipe: RecipeRow) -> tuple[Problem, ...]:
    problems = []
    if not recipe.inputs:
        problems.append(
            Problem(path=f"recipes.{recipe.name}.inputs", message="the recipe names no input.", fix="Name one.")
        )
    for alias, text in recipe.inputs.items():
        try:
            InputReference.parse(text)
        except ValueError as error:
            problems.append(Problem(path=f"recipes.{recipe.name}.inputs.{alias}", message=f"{error}."))
    return tuple(problems)


def _in_cycle(recipes: list[RecipeRow]) -> dict[str, tuple[Problem, ...]]:
    """Recipes that depend on themselves, each with the problem that says so; Dagster would refuse the whole graph."""
    uses = {
        recipe.name.replace("-", "_"): {
            reference.recipe
            for reference in map(InputReference.parse, recipe.inputs.values())
            if reference.recipe is not None
        }
        for recipe in recipes
    }
    found: dict[str, tuple[Problem, ...]] = {}
    for recipe in recipes:
        path = _path_back(recipe.name.replace("-", "_"), uses)
        if path:
            shown = " → ".join(path)
            found[recipe.name] = (
                Problem(
                    path=f"recipes.{recipe.name}.inputs",
                    message=f"the recipe depends on itself: {shown}.",
                    fix="Take one of these inputs away.",
                ),
            )
    return found


def _path_back(start: str, uses: dict[str, set[str]]) -> list[str]:
    """The shortest way from a recipe through its inputs back to itself; empty where there is none."""
    paths = [[start]]
    seen: set[str] = set()
    while paths:
        path = paths.pop(0)
        for target in sorted(uses.get(path[-1], ())):
            if target == start:
                return [*path, target]
            if target not in seen:
                seen.add(target)
                paths.append([*path, target])
    return []
