"""What may run at once: the limits of dagster.yaml, and over them those that `datasense limits` set in the catalog.

Where several limits are about one run, the lowest counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from datasense_assets.running import tags as t

if TYPE_CHECKING:
    import dagster as dg
    from sqlalchemy import Engine

    from datasense_assets.catalog.state import RunLimit
    from datasense_assets.catalog.state.limits import LimitScope

TagLimit = Mapping[str, Any]
TAG_OF: dict[str, str] = {
    "lane": t.LANE,
    "org": t.ORG,
    "connector": t.CONNECTOR,
    "host": t.HOST,
    "failing": t.FAILING,
}
# Hold always: of one source, and of one recipe, there is one run.
_FIXED = {t.SOURCE_KEY: "source", t.RECIPE_KEY: "recipe"}
POOL_PREFIX = "connector_"


@dataclass(frozen=True)
class Limits:
    """`total` runs at once (-1: any number), and by tag as Dagster's `tag_concurrency_limits` has it."""

    total: int
    tags: tuple[TagLimit, ...]

    def of(self, scope: LimitScope, name: str) -> int | None:
        """The limit of exactly that scope and name ('': of each); None where there is none."""
        if scope == "total":
            return self.total
        found = (each["limit"] for each in self.tags if _about(each) == _tag(scope, name))
        return next(found, None)

    def binding(self, scope: LimitScope, name: str) -> int | None:
        """The lower of the limit of that name and the one of each; None where neither is."""
        found = [limit for limit in (self.of(scope, name), self.of(scope, "")) if limit is not None]
        return min(found, default=None)


def default_limits(concurrency: Mapping[str, Any], total: int, tags: Sequence[TagLimit]) -> Limits:
    """What dagster.yaml says under `concurrency.runs`; `total` and `tags` where it leaves that out."""
    runs = concurrency.get("runs") or {}
    return Limits(
        int(runs.get("max_concurrent_runs", total)),
        tuple(dict(e) for e in runs.get("tag_concurrency_limits", tags) or ()),
    )


def with_set(defaults: Limits, set_limits: Iterable[RunLimit]) -> Limits:
    """The limits that hold: each that was set takes the place of the one of the same scope and name."""
    total, tags = defaults.total, {_about(each): each for each in defaults.tags}
    for limit in set_limits:
        if limit.scope == "total":
            total = limit.at_once
            continue
        key, named = _tag(limit.scope, limit.name)
        value: Any = named or {"applyLimitPerUniqueValue": True}
        tags[(key, named)] = {"key": key, "value": value, "limit": limit.at_once}
    return Limits(total, tuple(tags.values()))


def leaving_places(limits: Limits) -> Limits:
    """The limits, and for each of an organisation, connector or host, and for all, one of one less for what nobody
    waits for.

    Else the scheduled syncs of an organisation or a server would take all of its places, or syncs and recipes all that
    there are, and a person would stand behind them. Where the limit is one run there is none to leave.
    """
    less = tuple(
        {**each, "key": t.BACKGROUND[each["key"]], "limit": int(each["limit"]) - 1}
        for each in limits.tags
        if each["key"] in t.BACKGROUND and int(each["limit"]) > 1
    )
    if limits.total > 1:
        less += ({"key": t.UNATTENDED, "value": "true", "limit": limits.total - 1},)
    return Limits(limits.total, limits.tags + less)


def within_slots(limits: Limits, slots: Mapping[str, int]) -> Limits:
    """The limits, those of lanes no higher than what workers take at once; a lane without workers has no place."""
    tags = {_about(each): each for each in limits.tags}
    for lane in t.Lane:
        place = slots.get(lane.value, 0)
        own = limits.of("lane", lane.value)
        at_once = place if own is None else min(own, place)
        tags[(t.LANE, lane.value)] = {"key": t.LANE, "value": lane.value, "limit": at_once}
    return Limits(limits.total, tuple(tags.values()))


def listed(limits: Limits) -> list[tuple[str, str, int]]:
    """Every limit, as (scope, name, limit), in the order of the scopes; at the end what cannot be set."""
    from datasense_assets.catalog.state.limits import NAMELESS, SCOPES

    scopes = {tag: scope for scope, tag in TAG_OF.items()} | _FIXED
    order = [*SCOPES, *_FIXED.values()]
    found: list[tuple[str, str, int]] = [("total", "", limits.total)]
    for each in limits.tags:
        tag, name = _about(each)
        scope = scopes.get(tag)
        if scope is None:
            found.append((tag, name, int(each["limit"])))
        else:
            found.append((scope, "" if scope in NAMELESS else name, int(each["limit"])))
    return sorted(found, key=lambda row: (order.index(row[0]) if row[0] in order else len(order), row))


def default_of(defaults: Limits, scope: str, name: str) -> int | None:
    """What dagster.yaml says of a limit as `listed` names it."""
    return next((limit for each, of, limit in listed(defaults) if (each, of) == (scope, name)), None)


def kept_for_people(limits: Limits) -> int | None:
    """Places that scheduled syncs and backfills together leave to people and recipes; None: any number."""
    taken = [limits.of("lane", lane.value) for lane in (t.Lane.SCHEDULED, t.Lane.BACKFILL)]
    if limits.total < 0:
        return None
    return 0 if None in taken else limits.total - sum(each or 0 for each in taken)


def reconcile_pools(
    instance: dg.DagsterInstance, catalog: Engine, defaults: Limits, *, dry_run: bool = False
) -> dict[str, int]:
    """Give each connector's pool as many slots as runs of the connector may run at once; return what was changed.

    A pool is set by itself and never by the default of all pools: changing that on a live instance fails the steps of
    every pool that has it. A connector without a limit keeps the pool's own.
    """
    from sqlalchemy import text

    from datasense_assets.catalog.state import read_run_limits

    with catalog.connect() as connection:
        limits = with_set(defaults, read_run_limits(connection))
        used = connection.execute(text("SELECT DISTINCT connector FROM datasense.sources ORDER BY 1")).scalars().all()
    storage = instance.event_log_storage
    if not storage.supports_global_concurrency_limits:
        return {}
    now = {pool.name: pool.limit for pool in storage.get_pool_limits()}
    changed = {}
    for kind in used:
        pool, wanted = POOL_PREFIX + kind, limits.binding("connector", kind)
        if wanted is not None and now.get(pool) != wanted:
            changed[pool] = wanted
            if not dry_run:
                storage.set_concurrency_slots(pool, wanted)
    return changed


def _tag(scope: str, name: str) -> tuple[str, str]:
    """The tag of a scope, and its value that a name stands for, as `_about` has them."""
    return TAG_OF[scope], "true" if scope == "failing" else name


def _about(limit: TagLimit) -> tuple[str, str]:
    """The tag and the value that a limit is about; '' for each value, '*' for all of them together."""
    value = limit.get("value")
    if isinstance(value, str):
        return str(limit["key"]), value
    return str(limit["key"]), "" if value and value.get("applyLimitPerUniqueValue") else "*"
