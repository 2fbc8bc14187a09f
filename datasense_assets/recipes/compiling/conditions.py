"""Condition trees as ibis booleans, with SQL's three values: null never matches, unless `or_null`."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from functools import reduce
from typing import Any

import ibis
import ibis.expr.types as ir

from datasense_assets.catalog.models import ColumnType
from datasense_assets.recipes.compiling.frame import Context, Frame
from datasense_assets.recipes.compiling.kinds import (
    JSONB,
    ORDERABLE,
    BadLiteral,
    check_literal,
    comparable,
    is_day,
    kind_of,
    literal,
    to_kind,
)
from datasense_assets.recipes.compiling.patterns import BadPattern, PostgresPattern, postgres_pattern
from datasense_assets.recipes.language.conditions import AllOf, AnyOf, Comparison, Not

_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "=": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}
_TEXT: dict[str, Callable[[ir.StringValue, Any], ir.BooleanValue]] = {
    "contains": lambda column, value: column.contains(value),
    "not_contains": lambda column, value: ~column.contains(value),
    "starts_with": lambda column, value: column.startswith(value),
    "ends_with": lambda column, value: column.endswith(value),
}
# From 9,999 months ago on every date is of our era, and PostgreSQL's dates begin not much earlier.
_SPAN = re.compile(r"([1-9][0-9]{0,3}|[1-9][0-9]{4}(?! month)) (day|week|month)s?")


def compile_condition(
    condition: AllOf | AnyOf | Not | Comparison, frame: Frame, context: Context, path: str
) -> ir.BooleanValue | None:
    """The condition over the frame's columns; None when it has a mistake (reported) or hangs on a placeholder."""
    if isinstance(condition, Comparison):
        return _comparison(condition, frame, context, path)
    if isinstance(condition, Not):
        inner = compile_condition(condition.not_, frame, context, f"{path}.not")
        return None if inner is None else ~inner
    if isinstance(condition, AllOf):
        children, name, empty, join = condition.all, "all", True, operator.and_
    else:
        children, name, empty, join = condition.any, "any", False, operator.or_
    parts = [compile_condition(child, frame, context, f"{path}.{name}[{i}]") for i, child in enumerate(children)]
    if any(part is None for part in parts):
        return None
    return _balanced(join, parts) if parts else ibis.literal(empty)


def _balanced(join: Callable[[Any, Any], Any], parts: list[Any]) -> ir.BooleanValue:
    """The parts joined two by two, so that a long list does not make a deep expression."""
    while len(parts) > 1:
        parts = [reduce(join, parts[i : i + 2]) for i in range(0, len(parts), 2)]
    return parts[0]


def _comparison(item: Comparison, frame: Frame, context: Context, path: str) -> ir.BooleanValue | None:
    column = context.column(frame, item.column, f"{path}.column")
    other = None
    if item.value_column is not None:
        other = context.column(frame, item.value_column, f"{path}.value_column")
        if other is None:
            return None
    if column is None:
        if item.operator == "matches" and isinstance(item.value, str):
            read_pattern(item.value, context, f"{path}.value")
        return None
    result = _test(item, column, other, context, path)
    if result is None or not item.or_null:
        return result
    result = result | column.isnull()
    return result if other is None else result | other.isnull()


def _test(
    item: Comparison, column: ir.Value, other: ir.Value | None, context: Context, path: str
) -> ir.BooleanValue | None:
    name = item.operator
    if name in ("is_null", "is_not_null"):
        return column.isnull() if name == "is_null" else column.notnull()
    if name in ("is_empty", "is_not_empty"):
        return is_empty(column) if name == "is_empty" else ~is_empty(column)
    kind = kind_of(column)
    if name in _TEXT or name == "matches":
        return _text_test(item, column, other, context, path)
    if name == "in_last":
        return _in_last(item, column, context, path)
    if kind not in ORDERABLE:
        context.error(
            "type_mismatch",
            f"{path}.column",
            f"{item.column!r} is {kind} and cannot be compared; take a value out of it or cast it to text first.",
        )
        return None
    if other is not None:
        if not comparable(kind, kind_of(other)):
            context.error(
                "type_mismatch",
                f"{path}.value_column",
                f"{item.column!r} is {kind} and {item.value_column!r} is {kind_of(other)}, which cannot be compared; "
                "cast one of them first.",
            )
            return None
        return _COMPARE[name](*_alike(column, other))
    return _literal_test(item, column, kind, context, path)


def _alike(left: ir.Value, right: ir.Value) -> tuple[ir.Value, ir.Value]:
    """Both sides in one data type where they differ in more than width, such as a time with and without zone."""
    if left.type().is_numeric() or left.type() == right.type():
        return left, right
    return to_kind(left, kind_of(left)), to_kind(right, kind_of(right))


def is_empty(column: ir.Value) -> ir.BooleanValue:
    """Null, text with nothing but spaces, or JSON that is null, '', {} or []. Never null itself."""
    kind = kind_of(column)
    if kind is ColumnType.TEXT and column.type().is_string():
        return column.isnull() | (column.strip() == "")
    if kind is ColumnType.JSON:
        as_text = column.cast(JSONB).cast("string")
        return column.isnull() | as_text.isin(["null", '""', "{}", "[]"])
    return column.isnull()


def _literal_test(
    item: Comparison, column: ir.Value, kind: ColumnType, context: Context, path: str
) -> ir.BooleanValue | None:
    if kind is ColumnType.DATETIME:
        _warn_of_midnight(item, context, path)
    if item.operator not in ("in", "not_in", "between"):
        value = read_literal(item.value, item.column, kind, context, f"{path}.value")
        return None if value is None else _COMPARE[item.operator](column, value)
    if not isinstance(item.value, tuple):
        context.error("bad_literal", f"{path}.value", f"{item.operator} needs a list; write [{item.value!r}].")
        return None
    if item.operator == "between" and len(item.value) != 2:
        context.error("bad_literal", f"{path}.value", "between needs a list of two values: the least and the greatest.")
        return None
    values = [
        read_literal(value, item.column, kind, context, f"{path}.value[{i}]") for i, value in enumerate(item.value)
    ]
    if any(value is None for value in values):
        return None
    if item.operator == "between":
        return (column >= values[0]) & (column <= values[1])
    found = column.isin(values) if values else (column != column)
    return found if item.operator == "in" else ~found


def _warn_of_midnight(item: Comparison, context: Context, path: str) -> None:
    """Says so where a date would have to be the whole day: as the first or next one's midnight it is right."""
    if item.operator in (">=", "<"):
        return
    values = item.value if isinstance(item.value, tuple) else (item.value,)
    days = [value for value in (values[1:] if item.operator == "between" else values) if is_day(value)]
    if days:
        context.warn(
            "midnight_only",
            f"{path}.value",
            f"{item.column!r} is a date and time, and {days[0]} is taken as the midnight at which that day begins, not "
            "as the whole day; use < with the day after, or cast the column to date before.",
        )


def read_literal(value: Any, column: str, kind: ColumnType, context: Context, path: str) -> ir.Scalar | None:
    """A typed literal for a column of `kind`, or None when it is of another type (reported)."""
    if isinstance(value, tuple):
        context.error("bad_literal", path, "needs one value here, not a list.")
        return None
    try:
        check_literal(value, kind)
    except BadLiteral as error:
        context.error("bad_literal", path, f"{column!r} is {kind}, and {error}.")
        return None
    return literal(value, kind)


def _text_test(
    item: Comparison, column: ir.Value, other: ir.Value | None, context: Context, path: str
) -> ir.BooleanValue | None:
    for name, side, part in ((item.column, column, "column"), (item.value_column, other, "value_column")):
        if side is not None and kind_of(side) is not ColumnType.TEXT:
            context.error(
                "type_mismatch",
                f"{path}.{part}",
                f"{item.operator} works on text and {name!r} is {kind_of(side)}; cast it to text first.",
            )
            return None
    text = column
    if other is not None:
        return _TEXT[item.operator](text, other)
    value = read_literal(item.value, item.column, ColumnType.TEXT, context, f"{path}.value")
    if value is None:
        return None
    if item.operator != "matches":
        return _TEXT[item.operator](text, value)
    pattern = read_pattern(item.value, context, f"{path}.value")
    return None if pattern is None else text.re_search(pattern.text)


def read_pattern(pattern: str, context: Context, path: str) -> PostgresPattern | None:
    """The pattern in PostgreSQL's syntax, or None when it cannot be used (reported)."""
    try:
        return postgres_pattern(pattern)
    except BadPattern as error:
        context.error("bad_pattern", path, f"{error}.")
        return None


def _in_last(item: Comparison, column: ir.Value, context: Context, path: str) -> ir.BooleanValue | None:
    kind = kind_of(column)
    if kind not in (ColumnType.DATE, ColumnType.DATETIME):
        context.error(
            "type_mismatch",
            f"{path}.column",
            f"in_last works on dates and {item.column!r} is {kind}; cast it to date first.",
        )
        return None
    span = _SPAN.fullmatch(item.value) if isinstance(item.value, str) else None
    if span is None:
        context.error(
            "bad_literal", f"{path}.value", f"in_last needs a span such as '7 days' or '3 months', not {item.value!r}."
        )
        return None
    today = ibis.today()
    first = today - ibis.interval(int(span[1]), unit={"day": "D", "week": "W", "month": "M"}[span[2]])
    day = column if kind is ColumnType.DATE else column.date()
    return (day >= first.cast("date")) & (day <= today)
