"""Live syncs and window backfills in any order, while the source changes and syncs die: the end equals the source."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from datasense_assets.catalog.models import Deletes, Organization
from datasense_assets.connectors.base import Window
from datasense_assets_tests.ingest import plants
from datasense_assets_tests.ingest.conftest import START, FakeSource, World, at
from datasense_assets_tests.ingest.dying import POINTS
from datasense_assets_tests.ingest.plants import CASES, Field, plot

__all__ = ["plot"]

HOURS = 6
VALUES = st.sampled_from(["1", "2", "2.5", "007", "12345678901234567", "x", None])


def test_live_syncs_and_backfills_in_any_order_end_equal_to_the_source(world: World, org: Organization) -> None:
    class Source(RuleBasedStateMachine):
        """A form whose rows come late, are edited (which moves their time) and deleted."""

        number = 0

        @initialize()
        def begin(self) -> None:
            type(self).number += 1
            self.slug = f"s{self.number}"
            self.source = world.source(org, slug=self.slug, deletes=Deletes.REMOVE)
            self.fake = FakeSource({"visits": []}, repeats=("kids",), lag=30)
            self.clock = self.ids = 0

        @rule(value=VALUES, late=st.integers(0, 29))
        def add(self, value: str | None, late: int) -> None:
            """A row whose time is up to the lag before the newest."""
            self.clock += 7
            self.ids += 1
            row = {"_id": f"r{self.ids}", "_at": at(max(0, self.clock - late)), "n": value, "kids": [{"k": "a"}]}
            self.fake.rows["visits"].append(row)

        @rule(which=st.integers(0, 50), value=VALUES, kids=st.integers(0, 2))
        def edit(self, which: int, value: str | None, kids: int) -> None:
            rows = self.fake.rows["visits"]
            if rows:
                self.clock += 7
                row = rows[which % len(rows)]
                row |= {"_at": at(self.clock), "n": value, "kids": [{"k": str(i)} for i in range(kids)]}

        @rule(which=st.integers(0, 50))
        def delete(self, which: int) -> None:
            rows = self.fake.rows["visits"]
            if rows:
                rows.pop(which % len(rows))

        @rule()
        def live(self) -> None:
            world.sync_all(org, self.source, self.fake)

        @rule(first=st.integers(0, HOURS - 1), length=st.integers(1, HOURS))
        def backfill(self, first: int, length: int) -> None:
            start = START + timedelta(hours=first)
            world.sync_all(org, self.source, self.fake, window=Window(start, start + timedelta(hours=length)))

        @rule(window=st.booleans())
        def die_after_writing(self, window: bool) -> None:
            how: dict[str, Any] = {"window": Window(START, START + timedelta(hours=HOURS))} if window else {}
            with world.open(org, self.source, self.fake, **how) as sync:
                sync.prepare(world.tables(self.source)["visits"]).run()

        @rule()
        def drop_by_hand(self) -> None:
            world.execute(f"DROP TABLE IF EXISTS org_acme.{self.slug}__visits")

        @invariant()
        def no_row_is_there_twice(self) -> None:
            if world.exists(f"org_acme.{self.slug}__visits"):
                ids = world.rows(f"org_acme.{self.slug}__visits", "_ds_row_id")
                assert len(ids) == len(set(ids))

        def teardown(self) -> None:
            world.sync_all(org, self.source, self.fake)
            top = f"org_acme.{self.slug}__visits"
            rows = self.fake.rows["visits"]
            held = world.rows(top, "_ds_row_id, n::text" if rows else "_ds_row_id") if rows else []
            if not rows and world.exists(top):
                assert world.rows(top, "count(*)", "1") == [(0,)]
            assert [row[0] for row in held] == sorted(row["_id"] for row in rows)
            for (_, value), row in zip(held, sorted(rows, key=lambda each: each["_id"]), strict=True):
                assert value == row["n"]
            if rows:
                kids = world.rows(f"{top}__kids", "_ds_parent_id, _ds_index", "1, 2")
                wanted = [(row["_id"], i) for row in rows for i in range(1, len(row["kids"]) + 1)]
                assert kids == sorted(wanted)
            assert all(r.rows_loaded == 0 for r in world.sync_all(org, self.source, self.fake))

    run_state_machine_as_test(Source, settings=within(examples=6, steps=14))


def within(examples: int, steps: int) -> settings:
    return settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "plot",
    [each for each in CASES if each.id in ("kobo-upsert", "surveycto-upsert", "odk-upsert")],
    indirect=True,
)
def test_each_connector_with_history_ends_equal_whatever_the_order(plot: Field) -> None:
    """An edit that a live sync of that connector cannot see shows with the last backfill, of everything."""
    plant = plot.plant

    class Server(RuleBasedStateMachine):
        steps = 0

        @rule()
        def change(self) -> None:
            type(self).steps += 1
            plant.change(self.steps)

        @rule(which=st.integers(0, 50), n=st.integers(2000, 9000))
        def edit(self, which: int, n: int) -> None:
            if plant.rows:
                plant.edit(which, n)

        @rule()
        def live(self) -> None:
            plot.sync()

        @rule()
        def everything(self) -> None:
            plot.sync(full=True)

        @rule(first=st.integers(-5, 40), length=st.integers(1, 40))
        def backfill(self, first: int, length: int) -> None:
            start = plants.START + timedelta(minutes=first)
            plot.sync(window=Window(start, start + timedelta(minutes=length)))

        @rule(point=st.sampled_from(list(POINTS)))
        def die(self, point: str) -> None:
            self.change()
            plot.killed(point)

        def teardown(self) -> None:
            plot.sync(window=Window(plants.START, plants.START + timedelta(days=30)))
            plot.sync()
            plot.expect_equal("the last backfill")
            assert all(each.rows_loaded == 0 for each in plot.sync())

    run_state_machine_as_test(Server, settings=within(examples=2, steps=8))


@pytest.mark.parametrize("history", [True, False], ids=["upsert", "mirror"])
def test_rows_in_are_rows_loaded_and_rows_rejected(world: World, org: Organization, history: bool) -> None:
    from datasense_assets.connectors.base import Rejected

    source = world.source(org)
    fake = FakeSource({"visits": [{"_id": f"r{i}", "_at": at(i), "n": str(i)} for i in range(7)]}, history=history)
    fake.rejected["visits"] = (Rejected(8, "too long", "8,8"), Rejected(9, "too long", "9,9"))
    report = world.sync(org, source, fake)
    assert (report.rows_read, report.rows_loaded, report.rows_rejected) == (9, 7, 2)
    assert report.rows_read == report.row_count + report.rows_rejected
