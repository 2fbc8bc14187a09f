"""Which checks do not hold, for `organization_status`: what they say, and which recipes wait because of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Connection, text

from datasense_assets.catalog.circles import CIRCLE_FIX, Waiting, looks
from datasense_assets.catalog.models import InputReference
from datasense_assets.catalog.state.stale import INPUTS


@dataclass
class Trouble:
    """Of one table or recipe: checks that block, that warn, that are still to be run, recipes that wait for it, inputs
    that it waits for because of their checks, circles in which it waits for itself, as sentences.
    """

    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    unrun: list[str] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    broken_inputs: list[str] = field(default_factory=list)
    unchecked_inputs: list[str] = field(default_factory=list)
    circles: list[str] = field(default_factory=list)

    @property
    def why(self) -> str:
        """What the checks that block say, and whom they keep waiting; '' where none does."""
        if not self.errors:
            return ""
        said = "It breaks checks: " + " ".join(self.errors)
        return f"{said} On their last good data: {', '.join(self.waiting)}." if self.waiting else said

    @property
    def warning(self) -> str:
        """What the checks that only warn say, and what still waits for another table; '' where all hold."""
        return " ".join([*self._warnings(), *self._unrun(), *self.circles])

    @property
    def warning_beside_failure(self) -> str:
        """The same beside what a build has said of the recipe's own checks that wait."""
        return " ".join([*self._warnings(), *self.circles])

    def _warnings(self) -> list[str]:
        return ["Warning: " + " ".join(self.warnings)] if self.warnings else []

    def _unrun(self) -> list[str]:
        if not self.unrun:
            return []
        held = f" Recipes that wait for it: {', '.join(self.waiting)}." if self.waiting and not self.errors else ""
        return ["Still to be checked: " + " ".join(self.unrun) + held]


NO_TROUBLE = Trouble()

_RESULTS = """
SELECT c.table_id, c.recipe_id, c.name, c.severity, c.waits, c.kind, o.id AS org_id,
       CASE WHEN NOT c.passed THEN c.declared ->> 'in' END AS looks_into,
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


_TABLES = """
SELECT t.id, s.org_id, s.slug AS source, t.slug, t.checks
FROM datasense.source_tables t JOIN datasense.sources s ON s.id = t.source_id
WHERE s.org_id = ANY(:orgs) AND t.checks <> '[]'
"""

_RECIPES = """
SELECT r.id, r.org_id, r.name, r.spec -> 'checks' AS checks,
       (SELECT json_agg(json_build_object('source', i.source_ident, 'table', i.table_ident, 'recipe', i.recipe_ident))
        FROM datasense.recipe_inputs i WHERE i.recipe_id = r.id) AS inputs
FROM datasense.recipes r
WHERE r.org_id = ANY(:orgs)
"""


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
    looking: dict[int, set[tuple[int | None, int | None, str]]] = {}
    for row in connection.execute(text(_RESULTS), binds):
        if row.kind == "exists_in" and row.severity == "error" and row.looks_into is not None:
            looking.setdefault(row.org_id, set()).add((row.table_id, row.recipe_id, row.looks_into))
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
    if looking:
        _tell_circles(connection, found, looking)
    return found


def _tell_circles(
    connection: Connection, found: Troubles, looking: Mapping[int, Collection[tuple[int | None, int | None, str]]]
) -> None:
    """Say it where what a check waits for waits for the check; `looking`: those that do not hold, by organisation."""
    binds = {"orgs": list(looking)}
    waiting = {org: Waiting() for org in looking}
    ids: dict[tuple[int, str], tuple[int | None, int | None]] = {}
    for row in connection.execute(text(_TABLES), binds):
        owner = InputReference.of_table(row.source, row.slug)
        ids[row.org_id, owner.text] = (row.id, None)
        waiting[row.org_id].add_looks(owner, looks("", row.checks))
    for row in connection.execute(text(_RECIPES), binds):
        owner = InputReference.of_recipe(row.name)
        ids[row.org_id, owner.text] = (None, row.id)
        waiting[row.org_id].add_inputs(owner, (InputReference(**each) for each in row.inputs or ()))
        waiting[row.org_id].add_looks(owner, looks("", row.checks))
    for org, graph in waiting.items():
        for look, circle in graph.circles():
            if (*ids[org, circle[0]], look.written) not in looking[org]:
                continue
            said = f"The check of {circle[0]} that looks into {circle[1]} waits for itself in a circle: "
            said += f"{' → '.join(circle)}. {CIRCLE_FIX}"
            for name in dict.fromkeys(circle):
                if (org, name) in ids:
                    _at(found, *ids[org, name]).circles.append(said)


def _at(found: Troubles, table_id: int | None, recipe_id: int | None) -> Trouble:
    if table_id is not None:
        return found.tables.setdefault(table_id, Trouble())
    return found.recipes.setdefault(recipe_id or 0, Trouble())


def waits_for(trouble: Trouble, *, built: bool) -> str:
    """Why a recipe is not built on its newest inputs; '' where their checks let it. `built`: it was, before."""
    said = [_of(trouble.broken_inputs, "breaks a check", "break a check")]
    said.append(_of(trouble.unchecked_inputs, "is still to be checked", "are still to be checked"))
    found = " ".join(filter(None, said))
    return f"{found.removesuffix('.')}; {'it stays as it is' if built else 'there is no table yet'}." if found else ""


def _of(aliases: Sequence[str], one: str, several: str) -> str:
    if not aliases:
        return ""
    alone = len(aliases) == 1
    return f"Its input{'' if alone else 's'} {', '.join(aliases)} {one if alone else several}."
