"""The functions of formulas, one rule or more each: what they take, what they give, and the answer in plain Python."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Any

from datasense_assets_tests.recipes import reference_casts as casts
from datasense_assets_tests.recipes import reference_texts as texts
from datasense_assets_tests.recipes.chooser import Chooser
from datasense_assets_tests.recipes.random_tables import JSON_NULL
from datasense_assets_tests.recipes.reference_conditions import equal, every, months_later
from datasense_assets_tests.recipes.relation import Undetermined, World, order_value

ORDERED = ("integer", "number", "text", "date", "datetime", "time")
COMPARABLE = (*ORDERED, "boolean")
ALL = (*COMPARABLE, "json")
Takes = Callable[[Chooser, str], list[str]]


@dataclass(frozen=True)
class Rule:
    """A function for some types. `together`: its arguments are brought to one type. `strict`: null gives null."""

    name: str
    results: tuple[str, ...]
    takes: Takes
    value: Callable[..., Any]
    strict: bool = True
    together: bool = False
    aliases: tuple[str, ...] = ()


def fits(value: Any, kind: str) -> Any:
    """Null for an integer beyond 64 bits."""
    if kind == "integer" and value is not None and not -(2**63) <= value < 2**63:
        return None
    return value


def of(*kinds: str) -> Takes:
    """These types; `a|b` is one of several, `a?` may be left out."""

    def takes(choose: Chooser, result: str) -> list[str]:
        found: list[str] = []
        for kind in kinds:
            if kind.endswith("?"):
                if choose.chance(40):
                    break
                kind = kind[:-1]
            found.append(choose.one(kind.split("|")))
        return found

    return takes


def alike(count: tuple[int, int]) -> Takes:
    """Some arguments of the type of the result."""
    return lambda choose, result: [result] * choose.between(*count)


def same_kind(kinds: Sequence[str], count: tuple[int, int]) -> Takes:
    """Some arguments of one type."""
    return lambda choose, result: [choose.one(kinds)] * choose.between(*count)


def case_takes(choose: Chooser, result: str) -> list[str]:
    pairs = ["boolean", result] * choose.between(1, 2)
    return [*pairs, result] if choose.chance(50) else pairs


def case(world: World, *values: Any) -> Any:
    for place in range(0, len(values) - 1, 2):
        if values[place] is True:
            return values[place + 1]
    return values[-1] if len(values) % 2 else None


def between(world: World, value: Any, low: Any, high: Any) -> Any:
    above = None if value is None or low is None else equal(value, low, lambda a, b: a >= b)
    below = None if value is None or high is None else equal(value, high, lambda a, b: a <= b)
    return every([above, below])


def one_of(world: World, value: Any, *options: Any) -> Any:
    if value is None:
        return None
    if any(option is not None and equal(value, option, lambda a, b: a == b) for option in options):
        return True
    return None if None in options else False


def nullif(world: World, value: Any, unwanted: Any) -> Any:
    if value is not None and unwanted is not None and equal(value, unwanted, lambda a, b: a == b):
        return None
    return value


def is_blank(world: World, value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip(casts.SPACES))


def rounded(world: World, value: float, digits: int = 0) -> float | None:
    if not -30 <= digits <= 30:
        return None
    if not math.isfinite(value):
        return value
    exact = casts.as_decimal(value)
    result = exact.quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP, Context(prec=400))
    if math.isinf(float(result)):
        raise Undetermined
    return float(result)


def whole(function: Callable[[float], int]) -> Callable[..., Any]:
    return lambda world, value: function(value) if math.isfinite(value) else None


def power(world: World | None, base: float, exponent: float) -> float | None:
    if not (math.isfinite(base) and math.isfinite(exponent)):
        raise Undetermined
    if (base < 0 and exponent != math.floor(exponent)) or (base == 0 and exponent < 0):
        return None
    try:
        result = base**exponent
    except OverflowError:
        return None
    size = abs(result)
    if 1e303 < size < 1e305 or 0 < size < 1e-300:
        raise Undetermined
    return None if size >= 1e305 else result


def remainder(world: World | None, left: Any, right: Any) -> Any:
    if right == 0:
        return None
    if isinstance(left, int) and isinstance(right, int):
        return left % right
    if not (math.isfinite(left) and math.isfinite(right)):
        raise Undetermined
    context = Context(prec=800)
    one, two = casts.as_decimal(left), casts.as_decimal(right)
    if abs(one) > abs(two) * 10**20 or any(0 < abs(part) < 1e-280 for part in (one, two)):
        raise Undetermined
    first = context.remainder(one, two)
    return float(context.remainder(context.add(first, two), two))


def sign(world: World, value: float) -> int:
    if math.isnan(value):
        raise Undetermined
    return (value > 0) - (value < 0)


def exponential(world: World, value: float) -> float | None:
    if 699 < abs(value) < 701:
        raise Undetermined
    return None if value > 700 else 0.0 if value < -700 else math.exp(value)


def logarithm(world: World, value: float) -> float | None:
    return None if value <= 0 else math.log(value) if math.isfinite(value) else value


def logarithm_to(world: World, value: float, base: float = 10) -> float | None:
    if value <= 0 or base <= 0 or base == 1:
        return None
    if not (math.isfinite(value) and math.isfinite(base)):
        raise Undetermined
    return math.log10(value) if base == 10 else math.log(value) / math.log(base)


def smallest(world: World, *values: Any) -> Any:
    return min((v for v in values if v is not None), key=order_value, default=None)


def largest(world: World, *values: Any) -> Any:
    return max((v for v in values if v is not None), key=order_value, default=None)


def mid(world: World, text: str, start: int, count: int) -> str | None:
    return None if start < 1 or count < 0 else text[start - 1 : start - 1 + count]


def replaced(world: World, text: str, find: str, put: str) -> str:
    return text.replace(find, put) if find else text


def found(world: World, text: str, part: str) -> int | None:
    return text.find(part) + 1 or None


def split(world: World, text: str, separator: str, index: int) -> str | None:
    if index < 1:
        return None
    parts = text.split(separator) if separator else [text]
    return (parts[index - 1] or None) if index <= len(parts) else None


def pad_left(world: World, text: str, width: int, fill: str = "0") -> str | None:
    if not 0 <= width <= 1000:
        return None
    missing = width - len(text)
    return text if missing <= 0 or not fill else (fill * missing)[:missing] + text


def to_text(world: World, value: Any) -> str | None:
    if value is None or value is JSON_NULL:
        return None
    if isinstance(value, datetime):
        local = value.astimezone(world.zone)
        return f"{local.year:04d}-{local:%m-%d %H:%M:%S}"
    kinds = ((bool, "boolean"), (int, "integer"), (float, "number"), (date, "date"), (time, "time"))
    kind = next((kind for python, kind in kinds if isinstance(value, python)), None)
    return casts.json_text(value) if kind is None else casts.text_of(value, kind, world.zone)


def concat(world: World, *values: Any) -> str:
    return "".join(to_text(world, value) or "" for value in values)


def json_field(world: World, value: Any, name: str) -> str | None:
    field = value.get(name) if isinstance(value, dict) else None
    return None if field is None else casts.json_text(field)


def part(name: str) -> Callable[..., Any]:
    return lambda world, value: texts.part_of(local(world, value), name)


def local(world: World, value: Any) -> Any:
    return value.astimezone(world.zone) if isinstance(value, datetime) else value


SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 604800}
MONTHS = {"month": 1, "quarter": 3, "year": 12}


def date_diff(world: World, start: Any, end: Any, unit: str = "day") -> int:
    """Complete units, as many below zero where the end is earlier."""
    unit = unit.lower().removesuffix("s")
    if start > end:
        return -date_diff(world, end, start, unit)
    if unit in MONTHS:
        one, two = _clock(world, start), _clock(world, end)
        months = (two.year - one.year) * 12 + two.month - one.month
        if (two.day, two.time()) < (one.day, one.time()):
            months -= 1
        return months // MONTHS[unit]
    if unit in ("day", "week"):
        # In the hour that an autumn night has twice, clocks may show less at the end.
        start, end = _clock(world, start), _clock(world, end)
    elapsed = end - start
    return int((elapsed.days * 86400 + elapsed.seconds) / SECONDS[unit])


def _clock(world: World, value: Any) -> datetime:
    if isinstance(value, datetime):
        return value.astimezone(world.zone).replace(tzinfo=None)
    return datetime(value.year, value.month, value.day)


def date_add(world: World, value: Any, count: int, unit: str = "day") -> Any:
    unit = unit.lower().removesuffix("s")
    size = MONTHS[unit] * 31 * 86400 if unit in MONTHS else SECONDS[unit]
    if abs(count) * size > 3_000 * 366 * 86400:
        raise Undetermined
    try:
        if isinstance(value, datetime):
            if not count:
                # the same moment, even in the hour that an autumn night has twice
                return value
            if unit in ("second", "minute", "hour"):
                return value + timedelta(seconds=count * SECONDS[unit])
            clock = _clock(world, value)
            return casts.in_zone(datetime.combine(_days_later(clock.date(), count, unit), clock.time()), world.zone)
        return _days_later(value, count, unit)
    except (OverflowError, ValueError):
        raise Undetermined from None


def _days_later(day: date, count: int, unit: str) -> date:
    if unit in MONTHS:
        return months_later(day, count * MONTHS[unit])
    return day + timedelta(days=count * (7 if unit == "week" else 1))


def date_of(world: World, year: int, month: int, day: int) -> date | None:
    try:
        return date(year, month, day)
    except (ValueError, OverflowError):
        return None


def readable(to: str) -> Callable[..., Any]:
    """From text, and from the other types that the conversion takes; null where it cannot be."""

    def convert(world: World, value: Any) -> Any:
        try:
            return _converted(world, value, to)
        except casts.Unreadable:
            return None

    return convert


def _converted(world: World, value: Any, to: str) -> Any:
    if isinstance(value, str):
        text = value.strip(casts.SPACES + "\u00a0")
        if to == "integer" and re.fullmatch(r"[+-]?[0-9]+", text):
            return int(text)
        return casts.read(text, to, world.zone)
    if to == "boolean":
        return value != 0
    if to == "number":
        return float(value)
    if to == "integer" and isinstance(value, float):
        return casts.cast(value, "number", "integer", world.zone)
    if to == "integer":
        return int(value)
    if isinstance(value, datetime):
        return value if to == "datetime" else getattr(value.astimezone(world.zone), to)()
    if to == "datetime":
        return casts.in_zone(datetime(value.year, value.month, value.day), world.zone)
    return value


UNITS = "'second'|'minute'|'hour'|'day'|'week'|'month'|'quarter'|'year'"
DAY_UNITS = "'day'|'weeks'|'month'|'quarter'|'Year'"


def _lower(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda world, *values: function(world, *values[:-1], values[-1].lower().removesuffix("s"))


RULES: tuple[Rule, ...] = (
    Rule(
        "if",
        ALL,
        lambda c, k: ["boolean", k, k] if c.chance(70) else ["boolean", k],
        lambda w, c, a, b=None: a if c is True else b,
        strict=False,
        together=True,
    ),
    Rule("case", ALL, case_takes, case, strict=False, together=True),
    Rule(
        "coalesce",
        ALL,
        alike((1, 3)),
        lambda w, *v: next((x for x in v if x is not None), None),
        strict=False,
        together=True,
        aliases=("if_null",),
    ),
    Rule("nullif", COMPARABLE, alike((2, 2)), nullif, strict=False, together=True),
    Rule("is_null", ("boolean",), of("|".join(ALL)), lambda w, v: v is None, strict=False, aliases=("isnull",)),
    Rule("is_blank", ("boolean",), of("|".join(ALL)), is_blank, strict=False, aliases=("isblank",)),
    Rule("between", ("boolean",), same_kind(ORDERED, (3, 3)), between, strict=False, together=True),
    Rule("one_of", ("boolean",), same_kind(COMPARABLE, (2, 4)), one_of, strict=False, together=True),
    Rule("abs", ("integer", "number"), alike((1, 1)), lambda w, v: abs(v), together=True),
    Rule("round", ("number",), of("number", "integer?"), rounded),
    Rule("floor", ("integer",), of("integer|number"), whole(math.floor)),
    Rule("ceil", ("integer",), of("integer|number"), whole(math.ceil), aliases=("ceiling",)),
    Rule("trunc", ("integer",), of("integer|number"), whole(math.trunc)),
    Rule("sqrt", ("number",), of("number"), lambda w, v: None if v < 0 else math.sqrt(v)),
    Rule("power", ("number",), of("number", "number"), power),
    Rule("mod", ("integer", "number"), alike((2, 2)), remainder, together=True),
    Rule("sign", ("integer",), of("number"), sign),
    Rule("exp", ("number",), of("number"), exponential),
    Rule("ln", ("number",), of("number"), logarithm),
    Rule("log", ("number",), of("number", "number?"), logarithm_to),
    Rule("min", ORDERED, alike((1, 3)), smallest, strict=False, together=True),
    Rule("max", ORDERED, alike((1, 3)), largest, strict=False, together=True),
    Rule("lower", ("text",), of("text"), lambda w, t: texts.one_to_one(t, "lower")),
    Rule("upper", ("text",), of("text"), lambda w, t: texts.one_to_one(t, "upper")),
    Rule("title", ("text",), of("text"), lambda w, t: texts.title(t), aliases=("proper",)),
    Rule("trim", ("text",), of("text"), lambda w, t: t.strip(casts.SPACES)),
    Rule("left", ("text",), of("text", "integer"), lambda w, t, n: None if n < 0 else t[:n]),
    Rule("right", ("text",), of("text", "integer"), lambda w, t, n: None if n < 0 else t[-n:] if n else ""),
    Rule("mid", ("text",), of("text", "integer", "integer"), mid, aliases=("substring",)),
    Rule("length", ("integer",), of("text"), lambda w, t: len(t), aliases=("len",)),
    Rule("replace", ("text",), of("text", "text", "text"), replaced, aliases=("substitute",)),
    Rule("contains", ("boolean",), of("text", "text"), lambda w, t, p: p in t),
    Rule("starts_with", ("boolean",), of("text", "text"), lambda w, t, p: t.startswith(p)),
    Rule("ends_with", ("boolean",), of("text", "text"), lambda w, t, p: t.endswith(p)),
    Rule("find", ("integer",), of("text", "text"), found),
    Rule("split", ("text",), of("text", "text", "integer"), split),
    Rule("pad_left", ("text",), of("text", "integer", "text?"), pad_left),
    Rule("concat", ("text",), lambda c, k: [c.one(ALL) for _ in range(c.between(1, 4))], concat, strict=False),
    Rule("json_field", ("text",), of("json", "text"), json_field),
    *(Rule(n, ("integer",), of("date|datetime"), part(n)) for n in ("year", "quarter", "month", "week", "day")),
    *(Rule(n, ("integer",), of("datetime|time"), part(n)) for n in ("hour", "minute", "second")),
    Rule("weekday", ("integer",), of("date|datetime"), part("weekday")),
    Rule("date_diff", ("integer",), of("date", "date", DAY_UNITS + "?"), date_diff),
    Rule("date_diff", ("integer",), of("datetime", "datetime", UNITS + "?"), date_diff),
    Rule("date_add", ("date",), of("date", "integer", DAY_UNITS + "?"), date_add),
    Rule("date_add", ("datetime",), of("datetime", "integer", UNITS + "?"), date_add),
    Rule(
        "start_of",
        ("date",),
        of("date|datetime", DAY_UNITS),
        _lower(lambda w, v, u: texts.start_of(local(w, v).date() if isinstance(v, datetime) else v, u)),
    ),
    Rule("date_of", ("date",), of("integer", "integer", "integer"), date_of),
    Rule("today", ("date",), of(), lambda w: w.today),
    Rule("now", ("datetime",), of(), lambda w: w.now.astimezone(UTC)),
    Rule("text", ("text",), of("|".join(ALL)), to_text),
    Rule("integer", ("integer",), of("text|integer|number|boolean"), readable("integer"), aliases=("int",)),
    Rule("number", ("number",), of("text|integer|number|boolean"), readable("number")),
    Rule("boolean", ("boolean",), of("text|integer|number|boolean"), readable("boolean")),
    Rule("date", ("date",), of("text|date|datetime"), readable("date")),
    Rule("datetime", ("datetime",), of("text|date|datetime"), readable("datetime")),
    Rule("time", ("time",), of("text|datetime|time"), readable("time")),
)
