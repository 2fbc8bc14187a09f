"""What recipes and checks of a manifest refer to: it has to be in the same file."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Any

from datasense_assets.catalog.circles import CIRCLE_FIX, Look, Waiting, looks
from datasense_assets.catalog.models import InputReference, Problem, identifier


def reference_problems(
    sources: list[tuple[str, dict[str, Any]]], recipes: list[tuple[str, dict[str, Any]]]
) -> Iterator[Problem]:
    """Inputs and checks that name what the file does not have, and what would wait for itself in a circle."""
    # Of two sources with one slug, the first counts: the second is told as a duplicate.
    tables = {identifier(s["slug"]): s for _, s in reversed(sources) if isinstance(s.get("slug"), str)}
    names = {identifier(r["name"]): at for at, r in recipes if isinstance(r.get("name"), str)}
    graph: dict[str, set[str]] = {}
    waiting = Waiting()
    for at, recipe in recipes:
        inputs = recipe.get("inputs")
        for alias, text in inputs.items() if isinstance(inputs, dict) else ():
            path = f"{at}.inputs.{alias}"
            try:
                reference = InputReference.parse(str(text))
            except ValueError as error:
                yield Problem(path=path, message=f"{error}.")
                continue
            owner = InputReference.of_recipe(str(recipe.get("name")))
            waiting.add_inputs(owner, [reference])
            if reference.recipe is not None:
                graph.setdefault(str(owner.recipe), set()).add(reference.recipe)
            yield from _not_in_file(path, reference, tables, names)
    for owner, look in _looks(sources, recipes):
        waiting.add_looks(owner, [look])
        yield from _not_in_file(f"{look.path}.in", look.into, tables, names)
    for look, circle in waiting.circles():
        message = f"the check would wait for itself in a circle: {' → '.join(circle)}."
        yield Problem(path=f"{look.path}.in", message=message, fix=CIRCLE_FIX, code="cycle")
    while circle := _circle(graph):
        at = names.get(circle[0], "recipes")
        message = f"recipes wait for each other in a circle: {' → '.join(circle)}."
        yield Problem(path=f"{at}.inputs", message=message, fix="Take one of these inputs out.", code="cycle")
        for name in circle:
            graph.pop(name, None)


def _circle(graph: Mapping[str, Collection[str]]) -> list[str]:
    """Recipes of which each waits for the next, the first once more at the end; empty where there is no circle."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(reversed(error.args[1]))
    return []


def _looks(
    sources: list[tuple[str, dict[str, Any]]], recipes: list[tuple[str, dict[str, Any]]]
) -> Iterator[tuple[InputReference, Look]]:
    """What the checks look into, with the table or recipe that they are of."""
    for at, recipe in recipes:
        owner = InputReference.of_recipe(str(recipe.get("name")))
        yield from ((owner, look) for look in looks(f"{at}.checks", recipe.get("checks")))
    for at, source in sources:
        tables = source.get("tables")
        for index, table in enumerate(tables if isinstance(tables, list) else ()):
            if isinstance(table, dict):
                owner = InputReference.of_table(str(source.get("slug")), str(table.get("slug")))
                yield from ((owner, look) for look in looks(f"{at}.tables[{index}].checks", table.get("checks")))


def _not_in_file(
    path: str, reference: InputReference, tables: Mapping[str, Mapping[str, Any]], recipes: Collection[str]
) -> Iterator[Problem]:
    if reference.recipe is not None:
        yield from _unknown(path, "recipe", reference.recipe, recipes)
        return
    source = str(reference.source)
    yield from _unknown(path, "source", source, tables)
    if source in tables:
        yield from _unknown_table(path, str(reference.table), tables[source])


def _unknown(path: str, what: str, name: str, known: Collection[str]) -> Iterator[Problem]:
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        fix = f"Did you mean {near[0]}?" if near else f"Add the {what} to this file, or correct the name."
        yield Problem(path=path, message=f"this file has no {what} {name!r}.", fix=fix)


def _unknown_table(path: str, table: str, source: Mapping[str, Any]) -> Iterator[Problem]:
    if not isinstance(source.get("tables"), list) or source.get("discover_all") is True:
        return
    listed = {identifier(t["slug"]) for t in source["tables"] if isinstance(t, dict) and isinstance(t.get("slug"), str)}
    # A repeat group's table is not listed: it comes with its parent.
    if any(table.startswith(f"{parent}__") for parent in listed):
        return
    yield from _unknown(path, f"table of source {source.get('slug')}", table, listed)
