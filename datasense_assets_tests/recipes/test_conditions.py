"""Which rows a condition keeps: operators, null, literals of each type, and what it refuses."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import pytest

from datasense_assets_tests.recipes.kitchen import Kitchen, errors_of

COLUMNS = {
    "id": "bigint",
    "n": "bigint",
    "s": "text",
    "d": "date",
    "b": "boolean",
    "x": "double precision",
    "m": "bigint",
}
ROWS = [
    (1, 1, "apple", "2026-01-01", True, 1.5, 1),
    (2, 2, "100% _x", "2026-02-01", False, 2.5, 1),
    (3, 3, "", "2026-03-01", None, None, 4),
    (4, None, None, None, True, 3.5, None),
    (5, 5, "  ", "2026-05-01", False, 5.0, 5),
]


def leaf(column: str, operator: str, *value: Any, **more: Any) -> dict[str, Any]:
    return {"column": column, "operator": operator, **({"value": value[0]} if value else {}), **more}


KEPT: list[tuple[dict[str, Any], list[int]]] = [
    (leaf("n", "=", 2), [2]),
    (leaf("n", "!=", 2), [1, 3, 5]),
    (leaf("n", "!=", 2, or_null=True), [1, 3, 4, 5]),
    (leaf("n", ">", 2.5), [3, 5]),
    (leaf("n", "<=", 2), [1, 2]),
    (leaf("n", "in", [1, 5, 99]), [1, 5]),
    (leaf("n", "not_in", [1, 5]), [2, 3]),
    (leaf("n", "not_in", [1, 5], or_null=True), [2, 3, 4]),
    (leaf("n", "in", []), []),
    (leaf("n", "not_in", []), [1, 2, 3, 5]),
    (leaf("n", "between", [2, 3]), [2, 3]),
    (leaf("n", "=", value_column="m"), [1, 5]),
    (leaf("n", "!=", value_column="m", or_null=True), [2, 3, 4]),
    (leaf("x", "=", value_column="n"), [5]),
    (leaf("s", "contains", "%"), [2]),
    (leaf("s", "contains", "_"), [2]),
    (leaf("s", "not_contains", "p"), [2, 3, 5]),
    (leaf("s", "not_contains", "p", or_null=True), [2, 3, 4, 5]),
    (leaf("s", "starts_with", "100%"), [2]),
    (leaf("s", "ends_with", "le"), [1]),
    (leaf("s", "matches", r"^\w+$"), [1]),
    (leaf("s", "matches", r"(?i)\bAPPLE\b"), [1]),
    (leaf("s", "is_null"), [4]),
    (leaf("s", "is_not_null"), [1, 2, 3, 5]),
    (leaf("s", "is_empty"), [3, 4, 5]),
    (leaf("s", "is_not_empty"), [1, 2]),
    (leaf("n", "is_empty"), [4]),
    (leaf("d", "=", "2026-02-01"), [2]),
    (leaf("d", "between", ["2026-02-01", "2026-03-01"]), [2, 3]),
    (leaf("b", "=", False), [2, 5]),
    ({"all": []}, [1, 2, 3, 4, 5]),
    ({"any": []}, []),
    ({"all": [leaf("n", ">", 1), leaf("b", "=", False)]}, [2, 5]),
    ({"any": [leaf("n", "=", 1), leaf("b", "=", True)]}, [1, 4]),
    ({"not": leaf("n", "=", 2)}, [1, 3, 5]),
    ({"not": {"any": [leaf("n", "=", 2), leaf("n", "is_null")]}}, [1, 3, 5]),
]


@pytest.mark.parametrize(("where", "ids"), KEPT)
def test_rows_that_a_condition_keeps(kitchen: Kitchen, where: dict[str, Any], ids: list[int]) -> None:
    kitchen.table("t", COLUMNS, ROWS)
    assert kitchen.cook({"op": "filter", "where": where}, {"op": "sort", "by": ["id"]}).column("id") == ids


@pytest.mark.parametrize(
    ("span", "days", "kept"), [("7 days", 7, True), ("7 days", 8, False), ("2 weeks", 14, True), ("1 month", 40, False)]
)
def test_in_last_counts_back_from_today(kitchen: Kitchen, span: str, days: int, kept: bool) -> None:
    row = kitchen.connection.execute("SELECT current_date").fetchone()
    assert row is not None
    today: date = row[0]
    kitchen.table(
        "t", {"d": "date", "at": "timestamptz"}, [(today - timedelta(days),) * 2, (today + timedelta(1),) * 2]
    )
    for column in ("d", "at"):
        cooked = kitchen.cook({"op": "filter", "where": leaf(column, "in_last", span)})
        assert len(cooked.rows) == kept


def test_a_time_without_offset_is_read_in_the_session_time_zone(kitchen: Kitchen) -> None:
    kitchen.table("t", {"at": "timestamptz"}, [("2026-01-01T00:30:00+05:30",)])
    assert kitchen.cook({"op": "filter", "where": leaf("at", "=", "2026-01-01T00:30:00")}).rows
    assert kitchen.cook({"op": "filter", "where": leaf("at", "<", "2026-01-01T00:31:00+05:30")}).rows
    assert not kitchen.cook({"op": "filter", "where": leaf("at", "<", "2026-01-01")}).rows


def test_a_long_list_of_conditions_does_not_nest_too_deep(kitchen: Kitchen) -> None:
    kitchen.table("t", {"n": "bigint"}, [(3,), (9_999,)])
    cooked = kitchen.cook({"op": "filter", "where": {"any": [leaf("n", "=", i) for i in range(1_000)]}})
    assert cooked.rows == [(3,)]


BAD: list[tuple[dict[str, Any], str, str]] = [
    (leaf("n", "=", "2"), "bad_literal", "value"),
    (leaf("n", "=", True), "bad_literal", "value"),
    (leaf("n", "=", 2**63), "bad_literal", "value"),
    (leaf("n", "=", None), "bad_literal", "value"),
    (leaf("n", "=", [1]), "bad_literal", "value"),
    (leaf("n", "=", {"a": 1}), "bad_literal", "value"),
    (leaf("n", "=", float("nan")), "bad_literal", "value"),
    (leaf("n", "in", 1), "bad_literal", "value"),
    (leaf("n", "in", [1, "2"]), "bad_literal", "value[1]"),
    (leaf("n", "in", [None]), "bad_literal", "value[0]"),
    (leaf("n", "between", [1]), "bad_literal", "value"),
    (leaf("s", "=", 2), "bad_literal", "value"),
    (leaf("s", "=", "a\x00b"), "invalid_value", "value"),
    (leaf("s", "=", "\ud800"), "invalid_value", "value"),
    (leaf("d", "=", "01/02/2026"), "bad_literal", "value"),
    (leaf("d", "=", "2026-02-30"), "bad_literal", "value"),
    (leaf("d", "=", "20260201"), "bad_literal", "value"),
    (leaf("b", "=", "true"), "bad_literal", "value"),
    (leaf("d", "in_last", "7 fortnights"), "bad_literal", "value"),
    (leaf("d", "in_last", 7), "bad_literal", "value"),
    (leaf("d", "in_last", "10000 months"), "bad_literal", "value"),
    (leaf("s", "matches", "(unclosed"), "bad_pattern", "value"),
    (leaf("s", "matches", "(?<=a)b"), "bad_pattern", "value"),
    (leaf("s", "matches", r"\p{L}"), "bad_pattern", "value"),
    (leaf("s", "matches", "a{300}"), "bad_pattern", "value"),
    (leaf("n", "contains", "1"), "type_mismatch", "column"),
    (leaf("s", "contains", value_column="n"), "type_mismatch", "value_column"),
    (leaf("n", "=", value_column="s"), "type_mismatch", "value_column"),
    (leaf("j", "=", "a"), "type_mismatch", "column"),
    (leaf("n", "in_last", "7 days"), "type_mismatch", "column"),
    (leaf("n", "is_null", 1), "invalid_value", ""),
    (leaf("n", "in", value_column="n"), "invalid_value", ""),
    (leaf("n", "=", 1, value_column="n"), "invalid_value", ""),
    (leaf("n", "="), "missing_field", "value"),
    (leaf("n", "equals", 1), "invalid_value", "operator"),
    (leaf("nn", "=", 1), "unknown_column", "column"),
    (leaf("n", "=", value_column="nn"), "unknown_column", "value_column"),
]


@pytest.mark.parametrize(("where", "code", "place"), BAD)
def test_conditions_that_are_refused(where: dict[str, Any], code: str, place: str) -> None:
    path = "steps[0].where.all[0].not" + (f".{place}" if place else "")
    found = errors_of([{"op": "filter", "where": {"all": [{"not": where}]}}])
    assert [(e.code, e.path) for e in found] == [(code, path)]
    assert found[0].message.startswith("Step 1 (filter):")
