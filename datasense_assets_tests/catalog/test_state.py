"""What runs write down: cursors under a fence, loads, discoveries, what is due, what is stale, what was asked for."""

from __future__ import annotations

import itertools
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, text

from datasense_assets.catalog.apply import apply_manifest
from datasense_assets.catalog.manifest import Manifest
from datasense_assets.catalog.models import ColumnType, SourceColumn
from datasense_assets.catalog.state import (
    BREAKER,
    BuildRecord,
    DiscoveredTable,
    FailureRecord,
    FenceLost,
    SchemaChange,
    StaleRecipe,
    add_request,
    advance_cursor,
    due_sources,
    mark_requested,
    mark_slot_asked,
    open_requests,
    pause,
    read_cursor,
    read_input_versions,
    read_request,
    read_revision,
    read_table_status,
    read_tables,
    record_build,
    record_build_failure,
    record_discovery,
    record_load,
    record_schema_changes,
    record_source_result,
    replace_columns,
    resume,
    set_next_due,
    settle_request,
    sources_to_replan,
    stale_recipes,
    tables_loaded_by,
    upsert_tables,
)
from datasense_assets.settings import Shard

COMPILER = 7
NOW = datetime(2030, 1, 2, 3, 4, tzinfo=UTC)
FAILURE = FailureRecord("unavailable", "The server is down.", "Wait.")


class Catalog:
    """The usual catalog with its ids at hand."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.contents = itertools.count()
        self.org = self.one("SELECT id FROM datasense.organizations")
        self.forms = self.one("SELECT id FROM datasense.sources WHERE slug = 'health-forms'")
        self.census = self.one("SELECT id FROM datasense.sources WHERE slug = 'census'")
        self.visits = self.one("SELECT id FROM datasense.source_tables WHERE slug = 'visits'")
        self.homes = self.one("SELECT id FROM datasense.source_tables WHERE slug = 'homes'")
        self.people = self.one("SELECT id FROM datasense.recipes WHERE name = 'clean_people'")
        self.monthly = self.one("SELECT id FROM datasense.recipes WHERE name = 'monthly_visits'")

    def one(self, query: str) -> Any:
        return self.connection.execute(text(query)).scalar_one()

    def run(self, statement: str) -> None:
        self.connection.execute(text(statement))

    def load(self, table: int, *, changed: bool = True, **more: Any) -> int:
        given = {
            "run_id": "r",
            "row_count": 1,
            "rows_loaded": 1,
            "rejected": 0,
            "content_hash": None,
            "fresh_as_of": NOW,
        }
        return record_load(self.connection, table, **{**given, **more}, changed=changed)

    def build(self, recipe: int, content: str | None = None, **more: Any) -> int:
        """A build whose content is as given, that of the build before, or else such as there never was."""
        record = BuildRecord(
            run_id="b",
            row_count=1,
            spec_hash=self.one(f"SELECT spec_hash FROM datasense.recipes WHERE id = {recipe}"),
            compiler_version=COMPILER,
            timezone=self.one("SELECT timezone FROM datasense.organizations"),
            definition_hash="d",
            build_key="k",
            columns_hash="c",
            content_hash=content or str(next(self.contents)),
            **more,
        )
        version, changed = record_build(self.connection, recipe, record, read_input_versions(self.connection, recipe))
        assert changed == (content is None)
        return version

    def stale(self, now: datetime = NOW, compiler: int = COMPILER) -> dict[str, StaleRecipe]:
        return {each.name: each for each in stale_recipes(self.connection, now, compiler)}

    def settle(self) -> None:
        """Nothing is due."""
        self.run("UPDATE datasense.source_status SET next_due_at = NULL, replan = false")


@pytest.fixture
def catalog_(connection: Connection, manifest: Manifest) -> Catalog:
    apply_manifest(connection, manifest)
    return Catalog(connection)


def test_a_cursor_moves_under_its_fence_alone(catalog_: Catalog) -> None:
    connection, table = catalog_.connection, catalog_.visits
    assert read_cursor(connection, table) is None
    advance_cursor(connection, table, "10", {"row": "hash"}, fence=1)
    advance_cursor(connection, table, "11", {}, fence=1)
    catalog_.run(f"INSERT INTO datasense.leases VALUES ({catalog_.forms}, 'other', 2, now())")
    with pytest.raises(FenceLost):
        advance_cursor(connection, table, "12", {}, fence=1)
    advance_cursor(connection, table, "13", {"a": "b"}, fence=2)
    catalog_.run("DELETE FROM datasense.leases")
    with pytest.raises(FenceLost):
        advance_cursor(connection, table, "12", {}, fence=1)
    cursor = read_cursor(connection, table)
    assert cursor is not None
    assert (cursor.value, cursor.boundary, cursor.fence) == ("13", {"a": "b"}, 2)


def test_a_data_version_grows_when_data_changed(catalog_: Catalog) -> None:
    table = catalog_.visits
    assert catalog_.load(table, row_count=5, run_id="one", content_hash="h") == 1
    assert catalog_.load(table, changed=False, fresh_as_of=NOW + timedelta(hours=1), run_id="two") == 1
    assert catalog_.load(table, fresh_as_of=None) == 2
    assert catalog_.load(table, fresh_as_of=NOW) == 3
    status = read_table_status(catalog_.connection, table)
    assert status is not None
    assert (status.data_version, status.fresh_as_of) == (3, NOW + timedelta(hours=1))
    assert tables_loaded_by(catalog_.connection, catalog_.forms, "r") == {table}
    assert tables_loaded_by(catalog_.connection, catalog_.forms, "one") == frozenset()


def test_failures_are_counted_until_a_success_which_closes_the_breaker(catalog_: Catalog) -> None:
    connection, source = catalog_.connection, catalog_.forms
    result = {"run_id": "r", "started_at": NOW}
    assert record_source_result(connection, source, **result, failure=FAILURE) == 1
    assert record_source_result(connection, source, **result, failure=FAILURE) == 1  # the same run tries again
    result = {"run_id": "another", "started_at": NOW}
    assert record_source_result(connection, source, **result, failure=FAILURE) == 2
    pause(connection, catalog_.org, source, reason="It failed twice.", by=BREAKER, probe_at=NOW)
    assert record_source_result(connection, source, **result, failure=None) == 0
    assert catalog_.one("SELECT count(*) FROM datasense.pauses") == 0
    pause(connection, catalog_.org, source, reason="Holiday", by="me")
    record_source_result(connection, source, **result, failure=None)
    assert catalog_.one("SELECT count(*) FROM datasense.pauses") == 1


def test_discovery_adds_and_keeps_slugs_and_forgets_nothing(catalog_: Catalog) -> None:
    connection, source = catalog_.connection, catalog_.census
    found = [
        DiscoveredTable("one", "मासिक Visits (2024)!", (), date(2022, 1, 1)),
        DiscoveredTable("one", "Members", ("group/Family Members", "x/Child")),
        DiscoveredTable("one", "Members", ("group/Family Members",)),
        DiscoveredTable("two", "Homes"),
        DiscoveredTable("three", "homes"),
        DiscoveredTable("four", "???"),
        DiscoveredTable("five", "y" * 200),
    ]
    tables = upsert_tables(connection, source, found)
    slugs = [table.slug for table in tables]
    assert slugs[0].endswith("visits_2024")
    assert slugs[1:3] == [f"{slugs[0]}__family_members", f"{slugs[0]}__family_members__child"]
    assert slugs[3:6] == ["homes", "homes_2", "table"]
    assert len(slugs[6]) == 40
    assert tables[2].parent == slugs[1]
    again = upsert_tables(connection, source, [DiscoveredTable("two", "Houses", (), date(2020, 1, 1)), found[0]])
    assert [table.slug for table in again] == slugs
    assert (again[3].title, again[3].history_start) == ("Houses", date(2020, 1, 1))


def test_a_source_with_chosen_tables_gets_repeat_groups_only(catalog_: Catalog) -> None:
    found = [DiscoveredTable("aXb3", "V"), DiscoveredTable("aXb3", "M", ("m",)), DiscoveredTable("new", "New")]
    tables = upsert_tables(catalog_.connection, catalog_.forms, found)
    assert [table.slug for table in tables] == ["visits", "visits__m", "homes"]


def test_a_discovery_that_finds_nothing_new_leaves_the_revision(catalog: Engine, manifest: Manifest) -> None:
    column = SourceColumn(name="a", key="a", label="A", type=ColumnType.TEXT, position=0)

    def discover() -> int:
        with catalog.begin() as connection:
            source = connection.execute(text("SELECT id FROM datasense.sources WHERE slug = 'census'")).scalar_one()
            (table,) = upsert_tables(connection, source, [DiscoveredTable("v", "V", (), date(2020, 1, 1))])
            replace_columns(connection, table.id, [column])
            record_discovery(connection, source, now=NOW, failure=None)
        with catalog.connect() as connection:
            return read_revision(connection).revision

    with catalog.begin() as connection:
        apply_manifest(connection, manifest)
    assert [discover(), discover()] == [2, 2]


def column(name: str, kind: ColumnType = ColumnType.TEXT, **more: Any) -> SourceColumn:
    return SourceColumn(**{"name": name, "key": name, "label": name, "type": kind, "position": 0, **more})


def test_changed_columns_are_events_and_first_ones_are_not(catalog_: Catalog) -> None:
    connection, table = catalog_.connection, catalog_.visits
    assert replace_columns(connection, table, [column("a"), column("b"), column("c", label="x")]) == []
    changes = replace_columns(
        connection, table, [column("b", ColumnType.DATE), column("c", label="y"), column("d", position=3)]
    )
    assert changes == [
        SchemaChange("added", "d", None, "text"),
        SchemaChange("removed", "a", "text", None),
        SchemaChange("retyped", "b", "text", "date"),
        SchemaChange("relabelled", "c", old_label="x", new_label="y"),
    ]
    assert (
        replace_columns(connection, table, [column("d", position=3), column("c", label="y"), column("b", "date")]) == []
    )
    # Two columns that exchange their names are written in one go.
    replace_columns(connection, table, [column("b", key="d"), column("d", key="b")])
    record_schema_changes(connection, table, run_id="r", changes=changes)
    assert catalog_.one("SELECT count(*) FROM datasense.schema_changes") == 4
    names = {each.key: each.name for each in read_tables(connection, catalog_.forms)[0].columns}
    assert names == {"d": "b", "b": "d"}


def due(catalog_: Catalog, now: datetime = NOW, **more: Any) -> list[str]:
    return [source.slug for source in due_sources(catalog_.connection, now, 10, **more)]


def test_what_is_due_is_neither_paused_nor_running_nor_without_anything_to_do(catalog_: Catalog) -> None:
    connection = catalog_.connection
    set_next_due(connection, catalog_.forms, NOW - timedelta(hours=1))
    set_next_due(connection, catalog_.census, NOW)
    assert due(catalog_) == ["health-forms", "census"]
    assert due(catalog_, NOW - timedelta(minutes=1)) == ["health-forms"]
    assert len(due(catalog_, shard=Shard(index=0, count=2)) + due(catalog_, shard=Shard(index=1, count=2))) == 2
    lease = f"INSERT INTO datasense.leases VALUES ({catalog_.forms}, 'run', 1, '{NOW + timedelta(seconds=9)}')"
    catalog_.run(lease)
    assert due(catalog_) == ["census"]
    assert due(catalog_, NOW + timedelta(seconds=10)) == ["health-forms", "census"]
    catalog_.run("DELETE FROM datasense.leases")
    pause(connection, catalog_.org, catalog_.census, reason="", by="me")
    assert due(catalog_) == ["health-forms"]
    pause(connection, catalog_.org, reason="", by="me")
    assert due(catalog_) == []
    assert resume(connection, catalog_.org)
    catalog_.run("UPDATE datasense.sources SET discover_all = false")
    assert resume(connection, catalog_.org, catalog_.census)
    assert not resume(connection, catalog_.org, catalog_.census)
    assert due(catalog_) == ["health-forms"]


def test_a_slot_is_known_as_asked_until_the_next_is_set(catalog_: Catalog) -> None:
    connection = catalog_.connection
    set_next_due(connection, catalog_.forms, NOW)
    (source,) = [each for each in due_sources(connection, NOW, 10) if each.source_id == catalog_.forms]
    assert (source.slot_asked, source.tables, source.tier) == (False, ("visits", "homes"), "premium")
    mark_slot_asked(connection, catalog_.forms, source.next_due_at)
    assert [each.slot_asked for each in due_sources(connection, NOW, 10) if each.source_id == catalog_.forms] == [True]
    set_next_due(connection, catalog_.forms, NOW + timedelta(hours=1))
    later = due_sources(connection, NOW + timedelta(hours=1), 10)
    assert [each.slot_asked for each in later if each.source_id == catalog_.forms] == [False]


def test_the_breaker_lets_one_probe_through_when_its_time_has_come(catalog_: Catalog) -> None:
    connection = catalog_.connection
    catalog_.settle()
    set_next_due(connection, catalog_.forms, NOW)
    later = NOW + timedelta(hours=1)
    assert pause(connection, catalog_.org, catalog_.forms, reason="Failing", by=BREAKER, probe_at=later)
    assert due(catalog_) == []
    assert [each.probing for each in due_sources(connection, later, 10)] == [True]
    assert pause(connection, catalog_.org, catalog_.forms, reason="Holiday", by="me")
    assert not pause(connection, catalog_.org, catalog_.forms, reason="Failing", by=BREAKER, probe_at=NOW)
    assert due(catalog_, later) == []


def test_the_third_permanent_failure_in_a_row_opens_the_breaker_and_probes_grow_rarer(catalog_: Catalog) -> None:
    connection, source = catalog_.connection, catalog_.forms
    refused = FailureRecord("credential_refused", "The token is wrong.", "Make a new one.", permanent=True)
    result = {"run_id": "r", "started_at": NOW}
    waits = []
    for number in range(12):
        record_source_result(connection, source, run_id=f"r{number}", started_at=NOW, failure=refused)
        waits.append(catalog_.one("SELECT max(probe_at) - now() FROM datasense.pauses"))
    assert waits[:2] == [None, None]
    minutes = [round(wait.total_seconds() / 60) for wait in waits[2:]]
    assert minutes == [15, 30, 60, 120, 240, 480, 960, 1440, 1440, 1440]
    due_at_the_probe = "SELECT next_due_at = (SELECT probe_at FROM datasense.pauses) FROM datasense.source_status "
    assert catalog_.one(f"{due_at_the_probe} WHERE source_id = {source}")
    assert "The token is wrong." in catalog_.one("SELECT reason FROM datasense.pauses")
    record_source_result(connection, source, **result, failure=None)
    assert catalog_.one("SELECT count(*) FROM datasense.pauses") == 0
    assert source in {row.source_id for row in sources_to_replan(connection)}


def test_failures_that_may_pass_and_partial_ones_never_open_the_breaker(catalog_: Catalog) -> None:
    for number in range(9):
        run_id = f"r{number}"
        record_source_result(catalog_.connection, catalog_.forms, run_id=run_id, started_at=NOW, failure=FAILURE)
    assert catalog_.one("SELECT count(*) FROM datasense.pauses") == 0


@pytest.mark.parametrize(
    ("edit", "closes"),
    [
        ('UPDATE datasense.sources SET config = config || \'{"base_url": "https://other.example.org"}\'', True),
        ('UPDATE datasense.credentials SET reference = \'{"env": "ANOTHER"}\'', True),
        ("UPDATE datasense.credentials SET reference = reference", False),
        ("UPDATE datasense.sources SET deletes = 'ignore'", False),
    ],
)
def test_mending_the_address_or_the_credential_closes_the_breaker_at_once(
    catalog_: Catalog, edit: str, closes: bool
) -> None:
    refused = FailureRecord("credential_refused", "The token is wrong.", "Make a new one.", permanent=True)
    for _ in range(3):
        record_discovery(catalog_.connection, catalog_.forms, now=NOW, failure=refused)
    assert catalog_.one("SELECT count(*) FROM datasense.pauses") == 1
    catalog_.run(f"{edit} WHERE " + ("source_id" if "credentials" in edit else "id") + f" = {catalog_.forms}")
    assert catalog_.one("SELECT count(*) FROM datasense.pauses") == (0 if closes else 1)
    next_due = f"SELECT next_due_at <= now() FROM datasense.source_status WHERE source_id = {catalog_.forms}"
    assert bool(catalog_.one(next_due)) is closes


def test_an_edited_schedule_is_reckoned_again_even_while_it_is_being_reckoned(
    catalog: Engine, manifest: Manifest
) -> None:
    with catalog.begin() as connection:
        apply_manifest(connection, manifest)
    with catalog.begin() as first:
        rows = sources_to_replan(first)
        assert {row.slug for row in rows} == {"health-forms", "census"}
        with catalog.begin() as second:
            assert sources_to_replan(second) == []
        for row in rows:
            set_next_due(first, row.source_id, NOW)
    with catalog.begin() as connection:
        assert sources_to_replan(connection) == []
        connection.execute(text("UPDATE datasense.sources SET schedule = '\"manual\"' WHERE slug = 'census'"))
        assert [row.schedule for row in sources_to_replan(connection)] == ["manual"]


def test_a_recipe_is_stale_until_it_is_built_from_what_is_there(catalog_: Catalog) -> None:
    connection = catalog_.connection
    catalog_.settle()
    stale = catalog_.stale()
    assert set(stale) == {"clean_people", "monthly_visits"}
    assert stale["clean_people"].never_loaded == ("homes",)
    assert stale["monthly_visits"].missing == ("a",)
    assert stale["monthly_visits"].stale_upstreams == stale["monthly_visits"].blocked_upstreams == ("clean_people",)
    upsert_tables(connection, catalog_.census, [DiscoveredTable("v", "Villages")])
    villages = catalog_.one("SELECT id FROM datasense.source_tables WHERE slug = 'villages'")
    for table in (catalog_.visits, catalog_.homes, villages):
        catalog_.load(table)
    stale = catalog_.stale()
    assert [each.waits_for for each in stale.values()] == [None, None]
    assert stale["monthly_visits"].sources == ("census", "health_forms")
    catalog_.build(catalog_.people)
    catalog_.build(catalog_.monthly)
    assert catalog_.stale() == {}
    catalog_.load(catalog_.homes, changed=False)
    assert catalog_.stale() == {}
    catalog_.load(catalog_.homes)
    stale = catalog_.stale()
    assert (stale["clean_people"].changed, stale["monthly_visits"].stale_upstreams) == (("homes",), ("clean_people",))
    catalog_.build(catalog_.people)
    assert set(catalog_.stale()) == {"monthly_visits"}
    catalog_.build(catalog_.monthly)
    catalog_.run("UPDATE datasense.recipes SET spec = jsonb_set(spec::jsonb, '{x}', '1') WHERE name = 'clean_people'")
    assert catalog_.stale()["clean_people"].spec_changed


def test_equal_content_is_no_new_version_and_makes_nothing_stale(catalog_: Catalog) -> None:
    catalog_.settle()
    upsert_tables(catalog_.connection, catalog_.census, [DiscoveredTable("v", "Villages")])
    for table in (catalog_.visits, catalog_.homes):
        catalog_.load(table)
    first = catalog_.build(catalog_.people)
    catalog_.build(catalog_.monthly)
    catalog_.load(catalog_.homes)
    assert set(catalog_.stale()) == {"clean_people", "monthly_visits"}
    same = catalog_.one(f"SELECT content_hash FROM datasense.recipe_status WHERE recipe_id = {catalog_.people}")
    assert catalog_.build(catalog_.people, same) == first
    assert catalog_.stale() == {}


def test_columns_and_labels_make_stale_what_reads_them(catalog_: Catalog) -> None:
    connection, homes = catalog_.connection, catalog_.homes
    catalog_.settle()
    for table in (catalog_.visits, homes):
        catalog_.load(table)

    def columns(kind: ColumnType, label: str) -> None:
        choices = ({"value": "n", "labels": {"": label}},)
        replace_columns(connection, homes, [column("district", kind, choices=choices, personal=label == "x")])

    columns(ColumnType.TEXT, "North")
    catalog_.build(catalog_.people, uses_labels=True)
    assert "clean_people" not in catalog_.stale()
    columns(ColumnType.TEXT, "Uttar")
    assert catalog_.stale()["clean_people"].changed == ("homes",)
    catalog_.build(catalog_.people)
    columns(ColumnType.TEXT, "x")
    assert "clean_people" not in catalog_.stale(), "its SQL holds no labels"
    columns(ColumnType.INTEGER, "x")
    assert catalog_.stale()["clean_people"].changed == ("homes",)
    record_build_failure(connection, catalog_.people, run_id="r", failure=FAILURE)
    assert catalog_.stale()["clean_people"].failed_unchanged
    columns(ColumnType.DATE, "x")
    assert not catalog_.stale()["clean_people"].failed_unchanged


def test_another_day_time_zone_or_compiler_makes_stale(catalog_: Catalog) -> None:
    catalog_.settle()
    for table in (catalog_.visits, catalog_.homes):
        catalog_.load(table)
    catalog_.run("UPDATE datasense.organizations SET timezone = 'Asia/Kolkata'")
    midnight = datetime(2030, 1, 1, 18, 30, tzinfo=UTC)
    catalog_.build(catalog_.people, built_for=date(2030, 1, 1))
    assert "clean_people" not in catalog_.stale(midnight - timedelta(seconds=1))
    assert catalog_.stale(midnight)["clean_people"].spec_changed
    catalog_.build(catalog_.people)
    assert "clean_people" not in catalog_.stale(midnight)
    assert catalog_.stale(midnight, COMPILER + 1)["clean_people"].spec_changed
    catalog_.run("UPDATE datasense.organizations SET timezone = 'Asia/Kathmandu'")
    assert catalog_.stale(midnight)["clean_people"].spec_changed


def test_stale_recipes_wait_for_inputs_that_fail_are_due_or_run(catalog_: Catalog) -> None:
    connection = catalog_.connection
    catalog_.settle()
    for table in (catalog_.visits, catalog_.homes):
        catalog_.load(table)
    set_next_due(connection, catalog_.forms, NOW)
    assert catalog_.stale()["clean_people"].busy == ("homes",)
    pause(connection, catalog_.org, catalog_.forms, reason="", by="me")
    assert catalog_.stale()["clean_people"].waits_for is None  # a paused source is due for ever
    resume(connection, catalog_.org, catalog_.forms)
    set_next_due(connection, catalog_.forms, NOW + timedelta(seconds=1))
    assert catalog_.stale()["clean_people"].waits_for is None
    catalog_.run(f"INSERT INTO datasense.leases VALUES ({catalog_.forms}, 'r', 1, '{NOW + timedelta(seconds=1)}')")
    assert catalog_.stale()["clean_people"].busy == ("homes",)
    catalog_.run("DELETE FROM datasense.leases")
    record_source_result(connection, catalog_.forms, run_id="r", started_at=NOW, failure=FAILURE)
    assert catalog_.stale()["clean_people"].waits_for == "homes has failed"
    record_source_result(connection, catalog_.forms, run_id="r", started_at=NOW, failure=None)
    assert record_build_failure(connection, catalog_.people, run_id="r", failure=FAILURE) == 1
    assert catalog_.stale()["clean_people"].failed_unchanged
    pause(connection, catalog_.org, reason="", by="me")
    assert catalog_.stale() == {}


def test_a_request_is_open_until_it_is_settled(catalog_: Catalog) -> None:
    connection = catalog_.connection
    first = add_request(
        connection,
        org_id=catalog_.org,
        source_id=catalog_.forms,
        tables=["visits"],
        partitions=("a", "b"),
        requested_by="me",
    )
    second = add_request(connection, org_id=catalog_.org, recipe_id=catalog_.people, full_reload=True)
    asked = open_requests(connection, 10)
    assert [request.id for request in asked] == [first, second]
    assert (asked[0].source_slug, asked[0].tables, asked[0].partition_last) == ("health-forms", ("visits",), "b")
    assert (asked[1].recipe_name, asked[1].full_reload, asked[1].lane) == ("clean_people", True, "interactive")
    settle_request(connection, first, run_id="run")
    settle_request(connection, second, error="no such table")
    assert open_requests(connection, 10) == []
    result = read_request(connection, first)
    assert result is not None
    assert (result.settled, result.run_id, result.error) == (True, "run", None)
    assert read_request(connection, 0) is None


def test_asking_is_noted_with_the_recipe(catalog_: Catalog) -> None:
    mark_requested(catalog_.connection, [catalog_.people], NOW)
    assert catalog_.stale()["clean_people"].last_requested_at == NOW
