"""The limits that the queue is given, by whichever coordinator of an instance."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from datasense_assets.catalog.state import RunLimit, set_run_limit
from datasense_assets.running.coordinator import TaggingRunCoordinator
from datasense_assets.running.owners import catalog_engine
from datasense_assets_tests.platform.running import home_of_process


@pytest.fixture
def instance(platform_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    with (
        home_of_process(tmp_path, monkeypatch, DATASENSE_DATABASE_URL=platform_url) as folder,
        dg.DagsterInstance.from_config(str(folder)) as made,
    ):
        yield made


def held(instance: dg.DagsterInstance) -> dict[tuple[str, str], int]:
    """Limits that the queue works with, by tag and value."""
    config = instance.get_concurrency_config().run_queue_config
    assert config is not None
    found: dict[tuple[str, str], int] = {}
    for each in config.tag_concurrency_limits:
        value: Any = each.get("value")
        about = (each["key"], value if isinstance(value, str) else "each")
        found[about] = min(each["limit"], found.get(about, each["limit"]))
    return found


def test_a_limit_is_raised_for_all_whichever_thread_made_the_coordinator(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_first = held(instance)
    with catalog_engine().begin() as connection:
        set_run_limit(connection, RunLimit("host", "", 50), by="test")
    # two threads that asked at the same moment have made one each, and the later one stays
    later = instance.get_ref().run_coordinator
    assert isinstance(later, TaggingRunCoordinator)
    later.register_instance(instance)
    monkeypatch.setattr(instance, "_run_coordinator", later)
    raised = {about for about, limit in held(instance).items() if limit != at_first[about]}
    assert raised == {("datasense/host", "each"), ("datasense/background_host", "each")}
    assert later.default_limits.of("host", "") == at_first[("datasense/host", "each")]
