"""Taking an organisation, a source or a recipe out of the catalog; the tables in the warehouse stay where they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text

from datasense_assets.catalog.impact import Impact, impact
from datasense_assets.catalog.models import InputReference, Problem, identifier
from datasense_assets.catalog.state.lineage import impact_of_deleting, read_lineage


class DeleteRefused(Exception):
    """Nothing was deleted: the row is not there, or something else reads it; `problems` says which."""

    def __init__(self, problems: list[Problem]) -> None:
        """Keep the problems; the text lists them, one a line."""
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in problems))


@dataclass(frozen=True)
class Deleted:
    """What was taken out: paths of organisation, sources, tables and recipes, and the warehouse tables left behind.

    `impacts` says what that does to recipes which stay, `checks` (as sentences) which checks look into what is gone.
    """

    paths: tuple[str, ...]
    warehouse_tables: tuple[str, ...]
    impacts: tuple[Impact, ...] = ()
    checks: tuple[str, ...] = ()


_INSIDE = """
SELECT o.id AS org_id, o.slug AS org, s.id AS source_id, s.slug AS source, t.slug AS table_slug,
       'org_' || replace(o.slug, '-', '_') || '.' || t.warehouse_name AS warehouse_table
FROM datasense.organizations o
LEFT JOIN datasense.sources s ON s.org_id = o.id
LEFT JOIN datasense.source_tables t ON t.source_id = s.id
WHERE o.slug = :org AND (CAST(:source AS text) IS NULL OR s.slug = :source)
ORDER BY s.slug, t.position, t.slug
"""

_RECIPES = """
SELECT r.id, r.org_id, r.name,
       'org_' || replace(o.slug, '-', '_') || '.' || replace(r.name, '-', '_') AS warehouse_table
FROM datasense.recipes r JOIN datasense.organizations o ON o.id = r.org_id
WHERE o.slug = :org ORDER BY r.name
"""


# Checks that look into another table, with what they belong to.
_CHECKS = """
SELECT s.id AS source_id, NULL AS recipe_id, s.slug || '/' || t.slug AS owner, c.value ->> 'in' AS looked_into
FROM datasense.source_tables t JOIN datasense.sources s ON s.id = t.source_id,
     jsonb_array_elements(CASE jsonb_typeof(t.checks) WHEN 'array' THEN t.checks ELSE '[]' END) c
WHERE t.org_id = :org AND c.value ->> 'check' = 'exists_in'
UNION ALL
SELECT NULL, r.id, 'recipes/' || r.name, c.value ->> 'in'
FROM datasense.recipes r,
     json_array_elements(CASE json_typeof(r.spec -> 'checks') WHEN 'array' THEN r.spec -> 'checks' ELSE '[]' END) c
WHERE r.org_id = :org AND c.value ->> 'check' = 'exists_in'
ORDER BY owner, looked_into
"""


def delete_organization(connection: Connection, slug: str, *, dry_run: bool = False) -> Deleted:
    """Take out the organisation with all it owns: sources, tables, credentials, recipes, cursors, history of runs.

    With `dry_run`, here and below, nothing is taken out, and what would be is returned.

    Raises:
        DeleteRefused: there is no such organisation.

    """
    rows = connection.execute(text(_INSIDE), {"org": slug, "source": None}).mappings().all()
    if not rows:
        raise _unknown("organisation", slug, "datasense list orgs")
    recipes = connection.execute(text(_RECIPES), {"org": slug}).mappings().all()
    if not dry_run:
        connection.execute(text("DELETE FROM datasense.organizations WHERE slug = :org"), {"org": slug})
    tables = _paths(slug, rows)
    return Deleted(
        paths=(slug, *tables[0], *(f"{slug}/recipes/{row['name']}" for row in recipes)),
        warehouse_tables=(*tables[1], *(row["warehouse_table"] for row in recipes)),
    )


def delete_source(
    connection: Connection, org_slug: str, slug: str, *, force: bool = False, dry_run: bool = False
) -> Deleted:
    """Take out a source with its tables, credentials and cursors.

    Raises:
        DeleteRefused: there is no such source; or, unless `force`, recipes hang on it: all are named, those that read
            it and those that read them; or checks look into it.

    """
    rows = connection.execute(text(_INSIDE), {"org": org_slug, "source": slug}).mappings().all()
    if not rows:
        raise _unknown("source", f"{org_slug}/{slug}", f"datasense list sources --org {org_slug}")
    graph = read_lineage(connection, rows[0]["org_id"])
    own = [reference for reference in graph.tables if reference.startswith(f"source:{identifier(slug)}.")]
    impacts = tuple(impact(graph, gone_tables=own))
    checks = tuple(
        f"a check of {row['owner']} would not hold: it looks into {row['looked_into']}."
        for row in connection.execute(text(_CHECKS), {"org": rows[0]["org_id"]}).mappings()
        if row["source_id"] != rows[0]["source_id"] and _names(row["looked_into"], source=identifier(slug))
    )
    if not (force or dry_run):
        _refuse(f"{org_slug}/{slug}", impacts, checks)
    if not dry_run:
        connection.execute(text("DELETE FROM datasense.sources WHERE id = :id"), {"id": rows[0]["source_id"]})
    paths, tables = _paths(org_slug, rows)
    return Deleted(tuple(paths), tuple(tables), impacts, checks)


def delete_recipe(
    connection: Connection, org_slug: str, name: str, *, force: bool = False, dry_run: bool = False
) -> Deleted:
    """Take out a recipe.

    Raises:
        DeleteRefused: there is no such recipe; or, unless `force`, other recipes hang on it (each is named) or checks
            look into it.

    """
    rows = connection.execute(text(_RECIPES), {"org": org_slug}).mappings()
    row = next((row for row in rows if identifier(row["name"]) == identifier(name)), None)
    path = f"{org_slug}/recipes/{name}"
    if row is None:
        raise _unknown("recipe", path, f"datasense list recipes --org {org_slug}")
    impacts = tuple(impact_of_deleting(connection, row["org_id"], [InputReference.of_recipe(name).text]))
    checks = tuple(
        f"a check of {each['owner']} would not hold: it looks into {each['looked_into']}."
        for each in connection.execute(text(_CHECKS), {"org": row["org_id"]}).mappings()
        if each["recipe_id"] != row["id"] and _names(each["looked_into"], recipe=identifier(name))
    )
    if not (force or dry_run):
        _refuse(path, impacts, checks)
    if not dry_run:
        connection.execute(text("DELETE FROM datasense.recipes WHERE id = :id"), {"id": row["id"]})
    return Deleted((path,), (row["warehouse_table"],), impacts, checks)


def _unknown(what: str, path: str, listing: str) -> DeleteRefused:
    return DeleteRefused([Problem(path=path, message=f"there is no such {what}.", fix=f"See {listing}.")])


def _names(reference: str | None, *, source: str | None = None, recipe: str | None = None) -> bool:
    """Whether a reference as it is written names a table of the source, or the recipe."""
    try:
        parsed = InputReference.parse(reference or "")
    except ValueError:
        return False
    return parsed.source == source if source is not None else parsed.recipe == recipe


def _refuse(path: str, impacts: Sequence[Impact], checks: Sequence[str]) -> None:
    found = [(str(each), "Delete or change that recipe first, or use --force.") for each in impacts]
    found += [(each, "Take that check away first, or use --force.") for each in checks]
    if found:
        raise DeleteRefused([Problem(path=path, message=message, fix=fix) for message, fix in found])


def _paths(org: str, rows: Any) -> tuple[list[str], list[str]]:
    paths: dict[str, None] = {}
    tables: list[str] = []
    for row in rows:
        if row["source"] is not None:
            paths[f"{org}/{row['source']}"] = None
        if row["table_slug"] is not None:
            paths[f"{org}/{row['source']}/{row['table_slug']}"] = None
            tables.append(row["warehouse_table"])
    return list(paths), tables
