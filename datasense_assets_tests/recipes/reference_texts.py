"""References of the steps that tidy text, take it apart, and read something out of a column."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from datetime import date, datetime, timedelta
from fractions import Fraction
from itertools import pairwise
from typing import Any

from datasense_assets_tests.recipes import reference_casts as casts
from datasense_assets_tests.recipes.reference_columns import Step
from datasense_assets_tests.recipes.reference_conditions import matcher
from datasense_assets_tests.recipes.reference_rows import as_json, read_field
from datasense_assets_tests.recipes.relation import Relation, World

WORD = re.compile(r"[^\W_]+")


def clean_text(step: Step, table: Relation, world: World) -> Relation:
    result = table
    for name in step["columns"]:
        cells = table.values(name)
        for action in step["actions"]:
            cells = [None if cell is None else _ACTIONS[action](cell) for cell in cells]
        result = result.with_column(name, "text", cells)
    return result


def one_to_one(text: str, how: str) -> str:
    """In small or capital letters, a letter that would become two staying as it is, as in the C library."""
    return "".join(c if len(getattr(c, how)()) != 1 else getattr(c, how)() for c in text)


def title(text: str) -> str:
    """Each run of letters and digits with one capital."""
    return WORD.sub(lambda m: one_to_one(m[0][0], "upper") + one_to_one(m[0][1:], "lower"), text)


_APART = str.maketrans(
    {
        **dict(zip("łŁøØđĐħĦŧŦı", "lLoOdDhHtTi", strict=True)),
        **{"ß": "ss", "æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE"},
    }
)


def without_accents(text: str) -> str:
    apart = unicodedata.normalize("NFD", text.translate(_APART))
    return unicodedata.normalize("NFC", "".join(c for c in apart if not 0x300 <= ord(c) <= 0x36F))


def without_punctuation(text: str) -> str:
    """Python's punctuation, and not the symbols that only ASCII counts as punctuation beyond it."""
    return "".join(
        c
        for c in text
        if not (unicodedata.category(c).startswith("P") or (c.isascii() and not c.isalnum() and c > " "))
    )


_ACTIONS: dict[str, Any] = {
    "trim": lambda text: text.strip(casts.SPACES),
    "collapse_spaces": lambda text: re.sub(r"[ \t\n\r\v\f]+", " ", text),
    "lower": lambda text: one_to_one(text, "lower"),
    "upper": lambda text: one_to_one(text, "upper"),
    "title": title,
    "remove_accents": without_accents,
    "remove_digits": lambda text: re.sub(r"[0-9]", "", text),
    "remove_punctuation": without_punctuation,
}


def finished(step: Step, after: Relation, made: list[str], keep: bool = True) -> Relation:
    name = step["column"]
    return after if step.get("keep_source", keep) or name in made else after.without([name])


def extract(step: Step, table: Relation, world: World) -> Relation:
    pattern = matcher(step["pattern"])
    group = step.get("group", min(pattern.groups, 1))
    cells = [
        None if (m := pattern.search(v) if v is not None else None) is None else m[group]
        for v in table.values(step["column"])
    ]
    into = step.get("into", step["column"])
    return finished(step, table.with_column(into, "text", cells), [into])


def split_column(step: Step, table: Relation, world: World) -> Relation:
    result = table
    for place, name in enumerate(step["into"]):
        cells = []
        for value in table.values(step["column"]):
            pieces = [] if not value else value.split(step["delimiter"])
            cells.append(pieces[place].strip(casts.SPACES) if place < len(pieces) else None)
        result = result.with_column(name, "text", cells)
    return finished(step, result, step["into"])


def mask(step: Step, table: Relation, world: World) -> Relation:
    result = table
    for name in step["columns"]:
        kind = table.kind(name)
        texts = [casts.text_of(value, kind, world.zone) for value in table.values(name)]
        if step["method"] == "blank":
            result = result.with_column(name, kind, [None] * len(texts))
        elif step["method"] == "hash":
            cells = [None if t is None else hashlib.sha256(t.encode()).hexdigest() for t in texts]
            result = result.with_column(name, "text", cells)
        else:
            cells = [None if t is None else "***" + (t[-n:] if (n := min(4, len(t) // 4)) else "") for t in texts]
            result = result.with_column(name, "text", cells)
    return result


def date_part(step: Step, table: Relation, world: World) -> Relation:
    part, kind = step["part"], table.kind(step["column"])
    cells = [
        part_of(v.astimezone(world.zone) if v is not None and kind == "datetime" else v, part)
        for v in table.values(step["column"])
    ]
    return table.with_column(
        step.get("into", step["column"]), "date" if part.startswith("trunc_") else "integer", cells
    )


def part_of(value: Any, part: str) -> Any:
    """A part of a local date, datetime or time."""
    if value is None:
        return None
    if part.startswith("trunc_"):
        day = value.date() if isinstance(value, datetime) else value
        return start_of(day, part.removeprefix("trunc_"))
    match part:
        case "quarter":
            return (value.month + 2) // 3
        case "week":
            return value.isocalendar().week
        case "weekday":
            return value.isoweekday()
    return getattr(value, part)


def start_of(day: date, unit: str) -> date:
    match unit:
        case "year":
            return day.replace(month=1, day=1)
        case "quarter":
            return day.replace(month=(day.month - 1) // 3 * 3 + 1, day=1)
        case "month":
            return day.replace(day=1)
        case "week":
            return day - timedelta(days=day.weekday())
    return day


def geopoint(step: Step, table: Relation, world: World) -> Relation:
    prefix = step.get("prefix", f"{step['column']}_")
    names = [prefix + part for part in ("latitude", "longitude", "altitude", "accuracy")]
    result = table
    for place, name in enumerate(names):
        cells = []
        for value in table.values(step["column"]):
            words = [] if value is None else re.split(r"[ \t\n\r\v\f]+", value.strip(casts.SPACES))
            cells.append(_number(words[place] if place < len(words) else None, name, world))
        result = result.with_column(name, "number", cells)
    return finished(step, result, names)


def _number(word: str | None, name: str, world: World) -> float | None:
    try:
        return None if word is None else casts.cast(word, "text", "number", world.zone)
    except casts.Unreadable:
        world.lost[name] += 1
        return None


def label_values(step: Step, table: Relation, world: World) -> Relation:
    alias, _, column = step["source"].partition(".")
    labels = world.labels[alias][column or step["column"]]
    kind = table.kind(step["column"])
    texts = [casts.text_of(value, kind, world.zone) for value in table.values(step["column"])]
    cells = [None if text is None else labels.get(text, text) for text in texts]
    return table.with_column(step.get("into", step["column"]), "text", cells)


def bins(step: Step, table: Relation, world: World) -> Relation:
    if "width" in step:
        width = step["width"]
        whole = table.kind(step["column"]) == "integer" and isinstance(width, int)
        lows = [None if v is None else _low_end(v if whole else float(v), width) for v in table.values(step["column"])]
        if whole:
            lows = [None if low is None or low < -(2**63) else int(low) for low in lows]
        return table.with_column(step["into"], "integer" if whole else "number", lows)
    values = [None if v is None else float(v) for v in table.values(step["column"])]
    edges = step["edges"]
    labels = step.get("labels") or [f"{low}-{high}" for low, high in pairwise(edges)]
    cells = [None if v is None else _bin_of(v, edges, labels) for v in values]
    return table.with_column(step["into"], "text", cells)


def _low_end(value: float, width: float) -> float:
    """In decimal. So far out that the width is lost in the number's last digit, a number is its own lower end."""
    if not abs(value) < 1e300 * min(1, width):
        return value
    size = Fraction(repr(width))
    if isinstance(value, int):
        return int(value // size * size)
    return float(Fraction(casts.as_decimal(value)) // size * size)


def _bin_of(value: float, edges: list[float], labels: list[str]) -> str | None:
    for (low, high), label in zip(pairwise(edges), labels, strict=True):
        if low <= value < high or (value == high and high == edges[-1]):
            return label
    return None


def expand_json(step: Step, table: Relation, world: World) -> Relation:
    name = step["column"]
    kind = table.kind(name)
    held = [None if v is None else as_json(v, kind, world) for v in table.values(name)]
    result = table
    made = []
    for field, to in step["fields"].items():
        into = step.get("prefix", "") + field
        made.append(into)
        result = result.with_column(into, to, [read_field(v, field, into, to, world) for v in held])
    return finished(step, result, made, keep=False)
