"""Replacing a table: all or nothing for readers, and nothing people hung on it is lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql

from datasense_assets.warehouse.columns import ColumnSpec, IndexSpec
from datasense_assets.warehouse.database import connect
from datasense_assets.warehouse.reading import fetch_rows, row_count, table_columns, table_exists
from datasense_assets.warehouse.swap import (
    LimitExceeded,
    SessionLimits,
    SwapRefused,
    TableBusy,
    replace_table,
)

COLUMNS = (ColumnSpec("id", "bigint", "Number"), ColumnSpec("born", "date"), ColumnSpec("name", "text", "Nom"))
SELECT = "SELECT 1, DATE '2020-01-02', '100 % of {it}'"


@pytest.fixture
def connection(database_url: str) -> Iterator[psycopg.Connection]:
    with connect(database_url, autocommit=True) as made:
        made.execute("CREATE SCHEMA org_a")
        yield made


def replace(connection: psycopg.Connection, select: str = SELECT, **options: object) -> int:
    return replace_table(connection, "org_a", "people", COLUMNS, select, **options).rows  # type: ignore[arg-type]


def one(connection: psycopg.Connection, query: str) -> object:
    row = connection.execute(query).fetchone()  # type: ignore[call-overload]
    return row and row[0]


def test_first_build_has_the_declared_types_comments_and_rows(connection: psycopg.Connection) -> None:
    assert replace(connection, table_comment="People") == 1
    assert [(c.name, c.pg_type, c.comment) for c in table_columns(connection, "org_a", "people")] == [
        ("id", "bigint", "Number"),
        ("born", "date", None),
        ("name", "text", "Nom"),
    ]
    assert [list(row.values())[2] for row in fetch_rows(connection, "org_a", "people")] == ["100 % of {it}"]
    assert one(connection, "SELECT obj_description('org_a.people'::regclass)") == "People"
    assert row_count(connection, "org_a", "people") == 1


def test_limits_end_with_the_transaction(connection: psycopg.Connection) -> None:
    before = [one(connection, f"SHOW {name}") for name in ("statement_timeout", "work_mem", "timezone")]
    replace(connection, limits=SessionLimits(timezone="Asia/Kathmandu", work_mem=99))
    assert [one(connection, f"SHOW {name}") for name in ("statement_timeout", "work_mem", "timezone")] == before


def test_time_zone_of_the_limits_is_that_of_the_select(connection: psycopg.Connection) -> None:
    columns = [ColumnSpec("zone", "text")]
    limits = SessionLimits(timezone="Asia/Kathmandu")
    replace_table(connection, "org_a", "t", columns, "SELECT current_setting('timezone')", limits=limits)
    assert fetch_rows(connection, "org_a", "t") == [{"zone": "Asia/Kathmandu"}]


def test_readers_see_the_old_or_the_new_rows_and_never_a_part(
    database_url: str, connection: psycopg.Connection
) -> None:
    def select(n: int) -> str:
        return f"SELECT i, DATE '2020-01-01', 'v{n}' FROM generate_series(1, 2000) i"

    replace(connection, select(0))
    done = threading.Event()
    seen: set[tuple[object, ...]] = set()
    errors: list[Exception] = []

    def watch() -> None:
        try:
            with connect(database_url, autocommit=True) as reader:
                while not done.is_set():
                    query = "SELECT count(*), count(DISTINCT name), min(name) FROM org_a.people"
                    seen.add(reader.execute(query).fetchone() or ())
        except psycopg.Error as error:
            errors.append(error)

    watchers = [threading.Thread(target=watch) for _ in range(3)]
    for watcher in watchers:
        watcher.start()
    for n in range(1, 16):
        replace(connection, select(n))
    done.set()
    for watcher in watchers:
        watcher.join()
    assert errors == []
    assert len(seen) > 1
    assert {(count, kinds) for count, kinds, _ in seen} == {(2000, 1)}


def test_a_reader_that_takes_long_holds_up_the_swap_and_no_other_reader(
    database_url: str, connection: psycopg.Connection
) -> None:
    replace(connection)
    tries = 0
    built: list[int] = []
    builder = threading.Thread(target=lambda: built.append(replace(connection, "SELECT 2, NULL::date, 'new'")))
    with connect(database_url) as slow, connect(database_url, autocommit=True) as quick:
        slow.execute("SELECT * FROM org_a.people")
        # one try for the lock is a tenth of a second; behind one that waits for the slow reader nobody would come back
        quick.execute("SET statement_timeout = '10s'")
        builder.start()
        end = time.monotonic() + 60
        while tries < 3:
            assert time.monotonic() < end, "no try for the lock was made"
            start = time.perf_counter()
            assert quick.execute("SELECT name FROM org_a.people").fetchall() == [("100 % of {it}",)]
            tries += time.perf_counter() - start > 0.03
        assert built == []
        slow.rollback()
        builder.join(timeout=30)
        assert quick.execute("SELECT name FROM org_a.people").fetchall() == [("new",)]
    assert built == [1]


def test_who_looks_at_the_new_table_can_refuse_it(connection: psycopg.Connection) -> None:
    replace(connection)
    seen: list[object] = []

    def look(inside: psycopg.Connection, name: str, rows: int) -> None:
        seen.extend(fetch_rows(inside, "org_a", name, rows))
        raise SwapRefused("I do not like it.", advice="Another.")

    with pytest.raises(SwapRefused, match="not like"):
        replace(connection, "SELECT 9, NULL::date, 'bad'", staged=look)
    assert seen == [{"id": 9, "born": None, "name": "bad"}]
    assert [row["id"] for row in fetch_rows(connection, "org_a", "people")] == [1]
    assert one(connection, "SELECT count(*) FROM pg_class WHERE relname LIKE '_ds_new%'") == 0


def test_failure_of_any_kind_leaves_the_old_table(connection: psycopg.Connection) -> None:
    replace(connection)
    oid = one(connection, "SELECT 'org_a.people'::regclass::oid")
    for bad in (
        "SELECT 1, 'no date'::date, 'x'",
        "SELECT 1, 'text where a date is declared'::text, 'x'",
        "SELECT 1, nothing, 'x'",
        "SELECT 1/0, NULL::date, 'x'",
        f"{SELECT}; CREATE TABLE org_a.smuggled ()",
    ):
        with pytest.raises(psycopg.Error):
            replace(connection, bad)
    assert one(connection, "SELECT 'org_a.people'::regclass::oid") == oid
    assert connection.execute("SELECT relname FROM pg_class WHERE relname LIKE '\\_ds\\_%'").fetchall() == []
    assert not connection.info.transaction_status


def test_grants_comments_indexes_and_constraints_come_along(connection: psycopg.Connection) -> None:
    replace(connection, table_comment="People")
    role = "swap_reader"
    connection.execute(f"DROP ROLE IF EXISTS {role}")
    connection.execute(f"CREATE ROLE {role}")
    try:
        for statement in (
            f"GRANT SELECT, UPDATE ON org_a.people TO {role} WITH GRANT OPTION",
            f"GRANT INSERT (name) ON org_a.people TO {role}",
            "GRANT SELECT ON org_a.people TO PUBLIC",
            "COMMENT ON COLUMN org_a.people.born IS 'by hand'",
            'CREATE INDEX "odd USING name" ON org_a.people USING hash (name) WHERE id > 0',
            "CREATE UNIQUE INDEX once ON org_a.people (lower(name) DESC) INCLUDE (id)",
            "ALTER TABLE org_a.people ADD CONSTRAINT people_pk PRIMARY KEY (id)",
            "ALTER TABLE org_a.people ADD CONSTRAINT young CHECK (born > '1900-01-01')",
        ):
            connection.execute(statement)
        kept = (
            "SELECT (SELECT relacl::text FROM pg_class WHERE oid = 'org_a.people'::regclass),"
            " (SELECT string_agg(attacl::text, '') FROM pg_attribute WHERE attrelid = 'org_a.people'::regclass),"
            " (SELECT array_agg(indexdef ORDER BY indexdef) FROM pg_indexes WHERE schemaname = 'org_a'),"
            " (SELECT array_agg(conname || pg_get_constraintdef(oid) ORDER BY conname) FROM pg_constraint"
            "   WHERE conrelid = 'org_a.people'::regclass AND contype <> 'n'),"
            " col_description('org_a.people'::regclass, 2), obj_description('org_a.people'::regclass)"
        )
        before = connection.execute(kept).fetchone()
        replace(connection, "SELECT 7, DATE '2020-01-02', 'x'")
        assert connection.execute(kept).fetchone() == before
        assert fetch_rows(connection, "org_a", "people")[0]["id"] == 7
        with pytest.raises(SwapRefused, match=r"people_pk|once"):
            replace(connection, "SELECT 7, NULL::date, 'x' FROM generate_series(1, 2)")
    finally:
        connection.execute(f"DROP OWNED BY {role}")
        connection.execute(f"DROP ROLE {role}")


def test_declared_indexes_are_as_last_declared(connection: psycopg.Connection) -> None:
    query = (
        "SELECT array_agg(d ORDER BY d) FROM pg_indexes, split_part(indexdef, ' USING ', 2) d"
        " WHERE schemaname = 'org_a'"
    )
    for _ in range(2):
        replace(connection, indexes=[IndexSpec(("id",), unique=True), IndexSpec(("born", "name"))])
        assert one(connection, query) == ["btree (born, name)", "btree (id)"]
    replace(connection, indexes=[IndexSpec(("name",))])
    assert one(connection, query) == ["btree (name)"]
    with pytest.raises(SwapRefused, match=r"unique key \(name\)"):
        select = "SELECT i, NULL::date, 'x' FROM generate_series(1, 2) i"
        replace(connection, select, indexes=[IndexSpec(("name",), unique=True)])
    with pytest.raises(ValueError, match="nowhere"):
        replace(connection, indexes=[IndexSpec(("nowhere",))])


def test_index_on_a_column_that_is_gone_goes_with_it(connection: psycopg.Connection) -> None:
    replace(connection)
    connection.execute("CREATE INDEX by_born ON org_a.people (born)")
    connection.execute("CREATE INDEX by_name ON org_a.people (name)")
    replace_table(connection, "org_a", "people", [ColumnSpec("name", "text")], "SELECT 'x'")
    assert one(connection, "SELECT array_agg(indexname) FROM pg_indexes WHERE schemaname = 'org_a'") == ["by_name"]


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        ("CREATE VIEW public.report AS SELECT id FROM org_a.people", "view report"),
        ("CREATE VIEW org_a.report AS SELECT id FROM org_a.people", "view org_a.report"),
        ("CREATE MATERIALIZED VIEW org_a.m AS SELECT id FROM org_a.people", "materialized view org_a.m"),
        (
            "ALTER TABLE org_a.people ADD UNIQUE (id);"
            "CREATE TABLE org_a.other (p bigint CONSTRAINT belongs REFERENCES org_a.people (id))",
            "foreign key belongs of org_a.other",
        ),
        ("CREATE POLICY mine ON org_a.people USING (true)", "policy mine"),
        (
            "CREATE FUNCTION org_a.f() RETURNS bigint LANGUAGE sql BEGIN ATOMIC SELECT max(id) FROM org_a.people; END",
            "function org_a.f()",
        ),
    ],
)
def test_what_would_be_lost_is_named(connection: psycopg.Connection, statement: str, named: str) -> None:
    replace(connection)
    connection.execute(statement)  # type: ignore[call-overload]
    with pytest.raises(SwapRefused) as caught:
        replace(connection, "SELECT 2, NULL::date, 'y'")
    assert named in caught.value.message
    assert fetch_rows(connection, "org_a", "people")[0]["id"] == 1


def test_view_of_the_same_name_is_not_replaced(connection: psycopg.Connection) -> None:
    connection.execute("CREATE VIEW org_a.people AS SELECT 1 AS id")
    with pytest.raises(SwapRefused, match=r"org_a\.people is a view"):
        replace(connection)


def test_table_in_use_is_busy_and_a_slow_statement_is_stopped(
    database_url: str, connection: psycopg.Connection
) -> None:
    replace(connection)
    with connect(database_url) as reader:
        reader.execute("SELECT * FROM org_a.people")
        with pytest.raises(TableBusy, match="in use"):
            replace(connection, limits=SessionLimits(lock_timeout=0.1))
    slow, limits = "SELECT 1, NULL::date, pg_sleep(60)::text", SessionLimits(statement_timeout=0.2)
    with pytest.raises(LimitExceeded, match=r"org_a\.people took longer than 0\.2 s; its old table stays\."):
        replace(connection, slow, limits=limits)
    assert row_count(connection, "org_a", "people") == 1
    connection.execute("DROP TABLE org_a.people")
    with pytest.raises(LimitExceeded, match=r"org_a\.people took longer than 0\.2 s; there is no table yet\."):
        replace(connection, slow, limits=limits)


def test_two_builders_of_one_table_take_turns(database_url: str, connection: psycopg.Connection) -> None:
    failures: list[Exception] = []

    def build(n: int) -> None:
        try:
            with connect(database_url) as own:
                replace(own, f"SELECT {n}, NULL::date, 'x'")
        except psycopg.Error as error:
            failures.append(error)

    builders = [threading.Thread(target=build, args=(n,)) for n in range(6)]
    for builder in builders:
        builder.start()
    for builder in builders:
        builder.join()
    assert failures == []
    assert row_count(connection, "org_a", "people") == 1


def test_user_set_grants_are_not_widened_by_default_privileges(connection: psycopg.Connection) -> None:
    role = "swap_default"
    connection.execute(f"DROP ROLE IF EXISTS {role}")
    connection.execute(f"CREATE ROLE {role}")
    try:
        connection.execute(f"ALTER DEFAULT PRIVILEGES IN SCHEMA org_a GRANT SELECT ON TABLES TO {role}")
        replace(connection)
        assert one(connection, f"SELECT has_table_privilege('{role}', 'org_a.people', 'SELECT')") is True
        replace(connection)
        assert one(connection, f"SELECT has_table_privilege('{role}', 'org_a.people', 'SELECT')") is True
        connection.execute(f"REVOKE ALL ON org_a.people FROM {role}")
        connection.execute("GRANT SELECT ON org_a.people TO PUBLIC")
        connection.execute("REVOKE SELECT ON org_a.people FROM PUBLIC")
        replace(connection)
        assert one(connection, f"SELECT has_table_privilege('{role}', 'org_a.people', 'SELECT')") is False
    finally:
        connection.execute(f"DROP OWNED BY {role}")
        connection.execute(f"DROP ROLE {role}")


NAMES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=15)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(table=NAMES, column=NAMES, comment=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_names_and_comments_are_never_sql(
    connection: psycopg.Connection, table: str, column: str, comment: str
) -> None:
    columns = [ColumnSpec(column, "integer", comment)]
    for value in (1, 2):
        indexes = [IndexSpec((column,))]
        replace_table(connection, "org_a", table, columns, f"SELECT {value}", indexes=indexes, table_comment=comment)
    assert table_exists(connection, "org_a", table)
    assert fetch_rows(connection, "org_a", table) == [{column: 2}]
    assert table_columns(connection, "org_a", table)[0].comment == (comment or None)
    connection.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier("org_a", table)))


def test_what_is_no_type_is_refused(connection: psycopg.Connection) -> None:
    for pg_type in ("int); drop schema org_a cascade; --", "text default 'x'", ""):
        with pytest.raises(ValueError, match="not a Postgres type"):
            replace_table(connection, "org_a", "t", [ColumnSpec("a", pg_type)], "SELECT 1")
    for pg_type in ("numeric(12,2)", "timestamp with time zone", "double precision", "text[]"):
        replace_table(connection, "org_a", "t", [ColumnSpec("a", pg_type)], "SELECT NULL")


def test_looking_at_what_is_not_there(connection: psycopg.Connection) -> None:
    assert not table_exists(connection, "org_a", "nothing")
    assert table_columns(connection, "org_a", "nothing") == []
    with pytest.raises(psycopg.errors.UndefinedTable):
        row_count(connection, "org_a", "nothing")
