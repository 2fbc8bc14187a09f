"""The snapshot that a process builds its graph from."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy
from pydantic import SecretStr

from datasense_assets.catalog.migrate import CatalogVersionError
from datasense_assets.running.loading import load_snapshot
from datasense_assets.settings import Settings
from datasense_assets.warehouse.database import DatabaseUnavailable, engine

NOBODY = "postgresql://nobody:secret@127.0.0.1:1/none"


def settings(home: Path, url: str) -> Settings:
    return Settings(home=home, database_url=SecretStr(url))


def test_a_fresh_database_gives_an_empty_graph_and_not_an_error(empty_database_url: str, tmp_path: Path) -> None:
    loaded = load_snapshot(settings(tmp_path, empty_database_url), None)
    assert loaded.snapshot.organizations == ()
    assert loaded.stale_because is None


def test_a_catalog_that_is_down_gives_the_last_good_snapshot(database_url: str, tmp_path: Path) -> None:
    load_snapshot(settings(tmp_path, database_url), None)
    with engine(database_url).begin() as connection:
        connection.execute(sqlalchemy.text("INSERT INTO datasense.organizations (slug, name) VALUES ('a', 'A')"))
    fresh = load_snapshot(settings(tmp_path, database_url), None)
    stale = load_snapshot(settings(tmp_path, NOBODY), None)
    assert stale.snapshot == fresh.snapshot
    assert [org.slug for org in stale.snapshot.organizations] == ["a"]
    assert "127.0.0.1:1" in (stale.stale_because or "")
    assert "secret" not in (stale.stale_because or "")


def test_without_a_last_good_snapshot_the_location_fails_to_load_and_is_never_empty(tmp_path: Path) -> None:
    with pytest.raises(DatabaseUnavailable):
        load_snapshot(settings(tmp_path, NOBODY), None)


def test_a_catalog_of_another_version_is_left_alone_and_named(database_url: str, tmp_path: Path) -> None:
    load_snapshot(settings(tmp_path, database_url), None)
    with engine(database_url).begin() as connection:
        connection.execute(sqlalchemy.text("UPDATE datasense.alembic_version SET version_num = '0001'"))
    with pytest.raises(CatalogVersionError, match=r"0001.*datasense db migrate"):
        load_snapshot(settings(tmp_path, database_url), None)
