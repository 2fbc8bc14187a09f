"""Tags that every run bears, and what they are made of.

Contract: `datasense/org`, `datasense/source` or `datasense/recipe`, `datasense/connector`, `datasense/lane`,
`datasense/tier` and `dagster/priority`. `datasense/host` is the server that a source is read from,
`dagster/max_runtime` the seconds after which Dagster stops the run. More serve the limits, which count by the value of
one tag: `datasense/source_key` and `datasense/recipe_key` hold organisation and slug, as slugs repeat between
organisations; `datasense/background_org`, `_connector` and `_host` are of what goes by schedule or as a backfill,
`datasense/unattended` of that and of recipes that follow their inputs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

ORG = "datasense/org"
SOURCE = "datasense/source"
SOURCE_KEY = "datasense/source_key"
RECIPE = "datasense/recipe"
RECIPE_KEY = "datasense/recipe_key"
CONNECTOR = "datasense/connector"
HOST = "datasense/host"
# The same three of runs that nobody waits for, by schedule or in a backfill: they leave a place to people.
BACKGROUND = {name: name.replace("/", "/background_") for name in (ORG, CONNECTOR, HOST)}
# Of whatever no person has asked for: all of it together leaves a place to people.
UNATTENDED = "datasense/unattended"
LANE = "datasense/lane"
TIER = "datasense/tier"
REQUEST = "datasense/request"
FULL = "datasense/full"
# A person waits for the run: what fails is said at once and not tried again after a pause.
ONCE = "datasense/once"
# Set by whoever asks for a live run over a range: the range only says which partitions it fills.
LIVE = "datasense/live"
# What may have changed since that moment (ISO) is read again; `all` beside `datasense/full`. Asked for by night.
REREAD = "datasense/reread"
REREAD_ALL = "all"
# Of a scheduled run whose source failed the last time: few of them run at once, so that servers that hang leave places.
FAILING = "datasense/failing"
# Of a run that tries another one again: the first of them.
ROOT_RUN = "dagster/root_run_id"
# Of a run that Dagster made because the worker of the one before was lost: the how-manieth.
RETRY_NUMBER = "dagster/retry_number"
PRIORITY = "dagster/priority"
BACKFILL = "dagster/backfill"
SENSOR = "dagster/sensor_name"
PARTITION = "dagster/partition"
# Of a run that was lost: whether Dagster makes another one in its place, and, once it has, which.
WILL_RETRY = "dagster/will_retry"
RETRIED_BY = "dagster/auto_retry_run_id"
RANGE_START = "dagster/asset_partition_range_start"
RANGE_END = "dagster/asset_partition_range_end"
MAX_RUNTIME = "dagster/max_runtime"
# The load itself gives up at its time limit and says so; Dagster stops a run that has not, so much later.
HARD_LIMIT_AFTER_SECONDS = 600

RECIPES_PART = "recipes"
# First part of the keys of what is no organisation's.
PLATFORM = "_platform"


class Lane(StrEnum):
    """Why a run was asked for; sets its priority and its limits."""

    INTERACTIVE = "interactive"
    TRANSFORM = "transform"
    SCHEDULED = "scheduled"
    BACKFILL = "backfill"


_PRIORITY = {Lane.INTERACTIVE: 30, Lane.TRANSFORM: 20, Lane.SCHEDULED: 10, Lane.BACKFILL: 0}
_PREMIUM_BONUS = 5


def priority(lane: Lane, tier: str) -> int:
    """Queue priority: by lane, and a premium organisation before a standard one of the same lane."""
    return _PRIORITY[lane] + (_PREMIUM_BONUS if tier == "premium" else 0)


@dataclass(frozen=True)
class Selected:
    """What a run's asset selection touches: identifiers of (org, source) and (org, recipe)."""

    sources: frozenset[tuple[str, str]]
    recipes: frozenset[tuple[str, str]]

    @property
    def orgs(self) -> frozenset[str]:
        """Identifiers of the organisations."""
        return frozenset(org for org, _ in self.sources | self.recipes)


def selected(keys: Iterable[tuple[str, ...]]) -> Selected:
    """Read asset key paths: `org/source[/table]` and `org/recipes/recipe`."""
    sources: set[tuple[str, str]] = set()
    recipes: set[tuple[str, str]] = set()
    for path in keys:
        if len(path) == 3 and path[1] == RECIPES_PART:
            recipes.add((path[0], path[2]))
        elif len(path) >= 2:
            sources.add((path[0], path[1]))
    return Selected(frozenset(sources), frozenset(recipes))


def lane_of(tags: Mapping[str, str], what: Selected) -> Lane:
    """The lane: as asked for, else from who asked: a backfill, a sensor, or (the rest) a person."""
    asked = tags.get(LANE)
    if asked in set(Lane):
        return Lane(asked)
    if BACKFILL in tags:
        return Lane.BACKFILL
    if SENSOR in tags:
        return Lane.TRANSFORM if what.recipes and not what.sources else Lane.SCHEDULED
    return Lane.INTERACTIVE


@dataclass(frozen=True)
class Owner:
    """What the catalog knows of the one organisation or source that a run is for."""

    tier: str = "standard"
    connector: str | None = None
    host: str = ""
    max_minutes: int | None = None

    @classmethod
    def of(cls, tier: str, connector: str | None, config: Mapping[str, Any], max_minutes: int | None) -> Owner:
        """From the rows of organisation and source; `connector` None for what is no source."""
        if connector is None:
            return cls(tier)
        from datasense_assets.connectors import host_of, max_minutes_of

        return cls(tier, connector, host_of(connector, config), max_minutes or max_minutes_of(connector))


def run_tags(tags: Mapping[str, str], what: Selected, owner: Owner) -> dict[str, str]:
    """All tags of a run, those it already bears apart."""
    lane = lane_of(tags, what)
    made = {LANE: lane.value, TIER: owner.tier, PRIORITY: str(priority(lane, owner.tier))}
    if len(what.orgs) == 1:
        made[ORG] = next(iter(what.orgs))
    if len(what.sources) == 1 and not what.recipes:
        org, source = next(iter(what.sources))
        made[SOURCE] = source
        made[SOURCE_KEY] = f"{org}.{source}"
        if owner.connector:
            made[CONNECTOR] = owner.connector
        if owner.host:
            made[HOST] = owner.host
        if owner.max_minutes:
            made[MAX_RUNTIME] = str(owner.max_minutes * 60 + HARD_LIMIT_AFTER_SECONDS)
    if len(what.recipes) == 1 and not what.sources:
        org, recipe = next(iter(what.recipes))
        made[RECIPE] = recipe
        made[RECIPE_KEY] = f"{org}.{recipe}"
    if lane is not Lane.INTERACTIVE:
        made[UNATTENDED] = "true"
    if lane in (Lane.SCHEDULED, Lane.BACKFILL):
        made |= {tag: made[of] for of, tag in BACKGROUND.items() if of in made}
    return {key: value for key, value in made.items() if key not in tags}
