"""Discovery: what a source says it has, as tables and columns of the catalog."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine

from datasense_assets.catalog.migrate import migrate
from datasense_assets.catalog.models import ColumnType, Organization, Source
from datasense_assets.catalog.state import read_tables, record_load
from datasense_assets.connectors.base import ColumnInfo, TableInfo
from datasense_assets.connectors.errors import CredentialRefused
from datasense_assets.ingest.discovery import discover_tables
from datasense_assets.warehouse.database import engine


@dataclass
class Shown:
    """A connector that only shows tables."""

    tables: Sequence[TableInfo] = ()
    fails: Exception | None = None
    asked: list[str] = field(default_factory=list)

    def discover(self) -> list[TableInfo]:
        if self.fails is not None:
            raise self.fails
        self.asked.append("*")
        return list(self.tables)

    def describe(self, resource: str) -> list[TableInfo]:
        self.asked.append(resource)
        return [table for table in self.tables if table.resource == resource]


@dataclass
class Discovery:
    """A source in a migrated catalog, and discovery of it."""

    catalog: Engine
    org: Organization
    source: Source

    def __call__(self, connector: Any) -> list[Any]:
        return discover_tables(self.catalog, self.org, self.source, connector)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with self.catalog.connect() as connection:
            return [tuple(row) for row in connection.exec_driver_sql(query)]


@pytest.fixture
def discovery(database_url: str) -> Any:
    catalog = engine(database_url)
    migrate(catalog)
    slug = f"org-{uuid.uuid4().hex[:6]}"
    with psycopg.connect(database_url) as connection:
        (org_id,) = connection.execute(
            "INSERT INTO datasense.organizations (slug, name) VALUES (%s, 'One') RETURNING id", (slug,)
        ).fetchone() or (0,)
        (source_id,) = connection.execute(
            "INSERT INTO datasense.sources (org_id, slug, connector) VALUES (%s, 'forms', 'kobo') RETURNING id",
            (org_id,),
        ).fetchone() or (0,)
    source = Source(id=source_id, slug="forms", connector="kobo", created_on=date(2026, 1, 1), discover_all=True)
    yield Discovery(catalog, Organization(id=org_id, slug=slug, name="One"), source)
    catalog.dispose()


def column(key: str, kind: ColumnType | None = ColumnType.TEXT, **more: Any) -> ColumnInfo:
    return ColumnInfo(key=key, label=key, type=kind, **more)


def test_tables_are_named_after_their_titles_in_any_script(discovery: Discovery) -> None:
    tables = [
        TableInfo("a1", "जल स्रोत निरीक्षण", (column("x"),)),
        TableInfo("a2", "Water points", (column("x"),)),
        TableInfo("a3", "Water points", (column("x"),)),
        TableInfo("a2", "Tests", (column("x"),), path=("tests",)),
    ]
    found = {(table.resource, table.path): table.slug for table in discovery(Shown(tables))}
    assert found["a2", ()] == "water_points"
    assert found["a3", ()] == "water_points_2"
    assert found["a2", ("tests",)] == "water_points__tests"
    assert found["a1", ()].isascii()
    assert len(found["a1", ()]) <= 40


def test_slugs_stay_when_titles_change(discovery: Discovery) -> None:
    (before,) = discovery(Shown([TableInfo("a1", "Visits", (column("x"),))]))
    (after,) = discovery(Shown([TableInfo("a1", "Visits 2026", (column("x"),))]))
    assert (after.id, after.slug, after.title) == (before.id, "visits", "Visits 2026")


def test_declared_columns_are_noted_with_their_labels(discovery: Discovery) -> None:
    columns = (
        column("group/नाम", labels={"hi": "नाम"}, personal=True),
        column("group/name"),
        column("age", ColumnType.INTEGER),
    )
    (table,) = discovery(Shown([TableInfo("a1", "People", columns)]))
    assert [c.key for c in table.columns] == ["group/नाम", "group/name", "age"]
    assert len({c.name for c in table.columns}) == 3
    assert all(c.name.isascii() for c in table.columns)
    assert table.columns[0].personal
    assert table.columns[2].type is ColumnType.INTEGER


def test_columns_of_unknown_type_are_left_to_the_first_load(discovery: Discovery) -> None:
    (table,) = discovery(Shown([TableInfo("towns.csv", "towns", (column("code", None), column("town", None)))]))
    assert table.columns == ()


def test_columns_of_a_loaded_table_are_not_touched(discovery: Discovery) -> None:
    (table,) = discovery(Shown([TableInfo("a1", "People", (column("age"),))]))
    with discovery.catalog.begin() as connection:
        record_load(
            connection,
            table.id,
            run_id="r",
            row_count=1,
            rows_loaded=1,
            rejected=0,
            content_hash=None,
            changed=True,
            fresh_as_of=None,
        )
    (after,) = discovery(Shown([TableInfo("a1", "People", (column("age", ColumnType.INTEGER), column("new")))]))
    assert after.columns == table.columns


def test_a_second_discovery_moves_no_revision(discovery: Discovery) -> None:
    shown = Shown([TableInfo("a1", "People", (column("age"),), history_start=date(2025, 1, 1))])
    discovery(shown)
    revision = discovery.rows("SELECT revision FROM datasense.revisions")
    discovery(shown)
    assert discovery.rows("SELECT revision FROM datasense.revisions") == revision


def test_only_listed_resources_are_asked_for(discovery: Discovery) -> None:
    discovery(Shown([TableInfo("a1", "One", ()), TableInfo("a2", "Two", ())]))
    with discovery.catalog.begin() as connection:
        connection.exec_driver_sql("UPDATE datasense.sources SET discover_all = false")
        connection.exec_driver_sql("DELETE FROM datasense.source_tables WHERE resource = 'a2'")
        tables = read_tables(connection, discovery.source.id)
    discovery.source = discovery.source.model_copy(update={"discover_all": False, "tables": tuple(tables)})
    shown = Shown([TableInfo("a1", "One", ()), TableInfo("a1", "Part", (), path=("part",)), TableInfo("a2", "Two", ())])
    assert [table.slug for table in discovery(shown)] == ["one", "one__part"]
    assert shown.asked == ["a1"]


def test_a_failure_is_recorded_with_its_advice(discovery: Discovery) -> None:
    error = CredentialRefused("The token is refused.", advice="Make a new one.")
    with pytest.raises(CredentialRefused):
        discovery(Shown(fails=error))
    assert discovery.rows(
        "SELECT failure_kind, failure_message, failure_advice, failures_in_a_row, discovered_at"
        " FROM datasense.source_status"
    ) == [("credential_refused", "The token is refused.", "Make a new one.", 1, None)]
    discovery(Shown([TableInfo("a1", "One", ())]))
    ((kind, discovered_at),) = discovery.rows("SELECT failure_kind, discovered_at FROM datasense.source_status")
    assert kind is None
    assert discovered_at is not None
