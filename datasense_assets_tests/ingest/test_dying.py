"""A load is exact whatever dies, and whoever else writes."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from datasense_assets.catalog.models import Organization, Source
from datasense_assets.catalog.state import FenceLost
from datasense_assets.connectors.base import Window
from datasense_assets.ingest import claims, finishing
from datasense_assets.ingest.load import LoadMismatch, Sync
from datasense_assets_tests.ingest.conftest import START, FakeSource, World, at


def forms(count: int) -> FakeSource:
    rows = [{"_id": f"r{i:02d}", "_at": at(i), "n": str(i), "kids": [{"name": f"k{i}"}]} for i in range(count)]
    return FakeSource({"visits": rows}, repeats=("kids",))


def assert_exact(world: World, org: Organization, source: Source, fake: FakeSource) -> None:
    world.sync(org, source, fake)
    ids = [row[0] for row in world.rows("org_acme.forms__visits", "_ds_row_id")]
    assert ids == sorted(row["_id"] for row in fake.rows["visits"])
    assert len(world.rows("org_acme.forms__visits__kids")) == len(ids)
    assert world.sync(org, source, fake).rows_loaded == 0


def test_dying_between_data_and_cursor_then_again_is_exact(
    world: World, org: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, fake = world.source(org), forms(3)
    world.sync(org, source, fake)
    fake.rows["visits"] += forms(9).rows["visits"][3:]

    def die(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(finishing, "_move_cursor", die)
        with pytest.raises(KeyboardInterrupt):
            world.sync(org, source, fake)
    assert len(world.rows("org_acme.forms__visits")) == 9
    assert world.rows("datasense.cursors", "value", "table_id") == [(at(2),)]
    assert_exact(world, org, source, fake)


def test_a_run_that_lost_its_lease_records_nothing(world: World, org: Organization) -> None:
    source, fake = world.source(org), forms(3)
    world.sync(org, source, fake, fence=5)
    fake.rows["visits"] += forms(5).rows["visits"][3:]
    with pytest.raises(FenceLost):
        world.sync(org, source, fake, fence=4)
    status = world.rows("datasense.table_status", "data_version, row_count", "table_id")
    assert status[0] == (1, 3)
    world.sync(org, source, fake, fence=6)
    assert len(world.rows("org_acme.forms__visits")) == 5


KINDS = pytest.mark.parametrize("history", [True, False], ids=["upsert", "mirror"])


@KINDS
@pytest.mark.parametrize("paused", ["before it wrote", "before its merge"])
def test_a_paused_worker_changes_nothing_with_what_it_read_before(
    world: World, org: Organization, history: bool, paused: str
) -> None:
    source, fake = world.source(org), forms(3)
    fake.history = history
    world.sync(org, source, fake, fence=5)
    fake.rows["visits"][2]["n"] = "50"
    with world.open(org, source, fake, fence=6) as stale:
        old = stale.prepare(world.tables(source)["visits"])
        if paused == "before its merge":
            stale.parts.ensure(old)
        fake.rows["visits"][2]["n"] = "more"
        world.sync(org, source, fake, fence=7)
        with pytest.raises(FenceLost):
            old.run()
        with pytest.raises((FenceLost, RuntimeError)):
            stale.finish(old)
    assert [n for (n,) in world.rows("org_acme.forms__visits", "n")] == ["0", "1", "more"]
    assert world.sync(org, source, fake, fence=8).rows_loaded == 0


@KINDS
def test_what_a_load_wrote_before_it_died_is_not_taken_for_what_the_catalog_remembers(
    world: World, org: Organization, history: bool
) -> None:
    source, fake = world.source(org), forms(3)
    fake.history = history
    world.sync(org, source, fake)
    fake.rows["visits"][2]["n"] = "50"
    with world.open(org, source, fake) as died:
        died.prepare(world.tables(source)["visits"]).run()
    fake.rows["visits"][2]["n"] = "2"
    world.sync(org, source, fake)
    assert [n for (n,) in world.rows("org_acme.forms__visits", "n")] == [0, 1, 2]


def test_a_worker_that_is_heard_of_no_more_holds_the_table_for_a_while_only(
    world: World, org: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, fake = world.source(org), forms(3)
    world.sync(org, source, fake, fence=5)
    monkeypatch.setattr(claims, "IDLE_SECONDS", 1)
    with world.open(org, source, fake, fence=6) as stale, world.target(org).connect() as held:
        claims.write(held, stale.prepare(world.tables(source)["visits"]).claim)
        monkeypatch.undo()
        fake.rows["visits"] += forms(5).rows["visits"][3:]
        assert world.sync(org, source, fake, fence=7).row_count == 5
        with pytest.raises(psycopg.errors.IdleInTransactionSessionTimeout):
            held.execute("SELECT 1")
        held.close()


def test_a_paused_backfill_records_nothing(world: World, org: Organization) -> None:
    source, fake = world.source(org), forms(3)
    window = Window(START, START + timedelta(hours=1))
    with world.open(org, source, fake, window=window, fence=5) as stale:
        old = stale.prepare(world.tables(source)["visits"])
        old.run()
        world.execute(
            "INSERT INTO datasense.leases (source_id, owner, fence, expires_at) "
            f"VALUES ({source.id}, 'another run', 6, now() + interval '1 minute')"
        )
        with pytest.raises(FenceLost):
            stale.finish(old)
    assert world.rows("datasense.table_status", "loaded_at", "table_id")[0] == (None,)


def test_another_run_writing_to_the_staging_table_is_noticed(world: World, org: Organization) -> None:
    source, fake = world.source(org), forms(3)
    fake.history = False
    with world.open(org, source, fake) as sync:
        prepared = sync.prepare(world.tables(source)["visits"])
        prepared.run()
        world.execute("TRUNCATE staging_org_acme.forms__visits")
        with pytest.raises(LoadMismatch):
            sync.finish(prepared)
    assert world.sync(org, source, fake).row_count == 3


def test_first_loads_of_one_organisation_at_once(world: World, org: Organization) -> None:
    sources = [world.source(org, slug=f"s{i}") for i in range(4)]
    world.target(org)
    world.execute("DROP TABLE org_acme._dlt_version, org_acme._dlt_loads")
    errors: list[BaseException] = []
    barrier = threading.Barrier(4)

    def make(sync: Sync, prepared: Any) -> None:
        barrier.wait()
        try:
            sync.parts.ensure(prepared)
        except BaseException as error:  # noqa: BLE001 - shown by the assertion
            errors.append(error)

    syncs = [world.open(org, source, forms(2)) for source in sources]
    loads = [sync.prepare(world.tables(source)["visits"]) for sync, source in zip(syncs, sources, strict=True)]
    threads = [threading.Thread(target=make, args=pair) for pair in zip(syncs, loads, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    for sync, load in zip(syncs, loads, strict=True):
        with sync:
            load.run()
            assert sync.finish(load)[0].row_count == 2


def test_readers_see_the_old_snapshot_or_the_new_one(world: World, org: Organization) -> None:
    source, fake = world.source(org), forms(60)
    fake.history, fake.repeats = False, ()
    world.sync(org, source, fake)
    seen: set[tuple[int, int]] = set()
    stop = threading.Event()

    def read() -> None:
        with psycopg.connect(world.url, autocommit=True) as connection:
            while not stop.is_set():
                row = connection.execute("SELECT count(*), min(n) FROM org_acme.forms__visits").fetchone()
                assert row is not None
                seen.add((row[0], row[1]))

    reader = threading.Thread(target=read)
    reader.start()
    fake.rows["visits"] = [{"_id": f"x{i}", "_at": at(i), "n": str(1000 + i)} for i in range(30)]
    world.sync(org, source, fake)
    stop.set()
    reader.join()
    assert seen <= {(60, 0), (30, 1000)}
    assert (30, 1000) in seen or seen == {(60, 0)}
