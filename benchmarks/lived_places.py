"""Where the sources of a lived day are read from: stand-ins whose rows become more, each row known by its mark."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from datasense_assets_tests.stand_ins.google_book import Book, Tab
from datasense_assets_tests.stand_ins.google_sheets import Account, Google, Quota
from datasense_assets_tests.stand_ins.google_sheets import serve as serve_google
from examples.kobo_faults import unavailable
from examples.kobo_form import Form
from examples.kobo_stand_in import StandIn
from examples.kobo_stand_in import serve as serve_kobo

ZONES = ("Asia/Kolkata", "Africa/Nairobi", "America/New_York", "UTC")
# Of five sources of an organisation; every organisation has an account of its own at KoboToolbox.
KINDS = ("kobo", "csv", "google_sheets", "kobo", "csv")
# Every so many minutes, of twenty-five sources: as in the real world most are read once or twice a day.
WAYS = (1, 2, *[4] * 6, *[8] * 17)
# Google's account, and so its quota, is shared by the spreadsheets of ten organisations.
ORGS_AN_ACCOUNT = 10


@dataclass
class Place:
    """One source and what it holds: when (seconds of the epoch) which mark was added."""

    number: int
    org: str
    slug: str
    kind: str
    every: int
    form: Form | None = None
    file: Path | None = None
    book: Book | None = None
    added: list[tuple[float, int]] = field(default_factory=list)

    @property
    def name(self) -> str:
        """`org/source`."""
        return f"{self.org}/{self.slug}"

    @property
    def table(self) -> str:
        """In the warehouse."""
        return f"org_{self.org}.{self.slug}__rows"

    def add(self, mark: int) -> None:
        """One more row; it counts from the moment at which whoever asks is given it."""
        if self.form is not None:
            self.form.add({"mark": str(mark), "village": f"v{mark % 97}"})
        elif self.file is not None:
            text = self.file.read_text() if self.file.exists() else "mark,village\n"
            new = self.file.with_suffix(".new")
            new.write_text(f"{text}{mark},v{mark % 97}\n")
            new.replace(self.file)
        elif self.book is not None:
            self.book.tabs[0].rows.append([mark, f"v{mark % 97}"])
            self.book.touch()
        self.added.append((time.time(), mark))


class Places:
    """All of them, with the servers that they are on."""

    def __init__(self, count: int, orgs: int, folder: Path, stack: ExitStack) -> None:
        """Serve `count` sources of `orgs` organisations."""
        self.random = random.Random(11)
        self.folder = folder
        self.places = [self._place(number, orgs) for number in range(count)]
        self._marks = iter(range(1, 1 << 30))
        for place in self.places:
            for _ in range(5):
                place.add(next(self._marks))
        tokens: dict[str, list[Form]] = {}
        for place in self.places:
            if place.form is not None:
                tokens.setdefault(f"token-{place.org}", []).append(place.form)
        self.tokens = tokens
        # each on an address of its own, since a limit is by server
        self.kobo: StandIn = stack.enter_context(serve_kobo(more_accounts=tokens, host="127.0.0.2"))
        self.files: StandIn = stack.enter_context(serve_kobo(files=folder, host="0.0.0.0"))
        self.accounts = [Account(f"reader-{n}@project.iam.gserviceaccount.com") for n in range(1 + orgs // 10)]
        books = [place.book for place in self.places if place.book is not None]
        for book in books:
            book.shared.update(account.email for account in self.accounts)
        self.google: Google = stack.enter_context(serve_google(books, self.accounts, quota=Quota()))

    def _place(self, number: int, orgs: int) -> Place:
        org = number % orgs
        position = number // orgs
        place = Place(number, f"o{org}", f"s{number}", KINDS[position % len(KINDS)], WAYS[(org + 5 * position) % 25])
        if place.kind == "kobo":
            survey = [{"type": "integer", "name": "mark"}, {"type": "text", "name": "village"}]
            place.form = Form(f"aForm{number}", f"Form {number}", {"survey": survey})
        elif place.kind == "csv":
            place.file = self.folder / f"{number}.csv"
        else:
            place.book = Book(f"book{number}", f"Book {number}", [Tab("Rows", [["mark", "village"]])])
        return place

    def environment(self) -> Mapping[str, str]:
        """The credentials, as variables."""
        found = {f"KOBO_{org}": f"token-{org}" for org in {place.org for place in self.places}}
        return {**found, **{f"GOOGLE_{n}": each.key(self.google.url) for n, each in enumerate(self.accounts)}}

    def manifests(self, recipes: int) -> Iterator[str]:
        """Of each organisation; the first ones have a recipe."""
        by_org: dict[str, list[Place]] = {}
        for place in self.places:
            by_org.setdefault(place.org, []).append(place)
        for number, (org, places) in enumerate(by_org.items()):
            organization = {
                "slug": org,
                "name": org,
                "timezone": ZONES[number % len(ZONES)],
                "contacts": [{"env": "DAY_MAIL"}],
            }
            document: dict[str, Any] = {"version": 1, "organization": organization}
            document["sources"] = [self._source(place, number) for place in places]
            if number < recipes:
                first = next(place for place in places if place.kind == "kobo")
                counted = [{"fn": "count", "into": "visits"}]
                steps = [{"op": "aggregate", "group_by": ["village"], "aggregations": counted}]
                inputs = {"rows": f"source:{first.slug}.rows"}
                document["recipes"] = [{"version": 1, "name": "by_village", "inputs": inputs, "steps": steps}]
            yield yaml.safe_dump(document)

    def _source(self, place: Place, org: int) -> dict[str, Any]:
        first = place.number % place.every
        schedule = "* * * * *" if place.every == 1 else f"{first}-59/{place.every} * * * *"
        made: dict[str, Any] = {"slug": place.slug, "connector": place.kind, "schedule": {"cron": schedule}}
        if place.form is not None:
            made["config"] = {"base_url": self.kobo.url}
            made["credentials"] = {"token": {"env": f"KOBO_{place.org}"}}
            made["tables"] = [{"slug": "rows", "resource": place.form.uid}]
        elif place.file is not None:
            address = self.files.url.replace("0.0.0.0", f"127.0.1.{1 + org}")
            made["config"] = {"url": f"{address}/files/{place.file.name}", "key": ["mark"]}
            made["tables"] = [{"slug": "rows", "resource": place.file.name}]
        elif place.book is not None:
            made["config"] = {"spreadsheet": place.book.id, "api_base_url": self.google.url}
            made["credentials"] = {"service_account": {"env": f"GOOGLE_{org // ORGS_AN_ACCOUNT}"}}
            made["tables"] = [{"slug": "rows", "resource": "Rows"}]
        return made

    @contextmanager
    def growing(self, each_second: float) -> Iterator[None]:
        """Rows come in, so many a second, now here and now there."""
        over = threading.Event()

        def grow() -> None:
            while not over.wait(1 / each_second):
                self.random.choice(self.places).add(next(self._marks))

        thread = threading.Thread(target=grow, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def calls(self) -> int:
        """Requests that all servers together were sent until now."""
        return len(self.kobo.requests) + len(self.files.requests) + len(self.google.seen)

    def silence_kobo(self) -> None:
        """KoboToolbox answers nothing but 503."""
        self.kobo.fail(unavailable(times=1 << 30))

    def refuse(self, org: str) -> None:
        """The organisation's token at KoboToolbox is no longer good."""
        self.kobo.site.accounts.pop(f"token-{org}", None)

    def accept(self, org: str) -> None:
        """It is good again."""
        self.kobo.site.accounts[f"token-{org}"] = self.tokens[f"token-{org}"]

    def most_reads_of_google(self) -> tuple[int, int]:
        """The most reads in any 60 s of the project, and refusals for its quota."""
        moments = sorted(seen.at for seen in self.google.reads())
        most = max((sum(at <= other < at + 60 for other in moments) for at in moments), default=0)
        return most, sum(seen.status == 429 for seen in self.google.seen)


def differences(place: Place, marks: Sequence[int], began: float) -> str | None:
    """What is wrong with a table whose last good load began at that moment; None: it is exact.

    Every row that was there then is in it, once; one that came later may be.
    """
    there = {mark for at, mark in place.added if at < began}
    ever = {mark for _, mark in place.added}
    problems = []
    if len(marks) != len(set(marks)):
        problems.append(f"{len(marks) - len(set(marks))} rows twice")
    if lost := there.difference(marks):
        problems.append(f"{len(lost)} rows missing")
    if invented := set(marks) - ever:
        problems.append(f"{len(invented)} rows that never were")
    return f"{place.name}: {', '.join(problems)}" if problems else None
