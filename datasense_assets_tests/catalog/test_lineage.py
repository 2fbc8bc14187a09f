"""The graph of columns: what comes from where, what hangs on what, what a change breaks; circles and stale lineage."""

from __future__ import annotations

import threading
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine, text

from datasense_assets.catalog.apply import apply_manifest
from datasense_assets.catalog.impact import Impact, impact
from datasense_assets.catalog.lineage import (
    ColumnUse,
    Edge,
    LineageColumn,
    LineageGraph,
    LineageTable,
    Point,
    RecipeColumn,
    RecipeLineage,
)
from datasense_assets.catalog.manifest import Manifest
from datasense_assets.catalog.models import ColumnType, SourceColumn
from datasense_assets.catalog.state import (
    SchemaChange,
    impact_of_deleting,
    impact_of_schema_changes,
    read_lineage,
    record_lineage,
    replace_columns,
)

HOMES = "source:health_forms.homes"
PEOPLE = "recipe:clean_people"
MONTHLY = "recipe:monthly_visits"


def one(connection: Connection, query: str) -> int:
    return int(connection.execute(text(query)).scalar_one())


@pytest.fixture
def org(connection: Connection, manifest: Manifest) -> int:
    """The usual organisation: monthly_visits reads clean_people, which reads homes."""
    apply_manifest(connection, manifest)
    homes = one(connection, "SELECT id FROM datasense.source_tables WHERE slug = 'homes'")
    names = {"size": "How many live here?", "village": "Which village?", "phone": "Phone"}
    replace_columns(
        connection,
        homes,
        [
            SourceColumn(name=name, key=name, label=label, type=ColumnType.TEXT, position=i, personal=name == "phone")
            for i, (name, label) in enumerate(names.items())
        ],
    )
    return one(connection, "SELECT id FROM datasense.organizations")


def record(connection: Connection, recipe: str, columns: Iterable[str], *uses: tuple[str | None, str, str, str]) -> int:
    """Record a lineage as of the recipe's present spec; its id."""
    row = connection.execute(
        text("SELECT id, spec_hash FROM datasense.recipes WHERE name = :name"), {"name": recipe}
    ).one()
    found = tuple(ColumnUse(column, use, Point(table, source)) for column, use, table, source in uses)  # type: ignore[arg-type]
    made = RecipeLineage(row.spec_hash, tuple(RecipeColumn(name, "text") for name in columns), found)
    record_lineage(connection, row.id, made)
    return int(row.id)


def record_usual(connection: Connection) -> None:
    record(
        connection,
        "clean_people",
        ["place", "size"],
        ("place", "value", HOMES, "village"),
        ("size", "value", HOMES, "size"),
        (None, "filter", HOMES, "phone"),
        (None, "named", HOMES, "phone"),
        (None, "named", HOMES, "village"),
    )
    record(
        connection,
        "monthly_visits",
        ["place"],
        ("place", "value", PEOPLE, "place"),
        (None, "named", PEOPLE, "place"),
    )


def test_what_is_recorded_is_read_back_with_labels_and_states(connection: Connection, org: int) -> None:
    record_usual(connection)
    graph = read_lineage(connection, org)
    assert graph.tables[HOMES].columns["village"].label == "Which village?"
    assert graph.tables[HOMES].columns["phone"].personal
    assert list(graph.tables[PEOPLE].columns) == ["place", "size"]
    assert graph.tables[PEOPLE].state == "current"
    assert Edge(Point(HOMES, "phone"), PEOPLE, None, "filter") in graph.edges
    assert graph.tables["source:health_forms.visits"].address == "health-forms/visits"


def test_upstream_goes_back_to_the_question_and_downstream_to_the_last_recipe(connection: Connection, org: int) -> None:
    record_usual(connection)
    graph = read_lineage(connection, org)
    back = graph.upstream([Point(MONTHLY, "place")])
    assert {(e.source.table, e.source.column, e.column) for e in back.edges} == {
        (PEOPLE, "place", "place"),
        (HOMES, "village", "place"),
        (HOMES, "phone", None),
    }
    assert "size" not in back.tables[HOMES].columns
    forth = graph.downstream([Point(HOMES, "village")])
    assert [(e.table, e.column) for e in forth.edges if e.use == "value"] == [(PEOPLE, "place"), (MONTHLY, "place")]
    assert graph.downstream([Point(HOMES, "size")]).tables.keys() == {HOMES, PEOPLE}


def test_recording_again_replaces_everything(connection: Connection, org: int) -> None:
    record_usual(connection)
    record(connection, "clean_people", ["other"], ("other", "value", HOMES, "size"))
    graph = read_lineage(connection, org)
    assert list(graph.into[PEOPLE]) == [Edge(Point(HOMES, "size"), PEOPLE, "other", "value")]
    # What monthly_visits reads of it is gone now, and is shown as that.
    assert graph.tables[PEOPLE].columns["place"].missing
    assert not graph.tables[PEOPLE].columns["other"].missing


def test_a_changed_spec_makes_the_lineage_stale_and_a_new_recipe_has_none(connection: Connection, org: int) -> None:
    record_usual(connection)
    connection.execute(
        text("""UPDATE datasense.recipes SET spec = '{"inputs": {"homes": "source:health-forms.homes"}}'
                WHERE name = 'clean_people'""")
    )
    connection.execute(
        text(
            """INSERT INTO datasense.recipes (org_id, name, spec)
               VALUES (:org, 'fresh', '{"inputs": {"gone": "recipe:nowhere"}}')"""
        ),
        {"org": org},
    )
    graph = read_lineage(connection, org)
    assert graph.tables[PEOPLE].state == "stale"
    assert graph.tables["recipe:fresh"].state == "unknown"
    assert graph.tables["recipe:nowhere"].state == "missing"


def test_lineage_goes_with_its_recipe_and_moves_no_revision(catalog: Engine, manifest: Manifest) -> None:
    with catalog.begin() as connection:
        apply_manifest(connection, manifest)
    with catalog.begin() as connection:
        before = one(connection, "SELECT revision FROM datasense.revisions")
        record_usual(connection)
    with catalog.begin() as connection:
        assert one(connection, "SELECT revision FROM datasense.revisions") == before
        connection.execute(text("DELETE FROM datasense.recipes"))
        for table in ("recipe_lineage", "recipe_columns", "recipe_column_uses"):
            assert one(connection, f"SELECT count(*) FROM datasense.{table}") == 0


def test_a_reader_never_sees_half_a_lineage(catalog: Engine, manifest: Manifest) -> None:
    with catalog.begin() as connection:
        apply_manifest(connection, manifest)
        org = one(connection, "SELECT id FROM datasense.organizations")
        record_usual(connection)
    done = threading.Event()

    def rewrite(name: str) -> None:
        for _ in range(15):
            with catalog.begin() as connection:
                record(connection, "clean_people", [name], (name, "value", HOMES, name))

    writers = [threading.Thread(target=rewrite, args=(name,)) for name in ("a", "b")]
    for writer in writers:
        writer.start()
    seen = set()
    while not done.is_set():
        if not any(writer.is_alive() for writer in writers):
            done.set()
        with catalog.connect() as connection:
            edges = read_lineage(connection, org).into[PEOPLE]
        seen.add(tuple(sorted({edge.column or "" for edge in edges})))
    for writer in writers:
        writer.join()
    assert seen <= {("a",), ("b",), ("", "place", "size")}


def test_one_organisation_sees_nothing_of_another(connection: Connection, org: int, manifest: Manifest) -> None:
    record_usual(connection)
    other = manifest.model_copy(update={"organization": manifest.organization.model_copy(update={"slug": "other"})})
    apply_manifest(connection, other)
    theirs = one(connection, "SELECT id FROM datasense.organizations WHERE slug = 'other'")
    graph = read_lineage(connection, theirs)
    assert graph.edges == ()
    assert graph.tables[PEOPLE].state == "unknown"
    assert impact_of_deleting(connection, theirs, [HOMES]) != impact_of_deleting(connection, org, [HOMES])


def brief(found: list[Impact]) -> list[tuple[str, str]]:
    return [(each.recipe, each.effect) for each in found]


def test_what_a_removed_or_retyped_column_does(connection: Connection, org: int) -> None:
    record_usual(connection)
    homes = one(connection, "SELECT id FROM datasense.source_tables WHERE slug = 'homes'")

    def after(kind: str, column: str) -> list[tuple[str, str]]:
        return brief(impact_of_schema_changes(connection, homes, [SchemaChange(kind, column)]))  # type: ignore[arg-type]

    assert after("added", "size") == []
    assert after("removed", "village") == [("clean_people", "breaks"), ("monthly_visits", "waits")]
    assert after("removed", "phone") == [("clean_people", "breaks"), ("monthly_visits", "waits")]
    assert after("removed", "size") == [("clean_people", "loses_columns")]
    assert after("retyped", "village") == [("clean_people", "may_break"), ("monthly_visits", "may_break")]
    assert after("retyped", "size") == [("clean_people", "may_break")]


def test_a_recipe_that_names_a_column_that_another_loses_breaks(connection: Connection, org: int) -> None:
    record(connection, "clean_people", ["size"], ("size", "value", HOMES, "size"))
    record(connection, "monthly_visits", ["n"], ("n", "value", PEOPLE, "size"), (None, "named", PEOPLE, "size"))
    homes = one(connection, "SELECT id FROM datasense.source_tables WHERE slug = 'homes'")
    found = impact_of_schema_changes(connection, homes, [SchemaChange("removed", "size")])
    assert brief(found) == [("clean_people", "loses_columns"), ("monthly_visits", "breaks")]
    assert found[0].lost == ("size",)
    assert found[1].through == ("clean_people",)
    assert "clean_people.size" in str(found[1])


def test_deleting_a_table_breaks_its_readers_known_or_not(connection: Connection, org: int) -> None:
    assert brief(impact_of_deleting(connection, org, [HOMES])) == [
        ("clean_people", "breaks"),
        ("monthly_visits", "waits"),
    ]
    assert brief(impact_of_deleting(connection, org, [PEOPLE])) == [("monthly_visits", "breaks")]
    assert impact_of_deleting(connection, org, [MONTHLY]) == []


TABLES = [f"recipe:r{i}" for i in range(4)]
EDGES = st.lists(
    st.tuples(
        st.sampled_from(TABLES),
        st.sampled_from("ab"),
        st.sampled_from(TABLES),
        st.sampled_from(["a", "b", None]),
    ),
    max_size=20,
)


@given(EDGES)
def test_no_circle_keeps_a_walk_from_ending(given_edges: list[tuple[str, str, str, str | None]]) -> None:
    edges = tuple(
        Edge(Point(source, name), table, column, "value" if column else "named")
        for source, name, table, column in given_edges
    )
    tables = {
        reference: LineageTable(
            reference,
            reference[7:],
            columns={name: LineageColumn(name) for name in "ab"},
            reads=tuple({edge.source.table for edge in edges if edge.table == reference}),
            recipe_id=i + 1,
        )
        for i, reference in enumerate(TABLES)
    }
    graph = LineageGraph(tables, edges)
    start = Point(TABLES[0], "a")
    assert graph.order().keys() == tables.keys()
    back, forth = graph.upstream([start]), graph.downstream([start])
    # What a walk finds is what a walk from any of its ends the other way finds again.
    for edge in forth.edges:
        if edge.column is not None:
            assert start in _values(graph, Point(edge.table, edge.column))
    assert all(edge in edges for edge in (*back.edges, *forth.edges))
    hurt = {each.recipe for each in impact(graph, gone=[start])}
    named = {edge.table[7:] for edge in edges if edge.use == "named" and edge.source == start}
    assert named <= hurt


def _values(graph: LineageGraph, point: Point) -> set[Point]:
    found = {edge.source for edge in graph.upstream([point]).edges if edge.column is not None}
    return found | {point}
