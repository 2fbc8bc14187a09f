"""Rows that the source no longer has: ignored, marked or removed; found by count gate, full read or snapshot."""

from __future__ import annotations

import pytest

from datasense_assets.catalog.models import Deletes, Organization
from datasense_assets_tests.ingest.conftest import FakeSource, World, at


def forms(count: int = 4) -> FakeSource:
    rows = [{"_id": f"r{i}", "_at": at(i), "n": str(i), "kids": [{"name": f"k{i}"}]} for i in range(count)]
    return FakeSource({"visits": rows}, repeats=("kids",))


@pytest.mark.parametrize("full", [False, True])
def test_ignored_rows_stay_and_no_sweep_is_made(world: World, org: Organization, full: bool) -> None:
    source, fake = world.source(org), forms()
    world.sync(org, source, fake)
    del fake.rows["visits"][1]
    assert world.sync(org, source, fake, full=full).row_count == 4
    assert fake.sweeps == 0


@pytest.mark.parametrize("full", [False, True])
def test_marked_rows_keep_their_values_and_come_back_unmarked(world: World, org: Organization, full: bool) -> None:
    source, fake = world.source(org, deletes=Deletes.MARK), forms()
    world.sync(org, source, fake)
    gone = fake.rows["visits"].pop(1)
    report = world.sync(org, source, fake, full=full)
    assert (report.row_count, report.rows_deleted, report.changed) == (4, 1, True)
    marked = "_ds_row_id, _ds_deleted_at IS NOT NULL"
    assert [row for row in world.rows("org_acme.forms__visits", marked) if row[1]] == [("r1", True)]
    assert [row for row in world.rows("org_acme.forms__visits__kids", marked) if row[1]] == [("r1/kids/1", True)]
    again = world.sync(org, source, fake, full=full)
    assert (again.rows_deleted, again.changed) == (0, False)
    fake.rows["visits"].append({**gone, "_at": at(20)})
    world.sync(org, source, fake, full=full)
    assert not any(row[1] for row in world.rows("org_acme.forms__visits", marked))
    assert not any(row[1] for row in world.rows("org_acme.forms__visits__kids", marked))


@pytest.mark.parametrize("full", [False, True])
def test_removed_rows_go_with_their_repeats(world: World, org: Organization, full: bool) -> None:
    source, fake = world.source(org, deletes=Deletes.REMOVE), forms()
    world.sync(org, source, fake)
    del fake.rows["visits"][1]
    report = world.sync(org, source, fake, full=full)
    assert (report.row_count, report.rows_deleted) == (3, 1)
    assert world.rows("org_acme.forms__visits__kids", "name") == [("k0",), ("k2",), ("k3",)]


def test_the_gate_sweeps_only_when_the_source_has_fewer_rows(world: World, org: Organization) -> None:
    source, fake = world.source(org, deletes=Deletes.REMOVE), forms()
    world.sync(org, source, fake)
    world.sync(org, source, fake)
    assert fake.sweeps == 0
    del fake.rows["visits"][0]
    world.sync(org, source, fake)
    world.sync(org, source, fake)
    assert fake.sweeps == 1


def test_a_full_read_that_misses_rows_takes_none_for_deleted(
    world: World, org: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, fake = world.source(org, deletes=Deletes.REMOVE), forms()
    world.sync(org, source, fake)
    kept = fake.rows["visits"]
    with world.open(org, source, fake, full=True) as sync:
        fake.rows["visits"] = kept[:2]
        prepared = sync.prepare(world.tables(source)["visits"])
        fake.rows["visits"] = kept
        prepared.run()
        report = sync.finish(prepared)[0]
    assert report.row_count == 4
    assert any("none was taken for deleted" in note for note in report.notes)


@pytest.mark.parametrize("how", [Deletes.IGNORE, Deletes.MARK, Deletes.REMOVE])
def test_a_snapshot_loses_its_rows_unless_they_are_to_be_marked(world: World, org: Organization, how: Deletes) -> None:
    source, fake = world.source(org, deletes=how), forms()
    fake.history = False
    world.sync(org, source, fake)
    del fake.rows["visits"][1]
    world.sync(org, source, fake)
    kept = 4 if how is Deletes.MARK else 3
    assert len(world.rows("org_acme.forms__visits")) == kept
    assert len(world.rows("org_acme.forms__visits__kids")) == kept
    fake.rows["visits"] = []
    world.sync(org, source, fake)
    live = [row for row in world.rows("org_acme.forms__visits", "*") if how is not Deletes.MARK or row[2] is None]
    assert live == []
