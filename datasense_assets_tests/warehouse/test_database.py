"""Connections: which database, what is said when it cannot be used, and never the password."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from sqlalchemy import text

from datasense_assets.settings import Settings
from datasense_assets.warehouse import database
from datasense_assets.warehouse.database import DatabaseUnavailable, connect, database_url, engine, normalized_url


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg2"])
def test_every_usual_spelling_of_the_url_is_understood(scheme: str, tmp_path: Path) -> None:
    settings = Settings.model_validate({"home": tmp_path, "database_url": f"{scheme}://u:p@h:5433/d?sslmode=require"})
    assert database_url(settings) == "postgresql://u:p@h:5433/d?sslmode=require"


@pytest.mark.parametrize(
    "url", ["mysql://u:secretpw@h/d", "postgresql://u:secretpw@h", "secretpw", "postgresql://u:secretpw@h:x/d"]
)
def test_what_is_no_postgres_url_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(DatabaseUnavailable, match="DATASENSE_DATABASE_URL") as caught:
        normalized_url(url, "DATASENSE_DATABASE_URL")
    assert "secretpw" not in str(caught.value)


def test_refused_login_names_the_place_and_hides_the_password(server_url: str) -> None:
    parts = urlsplit(server_url)
    url = f"postgresql://nobody-here:s%40cret-pw@{parts.hostname}:{parts.port}/postgres"
    with pytest.raises(DatabaseUnavailable) as caught:
        connect(url).execute("SELECT 1 / (current_user <> 'nobody-here')::int")
    message = str(caught.value)
    assert f"{parts.hostname}:{parts.port}" in message
    assert "cret-pw" not in message
    assert caught.value.__cause__ is None


def test_absent_server_is_unavailable() -> None:
    with pytest.raises(DatabaseUnavailable, match=r"127\.0\.0\.1:1 cannot be used"):
        connect("postgresql://u:p@127.0.0.1:1/d")


def test_a_connection_of_the_pool_that_the_server_has_closed_is_replaced(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = engine(database_url)
    with pool.connect() as connection:
        first = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
    with pool.connect() as connection:
        assert connection.execute(text("SELECT pg_backend_pid()")).scalar_one() == first
    with connect(database_url, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s)", (first,))
    # as if it had waited for long
    monkeypatch.setattr(database, "STILL_ALIVE_SECONDS", 0.0)
    with pool.connect() as connection:
        assert connection.execute(text("SELECT pg_backend_pid()")).scalar_one() != first
    pool.dispose()


def test_server_older_than_supported_is_refused(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "OLDEST_SERVER", 99)
    with pytest.raises(DatabaseUnavailable, match="needs PostgreSQL 99"):
        connect(database_url)


def test_sessions_prepare_nothing_and_say_who_they_are(database_url: str) -> None:
    with connect(database_url) as connection:
        for _ in range(10):
            connection.execute("SELECT 1")
        assert connection.execute("SELECT count(*) FROM pg_prepared_statements").fetchone() == (0,)
        assert connection.execute("SHOW application_name").fetchone() == ("datasense",)


def test_engine_is_one_a_url_and_survives_a_fork(database_url: str) -> None:
    made = engine(database_url)
    assert engine(database_url) is made
    with made.connect() as connection:
        before = connection.execute(text("SELECT pg_backend_pid()")).scalar()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        with made.connect() as connection:
            os.write(writer, str(connection.execute(text("SELECT pg_backend_pid()")).scalar()).encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert int(os.read(reader, 100)) != before
    with made.connect() as connection:
        assert connection.execute(text("SELECT pg_backend_pid()")).scalar() == before
    made.dispose()
