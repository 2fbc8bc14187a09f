"""Walls between organisations, seen from inside each of them."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from urllib.parse import urlsplit

import psycopg
import pytest
from cryptography.fernet import Fernet
from psycopg import sql

from datasense_assets.catalog.migrate import migrate
from datasense_assets.catalog.models import Organization, org_schema
from datasense_assets.settings import Settings
from datasense_assets.warehouse.database import connect, engine
from datasense_assets.warehouse.errors import WarehouseError
from datasense_assets.warehouse.organizations import WarehouseTarget, prepare_organization

from .conftest import Platform


def prepare(platform: Platform, org: Organization) -> WarehouseTarget:
    return prepare_organization(platform.catalog, platform.settings, org)


def fill(target: WarehouseTarget, table: str = "forms__people") -> None:
    with target.connect() as connection:
        connection.execute(sql.SQL("CREATE TABLE {} AS SELECT 1 AS n").format(sql.Identifier(target.schema, table)))


def read(connection: psycopg.Connection, schema: str, table: str) -> object:
    row = connection.execute(sql.SQL("SELECT n FROM {}").format(sql.Identifier(schema, table))).fetchone()
    return row and row[0]


def test_organization_logs_in_as_itself_and_owns_its_schemas(platform: Platform) -> None:
    target = prepare(platform, platform.one)
    assert target.schema == target.user == org_schema(platform.one.slug)
    fill(target)
    with target.connect() as connection:
        assert read(connection, target.schema, "forms__people") == 1
        connection.execute(sql.SQL("CREATE TABLE {} (n int)").format(sql.Identifier(target.staging_schema, "t")))
    assert target.password.get_secret_value() not in repr(target)


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM {other}.forms__people",
        "INSERT INTO {other}.forms__people VALUES (2)",
        "DROP TABLE {other}.forms__people",
        "CREATE TABLE {other}.mine (n int)",
        "CREATE TABLE {staging}.mine (n int)",
        "SELECT * FROM datasense.organizations",
        "SELECT * FROM datasense.org_roles",
        "UPDATE datasense.organizations SET name = 'x'",
        "CREATE TABLE public.mine (n int)",
        "CREATE SCHEMA mine",
        "CREATE ROLE mine",
        "SET ROLE {other}",
        "GRANT {other} TO {own}",
    ],
)
def test_no_way_leads_through_the_wall(platform: Platform, statement: str) -> None:
    own, other = prepare(platform, platform.one), prepare(platform, platform.two)
    fill(other)
    names = {"own": own.schema, "other": other.schema, "staging": other.staging_schema}
    with (
        own.connect() as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute(
            sql.SQL(statement).format(**{k: sql.Identifier(v) for k, v in names.items()})  # type: ignore[arg-type]
        )


def test_read_role_reads_tables_old_and_new_and_writes_none(platform: Platform) -> None:
    own, other = prepare(platform, platform.one), prepare(platform, platform.two)
    fill(own)
    fill(other)
    assert own.read_role is not None
    with connect(platform.url) as connection:
        connection.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(own.read_role)))
        assert read(connection, own.schema, "forms__people") == 1
        for statement in ("INSERT INTO {}.forms__people VALUES (2)", "CREATE TABLE {}.mine (n int)"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege), connection.transaction():
                connection.execute(sql.SQL(statement).format(sql.Identifier(own.schema)))
        with pytest.raises(psycopg.errors.InsufficientPrivilege), connection.transaction():
            read(connection, other.schema, "forms__people")
    with pytest.raises(WarehouseError):
        replace(own, user=own.read_role).connect()


def test_preparing_again_or_at_once_changes_nothing(platform: Platform) -> None:
    targets = []
    threads = [
        threading.Thread(target=lambda org=org: targets.append(prepare(platform, org)))  # type: ignore[misc]
        for org in (platform.one, platform.two) * 3
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(targets) == 6
    assert {t.user for t in targets} == {org_schema(platform.one.slug), org_schema(platform.two.slug)}
    assert len({t.password.get_secret_value() for t in targets}) == 2
    assert prepare(platform, platform.one) in targets


def test_password_is_kept_encrypted_and_a_lost_key_gives_a_new_one(platform: Platform) -> None:
    first = prepare(platform, platform.one)
    ((kept,),) = platform.run("SELECT password_encrypted FROM datasense.org_roles")
    assert first.password.get_secret_value() not in str(kept)
    key = Fernet.generate_key().decode()
    changed = Settings.model_validate({**dict(platform.settings), "secret_key": key})
    second = prepare_organization(platform.catalog, changed, platform.one)
    assert second.password != first.password
    with second.connect() as connection:
        assert connection.execute("SELECT current_user").fetchone() == (first.user,)


def test_role_of_another_installation_is_never_taken_over(platform: Platform) -> None:
    stranger = org_schema(platform.one.slug)
    platform.run(f"CREATE ROLE {stranger} LOGIN")
    target = prepare(platform, platform.one)
    assert target.user == hashed(target)
    assert target.schema == stranger
    assert platform.run("SELECT rolpassword IS NULL FROM pg_authid WHERE rolname = %s", stranger) == [(True,)]
    fill(target)


@pytest.fixture
def neighbour(platform: Platform, server_url: str) -> Iterator[Platform]:
    """A platform in another database of the same server, with organisations of the same names."""
    name = f"n_{uuid.uuid4().hex[:12]}"
    url = f"{server_url.rpartition('/')[0]}/{name}"
    with connect(server_url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    catalog = engine(url)
    migrate(catalog)
    made = replace(platform, url=url, catalog=catalog)
    for org in (made.one, made.two):
        made.run("INSERT INTO datasense.organizations (slug, name) VALUES (%s, 'n')", org.slug)
    yield made
    catalog.dispose()
    with connect(server_url, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def works(target: WarehouseTarget) -> bool:
    with target.connect() as connection:
        return connection.execute("SELECT current_user").fetchone() == (target.user,)


def hashed(target: WarehouseTarget) -> str:
    return f"{target.schema}_{sha256(target.database.encode()).hexdigest()[:8]}"


def test_databases_of_one_server_keep_roles_of_their_own(platform: Platform, neighbour: Platform) -> None:
    first, second = prepare(platform, platform.one), prepare(neighbour, neighbour.one)
    assert (first.user, second.user) == (first.schema, hashed(second))
    assert first.schema == second.schema
    for mine, target in ((platform, first), (neighbour, second)):
        assert prepare(mine, mine.one) == target
        assert works(target)


def test_a_role_that_another_database_is_making_is_waited_for_and_left_to_it(
    platform: Platform, neighbour: Platform
) -> None:
    targets: list[WarehouseTarget] = []
    schema = org_schema(neighbour.one.slug)
    thread = threading.Thread(target=lambda: targets.append(prepare(neighbour, neighbour.one)))
    with connect(platform.url) as connection:
        connection.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(schema)))
        thread.start()
        waiting = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE %s"
        while not platform.run(waiting, f'CREATE ROLE "{schema}"%'):
            assert thread.is_alive()
    thread.join()
    assert [target.user for target in targets] == [hashed(targets[0])]
    assert works(targets[0])


def test_first_organisations_of_databases_at_once(platform: Platform, neighbour: Platform) -> None:
    targets = []
    barrier = threading.Barrier(4)

    def at_once(mine: Platform, org: Organization) -> None:
        barrier.wait()
        targets.append(prepare(mine, org))

    pairs = [(mine, org) for org in (platform.one, platform.two) for mine in (platform, neighbour)]
    threads = [threading.Thread(target=at_once, args=pair) for pair in pairs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({target.user for target in targets}) == 4
    assert all(works(target) for target in targets)


def test_a_copy_of_the_database_gets_a_role_of_its_own_with_its_tables(platform: Platform, server_url: str) -> None:
    original = prepare(platform, platform.one)
    fill(original)
    platform.catalog.dispose()
    name = f"c_{uuid.uuid4().hex[:12]}"
    names = {"copy": sql.Identifier(name), "of": sql.Identifier(original.database)}
    with connect(server_url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {copy} TEMPLATE {of}").format(**names))
    url = f"{server_url.rpartition('/')[0]}/{name}"
    copy = replace(platform, url=url, catalog=engine(url))
    try:
        target = prepare(copy, copy.one)
        assert target.user == hashed(target)
        fill(target, "forms__more")
        with target.connect() as connection:
            connection.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier(target.schema, "forms__people")))
        assert prepare(platform, platform.one) == original
        assert works(original)
    finally:
        copy.catalog.dispose()
        with connect(server_url, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE {copy} WITH (FORCE)").format(**names))


def test_a_renamed_database_keeps_its_role_and_one_of_its_old_name_does_not_get_it(
    platform: Platform, server_url: str
) -> None:
    before = prepare(platform, platform.one)
    platform.catalog.dispose()
    name = f"r_{uuid.uuid4().hex[:12]}"
    names = {"new": sql.Identifier(name), "old": sql.Identifier(before.database)}
    with connect(server_url, autocommit=True) as connection:
        connection.execute(sql.SQL("ALTER DATABASE {old} RENAME TO {new}").format(**names))
    url = f"{server_url.rpartition('/')[0]}/{name}"
    renamed = replace(platform, url=url, catalog=engine(url))
    try:
        assert prepare(renamed, renamed.one) == replace(before, database=name)
        with connect(server_url, autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {old}").format(**names))
        migrate(platform.catalog)
        platform.run("INSERT INTO datasense.organizations (slug, name) VALUES (%s, 'n')", platform.one.slug)
        stranger = prepare(platform, platform.one)
        assert stranger.user == hashed(stranger)
        assert works(stranger)
        assert works(replace(before, database=name))
    finally:
        renamed.catalog.dispose()
        with connect(server_url, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE {new} WITH (FORCE)").format(**names))


def test_all_names_taken_is_a_message_that_names_them(platform: Platform) -> None:
    schema = org_schema(platform.one.slug)
    own = f"{schema}_{sha256(urlsplit(platform.url).path[1:].encode()).hexdigest()[:8]}"
    for role in (schema, own):
        platform.run(f"CREATE ROLE {role}")
    with pytest.raises(WarehouseError, match=f"{schema} and {own} that are not of organisation"):
        prepare(platform, platform.one)


def test_schema_of_somebody_else_is_named_and_left(platform: Platform) -> None:
    schema = org_schema(platform.one.slug)
    platform.run(f"CREATE SCHEMA {schema}")
    with pytest.raises(WarehouseError, match=f"Schema {schema} belongs to the role"):
        prepare(platform, platform.one)
    assert platform.run("SELECT * FROM datasense.org_roles") == []


def test_organization_added_again_gets_its_old_tables_back(platform: Platform) -> None:
    fill(prepare(platform, platform.one))
    platform.run("DELETE FROM datasense.organizations WHERE id = %s", platform.one.id)
    with pytest.raises(WarehouseError, match="not in the catalog"):
        prepare(platform, platform.one)
    ((org_id,),) = platform.run(
        "INSERT INTO datasense.organizations (slug, name) VALUES (%s, 'again') RETURNING id", platform.one.slug
    )
    target = prepare(platform, platform.one.model_copy(update={"id": org_id}))
    with target.connect() as connection:
        assert read(connection, target.schema, "forms__people") == 1


def test_ordinary_database_user_with_createrole_is_enough(platform: Platform) -> None:
    user = f"owner_{platform.one.slug[4:]}"
    database = urlsplit(platform.url).path.strip("/")
    platform.run(f"CREATE ROLE {user} LOGIN CREATEROLE PASSWORD 'pw-of-owner'")
    platform.run(f"ALTER DATABASE {database} OWNER TO {user}")
    platform.run(f"GRANT ALL ON SCHEMA datasense TO {user}")
    platform.run(f"GRANT ALL ON ALL TABLES IN SCHEMA datasense TO {user}")
    parts = urlsplit(platform.url)
    url = f"postgresql://{user}:pw-of-owner@{parts.hostname}:{parts.port}/{database}"
    catalog = engine(url)
    try:
        fill(prepare_organization(catalog, platform.settings, platform.one))
    finally:
        catalog.dispose()
        platform.run(f"ALTER DATABASE {database} OWNER TO CURRENT_USER")


def test_own_warehouse_is_used_with_its_own_user(platform: Platform, server_url: str) -> None:
    user = f"ngo_{platform.one.slug[4:]}"
    database = urlsplit(platform.url).path.strip("/")
    platform.run(f"CREATE ROLE {user} LOGIN PASSWORD 'pw-of-ngo'")
    parts = urlsplit(platform.url)
    url = f"postgresql://{user}:pw-of-ngo@{parts.hostname}:{parts.port}/{database}"
    secret = platform.settings.home / "warehouse.url"
    secret.write_text(url)
    platform.run(
        "UPDATE datasense.organizations SET warehouse = jsonb_build_object('file', %s::text) WHERE id = %s",
        str(secret),
        platform.one.id,
    )
    with pytest.raises(WarehouseError, match=f"GRANT CREATE ON DATABASE {database} TO {user}"):
        prepare(platform, platform.one)
    platform.run(f"GRANT CREATE ON DATABASE {database} TO {user}")
    target = prepare(platform, platform.one)
    assert (target.user, target.read_role) == (user, None)
    fill(target)
    assert prepare(platform, platform.one) == target


def test_loader_finds_its_own_tables_ready_and_as_it_would_make_them(platform: Platform) -> None:
    import dlt
    from dlt.destinations import postgres
    from dlt.destinations.impl.postgres.configuration import PostgresCredentials

    from datasense_assets.warehouse.organizations import STAGING_LAYOUT

    target = prepare(platform, platform.one)
    shape = (
        "SELECT table_name, column_name, data_type, is_nullable FROM information_schema.columns"
        " WHERE table_schema = %s AND table_name LIKE '\\_dlt%%' ORDER BY table_name, ordinal_position"
    )
    before = platform.run(shape, target.schema)
    bare = "loader_makes_it"

    def load(schema: str) -> None:
        credentials = PostgresCredentials()
        credentials.parse_native_representation(target.url().get_secret_value())
        pipeline = dlt.pipeline(
            f"p_{schema}",
            pipelines_dir=str(platform.settings.home / schema),
            destination=postgres(credentials, staging_dataset_name_layout=STAGING_LAYOUT),
            dataset_name=schema,
        )
        rows = dlt.resource(
            [{"id": 1}],
            name="t",
            primary_key="id",
            write_disposition={"disposition": "merge", "strategy": "delete-insert"},
        )
        # whatever settings an earlier test of this process gave dlt
        pipeline.config.restore_from_destination = True
        pipeline.run(rows)

    load(target.schema)
    platform.run(f"GRANT CREATE ON DATABASE {target.database} TO {target.user}")
    load(bare)
    assert before == platform.run(shape, target.schema) == platform.run(shape, bare)
    assert len(before) > 0
