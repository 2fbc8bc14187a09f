"""Inputs found in the catalog and the warehouse, tables built, steps previewed."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import date
from typing import Any

import psycopg
import pytest
from psycopg import sql

from datasense_assets.catalog.models import (
    Choice,
    ColumnType,
    Deletes,
    Organization,
    RecipeRow,
    Source,
    SourceColumn,
    SourceTable,
)
from datasense_assets.recipes import Recipe, RecipeErrors, compile_recipe
from datasense_assets.recipes.build import BuildFailed, build_recipe
from datasense_assets.recipes.inputs import input_table_refs
from datasense_assets.recipes.preview import MASK, preview_step
from datasense_assets.warehouse.errors import WarehouseError
from datasense_assets.warehouse.reading import table_columns
from datasense_assets.warehouse.swap import LimitExceeded, SessionLimits

INPUTS = {"visits": "source:health-forms.visits"}


def column(name: str, kind: ColumnType, position: int, **more: Any) -> SourceColumn:
    return SourceColumn(name=name, key=name, label=name.title(), type=kind, position=position, **more)


def recipe_data(
    name: str, steps: list[dict[str, Any]], inputs: dict[str, str] | None = None, **more: Any
) -> dict[str, Any]:
    return {"version": 1, "name": name, "inputs": inputs or INPUTS, "steps": steps, **more}


def organization(*recipes: dict[str, Any]) -> Organization:
    visits = SourceTable(
        id=1,
        slug="visits",
        resource="abc",
        columns=(
            column("district", ColumnType.TEXT, 0, choices=(Choice(value="n", labels={"": "North", "hi": "उत्तर"}),)),
            column("patient", ColumnType.TEXT, 1, personal=True),
            column("visits", ColumnType.TEXT, 2),
        ),
    )
    repeat = SourceTable(
        id=2, slug="visits__drugs", resource="abc", parent="visits", columns=(column("drug", ColumnType.TEXT, 0),)
    )
    source = Source(
        id=1,
        slug="health-forms",
        connector="kobo",
        created_on=date(2026, 1, 1),
        deletes=Deletes.MARK,
        tables=(visits, repeat),
    )
    rows = tuple(RecipeRow(id=i, name=data["name"], spec=data) for i, data in enumerate(recipes, 1))
    return Organization(id=1, slug="clean-water", name="Clean Water", sources=(source,), recipes=rows)


# Roles belong to the whole server, which other workers of the test run share.
ROLE = f"org_build_{uuid.uuid4().hex[:12]}"


@pytest.fixture
def warehouse(recipe_database: str) -> Iterator[psycopg.Connection]:
    """The organisation's schema with one loaded table, seen as the organisation's own role."""
    with psycopg.connect(recipe_database, autocommit=True, prepare_threshold=None) as connection:
        connection.execute(f"CREATE ROLE {ROLE}")
        connection.execute(f"CREATE SCHEMA org_clean_water AUTHORIZATION {ROLE}")
        connection.execute(f"SET ROLE {ROLE}")
        connection.execute(
            "CREATE TABLE org_clean_water.health_forms__visits"
            " (district text, patient text, visits text, _ds_row_id text, answers jsonb)"
        )
        connection.execute(
            "INSERT INTO org_clean_water.health_forms__visits VALUES"
            " ('n', 'Asha', '3', 'r1', '{\"a\": 1}'), ('n', 'Ravi', 'many', 'r2', NULL), ('s', NULL, '4', 'r3', '[]')"
        )
        yield connection
        connection.execute("RESET ROLE")
        connection.execute("DROP SCHEMA org_clean_water CASCADE")
        connection.execute(f"DROP OWNED BY {ROLE}")
        connection.execute(f"DROP ROLE {ROLE}")


STEPS: list[dict[str, Any]] = [
    {"op": "cast", "columns": [{"column": "visits", "to": "integer"}]},
    {
        "op": "aggregate",
        "group_by": ["district"],
        "aggregations": [{"fn": "sum", "column": "visits", "into": "visits"}],
    },
]


def build(connection: psycopg.Connection, data: dict[str, Any], **more: Any) -> Any:
    recipe = Recipe.parse(data)
    refs = input_table_refs(recipe, organization(), connection)
    return build_recipe(connection, "org_clean_water", recipe, refs, **more)


def rows_of(connection: psycopg.Connection, table: str) -> list[tuple[Any, ...]]:
    return sorted(
        connection.execute(sql.SQL("SELECT * FROM {}").format(sql.Identifier("org_clean_water", table))).fetchall(),
        key=repr,
    )


def test_a_build_makes_a_typed_table_and_reports_on_it(warehouse: psycopg.Connection) -> None:
    report = build(
        warehouse, recipe_data("by-district", STEPS, title="By district", output={"indexes": [["district"]]})
    )
    assert rows_of(warehouse, "by_district") == [("n", 3), ("s", 4)]
    types = [(c.name, c.pg_type) for c in table_columns(warehouse, "org_clean_water", "by_district")]
    assert types == [("district", "text"), ("visits", "bigint")]
    assert (report.rows, report.lossy_casts, report.table) == (2, {"visits": 1}, "by_district")
    assert report.lineage["visits"] == [("health_forms__visits", "visits")]
    assert sorted(report.preview, key=repr) == [{"district": "n", "visits": 3}, {"district": "s", "visits": 4}]
    found = warehouse.execute(
        "SELECT obj_description('org_clean_water.by_district'::regclass), count(*)"
        " FROM pg_indexes WHERE tablename = 'by_district'"
    ).fetchone()
    assert found == ("By district", 1)


@pytest.mark.parametrize("materialize", ["table", "view"])
def test_a_column_that_passes_untouched_keeps_its_question_and_what_people_wrote_stays(
    warehouse: psycopg.Connection, materialize: str
) -> None:
    table = "org_clean_water.health_forms__visits"
    warehouse.execute(f"COMMENT ON COLUMN {table}.district IS 'Which district? %s \"ज़िला\"'")
    warehouse.execute(f"COMMENT ON COLUMN {table}.visits IS 'How many visits?'")
    steps = [
        {"op": "rename", "columns": {"district": "place"}},
        {"op": "sort", "by": ["patient"]},
        {"op": "join", "with": "again", "how": "left", "on": [{"left": "place", "right": "district"}]},
        {"op": "formula", "column": "visits", "formula": "number(visits)"},
        {"op": "select", "columns": ["place", "visits", "visits_2"]},
    ]
    inputs = {**INPUTS, "again": INPUTS["visits"]}
    data = recipe_data("labelled", steps, inputs, output={"materialize": materialize})
    kind = "VIEW" if materialize == "view" else "TABLE"
    labels = ['Which district? %s "ज़िला"', None, "How many visits?"]
    for _ in range(2):
        report = build(warehouse, data)
        found = [c.comment for c in table_columns(warehouse, "org_clean_water", "labelled")]
        assert found == labels == [c.comment for c in report.columns]
    warehouse.execute("COMMENT ON COLUMN org_clean_water.labelled.visits_2 IS 'mine'")
    warehouse.execute(f"COMMENT ON {kind} org_clean_water.labelled IS 'all of mine'")
    first = build(warehouse, data)
    assert (first.definition_hash, first.columns[2].comment) == (report.definition_hash, "mine")
    assert warehouse.execute("SELECT obj_description('org_clean_water.labelled'::regclass)").fetchone() == (
        "all of mine",
    )


def test_building_again_replaces_the_rows_and_gives_the_same_hash(warehouse: psycopg.Connection) -> None:
    first = build(warehouse, recipe_data("again", STEPS))
    warehouse.execute("DELETE FROM org_clean_water.health_forms__visits WHERE district = 's'")
    second = build(warehouse, recipe_data("again", STEPS))
    assert (second.rows, second.sql_hash) == (1, first.sql_hash)
    assert rows_of(warehouse, "again") == [("n", 3)]


def test_json_and_times_keep_their_types(warehouse: psycopg.Connection) -> None:
    build(warehouse, recipe_data("typed", [{"op": "select", "columns": ["answers", "_ds_row_id"]}]))
    assert [c.pg_type for c in table_columns(warehouse, "org_clean_water", "typed")] == ["jsonb", "text"]
    assert rows_of(warehouse, "typed") == [(None, "r2"), ([], "r3"), ({"a": 1}, "r1")]


def test_personal_values_are_masked_in_previews_wherever_they_went(warehouse: psycopg.Connection) -> None:
    steps = [{"op": "concat", "parts": [{"column": "patient"}, {"text": "!"}], "into": "greeting"}]
    report = build(
        warehouse, recipe_data("masked", [*steps, {"op": "select", "columns": ["patient", "greeting", "visits"]}])
    )
    assert {row["patient"] for row in report.preview} == {MASK, None}
    assert {row["greeting"] for row in report.preview} == {MASK}
    assert {row["visits"] for row in report.preview} == {"3", "many", "4"}


def test_a_value_that_must_not_be_lost_fails_the_build_and_keeps_the_table(warehouse: psycopg.Connection) -> None:
    build(warehouse, recipe_data("strict", STEPS))
    strict = [{"op": "cast", "columns": [{"column": "visits", "to": "integer", "on_error": "fail"}]}, *STEPS[1:]]
    with pytest.raises(BuildFailed, match="column 'visits' cannot be read as integer"):
        build(warehouse, recipe_data("strict", strict))
    assert rows_of(warehouse, "strict") == [("n", 3), ("s", 4)]


NUMBERS = [{"op": "cast", "columns": [{"column": "visits", "to": "number"}]}]


@pytest.mark.parametrize(
    "steps",
    [
        [{"op": "formula", "column": "n", "formula": "visits + 1e308 + 1e308"}],
        [{"op": "formula", "column": "n", "formula": "-1e308 - visits - 1e308"}],
        [{"op": "formula", "column": "n", "formula": "visits * 1e308"}],
        [{"op": "formula", "column": "n", "formula": "visits / 1e-308"}],
        [{"op": "formula", "column": "n", "formula": "visits * 1e-200 * 1e-200"}],
        [{"op": "formula", "column": "n", "formula": "visits / 1e200 / 1e200"}],
        *(
            [{"op": "formula", "column": "n", "formula": "1e308 + visits"}, step]
            for step in (
                {"op": "aggregate", "aggregations": [{"fn": "sum", "column": "n", "into": "n"}]},
                {"op": "aggregate", "aggregations": [{"fn": "avg", "column": "n", "into": "n"}]},
                {"op": "window", "fn": "running_sum", "column": "n", "into": "n", "order_by": ["patient"]},
            )
        ),
    ],
)
def test_a_number_that_no_double_holds_fails_the_build_and_says_why(
    warehouse: psycopg.Connection, steps: list[dict[str, Any]]
) -> None:
    build(warehouse, recipe_data("large", STEPS))
    with pytest.raises(BuildFailed, match=r"large was not built, its old table stays: value out of range") as caught:
        build(warehouse, recipe_data("large", [*NUMBERS, *steps]))
    assert "beyond 1.8e308, or nearer to zero than 1e-308" in (caught.value.advice or "")
    assert rows_of(warehouse, "large") == [("n", 3), ("s", 4)]


def test_what_was_never_built_has_no_old_table_to_speak_of(warehouse: psycopg.Connection) -> None:
    steps = [*NUMBERS, {"op": "formula", "column": "n", "formula": "visits + 1e308 + 1e308"}]
    with pytest.raises(BuildFailed, match=r"large was not built, there is no table yet: value out of range"):
        build(warehouse, recipe_data("large", steps))


@pytest.mark.parametrize("formula", ["visits / 0", "visits ^ 4000", "exp(visits * 1000)", "sqrt(-visits)"])
def test_a_formula_without_an_answer_is_null(warehouse: psycopg.Connection, formula: str) -> None:
    steps = [{"op": "formula", "column": "n", "formula": formula}, {"op": "select", "columns": ["n"]}]
    report = build(warehouse, recipe_data("none", [*NUMBERS, *steps]))
    assert report.rows == 3
    assert rows_of(warehouse, "none") == [(None,)] * 3


def test_a_build_may_not_read_another_schema(warehouse: psycopg.Connection) -> None:
    warehouse.execute("RESET ROLE")
    warehouse.execute("CREATE SCHEMA org_other")
    warehouse.execute("CREATE TABLE org_other.health_forms__visits (district text, visits text)")
    try:
        warehouse.execute(f"SET ROLE {ROLE}")
        recipe = Recipe.parse(recipe_data("spy", STEPS))
        refs = input_table_refs(recipe, organization(), warehouse, schema="org_other")
        with pytest.raises(BuildFailed, match="permission denied"):
            build_recipe(warehouse, "org_clean_water", recipe, refs)
    finally:
        warehouse.execute("RESET ROLE")
        warehouse.execute("DROP SCHEMA org_other CASCADE")
        warehouse.execute(f"SET ROLE {ROLE}")


def test_inputs_from_the_warehouse_and_from_the_catalog(warehouse: psycopg.Connection) -> None:
    recipe = Recipe.parse(recipe_data("r", [], {"v": "source:health-forms.visits", "gone": "source:health_forms.nope"}))
    real = input_table_refs(recipe, organization(), warehouse)
    assert list(real) == ["v"]
    assert dict(real["v"].columns.items()).keys() == {"district", "patient", "visits", "_ds_row_id", "answers"}
    assert real["v"].choice_labels == {"district": {"n": "North"}}
    assert real["v"].personal == {"patient"}
    known = input_table_refs(recipe, organization())
    assert list(known["v"].columns.names) == [
        "district",
        "patient",
        "visits",
        "_ds_row_id",
        "_ds_loaded_at",
        "_ds_deleted_at",
    ]
    with pytest.raises(RecipeErrors) as caught:
        compile_recipe(recipe, known)
    assert [(e.code, e.path) for e in caught.value.errors] == [("missing_table", "inputs.gone")]


def test_a_repeat_group_joins_its_parent_by_the_system_columns() -> None:
    recipe = Recipe.parse(
        recipe_data(
            "drugs",
            [
                {
                    "op": "join",
                    "with": "v",
                    "how": "inner",
                    "on": [{"left": "_ds_parent_id", "right": "_ds_row_id"}],
                    "columns": ["district"],
                }
            ],
            {"d": "source:health_forms.visits__drugs", "v": "source:health_forms.visits"},
        )
    )
    assert "district" in compile_recipe(recipe, input_table_refs(recipe, organization())).schema.names


def test_a_recipe_as_input_is_compiled_when_there_is_no_table_to_ask() -> None:
    lower = recipe_data("by-district", STEPS)
    upper = Recipe.parse(recipe_data("top", [{"op": "sort", "by": ["-visits"]}], {"d": "recipe:by_district"}))
    refs = input_table_refs(upper, organization(lower))
    assert (refs["d"].table, dict(refs["d"].columns.items()).keys()) == ("by_district", {"district", "visits"})
    circle = recipe_data("top", [], {"d": "recipe:top"})
    assert input_table_refs(Recipe.parse(circle), organization(circle)) == {}


def test_preview_of_each_step_writes_nothing_and_masks(warehouse: psycopg.Connection) -> None:
    recipe = Recipe.parse(recipe_data("p", [*STEPS, {"op": "select", "columns": ["nowhere"]}]))
    refs = input_table_refs(recipe, organization(), warehouse)
    start = preview_step(warehouse, recipe, refs, step=0, rows=2)
    assert (len(start.rows), start.rows[0][1], start.sampled) == (2, MASK, False)
    assert sorted(preview_step(warehouse, recipe, refs, step=2).rows) == [("n", 3), ("s", 4)]
    assert len(preview_step(warehouse, recipe, refs, step=1, sample=1).rows) == 1
    with pytest.raises(RecipeErrors):
        preview_step(warehouse, recipe, refs)
    with pytest.raises(ValueError, match="there is no step 4"):
        preview_step(warehouse, recipe, refs, step=4)
    assert table_columns(warehouse, "org_clean_water", "p") == []


def test_a_preview_counts_rows_nulls_and_lost_values_step_by_step(warehouse: psycopg.Connection) -> None:
    recipe = Recipe.parse(
        recipe_data(
            "p",
            [
                *STEPS[:1],
                {"op": "filter", "where": {"column": "patient", "operator": "is_not_null"}},
                {"op": "cast", "columns": [{"column": "patient", "to": "number"}]},
                *STEPS[1:],
            ],
        )
    )
    refs = input_table_refs(recipe, organization(), warehouse)
    found = preview_step(warehouse, recipe, refs, figures=True)
    told = [(each.label, each.rows, (each.nulls or {}).get("visits"), each.lost) for each in found.steps]
    assert told == [
        ("Input visits", 3, 0, {}),
        ("Step 1 (cast)", 3, 1, {"visits": 1}),
        ("Step 2 (filter)", 2, 1, {}),
        ("Step 3 (cast)", 2, 1, {"patient": 2}),
        ("Step 4 (aggregate)", 1, 0, {}),
    ]
    assert not found.sampled
    part = preview_step(warehouse, recipe, refs, figures=True, sample=2, step=1)
    assert (part.sampled, [each.rows for each in part.steps]) == (True, [2, 2])
    assert not preview_step(warehouse, recipe, refs, sample=3).sampled


def test_figures_that_take_too_long_are_left_out_and_the_rows_are_shown(warehouse: psycopg.Connection) -> None:
    warehouse.execute(
        "INSERT INTO org_clean_water.health_forms__visits SELECT 'n', 'x', '1' FROM generate_series(1, 6000)"
    )
    on = [{"left": "district", "right": "district"}]
    steps = [{"op": "select", "columns": ["district"]}, {"op": "join", "with": "visits", "how": "inner", "on": on}]
    recipe = Recipe.parse(recipe_data("slow", steps))
    refs = input_table_refs(recipe, organization(), warehouse)
    found = preview_step(warehouse, recipe, refs, rows=3, figures=True, limits=SessionLimits(statement_timeout=1.0))
    assert len(found.rows) == 3
    assert [each.rows for each in found.steps] == [6003, 6003, None]


def test_a_personal_value_that_stands_in_the_way_is_not_told(warehouse: psycopg.Connection) -> None:
    steps = [{"op": "cast", "columns": [{"column": "patient", "to": "integer", "on_error": "fail"}]}]
    recipe = Recipe.parse(recipe_data("strict", steps))
    refs = input_table_refs(recipe, organization(), warehouse)
    for look in (
        lambda: preview_step(warehouse, recipe, refs),
        lambda: build_recipe(warehouse, "org_clean_water", recipe, refs),
    ):
        with pytest.raises(WarehouseError) as caught:
            look()
        assert "'patient' cannot be read as integer" in str(caught.value)
        assert "Asha" not in str(caught.value)
        assert caught.value.__cause__ is None


def test_a_preview_that_takes_too_long_is_cut_off_and_leaves_no_limit_behind(warehouse: psycopg.Connection) -> None:
    warehouse.execute(
        "INSERT INTO org_clean_water.health_forms__visits SELECT 'n', 'x', '1' FROM generate_series(1, 3000)"
    )
    on = [{"left": "district", "right": "district"}]
    steps = [{"op": "join", "with": "visits", "how": "inner", "on": on, "suffix": f"_{i}"} for i in range(2)]
    recipe = Recipe.parse(
        recipe_data("slow", [*steps, {"op": "aggregate", "aggregations": [{"fn": "count", "into": "c"}]}])
    )
    refs = input_table_refs(recipe, organization(), warehouse)
    with pytest.raises(LimitExceeded):
        preview_step(warehouse, recipe, refs, limits=SessionLimits(statement_timeout=0.05))
    assert warehouse.execute("SHOW statement_timeout").fetchone() == ("0",)
