"""Checks on a table in PostgreSQL: what breaks them, how it is said, how many queries it takes, what is never shown."""

from __future__ import annotations

import re
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import ibis
import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg import sql

from datasense_assets.recipes import RecipeErrors, TableRef, compile_recipe
from datasense_assets.recipes.checking.evaluate import run_checks
from datasense_assets.recipes.checking.history import LoadCount
from datasense_assets.recipes.checking.naming import check_names, sentence
from datasense_assets.recipes.checking.results import CheckResult, Subject
from datasense_assets.recipes.compiling.checks import check_errors, reference_errors
from datasense_assets.recipes.compiling.frame import Frame
from datasense_assets.recipes.compiling.kinds import CANONICAL
from datasense_assets.recipes.compiling.stored import stored_rows
from datasense_assets.recipes.examples import EXAMPLE_TABLE
from datasense_assets.recipes.language.checks import CHECK_MODELS
from datasense_assets.recipes.parsing import parse_checks
from datasense_assets.warehouse.swap import SessionLimits
from datasense_assets_tests.at_length import examples
from datasense_assets_tests.recipes.kitchen import SCHEMA, Kitchen, errors_of, recipe_of
from datasense_assets_tests.recipes.test_properties import TREES, fresh_kitchen, truth

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
VISITS = {"_ds_row_id": "text", "district": "text", "n": "bigint", "day": "date", "note": "jsonb"}
ROWS = [
    ("a1", "Ajmer", 1, "2026-02-28", None),
    ("a2", "Ajmer", 2, "2026-03-01", "{}"),
    ("a3", "Alwar", -4, None, None),
    ("a4", None, 7, "2026-02-01", None),
]


def check(kitchen: Kitchen, *checks: dict[str, Any], **more: Any) -> list[CheckResult]:
    subject = Subject(**{"ref": kitchen.refs["t"], "key": "_ds_row_id", "now": NOW, **more})
    return list(run_checks(kitchen.connection, list(checks), subject).results)


@pytest.fixture
def visits(kitchen: Kitchen) -> Kitchen:
    kitchen.table("t", VISITS, ROWS)
    kitchen.table("places", {"name": "text", "code": "bigint"}, [("Ajmer", 1), (None, 2)])
    return kitchen


PLACES = {"check": "exists_in", "column": "district", "in": "source:forms.places", "to": "name"}


@pytest.mark.parametrize(
    ("written", "broken", "samples", "words"),
    [
        ({"check": "not_null", "column": "district"}, 1, ("a4",), "1 of 4 rows: district is null."),
        ({"check": "not_null", "column": "n"}, 0, (), "It holds for every row of 4."),
        ({"check": "unique", "columns": ["district"]}, 2, ("a1", "a2"), "another row has the same district"),
        ({"check": "unique", "columns": ["district", "n"]}, 0, (), "It holds"),
        ({"check": "accepted_values", "column": "district", "values": ["Ajmer"]}, 1, ("a3",), "none of the accepted"),
        ({"check": "range", "column": "n", "min": 1, "max": 2}, 2, ("a3", "a4"), "n is not from 1 to 2"),
        ({"check": "range", "column": "day", "min": "2026-02-15"}, 1, ("a4",), "day is not at least 2026-02-15"),
        ({"check": "range", "column": "n", "max": 7.5}, 0, (), "It holds"),
        ({"check": "pattern", "column": "district", "pattern": "^A.m"}, 1, ("a3",), "does not match"),
        (PLACES, 1, ("a3",), "district is not found in source:forms.places"),
        (
            {"check": "condition", "where": {"column": "n", "operator": ">", "value": 0}},
            1,
            ("a3",),
            "condition is not met",
        ),
        (
            {"check": "condition", "where": {"column": "day", "operator": ">", "value": "2026-02-15"}},
            2,
            ("a3", "a4"),
            "condition is not met",
        ),
        ({"check": "row_count", "min": 5}, None, (), "4 rows; at least 5 expected."),
        ({"check": "row_count", "max": 3}, None, (), "4 rows; from 1 to 3 expected."),
        ({"check": "fresh_within", "within": "1 day", "column": "day"}, None, (), "older than 1 day"),
    ],
)
def test_a_broken_check_counts_the_rows_names_some_and_says_how(
    visits: Kitchen, written: dict[str, Any], broken: int | None, samples: tuple[str, ...], words: str
) -> None:
    moment = NOW + timedelta(days=2)
    (result,) = check(visits, written, references={"source:forms.places": visits.refs["places"]}, now=moment)
    assert (result.broken, result.samples) == (broken, samples)
    assert result.passed == (broken == 0)
    assert words in result.message


def test_holding_checks_pass(visits: Kitchen) -> None:
    passed = check(
        visits,
        {"check": "row_count", "max": 4},
        {"check": "fresh_within", "within": "2 days", "column": "day"},
        {"check": "max_lossy_casts", "max": 3},
        of_recipe=True,
        lost={"a": 1, "b": 2},
    )
    assert [result.passed for result in passed] == [True, True, True]
    (lossy,) = check(visits, {"check": "max_lossy_casts", "column": "b", "max": 1}, of_recipe=True, lost={"b": 2})
    assert (lossy.passed, lossy.broken) == (False, 2)
    assert "b: 2" in lossy.message


def test_without_a_column_freshness_is_of_the_load(kitchen: Kitchen) -> None:
    stamp = "_ds_loaded_at"
    kitchen.table("t", {"n": "bigint", stamp: "timestamptz"}, [(1, NOW - timedelta(hours=30))])
    day, week = ({"check": "fresh_within", "within": within} for within in ("1 day", "1 week"))
    assert [r.passed for r in check(kitchen, day, week, key=None)] == [False, True]
    of_recipe = check(kitchen, day, week, key=None, of_recipe=True, loaded_at=NOW - timedelta(days=2))
    assert [r.passed for r in of_recipe] == [False, True]
    (nothing,) = check(kitchen, day, key=None, of_recipe=True)
    assert not nothing.passed


def test_rows_that_their_source_has_deleted_are_not_looked_at(kitchen: Kitchen) -> None:
    kitchen.table("t", {"n": "bigint", "_ds_deleted_at": "timestamptz"}, [(1, None), (None, NOW), (1, NOW)])
    results = check(
        kitchen,
        {"check": "not_null", "column": "n"},
        {"check": "unique", "columns": ["n"]},
        {"check": "row_count", "max": 1},
        key=None,
    )
    assert [result.passed for result in results] == [True, True, True]


def test_a_table_may_be_held_against_itself(kitchen: Kitchen) -> None:
    kitchen.table("t", {"code": "bigint", "parent": "bigint"}, [(1, None), (2, 1), (3, 9)])
    written = {"check": "exists_in", "column": "parent", "in": "source:forms.t", "to": "code"}
    (result,) = check(kitchen, written, key="code", references={"source:forms.t": kitchen.refs["t"]})
    assert (result.broken, result.samples) == (1, ("3",))


def test_one_scan_for_all_rows_and_one_query_for_samples(visits: Kitchen, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    real = psycopg.Connection.execute

    def execute(self: Any, query: Any, *args: Any, **more: Any) -> Any:
        text = query if isinstance(query, str) else query.as_string(self)
        asked.append(text)
        return real(self, query, *args, **more)

    monkeypatch.setattr(psycopg.Connection, "execute", execute)
    rowwise = [
        {"check": "not_null", "column": "district"},
        {"check": "accepted_values", "column": "district", "values": ["Ajmer"]},
        {"check": "range", "column": "n", "min": 0},
        {"check": "pattern", "column": "district", "pattern": "^A"},
        {"check": "condition", "where": {"column": "n", "operator": "<", "value": 5}},
        {"check": "row_count"},
        {"check": "row_count_change"},
        {"check": "fresh_within", "within": "99 days", "column": "day"},
    ]
    assert [r.passed for r in check(visits, *rowwise)] == [False, False, False, True, False, True, True, True]
    selects = [query for query in asked if query.lstrip("( ").startswith("SELECT")]
    assert len(selects) == 2
    asked.clear()
    good = [rowwise[3], {"check": "unique", "columns": ["district", "n"]}]
    assert all(r.passed for r in check(visits, *good))
    assert len([query for query in asked if query.lstrip("( ").startswith("SELECT")]) == 2


def test_no_value_of_a_row_is_ever_shown(kitchen: Kitchen) -> None:
    secret = "98290 12345"
    kitchen.table("t", {"phone": "text", "born": "date"}, [(secret, "1971-05-06"), (secret, "1971-05-06")])
    ref = kitchen.refs["t"]
    personal = TableRef(ref.schema, ref.table, ref.columns, frozenset({"phone", "born"}))
    results = check(
        kitchen,
        {"check": "pattern", "column": "phone", "pattern": "^[0-9]{10}$"},
        {"check": "unique", "columns": ["phone"]},
        {"check": "accepted_values", "column": "phone", "values": ["none"]},
        {"check": "range", "column": "born", "min": "2000-01-01"},
        {"check": "fresh_within", "column": "born", "within": "1 day"},
        ref=personal,
        key=None,
    )
    assert not any(result.passed for result in results)
    assert secret not in repr(results)
    assert "1971" not in repr(results)
    # A text of the error that PostgreSQL makes quotes the value: it stays inside.
    shape = TableRef(ref.schema, ref.table, ibis.schema({"phone": "int64"}), frozenset())
    (failed,) = check(kitchen, {"check": "range", "column": "phone", "min": 1}, ref=shape, key=None)
    assert not failed.passed
    assert "98290" not in failed.message


def test_one_check_that_cannot_be_run_does_not_take_the_others_along(visits: Kitchen) -> None:
    ref = visits.refs["t"]
    wrong = TableRef(ref.schema, ref.table, ibis.schema({**dict(ref.columns.items()), "n": "string"}))
    results = check(
        visits,
        {"check": "pattern", "column": "n", "pattern": "^1"},
        {"check": "not_null", "column": "district"},
        {"check": "row_count", "min": 1},
        {"check": "not_null", "column": "no_such"},
        {"check": "nice"},
        "no check",
        ref=wrong,
    )
    assert [r.passed for r in results] == [False, False, True, False, False, False]
    assert "the query failed" in results[0].message
    assert results[1].broken == 1
    assert "no column 'no_such'" in results[3].message
    assert "write one of not_null" in results[4].message


def test_a_check_that_takes_too_long_does_not_hold(recipe_database: str) -> None:
    with psycopg.connect(recipe_database) as connection:
        connection.execute(
            "CREATE TABLE public.slow AS SELECT 'aaaaaaaaaaaaaaaaaaaaaaaa' AS s FROM generate_series(1, 900000)"
        )
        ref = TableRef("public", "slow", ibis.schema({"s": "string"}))
        written = [{"check": "pattern", "column": "s", "pattern": "^(a|aa)+$"}, {"check": "not_null", "column": "s"}]
        connection.commit()
        try:
            outcome = run_checks(connection, written, Subject(ref), limits=SessionLimits(statement_timeout=0.01))
        finally:
            connection.rollback()
            connection.execute("DROP TABLE public.slow")
            connection.commit()
    assert all("it took too long" in result.message for result in outcome.results)
    assert len(outcome.blocking) == 2


def test_a_check_writes_nothing_and_its_limits_end_with_it(recipe_database: str) -> None:
    with psycopg.connect(recipe_database) as connection:
        ref = TableRef("pg_catalog", "pg_class", ibis.schema({"relname": "string"}))
        limits = SessionLimits(statement_timeout=5, timezone="Asia/Kolkata")
        outcome = run_checks(connection, [{"check": "not_null", "column": "relname"}], Subject(ref), limits=limits)
        assert outcome.results[0].passed
        assert connection.execute("SHOW statement_timeout").fetchone() == ("0",)
        assert connection.execute("SHOW transaction_read_only").fetchone() == ("off",)


@pytest.mark.parametrize("severity", ["warn", "error"])
def test_only_an_error_blocks(visits: Kitchen, severity: str) -> None:
    (result,) = check(visits, {"check": "row_count", "min": 9, "severity": severity})
    assert result.blocks == (severity == "error")


# -- mistakes ----------------------------------------------------------------------------------------------------------


def of_visits(*checks: Any, casts: set[str] | None = None, of_recipe: bool = True) -> list[tuple[str, str, str | None]]:
    frame = Frame(stored_rows(TableRef("org_x", "t", ibis.schema({"s": "string", "n": "int64", "j": "json"}))))
    found = check_errors(parse_checks(list(checks)), frame, casts=casts, of_recipe=of_recipe)
    return [(error.code, error.path, error.suggestion) for error in found]


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ({"check": "not_null", "column": "ss"}, ("unknown_column", "checks[0].column", "s")),
        ({"check": "unique", "columns": ["n", "j"]}, ("type_mismatch", "checks[0].columns[1]", None)),
        ({"check": "accepted_values", "column": "n", "values": [1, "1"]}, ("bad_literal", "checks[0].values[1]", None)),
        ({"check": "range", "column": "s", "min": 1}, ("type_mismatch", "checks[0].column", None)),
        ({"check": "range", "column": "n", "min": "1"}, ("bad_literal", "checks[0].min", None)),
        ({"check": "pattern", "column": "s", "pattern": "("}, ("bad_pattern", "checks[0].pattern", None)),
        ({"check": "pattern", "column": "n", "pattern": "1"}, ("type_mismatch", "checks[0].column", None)),
        ({"check": "exists_in", "column": "x", "in": "source:a.b"}, ("unknown_column", "checks[0].column", None)),
        ({"check": "fresh_within", "within": "1 day", "column": "n"}, ("type_mismatch", "checks[0].column", None)),
        ({"check": "max_lossy_casts", "column": "nn"}, ("unknown_column", "checks[0].column", "n")),
        (
            {"check": "condition", "where": {"all": [{"column": "n", "operator": "=", "value": "x"}]}},
            ("bad_literal", "checks[0].where.all[0].value", None),
        ),
    ],
)
def test_a_check_that_does_not_suit_the_table_is_a_mistake(
    written: dict[str, Any], expected: tuple[str, str, str | None]
) -> None:
    assert of_visits(written, casts={"n"}) == [expected]


def test_a_source_table_has_no_casts() -> None:
    assert of_visits({"check": "max_lossy_casts"}, of_recipe=False) == [("invalid_value", "checks[0].check", None)]


def test_looking_into_another_table_is_looked_over() -> None:
    frame = Frame(stored_rows(TableRef("org_x", "t", ibis.schema({"s": "string", "n": "int64"}))))
    other = TableRef("org_x", "o", ibis.schema({"name": "string", "n": "int64"}))
    checks = parse_checks(
        [
            {"check": "exists_in", "column": "s", "in": "source:a.o", "to": "nmae"},
            {"check": "exists_in", "column": "s", "in": "source:a.o", "to": "n"},
            {"check": "exists_in", "column": "s", "in": "source:a.gone"},
            {"check": "exists_in", "column": "n", "in": "source:a.o"},
            {"check": "exists_in", "column": "n", "in": "source:a.unknown"},
        ]
    )
    found = reference_errors(checks, frame, {"source:a.o": other, "source:a.gone": None})
    assert [(error.code, error.path, error.suggestion) for error in found] == [
        ("unknown_column", "checks[0].to", "name"),
        ("join_key_type", "checks[1].to", None),
        ("missing_table", "checks[2].in", None),
    ]


@pytest.mark.parametrize(
    ("written", "code", "path"),
    [
        ({"check": "range", "column": "n"}, "missing_field", "checks[0].min"),
        ({"check": "not_null", "colum": "n"}, "unknown_field", "checks[0].colum"),
        ({"check": "not_null", "column": "n", "severity": "bad"}, "invalid_value", "checks[0].severity"),
        ({"check": "not_null", "column": "n", "name": "Ä"}, "invalid_value", "checks[0].name"),
        ({"check": "fresh_within", "within": "soon"}, "bad_literal", "checks[0].within"),
        ({"check": "exists_in", "column": "n", "in": "org_b.t"}, "invalid_value", "checks[0].in"),
        ({"check": "row_count", "min": 3, "max": 2}, "invalid_value", "checks[0]"),
        ({"check": "row_count_change", "loads": 3}, "invalid_value", "checks[0].loads"),
        ({"check": "condition", "where": {"column": "n", "operator": "="}}, "missing_field", "checks[0].where.value"),
        (["no", "check"], "invalid_value", "checks[0]"),
    ],
)
def test_mistakes_of_form_have_the_paths_of_a_recipe(written: Any, code: str, path: str) -> None:
    with pytest.raises(RecipeErrors) as caught:
        parse_checks([written])
    assert [(error.code, error.path) for error in caught.value.errors] == [(code, path)]
    with pytest.raises(RecipeErrors) as again:
        recipe_of([], checks=[written])
    assert again.value.errors == caught.value.errors


def test_two_checks_of_one_name_are_refused() -> None:
    with pytest.raises(RecipeErrors, match="two checks with the name same"):
        parse_checks([{"check": "row_count", "name": "same"}, {"check": "not_null", "column": "n", "name": "same"}])


def test_a_mistake_in_a_step_is_not_told_again_by_a_check() -> None:
    steps = [{"op": "cast", "columns": [{"column": "yeer", "to": "integer"}]}]
    checks = [{"check": "not_null", "column": "yeer"}, {"check": "max_lossy_casts", "column": "yeer"}]
    with pytest.raises(RecipeErrors) as caught:
        compile_recipe(recipe_of(steps, checks=checks), {"t": TableRef("x", "t", ibis.schema({"year": "string"}))})
    assert [error.path for error in caught.value.errors] == ["steps[0].columns[0].column"]
    assert errors_of(steps, {"year": "text"})[0].suggestion == "year"


@pytest.mark.parametrize("kind", CHECK_MODELS)
def test_the_example_of_each_kind_is_right_and_says_what_it_promises(kind: str) -> None:
    example = CHECK_MODELS[kind].example
    table = ibis.schema({name: CANONICAL[each] for name, each in EXAMPLE_TABLE.items()})
    frame = Frame(stored_rows(TableRef("org_x", "t", table)))
    assert check_errors(parse_checks([example]), frame, casts=None) == []
    assert "cannot be read" not in sentence(example)


# -- names -------------------------------------------------------------------------------------------------------------

WRITTEN = st.one_of(
    st.builds(
        lambda kind, column, name: {"check": kind, "column": column, **({"name": name} if name else {})},
        st.sampled_from(["not_null", "range", "", "nice kind"]),
        st.text(max_size=70) | st.sampled_from(["ज़िला", "a", "a_2"]),
        st.none() | st.sampled_from(["mine", "not_null_a", "range_a_2"]),
    ),
    st.integers(),
    st.just({}),
)


@given(st.lists(WRITTEN, max_size=8))
def test_names_are_legal_distinct_and_stay_when_a_check_is_added_at_the_end(checks: list[Any]) -> None:
    names = check_names(checks)
    assert len(set(names)) == len(checks)
    assert all(re.fullmatch(r"[A-Za-z0-9_]{1,60}", name) for name in names)
    added = check_names([*checks, {"check": "unique", "columns": ["x"]}])
    assert added[:-1] == names


# -- against plain Python ----------------------------------------------------------------------------------------------

COLUMNS = {"id": "bigint", "g": "text", "n": "bigint", "x": "double precision", "b": "boolean"}
TABLE = st.lists(
    st.tuples(
        st.none() | st.sampled_from(["a", "b", "", "ज़िला", "it's", "%s"]),
        st.none() | st.integers(-5, 5),
        st.none() | st.sampled_from([-1.5, 0.0, 0.5, 2.0, 2.25]),
        st.none() | st.booleans(),
    ),
    max_size=20,
)


@settings(max_examples=examples(25, deep=1_200), deadline=None)
@given(
    rows=TABLE,
    other=st.lists(st.none() | st.sampled_from(["a", "b", "", "%s"]), max_size=4),
    accepted=st.lists(st.sampled_from(["a", "", "it's", "%s"]), min_size=1, max_size=3),
    ends=st.tuples(st.none() | st.integers(-3, 3), st.integers(-3, 3)),
    key=st.lists(st.sampled_from(["g", "n", "b"]), min_size=1, max_size=3, unique=True),
    pattern=st.sampled_from(["^a", "[ab]", "^$", "%", "ज़"]),
    tree=TREES,
)
def test_counts_are_those_of_plain_python(
    recipe_connection: psycopg.Connection,
    rows: list[tuple[Any, ...]],
    other: list[str | None],
    accepted: list[str],
    ends: tuple[int | None, int],
    key: list[str],
    pattern: str,
    tree: dict[str, Any],
) -> None:
    checks: list[dict[str, Any]] = [
        {"check": "not_null", "column": "g"},
        {"check": "accepted_values", "column": "g", "values": accepted},
        {"check": "range", "column": "n", **({"min": ends[0]} if ends[0] is not None else {}), "max": ends[1]},
        {"check": "pattern", "column": "g", "pattern": pattern},
        {"check": "unique", "columns": key},
        {"check": "exists_in", "column": "g", "in": "source:forms.o", "to": "g"},
        {"check": "condition", "where": tree},
    ]
    dicts = [dict(zip(COLUMNS, (i, *row), strict=True)) for i, row in enumerate(rows)]
    low = -99 if ends[0] is None else ends[0]
    keys = Counter(tuple(row[c] for c in key) for row in dicts if all(row[c] is not None for c in key))
    breaks = [
        lambda row: row["g"] is None,
        lambda row: row["g"] is not None and row["g"] not in accepted,
        lambda row: row["n"] is not None and not low <= row["n"] <= ends[1],
        lambda row: row["g"] is not None and re.search(pattern, row["g"]) is None,
        lambda row: keys[tuple(row[c] for c in key)] > 1,
        lambda row: row["g"] is not None and row["g"] not in other,
        lambda row: truth(tree, row) is not True,
    ]
    expected = [[row["id"] for row in dicts if broken(row)] for broken in breaks]
    with fresh_kitchen(recipe_connection) as kitchen:
        kitchen.table("t", COLUMNS, [tuple(row.values()) for row in dicts])
        kitchen.table("o", {"g": "text"}, [(value,) for value in other])
        references = {"source:forms.o": kitchen.refs["o"]}
        subject = Subject(kitchen.refs["t"], references=references, key="id")
        outcome = run_checks(recipe_connection, checks, subject)
    assert [result.broken for result in outcome.results] == [len(ids) for ids in expected]
    assert outcome.rows == len(rows)
    for result, ids in zip(outcome.results, expected, strict=True):
        assert {int(sample) for sample in result.samples} <= set(ids)
        assert len(result.samples) == min(5, len(ids))


def test_names_of_any_script_and_with_quotes_are_only_names(kitchen: Kitchen) -> None:
    odd = 'a "b"; DROP %s ज़'
    kitchen.table("t", {odd: "text"}, [("x'; SELECT 1 --",), (None,)])
    results = check(
        kitchen,
        {"check": "not_null", "column": odd},
        {"check": "unique", "columns": [odd]},
        {"check": "accepted_values", "column": odd, "values": ["x'; SELECT 1 --"]},
        {"check": "pattern", "column": odd, "pattern": "'; SELECT"},
        {"check": "exists_in", "column": odd, "in": "recipe:r"},
        key=odd,
        references={"recipe:r": kitchen.refs["t"]},
    )
    assert [result.broken for result in results] == [1, 0, 0, 0, 0]
    assert kitchen.connection.execute(
        sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(SCHEMA, "forms__t"))
    ).fetchone() == (2,)


def test_the_history_is_looked_at_for_a_change_of_the_row_count(visits: Kitchen) -> None:
    history = [LoadCount(NOW - timedelta(days=1), 100)]
    written = {"check": "row_count_change", "max_drop_percent": 50}
    (result,) = check(visits, written, history=history)
    assert not result.passed
    assert "4 rows, 96 % fewer than the 100 before" in result.message
