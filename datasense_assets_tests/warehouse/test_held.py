"""One connection for a load's transactions: kept while it is used, given up when it is not, or when one fails."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import psycopg
import pytest

from datasense_assets.warehouse import held
from datasense_assets.warehouse.held import HeldConnection
from datasense_assets.warehouse.organizations import prepare_organization
from datasense_assets_tests.warehouse.conftest import Platform


@pytest.fixture
def connection(platform: Platform) -> Iterator[HeldConnection]:
    made = HeldConnection(prepare_organization(platform.catalog, platform.settings, platform.one))
    with made.transaction() as first:
        first.execute("CREATE TABLE notes (said text)")
    yield made
    made.close()


def backend(connection: HeldConnection) -> int:
    with connection.transaction() as opened:
        return opened.info.backend_pid


def said(connection: HeldConnection) -> list[str]:
    with connection.transaction() as opened:
        return [row[0] for row in opened.execute("SELECT said FROM notes ORDER BY 1").fetchall()]


def test_one_transaction_after_the_other_has_the_same_connection(connection: HeldConnection) -> None:
    first = backend(connection)
    with connection.transaction() as opened:
        opened.execute("INSERT INTO notes VALUES ('kept')")
    assert backend(connection) == first
    assert said(connection) == ["kept"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_what_fails_is_undone_and_the_next_begins_anew(connection: HeldConnection, error: type[BaseException]) -> None:
    first = backend(connection)
    with pytest.raises(error), connection.transaction() as opened:
        opened.execute("INSERT INTO notes VALUES ('undone')")
        raise error
    assert opened.closed
    assert said(connection) == []
    assert backend(connection) != first


def test_what_has_not_been_used_for_long_is_not_trusted(
    connection: HeldConnection, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = backend(connection)
    platform.run("SELECT pg_terminate_backend(%s)", first)
    monkeypatch.setattr(held, "STILL_ALIVE_SECONDS", -1.0)
    assert backend(connection) != first


def test_it_is_given_up_while_nobody_knows_when_it_is_needed(
    connection: HeldConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    with connection.transaction() as opened:
        closed = threading.Event()
        close = opened.close

    def note() -> None:
        close()
        closed.set()

    monkeypatch.setattr(opened, "close", note)
    monkeypatch.setattr(held, "_UNUSED_SECONDS", 0.01)
    with connection.unused():
        assert closed.wait(30)
    assert isinstance(opened, psycopg.Connection)
    assert opened.closed
    assert backend(connection)


def test_a_moment_unused_costs_no_connection(connection: HeldConnection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held, "_UNUSED_SECONDS", 600.0)
    first = backend(connection)
    with connection.unused():
        pass
    assert backend(connection) == first
