"""Every connector killed at ten points of a sync, at once with itself, out of disk, tables dropped: always exact."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psycopg
import pytest

from datasense_assets_tests.ingest.dying import POINTS, run_apart, run_at_once, start_and_stop, start_apart
from datasense_assets_tests.ingest.plants import CASES, Field, plot

__all__ = ["plot"]

EVERY = pytest.mark.parametrize("plot", CASES, indirect=True)


@pytest.mark.timeout(900)
@EVERY
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
def test_a_first_load_that_dies_at_every_point_in_turn(plot: Field) -> None:
    for step, point in enumerate(POINTS):
        plot.plant.change(step)
        plot.killed(point)
    plot.expect_exact("ten deaths")


@pytest.mark.timeout(900)
@EVERY
def test_a_worker_that_stands_still_while_another_takes_over_changes_nothing(plot: Field) -> None:
    plot.plant.change(0)
    plot.expect_exact("the first load")
    thorough = plot.plant.manifest["connector"] in ("csv", "kobo")
    for step, point in enumerate(POINTS if thorough else ("when all is read", "when the first table is merged")):
        plot.plant.change(100 + step)
        child = start_and_stop(plot.order(stops=point))
        try:
            plot.end_open_transactions()
            plot.let_go()
            plot.plant.change(200 + step)
            plot.expect_exact(f"a stop {point}")
        finally:
            os.kill(child.pid, signal.SIGCONT)
            child.join(60)
        assert child.exitcode in (0, 1)
        plot.expect_equal(f"going on {point}")
        plot.let_go()


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


@EVERY
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


@EVERY
def test_a_clock_that_is_ahead_keeps_nothing_from_the_others(plot: Field) -> None:
    plot.plant.change(0)
    assert run_apart(plot.order(clock_ahead=300)) == 0
    plot.plant.change(1)
    plot.expect_exact("a clock 300 s ahead")
    plot.plant.change(2)
    assert run_apart(plot.order(clock_ahead=300)) == 0
    plot.expect_exact("a clock 300 s ahead, again")


@EVERY
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
