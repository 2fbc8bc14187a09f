"""A day of the platform in some minutes: the real sensors, catalog and queue, on a clock of their own.

    PYTHONPATH=. python benchmarks/simulated_day.py [--orgs 60] [--sources 300] [--hours 24] [--picture PATH]

Real: catalog and Dagster's storage in Postgres, whose `now()` is the day's; the due and alerts sensors; run keys, run
coordinator, Dagster's dequeuing with the limits of dagster.yaml; messages by mail to a mail server on loopback.
Played: how long a load takes, how many calls it makes and how it ends.
Each part is out of order for a time: a source's server, all workers, the daemon, Postgres and the mail server; for a
time two daemons are at work; one daemon is killed between asking and making the runs, and one worker while it loads.
"""

from __future__ import annotations

import argparse
import contextvars
import heapq
import random
import statistics
import tempfile
import threading
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest.mock import patch

import dagster as dg
from sqlalchemy import Engine, text
from sqlalchemy.exc import SQLAlchemyError

from benchmarks.day_picture import Plot, Shade, draw
from benchmarks.simulated_parts import Database, MailServer, Queue, real_queue
from datasense_assets.assets.graph import build_definitions
from datasense_assets.automation.due import RUN_KEY
from datasense_assets.automation.slots import next_due
from datasense_assets.catalog.apply import apply_manifest
from datasense_assets.catalog.manifest import parse_manifest
from datasense_assets.catalog.models import Schedule
from datasense_assets.catalog.snapshot import read_snapshot
from datasense_assets.catalog.state import FailureRecord, record_source_result
from datasense_assets.catalog.times import clock
from datasense_assets.running import tags as t
from datasense_assets.settings import Settings
from datasense_assets.warehouse.database import database_url
from datasense_assets.warehouse.errors import DatabaseUnavailable

MINUTE = timedelta(minutes=1)
DOWN = FailureRecord("unavailable", "The server does not answer.", "Nothing, unless it lasts.")
ZONES = ("Asia/Kolkata", "Africa/Nairobi", "America/New_York", "UTC")
SCHEDULES = ("hourly", "daily", "hourly", "15min", "daily", "daily")
# Seconds that a load takes; one of a server that keeps silent takes a minute.
SECONDS, SILENT_SECONDS = (5, 10, 20, 40, 60), 60


@dataclass(frozen=True)
class Outages:
    """Hours of the day from which to which each part is out of order.

    `killed_at`: when a worker is killed; `dropped_at`: when the daemon is, after it asked and before runs were made.
    """

    server: tuple[float, float] = (3, 5)
    workers: tuple[float, float] = (8, 8.5)
    daemon: tuple[float, float] = (12, 13.5)
    database: tuple[float, float] = (18, 18.25)
    mail: tuple[float, float] = (3.5, 6)
    two_daemons: tuple[float, float] = (20, 23)
    killed_at: float = 15
    dropped_at: float = 16

    def within(self, part: str, hours: float) -> bool:
        """Whether that part is out of order at that time of the day."""
        begin, end = getattr(self, part)
        return bool(begin <= hours < end)

    def shades(self) -> list[Shade]:
        """For the picture."""
        names = {
            "server": "the server that most sources share keeps silent",
            "mail": "the mail server is away",
            "workers": "no worker takes a run",
            "daemon": "no daemon",
            "database": "Postgres is away",
            "two_daemons": "two daemons at once",
        }
        shades = [Shade(*getattr(self, part), name) for part, name in names.items()]
        shades += [Shade(self.killed_at, self.killed_at, "a worker is killed while it loads")]
        return [*shades, Shade(self.dropped_at, self.dropped_at, "a daemon is killed before it makes its runs")]


@dataclass(frozen=True)
class Attempt:
    """One run: of which source, for which slot, when it began and ended, calls it made, whether it loaded."""

    source: int
    slot: datetime
    began: datetime
    ended: datetime
    calls: int
    ok: bool
    tags: Mapping[str, str]


@dataclass
class Day:
    """What happened: every run, every slot that there was, messages as the mail server got them.

    `asked`: run keys of the runs that were made. `dropped`: those that the killed daemon had asked for. `failed_ticks`:
    looks that failed because Postgres was away.
    """

    start: datetime
    end: datetime
    attempts: list[Attempt] = field(default_factory=list)
    slots: dict[int, list[datetime]] = field(default_factory=dict)
    calls: Counter[int] = field(default_factory=Counter)
    told: list[tuple[datetime, str]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    killed: list[str] = field(default_factory=list)
    failed_ticks: int = 0

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

    def most_at_once(self, tag: str) -> dict[str, int]:
        """How many runs of each value of a tag went on at once at most."""
        moments: dict[str, list[tuple[datetime, int]]] = defaultdict(list)
        for each in self.attempts:
            if tag in each.tags:
                moments[each.tags[tag]] += [(each.began, 1), (each.ended, -1)]
        found = {}
        for value, changes in moments.items():
            going = most = 0
            for _, change in sorted(changes):
                going += change
                most = max(most, going)
            found[value] = most
        return found


@dataclass(order=True)
class _Running:
    ends: datetime
    run_id: str
    source: int = field(compare=False)
    slot: datetime = field(compare=False)
    began: datetime = field(compare=False)
    ok: bool = field(compare=False)
    tags: Mapping[str, str] = field(compare=False)
    keys: frozenset[dg.AssetKey] = field(compare=False)


def _source(number: int, org: int) -> str:
    """A source's line in the manifest: two thirds share a server, the others have one of their organisation's own."""
    places = (
        'connector: kobo, config: {base_url: "https://kf.kobotoolbox.org"}, credentials: {token: {env: T}}',
        f'connector: surveycto, config: {{server: "https://org-{org}.surveycto.com"}}, '
        "credentials: {username: {env: T}, password: {env: T}}",
        f'connector: csv, config: {{url: "https://data-{org}.example.org/{number}.csv"}}',
    )
    place = places[(number + number // len(SCHEDULES)) % len(places)]
    schedule = SCHEDULES[number % len(SCHEDULES)]
    return f"  - {{slug: s-{number}, {place}, schedule: {schedule}, tables: [{{slug: t, resource: a{number}}}]}}"


def _fill(catalog: Engine, orgs: int, sources: int) -> None:
    for number in range(orgs):
        lines = [_source(n, number) for n in range(number, sources, orgs)]
        zone = ZONES[number % 4]
        head = f"organization: {{slug: org-{number}, name: Org, timezone: {zone}, contacts: [{{env: MAIL}}]}}"
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
    start: datetime | None = None,
) -> Day:
    """Let the platform live through so many hours from `start` on (None: from now on).

    `settings` lead to `catalog`, which holds nothing yet.
    """
    outages = outages or Outages()
    start = start or datetime.now(UTC).replace(second=0, microsecond=0) + MINUTE
    day, now = Day(start, start + timedelta(hours=hours)), [start]
    _fill(catalog, orgs, sources)
    with catalog.begin() as connection:
        # as if all of it had been applied then
        connection.execute(text("UPDATE datasense.source_status SET next_due_at = :start"), {"start": start})
        connection.execute(text("UPDATE datasense.source_tables SET created_at = :start"), {"start": start})
    with catalog.connect() as connection:
        snapshot = read_snapshot(connection)
    graph = build_definitions(snapshot, settings)
    limit = timedelta(minutes=settings.jitter_minutes)
    schedules: dict[int, tuple[Schedule, str]] = {}
    where: dict[str, int] = {}
    for org in snapshot.organizations:
        for source in org.sources:
            schedules[source.id] = (source.schedule, org.timezone)
            where[f"{org.slug}.{source.slug}".replace("-", "_")] = source.id
    for ident, (schedule, zone) in schedules.items():
        slot = next_due(schedule, zone, ident, start, limit)
        day.slots[ident] = []
        while slot is not None and slot < day.end:
            day.slots[ident].append(slot)
            slot = next_due(schedule, zone, ident, slot, limit)
    mail = MailServer(lambda subject: day.told.append((now[0], subject)))
    database = Database(database_url(settings))
    catalog.dispose()
    try:
        with (
            tempfile.TemporaryDirectory() as folder,
            real_queue(Path(folder)) as queue,
            patch.dict("os.environ", {"MAIL": mail.url}),
            clock(lambda: now[0]),
        ):
            world = _World(day, now, queue, graph, catalog, where, outages, database, mail)
            while now[0] < day.end:
                world.step(tick)
    finally:
        mail.close()
        database.close()
    return day


class _World:
    """Daemon, queue and workers, a step at a time."""

    def __init__(
        self,
        day: Day,
        now: list[datetime],
        queue: Queue,
        graph: dg.Definitions,
        catalog: Engine,
        where: Mapping[str, int],
        outages: Outages,
        database: Database,
        mail: MailServer,
    ) -> None:
        self.day, self.now, self.queue, self.graph = day, now, queue, graph
        self.catalog, self.where, self.outages = catalog, where, outages
        self.database, self.mail = database, mail
        self.running: list[_Running] = []
        self.random = random.Random(7)
        self.steps = 0
        self.was_away = False

    @property
    def hours(self) -> float:
        return (self.now[0] - self.day.start).total_seconds() / 3600

    def step(self, tick: timedelta) -> None:
        """The sensors look once, the queue also whenever a run has ended before the next look."""
        following = self.now[0] + tick
        away = self.outages.within("database", self.hours)
        self.database.set_open(not away)
        self.mail.set_running(not self.outages.within("mail", self.hours))
        self.database.set_time(self.now[0])
        if not self.outages.within("daemon", self.hours):
            try:
                self._daemon()
            except (SQLAlchemyError, DatabaseUnavailable):
                # the first look after it meets connections that were ended meanwhile
                if not away and not self.was_away:
                    raise
                self.day.failed_ticks += 1
            else:
                self.was_away = away
        self.was_away |= away
        while not self.was_away and self.running and self.running[0].ends < following:
            self.now[0] = max(self.now[0], self.running[0].ends)
            self.database.set_time(self.now[0])
            self._end(heapq.heappop(self.running))
            if not self.outages.within("daemon", self.hours):
                self._dequeue()
        self.now[0] = following
        self.steps += 1

    def _daemon(self) -> None:
        if self.outages.within("two_daemons", self.hours):
            self._two_daemons()
        else:
            self._ask()
        if self.steps % 5 == 0:
            self._evaluate("alerts")
        self._dequeue()

    def _two_daemons(self) -> None:
        """Both look at the same moment and make the runs that they were given."""
        together, failed = threading.Barrier(2), list[BaseException]()

        def daemon() -> None:
            together.wait(timeout=60)
            try:
                self._ask()
            except BaseException as error:  # noqa: BLE001 - raised in the day's own thread
                failed.append(error)

        threads = [threading.Thread(target=contextvars.copy_context().run, args=(daemon,)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failed:
            raise failed[0]

    def _ask(self) -> None:
        requests = self._evaluate("due_sources")
        if not self.day.dropped and self.hours >= self.outages.dropped_at:
            # killed before it made them: they are asked for again under the same keys
            self.day.dropped = [str(request.run_key) for request in requests]
            return
        for request in requests:
            if self.queue.submit(request, str(request.run_key)) is not None:
                self.day.asked.append(str(request.run_key))

    def _evaluate(self, name: str) -> list[dg.RunRequest]:
        with dg.build_sensor_context(instance=self.queue.instance, definitions=self.graph) as context:
            result = self.graph.resolve_sensor_def(name)(context)
        assert isinstance(result, dg.SensorResult)
        return list(result.run_requests or [])

    def _dequeue(self) -> None:
        if self.outages.within("workers", self.hours):
            return
        for run in self.queue.look():
            silent = run.tags[t.CONNECTOR] == "kobo" and self.outages.within("server", self.hours)
            seconds = SILENT_SECONDS if silent else self.random.choice(SECONDS)
            slot = datetime.fromisoformat(run.tags[RUN_KEY].partition("@")[2])
            made = _Running(
                ends=self.now[0] + timedelta(seconds=seconds),
                run_id=run.run_id,
                source=self.where[run.tags[t.SOURCE_KEY]],
                slot=slot,
                began=self.now[0],
                ok=not silent,
                tags=run.tags,
                keys=frozenset(run.asset_selection or ()),
            )
            heapq.heappush(self.running, made)

    def _end(self, run: _Running) -> None:
        if not self.day.killed and self.hours >= self.outages.killed_at:
            # its worker is killed: the daemon sees it and makes another run in its place
            self.day.killed.append(run.run_id)
            self.queue.end(run.run_id, success=False)
            self.queue.add({**run.tags, t.ROOT_RUN: run.run_id, t.RETRY_NUMBER: "1"}, run.keys)
            return
        calls = self.random.randint(2, 12) if run.ok else 1
        self.day.calls[int((run.began - self.day.start).total_seconds() // 60)] += calls
        self.day.attempts.append(Attempt(run.source, run.slot, run.began, self.now[0], calls, run.ok, run.tags))
        with self.catalog.begin() as connection:
            failure = None if run.ok else DOWN
            record_source_result(connection, run.source, run_id=run.run_id, started_at=run.began, failure=failure)
            if failure is None:
                connection.execute(
                    text(
                        "UPDATE datasense.table_status ts SET fresh_as_of = :at, loaded_at = :at "
                        "FROM datasense.source_tables t WHERE t.id = ts.table_id AND t.source_id = :id"
                    ),
                    {"at": run.began, "id": run.source},
                )
        self.queue.end(run.run_id, success=run.ok)


def picture(day: Day, outages: Outages | None = None) -> str:
    """Three plots over the hours of the day as SVG: lateness, calls a minute, messages sent."""
    hours = (day.end - day.start).total_seconds() / 3600
    told = Counter(int((at - day.start).total_seconds() // 900) for at, _ in day.told)
    calls = {
        n: max(day.calls[minute] for minute in range(n * 5, n * 5 + 5)) for n in {minute // 5 for minute in day.calls}
    }
    plots = (
        Plot("minutes from slot to run, the median and the most in 15 minutes", _lateness_by_quarters(day)),
        Plot("calls a minute, the most in 5 minutes", [(n / 12, float(c), 1.0) for n, c in sorted(calls.items())]),
        Plot("messages sent in 15 minutes", [(n / 4, float(count), 1.0) for n, count in sorted(told.items())]),
    )
    return draw(plots, hours, (outages or Outages()).shades())


def _lateness_by_quarters(day: Day) -> list[tuple[float, float, float]]:
    """(hour, minutes, opacity): of each quarter of an hour the most, faintly, and the median."""
    late: dict[int, list[float]] = defaultdict(list)
    for each in day.attempts:
        quarter = int((each.began - day.start).total_seconds() // 900)
        late[quarter].append((each.began - each.slot).total_seconds() / 60)
    points = []
    for quarter, minutes in sorted(late.items()):
        points += [(quarter / 4, max(minutes), 0.3), (quarter / 4, statistics.median(minutes), 1.0)]
    return points


def main() -> None:
    """Live through a day, print what happened, draw it."""
    from benchmarks.measuring import fresh_database, server_url
    from datasense_assets.catalog.migrate import migrate
    from datasense_assets.running.owners import catalog_engine
    from datasense_assets.settings import get_settings, set_environment

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--orgs", type=int, default=60)
    parser.add_argument("--sources", type=int, default=300)
    parser.add_argument("--hours", type=float, default=24)
    parser.add_argument("--picture", type=Path)
    given = parser.parse_args()
    with fresh_database(server_url()) as url:
        set_environment({"DATASENSE_DATABASE_URL": url, "DATASENSE_ALLOW_PRIVATE_ADDRESSES": "true"})
        migrate(catalog_engine())
        day = simulate(catalog_engine(), get_settings(), orgs=given.orgs, sources=given.sources, hours=given.hours)
        catalog_engine().dispose()
    late = day.lateness()
    percentiles = statistics.quantiles(late, n=100, method="inclusive")
    slots, twice = sum(map(len, day.slots.values())), len(day.asked) - len(set(day.asked))
    unserved = len(day.unserved(timedelta(hours=2)))
    print(f"{slots} slots, {len(day.attempts)} runs; asked twice: {twice}; unserved after 2 hours: {unserved}")
    print(f"minutes late: p50 {percentiles[49]:.1f}, p95 {percentiles[94]:.1f}, most {late[-1]:.0f}")
    print(f"calls a minute: most {max(day.calls.values())}; messages: {len(day.told)}")
    print(f"at once, of an organisation: {max(day.most_at_once(t.ORG).values())}; by lane: {day.most_at_once(t.LANE)}")
    print(f"looks that failed while Postgres was away: {day.failed_ticks}; dropped by a daemon: {len(day.dropped)}")
    if given.picture:
        given.picture.write_text(picture(day), encoding="utf-8")
    if twice or day.most_at_once(t.LANE)["scheduled"] > 5 or max(day.most_at_once(t.ORG).values()) > 3:
        raise SystemExit("a slot was asked for twice, or a limit was passed")


if __name__ == "__main__":
    main()
