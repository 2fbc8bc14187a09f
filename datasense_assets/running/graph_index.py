"""What the loaded graph holds, as plain data for sensors: they ask only for assets that exist in it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

from datasense_assets.catalog.models import Organization, RecipeRow, Snapshot, Source, identifier

KeyPath = tuple[str, ...]


def table_key(org: str, source: str, table: str) -> KeyPath:
    """`org/source/table`, made of identifiers."""
    return (identifier(org), identifier(source), identifier(table))


def undiscovered_key(org: str, source: str) -> KeyPath:
    """`org/source`: stands for a source whose tables are not known yet."""
    return (identifier(org), identifier(source))


def recipe_key(org: str, recipe: str) -> KeyPath:
    """`org/recipes/recipe`."""
    return (identifier(org), "recipes", identifier(recipe))


def source_keys(org: Organization, source: Source) -> tuple[KeyPath, ...]:
    """Asset keys of a source: one a table, or the one that stands for it until its tables are known."""
    if not source.tables:
        return (undiscovered_key(org.slug, source.slug),)
    return tuple(table_key(org.slug, source.slug, table.slug) for table in source.tables)


@dataclass(frozen=True)
class SourceEntry:
    """A source in the graph, and the organisation that owns it."""

    org: Organization
    source: Source
    keys: tuple[KeyPath, ...]

    @property
    def ident(self) -> tuple[str, str]:
        """Identifiers of organisation and source: the first two parts of each key."""
        return identifier(self.org.slug), identifier(self.source.slug)


@dataclass(frozen=True)
class RecipeEntry:
    """A recipe in the graph, and the organisation that owns it."""

    org: Organization
    recipe: RecipeRow
    key: KeyPath

    @property
    def ident(self) -> tuple[str, str]:
        """Identifiers of organisation and recipe."""
        return identifier(self.org.slug), identifier(self.recipe.name)


_NO_COLUMNS: Any = {
    "revision": True,
    "organizations": {"__all__": {"sources": {"__all__": {"tables": {"__all__": {"columns"}}}}}},
}


def graph_hash(snapshot: Snapshot) -> str:
    """Hash of all that the graph is made of. Columns are not part of it: they come with each materialization."""
    return hashlib.sha256(snapshot.model_dump_json(exclude=_NO_COLUMNS).encode()).hexdigest()


@dataclass(frozen=True)
class GraphIndex:
    """Sources and recipes of the loaded graph by catalog id, and the revision and content it was made from."""

    revision: int
    content: str
    sources: dict[int, SourceEntry] = field(default_factory=dict)
    recipes: dict[int, RecipeEntry] = field(default_factory=dict)

    @classmethod
    def of(cls, snapshot: Snapshot, content: str) -> GraphIndex:
        """Index a checked snapshot; rows that are invalid have no entry, so that no sensor asks for them.

        `content`: the hash of the snapshot as it was read, before it was checked.
        """
        return cls(
            revision=snapshot.revision,
            content=content,
            sources={
                source.id: SourceEntry(org, source, source_keys(org, source))
                for org in snapshot.organizations
                for source in org.sources
            },
            recipes={
                recipe.id: RecipeEntry(org, recipe, recipe_key(org.slug, recipe.name))
                for org in snapshot.organizations
                for recipe in org.recipes
            },
        )
