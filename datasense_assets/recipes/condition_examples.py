"""What each operator of a condition means, and examples of it on the steps' three rows, run by `examples.executed`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

SHOWN = ("first_name", "district", "visits", "cost", "seen_on", "note", "address")
"""Columns of the rows that the examples are about; the first one names a row."""

TODAY = "2026-02-12"
"""The day on which the examples of `in_last` were run."""


@dataclass(frozen=True)
class OperatorExamples:
    """One operator or connective: what is true of the rows that it keeps, and conditions with it."""

    meaning: str
    conditions: tuple[dict[str, Any], ...]


def _on(column: str, operator: str, value: Any = None, **more: Any) -> dict[str, Any]:
    given = {} if value is None else {"value": value}
    return {"column": column, "operator": operator, **given, **more}


_NORTH = _on("district", "=", "North")
OPERATOR_EXAMPLES: dict[str, OperatorExamples] = {
    "=": OperatorExamples("the same; case matters in text", (_NORTH,)),
    "!=": OperatorExamples(
        "known to be another",
        (_on("district", "!=", "North"), _on("district", "!=", "North", or_null=True)),
    ),
    ">": OperatorExamples("above", (_on("visits", ">", 3), _on("cost", ">", value_column="visits"))),
    ">=": OperatorExamples("above or the same", (_on("visits", ">=", 3),)),
    "<": OperatorExamples("below, or before", (_on("seen_on", "<", "2026-02-01"), _on("cost", "<", 10, or_null=True))),
    "<=": OperatorExamples("below or the same", (_on("visits", "<=", 3),)),
    "in": OperatorExamples("one of the list", (_on("visits", "in", [0, 12]),)),
    "not_in": OperatorExamples(
        "known to be none of the list",
        (_on("district", "not_in", ["North", "East"]), _on("district", "not_in", ["North", "East"], or_null=True)),
    ),
    "between": OperatorExamples("from the first to the second, both taken in", (_on("visits", "between", [3, 12]),)),
    "contains": OperatorExamples("has the text somewhere; case matters", (_on("note", "contains", "visit"),)),
    "not_contains": OperatorExamples(
        "known not to have it",
        (_on("note", "not_contains", "visit"), _on("note", "not_contains", "visit", or_null=True)),
    ),
    "starts_with": OperatorExamples("begins with the text", (_on("note", "starts_with", "no"),)),
    "ends_with": OperatorExamples("ends with the text", (_on("note", "ends_with", "visit"),)),
    "matches": OperatorExamples(
        "the regular expression matches somewhere; `(?i)` at its start takes case out",
        (_on("note", "matches", r"ward \d"), _on("district", "matches", "(?i)^NORTH$")),
    ),
    "is_null": OperatorExamples("missing", (_on("district", "is_null"),)),
    "is_not_null": OperatorExamples("not missing", (_on("district", "is_not_null"),)),
    "is_empty": OperatorExamples(
        'missing, text of nothing but spaces, or `[]`, `{}` or `""` in JSON',
        (_on("note", "is_empty"), _on("address", "is_empty")),
    ),
    "is_not_empty": OperatorExamples("not empty", (_on("note", "is_not_empty"),)),
    "in_last": OperatorExamples(
        f"from so many days, weeks or months before today until today (here {TODAY})",
        (_on("seen_on", "in_last", "2 days"), _on("seen_on", "in_last", "2 months")),
    ),
    "all": OperatorExamples("every one is true", ({"all": [_NORTH, _on("visits", ">", 3)]},)),
    "any": OperatorExamples("at least one is true", ({"any": [_NORTH, _on("visits", "=", 0)]},)),
    "not": OperatorExamples(
        "known to be false: where the condition is null, so is this",
        ({"not": _NORTH}, {"not": _on("district", "is_null")}),
    ),
}
