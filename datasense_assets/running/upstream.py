"""What lies above recipes: recipes and sources of their organisation that they read, directly or through others."""

from __future__ import annotations

from collections.abc import Iterable

from datasense_assets.catalog.models import InputReference, Organization, RecipeRow, Source, identifier


def with_upstream_recipes(org: Organization, recipes: Iterable[RecipeRow]) -> list[RecipeRow]:
    """The recipes and all recipes that they read, by name."""
    known = {identifier(row.name): row for row in org.recipes}
    found: dict[str, RecipeRow] = {}
    waiting = list(recipes)
    while waiting:
        row = waiting.pop()
        if identifier(row.name) in found:
            continue
        found[identifier(row.name)] = row
        names = (reference.recipe for reference in _references(row))
        waiting += [known[name] for name in names if name in known]
    return sorted(found.values(), key=lambda row: row.name)


def sources_read_by(org: Organization, recipes: Iterable[RecipeRow]) -> list[Source]:
    """The sources that these recipes name themselves, by slug."""
    wanted = {reference.source for row in recipes for reference in _references(row)}
    return [source for source in org.sources if identifier(source.slug) in wanted]


def _references(row: RecipeRow) -> list[InputReference]:
    """What the recipe reads; an input that cannot be read is left to the build, which says what is wrong with it."""
    found = []
    for text in row.inputs.values():
        try:
            found.append(InputReference.parse(text))
        except ValueError:
            continue
    return found
