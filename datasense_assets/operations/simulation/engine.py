"""The platform played by simpy: slots fall due, the due sensor asks, the queue hands out, workers and Postgres work.

CPU is shared in slices, so that many syncs on few cores slow each other down as they do in earnest. A sync waits for
its source's answers in the middle of its work, holding a slot and no core.
"""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict, deque
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

import simpy

from datasense_assets.operations.simulation.model import MOST_JITTER, SCHEDULES, Quota, Scenario

_SLICE = 0.1
_Steps = Generator[Any, Any, None]


@dataclass
class Played:
    """What came of it. Times in seconds; `lateness` is from the slot to the start of the sync, `waits` is what those
    that waited in the queue waited for, in syncs times looks. `busy` is the CPU used, `capacity` what there was.
    """

    due: int = 0
    done: int = 0
    lateness: list[float] = field(default_factory=list)
    duration: list[float] = field(default_factory=list)
    throttled: dict[str, float] = field(default_factory=dict)
    waits: Counter[str] = field(default_factory=Counter)
    busy: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    capacity: dict[str, float] = field(default_factory=dict)
    left_over: int = 0


@dataclass(eq=False)
class _Sync:
    org: int
    host: int
    slot: float
    quotas: tuple[tuple[Quota, int], ...]


class _Bucket:
    """Calls evenly spaced: the moment up to which a key's quota is used up."""

    def __init__(self) -> None:
        self._until: dict[tuple[str, int], float] = {}

    def wait(self, quota: Quota, key: int, calls: float, now: float) -> float:
        """Seconds that so many calls have to wait, which they then have used."""
        free = max(self._until.get((quota.name, key), 0.0), now)
        self._until[quota.name, key] = free + calls * 60 / quota.calls_a_minute
        return free - now


class _Platform:
    def __init__(self, scenario: Scenario) -> None:
        self.scenario, self.env = scenario, simpy.Environment()
        self.random = random.Random(scenario.seed)  # noqa: S311 - a model, no secret
        self.played = Played()
        self.due: deque[_Sync] = deque()
        self.queue: list[_Sync] = []
        machines = scenario.machines
        self.slots = machines.workers * machines.slots
        self.cpus = [simpy.Resource(self.env, machines.cores) for _ in range(machines.workers)]
        own = self.cpus[0] if machines.shared else None
        self.database = own or simpy.Resource(self.env, machines.database_cores)
        self.daemon = own or simpy.Resource(self.env, 1)
        self.free = [machines.slots] * machines.workers
        self.orgs: Counter[int] = Counter()
        self.hosts: Counter[int] = Counter()
        self.running = 0
        self.bucket = _Bucket()

    def play(self) -> Played:
        end = self.scenario.minutes * 60
        for process in (self._slots(), self._sensor(), self._dequeue()):
            self.env.process(process)
        self.env.run(until=end)
        machines = self.scenario.machines
        self.played.capacity = {
            "workers' CPU": machines.workers * machines.cores * end,
            "slots": self.slots * end,
            "Postgres' CPU": machines.cores * end if machines.shared else machines.database_cores * end,
            "the daemon": end,
        }
        self.played.left_over = len(self.due) + len(self.queue)
        return self.played

    def _slots(self) -> _Steps:
        """Sources fall due: evenly, or from the top of an hour on as their schedules and jitter have them."""
        for at in self._moments():
            yield self.env.timeout(max(0.0, at - self.env.now))
            self.played.due += 1
            self.due.append(self._sync())

    def _moments(self) -> list[float]:
        end = self.scenario.minutes * 60
        if self.scenario.syncs_a_minute is not None:
            if self.scenario.together:
                number = round(self.scenario.syncs_a_minute)
                return [60.0 * minute for minute in range(int(self.scenario.minutes)) for _ in range(number)]
            every = 60 / self.scenario.syncs_a_minute
            return [every * (n + 1) for n in range(int(end / every))]
        moments: list[float] = []
        for share, every in SCHEDULES:
            of_these = round(share * self.scenario.sources)
            if every > 3600:
                # the days of the organisations begin at other hours
                moments += (self.random.uniform(0, every) for _ in range(of_these))
                continue
            spread = min(every, MOST_JITTER)
            for slot in range(math.ceil(end / every)):
                moments += (slot * every + self.random.uniform(0, spread) for _ in range(of_these))
        return sorted(at for at in moments if at < end)

    def _sync(self) -> _Sync:
        org = self.random.randrange(self.scenario.organizations)
        kind, quotas = self.random.random(), []
        below = 0.0
        for quota in self.scenario.quotas:
            if below <= kind < below + quota.share_of_sources:
                quotas.append((quota, 0 if quota.orgs_a_key == 0 else org // quota.orgs_a_key))
            same = [q for q in self.scenario.quotas if q.name.split(",")[0] == quota.name.split(",")[0]]
            if quota is same[-1]:
                below += quota.share_of_sources
        return _Sync(org, org // max(1, self.scenario.orgs_a_host), self.env.now, tuple(quotas))

    def _sensor(self) -> _Steps:
        limits = self.scenario.limits
        while True:
            yield self.env.timeout(limits.sensor_seconds)
            room = min(limits.asked_a_tick, limits.most_waiting - len(self.queue), len(self.due))
            for _ in range(max(0, room)):
                self.queue.append(self.due.popleft())
            if self.due:
                self.played.waits["a place in the queue"] += len(self.due)

    def _dequeue(self) -> _Steps:
        limits = self.scenario.limits
        handed = limits.dequeued_a_minute * limits.dequeue_seconds / 60
        allowance = 0.0
        while True:
            yield self.env.timeout(limits.dequeue_seconds)
            allowance = min(allowance + handed, 2 * handed + 1)
            left: list[_Sync] = []
            for sync in self.queue:
                reason = self._held_back(sync) or ("the daemon" if allowance < 1 else None)
                if reason is not None:
                    self.played.waits[reason] += 1
                    left.append(sync)
                    continue
                allowance -= 1
                self.running += 1
                self.orgs[sync.org] += 1
                self.hosts[sync.host] += 1
                machine = max(range(len(self.free)), key=self.free.__getitem__)
                self.free[machine] -= 1
                self.env.process(self._run(sync, machine))
            self.queue = left

    def _held_back(self, sync: _Sync) -> str | None:
        limits = self.scenario.limits
        if limits.at_once is not None and self.running >= limits.at_once:
            return "the limit of runs at once"
        if max(self.free) <= 0:
            return "slots"
        if self.orgs[sync.org] >= limits.an_org:
            return "the organisation's limit"
        if limits.a_host is not None and self.hosts[sync.host] >= limits.a_host:
            return "the server's limit"
        return None

    def _run(self, sync: _Sync, machine: int) -> _Steps:
        costs, began = self.scenario.costs, self.env.now
        yield from self._use(self.daemon, costs.daemon_cpu, "the daemon")
        self.played.lateness.append(self.env.now - sync.slot)
        yield from self._use(self.cpus[machine], costs.worker_cpu / 2, "workers' CPU")
        for quota, key in sync.quotas:
            wait = self.bucket.wait(quota, key, costs.api_calls, self.env.now)
            self.played.throttled[quota.name] = self.played.throttled.get(quota.name, 0.0) + wait
            yield self.env.timeout(wait)
        # answers of a server differ, their mean is what was measured
        yield self.env.timeout(costs.api_seconds * self.random.uniform(1 - costs.api_spread, 1 + costs.api_spread))
        yield from self._use(self.database, costs.database_cpu, "Postgres' CPU")
        yield from self._use(self.cpus[machine], costs.worker_cpu / 2, "workers' CPU")
        self.running -= 1
        self.orgs[sync.org] -= 1
        self.hosts[sync.host] -= 1
        self.free[machine] += 1
        self.played.done += 1
        self.played.duration.append(self.env.now - began)
        self.played.busy["slots"] += self.env.now - began

    def _use(self, resource: simpy.Resource, seconds: float, name: str) -> _Steps:
        while seconds > 1e-9:
            part = min(seconds, _SLICE)
            with resource.request() as core:
                yield core
                yield self.env.timeout(part)
            self.played.busy[name] += part
            seconds -= part


def play(scenario: Scenario) -> Played:
    """Play the scenario; equal scenarios give equal results."""
    return _Platform(scenario).play()
