"""What a played scenario says: how late, what breaks first, how many machines are needed and what they cost.

The first bottleneck is what is nearest to its capacity by what a sync needs of it; it is known without playing, for any
number of organisations. Playing says how late syncs become before that.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from datasense_assets.operations.simulation.engine import Played, play
from datasense_assets.operations.simulation.model import Limits, Machines, Scenario

# Of CPU and slots so much is planned with: above it, waiting grows without end.
_USABLE = 0.7
_MORE_PLATFORMS, _MORE_MACHINES = 8, 12
_EVENTS_A_RUN = 21
# One Postgres takes so many small commits a second on an ordinary disk; a run makes about as many as it has events.
_COMMITS_A_SECOND = 2000.0
# Bytes of a source and a recipe in a location's snapshot, which daemon and webserver hold and read again.
_SNAPSHOT_BYTES = 3100
_SNAPSHOT_MOST = 100 * 1024 * 1024


@dataclass(frozen=True)
class Ceiling:
    """What there is of a thing and how much of it is wanted, a minute; `organizations`: at how many it is used up.

    `mend`: what to do about it; '' where more machines are.
    """

    name: str
    used: float
    capacity: float
    organizations: float
    mend: str

    @property
    def share(self) -> float:
        """Of the capacity that is used; above 1 it is not enough."""
        return self.used / self.capacity if self.capacity else math.inf


@dataclass(frozen=True)
class Answer:
    """What came of a scenario; times in seconds, money a month in the user's currency.

    `platforms`: so many like the one of `scenario` are needed for all organisations; `monthly_cost` is of all of them.
    """

    scenario: Scenario
    syncs: int
    failed_to_start: int
    p50: float
    p95: float
    latest: float
    duration: float
    ceilings: tuple[Ceiling, ...]
    waited_for: tuple[tuple[str, int], ...]
    monthly_cost: float
    platforms: int = 1

    @property
    def bottleneck(self) -> Ceiling:
        """What is used up first."""
        return self.ceilings[0]

    @property
    def in_time(self) -> bool:
        """Whether no more than a twentieth of the syncs is too late, and no backlog is left at the end."""
        behind = self.scenario.rate * self.scenario.late_seconds / 60
        return self.p95 <= self.scenario.late_seconds and self.failed_to_start <= max(5, behind)


def answer(scenario: Scenario, price: float) -> Answer:
    """Play a scenario; `price`: of one machine a month."""
    played = play(scenario)
    machines = scenario.machines
    return Answer(
        scenario,
        syncs=played.done,
        failed_to_start=played.left_over,
        p50=_quantile(played.lateness, 0.5),
        p95=_quantile(played.lateness, 0.95),
        latest=max(played.lateness, default=0.0),
        duration=sum(played.duration) / len(played.duration) if played.duration else 0.0,
        ceilings=ceilings(scenario),
        waited_for=tuple(_waits(played)),
        monthly_cost=price * machine_count(machines),
    )


def machine_count(machines: Machines) -> int:
    """Worker machines, and those of Postgres and of daemon, webserver and code servers where they have their own."""
    if machines.shared:
        return machines.workers
    return machines.workers + max(1, math.ceil(machines.database_cores / machines.cores)) + 1


def needed(scenario: Scenario, price: float) -> Answer:
    """The scenario with as few machines as serve it in time; limits of the queue grow with them.

    Reckoned from what a sync needs, then played, and grown until it is in time or no machine helps any more. What one
    platform cannot serve at any size is shared by several, each with its own daemon, storage and Google project.
    """
    few = math.ceil(max(each.share for each in ceilings(_sized(scenario)) if each.mend) / _USABLE)
    few = max(few, math.ceil(scenario.peak_rate / scenario.limits.dequeued_a_minute))
    found = _on_platforms(scenario, price, few)
    for platforms in range(few + 1, few + _MORE_PLATFORMS):
        if found.in_time:
            break
        found = _on_platforms(scenario, price, platforms)
    return found


def _on_platforms(scenario: Scenario, price: float, platforms: int) -> Answer:
    """Shared by so many platforms; the answer is of one of them, with the price of all."""
    rate = None if scenario.syncs_a_minute is None else scenario.syncs_a_minute / platforms
    part = replace(scenario, organizations=math.ceil(scenario.organizations / platforms), syncs_a_minute=rate)
    machines = scenario.machines
    for shared in (True, False):
        now = _sized(replace(part, machines=replace(machines, shared=shared)))
        if shared and now.machines.workers > 1:
            continue
        before: Answer | None = None
        for _ in range(_MORE_MACHINES):
            found = answer(now, price)
            if found.in_time or (found.waited_for and found.waited_for[0][0] == "the daemon"):
                break
            if before and found.p95 >= before.p95 and found.failed_to_start >= before.failed_to_start:
                break
            before = found
            more = max(now.machines.workers + 1, round(now.machines.workers * 1.15))
            now = replace(now, machines=replace(now.machines, workers=more))
            if shared:
                break
        if found.in_time:
            break
    return replace(found, platforms=platforms, monthly_cost=found.monthly_cost * platforms)


def _sized(scenario: Scenario) -> Scenario:
    costs, machines, rate = scenario.costs, scenario.machines, scenario.rate / 60
    cpu = rate * costs.worker_cpu
    if machines.shared:
        cpu += rate * (costs.database_cpu + costs.daemon_cpu)
    busy = rate * (costs.worker_cpu + costs.database_cpu + costs.api_seconds * 1.1) / _USABLE
    workers = max(1, math.ceil(cpu / (machines.cores * _USABLE)))
    slots = max(machines.slots, math.ceil(busy / workers) + 1)
    database = max(machines.database_cores, math.ceil(rate * costs.database_cpu / _USABLE))
    handed_out = math.ceil(scenario.limits.dequeued_a_minute * scenario.limits.sensor_seconds / 60)
    limits = replace(
        scenario.limits,
        at_once=None,
        # as many as one daemon hands out until the next tick
        asked_a_tick=max(scenario.limits.asked_a_tick, handed_out),
        most_waiting=max(scenario.limits.most_waiting, 2 * handed_out),
    )
    sized = replace(machines, workers=workers, slots=slots, database_cores=database)
    return replace(scenario, machines=sized, limits=limits)


def ceilings(scenario: Scenario) -> tuple[Ceiling, ...]:
    """Everything that can be used up, the nearest to its end first."""
    costs, machines, limits, rate = scenario.costs, scenario.machines, scenario.limits, scenario.rate
    cpu = machines.workers * machines.cores * 60.0
    on_workers = costs.worker_cpu + (costs.database_cpu + costs.daemon_cpu if machines.shared else 0.0)
    holds = costs.worker_cpu + costs.database_cpu + costs.api_seconds
    found = [
        ("CPU of the worker machines", rate * on_workers, cpu, ""),
        ("slots for runs", rate * holds, _at_once(machines, limits) * 60.0, ""),
        ("runs that one daemon hands out", rate, limits.dequeued_a_minute, _SHARDS),
        ("CPU of the daemon (one core)", rate * costs.daemon_cpu, 60.0, _SHARDS),
        ("commits of one Postgres for Dagster's events", rate * _EVENTS_A_RUN, _COMMITS_A_SECOND * 60, _SHARDS),
        (
            "snapshot of one code location",
            float(scenario.sources * _SNAPSHOT_BYTES),
            float(_SNAPSHOT_MOST),
            "Part the organisations over code locations (datasense workspace).",
        ),
    ]
    if not machines.shared:
        database = rate * costs.database_cpu
        found.append(("CPU of Postgres", database, machines.database_cores * 60.0, _BIGGER))
    for quota in scenario.quotas:
        keys = 1 if quota.orgs_a_key == 0 else max(1, scenario.organizations // quota.orgs_a_key)
        calls = rate * quota.share_of_sources * costs.api_calls
        mend = _PROJECTS if quota.orgs_a_key == 0 else "Sync these organisations less often."
        found.append((quota.name, calls, quota.calls_a_minute * keys, mend))
    made = [
        Ceiling(name, used, capacity, _organizations(scenario, name, used, capacity), mend)
        for name, used, capacity, mend in found
    ]
    return tuple(sorted(made, key=lambda each: each.share, reverse=True))


_SHARDS = "Run several platforms, each with its daemon, storage and part of the organisations."
_BIGGER = "A larger server, or organisations with a warehouse of their own."
_PROJECTS = "More Google Cloud projects (each has a quota of its own), or a higher quota from Google."


def _organizations(scenario: Scenario, name: str, used: float, capacity: float) -> float:
    """At how many organisations it is used up; infinite for what grows with them."""
    grows = any(quota.name == name and quota.orgs_a_key for quota in scenario.quotas)
    if not used or grows:
        return math.inf if not used or used <= capacity else float(scenario.organizations)
    return scenario.organizations * capacity / used


def _at_once(machines: Machines, limits: Limits) -> int:
    slots = machines.workers * machines.slots
    return slots if limits.at_once is None else min(slots, limits.at_once)


def _waits(played: Played) -> list[tuple[str, int]]:
    return [(name, count) for name, count in played.waits.most_common() if count]


def _quantile(values: list[float], share: float) -> float:
    """The value below which that share of all lies; 0 for none."""
    if not values:
        return 0.0
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1)]
