"""A day of 300 sources of 60 organisations in eight minutes, nothing of it played: an hour is twenty seconds.

    PYTHONPATH=. python benchmarks/lived_day.py [--minutes 8] [--sources 300] [--orgs 60] [--picture PATH] [--json PATH]

`datasense up` with a PostgreSQL and a Redis of its own: daemon, queue, code server, webserver and warm workers. Sources
are read from stand-ins of KoboToolbox and Google Sheets and from CSV files over HTTP, whose rows become more all day
long; schedules are of one, two, four and eight minutes. Each part is out of order for a time. At the end it is asserted
that every slot was run once or coalesced and none twice, that every table is exact, that no quota was passed nor, while
one daemon ran, a limit, and that people were told once of what broke. Late is a sync that starts so long after its
slot.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import statistics
import subprocess
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import psycopg
from psycopg import sql
from sustained import launch
from whole_platform import BIN, ROOT, Running, platform, require_redis, wait_until

from benchmarks.day_picture import Plot, Shade, draw
from benchmarks.lived_places import Places, differences
from benchmarks.simulated_day import Attempt, Day
from benchmarks.simulated_parts import MailServer
from datasense_assets.automation.slots import next_due
from datasense_assets.catalog.models import Cron
from datasense_assets.running import tags as t

SLOTS = {"scheduled": 10, "interactive": 2, "transform": 2, "backfill": 1}
LIMITS = {
    ("total", ""): 15,
    ("lane", "scheduled"): 10,
    ("connector", "kobo"): 6,
    ("connector", "csv"): 6,
    ("connector", "google_sheets"): 6,
    ("host", ""): 6,
}
RECIPES = 12
REFUSED = "o7"
# Seconds of the clock between two clicks, and between two looks at what goes on.
CLICK_EVERY, LOOK_EVERY = 20.0, 1.0


@dataclass(frozen=True)
class Outage:
    """From which hour of the day to which, what is done at its begin and its end."""

    begin: float
    end: float
    name: str
    stop: Callable[[], None]
    start: Callable[[], None] = lambda: None


class Breaking:
    """What puts each part out of order, and in order again."""

    def __init__(self, running: Running, places: Places, mail: MailServer) -> None:
        self.running, self.places, self.mail = running, places, mail
        self.second: subprocess.Popen[bytes] | None = None

    def outages(self) -> list[Outage]:
        """Of one day."""
        return [
            Outage(1.5, 9, f"the token of {REFUSED} is refused by KoboToolbox", self.refuse, self.accept),
            Outage(
                3, 6, "KoboToolbox answers nothing but 503", self.places.silence_kobo, self.places.kobo.clear_faults
            ),
            Outage(1.5, 5, "the mail server is away", self.mail_away, self.mail_back),
            Outage(7.5, 7.5, "all workers are killed", lambda: self.kill("workers")),
            Outage(9, 9, "one process of a worker is killed while it loads", self.kill_child),
            Outage(10, 13, "the daemon hangs, then it is killed", self.stop_daemon, lambda: self.kill("daemon")),
            Outage(15, 16, "Postgres is away", self.stop_database, self.start_database),
            Outage(17, 17, "Redis is killed, its data lost", lambda: self.kill("redis")),
            Outage(18, 18, "the code server is killed", lambda: self.kill("code server")),
            Outage(19, 22, "two daemons at once", self.second_daemon, self.end_second_daemon),
        ]

    def part(self, name: str) -> list[psutil.Process]:
        """Processes of one part of the platform."""
        assert self.running.up is not None
        marks = {
            "code server": "code-server",
            "workers": "cli.main worker",
            "redis": "redis",
            "daemon": "cli.main daemon",
        }
        return [each for each in self.running.up.children() if marks[name] in " ".join(each.cmdline())]

    def kill(self, name: str) -> None:
        """With SIGKILL, as the kernel does."""
        for each in self.part(name):
            each.kill()

    def kill_child(self) -> None:
        """The one that works most."""
        children = [child for each in self.part("workers") for child in each.children()]
        for busy in sorted(children, key=lambda child: child.cpu_percent(0.05))[-1:]:
            busy.kill()

    def stop_daemon(self) -> None:
        """It says and does nothing more."""
        for each in self.part("daemon"):
            each.suspend()

    def refuse(self) -> None:
        """One organisation's token is revoked."""
        self.places.refuse(REFUSED)

    def accept(self) -> None:
        """And somebody says so: a source that was refused three times is tried only now and then."""
        self.places.accept(REFUSED)
        self.running.datasense("resume", REFUSED)
        for place in self.places.places:
            if place.org == REFUSED and place.kind == "kobo":
                self.running.datasense("resume", place.name)

    def mail_away(self) -> None:
        """Nobody takes mails."""
        self.mail.set_running(False)

    def mail_back(self) -> None:
        """They are taken again."""
        self.mail.set_running(True)

    def stop_database(self) -> None:
        """With all that was not committed."""
        self.running.close()
        self.running.datasense("db", "stop")

    def start_database(self) -> None:
        """And whoever was connected connects anew."""
        self.running.datasense("db", "start")

    def second_daemon(self) -> None:
        """Beside the first one, over the same storage."""
        folder = self.running.home / "up"
        (daemon,) = self.part("daemon")
        environment = {**self.running.environment, **daemon.environ()}
        words = [str(BIN / "dagster-daemon"), "run", "-w", str(folder / "workspace.yaml")]
        log = (self.running.home / "second-daemon.log").open("w")
        self.second = subprocess.Popen(words, cwd=ROOT, env=environment, stdout=log, stderr=log)

    def end_second_daemon(self) -> None:
        """Where there is one."""
        if self.second is not None:
            self.second.kill()
            self.second.wait()


@contextmanager
def started(count: int, orgs: int, folder: Path) -> Iterator[tuple[Running, Places, MailServer, list[Any]]]:
    """The platform with everything applied, and nothing due before its first slot."""
    told: list[tuple[datetime, str]] = []
    with ExitStack() as stack:
        places = Places(count, orgs, folder, stack)
        mail = MailServer(lambda subject: told.append((datetime.now(UTC), subject)))
        mail.set_running(True)
        stack.callback(mail.close)
        variables = {**places.environment(), "DAY_MAIL": mail.url, "DATASENSE_OPERATOR_CONTACTS": mail.url,
                     "DATASENSE_ALERTS_INTERVAL_SECONDS": "5"}  # fmt: skip
        running = stack.enter_context(platform(**variables))
        files = []
        for number, document in enumerate(places.manifests(RECIPES)):
            files.append(folder / f"o{number}.yaml")
            files[-1].write_text(document)
        running.datasense("apply", "--no-discover", *map(str, files))
        running.sql("UPDATE datasense.source_status SET next_due_at = NULL, replan = true")
        # as `datasense limits set` leaves it, before there is a queue that would have to follow
        for (scope, name), number in LIMITS.items():
            running.sql(
                "INSERT INTO datasense.run_limits (scope, name, at_once) VALUES (%s, %s, %s)", scope, name, number
            )
        # with its address given, whoever finds the database away does not start it himself
        alone = dict(running.environment)
        running.environment = {**alone, "DATASENSE_DATABASE_URL": running.url}
        try:
            running.serve(lanes=SLOTS)
        finally:
            running.environment = alone
        yield running, places, mail, told


def live(running: Running, places: Places, outages: list[Outage], start: float, minutes: float) -> dict[str, Any]:
    """Let the day go by; what was seen of it each second."""
    hour = minutes * 60 / 24
    todo = [(start + each.begin * hour, each.stop, each.name) for each in outages]
    todo += [(start + each.end * hour, each.start, f"over: {each.name}") for each in outages]
    todo.sort(key=lambda each: each[0])
    calls: list[tuple[float, int]] = []
    clicks: list[tuple[float, str]] = []
    forms = [place for place in places.places if place.form is not None and place.org != REFUSED]
    clicked = start
    with places.growing(4):
        while time.time() < start + minutes * 60:
            calls.append((time.time(), places.calls()))
            while todo and todo[0][0] <= time.time():
                _, act, name = todo.pop(0)
                print(f"{(time.time() - start) / hour:5.1f} h  {name}", flush=True)
                act()
            if time.time() - clicked > CLICK_EVERY:
                clicked = time.time()
                place = random.choice(forms)
                run_id = launch(running, [place.org, place.slug, "rows"], "interactive")
                clicks += [(clicked, run_id)] if run_id else []
            time.sleep(LOOK_EVERY)
    return {"calls": calls, "clicks": clicks}


def wind_down(running: Running, end: datetime) -> None:
    """Nothing becomes due any more; wait until all that was asked for is over, and the recipes have followed."""
    # without the trigger that has due times reckoned anew: what is due already is to be served
    with psycopg.connect(running.url) as connection:
        connection.execute("SET LOCAL session_replication_role = replica")
        connection.execute("UPDATE datasense.sources SET schedule = '\"manual\"'")
        connection.execute(
            "UPDATE datasense.source_status SET next_due_at = NULL WHERE next_due_at >= %s AND failures_in_a_row = 0",
            (end,),
        )
    going = ["QUEUED", "NOT_STARTED", "STARTING", "STARTED", "CANCELING"]

    def over() -> bool:
        runs = running.sql("SELECT count(*) FROM runs WHERE status = ANY (%s)", going)[0][0]
        due = running.sql("SELECT count(*) FROM datasense.source_status WHERE next_due_at <= now() + interval '1 hour'")
        # but for those whose source had no slot in so short a day
        stale = running.sql(
            "SELECT count(*) FROM datasense.recipe_status rs WHERE rs.outdated_since IS NOT NULL AND NOT EXISTS "
            "(SELECT FROM datasense.recipe_inputs i JOIN datasense.recipes r ON r.id = i.recipe_id "
            "JOIN datasense.sources s ON s.org_id = r.org_id AND s.slug = i.source_ident "
            "JOIN datasense.source_status st ON st.source_id = s.id "
            "WHERE i.recipe_id = rs.recipe_id AND st.last_success_at IS NULL)"
        )
        mails = running.sql(
            "SELECT count(*) FROM datasense.alert_messages WHERE sent_at IS NULL AND dropped_because IS NULL"
        )
        return runs == 0 and not due[0][0] and not stale[0][0] and not mails[0][0]

    quiet = 0

    def stays_over() -> bool:
        """A run that was lost is made again some seconds after it failed."""
        nonlocal quiet
        quiet = quiet + 1 if over() else 0
        return quiet > 15

    wait_until("all is over", stays_over, seconds=420, every=1.0)


def day_of(running: Running, places: Places, start: float, minutes: float) -> Day:
    """What happened, from Dagster's storage: the runs of slots of this day."""
    begin = datetime.fromtimestamp(start, UTC)
    day = Day(begin, begin + timedelta(minutes=minutes))
    names = {f"{place.org}.{place.slug}": place.number for place in places.places}
    for number, timezone, schedule in running.sql(
        "SELECT substr(s.slug, 2)::int, o.timezone, s.schedule FROM datasense.sources s "
        "JOIN datasense.organizations o ON o.id = s.org_id"
    ):
        assert schedule == "manual", "the day is over"
        place = places.places[number]
        first = place.number % place.every
        cron = Cron(cron="* * * * *" if place.every == 1 else f"{first}-59/{place.every} * * * *")
        slot = next_due(cron, timezone, number, begin - timedelta(seconds=1), timedelta(0))
        day.slots[number] = []
        while slot is not None and slot < day.end:
            day.slots[number].append(slot)
            slot = next_due(cron, timezone, number, slot, timedelta(0))
    for run_id, status, began, ended, tags in running.sql(
        "SELECT r.run_id, r.status, r.start_time, r.end_time, json_object_agg(k.key, k.value) FROM runs r "
        "JOIN run_tags k ON k.run_id = r.run_id GROUP BY 1, 2, 3, 4"
    ):
        if t.SOURCE_KEY not in tags:
            continue
        key = tags.get("dagster/run_key", "")
        slot = datetime.fromisoformat(key.partition("@")[2]) if "@" in key else None
        if slot is not None and slot < begin:
            continue
        if slot is not None and t.ROOT_RUN not in tags:
            day.asked.append(key)
        if began is None:
            continue
        moments = [datetime.fromtimestamp(each, UTC) for each in (began, ended or time.time())]
        day.attempts.append(
            Attempt(
                names[tags[t.SOURCE_KEY]], slot or moments[0], *moments, 0, status == "SUCCESS", {**tags, "id": run_id}
            )
        )
    return day


def scheduled(day: Day) -> Day:
    """The same day with the runs of slots alone."""
    kept = [each for each in day.attempts if each.tags.get(t.LANE) == t.Lane.SCHEDULED.value]
    return Day(day.start, day.end, kept, day.slots, day.calls, day.told, day.asked)


def unserved(day: Day) -> list[tuple[int, datetime]]:
    """Slots, by source, after which no load of their source began."""
    last: dict[int, datetime] = {}
    for each in day.attempts:
        last[each.source] = max(each.began, last.get(each.source, each.began))
    return [
        (number, slot)
        for number, slots in day.slots.items()
        for slot in slots
        if number not in last or last[number] < slot
    ]


def without(day: Day, away: Outage) -> Day:
    """The same day without the runs that began during that."""
    hour = (day.end - day.start) / 24
    begin, end = day.start + away.begin * hour, day.start + away.end * hour
    kept = [each for each in day.attempts if not begin <= each.began <= end]
    return Day(day.start, day.end, kept, day.slots, day.calls, day.told, day.asked)


def beyond(day: Day, most: int) -> list[str]:
    """The runs that went on when there were more than that at once for the first time."""
    for moment in sorted(each.began for each in day.attempts):
        going = [each for each in day.attempts if each.began <= moment < each.ended]
        if len(going) > most:
            return [f"{each.tags['id'][:8]} {each.began:%T.%f} to {each.ended:%T.%f} {each.ok}" for each in going]
    return []


def inexact(running: Running, places: Places, day: Day) -> list[str]:
    """Tables that are not what their source held when their last good load began."""
    last: dict[int, float] = defaultdict(float)
    for each in day.attempts:
        if each.ok:
            last[each.source] = max(last[each.source], each.began.timestamp())
    found = []
    with psycopg.connect(running.url, autocommit=True) as connection:
        for place in places.places:
            if not last[place.number]:
                found += [f"{place.name}: never loaded"] if day.slots[place.number] else []
                continue
            schema, _, table = place.table.partition(".")
            query = sql.SQL("SELECT mark::bigint FROM {}").format(sql.Identifier(schema, table))
            marks = [row[0] for row in connection.execute(query)]
            # a row of the second in which the load began may be of either side
            if wrong := differences(place, marks, last[place.number] - 1):
                found.append(wrong)
    return found


def judge(running: Running, places: Places, day: Day, seen: dict[str, Any], outages: list[Outage]) -> dict[str, Any]:
    """Measure and assert."""
    by_slot = scheduled(day)
    late = [minutes * 60 for minutes in by_slot.lateness()]
    median, p95 = (late[round(part * (len(late) - 1))] for part in (0.5, 0.95))
    hour = (day.end - day.start).total_seconds() / 24
    twice = [key for key, count in Counter(day.asked).items() if count > 1]
    ran = sorted((each.source, each.began, each.ended) for each in day.attempts)
    beside = [a for a, b in pairwise(ran) if a[0] == b[0] and b[1] < a[2] - timedelta(seconds=1)]
    done = Counter((each.source, each.slot) for each in by_slot.attempts if each.ok)
    reads, refused = places.most_reads_of_google()
    starts = dict(running.sql("SELECT run_id, start_time FROM runs"))
    clicks = sorted(starts[run_id] - at for at, run_id in seen["clicks"] if starts.get(run_id))
    messages = running.sql(
        "SELECT a.id, m.audience, m.event, a.fingerprint, m.dropped_because, m.sent_at, m.attempts "
        "FROM datasense.alert_messages m JOIN datasense.alerts a ON a.id = m.alert_id"
    )
    (away,) = [(o.begin * hour, o.end * hour) for o in outages if o.name.startswith("the mail server")]
    mails = [(at - day.start).total_seconds() for at, _ in day.told]
    # each daemon counts what goes on and hands out by itself, so two pass every limit: Dagster wants one
    (two,) = [each for each in outages if each.name == "two daemons at once"]
    by_one = without(by_slot, two)
    result = {
        "slots": sum(map(len, day.slots.values())),
        "runs": len(by_slot.attempts),
        "asked": len(day.asked),
        "runs that failed": sum(not each.ok for each in by_slot.attempts),
        "runs in place of lost ones": sum(t.ROOT_RUN in each.tags for each in by_slot.attempts),
        "asked for twice": len(twice),
        "slots loaded twice": sum(count > 1 for count in done.values()),
        "beside itself": len(beside),
        "seconds late": {"p50": median, "p95": p95, "most": late[-1]},
        # a person's click that loads what is due serves its slot, and the sensor asks for none
        "slots served by a click": len(unserved(by_slot)) - len(unserved(day)),
        "unserved": [f"{places.places[number].name} at {slot:%H:%M:%S}" for number, slot in unserved(day)],
        "calls a minute, at most": max(day.calls.values()),
        "reads of Google's project in 60 s, at most": reads,
        "refused by Google's quota": refused,
        "at once": by_one.most_at_once(t.LANE),
        "at once, with two daemons": by_slot.most_at_once(t.LANE),
        "more scheduled ones at once than allowed": beyond(by_one, SLOTS["scheduled"]),
        "of one organisation at once": max(by_one.most_at_once(t.ORG).values()),
        "of one server at once": max(by_one.most_at_once(t.HOST).values()),
        "seconds from click to start": {"n": len(clicks), "p50": statistics.median(clicks), "most": clicks[-1]},
        "messages": len(messages),
        "mails": len(mails),
        "messages tried again": sum(each[6] > 1 for each in messages),
        "inexact tables": inexact(running, places, day),
        "statuses": dict(running.sql("SELECT status, count(*) FROM runs GROUP BY 1")),
    }
    print(json.dumps(result, indent=2, default=str), flush=True)
    holds = {
        "no slot is asked for twice": not twice,
        "no slot is loaded twice": not result["slots loaded twice"],
        "every slot is run or coalesced": not result["unserved"],
        "no source runs beside itself": not beside,
        "every table is exact": not result["inexact tables"],
        "Google refuses nothing": not refused and reads <= 300,
        "the limits hold": result["of one organisation at once"] <= 3
        and result["of one server at once"] <= LIMITS["host", ""]
        and result["at once"]["scheduled"] <= SLOTS["scheduled"],
        "no mail goes out while the mail server is away": not any(away[0] + 1 <= at < away[1] for at in mails),
        "each thing is told once": max(Counter(each[:4] for each in messages).values()) == 1,
        "what was to be told is told": all(each[4] or each[5] for each in messages),
        "a failure and its end are told": {each[2] for each in messages} >= {"opened", "closed"},
    }
    for what, whether in holds.items():
        print(f"{'holds' if whether else 'DOES NOT HOLD'}: {what}", flush=True)
    result["holds"] = holds
    return result


def picture(day: Day, outages: list[Outage]) -> str:
    """Lateness, calls a minute and mails over the hours of the day."""
    hour = (day.end - day.start).total_seconds() / 24
    late: dict[int, list[float]] = defaultdict(list)
    for each in scheduled(day).attempts:
        late[int((each.began - day.start).total_seconds() / hour * 2)].append((each.began - each.slot).total_seconds())
    bars = [(half / 2, max(seconds), 0.3) for half, seconds in sorted(late.items())]
    bars += [(half / 2, statistics.median(seconds), 1.0) for half, seconds in sorted(late.items())]
    told = Counter(int((at - day.start).total_seconds() / hour * 4) for at, _ in day.told)
    plots = (
        Plot("seconds from slot to run, the median and the most in half an hour", bars, " s"),
        Plot(
            "calls a minute, over ten seconds", [(s * 10 / hour, float(n), 1.0) for s, n in sorted(day.calls.items())]
        ),
        Plot("mails in a quarter of an hour", [(n / 4, float(count), 1.0) for n, count in sorted(told.items())]),
    )
    return draw(plots, 24, [Shade(each.begin, each.end, each.name) for each in outages])


def main() -> None:
    """Live through the day, say what came of it, draw it; exit code 1 where something does not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=8)
    parser.add_argument("--sources", type=int, default=300)
    parser.add_argument("--orgs", type=int, default=60)
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--keep", type=Path, help="folder for the logs of all parts")
    given = parser.parse_args()
    require_redis()
    with (
        tempfile.TemporaryDirectory(prefix="ds-day-") as folder,
        started(given.sources, given.orgs, Path(folder)) as (running, places, mail, told),
    ):
        breaking = Breaking(running, places, mail)
        outages = breaking.outages()
        start = (time.time() // 60 + 1) * 60
        wait_until("the day begins", lambda: time.time() >= start)
        try:
            seen = live(running, places, outages, start, given.minutes)
            wind_down(running, datetime.fromtimestamp(start + given.minutes * 60, UTC))
        finally:
            breaking.end_second_daemon()
            if given.keep:
                keep_logs(running, given.keep)
        day = day_of(running, places, start, given.minutes)
        day.told = [each for each in told if each[0] >= day.start]
        for (before, first), (at, then) in pairwise(seen["calls"][::10]):
            day.calls[int((at - start) // 10)] += round((then - first) * 60 / max(at - before, 1))
        result = judge(running, places, day, seen, outages)
        if given.json:
            given.json.write_text(json.dumps(result, indent=2, default=str), encoding="utf-8")
        if given.picture:
            given.picture.write_text(picture(day, outages), encoding="utf-8")
    raise SystemExit(0 if all(result["holds"].values()) else 1)


def keep_logs(running: Running, folder: Path) -> None:
    """What all parts have said."""
    folder.mkdir(parents=True, exist_ok=True)
    for log in [*running.home.glob("*.log"), *(running.home / "up" / "logs").glob("*.log")]:
        with suppress(OSError):
            shutil.copy(log, folder / log.name)


if __name__ == "__main__":
    main()
