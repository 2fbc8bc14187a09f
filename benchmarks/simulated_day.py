"""A day of the platform in about two minutes: the real sensors over a real catalog, on a clock of their own.

    python benchmarks/simulated_day.py [--orgs 60] [--sources 300] [--hours 24] [--picture docs/simulated-day.svg]

Real: catalog, due sensor and alerts sensor, Dagster's run storage with its run keys, messages over HTTP to a hook.
Played: the queue (8 places, 5 of them for scheduled runs, 3 an organisation, 4 a server), loads and the sources'
servers.
Each part is out of order for a time: a server, all workers, the daemon, the hook, and one worker is killed.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import threading
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from unittest.mock import patch

import dagster as dg
from sqlalchemy import Engine, text

from datasense_assets.assets.graph import build_definitions
from datasense_assets.automation.due import RUN_KEY
from datasense_assets.automation.slots import next_due
from datasense_assets.catalog.apply import apply_manifest
from datasense_assets.catalog.manifest import parse_manifest
from datasense_assets.catalog.models import Schedule
from datasense_assets.catalog.snapshot import read_snapshot
from datasense_assets.catalog.state import FailureRecord, record_source_result
from datasense_assets.catalog.times import clock
from datasense_assets.settings import Settings

MINUTE = timedelta(minutes=1)
PLACES, SCHEDULED, PER_ORG, PER_SERVER = 8, 5, 3, 4
DOWN = FailureRecord("unavailable", "The server does not answer.", "Nothing, unless it lasts.")
ZONES = ("Asia/Kolkata", "Africa/Nairobi", "America/New_York", "UTC")
SCHEDULES = ("hourly", "daily", "hourly", "15min", "daily", "daily")
SERVERS = ("kobo", "surveycto", "odk_central")


@dataclass(frozen=True)
class Outages:
    """Hours of the day from which to which each part is out of order; `killed_at`: when a worker is killed."""

    server: tuple[float, float] = (3, 5)
    workers: tuple[float, float] = (8, 8.5)
    daemon: tuple[float, float] = (12, 13.5)
    hook: tuple[float, float] = (3.5, 6)
    killed_at: float = 15

    def within(self, part: str, hours: float) -> bool:
        """Whether that part is out of order at that time of the day."""
        begin, end = getattr(self, part)
        return begin <= hours < end


@dataclass(frozen=True)
class Attempt:
    """One run: of which source, for which slot, when it began and ended, calls it made, whether it loaded."""

    source: int
    slot: datetime
    began: datetime
    ended: datetime
    calls: int
    ok: bool


@dataclass
class Day:
    """What happened: every run, every slot that there was, messages by minute as the hook got them."""

    start: datetime
    end: datetime
    attempts: list[Attempt] = field(default_factory=list)
    slots: dict[int, list[datetime]] = field(default_factory=dict)
    calls: Counter[int] = field(default_factory=Counter)
    told: list[tuple[datetime, str]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    killed: list[str] = field(default_factory=list)

    def lateness(self) -> list[float]:
        """Minutes from each slot that was run to its run's first beginning, sorted."""
        first: dict[tuple[int, datetime], datetime] = {}
        for each in self.attempts:
            first.setdefault((each.source, each.slot), each.began)
        return sorted((began - slot).total_seconds() / 60 for (_, slot), began in first.items())

    def unserved(self, within: timedelta) -> list[tuple[int, datetime]]:
        """Slots after which no run of their source began within that time: neither run nor coalesced."""
        begun: dict[int, list[datetime]] = defaultdict(list)
        for each in self.attempts:
            begun[each.source].append(each.began)
        return [
            (source, slot)
            for source, slots in self.slots.items()
            for slot in slots
            if slot + within < self.end and not any(slot <= began <= slot + within for began in begun[source])
        ]


@dataclass
class _Waiting:
    run_id: str
    source: int
    org: str
    server: str
    slot: datetime
    tags: Mapping[str, str]
    ends: datetime | None = None
    began: datetime | None = None


@contextmanager
def _hook(day: Day, now: list[datetime], outages: Outages) -> Iterator[str]:
    """A web hook on loopback that is out of order for a time, as Apprise's `json://` URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            broken = outages.within("hook", (now[0] - day.start).total_seconds() / 3600)
            if not broken:
                day.told.append((now[0], body["title"]))
            self.send_response(500 if broken else 200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"json://127.0.0.1:{server.server_port}/hook"
    finally:
        server.shutdown()
        server.server_close()


def _server(number: int) -> str:
    return f"{SERVERS[(number + number // len(SCHEDULES)) % len(SERVERS)]}.example.org"


def _fill(catalog: Engine, orgs: int, sources: int) -> None:
    for number in range(orgs):
        lines = [
            f'  - {{slug: s-{n}, connector: kobo, config: {{base_url: "https://{_server(n)}"}}, '
            f"credentials: {{token: {{env: T}}}}, schedule: {SCHEDULES[n % len(SCHEDULES)]}, "
            f"tables: [{{slug: t, resource: a{n}}}]}}"
            for n in range(number, sources, orgs)
        ]
        zone = ZONES[number % 4]
        head = f"organization: {{slug: org-{number}, name: Org, timezone: {zone}, contacts: [{{env: HOOK}}]}}"
        with catalog.begin() as connection:
            apply_manifest(connection, parse_manifest("\n".join(["version: 1", head, "sources:", *lines])))


def simulate(
    catalog: Engine,
    settings: Settings,
    *,
    orgs: int,
    sources: int,
    hours: float = 24,
    outages: Outages | None = None,
    tick: timedelta = MINUTE,
) -> Day:
    """Let the sensors live through so many hours; `settings` lead to `catalog`, which holds nothing yet."""
    outages = outages or Outages()
    start = datetime.now(UTC).replace(second=0, microsecond=0) + MINUTE
    day, now = Day(start, start + timedelta(hours=hours)), [start]
    _fill(catalog, orgs, sources)
    with catalog.connect() as connection:
        snapshot = read_snapshot(connection)
    graph = build_definitions(snapshot, settings)
    limit = timedelta(minutes=settings.jitter_minutes)
    schedules: dict[int, tuple[Schedule, str]] = {}
    where: dict[tuple[str, str], tuple[int, str]] = {}
    for org in snapshot.organizations:
        for source in org.sources:
            schedules[source.id] = (source.schedule, org.timezone)
            path = (org.slug.replace("-", "_"), source.slug.replace("-", "_"))
            where[path] = (source.id, str(source.config["base_url"]))
    for ident, (schedule, zone) in schedules.items():
        slot = next_due(schedule, zone, ident, start, limit)
        day.slots[ident] = []
        while slot is not None and slot < day.end:
            day.slots[ident].append(slot)
            slot = next_due(schedule, zone, ident, slot, limit)
    with (
        dg.DagsterInstance.ephemeral() as instance,
        _hook(day, now, outages) as url,
        patch.dict("os.environ", {"HOOK": url}),
        clock(lambda: now[0]),
    ):
        world = _World(day, now, instance, graph, catalog, where, outages)
        while now[0] < day.end:
            world.step()
            now[0] += tick
    return day


class _World:
    """Daemon, queue and workers, a step at a time."""

    def __init__(
        self,
        day: Day,
        now: list[datetime],
        instance: dg.DagsterInstance,
        graph: dg.Definitions,
        catalog: Engine,
        where: Mapping[tuple[str, str], tuple[int, str]],
        outages: Outages,
    ) -> None:
        self.day, self.now, self.instance, self.graph = day, now, instance, graph
        self.catalog, self.where, self.outages = catalog, where, outages
        self.queue: list[_Waiting] = []
        self.running: list[_Waiting] = []
        self.random = random.Random(7)
        self.steps = 0

    def step(self) -> None:
        hours = (self.now[0] - self.day.start).total_seconds() / 3600
        self._end_runs(hours)
        if not self.outages.within("daemon", hours):
            for request in self._evaluate("due_sources"):
                self._submit(request)
            if self.steps % 5 == 0:
                self._evaluate("alerts")
            if not self.outages.within("workers", hours):
                self._dequeue()
        self.steps += 1

    def _evaluate(self, name: str) -> list[dg.RunRequest]:
        with dg.build_sensor_context(instance=self.instance, definitions=self.graph) as context:
            result = self.graph.resolve_sensor_def(name)(context)
        assert isinstance(result, dg.SensorResult)
        return list(result.run_requests or [])

    def _submit(self, request: dg.RunRequest) -> None:
        # as the daemon does: a run key that it knows makes no second run
        seen = dg.RunsFilter(tags={RUN_KEY: str(request.run_key)})
        if self.instance.get_run_ids(filters=seen, limit=1):
            return
        key = next(iter(request.asset_selection or ()))
        ident, server = self.where[key.path[0], key.path[1]]
        tags = {**request.tags, RUN_KEY: str(request.run_key)}
        slot = datetime.fromisoformat(str(request.run_key).partition("@")[2])
        waiting = _Waiting(str(uuid.uuid4()), ident, key.path[0], server, slot, tags)
        self.day.asked.append(str(request.run_key))
        self._record(waiting, dg.DagsterRunStatus.NOT_STARTED, [key])
        self.queue.append(waiting)

    def _record(self, run: _Waiting, status: dg.DagsterRunStatus, keys: list[dg.AssetKey] | None = None) -> None:
        known = self.instance.get_run_by_id(run.run_id)
        selected = frozenset(keys or ()) if known is None else known.asset_selection
        if known is not None:
            self.instance.delete_run(run.run_id)
        made = dg.DagsterRun(
            job_name="__ASSET_JOB", run_id=run.run_id, asset_selection=selected, tags=dict(run.tags), status=status
        )
        self.instance.add_run(made)

    def _dequeue(self) -> None:
        for run in list(self.queue):
            orgs, servers = Counter(r.org for r in self.running), Counter(r.server for r in self.running)
            if len(self.running) >= min(PLACES, SCHEDULED):
                return
            if orgs[run.org] < PER_ORG and servers[run.server] < PER_SERVER:
                self.queue.remove(run)
                run.began = self.now[0]
                run.ends = self.now[0] + timedelta(seconds=self.random.choice((20, 40, 60, 60, 110)))
                self.running.append(run)

    def _end_runs(self, hours: float) -> None:
        for run in list(self.running):
            assert run.began is not None
            assert run.ends is not None
            if not self.day.killed and hours >= self.outages.killed_at:
                # its worker is killed: the daemon sees it and runs it again, as the same run of the same slot
                self.day.killed.append(run.run_id)
                self.running.remove(run)
                self.queue.insert(0, run)
                continue
            if run.ends > self.now[0]:
                continue
            self.running.remove(run)
            down = "surveycto" in run.server and self.outages.within("server", hours)
            calls = 1 if down else self.random.randint(2, 12)
            self.day.calls[int((run.began - self.day.start).total_seconds() // 60)] += calls
            self.day.attempts.append(Attempt(run.source, run.slot, run.began, run.ends, calls, not down))
            with self.catalog.begin() as connection:
                failure = DOWN if down else None
                record_source_result(connection, run.source, run_id=run.run_id, started_at=run.began, failure=failure)
                if failure is None:
                    connection.execute(
                        text(
                            "UPDATE datasense.table_status ts SET fresh_as_of = :at, loaded_at = :at "
                            "FROM datasense.source_tables t WHERE t.id = ts.table_id AND t.source_id = :id"
                        ),
                        {"at": run.began, "id": run.source},
                    )
            self._record(run, dg.DagsterRunStatus.FAILURE if down else dg.DagsterRunStatus.SUCCESS)


def picture(day: Day) -> str:
    """Three plots over the hours of the day as SVG: lateness, calls a minute, messages sent."""
    hours = (day.end - day.start).total_seconds() / 3600
    width, height, left = 900, 130, 60
    late = [
        ((a.began - day.start).total_seconds() / 3600, (a.began - a.slot).total_seconds() / 60) for a in day.attempts
    ]
    calls = [(minute / 60, float(count)) for minute, count in sorted(day.calls.items())]
    told = Counter(int((at - day.start).total_seconds() // 900) for at, _ in day.told)
    plots = (
        ("minutes from slot to run", late),
        ("calls a minute", calls),
        ("messages sent in 15 minutes", [(n / 4, float(count)) for n, count in sorted(told.items())]),
    )
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{len(plots) * (height + 50)}" '
             'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="white"/>']  # fmt: skip
    for number, (title, points) in enumerate(plots):
        top, most = 30 + number * (height + 50), max((y for _, y in points), default=1) or 1
        scale = (width - left - 20) / hours
        parts.append(f'<text x="{left}" y="{top - 8}">{title} (most: {most:.0f})</text>')
        parts.append(f'<rect x="{left}" y="{top}" width="{width - left - 20}" height="{height}" fill="#f4f4f4"/>')
        for x, y in points:
            at, tall = left + x * scale, y / most * height
            parts.append(f'<rect x="{at:.1f}" y="{top + height - tall:.1f}" width="2" height="{tall:.1f}" '
                         'fill="#33658a" fill-opacity="0.5"/>')  # fmt: skip
        parts += [
            f'<text x="{left + hour * scale:.0f}" y="{top + height + 14}">{hour}h</text>'
            for hour in range(0, int(hours) + 1, max(1, int(hours) // 12))
        ]
    return "\n".join([*parts, "</svg>"]) + "\n"


def main() -> None:
    """Live through a day, print what happened, draw it."""
    from loading import fresh_database

    from datasense_assets.catalog.migrate import migrate
    from datasense_assets.running.owners import catalog_engine
    from datasense_assets.settings import get_settings, set_environment

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--orgs", type=int, default=60)
    parser.add_argument("--sources", type=int, default=300)
    parser.add_argument("--hours", type=float, default=24)
    parser.add_argument("--picture", type=Path)
    given = parser.parse_args()
    with fresh_database("day") as url:
        set_environment({"DATASENSE_DATABASE_URL": url, "DATASENSE_ALLOW_PRIVATE_ADDRESSES": "true"})
        migrate(catalog_engine())
        day = simulate(catalog_engine(), get_settings(), orgs=given.orgs, sources=given.sources, hours=given.hours)
        catalog_engine().dispose()
    late = day.lateness()
    percentiles = statistics.quantiles(late, n=100)
    slots, twice = sum(map(len, day.slots.values())), len(day.asked) - len(set(day.asked))
    unserved = len(day.unserved(timedelta(hours=2)))
    print(f"{slots} slots, {len(day.attempts)} runs; asked twice: {twice}; unserved after 2 hours: {unserved}")
    print(f"minutes late: p50 {percentiles[49]:.0f}, p95 {percentiles[94]:.0f}, most {late[-1]:.0f}")
    print(f"calls a minute: most {max(day.calls.values())}; messages: {len(day.told)}")
    if given.picture:
        given.picture.write_text(picture(day), encoding="utf-8")


if __name__ == "__main__":
    main()
