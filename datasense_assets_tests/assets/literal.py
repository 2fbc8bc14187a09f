"""Snapshots written by hand, for tests that need no catalog."""

from __future__ import annotations

from datetime import date
from typing import Any

from datasense_assets.catalog.models import (
    Organization,
    RecipeRow,
    Snapshot,
    Source,
    SourceTable,
)


def source(number: int = 1, slug: str = "health-forms", tables: tuple[str, ...] = ("visits",), **more: Any) -> Source:
    """A source of the given tables; a table named `a__b` is a repeat group of `a`."""
    made = tuple(
        SourceTable(
            id=number * 100 + position,
            slug=name,
            resource=name.partition("__")[0],
            parent=name.rpartition("__")[0] or None,
            path=tuple(name.split("__")[1:]),
        )
        for position, name in enumerate(tables)
    )
    return Source(**{"connector": "kobo", "created_on": date(2026, 1, 1), **more}, id=number, slug=slug, tables=made)


def recipe(number: int = 1, name: str = "monthly", **inputs: str) -> RecipeRow:
    """A recipe that only names its inputs."""
    return RecipeRow(id=number, name=name, spec={"inputs": inputs or {"visits": "source:health_forms.visits"}})


def organization(slug: str = "clean-water", number: int = 1, **more: Any) -> Organization:
    """An organisation with one source and one recipe, unless told otherwise."""
    owned = {"sources": (source(number),), "recipes": (recipe(number),), **more}
    return Organization(id=number, slug=slug, name=slug.title(), timezone="Asia/Kolkata", **owned)


def snapshot(*organizations: Organization) -> Snapshot:
    """A snapshot of the given organisations, or of one."""
    return Snapshot(revision=7, organizations=organizations or (organization(),))
