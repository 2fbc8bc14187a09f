"""What bounds a load: the time its source may take, and the memory and disk of the machine."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from datasense_assets.assets import bounds
from datasense_assets.catalog.export import export_organization
from datasense_assets.running import tags as t
from datasense_assets.running.owners import catalog_engine
from datasense_assets.settings import get_settings
from datasense_assets_tests.assets.conftest import Yard
from datasense_assets_tests.assets.test_putting_off import run_as_queued, status, visits_of, words

PATH = "clean_water/forms"


@pytest.fixture
def forms(yard: Yard, kobo: Any) -> dict[str, Any]:
    source = visits_of(kobo, max_minutes=1)
    yard.apply(source)
    return source


def live() -> dict[str, str]:
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    return {t.LANE: "scheduled", t.LIVE: "true", t.RANGE_START: today, t.RANGE_END: today}


def test_a_load_that_takes_longer_than_its_source_may_is_stopped_once_and_says_what_to_do(
    yard: Yard, forms: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with catalog_engine().connect() as connection:
        assert "max_minutes: 1" in export_organization(connection, "clean-water")
    # a clock that is two minutes on whenever the load looks at it after it has begun to read
    monkeypatch.setattr(bounds, "time", SimpleNamespace(time=lambda: time.time() + 120))
    result = run_as_queued(yard, **live())
    assert not result.success
    assert not [event for event in result.all_events if event.is_step_up_for_retry]
    assert "was stopped after 1 minute, the most" in words(result)
    assert "max_minutes" in words(result)
    assert (status(yard)["failure_kind"], status(yard)["failures_in_a_row"]) == ("took_too_long", 1)
    monkeypatch.undo()


def test_a_machine_short_of_disk_or_memory_puts_off_heavy_loads_and_takes_light_ones(
    yard: Yard, forms: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATASENSE_MIN_FREE_DISK_MB", str(10**9))
    get_settings.cache_clear()
    before = datetime.now(UTC)
    refused = run_as_queued(yard, **live())
    assert "MB of disk free" in words(refused)
    assert "put off until" in words(refused)
    assert status(yard)["next_due_at"] >= before
    assert status(yard)["failures_in_a_row"] == 0
    monkeypatch.delenv("DATASENSE_MIN_FREE_DISK_MB")
    get_settings.cache_clear()
    assert run_as_queued(yard, **live()).success
    monkeypatch.setenv("DATASENSE_MIN_FREE_MEMORY_MB", str(10**9))
    get_settings.cache_clear()
    assert run_as_queued(yard, **live()).success, "what is new since the last load is little"
    span = {t.RANGE_START: "2026-01-02", t.RANGE_END: "2026-01-04", t.LANE: "backfill"}
    assert "MB of memory free" in words(run_as_queued(yard, **span))


def test_a_container_has_no_more_memory_free_than_it_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "_CGROUP", tmp_path)
    assert bounds.shortage(1, 0, tmp_path) is None
    megabyte = 1024 * 1024
    for name, said in (("memory.max", 500), ("memory.current", 490)):
        (tmp_path / name).write_text(f"{said * megabyte}\n")
    (tmp_path / "memory.stat").write_text(f"anon {300 * megabyte}\ninactive_file {20 * megabyte}\n")
    assert "has 30 MB of memory free" in str(bounds.shortage(31, 0, tmp_path))
    assert bounds.shortage(30, 0, tmp_path) is None
    (tmp_path / "memory.max").write_text("max\n")
    assert bounds.shortage(31, 0, tmp_path) is None
