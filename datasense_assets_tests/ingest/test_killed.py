"""Every connector killed at ten points of a sync, at once with itself, out of disk, tables dropped: always exact."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from datasense_assets.catalog.apply import apply_manifest
from datasense_assets.catalog.manifest import parse_manifest
from datasense_assets_tests.ingest.conftest import World
from datasense_assets_tests.ingest.dying import POINTS, Order, run_apart, run_at_once, start_apart, sync
from datasense_assets_tests.stand_ins import google_book, google_sheets, surveycto
from examples import kobo_form, kobo_stand_in

Truth = list[tuple[str, int]]


@dataclass
class Plant:
    """A source that grows: `rows` are what it holds, `publish` makes its server say so."""

    manifest: dict[str, Any]
    environment: dict[str, str] = field(default_factory=dict)
    rows: Truth = field(default_factory=list)
    sees_deletes: bool = True
    kid: str = "kid"

    def change(self, step: int) -> None:
        """A row comes, one is edited and, where a sync can see it, one goes."""
        for _ in range(3):
            self.rows.append((f"r{len(self.rows):03d}-{step}", len(self.rows)))
        self.rows[-2] = (self.rows[-2][0], 1000 + step)
        if self.sees_deletes:
            del self.rows[0]
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

    def publish(self) -> None:
        there = {row["name"]: row["_id"] for row in self.form.submissions}
        for name, n in self.rows:
            if name not in there:
                self.form.add({"name": name, "n": str(n), "kids": [{"kids/kid": f"kid of {name}"}]})
            elif self.form.get(there[name])["n"] != str(n):
                self.form.edit(there[name], {"n": str(n)})
        self.form.delete(*(there[name] for name in there.keys() - dict(self.rows).keys()))


class SurveyCto(Plant):
    form: surveycto.Form
    server: surveycto.StandIn
    at: datetime = datetime(2026, 1, 10, tzinfo=UTC)

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
    plant.path = path
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
    plant.form, plant.server = form, server
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

    def expect_exact(self, after: str) -> None:
        if isinstance(self.plant, SurveyCto):
            self.plant.server.pass_time(400)
        (_, *repeats) = sync(self.order())
        condition = " WHERE _ds_deleted_at IS NULL" if self.plant.manifest["deletes"] == "mark" else ""
        held = self.world.rows(f"org_acme.source__rows{condition}", "name, n", "name")
        assert held == sorted(self.plant.rows), f"not exact after {after}"
        if repeats:
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
        # dozens of syncs within a minute are more than Google allows one account
        world.execute(
            "INSERT INTO datasense.quota_limits (name, calls) "
            "VALUES ('google_sheets.user', 100000), ('google_sheets.project', 100000)"
        )
        yield Field(world, plant, full)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("plot", CASES, indirect=True)
def test_killed_at_any_point_and_run_again_the_table_is_the_source(plot: Field) -> None:
    plot.plant.change(0)
    plot.expect_exact("the first load")
    for step, point in enumerate(POINTS, 1):
        plot.plant.change(step)
        plot.killed(point)
        plot.expect_exact(f"a death {point}")
    plot.world.execute("DROP TABLE org_acme.source__rows CASCADE")
    plot.expect_exact("its table was dropped")
    plot.world.execute("ALTER TABLE org_acme.source__rows DROP COLUMN n")
    plot.expect_exact("its column was dropped")


SOME = pytest.mark.parametrize("plot", [CASES[1], CASES[4]], indirect=True)


@SOME
def test_killed_while_the_merge_goes_on_in_the_server(plot: Field) -> None:
    plot.plant.change(0)
    plot.expect_exact("the first load")
    plot.plant.change(1)
    with psycopg.connect(plot.world.url) as lock, psycopg.connect(plot.world.url, autocommit=True) as watch:
        lock.execute("LOCK TABLE org_acme.source__rows IN SHARE MODE")
        child = start_apart(plot.order())
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'org_acme.source__rows'::regclass"
        while watch.execute(waiting).fetchone() == (0,):
            assert child.is_alive()
            child.join(0.05)
        os.kill(child.pid, signal.SIGKILL)
        child.join()
    plot.let_go()
    plot.expect_exact("a death in the merge")


@SOME
def test_two_at_once_with_no_lease_between_them(plot: Field) -> None:
    plot.plant.change(0)
    plot.expect_exact("the first load")
    plot.world.execute("UPDATE datasense.leases SET owner = 'another', expires_at = now() + interval '1 hour'")
    for step in range(1, 4):
        plot.plant.change(step)
        order = plot.order(ignores_lease=True)
        assert set(run_at_once(order, order)) <= {0, 1}
    plot.let_go()
    plot.expect_exact("two at once")


@SOME
def test_a_clock_that_is_ahead_keeps_nothing_from_the_others(plot: Field) -> None:
    plot.plant.change(0)
    assert run_apart(plot.order(clock_ahead=300)) == 0
    plot.plant.change(1)
    plot.expect_exact("a clock 300 s ahead")
    plot.plant.change(2)
    assert run_apart(plot.order(clock_ahead=300)) == 0
    plot.expect_exact("a clock 300 s ahead, again")


@SOME
def test_a_full_disk_changes_nothing_and_is_said(plot: Field, tmp_path: Path) -> None:
    plot.plant.change(0)
    plot.expect_exact("the first load")
    before = plot.world.rows("org_acme.source__rows")
    plot.plant.change(1)
    said = tmp_path / "said"
    assert run_apart(plot.order(file_bytes=512, last_words=said)) == 1
    assert said.read_text().startswith("NoRoom: There is no room in the scratch folder")
    assert plot.world.rows("org_acme.source__rows") == before
    plot.let_go()
    plot.expect_exact("a full disk")
