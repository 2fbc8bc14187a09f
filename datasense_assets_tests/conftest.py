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

    return ensure_running(default_home() / "test-server")


@contextmanager
def fresh_database(server_url: str, name: str = "test") -> Iterator[str]:
    """URL of an empty database, dropped when the block ends."""
    database = f"t_{name}_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(database)))
    yield f"{server_url.rpartition('/')[0]}/{database}"
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(database)))


@pytest.fixture
def database_url(server_url: str) -> Iterator[str]:
    """URL of an empty database for one test."""
    with fresh_database(server_url) as url:
        yield url
