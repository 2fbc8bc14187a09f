"""The instance of dagster.yaml."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest

from datasense_assets.running.coordinator import TaggingRunCoordinator
from datasense_assets.running.instance import open_instance
from datasense_assets.settings import get_settings


def test_the_instance_of_dagster_yaml_opens_with_our_storage_and_coordinator(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATASENSE_DATABASE_URL", database_url)
    monkeypatch.setenv("DATASENSE_HOME", str(tmp_path))
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    get_settings.cache_clear()
    try:
        with open_instance() as instance:
            assert isinstance(instance.run_coordinator, TaggingRunCoordinator)
            assert instance.get_runs() == []
            assert instance.get_settings("telemetry") == {"enabled": False}
            assert isinstance(instance, dg.DagsterInstance)
    finally:
        get_settings.cache_clear()
