"""Reading the catalog as one value: whole, in part, with rows that are bad, and fast."""

from __future__ import annotations

import time
from datetime import date
from pathlib import Path

import pytest
from sqlalchemy import Connection, event, text

from datasense_assets.catalog.apply import apply_manifest
from datasense_assets.catalog.manifest import Manifest
from datasense_assets.catalog.models import ColumnType, Grain, Snapshot, SourceColumn
from datasense_assets.catalog.sharding import shard_of
from datasense_assets.catalog.snapshot import SnapshotScope, load_snapshot, read_snapshot, save_snapshot
from datasense_assets.catalog.state import DiscoveredTable, pause, read_revision, replace_columns, upsert_tables
from datasense_assets.settings import Shard


@pytest.fixture
def filled(connection: Connection, manifest: Manifest) -> Connection:
    apply_manifest(connection, manifest)
    return connection


def run(connection: Connection, statement: str) -> None:
    connection.execute(text(statement))


def source_id(connection: Connection, slug: str) -> int:
    return int(connection.execute(text("SELECT id FROM datasense.sources WHERE slug = :s"), {"s": slug}).scalar_one())


def test_an_empty_catalog_is_an_empty_snapshot(connection: Connection) -> None:
    assert read_snapshot(connection) == Snapshot(revision=0)


def test_everything_is_there_in_order(filled: Connection) -> None:
    forms = source_id(filled, "health-forms")
    tables = upsert_tables(filled, forms, [DiscoveredTable("aXb3", "Visits", ("m",), date(2021, 5, 6))])
    column = SourceColumn(name="age", key="g/age", label="Age", type=ColumnType.INTEGER, position=0, personal=True)
    replace_columns(filled, tables[0].id, [column])
    (org,) = read_snapshot(filled).organizations
    assert (org.timezone, org.tier, org.own_warehouse, org.paused) == ("Asia/Kolkata", "premium", False, False)
    census, source = org.sources
    assert (census.slug, census.discover_all, census.tables) == ("census", True, ())
    assert [table.slug for table in source.tables] == ["visits", "visits__m", "homes"]
    assert source.tables[0].types == {"age": "integer"}
    assert source.tables[0].columns == (column,)
    assert (source.tables[1].parent, source.tables[1].path) == ("visits", ("m",))
    assert source.partitions.every is Grain.WEEK
    assert [recipe.name for recipe in org.recipes] == ["clean_people", "monthly_visits"]
    assert all(recipe.spec_hash for recipe in org.recipes)
    assert read_snapshot(filled).content_hash == read_snapshot(filled).content_hash


def test_the_first_day_is_as_set_else_the_earliest_known(filled: Connection) -> None:
    census = source_id(filled, "census")
    assert source_of(filled, "health-forms").first_day == date(2024, 1, 1)
    assert source_of(filled, "census").first_day == source_of(filled, "census").created_on
    upsert_tables(filled, census, [DiscoveredTable("v", "V", (), date(2019, 2, 3))])
    assert source_of(filled, "census").first_day == date(2019, 2, 3)


def source_of(connection: Connection, slug: str):
    return next(source for source in read_snapshot(connection).organizations[0].sources if source.slug == slug)


def test_one_statement_reads_it_all(filled: Connection) -> None:
    statements: list[str] = []
    event.listen(filled, "before_cursor_execute", lambda *args: statements.append(args[2]))
    read_snapshot(filled)
    assert len(statements) == 1


BAD_ROWS = {
    "a cron that never comes": """UPDATE datasense.sources SET schedule = '{"cron": "61 6 * * *"}'
        WHERE slug = 'census'""",
    "a column type of another release": """UPDATE datasense.source_tables SET types = '{"a": "money"}'""",
    "a choice without a value": """INSERT INTO datasense.source_columns (table_id, name, key, label, type, position,
        choices) SELECT id, 'c', 'c', 'c', 'text', 0, '[{"labels": {}}]' FROM datasense.source_tables LIMIT 1""",
    "a recipe without inputs": "UPDATE datasense.recipes SET spec = '{}' WHERE name = 'clean_people'",
    "a recipe whose input is nothing": """UPDATE datasense.recipes SET spec = '{"inputs": {"a": "b"}}'
        WHERE name = 'clean_people'""",
    "inputs that are a list": """UPDATE datasense.recipes SET spec = '{"inputs": []}' WHERE name = 'clean_people'""",
}


@pytest.mark.parametrize("what", BAD_ROWS)
def test_a_bad_row_becomes_an_invalid_row_and_the_others_stay(what: str, filled: Connection) -> None:
    run(filled, BAD_ROWS[what])
    (org,) = read_snapshot(filled).organizations
    (bad,) = org.invalid
    assert bad.problems
    assert bad.problems[0].path.startswith(f"{bad.kind}s.{bad.slug}.")
    assert len(org.sources) + len(org.recipes) == 3
    if bad.slug == "health-forms":
        assert bad.tables == ("visits", "homes")


def test_a_time_zone_that_python_does_not_know_makes_the_organisations_rows_invalid(filled: Connection) -> None:
    run(filled, "SET LOCAL session_replication_role = replica")  # as if the zone had been known when it was written
    run(filled, "UPDATE datasense.organizations SET timezone = 'Mars/Base'")
    (org,) = read_snapshot(filled).organizations
    assert org.timezone == "UTC"
    assert len(org.invalid) == 4
    assert "Mars/Base" in str(org.invalid[0].problems[0])


def test_pauses_show(filled: Connection) -> None:
    org_id = filled.execute(text("SELECT id FROM datasense.organizations")).scalar_one()
    pause(filled, org_id, source_id(filled, "census"), reason="", by="me")
    assert [source.paused for source in read_snapshot(filled).organizations[0].sources] == [True, False]
    pause(filled, org_id, reason="", by="me")
    assert read_snapshot(filled).organizations[0].paused


def test_a_scope_reads_its_part(filled: Connection) -> None:
    run(filled, "INSERT INTO datasense.organizations (slug, name) VALUES ('other', 'Other')")
    scope = SnapshotScope(
        sources=frozenset({("clean_water", "health_forms")}), recipes=frozenset({("clean_water", "clean_people")})
    )
    (org,) = read_snapshot(filled, scope=scope).organizations
    assert [source.slug for source in org.sources] == ["health-forms"]
    assert [recipe.name for recipe in org.recipes] == ["clean_people"]
    assert read_snapshot(filled, scope=SnapshotScope()).organizations == ()


def test_shards_part_the_organisations_as_python_reckons_them(connection: Connection) -> None:
    run(
        connection,
        "INSERT INTO datasense.organizations (slug, name) SELECT 'o' || n, 'O' FROM generate_series(1, 60) n",
    )
    slugs = {org.slug for org in read_snapshot(connection).organizations}
    parts = [
        {org.slug for org in read_snapshot(connection, shard=Shard(index=index, count=3)).organizations}
        for index in range(3)
    ]
    assert set.union(*parts) == slugs
    assert sum(map(len, parts)) == 60
    assert parts == [{slug for slug in slugs if shard_of(slug, 3) == index} for index in range(3)]


def test_a_snapshot_is_kept_whole_for_its_owner_alone(filled: Connection, tmp_path: Path) -> None:
    path = tmp_path / "home" / "snapshot.json"
    assert load_snapshot(path) is None
    snapshot = read_snapshot(filled)
    save_snapshot(path, snapshot)
    assert load_snapshot(path) == snapshot
    assert path.stat().st_mode & 0o077 == 0
    assert [each.name for each in path.parent.iterdir()] == ["snapshot.json"]
    path.write_text('{"revision": 1, "organizations": [{}]}')
    assert load_snapshot(path) is None


def test_the_revision_is_the_one_of_the_moment(catalog, manifest: Manifest) -> None:
    with catalog.begin() as connection:
        apply_manifest(connection, manifest)
    with catalog.connect() as connection:
        assert read_snapshot(connection).revision == read_revision(connection).revision == 1


def test_five_thousand_sources_are_read_in_seconds(connection: Connection) -> None:
    for statement in (
        "INSERT INTO datasense.organizations (slug, name) SELECT 'o' || n, 'O' FROM generate_series(1, 1000) n",
        "INSERT INTO datasense.sources (org_id, slug, connector) SELECT id, 's' || n, 'kobo' "
        "FROM datasense.organizations, generate_series(1, 5) n",
        "INSERT INTO datasense.source_tables (source_id, slug, resource) SELECT id, 't', 'r' FROM datasense.sources",
        "INSERT INTO datasense.source_columns (table_id, name, key, label, type, position) "
        "SELECT id, 'c' || n, 'k' || n, 'Label', 'text', n FROM datasense.source_tables, generate_series(1, 10) n",
        """INSERT INTO datasense.recipes (org_id, name, spec)
           SELECT id, 'r' || n, '{"inputs": {"a": "source:s1.t"}}'
           FROM datasense.organizations, generate_series(1, 5) n""",
        "ANALYZE",
    ):
        run(connection, statement)
    started = time.process_time()
    snapshot = read_snapshot(connection)
    spent = time.process_time() - started
    assert sum(len(org.sources) for org in snapshot.organizations) == 5000
    assert spent < 5
    scope = SnapshotScope(sources=frozenset({("o500", "s3")}))
    started = time.perf_counter()
    read_snapshot(connection, scope=scope)
    assert time.perf_counter() - started < 1
