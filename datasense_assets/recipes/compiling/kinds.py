"""Column types of the language and ibis data types: how they correspond, mix, and take a literal."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import date, datetime, time
from typing import Any

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir

from datasense_assets.catalog.models import ColumnType

JSONB = dt.JSON(binary=True)
CANONICAL: dict[ColumnType, dt.DataType] = {
    ColumnType.TEXT: dt.string,
    ColumnType.INTEGER: dt.int64,
    ColumnType.NUMBER: dt.float64,
    ColumnType.BOOLEAN: dt.boolean,
    ColumnType.DATE: dt.date,
    ColumnType.DATETIME: dt.Timestamp("UTC"),
    ColumnType.TIME: dt.time,
    ColumnType.JSON: JSONB,
}
ORDERABLE = frozenset(ColumnType) - {ColumnType.JSON}
NUMERIC = frozenset({ColumnType.INTEGER, ColumnType.NUMBER})

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_TIME = re.compile(r"([01]\d|2[0-3]):[0-5]\d(:[0-5]\d(\.\d{1,6})?)?")
_BIGINT = range(-(2**63), 2**63)


class BadLiteral(ValueError):
    """A literal of the wrong type; the message says what would be right."""


def kind_of(value: ir.Value | dt.DataType) -> ColumnType:
    """The language's type of an expression or data type; what the language does not know counts as text."""
    dtype = value if isinstance(value, dt.DataType) else value.type()
    if dtype.is_boolean():
        return ColumnType.BOOLEAN
    if dtype.is_integer():
        return ColumnType.INTEGER
    if dtype.is_numeric():
        return ColumnType.NUMBER
    if dtype.is_date():
        return ColumnType.DATE
    if dtype.is_timestamp():
        return ColumnType.DATETIME
    if dtype.is_time():
        return ColumnType.TIME
    if dtype.is_json():
        return ColumnType.JSON
    return ColumnType.TEXT


def mix(kinds: Iterable[ColumnType]) -> ColumnType | None:
    """The one type that holds values of all these, or None: only integer and number mix, to number."""
    found = set(kinds)
    if len(found) == 1:
        return found.pop()
    return ColumnType.NUMBER if found and found <= NUMERIC else None


def comparable(left: ColumnType, right: ColumnType) -> bool:
    """Whether values of the two types can be compared."""
    return left in ORDERABLE and mix((left, right)) is not None


def to_kind(value: ir.Value, kind: ColumnType) -> ir.Value:
    """The value as the usual data type of `kind`; only for a value that is of that kind, or integer as number."""
    dtype = CANONICAL[kind]
    return value if value.type() == dtype else value.cast(dtype)


def literal_kind(value: Any) -> ColumnType:
    """The type a literal has by itself."""
    if isinstance(value, bool):
        return ColumnType.BOOLEAN
    if isinstance(value, int):
        return ColumnType.INTEGER
    if isinstance(value, float):
        return ColumnType.NUMBER
    if isinstance(value, datetime):
        return ColumnType.DATETIME
    if isinstance(value, date):
        return ColumnType.DATE
    return ColumnType.TIME if isinstance(value, time) else ColumnType.TEXT


def check_literal(value: Any, kind: ColumnType) -> None:
    """Nothing, when `value` may stand for a value of `kind` as it is written.

    Raises:
        BadLiteral: it may not, since a literal of the wrong type is an error and not a cast.

    """
    if value is None:
        raise BadLiteral("null equals nothing; use the operator is_null or is_not_null")
    if not _fits(value, kind):
        raise BadLiteral(f"{value!r} is not {_WANTED[kind]}")


_WANTED = {
    ColumnType.TEXT: 'text; write it in quotes, as "text"',
    ColumnType.INTEGER: "a number; write it without quotes, as 12",
    ColumnType.NUMBER: "a number; write it without quotes, as 12.5",
    ColumnType.BOOLEAN: "true or false",
    ColumnType.DATE: 'a date; write it as "2026-01-31"',
    ColumnType.DATETIME: 'a date and time; write it as "2026-01-31T09:30:00"',
    ColumnType.TIME: 'a time of day; write it as "09:30"',
    ColumnType.JSON: "comparable with JSON; only is_null, is_not_null, is_empty and is_not_empty work on it",
}


def _fits(value: Any, kind: ColumnType) -> bool:
    if kind in NUMERIC:
        return not isinstance(value, bool) and (isinstance(value, float) or (type(value) is int and value in _BIGINT))
    if kind is ColumnType.BOOLEAN:
        return isinstance(value, bool)
    if kind is ColumnType.TEXT:
        return isinstance(value, str)
    if kind is ColumnType.DATE:
        return (isinstance(value, date) and not isinstance(value, datetime)) or _reads(value, date, _DATE)
    if kind is ColumnType.DATETIME:
        return isinstance(value, (date, datetime)) or _reads(value, datetime, None)
    return kind is ColumnType.TIME and (isinstance(value, time) or _reads(value, time, _TIME))


def _reads(value: Any, reader: type[date] | type[time], form: re.Pattern[str] | None) -> bool:
    if not isinstance(value, str) or (form is not None and form.fullmatch(value) is None):
        return False
    try:
        reader.fromisoformat(value)
    except ValueError:
        return False
    return value.isascii()


def is_day(value: Any) -> bool:
    """Whether a literal is a date without a time of day."""
    return (isinstance(value, date) and not isinstance(value, datetime)) or _reads(value, date, None)


def literal(value: Any, kind: ColumnType) -> ir.Scalar:
    """A literal that `check_literal` let pass, as a typed expression.

    Numbers and dates are quoted and cast, since PostgreSQL reads a bare `5` as a four-byte integer and would overflow.
    A date and time without an offset is read in the session's time zone, the organisation's.
    """
    if kind is ColumnType.TEXT:
        return ibis.literal(value, type=dt.string)
    if kind is ColumnType.BOOLEAN:
        return ibis.literal(value, type=dt.boolean)
    if kind is ColumnType.INTEGER and isinstance(value, float):
        kind = ColumnType.NUMBER
    text = value.isoformat() if isinstance(value, (date, time)) else str(value)
    return ibis.literal(text, type=dt.string).cast(CANONICAL[kind])


def null(kind: ColumnType) -> ir.Scalar:
    """Null of a type."""
    return ibis.null(CANONICAL[kind])
