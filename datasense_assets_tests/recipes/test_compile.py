"""What a compiled recipe is: qualified SQL, schema, lineage, stability; and that importing the language is light."""

from __future__ import annotations

import re
import subprocess
import sys
import unicodedata
from dataclasses import replace
from pathlib import Path
from typing import Any

import ibis
import psycopg
import pytest
import sqlglot
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sqlglot.lineage import lineage as sqlglot_lineage

from datasense_assets.recipes import Recipe, RecipeErrors, TableRef, compile_recipe, words
from datasense_assets.recipes.compiling.compile import Compiled, check_recipe
from datasense_assets.recipes.compiling.kinds import CANONICAL
from datasense_assets.recipes.compiling.patterns import BadPattern, postgres_pattern
from datasense_assets.recipes.compiling.registry import compiled_models
from datasense_assets.recipes.compiling.stages import compile_stages
from datasense_assets.recipes.examples import EXAMPLE_LABELS, EXAMPLE_OTHER, EXAMPLE_TABLE
from datasense_assets.recipes.language.steps import STEP_MODELS
from datasense_assets.recipes.reference import reference
from datasense_assets_tests.recipes.kitchen import Kitchen, recipe_of
from datasense_assets_tests.recipes.reference_conditions import in_a_word

VISITS = ibis.schema({"year": "int64", "district": "string", "visits": "int64", "month": "string"})
PEOPLE = ibis.schema({"district": "string", "population": "int64"})
INPUTS = {"visits": TableRef("org_x", "forms__visits", VISITS), "people": TableRef("org_x", "people", PEOPLE)}
STEPS: list[dict[str, Any]] = [
    {"op": "filter", "where": {"column": "year", "operator": "=", "value": 2026}},
    {"op": "cast", "columns": [{"column": "month", "to": "integer"}]},
    {"op": "join", "with": "people", "how": "left", "on": [{"left": "district", "right": "district"}]},
    {"op": "formula", "column": "rate", "formula": "visits / population"},
    {"op": "union", "with": ["visits"]} | {"with": ["people"]},
    {
        "op": "aggregate",
        "group_by": ["district"],
        "aggregations": [
            {"fn": "sum", "column": "visits", "into": "visits"},
            {"fn": "max", "column": "rate", "into": "rate"},
            {"fn": "first", "column": "month", "into": "month", "order_by": ["-year"]},
        ],
    },
    {"op": "sort", "by": ["-visits"]},
]


def compiled(steps: list[dict[str, Any]] = STEPS) -> Compiled:
    return compile_recipe(recipe_of(steps, list(INPUTS)), INPUTS)


@pytest.mark.parametrize("sample", [None, 5])
def test_each_stage_is_what_the_recipe_up_to_it_compiles_to(sample: int | None) -> None:
    again = {"op": "cast", "columns": [{"column": "month", "to": "text"}, {"column": "rate", "to": "integer"}]}
    recipe = recipe_of([*STEPS, again], list(INPUTS))
    told: list[tuple[str, str]] = []
    for number, stage in enumerate(compile_stages(recipe, INPUTS, sample=sample)):
        whole = compile_recipe(recipe.upto(number), INPUTS, sample=sample)
        told += stage.lossy_casts
        assert (stage.columns, stage.sql, told) == (tuple(whole.schema.names), whole.sql, whole.lossy_casts)
    assert (number, [column for column, _ in told]) == (len(STEPS) + 1, ["month", "rate"])


def test_lineage_of_a_whole_recipe() -> None:
    result = compiled()
    assert result.lineage == {
        "district": [("forms__visits", "district"), ("people", "district")],
        "visits": [("forms__visits", "visits")],
        "rate": [("forms__visits", "visits"), ("people", "population")],
        "month": [("forms__visits", "month"), ("forms__visits", "year")],
    }
    assert result.row_lineage == [
        ("forms__visits", "district"),
        ("forms__visits", "visits"),
        ("forms__visits", "year"),
        ("people", "district"),
    ]
    assert result.schema == ibis.schema({"district": "string", "visits": "int64", "rate": "float64", "month": "int64"})
    assert [column for column, _ in result.lossy_casts] == ["month"]


def by_sqlglot(result: Compiled) -> dict[str, list[tuple[str, str]]]:
    """Lineage found by parsing the SQL again."""
    tables = {ref.table: dict.fromkeys(ref.columns.names, "text") for ref in INPUTS.values()}
    schema = {"org_x": tables}
    found = {}
    for name in result.schema.names:
        quoted = sqlglot.exp.column(name, quoted=True).sql("postgres")
        leaves = [n for n in sqlglot_lineage(quoted, result.sql, schema, dialect="postgres").walk() if not n.downstream]
        pairs = {
            (leaf.expression.this.name, leaf.name.rpartition(".")[2].strip('"'))
            for leaf in leaves
            if isinstance(leaf.expression, sqlglot.exp.Table)
        }
        found[name] = sorted(pairs)
    return found


LINEAGE_STEPS: list[list[dict[str, Any]]] = [
    STEPS,
    [
        {
            "op": "window",
            "fn": "lag",
            "column": "visits",
            "into": "l",
            "partition_by": ["district"],
            "order_by": ["year"],
        }
    ],
    [{"op": "fill_missing", "columns": ["month", "visits"], "method": "down", "order_by": ["year"]}],
    [{"op": "deduplicate", "keys": ["district"], "order_by": ["-year"]}],
    [
        {
            "op": "pivot",
            "group_by": ["year"],
            "names_from": "month",
            "names": ["1", "2"],
            "values_from": "visits",
            "fn": "sum",
        }
    ],
    [{"op": "unpivot", "columns": ["district", "month"], "names_to": "k", "values_to": "v"}],
    [
        {"op": "extract", "column": "month", "pattern": "(a)b", "into": "m"},
        {"op": "mask", "columns": ["m"], "method": "hash"},
    ],
    STEPS[:3],
    [{"op": "concat", "parts": [{"column": "district"}, {"column": "month"}], "into": "district"}],
    [{"op": "split_choices", "column": "district", "choices": ["a", "b"]}, {"op": "drop", "columns": ["district"]}],
    [
        {
            "op": "case",
            "cases": [{"when": {"column": "year", "operator": ">", "value": 1}, "then_column": "district"}],
            "otherwise_column": "month",
            "into": "c",
        },
        {"op": "rename", "columns": {"c": "year", "year": "c"}},
    ],
    [{"op": "join", "with": "visits", "how": "full", "on": [{"left": "year", "right": "visits"}]}],
    [{"op": "union", "with": ["visits"], "distinct": True, "source_column": "src"}, {"op": "limit", "rows": 3}],
    [{"op": "replace_values", "column": "district", "mapping": [{"find": "a", "replace": "b"}], "into": "x"}],
    [{"op": "coalesce", "columns": ["district", "month"], "into": "x"}, {"op": "select", "columns": ["x"]}],
]


@pytest.mark.parametrize("steps", LINEAGE_STEPS)
def test_lineage_agrees_with_sqlglot(steps: list[dict[str, Any]]) -> None:
    result = compiled(steps)
    assert result.lineage == by_sqlglot(result)


def test_lineage_of_expanded_lists() -> None:
    ref = {"t": TableRef("org_x", "t", ibis.schema({"id": "int64", "j": "json"}))}
    step = {"op": "expand_list", "column": "j", "fields": {"a": "text"}, "index_into": "i"}
    result = compile_recipe(recipe_of([step]), ref)
    assert result.lineage == {"id": [("t", "id")], "a": [("t", "j")], "i": [("t", "j")]}
    assert result.row_lineage == [("t", "j")]


def test_sql_is_one_select_qualified_without_stars_and_always_the_same() -> None:
    first, second = compiled(), compile_recipe(recipe_of(STEPS, list(INPUTS)).model_copy(), dict(INPUTS))
    assert first.sql == second.sql
    (statement,) = sqlglot.parse(first.sql, dialect="postgres")
    assert isinstance(statement, sqlglot.exp.Select)
    for select in statement.find_all(sqlglot.exp.Select):
        source = select.args["from_"].this
        if isinstance(source, sqlglot.exp.Table) and source.db:
            assert source.db == "org_x"
            assert not any(isinstance(item, sqlglot.exp.Star) for item in select.expressions)


def test_a_column_that_a_load_adds_later_does_not_come_in(kitchen: Kitchen) -> None:
    kitchen.table("t", {"n": "bigint"}, [(1,)])
    kitchen.connection.execute('ALTER TABLE "org ""x"" %s".forms__t ADD late text')
    for step in (
        {"op": "limit", "rows": 5},
        {"op": "union", "with": ["t"], "distinct": True},
        {"op": "sort", "by": ["n"]},
    ):
        assert kitchen.cook(step).columns == ["n"]


def test_the_cache_gives_the_same_result_until_recipe_or_schema_change() -> None:
    assert compiled() is compiled()
    wider = {**INPUTS, "people": TableRef("org_x", "people", ibis.schema({**PEOPLE, "area": "float64"}))}
    assert compile_recipe(recipe_of(STEPS, list(INPUTS)), wider) is not compiled()
    assert compiled(STEPS[:2]) is not compiled()


def test_a_written_null_is_not_a_field_left_out() -> None:
    step = {"op": "replace_values", "column": "district", "mapping": [{"find": "a", "replace": "b"}]}
    assert compiled([step]).sql != compiled([{**step, "otherwise": None}]).sql


def test_parse_and_model_validate_give_the_same_recipe() -> None:
    recipe = recipe_of(STEPS, list(INPUTS))
    again = Recipe.model_validate(recipe.model_dump(by_alias=True, exclude_unset=True, mode="json"))
    assert again == recipe


def test_importing_the_language_loads_no_ibis() -> None:
    code = (
        "import sys; from datasense_assets.recipes import Recipe, RecipeErrors, TableRef, recipe_order;"
        "print([m for m in ('ibis', 'sqlglot', 'lark', 'pyarrow', 'pandas', 'psycopg') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_step_model_compiles_and_its_example_too() -> None:
    assert compiled_models() == frozenset(STEP_MODELS.values())
    tables = {
        alias: TableRef("org_x", alias, ibis.schema({name: CANONICAL[kind] for name, kind in columns.items()}))
        for alias, columns in (("visits", EXAMPLE_TABLE), ("people", EXAMPLE_OTHER))
    }
    tables["visits"] = replace(tables["visits"], choice_labels=EXAMPLE_LABELS)
    for op, model in STEP_MODELS.items():
        assert model.example["op"] == op
        assert compile_recipe(recipe_of([model.example], list(tables)), tables).sql


def test_the_reference_is_up_to_date() -> None:
    written = Path(__file__).parents[2] / "docs" / "recipes.md"
    assert written.read_text(encoding="utf-8") == reference()


PIECES = st.sampled_from(
    [
        *"ab09 ._-^$|()[]{}*+?\\é",
        *(r"\d", r"\w", r"\b", r"\1", "(a)", "(?:", "(?i)", "(?=", "[^", "{2}", "{,", "}+", "{1,3}"),
    ]
)


@settings(max_examples=300, deadline=None)
@example("(?=)*", "")
@example("a(?!b(c))+[(?=)]", "a")
@example(r"(?=(a))(a)\2", "a")
@example(r"[\1]", "")
@example(r"[\0\07\101]", "")
@given(st.lists(PIECES, max_size=8).map("".join), st.text("ab09 é", max_size=6))
def test_a_pattern_that_is_accepted_runs_on_postgres(
    recipe_connection: psycopg.Connection, pattern: str, text: str
) -> None:
    try:
        translated = postgres_pattern(pattern).text
    except BadPattern:
        return
    try:
        recipe_connection.execute("SELECT %s ~ %s", (text, translated))
    finally:
        recipe_connection.rollback()


def test_a_word_is_made_of_letters_marks_and_digits_of_every_script() -> None:
    given = [chr(code) for code in range(0x30000) if unicodedata.category(chr(code)) not in ("Cn", "Co", "Cs")]
    listed = re.compile(f"[{words.IN_SET}]")
    assert [c for c in given if words.is_word(c) != (listed.fullmatch(c) is not None)] == []
    # a later Unicode gives characters to places that were free
    differing = [c for c in given if words.is_word(c) != in_a_word(c)]
    assert unicodedata.unidata_version > "14.0.0" or differing == []
    assert len(differing) < 500


@pytest.mark.parametrize("edge", [r"\b", r"\B"])
def test_a_pattern_asks_for_no_more_edges_of_words_than_postgres_can_find(
    recipe_connection: psycopg.Connection, edge: str
) -> None:
    for filling in (".*", "[a-z]*", r"(\w+) "):
        translated = postgres_pattern((edge + filling) * 10 + r"\bab" * 50).text
        recipe_connection.execute("SELECT 'kis umu' ~ %s", (translated,))
        with pytest.raises(BadPattern, match="more than 10 times"):
            postgres_pattern((edge + filling) * 11)
    recipe_connection.rollback()


def test_rows_that_their_source_has_deleted_are_in_no_number(kitchen: Kitchen) -> None:
    columns = {"n": "bigint", "_ds_deleted_at": "timestamptz"}
    kitchen.table("t", columns, [(1, None), (2, "2026-01-01"), (3, None)])
    kitchen.table("u", columns, [(1, "2026-01-01"), (3, None)])
    aggregated = kitchen.cook({"op": "aggregate", "aggregations": [{"fn": "count", "into": "rows"}]})
    assert aggregated.rows == [(2,)]
    joined = kitchen.cook({"op": "join", "with": "u", "how": "inner", "on": [{"left": "n", "right": "n"}]})
    assert joined.column("n") == [3]


def test_a_check_finds_what_compiling_finds_without_writing_sql() -> None:
    tables = {
        alias: TableRef("org_x", alias, ibis.schema({name: CANONICAL[kind] for name, kind in columns.items()}))
        for alias, columns in (("visits", EXAMPLE_TABLE), ("people", EXAMPLE_OTHER))
    }
    tables["visits"] = replace(tables["visits"], choice_labels=EXAMPLE_LABELS)
    good = recipe_of([STEP_MODELS["join"].example, STEP_MODELS["aggregate"].example], list(tables))
    compiled, checked = compile_recipe(good, tables), check_recipe(good, tables)
    assert (checked.schema, checked.lineage) == (compiled.schema, compiled.lineage)
    bad = recipe_of([{"op": "drop", "columns": ["x"]}, {"op": "sort", "by": ["y"]}], list(tables))
    again = {"op": "formula", "column": "visits", "formula": "visits * 2 + visits - 1"}
    narrow = [{"op": "select", "columns": ["visits"]}, *[again] * 98]
    for recipe in (bad, recipe_of(narrow, list(tables))):
        told = []
        for look in (compile_recipe, check_recipe):
            with pytest.raises(RecipeErrors) as caught:
                look(recipe, tables)
            told.append([(error.code, error.path) for error in caught.value.errors])
        assert told[0] == told[1]
