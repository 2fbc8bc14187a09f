"""What each source and recipe of the catalog promises of its freshness, a recipe's own reckoned from its inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import Connection, text

from datasense_assets.catalog.freshness import recipe_promise, source_promise
from datasense_assets.catalog.models import Schedule

_SCHEDULE: TypeAdapter[Schedule] = TypeAdapter(Schedule)

_SOURCES = """
SELECT s.id, s.schedule, s.fresh_within_seconds FROM datasense.sources s
JOIN datasense.organizations o ON o.id = s.org_id WHERE CAST(:org AS text) IS NULL OR o.slug = :org
"""

_RECIPES = """
SELECT r.id, r.fresh_within_seconds,
       ARRAY(SELECT s.id FROM datasense.recipe_inputs i JOIN datasense.sources s
             ON s.org_id = r.org_id AND replace(s.slug, '-', '_') = i.source_ident WHERE i.recipe_id = r.id) AS sources,
       ARRAY(SELECT u.id FROM datasense.recipe_inputs i JOIN datasense.recipes u
             ON u.org_id = r.org_id AND replace(u.name, '-', '_') = i.recipe_ident WHERE i.recipe_id = r.id) AS recipes
FROM datasense.recipes r
JOIN datasense.organizations o ON o.id = r.org_id WHERE CAST(:org AS text) IS NULL OR o.slug = :org
"""


@dataclass(frozen=True)
class Promises:
    """By id: how old a source's data may be (None: no promise), how long a recipe may stay behind its inputs."""

    sources: Mapping[int, timedelta | None]
    recipes: Mapping[int, timedelta]


def promise_of(schedule: Any, fresh_within_seconds: int | None) -> timedelta | None:
    """A source's promise from its row's two columns."""
    return source_promise(_SCHEDULE.validate_python(schedule), _length(fresh_within_seconds))


def read_promises(connection: Connection, org_slug: str | None = None) -> Promises:
    """The promises of an organisation's sources and recipes, or of all."""
    binds = {"org": org_slug}
    sources = {
        row.id: promise_of(row.schedule, row.fresh_within_seconds) for row in connection.execute(text(_SOURCES), binds)
    }
    rows = {row.id: row for row in connection.execute(text(_RECIPES), binds)}
    recipes: dict[int, timedelta] = {}

    def of_recipe(recipe_id: int, above: frozenset[int]) -> timedelta:
        if recipe_id not in recipes:
            row = rows[recipe_id]
            # a circle of recipes is refused elsewhere; here it must only end
            upstream = [each for each in row.recipes if each not in above | {recipe_id}]
            inputs = [
                *(sources.get(each) for each in row.sources),
                *(of_recipe(each, above | {recipe_id}) for each in upstream),
            ]
            recipes[recipe_id] = recipe_promise(inputs, _length(row.fresh_within_seconds))
        return recipes[recipe_id]

    for recipe_id in rows:
        of_recipe(recipe_id, frozenset())
    return Promises(sources, recipes)


def _length(seconds: int | None) -> timedelta | None:
    return None if seconds is None else timedelta(seconds=seconds)
