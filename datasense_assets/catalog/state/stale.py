"""Which recipes are out of date, and what stands in the way of building them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, RowMapping, text

from datasense_assets.catalog.models import Tier, identifier
from datasense_assets.catalog.sharding import SHARD_CONDITION, shard_binds
from datasense_assets.settings import Shard


@dataclass(frozen=True)
class StaleRecipe:
    """A recipe whose spec or data has changed since it was built, and what stands in the way of building it.

    `spec_changed`: its spec, the compiler, the organisation's time zone or the day that it asks for is another.
    `changed`, `missing` (names nothing in the catalog), `never_loaded`, `failing`, `broken` (a check that is an error
    does not hold, or was not run on the newest data) and `busy` (due, queued or running) hold aliases of inputs; one is
    changed when its data, its columns or the choice labels that were used are others.
    `sources`: the sources it reads, as identifiers; `upstreams`: the recipes it reads, by name; `stale_upstreams`:
    those that are stale too and are to be built first; `blocked_upstreams`: those of them that have to wait themselves.
    `failed_unchanged`: it failed after the last change, so building again fails again. `outdated_since`: when it was
    first seen so; `impatient`: that is so long ago that it no longer waits for inputs that are busy.
    """

    recipe_id: int
    name: str
    org_id: int
    org_slug: str
    tier: Tier
    spec_hash: str
    spec_changed: bool
    changed: tuple[str, ...]
    missing: tuple[str, ...]
    never_loaded: tuple[str, ...]
    failing: tuple[str, ...]
    broken: tuple[str, ...]
    busy: tuple[str, ...]
    sources: tuple[str, ...]
    upstreams: tuple[str, ...]
    stale_upstreams: tuple[str, ...]
    blocked_upstreams: tuple[str, ...]
    failed_unchanged: bool
    failures_in_a_row: int
    last_requested_at: datetime | None
    outdated_since: datetime | None = None
    impatient: bool = False

    @property
    def org(self) -> str:
        """The organisation as an identifier."""
        return identifier(self.org_slug)

    @property
    def waits_for(self) -> str | None:
        """Why it is not to be built now, in one phrase; None when its inputs have settled."""
        reasons = {
            "is not in the catalog": self.missing,
            "has never been loaded": self.never_loaded,
            "has failed": self.failing,
            "breaks a check": self.broken,
            "is due or running": () if self.impatient else self.busy,
            "waits itself": self.blocked_upstreams,
        }
        said = [f"{', '.join(names)} {reason}" for reason, names in reasons.items() if names]
        return "; ".join(said) or None


# One row for each input of each recipe, with the version it has now. `busy` counts a request as queued for an hour:
# longer, and the run that was to serve it is taken for lost.
INPUTS = """
SELECT i.recipe_id, i.alias, i.source_ident, t.id AS table_id, u.id AS upstream_id, u.name AS upstream,
       coalesce(ts.data_version, us.data_version) AS version,
       coalesce(ts.columns_hash, us.columns_hash) AS columns_hash, ts.labels_hash,
       greatest(ts.changed_at, ts.columns_changed_at, us.changed_at) AS changed_at,
       coalesce(ts.data_version, us.data_version) IS DISTINCT FROM i.built_version
           OR coalesce(ts.columns_hash, us.columns_hash) IS DISTINCT FROM i.built_columns
           OR coalesce(ts.labels_hash, '') <> i.built_labels IS TRUE AS differs,
       t.id IS NULL AND u.id IS NULL AS missing,
       coalesce(ts.loaded_at, us.built_at) IS NULL AS never_loaded,
       coalesce(ss.failures_in_a_row, us.failures_in_a_row, 0) > 0 AS failing,
       EXISTS (SELECT FROM datasense.check_results c WHERE c.table_id = t.id AND c.severity = 'error'
               AND (NOT c.passed OR c.data_version < ts.data_version))
           OR EXISTS (SELECT FROM datasense.check_results c WHERE c.recipe_id = u.id AND c.severity = 'error'
                      AND NOT c.passed) AS broken,
       coalesce(ss.next_due_at <= :now AND p.org_id IS NULL, false) OR coalesce(l.expires_at > :now, false)
           OR coalesce(ss.last_requested_at > greatest(ss.last_started_at, :now - interval '1 hour'), false) AS busy
FROM datasense.recipe_inputs i
JOIN datasense.recipes r ON r.id = i.recipe_id
LEFT JOIN datasense.sources s ON s.org_id = r.org_id AND replace(s.slug, '-', '_') = i.source_ident
LEFT JOIN datasense.source_tables t ON t.source_id = s.id AND replace(t.slug, '-', '_') = i.table_ident
LEFT JOIN datasense.table_status ts ON ts.table_id = t.id
LEFT JOIN datasense.source_status ss ON ss.source_id = t.source_id
LEFT JOIN datasense.leases l ON l.source_id = t.source_id
LEFT JOIN datasense.pauses p ON p.org_id = s.org_id AND p.source_id = s.id
LEFT JOIN datasense.recipes u ON u.org_id = r.org_id AND replace(u.name, '-', '_') = i.recipe_ident
LEFT JOIN datasense.recipe_status us ON us.recipe_id = u.id
"""

# Of a recipe r with its status st and organisation o: it may mean something else than when it was built.
SPEC_CHANGED = """(
    st.spec_hash IS DISTINCT FROM r.spec_hash OR st.timezone IS DISTINCT FROM o.timezone
    OR coalesce(st.built_for < (CAST(:now AS timestamptz) AT TIME ZONE o.timezone)::date, false)
)"""

_OUTDATED = f"({SPEC_CHANGED} OR st.compiler_version IS DISTINCT FROM :compiler_version)"

# Organisations in which something may have become stale of late, each found by an index; what is stale stays in it by
# `outdated_since`. A build, another spec, or another time zone makes a recipe's row look changed too.
_LOOKED_AT = """
SELECT t.org_id FROM datasense.table_status ts JOIN datasense.source_tables t ON t.id = ts.table_id
WHERE ts.changed_at > now() - make_interval(secs => :recent)
UNION SELECT t.org_id FROM datasense.table_status ts JOIN datasense.source_tables t ON t.id = ts.table_id
WHERE ts.columns_changed_at > now() - make_interval(secs => :recent)
UNION SELECT r.org_id FROM datasense.recipe_status st JOIN datasense.recipes r ON r.id = st.recipe_id
WHERE st.built_at > now() - make_interval(secs => :recent)
UNION SELECT r.org_id FROM datasense.recipe_status st JOIN datasense.recipes r ON r.id = st.recipe_id
WHERE st.outdated_since IS NOT NULL
UNION SELECT r.org_id FROM datasense.recipe_status st JOIN datasense.recipes r ON r.id = st.recipe_id
WHERE st.compiler_version < :compiler_version OR st.compiler_version > :compiler_version
UNION SELECT r.org_id FROM datasense.recipe_status st JOIN datasense.recipes r ON r.id = st.recipe_id
WHERE st.built_for < (CAST(:now AS timestamptz) AT TIME ZONE 'UTC' + interval '14 hours')::date
UNION SELECT r.org_id FROM datasense.recipes r WHERE r.updated_at > now() - make_interval(secs => :recent)
UNION SELECT o.id FROM datasense.organizations o WHERE o.updated_at > now() - make_interval(secs => :recent)
"""
_OF_THESE = "WHERE r.org_id = ANY (CAST(:orgs AS bigint[]))"

_RECIPES = """
WITH inputs AS ({inputs}),
grouped AS (
    SELECT recipe_id, json_agg(inputs ORDER BY alias) AS inputs,
           bool_or(NOT missing AND differs) AS changed, max(changed_at) AS changed_at
    FROM inputs GROUP BY recipe_id
),
every AS (
    SELECT r.id AS recipe_id, r.name, r.spec_hash, o.id AS org_id, o.slug AS org_slug, o.tier,
           {outdated} AS spec_changed, coalesce(g.inputs, '[]') AS inputs,
           coalesce(st.failed_at > greatest(g.changed_at, r.updated_at), false) AS failed_unchanged,
           st.failures_in_a_row, st.last_requested_at, st.outdated_since,
           bool_or({outdated} OR coalesce(g.changed, false)) OVER (PARTITION BY o.id) AS org_has_stale
    FROM datasense.recipes r
    JOIN datasense.recipe_status st ON st.recipe_id = r.id
    JOIN datasense.organizations o ON o.id = r.org_id
    LEFT JOIN grouped g ON g.recipe_id = r.id
    {of_these} {shard}
      AND NOT EXISTS (SELECT FROM datasense.pauses p WHERE p.org_id = o.id AND p.source_id IS NULL)
)
SELECT * FROM every WHERE org_has_stale ORDER BY org_slug, name
"""
_ALL = _RECIPES.format(inputs=INPUTS, outdated=_OUTDATED, of_these="WHERE", shard=SHARD_CONDITION)
_OF_ORGS = _RECIPES.format(
    inputs=f"{INPUTS} {_OF_THESE}", outdated=_OUTDATED, of_these=f"{_OF_THESE} AND", shard=SHARD_CONDITION
)

_MARK_OUTDATED = """
UPDATE datasense.recipe_status SET outdated_since = CAST(:now AS timestamptz)
WHERE recipe_id = ANY (CAST(:ids AS bigint[])) AND outdated_since IS NULL
"""
_MARK_BUILT = f"""
UPDATE datasense.recipe_status st SET outdated_since = NULL
FROM datasense.recipes r JOIN datasense.organizations o ON o.id = r.org_id
WHERE r.id = st.recipe_id AND {SHARD_CONDITION}
  AND st.outdated_since IS NOT NULL AND st.recipe_id <> ALL (CAST(:ids AS bigint[]))
  AND NOT EXISTS (SELECT FROM datasense.pauses p WHERE p.org_id = o.id AND p.source_id IS NULL)
"""  # noqa: S608 - the condition is a constant of ours


def stale_recipes(
    connection: Connection,
    now: datetime,
    compiler_version: int,
    shard: Shard | None = None,
    *,
    patience: timedelta | None = None,
    recent: timedelta | None = None,
) -> list[StaleRecipe]:
    """Recipes to be built again, by organisation and name, those below a stale recipe included.

    With `recent`, only organisations are looked at in which something was stale before (`mark_outdated`), or has
    changed for so long: found by index, however many there are. It must reach back beyond the last look, and beyond
    the longest transaction that writes what a load or build has brought. None: all of them.

    Organisations that are paused are left out. Two stale recipes of one organisation belong in one run. After
    `patience` (None: never) a recipe is built from what is there, though an input is still due or running.
    """
    binds = {"now": now, "compiler_version": compiler_version, **shard_binds(shard)}
    if recent is None:
        rows = connection.execute(text(_ALL), binds).mappings().all()
    else:
        orgs = read_changed_orgs(connection, now, compiler_version, recent)
        if not orgs:
            return []
        rows = connection.execute(text(_OF_ORGS), {**binds, "orgs": orgs}).mappings().all()
    directly = {
        (row["org_id"], row["name"])
        for row in rows
        if row["spec_changed"] or any(_differs(each) for each in row["inputs"])
    }
    stale = _with_dependents(directly, rows)
    before = None if patience is None else now - patience
    found = [_stale_recipe(row, stale, before) for row in rows if (row["org_id"], row["name"]) in stale]
    blocked = {(each.org_id, each.name) for each in found if each.waits_for}
    waiting = _with_dependents(blocked, rows)
    return [
        replace(each, blocked_upstreams=tuple(name for name in each.upstreams if (each.org_id, name) in waiting))
        for each in found
    ]


def read_changed_orgs(connection: Connection, now: datetime, compiler_version: int, recent: timedelta) -> list[int]:
    """Ids of the organisations that `stale_recipes` looks at with `recent`."""
    binds = {"now": now, "compiler_version": compiler_version, "recent": recent.total_seconds()}
    return list(connection.execute(text(_LOOKED_AT), binds).scalars())


def _differs(each: Mapping[str, Any]) -> bool:
    return not each["missing"] and bool(each["differs"])


def _with_dependents(directly: set[tuple[int, str]], rows: Sequence[RowMapping]) -> set[tuple[int, str]]:
    dependents: dict[tuple[int, str], list[tuple[int, str]]] = {}
    for row in rows:
        for each in row["inputs"]:
            if each["upstream"] is not None:
                dependents.setdefault((row["org_id"], each["upstream"]), []).append((row["org_id"], row["name"]))
    reached, waiting = set(directly), list(directly)
    while waiting:
        for dependent in dependents.get(waiting.pop(), []):
            if dependent not in reached:
                reached.add(dependent)
                waiting.append(dependent)
    return reached


def _stale_recipe(row: RowMapping, stale: set[tuple[int, str]], before: datetime | None) -> StaleRecipe:
    inputs = row["inputs"]
    # What a stale recipe above will write is not waited for: both are built in one run, in order.
    own = [each for each in inputs if (row["org_id"], each["upstream"]) not in stale]
    upstreams = sorted({each["upstream"] for each in inputs if each["upstream"] is not None})
    return StaleRecipe(
        recipe_id=row["recipe_id"],
        name=row["name"],
        org_id=row["org_id"],
        org_slug=row["org_slug"],
        tier=Tier(row["tier"]),
        spec_hash=row["spec_hash"],
        spec_changed=row["spec_changed"],
        changed=tuple(each["alias"] for each in inputs if _differs(each)),
        missing=tuple(each["alias"] for each in inputs if each["missing"]),
        never_loaded=tuple(each["alias"] for each in own if each["never_loaded"] and not each["missing"]),
        failing=tuple(each["alias"] for each in own if each["failing"]),
        broken=tuple(each["alias"] for each in own if each["broken"]),
        busy=tuple(each["alias"] for each in own if each["busy"]),
        sources=tuple(sorted({each["source_ident"] for each in inputs if each["source_ident"] is not None})),
        upstreams=tuple(upstreams),
        stale_upstreams=tuple(name for name in upstreams if (row["org_id"], name) in stale),
        blocked_upstreams=(),
        failed_unchanged=row["failed_unchanged"],
        failures_in_a_row=row["failures_in_a_row"],
        last_requested_at=row["last_requested_at"],
        outdated_since=row["outdated_since"],
        impatient=before is not None and row["outdated_since"] is not None and row["outdated_since"] < before,
    )


def mark_outdated(connection: Connection, rows: Sequence[StaleRecipe], now: datetime, shard: Shard | None) -> None:
    """Note since when each of the stale recipes is so, and that the others of the shard are not."""
    ids = [row.recipe_id for row in rows]
    if ids:
        connection.execute(text(_MARK_OUTDATED), {"ids": ids, "now": now})
    connection.execute(text(_MARK_BUILT), {"ids": ids, **shard_binds(shard)})
