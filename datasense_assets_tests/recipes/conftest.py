"""One database for the recipe tests; each test works in a transaction that is rolled back."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql

from datasense_assets_tests.conftest import fresh_database
from datasense_assets_tests.recipes.kitchen import SCHEMA, Kitchen


@pytest.fixture(scope="session")
def recipe_database(server_url: str) -> Iterator[str]:
    with fresh_database(server_url, "recipes") as url:
        yield url


@pytest.fixture(scope="session")
def recipe_connection(recipe_database: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(recipe_database, prepare_threshold=None) as connection:
        yield connection


@pytest.fixture
def kitchen(recipe_connection: psycopg.Connection) -> Iterator[Kitchen]:
    recipe_connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(SCHEMA)))
    recipe_connection.execute("SET LOCAL timezone = 'Asia/Kolkata'")
    yield Kitchen(recipe_connection)
    recipe_connection.rollback()
