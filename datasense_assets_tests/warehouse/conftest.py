"""A migrated catalog with two organisations, on a database of its own; their roles are dropped afterwards."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from cryptography.fernet import Fernet
from psycopg import sql
from sqlalchemy import Engine

from datasense_assets.catalog.migrate import migrate
from datasense_assets.catalog.models import Organization
from datasense_assets.settings import Settings
from datasense_assets.warehouse.database import connect, engine


@dataclass
class Platform:
    """What a test of organisations needs."""

    url: str
    catalog: Engine
    settings: Settings
    one: Organization
    two: Organization

    def run(self, query: str, *parameters: object) -> list[tuple[object, ...]]:
        with connect(self.url) as connection:
            cursor = connection.execute(sql.SQL(query), parameters or None)  # type: ignore[arg-type]
            return cursor.fetchall() if cursor.description else []


@pytest.fixture
def platform(database_url: str, tmp_path: Path) -> Iterator[Platform]:
    catalog = engine(database_url)
    migrate(catalog)
    suffix = uuid.uuid4().hex[:6]
    organizations = []
    with psycopg.connect(database_url) as connection:
        for slug in (f"one-{suffix}", f"two-{suffix}"):
            row = connection.execute(
                "INSERT INTO datasense.organizations (slug, name) VALUES (%s, %s) RETURNING id", (slug, slug)
            ).fetchone()
            assert row is not None
            organizations.append(Organization(id=row[0], slug=slug, name=slug))
    settings = Settings.model_validate(
        {"home": tmp_path, "database_url": database_url, "secret_key": Fernet.generate_key().decode()}
    )
    yield Platform(database_url, catalog, settings, *organizations)
    catalog.dispose()
    with psycopg.connect(database_url, autocommit=True) as connection:
        roles = connection.execute("SELECT rolname FROM pg_roles WHERE rolname LIKE %s", (f"%{suffix}%",)).fetchall()
        for (role,) in roles:
            for statement in ("DROP OWNED BY {} CASCADE", "DROP ROLE {}"):
                connection.execute(sql.SQL(statement).format(sql.Identifier(role)))


@pytest.fixture
def source_id(platform: Platform) -> int:
    """A source in the catalog."""
    ((made,),) = platform.run(
        "INSERT INTO datasense.sources (org_id, slug, connector) VALUES (%s, 'forms', 'csv') RETURNING id",
        platform.one.id,
    )
    assert isinstance(made, int)
    return made
