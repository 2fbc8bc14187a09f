"""From one type to another; what cannot be read is null, never an error and never a guess.

PostgreSQL 14 has no cast that tries. A text is cast only after a regular expression that lets through what the cast
is sure to accept; `substring` gives null where it does not match, which names the value once.
"""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from datasense_assets.catalog.models import ColumnType
from datasense_assets.recipes.formula import postgres
from datasense_assets.recipes.formula.kinds import (
    DTYPES,
    INTEGER,
    NUMBER,
    WIDE,
    between_or_null,
    kind_of,
    narrow,
    null_of,
    whole,
)
from datasense_assets.recipes.spaces import IN_SET

_SPACES = rf"[{IN_SET}\u00A0]*"
# To count digits, as in {1,200}, makes a pattern twenty times as slow.
_INTEGER = r"[+-]?[0-9]+"
# No number of 205 characters and an exponent of two digits, nor one of the second form, is beyond a double's range or
# nearer to zero than it.
NUMBER_TEXT = (
    r"[+-]?(?:(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,2})?"
    r"|[1-9](?:\.[0-9]*)?[eE][+-]?(?:[0-2][0-9]{2}|30[0-7]))"
)
LONGEST_NUMBER = 205
END = ";"
_LEAP = r"(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:0[48]|[2468][048]|[13579][26])00)"
_DATE = (
    r"(?!0000)(?:[0-9]{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])"
    r"|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|1[0-9]|2[0-8]))"
    rf"|{_LEAP}-02-29)"
)
_CLOCK = r"(?:[01][0-9]|2[0-3]):[0-5][0-9](?::[0-5][0-9](?:\.[0-9]{1,9})?)?"
_ZONE = r"(?:Z|[+-](?:0[0-9]|1[0-4])(?::?[0-5][0-9])?)"
TOO_NEAR_MIDNIGHT = r"23:59:59\.9{6}[5-9]"
_TRUE_OR_FALSE = r"true|false|yes|no|on|off|t|f|y|n|1|0"


def to_text(value: ir.Value) -> ir.Value:
    """Any value as text: `12.5`, `true`, `2026-01-31`, `2026-01-31 08:05:00` of the session's zone; bare json text."""
    kind = kind_of(value.type())
    if kind == ColumnType.DATE:
        return value.strftime("%Y-%m-%d")
    if kind == ColumnType.DATETIME:
        return value.strftime("%Y-%m-%d %H:%M:%S")
    if kind == ColumnType.JSON:
        return postgres.json_element_text(postgres.json_list_of(value), 0)
    return value if kind == ColumnType.TEXT else value.cast("string")


def to_integer(value: ir.Value) -> ir.Value:
    """A whole number from text, number or boolean; 12.5 is no integer."""
    kind = kind_of(value.type())
    if kind == ColumnType.TEXT:
        return narrow(_number_matching(value, _INTEGER).cast(WIDE))
    if kind == ColumnType.NUMBER:
        return whole(ibis.ifelse(value == postgres.truncated(value), value, null_of(NUMBER)))
    if kind == ColumnType.BOOLEAN:
        return value.cast("int32").cast(INTEGER)
    return value


def to_number(value: ir.Value) -> ir.Value:
    """A number from text (a point before the decimals, no thousands separators), integer or boolean."""
    kind = kind_of(value.type())
    if kind == ColumnType.TEXT:
        return _number_matching(value, NUMBER_TEXT).cast(NUMBER)
    return to_integer(value).cast(NUMBER) if kind == ColumnType.BOOLEAN else value.cast(NUMBER)


def to_boolean(value: ir.Value) -> ir.Value:
    """True or false from true/false, yes/no, y/n, t/f, on/off, 1/0 in any case; from a number whether it is not 0."""
    kind = kind_of(value.type())
    if kind == ColumnType.TEXT:
        return _matching(value.lower(), _TRUE_OR_FALSE).cast("boolean")
    return value if kind == ColumnType.BOOLEAN else value != 0


def to_date(value: ir.Value) -> ir.Value:
    """A date from text 2026-01-31, or the day of a datetime in the session's zone."""
    kind = kind_of(value.type())
    if kind == ColumnType.TEXT:
        return _matching(value, _DATE).cast("date")
    return value.cast("date") if kind == ColumnType.DATETIME else value


def to_datetime(value: ir.Value) -> ir.Value:
    """A datetime from ISO text (without a zone: in the session's), or midnight of a date in the session's zone."""
    kind = kind_of(value.type())
    if kind == ColumnType.TEXT:
        value = _matching(value, rf"{_DATE}(?:[T ]{_CLOCK} ?{_ZONE}?)?")
    return value if kind == ColumnType.DATETIME else value.cast(DTYPES[ColumnType.DATETIME])


def to_time(value: ir.Value) -> ir.Value:
    """A time of day from text 08:05 or 08:05:30 (a zone is left out), or that of a datetime in the session's zone."""
    kind = kind_of(value.type())
    if kind == ColumnType.TEXT:
        pattern = rf"^{_SPACES}(?!{TOO_NEAR_MIDNIGHT})({_CLOCK}) ?{_ZONE}?{_SPACES}$"
        return postgres.match_of(value, pattern).cast("time")
    return value.cast("time") if kind == ColumnType.DATETIME else value


def date_of_parts(year: ir.IntegerValue, month: ir.IntegerValue, day: ir.IntegerValue) -> ir.Value:
    """The date of year, month and day; null where there is no such day."""
    return to_date(_digits(year, 4).concat("-", _digits(month, 2), "-", _digits(day, 2)))


def _digits(value: ir.IntegerValue, width: int) -> ir.StringValue:
    """A number of at most `width` digits, padded; another is null, since a sign or a fifth digit is no date's."""
    fitting = between_or_null(value, -1, 10**width)
    return (fitting + 10**width).cast("string").right(width)


def _matching(value: ir.Value, pattern: str) -> ir.Value:
    """The text without the spaces around it where all of it matches, else null."""
    return postgres.match_of(value, rf"^{_SPACES}({pattern}){_SPACES}$")


def _number_matching(value: ir.Value, pattern: str) -> ir.Value:
    """As `_matching`, null for a text that is longer than any number."""
    return postgres.match_of(ended(value), rf"^{_SPACES}({pattern}){_SPACES}{END}$")


def ended(value: ir.Value) -> ir.Value:
    """The text with a mark at its end, which one of more than 205 characters loses. Names the value once."""
    return postgres.first_characters(value.concat(END), ibis.literal(LONGEST_NUMBER + 1, "int32"))
