"""Which columns of a recipe's table have the question of a form as comment, as PostgreSQL has it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import ibis
import psycopg
import pytest
from psycopg import sql

from datasense_assets.recipes.build import build_recipe
from datasense_assets.recipes.compiling.kinds import CANONICAL
from datasense_assets.recipes.compiling.statement import postgres_type
from datasense_assets.recipes.examples import EXAMPLE_LABELS, EXAMPLE_OTHER, EXAMPLE_TABLE
from datasense_assets.recipes.language.steps import STEP_MODELS
from datasense_assets.recipes.recipe import Recipe
from datasense_assets.recipes.tableref import TableRef
from datasense_assets.warehouse.columns import ColumnSpec, comment_on

SCHEMA = f"org_questions_{uuid.uuid4().hex[:8]}"
INPUTS = {"visits": "source:forms.visits", "people": "recipe:people"}
MADE: dict[str, set[str]] = {
    "formula": {"cost_per_visit"},
    "coalesce": {"contact"},
    "case": {"load"},
    "extract": {"ward"},
    "split_column": {"last_name_1", "last_name_2"},
    "concat": {"name"},
    "date_part": {"month"},
    "union": {"came_from"},
    "aggregate": {"visits"},
    "window": {"visits_so_far"},
    "pivot": {"visits_f", "visits_m"},
    "unpivot": {"which", "number"},
    "expand_list": {"name", "age", "member_number"},
    "expand_json": {"address_street", "address_number"},
    "split_choices": {"services/water", "services/food"},
    "geopoint": {"gps_latitude", "gps_longitude", "gps_altitude", "gps_accuracy"},
    "bin": {"load"},
}
"""By step of the reference's examples, the columns that answer a question of their own."""
CALLED = {"rename": {"visit_count": "visits"}, "label_values": {"sex_label": "sex"}}


@pytest.fixture(scope="module")
def house(recipe_database: str) -> Iterator[psycopg.Connection]:
    """The tables of the reference's examples, each column with its name and a question mark as comment."""
    with psycopg.connect(recipe_database, autocommit=True, prepare_threshold=None) as connection:
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(SCHEMA)))
        for alias, kinds in (("visits", EXAMPLE_TABLE), ("people", EXAMPLE_OTHER)):
            specs = [ColumnSpec(name, postgres_type(CANONICAL[kind])) for name, kind in kinds.items()]
            typed = sql.SQL(", ").join(
                sql.SQL("{} {}").format(sql.Identifier(s.name), sql.SQL(s.pg_type)) for s in specs
            )
            connection.execute(sql.SQL("CREATE TABLE {} ({})").format(sql.Identifier(SCHEMA, alias), typed))
            comment_on(connection, "TABLE", SCHEMA, alias, None, {name: f"{name}?" for name in kinds})
        yield connection
        connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(SCHEMA)))


def asked(house: psycopg.Connection, *steps: dict[str, Any], name: str = "result") -> dict[str, str | None]:
    """The comment of each column of what the steps make."""
    refs = {
        "visits": TableRef(SCHEMA, "visits", schema_of(EXAMPLE_TABLE), choice_labels=EXAMPLE_LABELS),
        "people": TableRef(SCHEMA, "people", schema_of(EXAMPLE_OTHER)),
    }
    recipe = Recipe.parse({"version": 1, "name": name, "inputs": INPUTS, "steps": list(steps)})
    house.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(sql.Identifier(SCHEMA, name)))
    build_recipe(house, SCHEMA, recipe, refs)
    query = (
        "SELECT attname, col_description(attrelid, attnum) FROM pg_attribute"
        " WHERE attrelid = to_regclass(%s) AND attnum > 0"
    )
    return dict(house.execute(query, (f"{SCHEMA}.{name}",)).fetchall())


def schema_of(kinds: dict[str, Any]) -> ibis.Schema:
    return ibis.schema({name: CANONICAL[kind] for name, kind in kinds.items()})


@pytest.mark.parametrize("op", STEP_MODELS)
def test_what_a_step_does_not_ask_anew_keeps_its_question(house: psycopg.Connection, op: str) -> None:
    found = asked(house, STEP_MODELS[op].example)
    called = CALLED.get(op, {})
    expected = {n: None if n in MADE.get(op, ()) else f"{called.get(n, n)}?" for n in found}
    assert found == expected
    assert MADE.get(op, set()) | called.keys() <= found.keys()


KEEPING: list[dict[str, Any]] = [
    {"op": "window", "fn": "row_number", "into": "place", "order_by": ["seen_on"]},
    {"op": "cast", "columns": [{"column": "visits", "to": "text"}, {"column": "day", "to": "date"}]},
    {"op": "clean_text", "columns": ["phone"], "actions": ["trim", "remove_digits"]},
    {"op": "window", "fn": "count", "into": "rows", "partition_by": ["district"]},
    {"op": "replace_values", "column": "sex", "mapping": [{"find": "f", "replace": "w"}], "into": "gender"},
    {"op": "fill_missing", "columns": ["first_name"], "method": "up", "order_by": ["seen_on", "place"]},
    {"op": "fill_missing", "columns": ["note"], "method": "value", "value": "none"},
    {"op": "coalesce", "columns": ["last_name"], "into": "family", "default": "none"},
    {"op": "expand_list", "column": "services", "delimiter": " ", "index_into": "number"},
    {"op": "extract", "column": "location", "pattern": "^[0-9]+"},
    {"op": "rename", "columns": {"visits": "day", "day": "visits"}},
    {"op": "deduplicate", "keys": ["phone"], "keep": "last"},
    {"op": "mask", "columns": ["phone", "first_name"], "method": "hash"},
    {"op": "sort", "by": ["place"]},
]


def test_a_question_comes_through_a_chain_of_steps(house: psycopg.Connection) -> None:
    found = asked(house, *KEEPING)
    new = {name: found.pop(name) for name in ("place", "rows", "gender", "number", "location")}
    assert not any(new.values())
    called = {"visits": "day", "day": "visits", "family": "last_name"}
    assert found == {name: f"{called.get(name, name)}?" for name in found}
    assert {*EXAMPLE_TABLE, "family"} == {*found, "location"}


@pytest.mark.timeout(60)
def test_a_cast_that_changes_nothing_beside_a_window_keeps_the_question(house: psycopg.Connection) -> None:
    window = {"op": "window", "fn": "row_number", "into": "place", "order_by": ["seen_on"]}
    cast = {"op": "cast", "columns": [{"column": "visits", "to": "integer"}, {"column": "place", "to": "integer"}]}
    found = asked(house, window, cast, {"op": "coalesce", "columns": ["visits"], "into": "times"})
    assert (found["visits"], found["times"], found["place"]) == ("visits?", "visits?", None)


def comment(house: psycopg.Connection, table: str, column: str, words: str | None) -> None:
    place = sql.Identifier(SCHEMA, table, column)
    house.execute(sql.SQL("COMMENT ON COLUMN {} IS {}").format(place, sql.Literal(words)))


@pytest.mark.parametrize(("other", "expected"), [(None, "phone?"), ("phone?", "phone?"), ("phone_2?", None)])
def test_what_several_columns_answer_has_their_question_where_it_is_one(
    house: psycopg.Connection, other: str | None, expected: str | None
) -> None:
    comment(house, "visits", "phone_2", other)
    found = asked(house, {"op": "coalesce", "columns": ["phone", "phone_2"], "into": "contact"})
    comment(house, "visits", "phone_2", "phone_2?")
    assert found["contact"] == expected


@pytest.mark.parametrize(("other", "expected"), [(None, "district?"), ("district?", "district?"), ("Where?", None)])
def test_a_joins_key_has_the_question_of_its_sides(
    house: psycopg.Connection, other: str | None, expected: str | None
) -> None:
    comment(house, "people", "district", other)
    join = {"op": "join", "with": "people", "on": [{"left": "district", "right": "district"}]}
    found = {how: asked(house, {**join, "how": how}) for how in ("left", "right", "full")}
    comment(house, "people", "district", "district?")
    # the key that a left join keeps is the left's alone
    assert [found[how]["district"] for how in found] == ["district?", expected, expected]


@pytest.mark.parametrize(("other", "expected"), [(None, "visits?"), ("visits?", "visits?"), ("How many?", None)])
def test_a_unions_column_of_integers_and_numbers_has_the_question_of_its_sides(
    house: psycopg.Connection, other: str | None, expected: str | None
) -> None:
    comment(house, "people", "population", other)
    steps = (
        {"op": "cast", "columns": [{"column": "visits", "to": "number"}]},
        {"op": "rename", "columns": {"visits": "population"}},
        {"op": "union", "with": ["people"], "distinct": True},
    )
    found = asked(house, *steps)
    comment(house, "people", "population", "population?")
    assert found["population"] == expected
