"""Making the catalog equal to a manifest: what would change, and the change itself, in the caller's transaction.

Only what differs is written, so that applying a file twice moves nothing. Tables in the warehouse are left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from sqlalchemy import Connection, Table, delete, insert, select, text, update

from datasense_assets.catalog.manifest import Manifest, ManifestErrors, RecipeManifest, SourceManifest, TableManifest
from datasense_assets.catalog.manifest_approval import check_manifest
from datasense_assets.catalog.models import Problem, identifier
from datasense_assets.catalog.tables import credentials, organizations, recipes, source_tables, sources

Action = Literal["create", "update", "delete", "keep"]


@dataclass(frozen=True)
class Change:
    """One row of the plan: `path` like `clean-water/health-forms/visits`, `details` the fields that differ."""

    action: Action
    kind: Literal["organization", "source", "table", "credential", "recipe"]
    path: str
    details: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """What applying a manifest does, in the order in which it is done; rows that stay as they are included."""

    changes: tuple[Change, ...]

    @property
    def changed(self) -> tuple[Change, ...]:
        """The changes without the rows that stay."""
        return tuple(change for change in self.changes if change.action != "keep")


def plan_apply(connection: Connection, manifest: Manifest) -> Plan:
    """What `apply_manifest` would do now; nothing is written."""
    return _Application(connection, manifest, write=False).run()


def apply_manifest(
    connection: Connection,
    manifest: Manifest,
    *,
    secret_keys: Collection[str] = (),
    check_source: Callable[[SourceManifest], list[Problem]] | None = None,
    check_recipes: Callable[[Manifest], list[Problem]] | None = None,
) -> Plan:
    """Make the catalog equal to the manifest for its organisation; sources and recipes not in it are deleted.

    Args:
        connection: in a transaction of the caller's; nothing stands before it commits.
        manifest: the parsed file.
        secret_keys: Fernet keys that must open the file's encrypted secrets; () leaves them unchecked.
        check_source: finds what is wrong with a source's connector and config; paths count from the source.
        check_recipes: finds what is wrong with the recipes; paths count from the file.

    Raises:
        ManifestErrors: a check found problems; nothing was written.

    """
    problems = check_manifest(manifest, secret_keys=secret_keys, check_source=check_source, check_recipes=check_recipes)
    if problems:
        raise ManifestErrors(problems)
    # Two files for one organisation at once are applied one after the other.
    slug = manifest.organization.slug
    connection.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:key, 0))"), {"key": f"datasense:{slug}"})
    return _Application(connection, manifest, write=True).run()


class _Application:
    """One walk over manifest and catalog, collecting changes and, when `write`, making them."""

    def __init__(self, connection: Connection, manifest: Manifest, *, write: bool) -> None:
        self.connection = connection
        self.manifest = manifest
        self.write = write
        self.changes: list[Change] = []

    def run(self) -> Plan:
        org = self.manifest.organization
        stored = self._rows(organizations, organizations.c.slug == org.slug)
        wanted = {
            "name": org.name,
            "timezone": org.timezone,
            "tier": org.tier.value,
            "contacts": [each.stored() for each in org.contacts],
            "alerting": org.alerts.model_dump(mode="json", exclude_none=True),
            "warehouse": None if org.warehouse is None else org.warehouse.stored(),
        }
        org_id = self._upsert(
            organizations, "organization", org.slug, stored[0] if stored else None, wanted, {"slug": org.slug}
        )
        self._sources(org_id)
        self._recipes(org_id)
        return Plan(tuple(self.changes))

    def _sources(self, org_id: int | None) -> None:
        org = self.manifest.organization.slug
        stored = {row["slug"]: row for row in self._rows(sources, sources.c.org_id == org_id)}
        wanted = {source.slug for source in self.manifest.sources}
        # Deletions first: they free the names that new rows may take.
        for slug, row in stored.items():
            if slug not in wanted:
                self._delete(sources, "source", f"{org}/{slug}", row)
        for source in self.manifest.sources:
            self._source(org_id, source, stored.get(source.slug))

    def _source(self, org_id: int | None, source: SourceManifest, row: Mapping[str, Any] | None) -> None:
        path = f"{self.manifest.organization.slug}/{source.slug}"
        schedule = source.schedule if isinstance(source.schedule, str) else source.schedule.model_dump()
        wanted = {
            "connector": source.connector,
            "config": source.config,
            "schedule": schedule,
            "partition_every": source.partitions.every.value,
            "partition_start": source.partitions.start,
            "deletes": source.deletes.value,
            "max_minutes": source.max_minutes,
            "discover_all": source.takes_everything,
            "fresh_within_seconds": _seconds(source.fresh_within),
            "full_reload": source.full_reload,
        }
        another = row is not None and row["connector"] != source.connector
        source_id = self._upsert(sources, "source", path, row, wanted, {"org_id": org_id, "slug": source.slug})
        self._credentials(source_id, path, source)
        self._tables(source_id, path, source, another_connector=another)

    def _credentials(self, source_id: int | None, path: str, source: SourceManifest) -> None:
        stored = {row["name"]: row for row in self._rows(credentials, credentials.c.source_id == source_id)}
        for name, row in stored.items():
            if name not in source.credentials:
                self._delete(credentials, "credential", f"{path}:{name}", row)
        for name, reference in source.credentials.items():
            wanted = {"reference": reference.stored()}
            fixed = {"source_id": source_id, "name": name}
            self._upsert(credentials, "credential", f"{path}:{name}", stored.get(name), wanted, fixed)

    def _tables(self, source_id: int | None, path: str, source: SourceManifest, *, another_connector: bool) -> None:
        rows = self._rows(source_tables, (source_tables.c.source_id == source_id) & (source_tables.c.path == []))
        listed = source.tables or ()
        kept: dict[str, Mapping[str, Any]] = {}
        resources = {identifier(table.slug): table.resource for table in listed}
        for row in rows:
            ident = identifier(row["slug"])
            # A table of another form under the same name is another table: its cursor and columns mean nothing.
            same = resources.get(ident) == row["resource"]
            renamed = row["resource"] in resources.values() or ident in resources
            stays = same or (source.takes_everything and not renamed)
            if another_connector or not stays:
                self._delete(source_tables, "table", f"{path}/{row['slug']}", row)
            elif same:
                kept[ident] = row
            else:
                self.changes.append(Change("keep", "table", f"{path}/{row['slug']}"))
        for position, table in enumerate(listed):
            row_or_none = kept.get(identifier(table.slug))
            fixed = {"source_id": source_id, "slug": table.slug, "resource": table.resource}
            wanted = _table_values(table, position)
            self._upsert(source_tables, "table", f"{path}/{table.slug}", row_or_none, wanted, fixed)

    def _recipes(self, org_id: int | None) -> None:
        org = self.manifest.organization.slug
        stored = {identifier(row["name"]): row for row in self._rows(recipes, recipes.c.org_id == org_id)}
        wanted = {identifier(recipe.name) for recipe in self.manifest.recipes}
        for ident, row in stored.items():
            if ident not in wanted:
                self._delete(recipes, "recipe", f"{org}/recipes/{row['name']}", row)
        for recipe in self.manifest.recipes:
            self._recipe(org_id, recipe, stored.get(identifier(recipe.name)))

    def _recipe(self, org_id: int | None, recipe: RecipeManifest, row: Mapping[str, Any] | None) -> None:
        path = f"{self.manifest.organization.slug}/recipes/{recipe.name}"
        wanted = {
            "title": recipe.title,
            "spec": recipe.spec,
            "fresh_within_seconds": _seconds(recipe.fresh_within),
        }
        self._upsert(recipes, "recipe", path, row, wanted, {"org_id": org_id, "name": recipe.name})

    def _rows(self, table: Table, condition: Any) -> list[Mapping[str, Any]]:
        return [dict(row) for row in self.connection.execute(select(table).where(condition).order_by("id")).mappings()]

    def _upsert(
        self,
        table: Table,
        kind: Any,
        path: str,
        row: Mapping[str, Any] | None,
        wanted: Mapping[str, Any],
        fixed: Mapping[str, Any],
    ) -> int | None:
        """Create the row, or update what differs; return its id (None: a plan that would create it)."""
        if row is None:
            self.changes.append(Change("create", kind, path))
            if not self.write:
                return None
            made = self.connection.execute(insert(table).values(**fixed, **wanted).returning(table.c.id))
            return int(made.scalar_one())
        differing = {
            name: value for name, value in wanted.items() if not _same(row[name], value, ordered=name == "spec")
        }
        details = tuple(detail for name, value in differing.items() for detail in _details(name, row[name], value))
        self.changes.append(Change("update" if differing else "keep", kind, path, details))
        if differing and self.write:
            self.connection.execute(update(table).where(table.c.id == row["id"]).values(**differing))
        return int(row["id"])

    def _delete(self, table: Table, kind: Any, path: str, row: Mapping[str, Any]) -> None:
        self.changes.append(Change("delete", kind, path))
        if self.write:
            self.connection.execute(delete(table).where(table.c.id == row["id"]))


def _seconds(length: timedelta | None) -> int | None:
    return None if length is None else int(length.total_seconds())


def _table_values(table: TableManifest, position: int) -> dict[str, Any]:
    values: dict[str, Any] = {
        "types": {column: str(kind) for column, kind in table.types.items()},
        "key": list(table.key),
        "checks": list(table.checks),
        "position": position,
    }
    # Left out, the title that discovery found stays.
    return values if table.title is None else {**values, "title": table.title}


def _same(stored: Any, wanted: Any, *, ordered: bool = False) -> bool:
    """Equal as JSON: true is not 1; `ordered` tells whether the order of an object's names has a meaning."""
    if isinstance(stored, dict) and isinstance(wanted, dict):
        names = list(stored) == list(wanted) if ordered else stored.keys() == wanted.keys()
        return names and all(_same(stored[name], wanted[name], ordered=ordered) for name in wanted)
    if isinstance(stored, list) and isinstance(wanted, list):
        pairs = zip(stored, wanted, strict=False)
        return len(stored) == len(wanted) and all(_same(old, new, ordered=ordered) for old, new in pairs)
    if isinstance(stored, bool) != isinstance(wanted, bool):
        return False
    if isinstance(wanted, float) and isinstance(stored, int | float):
        # jsonb gives 4.4e16 back as an integer of the same digits, which is not the same number.
        return float(stored) == wanted
    return bool(stored == wanted)


def _details(name: str, stored: Any, wanted: Any) -> Iterable[str]:
    """What differs, without values that may be long or private: fields of objects by name, others as old → new."""
    if isinstance(stored, dict) and isinstance(wanted, dict):
        differing = [key for key in {**stored, **wanted} if stored.get(key) != wanted.get(key)]
        return [f"{name}.{key}" for key in differing] or [f"{name} (order)"]
    if isinstance(stored, dict | list) or isinstance(wanted, dict | list):
        return [name]
    return [f"{name}: {_word(stored)} → {_word(wanted)}"]


def _word(value: Any) -> str:
    return "none" if value is None else str(value)
