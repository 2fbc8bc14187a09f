"""Dalgo's operations as recipes, run on PostgreSQL beside the SQL that dbt-automation documents for them."""

from __future__ import annotations

from typing import Any

import pytest
from psycopg import sql

from datasense_assets.catalog.models import ColumnType
from datasense_assets.recipes import Recipe, compile_recipe
from datasense_assets.recipes.dalgo import import_dalgo
from datasense_assets.recipes.dalgo.operations import OPERATIONS, WITHOUT_STEPS
from datasense_assets_tests.recipes.kitchen import SCHEMA, Kitchen

COLUMNS = {"ngo": "text", "month": "text", "a": "bigint", "b": "bigint", "ok": "boolean", "data": "jsonb"}
KINDS = dict(zip(COLUMNS, map(ColumnType, ("text", "text", "integer", "integer", "boolean", "json")), strict=True))
ROWS = [
    ("IDEX", "jan", 7, 2, True, '{"Full name": "Asha", "age": 31, "1": "x"}'),
    ("IDEX", "feb", 1, 0, False, '{"Full name": null}'),
    ("CRC-3", "jan", None, 5, None, None),
    ("None", None, -3, 2, True, "{}"),
]
OTHER = {"ngo": "text", "a": "bigint", "state": "text"}
OTHER_ROWS = [("IDEX", 70, "KA"), ("IDEX", 2, "TN"), ("SNEHA", None, "MH")]
MAIN = {"input_type": "source", "source_name": "Forms", "input_name": "visits"}
SECOND = {"input_type": "model", "source_name": None, "input_name": "places"}
ALL = list(COLUMNS)
TYPES = {"source:forms.visits": KINDS}

# The operation, and what its SQL is by the project's own code, over t1 and t2.
CASES: dict[str, tuple[str, dict[str, Any], str]] = {
    "cast": (
        "castdatatypes",
        {"source_columns": ["ngo", "a"], "columns": [{"columnname": "a", "columntype": "TEXT"}]},
        'SELECT "ngo", CAST("a" AS text) AS "a" FROM {t1}',
    ),
    "add": (
        "arithmetic",
        {
            "source_columns": ["ngo"],
            "operator": "add",
            "operands": [
                {"is_col": True, "value": "a"},
                {"is_col": True, "value": "b"},
                {"is_col": False, "value": "1"},
            ],
            "output_column_name": "sum",
        },
        'SELECT "ngo", coalesce(a, 0) + coalesce(b, 0) + coalesce(1, 0) AS "sum" FROM {t1}',
    ),
    "subtract": (
        "arithmetic",
        {
            "source_columns": ALL,
            "operator": "sub",
            "operands": [{"is_col": True, "value": "a"}, {"is_col": True, "value": "b"}],
            "output_column_name": "less",
        },
        'SELECT *, coalesce(a, 0) - coalesce(b, 0) AS "less" FROM {t1}',
    ),
    "multiply": (
        "arithmetic",
        {
            "source_columns": ["ngo"],
            "operator": "mul",
            "operands": [{"is_col": True, "value": "a"}, {"is_col": True, "value": "b"}],
            "output_column_name": "times",
        },
        'SELECT "ngo", "a" * "b" AS "times" FROM {t1}',
    ),
    "divide": (
        "arithmetic",
        {
            "source_columns": ["ngo"],
            "operator": "div",
            "operands": [{"is_col": True, "value": "a"}, {"is_col": True, "value": "b"}],
            "output_column_name": "q",
        },
        'SELECT "ngo", (a) / nullif((b), 0) AS "q" FROM {t1}',
    ),
    "coalesce": (
        "coalescecolumns",
        {"source_columns": ["ngo"], "columns": ["a", "b"], "default_value": 0, "output_column_name": "first"},
        'SELECT "ngo", COALESCE("a", "b", 0) AS "first" FROM {t1}',
    ),
    "concat": (
        "concat",
        {
            "source_columns": ["ngo"],
            "columns": [
                {"name": "ngo", "is_col": True},
                {"name": " - ", "is_col": False},
                {"name": "month", "is_col": True},
            ],
            "output_column_name": "both",
        },
        """SELECT "ngo", CONCAT("ngo",' - ',"month") AS "both" FROM {t1}""",
    ),
    "drop": ("dropcolumns", {"source_columns": ["ngo", "a"], "columns": ["a", "zz"]}, 'SELECT "ngo" FROM {t1}'),
    "rename": (
        "renamecolumns",
        {"source_columns": ["ngo", "a"], "columns": {"a": "Amount (₹)"}},
        'SELECT "ngo", "a" AS "Amount (₹)" FROM {t1}',
    ),
    "flatten": (
        "flattenjson",
        {"source_columns": ["ngo"], "json_column": "data", "json_columns_to_copy": ["Full name", "age", "1"]},
        """SELECT "ngo", "data"::json->>'Full name' as "data_Full_name", "data"::json->>'age' as "data_age",
           "data"::json->>'1' as "data_c1" FROM {t1}""",
    ),
    "regex": (
        "regexextraction",
        {"source_columns": ["ngo", "a"], "columns": {"ngo": "[A-Z]+"}},
        """SELECT substring("ngo" FROM '[A-Z]+') AS "ngo", "a" FROM {t1}""",
    ),
    "replace": (
        "replace",
        {
            "source_columns": ["a"],
            "columns": [
                {
                    "col_name": "ngo",
                    "output_column_name": "clean",
                    "replace_ops": [{"find": "I", "replace": "J"}, {"find": "J", "replace": "it's"}],
                }
            ],
        },
        """SELECT "a", REPLACE(REPLACE("ngo", 'I', 'J'), 'J', 'it''s') AS "clean" FROM {t1}""",
    ),
    "where": (
        "where",
        {
            "source_columns": ["ngo"],
            "where_type": "or",
            "clauses": [
                {"column": "a", "operator": ">=", "operand": {"value": "7", "is_col": False}},
                {"column": "ngo", "operator": "!=", "operand": {"value": "IDEX", "is_col": False}},
                {"column": "a", "operator": "<", "operand": {"value": "b", "is_col": True}},
                {"column": "month", "operator": "IS NULL", "operand": None},
            ],
        },
        """SELECT "ngo" FROM {t1} WHERE ("a" >= '7' OR "ngo" != 'IDEX' OR "a" < "b" OR "month" IS NULL)""",
    ),
    "group": (
        "groupby",
        {
            "source_columns": ["ngo"],
            "aggregate_on": [
                {"operation": op, "column": column, "output_column_name": f"{op}_{column}"}
                for op, column in (("count", "a"), ("countdistinct", "month"), ("sum", "a"), ("min", "b"), ("max", "b"))
            ],
        },
        """SELECT "ngo", COUNT("a") AS count_a, COUNT(DISTINCT "month") AS countdistinct_month, SUM("a") AS sum_a,
           MIN("b") AS min_b, MAX("b") AS max_b FROM {t1} GROUP BY "ngo" """,
    ),
    "aggregate": (
        "aggregate",
        {
            "source_columns": ["ngo"],
            "aggregate_on": [
                {"operation": "sum", "column": "a", "output_column_name": "total"},
                {"operation": "countdistinct", "column": "month", "output_column_name": "months"},
            ],
        },
        """SELECT "ngo", (SELECT SUM("a") FROM {t1}) AS "total", (SELECT COUNT(DISTINCT "month") FROM {t1}) AS "months"
           FROM {t1}""",
    ),
    "case": (
        "casewhen",
        {
            "source_columns": ["ngo"],
            "case_type": "simple",
            "when_clauses": [
                {
                    "column": "a",
                    "operator": "between",
                    "operands": [{"value": "1", "is_col": False}, {"value": "5", "is_col": False}],
                    "then": {"value": "low", "is_col": False},
                },
                {
                    "column": "ngo",
                    "operator": "=",
                    "operands": [{"value": "IDEX", "is_col": False}],
                    "then": {"value": "month", "is_col": True},
                },
            ],
            "else_clause": {"value": "other", "is_col": False},
            "output_column_name": "kind",
        },
        """SELECT "ngo", CASE WHEN "a" BETWEEN '1' AND '5' THEN 'low' WHEN "ngo" = 'IDEX' THEN "month" ELSE 'other' END
           AS "kind" FROM {t1}""",
    ),
    "pivot": (
        "pivot",
        {"source_columns": ["ngo"], "pivot_column_name": "month", "pivot_column_values": ["jan", "feb", "mar"]},
        """SELECT "ngo", sum(case when "month" = 'jan' then 1 else 0 end) AS "jan",
           sum(case when "month" = 'feb' then 1 else 0 end) AS "feb",
           sum(case when "month" = 'mar' then 1 else 0 end) AS "mar" FROM {t1} GROUP BY "ngo" """,
    ),
    "unpivot": (
        "unpivot",
        {
            "source_columns": ["ngo", "a", "ok"],
            "exclude_columns": ["ngo"],
            "unpivot_columns": ["a", "ok"],
            "unpivot_field_name": "what",
            "unpivot_value_name": "held",
        },
        """SELECT "ngo", 'a' AS "what", cast("a" as varchar) AS "held" FROM {t1}
           UNION ALL SELECT "ngo", 'ok', cast("ok"::varchar as varchar) FROM {t1}""",
    ),
    "generic": (
        "generic",
        {
            "source_columns": ["a"],
            "computed_columns": [
                {"function_name": "LOWER", "operands": [{"value": "ngo", "is_col": True}], "output_column_name": "Low"}
            ],
        },
        'SELECT "a", LOWER("ngo") AS Low FROM {t1}',
    ),
    **{
        f"{how} join": (
            "join",
            {
                "source_columns": ["ngo", "a"],
                "other_inputs": [{"input": SECOND, "source_columns": ["ngo", "a", "state"], "seq": 2}],
                "join_type": how,
                "join_on": {"key1": "ngo", "key2": "ngo", "compare_with": "="},
            },
            f"""SELECT t1.ngo, t1.a, t2.ngo AS "ngo_2", t2.a AS "a_2", t2.state FROM {{t1}} t1
                {how.upper()} JOIN {{t2}} t2 ON t1.ngo = t2.ngo""",
        )
        for how in ("inner", "left", "full outer")
    },
    "join on two keys": (
        "join",
        {
            "source_columns": ["ngo", "b"],
            "other_inputs": [{"input": SECOND, "source_columns": ["a", "state"], "seq": 1}],
            "join_type": "left",
            "join_on": [
                {"key1": "ngo", "key2": "ngo", "compare_with": "="},
                {"key1": "b", "key2": "a", "compare_with": "="},
            ],
        },
        """SELECT t1.ngo, t1.b, t2.a, t2.state FROM {t1} t1 LEFT JOIN {t2} t2 ON t1.ngo = t2.ngo AND t1.b = t2.a""",
    ),
    "union": (
        "unionall",
        {"source_columns": ["ngo", "a"], "other_inputs": [{"input": SECOND, "source_columns": ["ngo", "state"]}]},
        """SELECT ngo, a, cast(null as text) AS state FROM {t1} UNION ALL SELECT ngo, a, state FROM {t2}""",
    ),
}


def run(kitchen: Kitchen, recipe: dict[str, Any]) -> tuple[set[str], list[Any]]:
    """Names of the columns, and rows by name, of an imported recipe."""
    parsed = Recipe.parse(recipe)
    tables = {"source:forms.visits": "visits", "recipe:places": "places"}
    refs = {alias: kitchen.refs[tables[reference]] for alias, reference in parsed.inputs.items()}
    compiled = compile_recipe(parsed, refs)
    return rows_of(kitchen, sql.SQL(compiled.sql))


def rows_of(kitchen: Kitchen, query: sql.Composable) -> tuple[set[str], list[Any]]:
    cursor = kitchen.connection.execute(query)
    names = [column.name for column in cursor.description or ()]
    rows = [sorted((name, str(value)) for name, value in zip(names, row, strict=True)) for row in cursor.fetchall()]
    return set(names), sorted(rows)


@pytest.fixture
def both(kitchen: Kitchen) -> Kitchen:
    kitchen.table("visits", COLUMNS, ROWS)
    kitchen.table("places", OTHER, OTHER_ROWS)
    return kitchen


def expected(kitchen: Kitchen, query: str) -> tuple[set[str], list[Any]]:
    places = {name: sql.Identifier(SCHEMA, f"forms__{table}") for name, table in (("t1", "visits"), ("t2", "places"))}
    return rows_of(kitchen, sql.SQL(query).format(**places))


@pytest.mark.parametrize("case", CASES)
def test_an_operation_gives_the_rows_of_its_sql(both: Kitchen, case: str) -> None:
    kind, config, query = CASES[case]
    done = import_dalgo({"type": kind, "config": {"input": MAIN, "output_name": "Out put", **config}}, TYPES)
    assert done.problems == []
    (recipe,) = done.recipes
    assert recipe["name"] == "out_put"
    assert run(both, recipe) == expected(both, query)


def test_every_operation_has_a_case() -> None:
    assert {kind for kind, _, _ in CASES.values()} | {"union_tables"} == OPERATIONS.keys()


def test_a_chain_of_operations_is_one_recipe(both: Kitchen) -> None:
    operations = [
        {"type": "dropcolumns", "config": {"source_columns": ALL, "columns": ["data", "ok"]}},
        {"type": "renamecolumns", "config": {"source_columns": ALL[:4], "columns": {"a": "amount"}}},
        {
            "type": "where",
            "config": {
                "source_columns": ["ngo", "month", "b", "amount"],
                "where_type": "and",
                "clauses": [{"column": "amount", "operator": ">", "operand": {"value": "0", "is_col": False}}],
            },
        },
        {
            "type": "groupby",
            "config": {
                "dimension_columns": ["ngo"],
                "aggregate_on": [{"operation": "avg", "column": "amount", "output_column_name": "mean"}],
            },
        },
    ]
    merged = {"dest_schema": "prod", "output_name": "means", "input": MAIN, "operations": operations}
    file = {
        "version": 1,
        "warehouse": "postgres",
        "operations": [
            {"type": "scaffold", "config": {"project_name": "x"}},
            {"type": "syncsources", "config": {"source_name": "Forms"}},
            {"type": "mergeoperations", "config": merged},
        ],
    }
    done = import_dalgo(file, TYPES)
    assert done.problems == []
    assert [note.path for note in done.notes[:2]] == ["operations[0]", "operations[1]"]
    (recipe,) = done.recipes
    names, rows = run(both, recipe)
    assert names == {"ngo", "mean"}
    assert [dict(row)["mean"] for row in rows] == ["4.0"]


@pytest.mark.parametrize(
    ("kind", "config", "path"),
    [
        ("rawsql", {"sql_statement_1": "*"}, "type"),
        ("flatten", {}, "type"),
        ("teleport", {}, "type"),
        ("where", {"where_type": "sql", "sql_snippet": "a > 1"}, "sql_snippet"),
        ("where", {"clauses": [{"column": "a", "operator": "~~", "operand": {"value": 1}}]}, "clauses[0].operator"),
        ("casewhen", {"case_type": "advance", "sql_snippet": "CASE"}, "sql_snippet"),
        ("join", {"join_type": "cross"}, "join_type"),
        ("join", {"join_type": "left", "join_on": {"compare_with": "<"}}, "join_on.compare_with"),
        ("join", {"join_type": "left", "join_on": [{}, {"compare_with": "<"}]}, "join_on[1].compare_with"),
        ("groupby", {"aggregate_on": [{"operation": "mode", "column": "a"}]}, "aggregate_on[0].operation"),
        ("castdatatypes", {"columns": [{"columnname": "a", "columntype": "xml"}]}, "columns[0].columntype"),
        ("generic", {"computed_columns": [{"function_name": "PG_SLEEP"}]}, "computed_columns[0].function_name"),
        ("arithmetic", {"operator": "add"}, ""),
    ],
)
def test_what_has_no_recipe_is_told_with_its_place(kind: str, config: dict[str, Any], path: str) -> None:
    good = {"type": "dropcolumns", "config": {"input": MAIN, "output_name": "good", "columns": ["a"]}}
    done = import_dalgo([{"type": kind, "config": {"input": MAIN, "output_name": "bad", **config}}, good], TYPES)
    assert [recipe["name"] for recipe in done.recipes] == ["good"]
    (problem,) = done.problems
    assert problem.path == f"[0].config.{path}".rstrip(".")
    assert problem.fix
    assert set(WITHOUT_STEPS) == {"rawsql", "flatten"}


@pytest.mark.parametrize("data", [None, "x", 3, {}, {"operations": 3}, {"operations": [3]}, [[]], [{"type": "where"}]])
def test_what_is_no_file_of_operations_is_refused(data: Any) -> None:
    assert import_dalgo(data).problems


def test_a_constant_of_an_unknown_type_is_told() -> None:
    clause = {"column": "a", "operator": "=", "operand": {"value": "7", "is_col": False}}
    done = import_dalgo({"type": "where", "config": {"input": MAIN, "output_name": "x", "clauses": [clause]}})
    assert "the type of 'a' is not known" in done.notes[0].message


@pytest.mark.parametrize(
    ("written", "name"), [("Out  put", "out_put"), ("a-_b--c__d", "a_b_c_d"), ("2026 visits!", "model_2026_visits")]
)
def test_a_model_of_any_name_is_a_recipe(written: str, name: str) -> None:
    done = import_dalgo({"type": "dropcolumns", "config": {"input": MAIN, "output_name": written, "columns": ["a"]}})
    assert ([recipe["name"] for recipe in done.recipes], done.problems) == ([name], [])
