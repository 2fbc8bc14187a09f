"""Syncs of real connectors against stand-ins that answer wrongly, into one database for all cases of a module.

A case is (what goes wrong, the failure that the sync must end with). Whatever it is, the sync either loads exactly what
the source has, or fails with a clear error of that type and leaves the table and its cursor as they were; and the next
sync, with nothing wrong any more, is exact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from pydantic import SecretStr

from datasense_assets.catalog.migrate import migrate
from datasense_assets.catalog.models import Deletes, Organization, Source
from datasense_assets.connectors import NetworkPolicy, http, open_connector
from datasense_assets.connectors.base import Connector
from datasense_assets.connectors.errors import SourceError
from datasense_assets.settings import Settings
from datasense_assets.warehouse.database import engine
from datasense_assets_tests.conftest import fresh_database
from datasense_assets_tests.ingest.conftest import World

# Seconds of silence that are too many, in the cases that are about silence; a right answer may be slow in coming.
SILENCE, PATIENCE = 1.0, 60.0
Rows = list[tuple[Any, ...]]
_numbers = count(1)


class Rig:
    """One source of one kind; `columns` are compared with what `expected()` says the source has, in their order."""

    def __init__(
        self,
        world: World,
        org: Organization,
        kind: str,
        config: Mapping[str, Any],
        credentials: Mapping[str, str],
        columns: str,
        expected: Callable[[], Rows],
    ) -> None:
        self.world, self.org = world, org
        self.source: Source = world.source(org, slug=f"s{next(_numbers)}", deletes=Deletes.REMOVE)
        self.columns, self.expected, self.timeout = columns, expected, PATIENCE
        self._how = (kind, config, credentials)
        self.table = f"org_{org.slug}.{self.source.slug}__visits"

    def open(self) -> Connector:
        kind, config, credentials = self._how
        policy = NetworkPolicy(allow_private_addresses=True, timeout=self.timeout, scratch=self.world.scratch)
        return open_connector(kind, config, credentials, policy)

    def sync(self, *, full: bool = False) -> None:
        self.world.sync(self.org, self.source, self, full=full)  # type: ignore[arg-type]  # it only opens it

    def rows(self) -> Rows:
        return self.world.rows(self.table, self.columns, self.columns)

    def state(self) -> tuple[Any, ...]:
        """All that a failed sync may not touch."""
        cursor = "SELECT value, boundary::text FROM datasense.cursors c JOIN datasense.source_tables t ON t.id = "
        query = f"({cursor} c.table_id WHERE t.source_id = {self.source.id}) x"
        return self.world.rows(self.table, "*"), self.world.rows(query, "*", "1")

    def check(self, error: type[SourceError] | None, *, full: bool, mend: Callable[[], None], case: str = "") -> None:
        before = self.state()
        self.timeout = SILENCE if "silence" in case else PATIENCE
        if error is None:
            self.sync(full=full)
        else:
            with pytest.raises(SourceError) as caught:
                self.sync(full=full)
            assert type(caught.value) is error
            assert caught.value.message
            assert caught.value.advice
            assert self.state() == before
        mend()
        self.timeout = PATIENCE
        self.sync()
        assert self.rows() == sorted(self.expected())


@pytest.fixture(scope="module")
def world(server_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder: Path = tmp_path_factory.mktemp("faults")
    with fresh_database(server_url, "faults") as url:
        catalog = engine(url)
        migrate(catalog)
        settings = Settings(home=folder / "home", database_url=SecretStr(url), secret_key=None)
        yield World(url, catalog, settings, folder / "scratch")
        catalog.dispose()
        _drop_roles(url)


def _drop_roles(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for (role,) in connection.execute("SELECT role_name FROM datasense.org_roles").fetchall():
            for name in (role, f"read_{role}"):
                if connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (name,)).fetchone():
                    connection.execute(sql.SQL("DROP OWNED BY {} CASCADE").format(sql.Identifier(name)))
                    connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


@pytest.fixture(scope="module")
def org(world: World) -> Organization:
    return world.organization(f"faults{next(_numbers)}")


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "pause", lambda seconds: None)
