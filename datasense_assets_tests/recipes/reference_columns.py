"""References of the steps that choose, change and compute columns."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime
from typing import Any

from datasense_assets_tests.recipes import reference_casts as casts
from datasense_assets_tests.recipes.reference_conditions import equal, literal, matcher, truth
from datasense_assets_tests.recipes.relation import Relation, Undetermined, World

Step = dict[str, Any]


def select(step: Step, table: Relation, world: World) -> Relation:
    return table.only(step["columns"])


def drop(step: Step, table: Relation, world: World) -> Relation:
    return table.without(step["columns"])


def rename(step: Step, table: Relation, world: World) -> Relation:
    return replace(table, columns=tuple((step["columns"].get(n, n), k) for n, k in table.columns))


def cast(step: Step, table: Relation, world: World) -> Relation:
    result = table
    for item in step["columns"]:
        name, to = item["column"], item["to"]
        kind = table.kind(name)
        read = _formatted(item["format"], to, world) if "format" in item else None
        values = [_cast_one(value, kind, to, read, name, world) for value in table.values(name)]
        result = result.with_column(name, to, values)
    return result


def _cast_one(value: Any, kind: str, to: str, read: Callable[[str], Any] | None, name: str, world: World) -> Any:
    try:
        if read is None:
            return casts.cast(value, kind, to, world.zone)
        text = None if value is None else value.strip(casts.SPACES)
        return read(text) if text else None
    except casts.Unreadable:
        world.lost[name] += 1
        return None


def _formatted(pattern: str, to: str, world: World) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        try:
            moment = datetime.strptime(text, pattern)
        except ValueError:
            raise casts.Unreadable from None
        if to == "datetime":
            return casts.in_utc(moment) if moment.tzinfo else casts.in_zone(moment, world.zone)
        return moment.date() if to == "date" else moment.time()

    return read


def replace_values(step: Step, table: Relation, world: World) -> Relation:
    name = step["column"]
    kind = table.kind(name)
    match = step.get("match", "whole")
    values = [_replaced(step, match, value, kind, world) for value in table.values(name)]
    written = [pair["replace"] for pair in step["mapping"]]
    if match == "whole" and "otherwise" in step:
        kind = literals_kind([*written, step["otherwise"]])
        values = [_as(value, kind) for value in values]
    elif kind == "integer" and any(isinstance(value, float) for value in written):
        kind = "number"
        values = [_as(value, kind) for value in values]
    return table.with_column(step.get("into", name), kind, values)


def _replaced(step: Step, match: str, value: Any, kind: str, world: World) -> Any:
    pairs = step["mapping"]
    if match == "whole":
        for pair in pairs:
            if value is not None and equal(value, literal(pair["find"], kind, world.zone), casts_equal):
                if "otherwise" in step or pair["replace"] is None:
                    return pair["replace"]
                return literal(pair["replace"], kind, world.zone)
        return step.get("otherwise", value)
    if value is None:
        return step.get("otherwise")
    if match == "substring":
        touched = any(pair["find"] in value for pair in pairs)
        for pair in pairs:
            value = value.replace(pair["find"], pair["replace"]) if pair["find"] else value
    else:
        touched = any(matcher(pair["find"]).search(value) for pair in step["mapping"])
        for pair in pairs:
            value = matcher(pair["find"]).sub(functools.partial(_put, pair["replace"]), value)
    return step["otherwise"] if "otherwise" in step and not touched else value


def _put(text: str, match: re.Match[str]) -> str:
    """What takes the place of a match: `\\1` is what the first bracket matched, `\\0` all of it."""
    return re.sub(r"\\([0-9])", lambda named: match[int(named[1])] or "", text)


def casts_equal(left: Any, right: Any) -> bool:
    return bool(left == right)


def literals_kind(values: Iterable[Any]) -> str:
    """The type that literals have together by themselves; text where all are null."""
    kinds = {kind_of_literal(value) for value in values if value is not None}
    if kinds == {"integer", "number"}:
        return "number"
    return kinds.pop() if kinds else "text"


def kind_of_literal(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    return {int: "integer", float: "number", str: "text"}[type(value)]


def _as(value: Any, kind: str) -> Any:
    return as_number(value) if kind == "number" else value


def as_number(value: Any) -> Any:
    """An integer as a number; what is one stays as it is."""
    return float(value) if isinstance(value, int) else value


def mixed(kinds: Iterable[str]) -> str:
    """The one type that holds values of all these. Raises Undetermined where there is none: no such recipe is valid."""
    found = set(kinds)
    if found == {"integer", "number"}:
        return "number"
    if len(found) > 1:
        raise Undetermined
    return found.pop()


def coalesce(step: Step, table: Relation, world: World) -> Relation:
    kind = mixed(table.kind(name) for name in step["columns"])
    default = step.get("default")
    if kind == "integer" and isinstance(default, float):
        kind = "number"
        # Integers and a default of another type come as numbers.
    if default is not None:
        default = literal(default, kind, world.zone)
    values = []
    for row in table.dicts():
        cells = [row[name] for name in step["columns"]]
        values.append(_as(next((cell for cell in cells if cell is not None), default), kind))
    return finished(step, table.with_column(step["into"], kind, values), step["columns"])


def finished(step: Step, after: Relation, sources: Iterable[str]) -> Relation:
    """Without the sources where the step says so."""
    if step.get("keep_source", True):
        return after
    return after.without(name for name in sources if name != step["into"])


def case(step: Step, table: Relation, world: World) -> Relation:
    kinds = dict(table.columns)
    branches = [(b["when"], b.get("then"), b.get("then_column")) for b in step["cases"]]
    last = (step.get("otherwise"), step.get("otherwise_column"))
    columns = [c for _, _, c in branches if c is not None] + ([last[1]] if last[1] else [])
    literals = [v for _, v, c in branches if c is None] + ([last[0]] if last[1] is None else [])
    kind = mixed(kinds[c] for c in columns) if columns else literals_kind(literals)
    if kind == "integer" and any(isinstance(value, float) for value in literals):
        kind = "number"

    def of(value: Any, column: str | None, row: dict[str, Any]) -> Any:
        if column is not None:
            return _as(row[column], kind)
        return None if value is None else _as(literal(value, kind, world.zone), kind)

    values = []
    for row in table.dicts():
        chosen = next((b for b in branches if truth(b[0], row, kinds, world) is True), (None, *last))
        values.append(of(chosen[1], chosen[2], row))
    return finished(step, table.with_column(step["into"], kind, values), columns)


def concat(step: Step, table: Relation, world: World) -> Relation:
    kinds = dict(table.columns)
    values = []
    for row in table.dicts():
        parts = [
            casts.text_of(row[p["column"]], kinds[p["column"]], world.zone) if "column" in p else p["text"]
            for p in step["parts"]
        ]
        values.append(step.get("separator", "").join(part for part in parts if part is not None))
    sources = [p["column"] for p in step["parts"] if "column" in p]
    return finished(step, table.with_column(step["into"], "text", values), sources)


def split_choices(step: Step, table: Relation, world: World) -> Relation:
    name, delimiter = step["column"], step.get("delimiter", " ")
    prefix = step.get("prefix", f"{name}/")
    result = table
    for choice in step["choices"]:
        cells = [None if v is None else choice.strip(casts.SPACES) in tokens(v, delimiter) for v in table.values(name)]
        result = result.with_column(prefix + choice, "boolean", cells)
    made = {prefix + choice for choice in step["choices"]}
    return result if step.get("keep_source", True) or name in made else result.without([name])


def tokens(text: str, delimiter: str) -> list[str]:
    """The pieces between delimiters, trimmed."""
    if not delimiter.strip(casts.SPACES):
        return re.split(r"[ \t\n\r\v\f]+", text.strip(casts.SPACES))
    return [piece.strip(casts.SPACES) for piece in text.split(delimiter.strip(casts.SPACES))]
