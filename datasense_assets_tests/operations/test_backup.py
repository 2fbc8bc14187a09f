"""Backup and restore: dumped, wiped with its roles, brought back, and the sync goes on from the cursor."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from datasense_assets.running.owners import catalog_engine
from datasense_assets.running.storage import pooled_engine
from datasense_assets.settings import get_settings
from datasense_assets.warehouse.database import engine
from datasense_assets_tests.conftest import fresh_database
from datasense_assets_tests.operations.conftest import CommandLine
from examples.kobo_stand_in import serve
from examples.make_submissions import demo_accounts

TOKEN = "demo-token-of-clean-water"


@pytest.fixture
def kobo() -> Iterator[Any]:
    clean_water, _ = demo_accounts(date.today())
    with serve(clean_water.forms, token=TOKEN) as server:
        yield server


def manifest(datasense: CommandLine, kobo: Any) -> Path:
    source = {
        "slug": "forms",
        "connector": "kobo",
        "config": {"base_url": kobo.url},
        "credentials": {"token": {"env": "BACKUP_TEST_TOKEN"}},
        "schedule": "hourly",
    }
    return datasense.manifest(sources=[source])


def use(datasense: CommandLine, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("DATASENSE_DATABASE_URL", url)
    datasense.database_url = url
    get_settings.cache_clear()
    catalog_engine.cache_clear()


def wipe(datasense: CommandLine, server_url: str, *more: str) -> None:
    """Leave empty databases (`more` are URLs too) and none of the organisation's roles, as on a new server."""
    role = "org_" + datasense.org.replace("-", "_")
    engine(datasense.database_url).dispose()
    catalog_engine().dispose()
    names = [url.rpartition("/")[2] for url in (datasense.database_url, *more)]
    with psycopg.connect(server_url, autocommit=True) as connection:
        for name in names:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
        for each in (f"read_{role}", role):
            connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(each)))
        for name in names:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))


def cursors(datasense: CommandLine) -> list[tuple[Any, ...]]:
    return datasense.rows("SELECT table_id, value, fence FROM datasense.cursors ORDER BY table_id")


def counts(datasense: CommandLine) -> list[tuple[Any, ...]]:
    query = "SELECT table_id, row_count, data_version FROM datasense.table_status ORDER BY 1"
    return datasense.rows(query)


@pytest.fixture
def storage_url(server_url: str) -> Iterator[str]:
    """A database for Dagster's storage alone."""
    with fresh_database(server_url, "storage") as url:
        yield url


def test_a_lost_server_is_brought_back_and_the_sync_goes_on_from_the_cursor(
    datasense: CommandLine, kobo: Any, server_url: str, storage_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BACKUP_TEST_TOKEN", TOKEN)
    monkeypatch.setenv("DATASENSE_STORAGE_URL", storage_url)
    monkeypatch.setenv("DATASENSE_ALLOW_PRIVATE_ADDRESSES", "true")
    get_settings.cache_clear()
    datasense("apply", manifest(datasense, kobo))
    datasense("sync", datasense.org, "--local")
    reader = f"web_{datasense.org.replace('-', '_')}"
    datasense.rows(f"CREATE ROLE {reader}")
    datasense.rows(f"GRANT USAGE ON SCHEMA datasense TO {reader}")
    datasense.rows(f"GRANT SELECT ON datasense.sources TO {reader}")
    known, cursor = counts(datasense), cursors(datasense)
    assert any(value for _, value, _ in cursor)
    folder = datasense.folder / "backup"
    about = datasense("backup", folder, "--json").document
    assert about["organizations"] == [datasense.org]
    assert set(about["dumps"]) == {"database.dump", "storage.dump"}
    assert datasense.rows("SELECT count(*) FROM runs") == [(0,)]
    assert folder.stat().st_mode & 0o077 == 0
    key = (datasense.folder / "home" / "secret.key").read_bytes()
    assert key not in (folder / "about.json").read_bytes() + (folder / "database.dump").read_bytes()

    pooled_engine(storage_url.replace("postgresql://", "postgresql+psycopg2://")).dispose()
    wipe(datasense, server_url, storage_url)
    monkeypatch.delenv("DATASENSE_STORAGE_URL")
    get_settings.cache_clear()
    refused = datasense("restore", folder, code=1).words
    assert "Dagster's storage was in a database of its own" in refused
    monkeypatch.setenv("DATASENSE_STORAGE_URL", storage_url)
    get_settings.cache_clear()
    assert datasense("restore", folder, "--dry-run", "--json").document["problems"] == []
    done = datasense("restore", folder, "--json").document
    assert done["organizations"] == [datasense.org]
    assert (done["lost_keys"], done["grants_left"]) == (False, [])
    assert (counts(datasense), cursors(datasense)) == (known, cursor)
    role = "org_" + datasense.org.replace("-", "_")
    owners = "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname LIKE %s"
    assert datasense.rows(owners, f"%{role}") == [(role,)]
    ((table,),) = datasense.rows("SELECT warehouse_name FROM datasense.source_tables WHERE parent_id IS NULL LIMIT 1")
    may = "SELECT has_table_privilege(%s, %s, 'SELECT')"
    assert datasense.rows(may, f"read_{role}", f"{role}.{table}") == [(True,)]
    assert datasense.rows(may, reader, "datasense.sources") == [(True,)]
    # in a process of its own, as after a restart: this one had connections to what was wiped
    synced = datasense.process("sync", datasense.org, "--local")
    assert synced.code == 0, synced.words
    # nothing was new, so nothing was loaded again and no cursor went back
    assert [(i, rows) for i, rows, _ in counts(datasense)] == [(i, rows) for i, rows, _ in known]
    loaded = datasense.rows("SELECT sum(rows_loaded) FROM datasense.table_status")
    assert loaded == [(0,)]
    assert [value for _, value, _ in cursors(datasense)] == [value for _, value, _ in cursor]
    assert [run["status"] for run in datasense("list", "runs", "--json").document["runs"]] == ["success", "success"]
    # into what is not empty nothing is restored
    assert "is not empty" in datasense("restore", folder, code=1).words
    for statement in ("REVOKE ALL ON datasense.sources FROM", "REVOKE ALL ON SCHEMA datasense FROM", "DROP ROLE"):
        datasense.rows(f"{statement} {reader}")


def test_a_backup_that_was_cut_short_is_not_restored(
    datasense: CommandLine, server_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasense("db", "migrate")
    folder = datasense.folder / "backup"
    datasense("backup", folder)
    assert "is there already" in datasense("backup", folder, code=1).words
    dump = folder / "database.dump"
    dump.write_bytes(dump.read_bytes()[:-100])
    about = json.loads((folder / "about.json").read_text())
    (folder / "about.json").write_text(json.dumps({**about, "catalog": "9999", "server": 99}))
    with fresh_database(server_url, "restored") as url:
        use(datasense, monkeypatch, url)
        result = datasense("restore", folder, code=1)
        for words in ("cut short or changed", "of a newer release", "made by PostgreSQL 99"):
            assert words in result.words
        assert datasense.rows("SELECT count(*) FROM pg_namespace WHERE nspname = 'datasense'") == [(0,)]
        engine(url).dispose()
        catalog_engine().dispose()
    (folder / "about.json").unlink()
    assert "is no backup" in datasense("restore", folder, code=1).words
