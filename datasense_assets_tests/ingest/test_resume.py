"""A long read that dies in the middle is gone on with by the next run, and the load is exact all the same."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from datasense_assets.catalog.models import Organization, Source
from datasense_assets.connectors.base import Page, ReadRequest
from datasense_assets.connectors.errors import Unavailable
from datasense_assets.ingest import finishing, keeping
from datasense_assets.ingest.keeping import KeptPages
from datasense_assets.ingest.preparing import kept_of, request_of
from datasense_assets_tests.ingest.conftest import FakeConnector, FakeSource, World, at

ROWS = 40
TABLE = "org_acme.forms__visits"


@dataclass
class PagedSource(FakeSource):
    """Pages of two rows, each of which can be gone on from; `served` are the ids of the rows given out."""

    served: list[str] = field(default_factory=list)
    die_after: int | None = None

    def open(self) -> FakeConnector:
        return PagedConnector(self)


class PagedConnector(FakeConnector):
    source: PagedSource

    def read(self, request: ReadRequest) -> Iterator[Page]:
        left = [row for row in self.source.rows[request.resource] if row["_id"] > (request.resume or "")]
        rest = FakeSource(
            {request.resource: left}, repeats=self.source.repeats, page_rows=2, requests=self.source.requests
        )
        pages = list(FakeConnector(rest).read(request)) if left else []
        for number, page in enumerate(pages):
            whole = number + 1 == len(pages) or pages[number + 1].path == ()
            ids = page.data["_ds_row_id"].to_pylist()
            if not page.path:
                last = ids[-1]
                if self.source.die_after is not None and len(self.source.served) >= self.source.die_after:
                    raise Unavailable("The server failed.", advice="Try again.")
                self.source.served += ids
            yield Page(page.path, page.data, page.cursor, page.rejected, last if whole else None)


def forms(count: int = ROWS, **more: Any) -> PagedSource:
    rows = [{"_id": f"r{i:03d}", "_at": at(i), "n": str(i), "kids": [{"name": f"k{i}"}]} for i in range(count)]
    return PagedSource({"visits": rows}, repeats=("kids",), **more)


@pytest.fixture(autouse=True)
def _keep_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "KEEP_ROWS", 6)


def assert_exact(world: World, source: PagedSource) -> None:
    ids = [row["_id"] for row in source.rows["visits"]]
    assert [row[0] for row in world.rows(TABLE, "_ds_row_id")] == ids
    assert [row[0] for row in world.rows(f"{TABLE}__kids", "_ds_parent_id", "_ds_parent_id")] == ids


def kept_rows(world: World) -> int:
    return len(world.rows("staging_org_acme._ds_kept", "number", "number"))


def test_a_read_that_breaks_off_is_gone_on_with_where_it_was(world: World, org: Organization) -> None:
    source, fake = world.source(org), forms(die_after=28)
    with pytest.raises(Unavailable):
        world.sync(org, source, fake)
    assert not world.exists(TABLE)
    fake.die_after, fake.served = None, []
    report = world.sync(org, source, fake)
    assert fake.served[0] == "r024"
    assert fake.requests[-1].resume == "r023"
    assert report.row_count == ROWS
    assert any("24 rows were kept" in note for note in report.notes)
    assert_exact(world, fake)
    assert kept_rows(world) == 0
    assert world.sync(org, source, fake).rows_loaded == 0


def test_what_was_whole_when_the_server_failed_is_kept_too(
    world: World, org: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "KEEP_ROWS", 1_000)
    source, fake = world.source(org), forms(die_after=30)
    with pytest.raises(Unavailable):
        world.sync(org, source, fake)
    fake.die_after, fake.served = None, []
    world.sync(org, source, fake)
    assert fake.served[0] == "r030"
    assert_exact(world, fake)


def test_types_are_decided_over_the_whole_read_wherever_it_broke(world: World, org: Organization) -> None:
    source, fake = world.source(org), forms(die_after=20)
    fake.rows["visits"][0]["n"] = "1.50"
    fake.rows["visits"][-1]["n"] = "about 3"
    with pytest.raises(Unavailable):
        world.sync(org, source, fake)
    fake.die_after = None
    world.sync(org, source, fake)
    assert [row[0] for row in world.rows(TABLE, "n")][0::39] == ["1.50", "about 3"]


def test_a_short_read_keeps_nothing(world: World, org: Organization) -> None:
    source, fake = world.source(org), forms(4)
    world.sync(org, source, fake)
    assert not world.exists("staging_org_acme._ds_kept")


@pytest.mark.parametrize(
    "moment", ["before keeping", "between two kept groups", "before the cursor", "before dropping"]
)
def test_dying_anywhere_then_again_is_exact(
    world: World, org: Organization, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    source, fake = world.source(org), forms()
    with monkeypatch.context() as patch:
        patch.setattr(KeptPages, "_break_off", lambda self: None)  # a killed process does nothing any more
        written = KeptPages._write

        def die(*_: Any) -> None:
            raise KeyboardInterrupt

        def die_late(self: KeptPages) -> None:
            if self.number == 3:
                raise KeyboardInterrupt
            written(self)

        if moment == "before keeping":
            patch.setattr(KeptPages, "_write", die)
        elif moment == "between two kept groups":
            patch.setattr(KeptPages, "_write", die_late)
        elif moment == "before the cursor":
            patch.setattr(finishing, "_move_cursor", die)
        else:
            patch.setattr(KeptPages, "drop", die)
        with pytest.raises(KeyboardInterrupt):
            world.sync(org, source, fake)
    fake.served = []
    world.sync(org, source, fake)
    read_again = {"before keeping": 40, "between two kept groups": 22, "before the cursor": 4, "before dropping": 1}
    assert len(fake.served) == read_again[moment]
    assert_exact(world, fake)
    assert world.rows("datasense.cursors", "value", "table_id") == [(at(ROWS - 1),)]
    assert world.sync(org, source, fake).rows_loaded == 0


def _killed(url: str, parts: tuple[Any, ...], org: Organization, source: Source, fake: PagedSource) -> None:
    from datasense_assets.warehouse.database import engine

    settings, scratch = parts
    world = World(url, engine(url), settings, scratch)
    keeping.KEEP_ROWS = 6
    packed, calls = keeping._packed, []

    def die_in_the_transaction(tables: list[Any]) -> bytes:
        calls.append(1)
        if len(calls) == 6:  # the repeat group's part of the third group: its parent's part is written
            os.kill(os.getpid(), signal.SIGKILL)
        return packed(tables)

    keeping._packed = die_in_the_transaction
    world.sync(org, source, fake)


def test_a_killed_process_leaves_whole_groups_alone(world: World, org: Organization) -> None:
    source, fake = world.source(org), forms()
    world.target(org)
    child = multiprocessing.get_context("spawn").Process(
        target=_killed, args=(world.url, (world.settings, world.scratch), org, source, fake)
    )
    child.start()
    child.join(120)
    assert child.exitcode == -signal.SIGKILL
    world.sync(org, source, fake)
    assert fake.served[0] == "r012"
    assert_exact(world, fake)


def test_a_read_of_something_else_does_not_go_on_with_it(world: World, org: Organization) -> None:
    source, fake = world.source(org), forms(die_after=20)
    with pytest.raises(Unavailable):
        world.sync(org, source, fake, full=True)
    fake.die_after, fake.served = None, []
    fake.rows["visits"][0]["n"] = "99"  # edited before somebody asks for all of it again
    world.sync(org, source, fake, full=True)
    assert fake.served[0] == "r000"
    assert world.rows(TABLE, "n")[0] == (99,)


def test_what_was_kept_long_ago_is_read_again(world: World, org: Organization) -> None:
    source, fake = world.source(org), forms(die_after=20)
    with pytest.raises(Unavailable):
        world.sync(org, source, fake)
    old = datetime.now(UTC) - timedelta(hours=keeping.KEPT_HOURS + 1)
    world.execute(f"UPDATE staging_org_acme._ds_kept SET started_at = '{old.isoformat()}'")
    fake.die_after, fake.served = None, []
    world.sync(org, source, fake)
    assert fake.served[0] == "r000"
    assert_exact(world, fake)


def test_a_run_that_lost_its_lease_keeps_nothing_over_the_one_that_took_it(world: World, org: Organization) -> None:
    source, fake, late = world.source(org), forms(), forms()
    with world.open(org, source, late, fence=1) as lost, world.open(org, source, fake, fence=2) as taker:
        pages = _slowly(lost, world, source)
        next(pages)  # the first has kept some, and is still reading
        fake.die_after = 20
        with pytest.raises(Unavailable):
            taker.prepare(world.tables(source)["visits"])
        before = world.rows("staging_org_acme._ds_kept", "number, path, resume, fence", "number, path")
        for _ in pages:
            pass
        assert world.rows("staging_org_acme._ds_kept", "number, path, resume, fence", "number, path") == before
        assert {row[3] for row in before} == {2}
    fake.die_after, fake.served = None, []
    world.sync(org, source, fake, fence=3)
    assert fake.served[0] > "r010"
    assert_exact(world, fake)


def _slowly(sync: Any, world: World, source: Source) -> Iterator[None]:
    """The reading of a load, stopped after some pages and gone on with by the caller."""
    table = world.tables(source)["visits"]
    infos = {info.path: info for info in sync.parts.connector.describe("visits")}
    request = request_of(sync.parts, table, None)
    kept = kept_of(sync.parts, table, request, infos)
    for number, _ in enumerate(kept.read(sync.parts.connector, request)):
        if number == 12:
            yield
    yield
