"""What lies above recipes: recipes and sources of their organisation that they read, directly or through others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

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
        names = (reference.recipe for reference in _references(row.inputs.values()))
        waiting += [known[name] for name in names if name in known]
    return sorted(found.values(), key=lambda row: row.name)


def sources_read_by(org: Organization, recipes: Iterable[RecipeRow]) -> list[Source]:
    """The sources that these recipes name themselves, in the order in which to load them."""
    wanted = {reference.source for row in recipes for reference in _references(row.inputs.values())}
    return in_order_of_checks(source for source in org.sources if identifier(source.slug) in wanted)


def in_order_of_checks(sources: Iterable[Source]) -> list[Source]:
    """The sources, each after those that its checks look into; else, and where they go in a circle, as they came.

    A first load would be held against a table that is not there yet, and what is built on it would wait.
    """
    known = {identifier(source.slug): source for source in sources}
    ordered: dict[str, Source] = {}

    def put(name: str, above: tuple[str, ...]) -> None:
        if name in known and name not in ordered and name not in above:
            for other in _looked_into(known[name]):
                put(other, (*above, name))
            ordered[name] = known[name]

    for name in known:
        put(name, ())
    return list(ordered.values())


def _looked_into(source: Source) -> list[str]:
    """The sources that checks of its tables look into."""
    checks = (check for table in source.tables for check in table.checks if isinstance(check, Mapping))
    references = _references(str(check["in"]) for check in checks if "in" in check)
    return [reference.source for reference in references if reference.source is not None]


def _references(written: Iterable[str]) -> list[InputReference]:
    """What is read by these names; one that cannot be read is left to the build, which says what is wrong with it."""
    found = []
    for text in written:
        try:
            found.append(InputReference.parse(text))
        except ValueError:
            continue
    return found
