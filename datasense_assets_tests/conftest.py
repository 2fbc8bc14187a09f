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
from datasense_assets_tests.places import in_memory, server_home

# A sync makes and removes dozens of folders, each of which costs a disk's file system ten times what memory does.
if in_memory() is not None:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(in_memory()))

# How long an example takes says more of what else the machine does than of the code.
settings.register_profile("shared-machine", deadline=None)
settings.load_profile("shared-machine")


# Groups of tests that share what takes long to start, and so stay in one process: the longest first, or whoever gets it
# last works on alone when all others are done.
_LONGEST = (
    "platform",
    "warm",
    "queueing",
    "cli-runs",
    "scoped",
    "kubernetes",
    "up",
    "pipeline",
    "recipe-servers",
    "image",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def rank(item: pytest.Item) -> int:
        group = item.get_closest_marker("xdist_group")
        if group is not None:
            return _LONGEST.index(group.args[0])
        # each of these is as long as a hundred others
        return len(_LONGEST) + ("test_killed" not in item.nodeid)

    items.sort(key=rank)


@pytest.fixture(scope="session")
def server_url() -> str:
    """URL of a superuser on a real PostgreSQL: DATASENSE_TEST_SERVER_URL, else the embedded server."""
    given = os.environ.get("DATASENSE_TEST_SERVER_URL")
    if given:
        return given
    from datasense_assets.warehouse.embedded import ensure_running

    url = ensure_running(server_home())
    with psycopg.connect(url, autocommit=True) as connection:
        # thousands of databases come and go here; that a server survives a crash is tested on servers of their own
        for setting in ("fsync", "full_page_writes", "synchronous_commit"):
            connection.execute(sql.SQL("ALTER SYSTEM SET {} = off").format(sql.Identifier(setting)))
        connection.execute("SELECT pg_reload_conf()")
    return url


@contextmanager
def fresh_database(server_url: str, name: str = "test", *, template: str = "template1") -> Iterator[str]:
    """URL of an empty database, or of a copy of `template` (one of those below), dropped when the block ends."""
    database = f"t_{name}_{uuid.uuid4().hex[:12]}"
    names = {"database": sql.Identifier(database), "template": sql.Identifier(template)}
    with psycopg.connect(server_url, autocommit=True) as connection:
        # a third of what copying through the write-ahead log takes, which servers before 15 do not know
        how = sql.SQL(" STRATEGY FILE_COPY" if connection.info.server_version >= 150_000 else "")
        connection.execute(sql.SQL("CREATE DATABASE {database} TEMPLATE {template}").format(**names) + how)
    url = f"{server_url.rpartition('/')[0]}/{database}"
    if template != "template1":
        with psycopg.connect(url, autocommit=True) as connection:
            # what migrating sets for a user of that name belongs to one database and is not copied
            if connection.info.user == SCHEMA:
                where = sql.SQL("ALTER ROLE CURRENT_USER IN DATABASE {database} SET search_path TO public")
                connection.execute(where.format(**names))
    yield url
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(database)))


@pytest.fixture(scope="session")
def migrated_template(server_url: str) -> Iterator[str]:
    """Name of a database that holds a catalog and nothing in it: copying it costs a tenth of migrating."""
    with fresh_database(server_url, "template") as url:
        engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://", 1), poolclass=NullPool)
        migrate(engine)
        yield url.rpartition("/")[2]


@pytest.fixture(scope="session")
def platform_template(server_url: str, migrated_template: str) -> Iterator[str]:
    """Name of a database with a catalog and Dagster's tables, which cost more to make than most tests take."""
    from datasense_assets.running.storage import HomeStorage, pooled_engine

    with fresh_database(server_url, "platform", template=migrated_template) as url:
        storage = url.replace("postgresql://", "postgresql+psycopg2://", 1)
        HomeStorage(storage)
        pooled_engine(storage).dispose()
        yield url.rpartition("/")[2]


@pytest.fixture
def database_url(server_url: str, migrated_template: str) -> Iterator[str]:
    """URL of a database for one test, with a catalog that holds nothing."""
    with fresh_database(server_url, template=migrated_template) as url:
        yield url


@pytest.fixture
def platform_url(server_url: str, platform_template: str) -> Iterator[str]:
    """URL of a database for one test, with a catalog that holds nothing, and Dagster's storage."""
    with fresh_database(server_url, template=platform_template) as url:
        yield url


@pytest.fixture
def empty_database_url(server_url: str) -> Iterator[str]:
    """URL of a database for one test, without a catalog."""
    with fresh_database(server_url) as url:
        yield url
