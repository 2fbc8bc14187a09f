"""What another program's SQL may and may not do to the catalog, and what its triggers add."""

from __future__ import annotations

import json

import psycopg
import pytest
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import IntegrityError

from datasense_assets.catalog.models import bounded_name, identifier, table_name
from datasense_assets.catalog.state import read_revision

ORG = "INSERT INTO datasense.organizations (slug, name) VALUES ('a', 'A') RETURNING id"
SOURCE = "INSERT INTO datasense.sources (org_id, slug, connector) VALUES (:org, 'forms', 'kobo') RETURNING id"
TABLE = "INSERT INTO datasense.source_tables (source_id, slug, resource) VALUES (:source, 'visits', 'x') RETURNING id"
RECIPE = """INSERT INTO datasense.recipes (org_id, name, spec)
VALUES (:org, 'r', '{"inputs": {"z": "source:forms.visits", "a": "recipe:other-one", "bad": "x"}}') RETURNING id"""


@pytest.fixture
def ids(connection: Connection) -> dict[str, int]:
    ids: dict[str, int] = {}
    for name, statement in {"org": ORG, "source": SOURCE, "table": TABLE, "recipe": RECIPE}.items():
        ids[name] = connection.execute(text(statement), ids).scalar_one()
    return ids


REFUSED = {
    "upper-case organisation": "INSERT INTO datasense.organizations (slug, name) VALUES ('Ab', 'x')",
    "slug of 41": f"INSERT INTO datasense.organizations (slug, name) VALUES ('{'a' * 41}', 'x')",
    "organisation twice": "INSERT INTO datasense.organizations (slug, name) VALUES ('a', 'x')",
    "blank name": "INSERT INTO datasense.organizations (slug, name) VALUES ('b', '  ')",
    "abbreviated time zone": "INSERT INTO datasense.organizations (slug, name, timezone) VALUES ('b', 'x', 'IST')",
    "invented time zone": "UPDATE datasense.organizations SET timezone = 'Mars/Base'",
    "unknown tier": "UPDATE datasense.organizations SET tier = 'gold'",
    "plain-text contact": """UPDATE datasense.organizations SET contacts = '["mailto:x"]'""",
    "two kinds of secret": """UPDATE datasense.organizations SET warehouse = '{"env": "A", "file": "b"}'""",
    "renamed organisation": "UPDATE datasense.organizations SET slug = 'c'",
    "reserved source": "INSERT INTO datasense.sources (org_id, slug, connector) VALUES (:org, 'recipes', 'csv')",
    "source twice": "INSERT INTO datasense.sources (org_id, slug, connector) VALUES (:org, 'forms', 'csv')",
    "source of nobody": "INSERT INTO datasense.sources (org_id, slug, connector) VALUES (0, 'x', 'csv')",
    "renamed source": "UPDATE datasense.sources SET slug = 'y'",
    "config that is a list": "UPDATE datasense.sources SET config = '[]'",
    "unknown schedule": """UPDATE datasense.sources SET schedule = '"now"'""",
    "cron without text": """UPDATE datasense.sources SET schedule = '{"cron": ""}'""",
    "cron and more": """UPDATE datasense.sources SET schedule = '{"cron": "* * * * *", "x": 1}'""",
    "cron of six fields": """UPDATE datasense.sources SET schedule = '{"cron": "0 0 6 * * *"}'""",
    "quiet hours in words": """UPDATE datasense.organizations SET alerting = '{"quiet_hours": "9pm-7am"}'""",
    "unknown kind of alert": """UPDATE datasense.organizations SET alerting = '{"kinds": ["failing", "all"]}'""",
    "digest that is a number": """UPDATE datasense.organizations SET alerting = '{"digest": 8}'""",
    "unknown way of telling": """UPDATE datasense.organizations SET alerting = '{"sms": "08:00"}'""",
    "unknown partitions": "UPDATE datasense.sources SET partition_every = 'year'",
    "unknown deletes": "UPDATE datasense.sources SET deletes = 'yes'",
    "table that only differs by dash": "INSERT INTO datasense.source_tables (source_id, slug, resource) "
    "SELECT source_id, 'visits', 'y' FROM datasense.source_tables",
    "table with a dot": "INSERT INTO datasense.source_tables (source_id, slug, resource) VALUES (:source, 'a.b', 'y')",
    "resource twice": "INSERT INTO datasense.source_tables (source_id, slug, resource) VALUES (:source, 'b', 'x')",
    "repeat without parent": "INSERT INTO datasense.source_tables (source_id, slug, resource, path) "
    "VALUES (:source, 'visits__m', 'x', '{m}')",
    "parent of another source": "WITH s AS (INSERT INTO datasense.sources (org_id, slug, connector) "
    "VALUES (:org, 'other', 'csv') RETURNING id) INSERT INTO datasense.source_tables "
    "(source_id, slug, resource, path, parent_id) SELECT id, 'q', 'x', '{m}', :table FROM s",
    "column of unknown type": "INSERT INTO datasense.source_columns (table_id, name, key, label, type, position) "
    "VALUES (:table, 'c', 'c', 'c', 'money', 0)",
    "column name of 64 bytes": "INSERT INTO datasense.source_columns (table_id, name, key, label, type, position) "
    f"VALUES (:table, '{'é' * 32}', 'c', 'c', 'text', 0)",
    "credential in plain text": "INSERT INTO datasense.credentials (source_id, name, reference) "
    """VALUES (:source, 'token', '"s3cret"')""",
    "recipe with two underscores": "INSERT INTO datasense.recipes (org_id, name, spec) VALUES (:org, 'a__b', '{}')",
    "recipe with dash and underscore": "INSERT INTO datasense.recipes (org_id, name, spec) VALUES (:org, 'a-_b', '{}')",
    "recipe that is a list": "INSERT INTO datasense.recipes (org_id, name, spec) VALUES (:org, 'b', '[]')",
    "pause of another's source": "WITH o AS (INSERT INTO datasense.organizations (slug, name) VALUES ('z', 'z') "
    "RETURNING id) INSERT INTO datasense.pauses (org_id, source_id) SELECT id, :source FROM o",
    "pause twice": "INSERT INTO datasense.pauses (org_id) VALUES (:org), (:org)",
    "request of unknown lane": "INSERT INTO datasense.sync_requests (org_id, lane) VALUES (:org, 'fast')",
    "request with half a range": "INSERT INTO datasense.sync_requests (org_id, partition_first) VALUES (:org, 'x')",
    "second revision": "INSERT INTO datasense.revisions (only_row) VALUES (false)",
}


def test_rows_that_the_platform_would_refuse_are_refused(connection: Connection, ids: dict[str, int]) -> None:
    accepted = []
    for what, statement in REFUSED.items():
        try:
            with connection.begin_nested():
                connection.execute(text(statement), ids)
            accepted.append(what)
        except IntegrityError:
            continue
    assert accepted == []


def test_a_source_gets_its_status_and_is_due_at_once(connection: Connection, ids: dict[str, int]) -> None:
    status = connection.execute(text("SELECT replan, next_due_at <= now() AS due FROM datasense.source_status")).one()
    assert (status.replan, status.due) == (True, True)
    assert connection.execute(text("SELECT count(*) FROM datasense.table_status")).scalar() == 1
    assert connection.execute(text("SELECT count(*) FROM datasense.recipe_status")).scalar() == 1


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE datasense.sources SET schedule = '\"hourly\"'",
        "UPDATE datasense.organizations SET timezone = 'Asia/Tokyo'",
    ],
)
def test_another_schedule_or_time_zone_asks_for_a_new_time(
    change: str, connection: Connection, ids: dict[str, int]
) -> None:
    connection.execute(text("UPDATE datasense.source_status SET replan = false"))
    connection.execute(text("UPDATE datasense.sources SET schedule = schedule"))
    assert connection.execute(text("SELECT replan FROM datasense.source_status")).scalar() is False
    connection.execute(text(change))
    assert connection.execute(text("SELECT replan FROM datasense.source_status")).scalar() is True


def test_inputs_follow_the_recipe(connection: Connection, ids: dict[str, int]) -> None:
    query = text(
        "SELECT alias, source_ident, table_ident, recipe_ident, built_version "
        "FROM datasense.recipe_inputs ORDER BY alias"
    )
    assert [tuple(row) for row in connection.execute(query)] == [
        ("a", None, None, "other_one", None),
        ("z", "forms", "visits", None, None),
    ]
    spec = json.dumps({"inputs": {"z": "source:more-forms.a-b"}})
    connection.execute(text("UPDATE datasense.recipes SET spec = :spec"), {"spec": spec})
    assert [tuple(row) for row in connection.execute(query)] == [("z", "more_forms", "a_b", None, None)]


def test_a_changed_spec_has_another_hash(connection: Connection, ids: dict[str, int]) -> None:
    hashes = [connection.execute(text("SELECT spec_hash FROM datasense.recipes")).scalar()]
    for spec in ('{"inputs": {}}', '{"steps": [], "inputs": {}}', '{"inputs": {}, "steps": []}'):
        connection.execute(text("UPDATE datasense.recipes SET spec = :spec"), {"spec": spec})
        hashes.append(connection.execute(text("SELECT spec_hash FROM datasense.recipes")).scalar())
    assert len(set(hashes)) == 4


@pytest.mark.parametrize("slug", ["a", "Visits-2024", "x" * 40, "b" * 57, "c" * 58, "d" * 120])
def test_the_warehouse_name_is_the_one_that_the_loader_uses(
    slug: str, connection: Connection, ids: dict[str, int]
) -> None:
    statement = (
        "INSERT INTO datasense.source_tables (source_id, slug, resource) VALUES (:source, :slug, 'r2') RETURNING *"
    )
    row = connection.execute(text(statement), {**ids, "slug": slug}).one()
    assert row.warehouse_name == table_name("forms", slug) == bounded_name(f"forms__{identifier(slug)}")
    assert row.org_id == ids["org"]


def revision(engine: Engine) -> int:
    with engine.connect() as connection:
        return read_revision(connection).revision


CHANGES = [
    "UPDATE datasense.organizations SET name = 'B'",
    "UPDATE datasense.sources SET config = '{\"a\": 1}'",
    "UPDATE datasense.recipes SET spec = '{\"a\": 1}'",
    "INSERT INTO datasense.source_tables (source_id, slug, resource) SELECT id, 't', 't' FROM datasense.sources",
    "INSERT INTO datasense.source_columns (table_id, name, key, label, type, position) "
    "SELECT id, 'c', 'c', 'c', 'text', 0 FROM datasense.source_tables",
    "UPDATE datasense.source_columns SET label = 'C'",
    "INSERT INTO datasense.pauses (org_id) SELECT id FROM datasense.organizations",
    "DELETE FROM datasense.pauses",
    "TRUNCATE datasense.recipes CASCADE",
    "DELETE FROM datasense.organizations",
]
NO_CHANGES = [
    "UPDATE datasense.organizations SET name = name",
    "UPDATE datasense.recipes SET spec = spec",
    "UPDATE datasense.pauses SET reason = 'other', probe_at = now()",
    "UPDATE datasense.source_status SET next_due_at = now()",
    "UPDATE datasense.table_status SET row_count = 3",
]


def test_each_transaction_that_changes_what_exists_moves_the_revision_once(catalog: Engine) -> None:
    with catalog.begin() as connection:
        org = connection.execute(text(ORG)).scalar_one()
        connection.execute(text(SOURCE), {"org": org})
        connection.execute(
            text("INSERT INTO datasense.recipes (org_id, name, spec) VALUES (:org, 'r', '{}')"), {"org": org}
        )
    assert revision(catalog) == 1
    for expected, statement in enumerate(CHANGES, start=2):
        with catalog.begin() as connection:
            connection.execute(text(statement))
        assert revision(catalog) == expected, statement


def test_a_write_that_changes_nothing_leaves_the_revision(catalog: Engine) -> None:
    with catalog.begin() as connection:
        org = connection.execute(text(ORG)).scalar_one()
        source = connection.execute(text(SOURCE), {"org": org}).scalar_one()
        connection.execute(text(TABLE), {"source": source})
        connection.execute(
            text("INSERT INTO datasense.recipes (org_id, name, spec) VALUES (:org, 'r', '{}')"), {"org": org}
        )
        connection.execute(text("INSERT INTO datasense.pauses (org_id) VALUES (:org)"), {"org": org})
    for statement in NO_CHANGES:
        with catalog.begin() as connection:
            connection.execute(text(statement))
        assert revision(catalog) == 1, statement


def test_listeners_are_told_the_revision(catalog: Engine, database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as listener:
        listener.execute("LISTEN datasense_revision")
        with catalog.begin() as connection:
            connection.execute(text(ORG))
        heard = [each.payload for each in listener.notifies(timeout=10, stop_after=1)]
    assert heard == ["1"]


def test_a_program_with_rights_on_its_tables_alone_can_write(catalog: Engine) -> None:
    with catalog.begin() as connection:
        connection.execute(text("DROP ROLE IF EXISTS datasense_test_web"))
        connection.execute(text("CREATE ROLE datasense_test_web"))
        connection.execute(text("GRANT USAGE ON SCHEMA datasense TO datasense_test_web"))
        for table in ("organizations", "sources", "source_tables", "recipes"):
            connection.execute(text(f"GRANT SELECT, INSERT, UPDATE ON datasense.{table} TO datasense_test_web"))
    try:
        with catalog.begin() as connection:
            connection.execute(text("SET LOCAL ROLE datasense_test_web"))
            org = connection.execute(text(ORG)).scalar_one()
            source = connection.execute(text(SOURCE), {"org": org}).scalar_one()
            connection.execute(text(TABLE), {"source": source})
            connection.execute(
                text("INSERT INTO datasense.recipes (org_id, name, spec) VALUES (:o, 'r', '{}')"), {"o": org}
            )
        assert revision(catalog) == 1
    finally:
        with catalog.begin() as connection:
            connection.execute(text("DROP OWNED BY datasense_test_web"))
            connection.execute(text("DROP ROLE datasense_test_web"))
