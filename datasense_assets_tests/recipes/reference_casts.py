"""What a value is as another type, in plain Python: the words of `cast`, written a second time."""

from __future__ import annotations

import json
import math
import re
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from datasense_assets_tests.recipes.random_tables import JSON_NULL
from datasense_assets_tests.recipes.relation import Loose, Undetermined

SPACES = " \t\n\r\v\f"
TRUE, FALSE = {"true", "t", "yes", "y", "on", "1"}, {"false", "f", "no", "n", "off", "0"}
CASTS = {
    "text": ("text", "integer", "number", "boolean", "date", "datetime", "time", "json"),
    "integer": ("integer", "text", "number", "boolean", "json"),
    "number": ("number", "text", "integer", "boolean", "json"),
    "boolean": ("boolean", "text", "integer", "number", "json"),
    "date": ("date", "text", "datetime", "json"),
    "datetime": ("datetime", "text", "date", "time", "json"),
    "time": ("time", "text", "json"),
    "json": ("json", "text", "integer", "number", "boolean", "date", "datetime", "time"),
}
"""The types that each type can be read as."""


class Unreadable(Exception):
    """There is a value, and it is none of that type."""


def cast(value: Any, kind: str, to: str, zone: ZoneInfo) -> Any:
    """The value as another type; null for null and for blank text. Raises Unreadable."""
    if value is None:
        return None
    if kind == "json" and to != "json":
        return None if value is JSON_NULL else cast(json_text(value), "text", to, zone)
    if kind == "text":
        text = value.strip(SPACES)
        return text if to == "text" else read(text, to, zone)
    if to == kind:
        return value
    if to == "text":
        return text_of(value, kind, zone)
    if to == "json":
        return as_json(value, kind, zone)
    if to in ("integer", "number", "boolean"):
        return _between_numbers(value, kind, to)
    if (kind, to) == ("date", "datetime"):
        return in_zone(datetime(value.year, value.month, value.day), zone)
    local = value.astimezone(zone)
    return local.date() if to == "date" else local.time()


def _between_numbers(value: Any, kind: str, to: str) -> Any:
    if kind == "boolean":
        return int(value) if to == "integer" else float(value)
    if to == "boolean":
        if value not in (0, 1):
            raise Unreadable
        return value == 1
    if to == "number":
        return float(value)
    if not math.isfinite(value) or value != math.floor(value) or not -(2**63) <= value < 2**63:
        raise Unreadable
    return int(value)


def read(text: str, to: str, zone: ZoneInfo) -> Any:
    """Trimmed text read as a type. Raises Unreadable."""
    if not text:
        return None
    try:
        return _READERS[to](text, zone)
    except (ValueError, OverflowError, RecursionError):
        raise Unreadable from None


def _integer(text: str, zone: ZoneInfo) -> int:
    if not re.fullmatch(r"[+-]?[0-9]{1,100}", text):
        raise Unreadable
    value = int(text)
    if not -(2**63) <= value < 2**63:
        raise Unreadable
    return value


def _number(text: str, zone: ZoneInfo) -> float:
    far = re.fullmatch(r"[+-]?[1-9](\.[0-9]{0,30})?[eE][+-]?([0-9]{3})", text)
    if not re.fullmatch(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,2})?", text) and (
        far is None or int(far[2]) > 307
    ):
        raise Unreadable
    return float(text)


def _boolean(text: str, zone: ZoneInfo) -> bool:
    word = text.lower()
    if word not in TRUE | FALSE:
        raise Unreadable
    return word in TRUE


def _date(text: str, zone: ZoneInfo) -> date:
    if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
        raise Unreadable
    return date.fromisoformat(text)


def _datetime(text: str, zone: ZoneInfo) -> datetime:
    parts = re.fullmatch(r"([0-9-]{10})(?:[T ]([0-9:.]+?)(Z| ?[+-][0-9]{2}(?::?[0-9]{2})?)?)?", text)
    if parts is None:
        raise Unreadable
    day = _date(parts[1], zone)
    clock = time(0) if parts[2] is None else _time(parts[2], zone)
    if not parts[3]:
        return in_zone(datetime.combine(day, clock), zone)
    return in_utc(datetime.combine(day, clock, _offset(parts[3])))


def in_zone(local: datetime, zone: ZoneInfo) -> datetime:
    """The moment at which clocks of the zone show it, as PostgreSQL takes it.

    A time that comes twice is the later one; one that is left out is read by the offset before the change.
    """
    first, second = local.replace(tzinfo=zone, fold=0), local.replace(tzinfo=zone, fold=1)
    one, two = first.utcoffset(), second.utcoffset()
    assert one is not None
    assert two is not None
    return in_utc(second if one > two else first)


def in_utc(moment: datetime) -> datetime:
    """Python compares two moments of one zone by what clocks show; in UTC that is right."""
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise Undetermined from None


def _offset(text: str) -> timezone:
    if text == "Z":
        return timezone(timedelta(0))
    digits = text.strip().replace(":", "")
    hours, minutes = int(digits[1:3]), int(digits[3:] or 0)
    if hours > 14 or minutes > 59:
        raise Unreadable
    return timezone((1 if digits[0] == "+" else -1) * timedelta(hours=hours, minutes=minutes))


def _time(text: str, zone: ZoneInfo) -> time:
    parts = re.fullmatch(r"([0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,6})?)?)(Z| ?[+-][0-9]{2}(?::?[0-9]{2})?)?", text)
    if parts is None:
        raise Unreadable
    if parts[2]:
        _offset(parts[2])
    whole, _, fraction = parts[1].partition(".")
    return time.fromisoformat(whole).replace(microsecond=int(fraction.ljust(6, "0")) if fraction else 0)


def _refuse(name: str) -> None:
    raise ValueError(name)


def _json(text: str, zone: ZoneInfo) -> Any:
    value = json.loads(text, parse_constant=_refuse)
    return JSON_NULL if value is None else value


_READERS = {
    "integer": _integer,
    "number": _number,
    "boolean": _boolean,
    "date": _date,
    "datetime": _datetime,
    "time": _time,
    "json": _json,
}


def text_of(value: Any, kind: str, zone: ZoneInfo) -> str | None:
    """A value of any type as text, untrimmed; None for null and JSON's null."""
    if value is None or value is JSON_NULL:
        return None
    match kind:
        case "text":
            return str(value)
        case "boolean":
            return "true" if value else "false"
        case "integer":
            return str(int(value))
        case "number":
            return number_text(value)
        case "date":
            return str(value.isoformat())
        case "time":
            return _short_fraction(value.isoformat())
        case "datetime":
            return datetime_text(value.astimezone(zone))
    return json_text(value)


def number_text(value: Any) -> str:
    """As PostgreSQL writes a double: the shortest digits, an exponent from 1e15 on and below 0.0001."""
    if isinstance(value, Loose):
        raise Undetermined
    if isinstance(value, Decimal):
        return f"{value:f}"
    if value != value:
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    sign, digits, exponent = Decimal(repr(value)).as_tuple()
    assert isinstance(exponent, int)
    while len(digits) > 1 and digits[-1] == 0:
        digits, exponent = digits[:-1], exponent + 1
    written = "".join(map(str, digits))
    minus = "-" if sign else ""
    if written == "0":
        return minus + "0"
    point = len(written) + exponent
    if -4 <= point - 1 < 15:
        if point <= 0:
            return f"{minus}0.{'0' * -point}{written}"
        if point >= len(written):
            return minus + written + "0" * (point - len(written))
        return f"{minus}{written[:point]}.{written[point:]}"
    mantissa = written[0] + ("." + written[1:] if written[1:] else "")
    return f"{minus}{mantissa}e{point - 1:+03d}"


def as_decimal(value: float) -> Decimal:
    """A number in decimal: 15 digits, as people write it; of a large one all that tell it from others."""
    return Decimal(f"{value:.15g}" if abs(value) < 1e12 else repr(value))


def _short_fraction(text: str) -> str:
    return text.rstrip("0").rstrip(".") if "." in text else text


def datetime_text(local: datetime) -> str:
    """As PostgreSQL writes a timestamptz of the session's zone."""
    offset = local.utcoffset()
    assert offset is not None
    seconds = int(offset.total_seconds())
    size = abs(seconds)
    zone = f"{'-' if seconds < 0 else '+'}{size // 3600:02d}"
    if size % 3600:
        zone += f":{size % 3600 // 60:02d}"
    if size % 60:
        zone += f":{size % 60:02d}"
    return _short_fraction(local.replace(tzinfo=None).isoformat(sep=" ")) + zone


def as_json(value: Any, kind: str, zone: ZoneInfo) -> Any:
    """A value as JSON: moments as ISO text, the rest as it is."""
    if kind in ("date", "time"):
        return text_of(value, kind, zone)
    if kind == "datetime":
        local = value.astimezone(zone)
        text = datetime_text(local).replace(" ", "T", 1)
        return text if re.search(r"[+-]\d\d:\d\d", text) else text + ":00"
    if isinstance(value, (Decimal, Loose)):
        raise Undetermined
    if kind == "number" and not math.isfinite(value):
        return number_text(value)
    return value


def json_text(value: Any) -> str:
    """JSON as text: a text without its quotes, the rest as jsonb is written."""
    return value if isinstance(value, str) else _jsonb(value)


def _jsonb(value: Any) -> str:
    if isinstance(value, dict):
        keys = sorted(value, key=lambda key: (len(key.encode()), key.encode()))
        return "{" + ", ".join(f"{_jsonb(key)}: {_jsonb(value[key])}" for key in keys) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_jsonb, value)) + "]"
    return json.dumps(value, ensure_ascii=False)
