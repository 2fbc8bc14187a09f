"""What a load leaves behind: exact rows, kept names, right types, and nothing where nothing is new."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Any

import psycopg
import psycopg2
import pytest

from datasense_assets.catalog.models import ColumnType, Organization
from datasense_assets.connectors.base import ColumnInfo, Rejected, Window
from datasense_assets.connectors.errors import SourceError, Unavailable
from datasense_assets.ingest import dlt_jobs
from datasense_assets.ingest.load import WindowRefused
from datasense_assets.warehouse import held
from datasense_assets_tests.ingest.conftest import START, FakeSource, World, at
from datasense_assets_tests.platform.running import until


def visits(*rows: dict[str, object]) -> FakeSource:
    return FakeSource({"visits": [{"_id": f"r{i}", "_at": at(i), **row} for i, row in enumerate(rows)]})


def test_first_load_types_names_and_documents(world: World, org: Organization) -> None:
    source = world.source(org)
    fake = visits(
        {"n": "1", "x": "1.5", "day": "2024-02-29", "when": "2024-01-01T10:00:00+05:30", "t": "10:30",
         "code": "007", "big": "12345678901234567", "ok": "true", "note": "", "mixed": "01/02/2024"},
        {"n": "n/a", "x": "2", "day": None, "when": "2024-01-01T10:00:00Z", "t": None,
         "code": "12", "big": "12345678901234568", "ok": None, "note": "hé", "mixed": "13/02/2024"},
    )  # fmt: skip
    report = world.sync(org, source, fake)
    types = world.types("org_acme", "forms__visits")
    assert types == {
        "_ds_row_id": "text", "_ds_loaded_at": "timestamp with time zone", "n": "bigint", "x": "double precision",
        "day": "date", "when": "timestamp with time zone", "t": "time without time zone", "code": "text",
        "big": "bigint", "ok": "boolean", "note": "text", "mixed": "text",
    }  # fmt: skip
    rows = world.rows("org_acme.forms__visits", "n, x, day, \"when\" AT TIME ZONE 'UTC', code, big, ok, note, mixed")
    assert rows == [
        (1, 1.5, date(2024, 2, 29), datetime(2024, 1, 1, 4, 30), "007", 12345678901234567, True, "", "01/02/2024"),
        (None, 2.0, None, datetime(2024, 1, 1, 10), "12", 12345678901234568, None, "hé", "13/02/2024"),
    ]
    assert (report.row_count, report.rows_loaded, report.changed, report.data_version) == (2, 2, True, 1)
    assert any("mixed" in note and "more than one way" in note for note in report.notes)
    assert any("n:" in note and "missing" in note for note in report.notes)
    assert not report.schema_changes
    comment = world.rows("pg_description d", "description", "objsubid")
    assert ("Visits",) in comment


def test_a_small_load_opens_a_connection_of_its_own_and_one_of_dlt(
    world: World, org: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []

    def counting(driver: Any, name: str) -> None:
        connect = driver.connect

        def counted(*args: Any, **kwargs: Any) -> Any:
            opened.append(name)
            return connect(*args, **kwargs)

        monkeypatch.setattr(driver, "connect", counted)

    source = world.source(org)
    world.sync(org, source, visits({"n": "1"}))
    monkeypatch.setattr(held, "_UNUSED_SECONDS", 600.0)
    monkeypatch.setattr(held, "STILL_ALIVE_SECONDS", 600.0)
    monkeypatch.setattr(dlt_jobs, "STILL_ALIVE_SECONDS", 600.0)
    counting(psycopg, "ours")
    counting(psycopg2, "dlt's")
    assert world.sync(org, source, visits({"n": "1"}, {"n": "2"})).rows_loaded == 1
    assert opened == ["ours", "dlt's"]
    user = world.target(org).user
    with psycopg.connect(world.url, autocommit=True) as connection:
        query = "SELECT 1 FROM pg_stat_activity WHERE usename = %s"
        until("all are closed", lambda: connection.execute(query, (user,)).fetchone() is None)


def test_three_hindi_headers_stay_three_columns(world: World, org: Organization) -> None:
    source = world.source(org)
    world.sync(org, source, visits({"नाम": "a", "गाँव": "b", "ज़िला": "c"}))
    columns = world.tables(source)["visits"].columns
    assert [column.key for column in columns] == ["नाम", "गाँव", "ज़िला"]
    assert len({column.name for column in columns}) == 3
    assert all(column.name.isascii() for column in columns)
    names = ", ".join(column.name for column in columns)
    assert world.rows("org_acme.forms__visits", names) == [("a", "b", "c")]


def test_the_same_sync_twice_loads_nothing_and_moves_no_version(world: World, org: Organization) -> None:
    source = world.source(org)
    fake = visits(*({"n": str(i)} for i in range(5)))
    first = world.sync(org, source, fake)
    before = world.rows("org_acme.forms__visits")
    second = world.sync(org, source, fake)
    assert fake.requests[1].cursor == at(4)
    assert (second.rows_loaded, second.changed, second.data_version) == (0, False, first.data_version)
    assert world.rows("org_acme.forms__visits") == before


def test_rows_read_again_by_a_lag_longer_than_the_boundary_are_left_alone(
    world: World, org: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datasense_assets.ingest.boundary.BOUNDARY_ROWS", 2)
    source = world.source(org)
    fake = visits(*({"n": str(i), "x": None} for i in range(6)))
    fake.lag = 10
    world.sync(org, source, fake)
    before = world.rows("org_acme.forms__visits")
    fake.rows["visits"][0]["n"] = "50"
    report = world.sync(org, source, fake)
    after = world.rows("org_acme.forms__visits")
    assert report.rows_loaded == 1
    assert after[0][2] == 50
    assert after[1:] == before[1:]


def test_new_and_edited_rows_come_and_the_cursor_moves(world: World, org: Organization) -> None:
    source = world.source(org)
    fake = visits({"n": "1"}, {"n": "2"})
    world.sync(org, source, fake)
    fake.rows["visits"][1]["n"] = "20"
    fake.rows["visits"].append({"_id": "r9", "_at": at(9), "n": "9"})
    report = world.sync(org, source, fake)
    assert (report.rows_loaded, report.cursor_before, report.cursor_after) == (2, at(1), at(9))
    assert [row[0] for row in world.rows("org_acme.forms__visits", "n")] == [1, 20, 9]


def test_a_row_id_that_comes_twice_is_loaded_once_as_it_came_last(world: World, org: Organization) -> None:
    source = world.source(org)
    fake = FakeSource({"visits": [{"_id": "a", "_at": at(0), "n": "1"}, {"_id": "b", "_at": at(0), "n": "2"},
                                  {"_id": "a", "_at": at(1), "n": "3"}]})  # fmt: skip
    report = world.sync(org, source, fake)
    assert report.rows_loaded == 2
    assert world.rows("org_acme.forms__visits", "_ds_row_id, n") == [("a", 3), ("b", 2)]


def test_types_widen_in_place_and_keep_the_data(world: World, org: Organization) -> None:
    source = world.source(org)
    fake = visits({"n": "1"}, {"n": "2"})
    world.sync(org, source, fake)
    fake.rows["visits"].append({"_id": "x", "_at": at(8), "n": "2.5"})
    report = world.sync(org, source, fake)
    assert [(c.kind, c.column_name, c.old_type, c.new_type) for c in report.schema_changes] == [
        ("retyped", "n", "integer", "number")
    ]
    assert [row[0] for row in world.rows("org_acme.forms__visits", "n")] == [1.0, 2.0, 2.5]
    fake.rows["visits"].append({"_id": "y", "_at": at(9), "n": "many"})
    world.sync(org, source, fake)
    assert [row[0] for row in world.rows("org_acme.forms__visits", "n")] == ["1", "2", "2.5", "many"]
    fake.rows["visits"].append({"_id": "z", "_at": at(10), "n": "3"})
    world.sync(org, source, fake)
    assert world.types("org_acme", "forms__visits")["n"] == "text"
    events = world.rows("datasense.schema_changes", "kind, column_name, new_type", "id")
    assert events == [("retyped", "n", "number"), ("retyped", "n", "text")]


def test_long_integers_never_become_floats(world: World, org: Organization) -> None:
    source = world.source(org)
    fake = visits({"n": "12345678901234567"}, {"n": "5"})
    world.sync(org, source, fake)
    fake.rows["visits"].append({"_id": "x", "_at": at(8), "n": "2.5"})
    report = world.sync(org, source, fake)
    assert [row[0] for row in world.rows("org_acme.forms__visits", "n")] == ["12345678901234567", "5", "2.5"]
    assert any("15 digits" in note for note in report.notes)


def test_a_column_that_never_held_a_value_takes_the_type_of_its_first(world: World, org: Organization) -> None:
    source = world.source(org)
    fake = visits({"n": None, "m": "1"})
    world.sync(org, source, fake)
    assert world.types("org_acme", "forms__visits")["n"] == "text"
    fake.rows["visits"].append({"_id": "x", "_at": at(8), "n": "5"})
    world.sync(org, source, fake)
    assert world.rows("org_acme.forms__visits", "n") == [(None,), (5,)]


def test_the_forms_own_types_come_first_and_a_misfit_is_not_lost(world: World, org: Organization) -> None:
    source = world.source(org)
    fake = visits({"age": "007", "pin": "5", "born": "2020-01-01"}, {"age": "8", "pin": "6", "born": "long ago"})
    fake.columns["visits"] = (
        ColumnInfo("age", "Age", ColumnType.INTEGER),
        ColumnInfo("pin", "PIN", ColumnType.TEXT),
        ColumnInfo("born", "Born on", ColumnType.DATE),
        ColumnInfo("extra", "Extra", ColumnType.NUMBER),
    )
    report = world.sync(org, source, fake)
    assert world.rows("org_acme.forms__visits", "age, pin, born, extra") == [
        (7, "5", "2020-01-01", None), (8, "6", "long ago", None),
    ]  # fmt: skip
    assert any("Born on" in note and "long ago" in note for note in report.notes)
    assert world.types("org_acme", "forms__visits")["extra"] == "double precision"


def test_json_is_stored_as_jsonb(world: World, org: Organization) -> None:
    source = world.source(org)
    fake = visits({"place": '{"lat": 1}'}, {"place": None})
    fake.columns["visits"] = (ColumnInfo("place", "Place", ColumnType.JSON),)
    world.sync(org, source, fake)
    fake.rows["visits"][1]["place"] = "[1]"
    world.sync(org, source, fake)
    assert world.types("org_acme", "forms__visits")["place"] == "jsonb"
    assert world.rows("org_acme.forms__visits", "place") == [({"lat": 1},), ([1],)]


def test_a_dropped_table_and_a_dropped_column_are_rebuilt(world: World, org: Organization) -> None:
    source = world.source(org)
    fake = visits(*({"n": str(i), "m": "x"} for i in range(4)))
    world.sync(org, source, fake)
    world.execute("DROP TABLE org_acme.forms__visits")
    report = world.sync(org, source, fake)
    assert fake.requests[-1].cursor is None
    assert report.row_count == 4
    world.execute("ALTER TABLE org_acme.forms__visits DROP COLUMN m")
    world.sync(org, source, fake)
    assert world.rows("org_acme.forms__visits", "m") == [("x",)] * 4
    role = world.target(org).user
    world.execute("DROP SCHEMA staging_org_acme CASCADE")
    world.execute(f"CREATE SCHEMA staging_org_acme AUTHORIZATION {role}")
    fake.rows["visits"].append({"_id": "x", "_at": at(8), "n": "5", "m": "y"})
    assert world.sync(org, source, fake).row_count == 5


def test_repeat_groups_have_parents_and_vanish_with_their_rows(world: World, org: Organization) -> None:
    source = world.source(org)
    fake = visits(
        {"n": "1", "kids": [{"name": "A", "toys": [{"toy": "ball"}]}, {"name": "B", "toys": []}]},
        {"n": "2", "kids": [{"name": "C", "toys": [{"toy": "car"}]}]},
    )
    fake.repeats = ("kids", "kids/toys")
    reports = world.sync_all(org, source, fake)
    assert [report.warehouse_table for report in reports] == [
        "forms__visits", "forms__visits__kids", "forms__visits__kids__toys",
    ]  # fmt: skip
    kids = world.rows("org_acme.forms__visits__kids", "_ds_parent_id, _ds_index, name")
    assert kids == [("r0", 1, "A"), ("r0", 2, "B"), ("r1", 1, "C")]
    assert world.rows("org_acme.forms__visits__kids__toys", "_ds_parent_id, toy") == [
        ("r0/kids/1", "ball"), ("r1/kids/1", "car"),
    ]  # fmt: skip
    fake.rows["visits"][1]["kids"] = []
    reports = world.sync_all(org, source, fake, full=True)
    assert world.rows("org_acme.forms__visits__kids", "name") == [("A",), ("B",)]
    assert world.rows("org_acme.forms__visits__kids__toys", "toy") == [("ball",)]
    assert [report.changed for report in reports] == [False, True, True]
    fake.rows["visits"][1]["kids"] = [{"name": "D", "toys": []}]
    report = world.sync_all(org, source, fake)[1]
    assert (report.rows_loaded, report.row_count) == (1, 3)


def test_a_backfill_neither_reads_nor_moves_the_cursor(world: World, org: Organization) -> None:
    source = world.source(org)
    fake = visits(*({"n": str(i)} for i in range(6)))
    world.sync(org, source, fake)
    cursor = world.rows("datasense.cursors", "value, boundary, updated_at", "table_id")
    fake.rows["visits"][2]["n"] = "200"
    window = Window(START + timedelta(minutes=1), START + timedelta(minutes=4))
    report = world.sync(org, source, fake, window=window)
    assert (fake.requests[-1].cursor, fake.requests[-1].window) == (None, window)
    assert (report.rows_loaded, report.row_count) == (1, 6)
    assert report.first_partition == report.last_partition == "2026-01-01"
    assert world.rows("datasense.cursors", "value, boundary, updated_at", "table_id") == cursor


def test_a_backfill_before_the_first_live_load_leaves_no_cursor(world: World, org: Organization) -> None:
    source = world.source(org)
    fake = visits(*({"n": str(i)} for i in range(3)))
    world.sync(org, source, fake, window=Window(START, START + timedelta(minutes=1)))
    assert world.rows("datasense.cursors", "value", "table_id") == []
    assert world.sync(org, source, fake).row_count == 3


def test_rejected_rows_land_beside_the_table(world: World, org: Organization) -> None:
    source = world.source(org)
    fake = visits({"n": "1"})
    fake.rejected["visits"] = (Rejected(7, "too many fields", "a,b,c"),)
    for _ in range(2):
        report = world.sync(org, source, fake, full=True)
    assert report.rows_rejected == 1
    rejected = world.rows("org_acme.forms__visits__rejected", "line, reason, raw")
    assert rejected == [(7, "too many fields", "a,b,c")]


def test_two_organisations_with_the_same_slugs_do_not_touch(world: World, org: Organization) -> None:
    other = world.organization("other")
    ours, theirs = world.source(org), world.source(other)
    world.sync(org, ours, visits({"n": "1"}))
    world.sync(other, theirs, visits({"n": "x"}, {"n": "y"}))
    assert world.rows("org_acme.forms__visits", "n") == [(1,)]
    assert world.rows("org_other.forms__visits", "n") == [("x",), ("y",)]


def test_a_table_that_fails_leaves_its_siblings_alone(world: World, org: Organization) -> None:
    source = world.source(org, tables=("bad", "visits"))
    fake = visits({"n": "1"})
    fake.rows["bad"] = [{"_id": str(i), "_at": at(i), "n": "1"} for i in range(5)]
    fake.fail_at["bad"] = 1
    with world.open(org, source, fake) as sync:
        tables = world.tables(source)
        with pytest.raises(Unavailable):
            sync.prepare(tables["bad"])
        prepared = sync.prepare(tables["visits"])
        prepared.run()
        assert sync.finish(prepared)[0].row_count == 1
    assert not world.exists("org_acme.forms__bad")


def test_a_view_over_a_column_that_must_widen_is_a_message(world: World, org: Organization) -> None:
    source = world.source(org)
    fake = visits({"n": "1"})
    world.sync(org, source, fake)
    world.execute("CREATE VIEW public.mine AS SELECT n FROM org_acme.forms__visits")
    fake.rows["visits"].append({"_id": "x", "_at": at(8), "n": "many"})
    with pytest.raises(SourceError, match="Drop the view"):
        world.sync(org, source, fake)
    assert world.rows("org_acme.forms__visits", "n") == [(1,)]


def test_personal_columns_are_masked_in_the_preview(world: World, org: Organization) -> None:
    source = world.source(org)
    fake = visits({"name": "Asha", "n": "1"})
    fake.columns["visits"] = (ColumnInfo("name", "Name", personal=True),)
    assert world.sync(org, source, fake).preview == ({"name": "•••", "n": "1"},)


def test_a_snapshot_refuses_a_past_window(world: World, org: Organization) -> None:
    source = world.source(org)
    fake = visits({"n": "1"})
    fake.history = False
    with pytest.raises(WindowRefused, match="no history"):
        world.sync(org, source, fake, window=Window(START, START + timedelta(days=1)))


def test_a_snapshot_is_mirrored_and_equal_content_loads_nothing(world: World, org: Organization) -> None:
    source = world.source(org)
    fake = visits({"n": "1", "old": "a"}, {"n": "2", "old": "b"}, {"n": "3", "old": "c"})
    fake.history = False
    world.sync(org, source, fake)
    same = world.sync(org, source, fake)
    assert (same.rows_loaded, same.changed, same.data_version) == (0, False, 1)
    loaded = dict(world.rows("org_acme.forms__visits", "_ds_row_id, _ds_loaded_at"))
    del fake.rows["visits"][0]
    for row in fake.rows["visits"]:
        row.pop("old")
    fake.rows["visits"][1]["n"] = "30"
    report = world.sync(org, source, fake)
    assert (report.row_count, report.rows_loaded, report.data_version) == (2, 2, 2)
    assert world.rows("org_acme.forms__visits", "n") == [(2,), (30,)]
    assert world.rows("org_acme.forms__visits", "old") == [(None,), (None,)]
    assert ("removed", "old") in [(c.kind, c.column_name) for c in report.schema_changes]
    assert dict(world.rows("org_acme.forms__visits", "_ds_row_id, _ds_loaded_at"))["r1"] > loaded["r1"]
    assert world.sync(org, source, fake).schema_changes == ()


def test_a_snapshot_with_a_header_alone_is_an_empty_table(world: World, org: Organization) -> None:
    source = world.source(org)
    fake = visits({"n": "1"})
    fake.history = False
    fake.columns["visits"] = (ColumnInfo("n", "N"),)
    world.sync(org, source, fake)
    fake.rows["visits"] = []
    report = world.sync(org, source, fake)
    assert (report.row_count, report.changed) == (0, True)
    assert world.sync(org, source, fake).changed is False


def test_no_column_and_no_row_of_dlts_own_is_in_the_table(world: World, org: Organization) -> None:
    source = world.source(org)
    world.sync(org, source, visits({"n": "1"}))
    assert not [name for name in world.types("org_acme", "forms__visits") if name.startswith("_dlt")]
    assert list(world.scratch.iterdir()) == []


def test_every_rejected_row_is_kept_and_rows_in_are_rows_loaded_and_rejected(world: World, org: Organization) -> None:
    source = world.source(org)
    fake = visits({"n": "1"}, {"n": "2"})
    fake.history = False
    fake.rejected["visits"] = tuple(Rejected(line, "has 4 values", "a,b") for line in range(2, 6003))
    report = world.sync(org, source, fake)
    assert (report.rows_read, report.row_count, report.rows_rejected) == (6003, 2, 6001)
    assert world.rows("org_acme.forms__visits__rejected", "count(*), min(line), max(line)", "1") == [(6001, 2, 6002)]
    fake.rejected = {}
    assert world.sync(org, source, fake).rows_rejected == 0
    assert world.rows("org_acme.forms__visits__rejected", "count(*)", "1") == [(0,)]
