"""What runs cost: measured in a process that has served others, kept in the catalog, told by the command line."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from datasense_assets.catalog.pruning import prune_catalog
from datasense_assets.catalog.state import Cost, read_costs
from datasense_assets.running.owners import catalog_engine
from datasense_assets_tests.assets.conftest import Yard
from datasense_assets_tests.assets.test_source_runs import FORMS, forms
from examples.kobo_faults import missing

_MEGABYTE = 1024 * 1024


def wells(yard: Yard, rows: int = 50) -> dict[str, Any]:
    path = yard.home / "wells.csv"
    path.write_text("code,depth\n" + "".join(f"{n},{n}\n" for n in range(rows)), encoding="utf-8")
    return {"slug": "wells", "connector": "csv", "config": {"url": str(path)}}


def costs(**which: Any) -> list[Cost]:
    with catalog_engine().connect() as connection:
        return read_costs(connection, **which)


def find_tables(yard: Yard) -> None:
    assert yard.run("clean_water/wells").success


def test_a_run_in_a_process_that_has_served_others_costs_only_what_it_used(yard: Yard) -> None:
    yard.apply(wells(yard))
    before = time.process_time()
    find_tables(yard)
    big = bytearray(400 * _MEGABYTE)
    del big
    sum(range(3_000_000))
    between = time.process_time()
    done = yard.run("clean_water/wells")
    assert done.success, done.failures
    used = time.process_time() - between
    kept = yard.rows(
        "SELECT cpu_seconds, wall_seconds, peak_memory_bytes, rows_read, rows_written, bytes_read, attempt, succeeded"
        " FROM datasense.run_costs ORDER BY id"
    )
    cpu, wall, peak, read, written, size, attempt, succeeded = kept[1]
    assert 0 < cpu <= used < time.process_time() - before
    assert wall > 0
    assert (read, written, attempt, succeeded) == (50, 50, 0, True)
    (said,) = done.materialized.values()
    assert size == said["bytes"] == (yard.home / "wells.csv").stat().st_size
    assert 0 < said["cpu_seconds"] <= cpu + 0.001
    assert said["peak_memory_mb"] * _MEGABYTE == pytest.approx(peak, abs=20 * _MEGABYTE)
    # the peak is not that of the process's whole life
    high = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
    assert peak < int(high.split()[1]) * 1024 + 200 * _MEGABYTE


def test_recipes_failures_and_every_try_are_counted(yard: Yard) -> None:
    source = wells(yard)
    recipe = {
        "version": 1,
        "name": "deep",
        "inputs": {"wells": "source:wells.wells"},
        "steps": [{"op": "filter", "where": {"column": "depth", "operator": ">=", "value": 40}}],
    }
    yard.apply(source, recipes=[recipe])
    find_tables(yard)
    assert yard.run("clean_water/wells").success
    built = yard.run("clean_water/recipes/deep")
    assert built.success, built.failures
    (yard.home / "wells.csv").unlink()
    assert not yard.run("clean_water/wells").success
    found = {(each.kind, each.name): each for each in costs()}
    assert (found["source", "wells"].runs, found["source", "wells"].failures) == (3, 1)
    assert (found["recipe", "deep"].runs, found["recipe", "deep"].rows_written) == (1, 10)
    assert found["recipe", "deep"].cpu_seconds > 0
    (org,) = costs(by_org=True)
    assert org.runs == 4
    assert org.cpu_seconds == pytest.approx(sum(each.cpu_seconds for each in found.values()))
    assert costs(org="nobody") == []
    assert costs(since=datetime.now(UTC) + timedelta(hours=1)) == []


def test_calls_are_counted_of_a_run_that_failed_too(yard: Yard, kobo: Any) -> None:
    yard.apply(forms(kobo))
    assert yard.run(FORMS).success
    (kept,) = costs()
    assert kept.api_calls == len(kobo.requests) > 0
    assert kept.bytes_read > 1000
    kobo.fail(*[missing()] * 20)
    assert not yard.run(FORMS).success
    (both,) = costs()
    assert both.api_calls == len(kobo.requests) > kept.api_calls
    assert (both.runs, both.failures, both.rows_written) == (2, 1, kept.rows_written)


def test_old_runs_are_put_together_by_days_and_the_sums_stay(yard: Yard) -> None:
    yard.apply(wells(yard))
    for _ in range(3):
        assert yard.run("clean_water/wells").success
    yard.execute("UPDATE datasense.run_costs SET ended_at = now() - interval '8 days' WHERE id <= 2")
    before = costs()
    for _ in range(2):
        with catalog_engine().begin() as connection:
            prune_catalog(connection, datetime.now(UTC))
    assert costs() == [
        Cost(
            **{**vars(before[0]), "cpu_seconds": pytest.approx(before[0].cpu_seconds)}
            | {"wall_seconds": pytest.approx(before[0].wall_seconds)}
            | {"queued_seconds": pytest.approx(before[0].queued_seconds)}
        )
    ]
    assert yard.rows("SELECT count(*) FROM datasense.run_costs") == [(1,)]
    assert yard.rows("SELECT runs FROM datasense.daily_costs") == [(2,)]
    yard.execute("DELETE FROM datasense.sources")
    assert [each.runs for each in costs()] == [3]
    yard.execute("UPDATE datasense.daily_costs SET day = day - 500")
    with catalog_engine().begin() as connection:
        prune_catalog(connection, datetime.now(UTC))
    assert [each.runs for each in costs()] == [1]
