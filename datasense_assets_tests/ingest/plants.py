"""Sources that grow, one of each kind, each on its stand-in server: what syncs that die are held against."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from datasense_assets.catalog.apply import apply_manifest
from datasense_assets.catalog.manifest import parse_manifest
from datasense_assets.ingest.report import TableReport
from datasense_assets_tests.ingest.conftest import World
from datasense_assets_tests.ingest.dying import Order, run_apart, sync
from datasense_assets_tests.stand_ins import google_book, google_sheets, odk_central, surveycto
from examples import kobo_form, kobo_stand_in

START = datetime(2026, 1, 10, tzinfo=UTC)
Truth = list[tuple[str, int]]


@dataclass
class Plant:
    """A source that grows: `rows` are what it holds, `publish` makes its server say so."""

    manifest: dict[str, Any]
    environment: dict[str, str] = field(default_factory=dict)
    rows: Truth = field(default_factory=list)
    sees_deletes: bool = True
    kid: str = ""
    unreadable: int = 0

    def change(self, step: int) -> None:
        """A row comes, one is edited and, where a sync can see it, one goes."""
        for _ in range(3):
            self.rows.append((f"r{len(self.rows):03d}-{step}", len(self.rows)))
        self.rows[-2] = (self.rows[-2][0], 1000 + step)
        if self.sees_deletes:
            del self.rows[0]
        self.publish()

    def edit(self, which: int, n: int) -> None:
        """A row that may be loaded already gets another number."""
        name, _ = self.rows[which % len(self.rows)]
        self.rows[which % len(self.rows)] = (name, n)
        self.publish()

    def publish(self) -> None:
        raise NotImplementedError


class Csv(Plant):
    path: Path

    def publish(self) -> None:
        lines = ["name,n", *(f"{name},{n}" for name, n in self.rows), "ragged,1,2,3"]
        self.path.write_text("\n".join(lines) + "\n")


class Sheet(Plant):
    book: google_book.Book
    tab: google_book.Tab

    def publish(self) -> None:
        self.book.touch()
        self.tab.rows[:] = [["name", "n"], *([name, n] for name, n in self.rows)]


class Kobo(Plant):
    form: kobo_form.Form
    at: datetime = START

    def publish(self) -> None:
        there = {row["name"]: row["_id"] for row in self.form.submissions}
        for name, n in self.rows:
            if name not in there:
                self.at += timedelta(minutes=1)
                answers = {"name": name, "n": str(n), "kids": [{"kids/kid": f"kid of {name}"}]}
                self.form.add(answers, at=self.at)
            elif self.form.get(there[name])["n"] != str(n):
                self.form.edit(there[name], {"n": str(n)})
        self.form.delete(*(there[name] for name in there.keys() - dict(self.rows).keys()))


class Odk(Plant):
    form: odk_central.Form
    at: datetime = START

    def publish(self) -> None:
        there = {each.answers["name"]: each for each in self.form.submissions}
        for name, n in self.rows:
            self.at += timedelta(minutes=1)
            if name not in there:
                added = self.form.add({"name": name, "n": n, "kids": [{"kid": f"kid of {name}"}]}, self.at)
                added.id = f"uuid:{name}"
            elif there[name].answers["n"] != n:
                there[name].answers["n"], there[name].updated = n, self.at
        self.form.submissions[:] = [s for s in self.form.submissions if s.answers["name"] in dict(self.rows)]


class Dataset(Plant):
    dataset: surveycto.Dataset

    def publish(self) -> None:
        self.dataset.rows[:] = [*([name, str(n)] for name, n in self.rows), ["", "has no key"]]


class SurveyCto(Plant):
    form: surveycto.Form
    server: surveycto.StandIn
    at: datetime = START

    def publish(self) -> None:
        self.server.pass_time(400)
        there = {each.answers["name"]: each for each in self.form.submissions}
        for name, n in self.rows:
            self.at += timedelta(minutes=1)
            if name not in there:
                added = self.form.add({"name": name, "n": str(n), "kids": [{"kid": f"kid of {name}"}]}, self.at)
                added.key = f"uuid:{name}"
            elif there[name].answers["n"] != str(n):
                there[name].answers["n"], there[name].at = str(n), self.at
        self.form.submissions[:] = [s for s in self.form.submissions if s.answers["name"] in dict(self.rows)]


def csv(stack: ExitStack, folder: Path, deletes: str) -> Plant:
    path = folder / "rows.csv"
    plant = Csv({"connector": "csv", "config": {"url": str(path)}, "deletes": deletes})
    plant.manifest["tables"] = [{"slug": "rows", "resource": "rows.csv", "key": ["name"]}]
    plant.path, plant.unreadable = path, 1
    return plant


def sheets(stack: ExitStack, folder: Path, deletes: str) -> Plant:
    account = google_sheets.Account("reader@project.iam.gserviceaccount.com")
    tab = google_book.Tab("Rows", [["name", "n"]])
    book = google_book.Book("b", "Book", [tab], {account.email})
    google = stack.enter_context(google_sheets.serve([book], [account]))
    plant = Sheet({"connector": "google_sheets", "deletes": deletes}, {"GOOGLE_KEY": account.key(google.url)})
    plant.manifest |= {
        "config": {"spreadsheet": "b", "api_base_url": google.url},
        "credentials": {"service_account": {"env": "GOOGLE_KEY"}},
        "tables": [{"slug": "rows", "resource": "Rows", "key": ["name"]}],
    }
    plant.book, plant.tab = book, tab
    return plant


def kobo(stack: ExitStack, folder: Path, deletes: str) -> Plant:
    survey = [
        {"type": "text", "name": "name", "label": ["Name"]},
        {"type": "integer", "name": "n", "label": ["N"]},
        {"type": "begin_repeat", "name": "kids", "label": ["Kids"]},
        {"type": "text", "name": "kid", "label": ["Kid"]},
        {"type": "end_repeat"},
    ]
    form = kobo_form.Form("aRows", "Rows", {"survey": survey, "choices": [], "translations": [None], "settings": {}})
    server = stack.enter_context(kobo_stand_in.serve([form], token="secret"))
    plant = Kobo({"connector": "kobo", "config": {"base_url": server.url}, "deletes": deletes}, {"KOBO": "secret"})
    plant.manifest |= {
        "credentials": {"token": {"env": "KOBO"}},
        "tables": [{"slug": "rows", "resource": "aRows"}],
    }
    plant.form, plant.kid = form, "kids_kid"
    return plant


def survey(stack: ExitStack, folder: Path, deletes: str) -> Plant:
    form = surveycto.Form("rows", ["name", "n", ("kids", ["kid"])])
    server = stack.enter_context(surveycto.serve([form]))
    environment = {"SCTO_USER": surveycto.USER, "SCTO_PASS": surveycto.PASSWORD}
    plant = SurveyCto({"connector": "surveycto", "config": {"server": server.url}, "deletes": deletes}, environment)
    plant.manifest |= {
        "credentials": {"username": {"env": "SCTO_USER"}, "password": {"env": "SCTO_PASS"}},
        "tables": [{"slug": "rows", "resource": "rows"}],
    }
    plant.form, plant.server, plant.kid = form, server, "kid"
    return plant


def odk(stack: ExitStack, folder: Path, deletes: str) -> Plant:
    fields = [("name", "string"), ("n", "int"), ("kids", "repeat"), ("kids/kid", "string")]
    form = odk_central.Form("rows", fields)
    server = stack.enter_context(odk_central.serve([form]))
    environment = {"ODK_USER": odk_central.USER, "ODK_PASSWORD": odk_central.PASSWORD}
    config = {"base_url": server.url, "project": odk_central.PROJECT}
    plant = Odk({"connector": "odk_central", "config": config, "deletes": deletes}, environment, kid="kid")
    plant.manifest |= {
        "credentials": {"username": {"env": "ODK_USER"}, "password": {"env": "ODK_PASSWORD"}},
        "tables": [{"slug": "rows", "resource": "rows"}],
    }
    plant.form = form
    return plant


def dataset(stack: ExitStack, folder: Path, deletes: str) -> Plant:
    rows = surveycto.Dataset("rows", ["name", "n"], [], unique="name")
    server = stack.enter_context(surveycto.serve([], [rows]))
    environment = {"SCTO_USER": surveycto.USER, "SCTO_PASS": surveycto.PASSWORD}
    config = {"server": server.url}
    plant = Dataset({"connector": "surveycto_datasets", "config": config, "deletes": deletes}, environment)
    plant.manifest |= {
        "credentials": {"username": {"env": "SCTO_USER"}, "password": {"env": "SCTO_PASS"}},
        "tables": [{"slug": "rows", "resource": "rows"}],
    }
    plant.dataset, plant.unreadable = rows, 1
    return plant


@dataclass
class Field:
    """One planted source in a catalog of its own."""

    world: World
    plant: Plant
    full: bool

    def order(self, **more: Any) -> Order:
        return Order(self.world.settings, self.plant.environment, "source", full=self.full, **more)

    def killed(self, point: str) -> None:
        assert run_apart(self.order(dies=point)) == -signal.SIGKILL, f"it did not come to the point: {point}"
        self.let_go()

    def let_go(self) -> None:
        self.world.execute("UPDATE datasense.leases SET expires_at = '-infinity'")

    def end_open_transactions(self) -> None:
        """What the server does after a while with those of a worker that is heard of no more."""
        self.world.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND state LIKE 'idle in transaction%'"
        )

    def sync(self, **more: Any) -> list[TableReport]:
        if isinstance(self.plant, SurveyCto):  # of which nothing is to be had at once after all of it was
            self.plant.server.pass_time(400)
            self.world.execute("UPDATE datasense.quota_state SET blocked_until = 'epoch'")
        return sync(replace(self.order(), **more))

    def expect_exact(self, after: str) -> None:
        reports = self.sync()
        for each in reports if reports[0].rows_read else ():
            assert each.rows_read == each.rows_loaded + each.rows_unchanged + each.rows_repeated + each.rows_rejected
        assert reports[0].rows_rejected == self.plant.unreadable
        self.expect_equal(after)

    def expect_equal(self, after: str) -> None:
        condition = " WHERE _ds_deleted_at IS NULL" if self.plant.manifest["deletes"] == "mark" else ""
        held = self.world.rows(f"org_acme.source__rows{condition}", "name, n", "name")
        assert held == sorted(self.plant.rows), f"not exact after {after}"
        if self.plant.kid:
            kids = self.world.rows("org_acme.source__rows__kids k JOIN org_acme.source__rows r "
                                   "ON r._ds_row_id = k._ds_parent_id", f"k.{self.plant.kid}", "1")  # fmt: skip
            assert [kid for (kid,) in kids] == [f"kid of {name}" for name, _ in sorted(self.plant.rows)]
            total = self.world.rows("org_acme.source__rows__kids", "count(*)", "1")
            assert total == [(len(kids),)]


CASES = [
    pytest.param((csv, "mark", False), id="csv-upsert"),
    pytest.param((csv, "ignore", False), id="csv-mirror"),
    pytest.param((sheets, "mark", False), id="sheets-upsert"),
    pytest.param((sheets, "ignore", False), id="sheets-mirror"),
    pytest.param((kobo, "remove", False), id="kobo-upsert"),
    pytest.param((kobo, "remove", True), id="kobo-replace"),
    pytest.param((survey, "ignore", False), id="surveycto-upsert"),
    pytest.param((survey, "remove", True), id="surveycto-replace"),
    pytest.param((odk, "remove", False), id="odk-upsert"),
    pytest.param((odk, "remove", True), id="odk-replace"),
    pytest.param((dataset, "mark", False), id="datasets-upsert"),
    pytest.param((dataset, "ignore", False), id="datasets-mirror"),
]


@pytest.fixture
def plot(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[Field]:
    make, deletes, full = request.param
    settings = world.settings.model_copy(update={"allow_private_addresses": True})
    world.settings = settings
    with ExitStack() as stack:
        plant = make(stack, tmp_path, deletes)
        plant.sees_deletes = make is not survey or full
        for name, value in plant.environment.items():
            monkeypatch.setenv(name, value)
        text = yaml.safe_dump(
            {
                "version": 1,
                "organization": {"slug": "acme", "name": "Acme"},
                "sources": [{"slug": "source", **plant.manifest}],
            }
        )
        with world.catalog.begin() as connection:
            apply_manifest(connection, parse_manifest(text, tmp_path / "manifest.yaml"))
        # dozens of syncs within a minute are more than Google, KoboToolbox and ODK Central allow one account
        world.execute(
            "INSERT INTO datasense.quota_limits (name, calls) VALUES ('google_sheets.user', 100000), "
            "('google_sheets.project', 100000), ('kobo.account', 100000), ('odk_central.account', 100000)"
        )
        yield Field(world, plant, full)
