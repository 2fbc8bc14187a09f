"""A world to load from: a connector in memory, a migrated catalog, an organisation with its own role and schema."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

import psycopg
import pyarrow as pa
import pytest
import sqlalchemy as sa
from psycopg import sql
from pydantic import SecretStr

from datasense_assets.catalog.migrate import migrate
from datasense_assets.catalog.models import (
    ColumnType,
    Deletes,
    Organization,
    Partitions,
    Source,
    SourceTable,
)
from datasense_assets.catalog.state import read_tables
from datasense_assets.connectors.base import (
    ColumnInfo,
    Page,
    ReadRequest,
    ReadStats,
    Rejected,
    TableInfo,
    Window,
)
from datasense_assets.connectors.errors import Unavailable
from datasense_assets.ingest.load import Sync, open_sync
from datasense_assets.ingest.report import SyncPlan, TableReport
from datasense_assets.settings import Settings
from datasense_assets.warehouse.database import engine
from datasense_assets.warehouse.organizations import WarehouseTarget, prepare_organization

Row = dict[str, str | None]
START = datetime(2026, 1, 1, tzinfo=UTC)


def at(minutes: int) -> str:
    """A cursor position as the fake writes it: text that sorts as time does."""
    return (START + timedelta(minutes=minutes)).isoformat()


@dataclass
class FakeSource:
    """Rows by resource. A row's `_at` is its cursor position, `_id` its identity; `repeats` are lists of rows."""

    rows: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    columns: dict[str, tuple[ColumnInfo, ...]] = field(default_factory=dict)
    repeats: tuple[str, ...] = ()
    rejected: dict[str, tuple[Rejected, ...]] = field(default_factory=dict)
    history: bool = True
    lag: int = 0
    page_rows: int = 2
    fail_at: dict[str, int] = field(default_factory=dict)
    counts: bool = True
    requests: list[ReadRequest] = field(default_factory=list)
    sweeps: int = 0
    fingerprint: str | None = None
    asked: list[str | None] = field(default_factory=list)

    def open(self) -> FakeConnector:
        return (FakeConnector if self.history else FakeSnapshot)(self)


class FakeConnector:
    """A `Connector` over a `FakeSource`."""

    kind: ClassVar[str] = "fake"
    has_history: ClassVar[bool] = True

    def __init__(self, source: FakeSource) -> None:
        self.source = source
        self.stats = ReadStats()

    def check(self) -> str:
        return "Works."

    def discover(self) -> list[TableInfo]:
        return [info for resource in self.source.rows for info in self.describe(resource)]

    def describe(self, resource: str) -> list[TableInfo]:
        top = TableInfo(resource, resource.title(), self.source.columns.get(resource, ()))
        paths = [tuple(name.split("/")) for name in self.source.repeats]
        return [top, *(TableInfo(resource, path[-1].title(), (), path) for path in paths)]

    def fingerprint(self, resource: str, previous: str | None) -> str | None:
        self.source.asked.append(previous)
        return self.source.fingerprint

    def read(self, request: ReadRequest) -> Iterator[Page]:
        self.source.requests.append(request)
        rows = [row for row in self.source.rows[request.resource] if self._wanted(row, request)]
        cursor = request.cursor
        size = self.source.page_rows
        rejected = self.source.rejected.get(request.resource, ())
        for number, start in enumerate(range(0, max(len(rows), 1), size)):
            if self.source.fail_at.get(request.resource) == number:
                raise Unavailable("The server failed.", advice="Try again.")
            self.stats.api_calls += 1
            chunk = rows[start : start + size]
            moments = [row["_at"] for row in chunk if "_at" in row]
            cursor = max([*moments, *([cursor] if cursor else [])], default=None)
            yield Page((), table([_top(row) for row in chunk]), cursor if self.has_history else None, rejected)
            rejected = ()
            for name in self.source.repeats:
                nested = _repeats(chunk, name.split("/"))
                if nested:
                    yield Page(tuple(name.split("/")), table(nested))

    def _wanted(self, row: dict[str, Any], request: ReadRequest) -> bool:
        if request.window is not None:
            return request.window.start <= datetime.fromisoformat(row["_at"]) < request.window.end
        if request.cursor is not None:
            since = datetime.fromisoformat(request.cursor) - timedelta(minutes=self.source.lag)
            return datetime.fromisoformat(row["_at"]) >= since
        return True

    def count(self, resource: str) -> int | None:
        return len(self.source.rows[resource]) if self.source.counts else None

    def row_ids(self, resource: str) -> Iterator[list[str]]:
        self.source.sweeps += 1
        for row in self.source.rows[resource]:
            yield [row["_id"]]

    def close(self) -> None:
        pass


class FakeSnapshot(FakeConnector):
    has_history: ClassVar[bool] = False


def _top(row: dict[str, Any]) -> Row:
    values = {k: v for k, v in row.items() if not k.startswith("_") and not isinstance(v, list)}
    return {"_ds_row_id": row["_id"], **values}


def _repeats(rows: Sequence[dict[str, Any]], path: list[str], prefix: str = "") -> list[Row]:
    found: list[Row] = []
    for row in rows:
        for index, child in enumerate(row.get(path[0], []), 1):
            row_id = f"{row['_id']}/{path[0]}/{child.get('_id', index)}"
            if path[1:]:
                found += _repeats([{**child, "_id": row_id}], path[1:])
            else:
                values = {k: v for k, v in child.items() if not k.startswith("_") and not isinstance(v, list)}
                found.append({"_ds_row_id": row_id, "_ds_parent_id": row["_id"], "_ds_index": str(index), **values})
    return found


def table(rows: Sequence[Row]) -> pa.Table:
    names = list(dict.fromkeys(name for row in rows for name in row)) or ["_ds_row_id"]
    return pa.table({n: pa.array([row.get(n) for row in rows], pa.string()) for n in names})


@dataclass
class World:
    """One catalog database; organisations are added to it, and synced by the real code."""

    url: str
    catalog: sa.Engine
    settings: Settings
    scratch: Path
    runs: int = 0

    def organization(self, slug: str = "acme", timezone: str = "UTC") -> Organization:
        with self.catalog.begin() as connection:
            org_id = connection.execute(
                sa.text("INSERT INTO datasense.organizations (slug, name, timezone) VALUES (:s, :s, :t) RETURNING id"),
                {"s": slug, "t": timezone},
            ).scalar_one()
        return Organization(id=org_id, slug=slug, name=slug, timezone=timezone)

    def source(
        self,
        org: Organization,
        slug: str = "forms",
        tables: Sequence[str] = ("visits",),
        deletes: Deletes = Deletes.IGNORE,
        types: dict[str, ColumnType] | None = None,
    ) -> Source:
        with self.catalog.begin() as connection:
            source_id = connection.execute(
                sa.text(
                    "INSERT INTO datasense.sources (org_id, slug, connector, discover_all) "
                    "VALUES (:o, :s, 'csv', false) RETURNING id"
                ),
                {"o": org.id, "s": slug},
            ).scalar_one()
            for position, name in enumerate(tables):
                connection.execute(
                    sa.text(
                        "INSERT INTO datasense.source_tables (source_id, org_id, slug, resource, position, types) "
                        "VALUES (:i, :o, :t, :t, :p, cast(:y AS jsonb))"
                    ),
                    {"i": source_id, "o": org.id, "t": name, "p": position, "y": json.dumps(types or {})},
                )
        return Source(
            id=source_id, slug=slug, connector="fake", created_on=date(2026, 1, 1), deletes=deletes,
            partitions=Partitions(),
        )  # fmt: skip

    def target(self, org: Organization) -> WarehouseTarget:
        return prepare_organization(self.catalog, self.settings, org)

    def tables(self, source: Source) -> dict[str, SourceTable]:
        with self.catalog.connect() as connection:
            return {each.slug: each for each in read_tables(connection, source.id)}

    def open(
        self,
        org: Organization,
        source: Source,
        fake: FakeSource,
        *,
        window: Window | None = None,
        full: bool = False,
        fence: int = 1,
    ) -> Sync:
        self.runs += 1
        return open_sync(
            SyncPlan(org, source, f"run-{self.runs}", window, full),
            connector=fake.open(),
            target=self.target(org),
            catalog=self.catalog,
            scratch=self.scratch,
            fence=fence,
        )

    def sync(
        self, org: Organization, source: Source, fake: FakeSource, slug: str = "visits", **how: Any
    ) -> TableReport:
        return self.sync_all(org, source, fake, slug, **how)[0]

    def sync_all(
        self, org: Organization, source: Source, fake: FakeSource, slug: str = "visits", **how: Any
    ) -> list[TableReport]:
        with self.open(org, source, fake, **how) as sync:
            prepared = sync.prepare(self.tables(source)[slug])
            prepared.run()
            return sync.finish(prepared)

    def rows(self, name: str, columns: str = "*", order: str = "_ds_row_id") -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url) as connection:
            return connection.execute(f"SELECT {columns} FROM {name} ORDER BY {order}").fetchall()

    def execute(self, statement: str) -> None:
        with psycopg.connect(self.url) as connection:
            connection.execute(statement)

    def types(self, schema: str, name: str) -> dict[str, str]:
        with psycopg.connect(self.url) as connection:
            query = (
                "SELECT column_name, data_type FROM information_schema.columns "
                "WHERE table_schema = %s AND table_name = %s ORDER BY ordinal_position"
            )
            return dict(connection.execute(query, (schema, name)).fetchall())

    def exists(self, name: str) -> bool:
        with psycopg.connect(self.url) as connection:
            row = connection.execute("SELECT to_regclass(%s) IS NOT NULL", (name,)).fetchone()
            return bool(row and row[0])


@pytest.fixture
def world(database_url: str, tmp_path: Path) -> Iterator[World]:
    catalog = engine(database_url)
    migrate(catalog)
    settings = Settings(home=tmp_path / "home", database_url=SecretStr(database_url), secret_key=None)
    yield World(database_url, catalog, settings, tmp_path / "scratch")
    catalog.dispose()
    with psycopg.connect(database_url) as connection:
        roles = [r[0] for r in connection.execute("SELECT role_name FROM datasense.org_roles").fetchall()]
        roles += [f"read_{role}" for role in roles]
    with psycopg.connect(database_url, autocommit=True) as connection:
        for role in roles:
            if connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (role,)).fetchone():
                connection.execute(sql.SQL("DROP OWNED BY {} CASCADE").format(sql.Identifier(role)))
                connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))


@pytest.fixture
def org(world: World) -> Organization:
    return world.organization()
