"""A migrated catalog on a fresh database, and the manifest that most tests start from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.pool import NullPool

from datasense_assets.catalog.manifest import Manifest, parse_manifest
from datasense_assets.settings import Settings

MANIFEST = """
version: 1
organization:
  slug: clean-water
  name: Clean Water Trust
  timezone: Asia/Kolkata
  tier: premium
  contacts: [{env: CLEAN_WATER_ALERTS}]
sources:
  - slug: health-forms
    connector: kobo
    config: {base_url: "https://kf.kobotoolbox.org", nested: {b: 1, a: [true, null, 2.5]}}
    credentials: {token: {env: CLEAN_WATER_KOBO_TOKEN}}
    tables:
      - {slug: visits, resource: aXb3, types: {age: integer}, key: [_id]}
      - {slug: homes, resource: aXb4, title: Homes}
    schedule: hourly
    partitions: {every: week, start: 2024-01-01}
    deletes: mark
  - slug: census
    connector: csv
    config: {url: "https://example.org/census.zip", member: villages.csv}
    schedule: {cron: "0 6 * * *"}
recipes:
  - version: 1
    name: monthly_visits
    title: Monthly visits
    inputs: {visits: "source:health-forms.visits", people: "recipe:clean_people", a: "source:census.villages"}
    steps: [{op: rename, columns: {zeta: z, alpha: a}}]
  - {version: 1, name: clean_people, inputs: {homes: "source:health-forms.homes"}, steps: []}
"""


def sqlalchemy_url(url: str) -> str:
    return url.replace("postgresql://", "postgresql+psycopg://", 1)


@pytest.fixture
def empty(empty_database_url: str) -> Iterator[Engine]:
    """An engine on a database without a catalog."""
    engine = create_engine(sqlalchemy_url(empty_database_url), poolclass=NullPool)
    yield engine
    engine.dispose()


@pytest.fixture
def catalog(database_url: str) -> Iterator[Engine]:
    """An engine on a migrated catalog."""
    engine = create_engine(sqlalchemy_url(database_url), poolclass=NullPool)
    yield engine
    engine.dispose()


@pytest.fixture
def connection(catalog: Engine) -> Iterator[Connection]:
    """A connection in one transaction, rolled back after the test."""
    with catalog.connect() as opened:
        yield opened


@pytest.fixture
def manifest() -> Manifest:
    return parse_manifest(MANIFEST, Path("/srv/manifests/clean-water.yaml"))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, secret_key=None)
