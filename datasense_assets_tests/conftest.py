"""Fixtures that every room's tests share: a real server, and a fresh database on it for each test that asks."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from hypothesis import settings
from psycopg import sql
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from datasense_assets.catalog.migrate import SCHEMA, migrate

# How long an example takes says more of what else the machine does than of the code.
settings.register_profile("shared-machine", deadline=None)
settings.load_profile("shared-machine")


@pytest.fixture(scope="session")
def server_url() -> str:
    """URL of a superuser on a real PostgreSQL: DATASENSE_TEST_SERVER_URL, else the embedded server."""
    given = os.environ.get("DATASENSE_TEST_SERVER_URL")
    if given:
        return given
    from datasense_assets.settings import default_home
    from datasense_assets.warehouse.embedded import ensure_running

    url = ensure_running(default_home() / "test-server")
    with psycopg.connect(url, autocommit=True) as connection:
        # thousands of databases come and go here; that a server survives a crash is tested on servers of their own
        for setting in ("fsync", "full_page_writes", "synchronous_commit"):
            connection.execute(sql.SQL("ALTER SYSTEM SET {} = off").format(sql.Identifier(setting)))
        connection.execute("SELECT pg_reload_conf()")
    return url


@contextmanager
def fresh_database(server_url: str, name: str = "test", *, template: str = "template1") -> Iterator[str]:
    """URL of an empty database (or of a copy of `template`), dropped when the block ends."""
    database = f"t_{name}_{uuid.uuid4().hex[:12]}"
    names = {"database": sql.Identifier(database), "template": sql.Identifier(template)}
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {database} TEMPLATE {template}").format(**names))
    yield f"{server_url.rpartition('/')[0]}/{database}"
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(database)))


@pytest.fixture(scope="session")
def migrated_template(server_url: str) -> Iterator[str]:
    """Name of a database that holds a catalog and nothing in it: copying it costs a tenth of migrating."""
    with fresh_database(server_url, "template") as url:
        engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://", 1), poolclass=NullPool)
        migrate(engine)
        yield url.rpartition("/")[2]


@pytest.fixture
def database_url(server_url: str, migrated_template: str) -> Iterator[str]:
    """URL of a database for one test, with a catalog that holds nothing."""
    with fresh_database(server_url, template=migrated_template) as url:
        with psycopg.connect(url, autocommit=True) as connection:
            # what migrating sets for a user of that name belongs to one database and is not copied
            if connection.info.user == SCHEMA:
                database = sql.Identifier(connection.info.dbname)
                where = sql.SQL("ALTER ROLE CURRENT_USER IN DATABASE {} SET search_path TO public")
                connection.execute(where.format(database))
        yield url


@pytest.fixture
def empty_database_url(server_url: str) -> Iterator[str]:
    """URL of a database for one test, without a catalog."""
    with fresh_database(server_url) as url:
        yield url
