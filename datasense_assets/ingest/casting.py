"""Text columns to typed Arrow columns, once the vote has said which type fits.

A cast never fails on values that the vote has seen, and never changes a value's meaning; what means missing is null.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.compute as pc

from datasense_assets.catalog.models import ColumnType as T
from datasense_assets.catalog.times import offset_at
from datasense_assets.ingest.typing import AWARE_PATTERN, MISSING, TRUE_WORDS, time_of_day

ARROW_TYPES: dict[T, pa.DataType] = {
    T.TEXT: pa.string(),
    T.INTEGER: pa.int64(),
    T.NUMBER: pa.float64(),
    T.BOOLEAN: pa.bool_(),
    T.DATE: pa.date32(),
    T.DATETIME: pa.timestamp("us", tz="UTC"),
    T.TIME: pa.time64("us"),
    T.JSON: pa.string(),
}
# From then on zones may have nothing but a rule for when clocks change, which Arrow does not read.
_RULES_BEGIN = datetime(2037, 1, 1)


def cast(
    values: pa.ChunkedArray | pa.Array, kind: T, timezone: str, *, plain: bool = False
) -> pa.ChunkedArray | pa.Array:
    """The values as `kind`; a text loses only NUL characters.

    A datetime without an offset is in `timezone`, and read as PostgreSQL reads it (`catalog.times.offset_at`).
    `plain`: as `Vote.plain` of all these values says.

    Raises:
        pyarrow.ArrowInvalid: a value is not of that type.
    """
    if kind is T.TEXT:
        if pc.any(pc.match_substring(values, "\x00")).as_py():
            return pc.replace_substring(values, "\x00", "")  # PostgreSQL's text cannot hold it
        return values
    text = values if plain else _present(values)
    if kind is T.JSON:
        return text
    if kind is T.BOOLEAN:
        true = pc.is_in(text, value_set=pa.array(TRUE_WORDS, text.type))
        return pc.if_else(pc.is_null(text), pa.scalar(None, pa.bool_()), true)
    if kind in (T.INTEGER, T.NUMBER):
        return (text if plain else pc.utf8_ltrim(text, characters="+")).cast(ARROW_TYPES[kind])
    if kind is T.DATETIME:
        return _cast_datetime(text, timezone)
    return time_of_day(text) if kind is T.TIME else text.cast(ARROW_TYPES[kind])


def _present(values: pa.ChunkedArray | pa.Array) -> pa.ChunkedArray | pa.Array:
    """The values without space around them, null for what means missing."""
    trimmed = pc.utf8_trim_whitespace(values)
    missing = pc.is_in(trimmed, value_set=pa.array(MISSING, trimmed.type))
    return pc.if_else(missing, pa.scalar(None, trimmed.type), trimmed)


def _cast_datetime(text: pa.ChunkedArray | pa.Array, timezone: str) -> pa.ChunkedArray | pa.Array:
    is_aware = pc.fill_null(pc.match_substring_regex(text, AWARE_PATTERN), False)
    if pc.all(pc.or_(is_aware, pc.is_null(text))).as_py():
        return text.cast(pa.timestamp("us", tz="UTC"))
    nothing = pa.scalar(None, text.type)
    aware = pc.if_else(is_aware, text, nothing).cast(pa.timestamp("us", tz="UTC"))
    naive = pc.if_else(is_aware, nothing, text).cast(pa.timestamp("us"))
    return pc.coalesce(aware, _instants(naive, timezone))


def _instants(naive: pa.ChunkedArray | pa.Array, timezone: str) -> pa.ChunkedArray | pa.Array:
    """Local times as moments, just as PostgreSQL's AT TIME ZONE gives them to recipes."""
    utc = pa.timestamp("us", tz="UTC")
    latest = pc.max(naive).as_py()
    if latest is None or latest < _RULES_BEGIN:
        with suppress(pa.ArrowInvalid):  # a time that a change of the clock skips: Arrow has another answer to it
            return pc.assume_timezone(naive, timezone, ambiguous="latest", nonexistent="raise").cast(utc)
    values, zone = pc.unique(naive), ZoneInfo(timezone)
    offsets = [None if each is None else offset_at(each, zone) for each in values.to_pylist()]
    found = pc.take(pa.array(offsets, pa.duration("us")), pc.index_in(naive, value_set=values))
    return pc.assume_timezone(pc.subtract(naive, found), "UTC").cast(utc)
