"""Conditions in plain Python, with three truth values; and which a column can have, for random recipes."""

from __future__ import annotations

import calendar
import functools
import math
import operator
import re
import unicodedata
import warnings
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from datasense_assets_tests.recipes.random_tables import JSON_NULL
from datasense_assets_tests.recipes.reference_casts import SPACES, in_utc, in_zone
from datasense_assets_tests.recipes.relation import World

Truth = bool | None
COMPARE = {
    "=": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}


def truth(tree: dict[str, Any], row: dict[str, Any], kinds: dict[str, str], world: World) -> Truth:
    """Whether the condition holds of the row; None is unknown."""
    if "not" in tree:
        return negated(truth(tree["not"], row, kinds, world))
    if "all" in tree:
        return every([truth(item, row, kinds, world) for item in tree["all"]])
    if "any" in tree:
        return negated(every([negated(truth(item, row, kinds, world)) for item in tree["any"]]))
    value = row[tree["column"]]
    other = row[tree["value_column"]] if "value_column" in tree else None
    if tree.get("or_null") and (value is None or ("value_column" in tree and other is None)):
        return True
    return _compared(tree, value, other, kinds, world)


def negated(value: Truth) -> Truth:
    return None if value is None else not value


def every(values: list[Truth]) -> Truth:
    if False in values:
        return False
    return None if None in values else True


def _compared(tree: dict[str, Any], value: Any, other: Any, kinds: dict[str, str], world: World) -> Truth:
    name, kind = tree["operator"], kinds[tree["column"]]
    if name in ("is_null", "is_not_null"):
        return (value is None) == (name == "is_null")
    if name in ("is_empty", "is_not_empty"):
        return empty(value, kind) == (name == "is_empty")
    if value is None:
        # An empty list has no value to be unlike, and nothing is in it, but a null is not compared even so.
        return None
    if name == "in_last":
        return _in_last(tree["value"], value, kind, world)
    if name in ("in", "not_in"):
        found = any(equal(value, literal(v, kind, world.zone), COMPARE["="]) for v in tree["value"])
        return found == (name == "in")
    if name == "between":
        low, high = (literal(v, kind, world.zone) for v in tree["value"])
        return equal(value, low, COMPARE[">="]) and equal(value, high, COMPARE["<="])
    right = other if "value_column" in tree else literal(tree["value"], kind, world.zone)
    if right is None:
        return None
    if name in COMPARE:
        return equal(value, right, COMPARE[name])
    match name:
        case "contains":
            return right in value
        case "not_contains":
            return right not in value
        case "starts_with":
            return bool(value.startswith(right))
        case "ends_with":
            return bool(value.endswith(right))
        case "matches":
            return matcher(right).search(value) is not None
    raise AssertionError(name)


def equal(left: Any, right: Any, how: Any) -> bool:
    """Two values compared; an integer and a number as numbers, NaN as equal to itself and above all others."""
    if isinstance(left, float) or isinstance(right, float) or isinstance(left, Decimal) or isinstance(right, Decimal):
        left, right = float(left), float(right)
        if math.isnan(left) or math.isnan(right):
            left, right = math.isnan(left), math.isnan(right)
    return bool(how(left, right))


def literal(value: Any, kind: str, zone: ZoneInfo) -> Any:
    """A literal of the recipe as a value of the column's type."""
    if kind == "date":
        return date.fromisoformat(value)
    if kind == "time":
        return time.fromisoformat(value)
    if kind == "datetime":
        moment = datetime.fromisoformat(value)
        return in_utc(moment) if moment.tzinfo else in_zone(moment, zone)
    return value


@functools.cache
def matcher(pattern: str) -> re.Pattern[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        # A no-break space is no space, as it is none to `trim`.
        for letter, meaning in (("s", r"[ \t\n\r\v\f]"), ("d", "[0-9]"), *_words().items()):
            pattern = pattern.replace("\\" + letter, meaning)
        return re.compile(pattern)


@functools.cache
def _words() -> dict[str, str]:
    """What stands for `\\w` and its like: to Python a vowel sign of Hindi ends a word."""
    one = "[" + "".join(map(re.escape, filter(in_a_word, map(chr, range(0x3000))))) + "]"
    return {
        "w": one,
        "b": f"(?:(?<!{one})(?={one})|(?<={one})(?!{one}))",
        "B": f"(?:(?<!{one})(?!{one})|(?<={one})(?={one}))",
    }


def in_a_word(character: str) -> bool:
    """Whether it is a letter, mark, digit, joiner or connector by Unicode's own tables."""
    category = unicodedata.category(character)
    return category[0] in "LM" or category in ("Nd", "Nl", "Pc") or character in "\u200c\u200d"


def empty(value: Any, kind: str) -> bool:
    if value is None or value is JSON_NULL:
        return True
    if kind == "text":
        return value.strip(SPACES) == ""
    return kind == "json" and value in ("", {}, []) and not isinstance(value, bool)


def _in_last(span: str, value: Any, kind: str, world: World) -> bool:
    count, unit = span.split()
    day = value if kind == "date" else value.astimezone(world.zone).date()
    if unit.startswith("month"):
        first = months_later(world.today, -int(count))
    else:
        first = world.today - timedelta(days=int(count) * (7 if unit.startswith("week") else 1))
    return first <= day <= world.today


def months_later(day: date, count: int) -> date:
    """The same day so many months on, or that month's last."""
    months = day.year * 12 + day.month - 1 + count
    year, month = divmod(months, 12)
    return date(year, month + 1, min(day.day, calendar.monthrange(year, month + 1)[1]))
