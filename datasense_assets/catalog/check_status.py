"""Which checks do not hold, for `organization_status`: what they say, and which recipes wait because of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Connection, text

from datasense_assets.catalog.state.stale import INPUTS


@dataclass
class Trouble:
    """Of one table or recipe: checks that block, that warn, that are still to be run, recipes that wait for it, inputs
    that it waits for because of their checks.
    """

    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    unrun: list[str] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    broken_inputs: list[str] = field(default_factory=list)
    unchecked_inputs: list[str] = field(default_factory=list)

    @property
    def why(self) -> str:
        """What the checks that block say, and whom they keep waiting; '' where none does."""
        if not self.errors:
            return ""
        said = "It breaks checks: " + " ".join(self.errors)
        return f"{said} On their last good data: {', '.join(self.waiting)}." if self.waiting else said

    @property
    def only_warnings(self) -> str:
        """What the checks that only warn say; '' where they hold."""
        return "Warning: " + " ".join(self.warnings) if self.warnings else ""

    @property
    def warning(self) -> str:
        """What the checks that only warn say, and those that wait for another table; '' where all hold."""
        said = [self.only_warnings] if self.warnings else []
        if self.unrun:
            held = f" Recipes that wait for it: {', '.join(self.waiting)}." if self.waiting and not self.errors else ""
            said.append("Still to be checked: " + " ".join(self.unrun) + held)
        return " ".join(said)


NO_TROUBLE = Trouble()

_RESULTS = """
SELECT c.table_id, c.recipe_id, c.name, c.severity, c.waits,
       CASE WHEN c.passed THEN 'it was not run on the newest data.' ELSE c.message END AS message
FROM datasense.check_results c
LEFT JOIN datasense.table_status ts ON ts.table_id = c.table_id
LEFT JOIN datasense.source_tables t ON t.id = c.table_id
LEFT JOIN datasense.recipes r ON r.id = c.recipe_id
JOIN datasense.organizations o ON o.id = coalesce(t.org_id, r.org_id)
WHERE (CAST(:org AS text) IS NULL OR o.slug = :org)
  AND (NOT c.passed OR (c.severity = 'error' AND c.data_version < ts.data_version))
ORDER BY c.id
"""

_WAITING = f"""
SELECT r.id AS recipe_id, r.name, i.alias, i.table_id, i.upstream_id
FROM ({INPUTS}) i
JOIN datasense.recipes r ON r.id = i.recipe_id
JOIN datasense.organizations o ON o.id = r.org_id
WHERE (CAST(:org AS text) IS NULL OR o.slug = :org) AND i.broken
ORDER BY r.name COLLATE "C", i.alias
"""  # noqa: S608 - constants of ours


@dataclass
class Troubles:
    """What stands against tables and recipes, by their ids."""

    tables: dict[int, Trouble] = field(default_factory=dict)
    recipes: dict[int, Trouble] = field(default_factory=dict)

    def of_table(self, table_id: int | None) -> Trouble:
        """Of a table; nothing where all its checks hold."""
        return NO_TROUBLE if table_id is None else self.tables.get(table_id, NO_TROUBLE)

    def of_recipe(self, recipe_id: int) -> Trouble:
        """Of a recipe; nothing where all its checks and those of its inputs hold."""
        return self.recipes.get(recipe_id, NO_TROUBLE)


def read_troubles(connection: Connection, org_slug: str | None, now: datetime) -> Troubles:
    """What checks that do not hold mean for each table and recipe of the organisation (None: of all)."""
    found = Troubles()
    binds = {"org": org_slug, "now": now}
    for row in connection.execute(text(_RESULTS), binds):
        trouble = _at(found, row.table_id, row.recipe_id)
        kind = trouble.unrun if row.waits else trouble.errors if row.severity == "error" else trouble.warnings
        kind.append(f"{row.name} ({row.message})")
    if not any(each.errors or each.unrun for each in (*found.tables.values(), *found.recipes.values())):
        return found
    for row in connection.execute(text(_WAITING), binds):
        held_by = _at(found, row.table_id, row.upstream_id)
        held_by.waiting.append(row.name)
        held = found.recipes.setdefault(row.recipe_id, Trouble())
        (held.broken_inputs if held_by.errors else held.unchecked_inputs).append(row.alias)
    return found


def _at(found: Troubles, table_id: int | None, recipe_id: int | None) -> Trouble:
    if table_id is not None:
        return found.tables.setdefault(table_id, Trouble())
    return found.recipes.setdefault(recipe_id or 0, Trouble())


def waits_for(trouble: Trouble) -> str:
    """Why a recipe is not built on its newest inputs; '' where their checks let it."""
    said = [_of(trouble.broken_inputs, "breaks a check", "break a check")]
    said.append(_of(trouble.unchecked_inputs, "is still to be checked", "are still to be checked"))
    found = " ".join(filter(None, said))
    return f"{found.removesuffix('.')}; it stays as it is." if found else ""


def _of(aliases: Sequence[str], one: str, several: str) -> str:
    if not aliases:
        return ""
    alone = len(aliases) == 1
    return f"Its input{'' if alone else 's'} {', '.join(aliases)} {one if alone else several}."
