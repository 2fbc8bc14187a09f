"""In which order recipes have to be built, and the circle they make where there is none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from graphlib import CycleError, TopologicalSorter

from datasense_assets.catalog.models import identifier
from datasense_assets.recipes.errors import RecipeError, RecipeErrors
from datasense_assets.recipes.recipe import Recipe


def recipe_order(recipes: Iterable[Recipe]) -> tuple[str, ...]:
    """Names of the recipes, each after the recipes it reads; equal rank by name. Inputs outside `recipes` are ignored.

    Raises:
        RecipeErrors: code `cycle`, naming the recipes of the circle in order.

    """
    by_ident: Mapping[str, Recipe] = {identifier(recipe.name): recipe for recipe in recipes}
    sorter = TopologicalSorter(
        {ident: sorted(by_ident[ident].recipe_inputs() & by_ident.keys()) for ident in sorted(by_ident)}
    )
    try:
        sorter.prepare()
    except CycleError as error:
        circle = [by_ident[ident].name for ident in reversed(error.args[1])]
        raise RecipeErrors([_cycle(circle, by_ident)]) from None
    order: list[str] = []
    while sorter.is_active():
        ready = sorted(sorter.get_ready())
        order.extend(by_ident[ident].name for ident in ready)
        sorter.done(*ready)
    return tuple(order)


def _cycle(circle: list[str], by_ident: Mapping[str, Recipe]) -> RecipeError:
    """`circle` names recipes so that each reads the next; the last is the first again."""
    reader, read = circle[0], circle[1]
    references = by_ident[identifier(reader)].inputs
    alias = next(a for a, text in references.items() if identifier(text) == f"recipe:{identifier(read)}")
    if reader == read:
        message = f"Recipe {reader!r} reads itself; point {alias!r} at a source or another recipe."
    else:
        message = f"Recipes read each other in a circle: {' reads '.join(circle)}; take one of these inputs out."
    return RecipeError("cycle", f"inputs.{alias}", message)
