"""A few thousand spoilt recipes of the fuzzer; and that what it looks for would be found."""

from __future__ import annotations

import pytest

from datasense_assets_tests.recipes.fuzz import SCHEMA, Fault, case, judge, run

TABLES = {(SCHEMA, "t")}


def test_spoilt_recipes_are_refused_with_reasons_or_compile_to_one_safe_statement(database_url: str) -> None:
    tally, faults = run(database_url, seed=7, start=0, cases=1_200)
    assert faults == []
    assert tally["compiled"] > 150
    assert tally["refused"] > 500


def test_a_case_is_always_the_same() -> None:
    assert repr(case(3, 17)) == repr(case(3, 17)) != repr(case(3, 18))


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM org_other.t",
        "SELECT * FROM t",
        "SELECT * FROM org_fuzz.t WHERE x IN (SELECT rolname FROM pg_catalog.pg_authid)",
        "SELECT pg_sleep(10) FROM org_fuzz.t",
        "SELECT current_setting('x') FROM org_fuzz.t",
        "SELECT other.lower('x') FROM org_fuzz.t",
        "SELECT 1 INTO x FROM org_fuzz.t",
        "SELECT 1 FROM org_fuzz.t FOR UPDATE",
        "SELECT $1 FROM org_fuzz.t",
        "SELECT 1; SELECT 2",
        "DROP TABLE org_fuzz.t",
        "SELECT FROM WHERE",
        "WITH t AS (DELETE FROM org_fuzz.t RETURNING x) SELECT x FROM t",
    ],
)
def test_a_statement_that_reaches_out_is_a_fault(statement: str) -> None:
    with pytest.raises(Fault):
        judge(statement, TABLES)


def test_a_statement_over_the_tables_is_none() -> None:
    judge(
        "WITH c AS (SELECT lower(x) AS x FROM org_fuzz.t) SELECT count(*) FROM c JOIN org_fuzz.t AS o USING (x)", TABLES
    )
