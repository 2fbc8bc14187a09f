"""Upgrading a catalog with sources on it: what fell due meanwhile is served once, and nothing is forgotten."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, text

import datasense_assets.catalog.migrations
from datasense_assets.catalog.migrate import migrate
from datasense_assets_tests.automation.test_due_order import add, catalog, tick  # noqa: F401  a fixture

# A release that was in use: organisations have upgraded from it.
OLDER = "0021"


def made_by_an_older_release(engine: Engine) -> None:
    """Bring an empty database to the older release's catalog."""
    config = Config()
    config.set_main_option("script_location", str(Path(datasense_assets.catalog.migrations.__file__).parent))
    with engine.begin() as connection:
        connection.execute(text("CREATE SCHEMA datasense"))
        config.attributes["connection"] = connection
        config.attributes["on_version_apply"] = lambda **_: None
        command.upgrade(config, OLDER)


def state_of(engine: Engine, source_id: int) -> Any:
    """When it is due next, and how often in a row it has failed."""
    with engine.connect() as connection:
        return connection.execute(
            text("SELECT next_due_at, failures_in_a_row FROM datasense.source_status WHERE source_id = :id"),
            {"id": source_id},
        ).one()


@pytest.fixture
def database_url(empty_database_url: str) -> str:
    """That of the catalog: a database that has none yet."""
    return empty_database_url


def test_slots_that_pass_during_an_upgrade_are_served_once(catalog: Engine) -> None:  # noqa: F811
    made_by_an_older_release(catalog)
    missed = add(catalog, "waits", 2, late=200)
    (later,) = add(catalog, "has-time", 1, late=-30)
    before = {source: state_of(catalog, source) for source in (*missed, later)}
    assert migrate(catalog)
    assert {source: state_of(catalog, source) for source in (*missed, later)} == before
    instance = dg.DagsterInstance.ephemeral()
    asked, _ = tick(catalog, instance)
    # three hourly slots have passed; one run of each serves them
    assert sorted(asked) == ["waits.s_0", "waits.s_1"]
    assert tick(catalog, instance)[0] == []
    # the sensor may have reckoned it anew, to the next slot of its hour
    assert state_of(catalog, later)[0] > datetime.now(UTC)
