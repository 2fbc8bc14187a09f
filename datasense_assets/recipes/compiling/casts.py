"""Casts that never fail a row: a value that cannot be read becomes null, and a boolean says so.

`try_cast` compiles to a plain cast on PostgreSQL; a CASE guarded by a regular expression is right, and eight times
faster than a function with an exception block.
"""

from __future__ import annotations

from dataclasses import dataclass

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir

from datasense_assets.catalog.models import ColumnType
from datasense_assets.recipes.compiling import readable
from datasense_assets.recipes.compiling.functions import json_as_text, to_json
from datasense_assets.recipes.compiling.kinds import CANONICAL, JSONB, kind_of, to_kind
from datasense_assets.recipes.formula.conversions import ended

T = ColumnType
_LEAST, _GREATEST = -(2**63), 2**63 - 1
_DIRECT = {
    (T.INTEGER, T.NUMBER),
    (T.INTEGER, T.TEXT),
    (T.NUMBER, T.TEXT),
    (T.BOOLEAN, T.TEXT),
    (T.DATE, T.TEXT),
    (T.DATETIME, T.TEXT),
    (T.TIME, T.TEXT),
    (T.DATE, T.DATETIME),
    (T.DATETIME, T.DATE),
}
_PATTERNS = {T.NUMBER: readable.NUMBER, T.DATE: readable.DATE, T.DATETIME: readable.DATETIME, T.TIME: readable.TIME}


class NoSuchCast(ValueError):
    """The two types have no meaning in common; the message says which."""


@dataclass(frozen=True)
class CastResult:
    """The value in its new type; `lost` is true where there was a value and none could be read (None: never)."""

    value: ir.Value
    lost: ir.BooleanValue | None = None


def cast_value(value: ir.Value, to: ColumnType, date_format: readable.DateFormat | None = None) -> CastResult:
    """The value cast to a type of the language, text trimmed; blank text is null and not counted as lost.

    Raises:
        NoSuchCast: for instance from date to number.

    """
    kind = kind_of(value)
    if kind is T.JSON and to is not T.JSON:
        return cast_value(json_as_text(value), to, date_format)
    if kind is T.TEXT:
        return _from_text(value.cast("string").strip(), to, date_format)
    if kind is to:
        return CastResult(to_kind(value, to))
    if to is T.JSON:
        return CastResult(to_json(value))
    if (kind, to) in _DIRECT:
        return CastResult(value.cast(CANONICAL[to]))
    if kind is T.DATETIME and to is T.TIME:
        return CastResult(value.time())
    return _between_numbers(value, kind, to)


def failing(result: CastResult, source: ir.Value, column: str, to: ColumnType) -> ir.Value:
    """The value, with a row that cannot be read made to fail the query, naming the column and the text.

    Text that no type reads is cast; it ends with the row's own value, so PostgreSQL cannot fold it beforehand.
    """
    if result.lost is None:
        return result.value
    marker = ibis.literal(f"column {column!r} cannot be read as {to}: ") + source.cast("string")
    # What PostgreSQL says of a text that is no JSON does not hold the text.
    refused = to_json(marker.cast("boolean")) if to is T.JSON else marker.cast(CANONICAL[to])
    return ibis.ifelse(result.lost, refused, result.value)


def _from_text(trimmed: ir.StringValue, to: ColumnType, date_format: readable.DateFormat | None) -> CastResult:
    if to is T.TEXT:
        return CastResult(trimmed)
    text = trimmed.nullif("")
    source = date_format.iso(text, to) if date_format is not None else text
    if to is T.INTEGER:
        value = _integer(source)
    elif to is T.BOOLEAN:
        word = source.lower()
        value = ibis.cases((word.isin(readable.TRUE), True), (word.isin(readable.FALSE), False))
    elif to is T.JSON:
        value = ibis.cases((readable.is_json(source), source.cast(JSONB)))
    elif date_format is not None:
        value = ibis.cases((source.re_search(_PATTERNS[to]), source.cast(CANONICAL[to])))
    else:
        good = (ended(trimmed) if to is T.NUMBER else trimmed).re_search(_PATTERNS[to])
        return CastResult(ibis.cases((good, trimmed.cast(CANONICAL[to]))), (trimmed != "") & ~good)
    return CastResult(value, text.notnull() & value.isnull())


def _integer(text: ir.StringValue) -> ir.Value:
    exact = text.cast(dt.Decimal())
    long = ibis.cases((exact.between(_LEAST, _GREATEST), text.cast("int64")))
    return ibis.cases(
        (text.re_search(readable.INTEGER), text.cast("int64")),
        (text.re_search(readable.LONG_INTEGER), long),
    )


def _between_numbers(value: ir.Value, kind: ColumnType, to: ColumnType) -> CastResult:
    if kind is T.BOOLEAN and to in (T.INTEGER, T.NUMBER):
        # PostgreSQL has no cast from boolean to bigint.
        numbers = ibis.cases((value, 1), (~value, 0))
        return CastResult(numbers.cast(CANONICAL[to]))
    if to is T.BOOLEAN and kind in (T.INTEGER, T.NUMBER):
        truth = ibis.cases((value == 1, True), (value == 0, False))
        return CastResult(truth, value.notnull() & truth.isnull())
    if kind is T.NUMBER and to is T.INTEGER:
        number = value
        # The greatest double below 2**63; NaN and infinity are not below it.
        in_range = number.abs() <= 9223372036854774784.0
        guarded = ibis.cases((in_range, ibis.cases((number == number.floor(), number.cast("int64")))))
        return CastResult(guarded, value.notnull() & guarded.isnull())
    raise NoSuchCast(f"{kind} cannot be read as {to}")
