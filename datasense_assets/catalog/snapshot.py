"""The catalog as one value: read in one statement, checked row by row, kept on disk for when the database is down.

A row that cannot be used becomes an `InvalidRow` at its own place; nothing is dropped and nothing raises for a row.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ValidationError

from datasense_assets.catalog.models import (
    Cron,
    InputReference,
    InvalidRow,
    Organization,
    Problem,
    RecipeRow,
    Snapshot,
    Source,
    Tier,
)
from datasense_assets.catalog.sharding import SHARD_CONDITION, shard_binds
from datasense_assets.catalog.times import cron_problem, is_timezone

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from datasense_assets.settings import Shard


@dataclass(frozen=True)
class SnapshotScope:
    """The part of the catalog that a run needs: (organisation, source) and (organisation, recipe), as identifiers."""

    sources: frozenset[tuple[str, str]] = frozenset()
    recipes: frozenset[tuple[str, str]] = frozenset()

    @property
    def organizations(self) -> frozenset[str]:
        """Identifiers of all organisations in it."""
        return frozenset(org for org, _ in self.sources | self.recipes)


_COLUMNS = """
SELECT json_agg(json_build_object('name', c.name, 'key', c.key, 'label', c.label, 'type', c.type,
           'position', c.position, 'labels', c.labels, 'choices', c.choices, 'personal', c.personal,
           'current', c.current)
       ORDER BY c.position, c.name COLLATE "C")
FROM datasense.source_columns c WHERE c.table_id = t.id
"""

# Tables of one resource stand together, parents before their repeat groups.
_TABLES = f"""
SELECT json_agg(json_build_object('id', t.id, 'slug', t.slug, 'resource', t.resource, 'path', t.path,
           'parent', p.slug, 'title', t.title, 'types', t.types, 'key', t.key, 'history_start', t.history_start,
           'checks', t.checks,
           'columns', coalesce(({_COLUMNS}), '[]'::json))
       ORDER BY coalesce(top.position, t.position), t.resource COLLATE "C",
                cardinality(t.path), t.position, t.slug COLLATE "C")
FROM datasense.source_tables t
LEFT JOIN datasense.source_tables p ON p.id = t.parent_id
LEFT JOIN datasense.source_tables top
    ON top.source_id = t.source_id AND top.resource = t.resource AND top.path = '{{}}'
WHERE t.source_id = s.id
"""  # noqa: S608 - constants of ours

_SOURCES = f"""
SELECT json_agg(json_build_object('id', s.id, 'slug', s.slug, 'connector', s.connector, 'config', s.config,
           'schedule', s.schedule,
           'partitions', json_build_object('every', s.partition_every, 'start', s.partition_start),
           'created_on', s.created_on, 'deletes', s.deletes, 'discover_all', s.discover_all,
           'fresh_within_seconds', s.fresh_within_seconds, 'full_reload', s.full_reload,
           'max_minutes', s.max_minutes,
           'paused', EXISTS (SELECT FROM datasense.pauses p WHERE p.org_id = s.org_id AND p.source_id = s.id),
           'tables', coalesce(({_TABLES}), '[]'::json))
       ORDER BY s.slug COLLATE "C")
FROM datasense.sources s
WHERE s.org_id = o.id AND (NOT :scoped OR (replace(o.slug, '-', '_'), replace(s.slug, '-', '_')) IN
    (SELECT * FROM unnest(CAST(:source_orgs AS text[]), CAST(:sources AS text[]))))
"""  # noqa: S608 - constants of ours

_RECIPES = """
SELECT json_agg(json_build_object('id', r.id, 'name', r.name, 'title', r.title, 'spec', r.spec,
           'spec_hash', r.spec_hash, 'personal', coalesce((SELECT json_agg(c.name ORDER BY c.position)
               FROM datasense.recipe_columns c WHERE c.recipe_id = r.id AND c.personal), '[]'::json))
       ORDER BY r.name COLLATE "C")
FROM datasense.recipes r
WHERE r.org_id = o.id AND (NOT :scoped OR (replace(o.slug, '-', '_'), replace(r.name, '-', '_')) IN
    (SELECT * FROM unnest(CAST(:recipe_orgs AS text[]), CAST(:recipes AS text[]))))
"""

_SNAPSHOT = f"""
SELECT v.revision, o.id, o.slug, o.name, o.timezone, o.tier, o.warehouse IS NOT NULL AS own_warehouse,
       EXISTS (SELECT FROM datasense.pauses p WHERE p.org_id = o.id AND p.source_id IS NULL) AS paused,
       ({_SOURCES}) AS sources, ({_RECIPES}) AS recipes
FROM datasense.revisions v
LEFT JOIN datasense.organizations o
    ON {SHARD_CONDITION} AND (NOT :scoped OR replace(o.slug, '-', '_') = ANY(CAST(:orgs AS text[])))
ORDER BY o.slug COLLATE "C"
"""  # noqa: S608 - constants of ours


def read_snapshot(connection: Connection, shard: Shard | None = None, scope: SnapshotScope | None = None) -> Snapshot:
    """Read the catalog, or its part in `shard` and `scope`, in one statement and so as of one moment."""
    from sqlalchemy import text

    rows = connection.execute(text(_SNAPSHOT), {**shard_binds(shard), **_scope_binds(scope)}).mappings().all()
    organizations = [_organization(dict(row)) for row in rows if row["id"] is not None]
    return Snapshot(revision=rows[0]["revision"], organizations=tuple(organizations))


def _scope_binds(scope: SnapshotScope | None) -> dict[str, Any]:
    wanted = scope or SnapshotScope()
    sources, recipes = sorted(wanted.sources), sorted(wanted.recipes)
    return {
        "scoped": scope is not None,
        "orgs": sorted(wanted.organizations),
        "source_orgs": [org for org, _ in sources],
        "sources": [source for _, source in sources],
        "recipe_orgs": [org for org, _ in recipes],
        "recipes": [recipe for _, recipe in recipes],
    }


def _organization(row: dict[str, Any]) -> Organization:
    # What is wrong with the organisation makes each of its rows unusable, and is said on each.
    shared: list[Problem] = []
    if not is_timezone(row["timezone"]):
        fix = "Correct the organisation's time zone, or update the time zone data of this machine."
        shared.append(Problem(path="organization.timezone", message=f"{row['timezone']!r} is no time zone.", fix=fix))
    checked = [
        *(_checked("source", each, shared) for each in row["sources"] or ()),
        *(_checked("recipe", each, shared) for each in row["recipes"] or ()),
    ]
    return Organization(
        id=row["id"],
        slug=row["slug"],
        name=row["name"],
        timezone="UTC" if shared else row["timezone"],
        tier=Tier(row["tier"]),
        own_warehouse=row["own_warehouse"],
        paused=row["paused"],
        sources=tuple(each for each in checked if isinstance(each, Source)),
        recipes=tuple(each for each in checked if isinstance(each, RecipeRow)),
        invalid=tuple(each for each in checked if isinstance(each, InvalidRow)),
    )


def _checked(
    kind: Literal["source", "recipe"], row: dict[str, Any], shared: list[Problem]
) -> Source | RecipeRow | InvalidRow:
    name = row["slug"] if kind == "source" else row["name"]
    problems = list(shared)
    value: Source | RecipeRow | None = None
    try:
        value = Source.model_validate(row) if kind == "source" else RecipeRow.model_validate(row)
    except ValidationError as error:
        problems += _problems_of(error)
    if isinstance(value, Source):
        problems += _source_problems(value)
    if kind == "recipe":
        problems += _recipe_problems(row["spec"])
    if value is not None and not problems:
        return value
    at = f"{kind}s.{name}"
    return InvalidRow(
        kind=kind,
        id=row["id"],
        slug=name,
        tables=tuple(str(table["slug"]) for table in row.get("tables", ())),
        problems=tuple(
            problem if problem in shared else problem.model_copy(update={"path": f"{at}.{problem.path}"})
            for problem in problems
        ),
    )


def _problems_of(error: ValidationError) -> Iterator[Problem]:
    for each in error.errors(include_url=False, include_input=False):
        path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in each["loc"]).lstrip(".")
        yield Problem(path=path, message=f"{each['msg']}.", fix="Correct the row in the catalog.")


def _source_problems(source: Source) -> Iterator[Problem]:
    if isinstance(source.schedule, Cron):
        wrong = cron_problem(source.schedule.cron)
        if wrong is not None:
            fix = "Write five fields, for example 0 6 * * *."
            yield Problem(path="schedule", message=f"{source.schedule.cron!r}: {wrong}.", fix=fix)


def _recipe_problems(spec: Any) -> Iterator[Problem]:
    inputs = spec.get("inputs") if isinstance(spec, dict) else None
    if not isinstance(inputs, dict) or not inputs:
        yield Problem(
            path="inputs", message="a recipe needs at least one input.", fix='Add "inputs": {alias: reference}.'
        )
        return
    for alias, reference in inputs.items():
        try:
            InputReference.parse(str(reference))
        except ValueError as error:
            yield Problem(path=f"inputs.{alias}", message=f"{error}.")


def save_snapshot(path: Path, snapshot: Snapshot) -> None:
    """Keep the snapshot as JSON, readable for its owner alone; a reader sees the old file or the new one, whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    made = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(made, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(snapshot.model_dump_json().encode())
    made.replace(path)


def load_snapshot(path: Path) -> Snapshot | None:
    """The snapshot kept at `path`; None when there is none that this release can read."""
    try:
        return Snapshot.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None
