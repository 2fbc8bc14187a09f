"""What the catalog holds, as short lists for the command line."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Any

from sqlalchemy import Connection, text


@dataclass(frozen=True)
class OrganizationLine:
    """An organisation and how much it owns."""

    slug: str
    name: str
    timezone: str
    tier: str
    sources: int
    recipes: int
    paused: bool


@dataclass(frozen=True)
class SourceLine:
    """A source: its schedule in words, its tables by slug, credentials by name alone."""

    org: str
    slug: str
    connector: str
    schedule: str
    partitions: str
    deletes: str
    created_on: date
    tables: tuple[str, ...]
    credentials: tuple[str, ...]
    paused: bool


@dataclass(frozen=True)
class RecipeLine:
    """A recipe and what it reads, as written."""

    org: str
    name: str
    title: str | None
    inputs: tuple[str, ...]


_ORGANIZATIONS = """
SELECT o.slug, o.name, o.timezone, o.tier,
       (SELECT count(*) FROM datasense.sources s WHERE s.org_id = o.id) AS sources,
       (SELECT count(*) FROM datasense.recipes r WHERE r.org_id = o.id) AS recipes,
       EXISTS (SELECT FROM datasense.pauses p WHERE p.org_id = o.id AND p.source_id IS NULL) AS paused
FROM datasense.organizations o
WHERE CAST(:org AS text) IS NULL OR o.slug = :org
ORDER BY o.slug COLLATE "C"
"""

_SOURCES = """
SELECT o.slug AS org, s.slug, s.connector, coalesce(s.schedule ->> 'cron', s.schedule #>> '{}') AS schedule,
       s.partition_every AS partitions, s.deletes, s.created_on,
       ARRAY(SELECT t.slug FROM datasense.source_tables t WHERE t.source_id = s.id
             ORDER BY t.position, t.slug) AS tables,
       ARRAY(SELECT c.name FROM datasense.credentials c WHERE c.source_id = s.id ORDER BY c.name) AS credentials,
       EXISTS (SELECT FROM datasense.pauses p WHERE p.org_id = o.id
               AND (p.source_id IS NULL OR p.source_id = s.id)) AS paused
FROM datasense.sources s JOIN datasense.organizations o ON o.id = s.org_id
WHERE CAST(:org AS text) IS NULL OR o.slug = :org
ORDER BY o.slug COLLATE "C", s.slug COLLATE "C"
"""

_RECIPES = """
SELECT o.slug AS org, r.name, r.title,
       ARRAY(SELECT CASE WHEN i.recipe_ident IS NULL THEN 'source:' || i.source_ident || '.' || i.table_ident
                         ELSE 'recipe:' || i.recipe_ident END
             FROM datasense.recipe_inputs i WHERE i.recipe_id = r.id ORDER BY i.alias) AS inputs
FROM datasense.recipes r JOIN datasense.organizations o ON o.id = r.org_id
WHERE CAST(:org AS text) IS NULL OR o.slug = :org
ORDER BY o.slug COLLATE "C", r.name COLLATE "C"
"""


def list_organizations(connection: Connection, org_slug: str | None = None) -> list[OrganizationLine]:
    """All organisations (or the one named), by slug."""
    return [OrganizationLine(**row) for row in _rows(connection, _ORGANIZATIONS, org_slug)]


def list_sources(connection: Connection, org_slug: str | None = None) -> list[SourceLine]:
    """All sources (or those of one organisation), by organisation and slug."""
    return [SourceLine(**row) for row in _rows(connection, _SOURCES, org_slug)]


def list_recipes(connection: Connection, org_slug: str | None = None) -> list[RecipeLine]:
    """All recipes (or those of one organisation), by organisation and name."""
    return [RecipeLine(**row) for row in _rows(connection, _RECIPES, org_slug)]


def _rows(connection: Connection, query: str, org_slug: str | None) -> list[dict[str, Any]]:
    rows = connection.execute(text(query), {"org": org_slug}).mappings()
    return [{k: tuple(v) if isinstance(v, list) else v for k, v in row.items()} for row in rows]
