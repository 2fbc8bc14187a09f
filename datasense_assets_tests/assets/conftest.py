"""A catalog in a fresh database, organisations applied to it, and runs of their assets in this process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg
import pytest
import yaml

from datasense_assets import definitions
from datasense_assets.catalog.apply import apply_manifest
from datasense_assets.catalog.manifest import parse_manifest
from datasense_assets.catalog.snapshot import read_snapshot
from datasense_assets.running.graph_index import KeyPath, source_keys
from datasense_assets.running.loading import prepare_catalog
from datasense_assets.running.local import LocalRun, run_locally
from datasense_assets.running.owners import catalog_engine
from datasense_assets.settings import get_settings
from examples.kobo_stand_in import serve
from examples.make_submissions import demo_accounts

TOKEN = "demo-token-of-clean-water"


class Yard:
    """Apply manifests, run assets, look at what is in the warehouse."""

    def __init__(self, url: str, home: Path) -> None:
        self.url, self.home = url, home
        self.instance = dg.DagsterInstance.ephemeral()
        prepare_catalog(catalog_engine())
        # a test makes more calls a minute than an account is allowed, and runs wait for that as they do anywhere
        self.execute(
            "INSERT INTO datasense.quota_limits (name, calls) VALUES ('google_sheets.user', 100000), "
            "('google_sheets.project', 100000), ('kobo.account', 100000), ('odk_central.account', 100000)"
        )

    def apply(
        self,
        *sources: dict[str, Any],
        slug: str = "clean-water",
        warehouse: dict[str, str] | None = None,
        **more: Any,
    ) -> None:
        organization: dict[str, Any] = {"slug": slug, "name": slug, "timezone": "Asia/Kolkata"}
        if warehouse is not None:
            organization["warehouse"] = warehouse
        text = yaml.safe_dump({"version": 1, "organization": organization, "sources": list(sources), **more})
        with catalog_engine().begin() as connection:
            apply_manifest(connection, parse_manifest(text, self.home / "manifest.yaml"))

    def keys(self, path: str) -> list[KeyPath]:
        """Asset keys of `org/source`, or the key itself where the path has three parts."""
        parts = path.split("/")
        if len(parts) == 3:
            return [(parts[0], parts[1], parts[2])]
        with catalog_engine().connect() as connection:
            orgs = {org.slug: org for org in read_snapshot(connection).organizations}
        org = orgs[parts[0].replace("_", "-")]
        return [
            key
            for source in org.sources
            if source.slug.replace("-", "_") == parts[1]
            for key in source_keys(org, source)
        ]

    def run(self, path: str, partition: str | None = None, **tags: str) -> LocalRun:
        return run_locally(
            definitions.definitions, self.keys(path), instance=self.instance, tags=tags, partition_key=partition
        )

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url, autocommit=True) as connection:
            return connection.execute(query.encode(), values or None).fetchall()

    def execute(self, query: str, *values: Any) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(query.encode(), values or None)


@pytest.fixture
def yard(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Yard]:
    monkeypatch.setenv("DATASENSE_DATABASE_URL", database_url)
    monkeypatch.setenv("DATASENSE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("DATASENSE_ALLOW_PRIVATE_ADDRESSES", "true")
    monkeypatch.setenv("CLEAN_WATER_KOBO_TOKEN", TOKEN)
    get_settings.cache_clear()
    catalog_engine.cache_clear()
    yield Yard(database_url, tmp_path)
    catalog_engine().dispose()
    get_settings.cache_clear()
    catalog_engine.cache_clear()


@pytest.fixture(scope="session")
def _accounts() -> Any:
    from datetime import date

    return demo_accounts(date(2026, 1, 1))


@pytest.fixture
def kobo(_accounts: Any) -> Iterator[Any]:
    clean_water, springs = _accounts
    with serve(clean_water.forms, token=TOKEN, more_accounts={springs.token: springs.forms}) as server:
        yield server
