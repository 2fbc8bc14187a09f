"""References of the steps that choose, order and multiply rows, and of those that look at the rows around a row."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from datasense_assets_tests.recipes import reference_casts as casts
from datasense_assets_tests.recipes.random_tables import JSON_NULL
from datasense_assets_tests.recipes.reference_columns import Step, tokens
from datasense_assets_tests.recipes.reference_conditions import literal, truth
from datasense_assets_tests.recipes.relation import (
    Relation,
    Row,
    TooLarge,
    Undetermined,
    World,
    group_value,
    order_value,
)


def filter_rows(step: Step, table: Relation, world: World) -> Relation:
    kinds = dict(table.columns)
    return table.keep(truth(step["where"], row, kinds, world) for row in table.dicts())


def sort_key(table: Relation, keys: Sequence[str]) -> Callable[[Row], list[Any]]:
    """A key for rows by column names, `-` for descending; a column that is really named so comes first."""
    wanted = []
    for key in keys:
        descending = key.startswith("-") and key not in table.names
        wanted.append((table.at(key[1:] if descending else key), descending))
    return lambda row: [order_value(row[place], descending) for place, descending in wanted]


def sort(step: Step, table: Relation, world: World) -> Relation:
    """Ties may come in any order, so an order is promised only where every two tied rows are the same."""
    ordered = in_order(table, step["by"])
    return replace(table, rows=tuple(ordered), ordered=True)


def in_order(table: Relation, keys: Sequence[str], *, ties: bool = False) -> list[Row]:
    """Rows in order. Raises Undetermined where rows that differ are tied, unless ties do not matter."""
    key = sort_key(table, keys)
    ordered = sorted(table.rows, key=key)
    if not ties:
        for one, two in itertools.pairwise(ordered):
            if key(one) == key(two) and identity(one) != identity(two):
                raise Undetermined
    return ordered


def identity(row: Row) -> tuple[Any, ...]:
    return tuple(repr(cell) if isinstance(cell, float) else group_value(cell) for cell in row)


def limit(step: Step, table: Relation, world: World) -> Relation:
    if step["rows"] < len(table.rows) and not table.ordered and len(set(map(identity, table.rows))) > 1:
        raise Undetermined
    return replace(table, rows=table.rows[: step["rows"]])


def expand_list(step: Step, table: Relation, world: World) -> Relation:
    name = step["column"]
    place, fields = table.at(name), step.get("fields")
    opened: list[Row] = []
    elements: list[Any] = []
    numbers: list[int | None] = []
    for row in table.rows:
        found = _elements(step, row[place], table.kind(name), world)
        if not found and step.get("keep_empty", False):
            opened.append(row)
            elements.append(None)
            numbers.append(None)
        for number, element in enumerate(found):
            opened.append(row)
            elements.append(element)
            numbers.append(number + 1)
    result = replace(table, rows=tuple(opened), ordered=False)
    new: list[str] = []
    if fields is None:
        result = result.with_column(name, "text", elements)
        new.append(name)
    for field, to in (fields or {}).items():
        result = result.with_column(field, to, [read_field(e, field, field, to, world) for e in elements])
        new.append(field)
    if "index_into" in step:
        result = result.with_column(step["index_into"], "integer", numbers)
        new.append(step["index_into"])
    if fields is not None and not step.get("keep_source", False) and name not in new:
        result = result.without([name])
    return result


def _elements(step: Step, value: Any, kind: str, world: World) -> list[Any]:
    if value is None:
        return []
    if "delimiter" in step:
        return [token for token in tokens(value, step["delimiter"]) if token]
    value = as_json(value, kind, world)
    return value if isinstance(value, list) else []


def as_json(value: Any, kind: str, world: World) -> Any:
    """JSON, or what a text holds of it; None where it holds none."""
    if kind == "text":
        try:
            value = casts.cast(value, "text", "json", world.zone)
        except casts.Unreadable:
            return None
    return value


def read_field(element: Any, field: str, into: str, to: str, world: World) -> Any:
    """A field of a JSON object as a type; what cannot be read is null and counted."""
    value = element.get(field) if isinstance(element, dict) else None
    if value is None or value is JSON_NULL:
        return None
    if to == "json":
        return value
    if to == "text":
        return casts.json_text(value)
    try:
        return casts.cast(casts.json_text(value), "text", to, world.zone)
    except casts.Unreadable:
        world.lost[into] += 1
        return None


def deduplicate(step: Step, table: Relation, world: World) -> Relation:
    """Of those with the same keys the first or last; what the order does not tell apart goes by all columns."""
    ordered = in_order(table, step.get("order_by") or [], ties=True)
    by_all = [
        tuple(
            order_value(casts.json_text(c) if isinstance(c, (dict, list)) else _json_order(c, k))
            for c, (_, k) in zip(row, table.columns, strict=True)
        )
        for row in ordered
    ]
    key = sort_key(table, step.get("order_by") or [])
    ordered = [row for _, _, row in sorted(zip(map(key, ordered), by_all, ordered, strict=True), key=lambda t: t[:2])]
    if step.get("keep", "first") == "last":
        ordered.reverse()
    places = [table.at(name) for name in step["keys"]]
    kept: dict[Any, Row] = {}
    for row in ordered:
        kept.setdefault(tuple(group_value(row[place]) for place in places), row)
    return replace(table, rows=tuple(kept.values()), ordered=False)


def _json_order(cell: Any, kind: str) -> Any:
    if kind != "json" or cell is None:
        return cell
    return "null" if cell is JSON_NULL else json.dumps(cell, ensure_ascii=False)


def window(step: Step, table: Relation, world: World) -> Relation:
    places = [table.at(name) for name in step.get("partition_by", [])]
    parts: dict[Any, list[int]] = {}
    for number, row in enumerate(table.rows):
        parts.setdefault(tuple(group_value(row[place]) for place in places), []).append(number)
    fn, column = step["fn"], step.get("column")
    kind = _window_kind(fn, None if column is None else table.kind(column))
    values: list[Any] = [None] * len(table.rows)
    order = step.get("order_by")
    for numbers in parts.values():
        rows = [table.rows[n] for n in numbers]
        if order:
            key = sort_key(table, order)
            numbers = sorted(numbers, key=lambda n, key=key: key(table.rows[n]))  # type: ignore[misc]
            part = replace(table, rows=tuple(rows))
            if fn not in ("rank", "dense_rank"):
                in_order(part, order)
        elif fn in ("row_number", "ntile"):
            raise Undetermined
        cells = [None if column is None else table.rows[n][table.at(column)] for n in numbers]
        keys = [sort_key(table, order or [])(table.rows[n]) for n in numbers]
        for n, value in zip(numbers, _figures(step, cells, keys), strict=True):
            values[n] = value
    return table.with_column(step["into"], kind, values)


def _window_kind(fn: str, kind: str | None) -> str:
    if fn in ("row_number", "rank", "dense_rank", "ntile", "count"):
        return "integer"
    return "number" if fn in ("avg", "moving_avg", "percent_of_total") else str(kind)


def _figures(step: Step, cells: list[Any], keys: list[Any]) -> list[Any]:
    fn, periods, size = step["fn"], step.get("periods", 1), len(cells)
    known = [cell for cell in cells if cell is not None]
    match fn:
        case "row_number":
            return list(range(1, size + 1))
        case "rank":
            return [keys.index(key) + 1 for key in keys]
        case "dense_rank":
            return [sum(1 for i in range(1, keys.index(key) + 1) if keys[i] != keys[i - 1]) + 1 for key in keys]
        case "ntile":
            return _tiles(size, periods)
        case "lag" | "lead":
            away = -periods if fn == "lag" else periods
            return [cells[i + away] if 0 <= i + away < size else None for i in range(size)]
        case "running_sum":
            return [total(cells[: i + 1]) for i in range(size)]
        case "moving_avg":
            return [average(cells[max(0, i + 1 - periods) : i + 1]) for i in range(size)]
        case "first":
            return [next(iter(known), None)] * size
        case "last":
            return [known[-1] if known else None] * size
        case "count":
            return [size if step.get("column") is None else len(known)] * size
        case "sum":
            return [total(cells)] * size
        case "avg":
            return [average(cells)] * size
        case "min":
            return [min(known, key=order_value, default=None)] * size
        case "max":
            return [max(known, key=order_value, default=None)] * size
        case "percent_of_total":
            whole = total([None if c is None else float(c) for c in cells])
            return [None if c is None or not whole else float(c) * 100.0 / whole for c in cells]
    raise AssertionError(fn)


def _tiles(size: int, count: int) -> list[int]:
    """Parts of which the first ones are larger by one where it does not come out even."""
    small, more = divmod(size, count)
    tiles = [number + 1 for number in range(min(count, size)) for _ in range(small + (number < more))]
    return tiles[:size]


def total(cells: Sequence[Any]) -> Any:
    """The sum of what is not null, null of nothing. Raises TooLarge, and Undetermined where digits would be lost."""
    known = [cell for cell in cells if cell is not None]
    if not known:
        return None
    if all(isinstance(cell, int) for cell in known):
        whole = sum(known)
        if not -(2**63) <= whole < 2**63:
            raise TooLarge
        return whole
    tame(known)
    return float(sum(map(float, known)))


def tame(known: Sequence[Any]) -> None:
    """Only numbers whose sums and squares are exact enough to compare, in whatever order they are added."""
    if any(not abs(float(cell)) <= 1e9 or float(cell) * 1024 % 1 for cell in known):
        raise Undetermined


def average(cells: Sequence[Any]) -> float | None:
    known = [float(cell) for cell in cells if cell is not None]
    if not known:
        return None
    tame(known)
    return sum(known) / len(known)


def fill_missing(step: Step, table: Relation, world: World) -> Relation:
    if step["method"] == "value":
        result = table
        for name in step["columns"]:
            kind = table.kind(name)
            if kind == "integer" and isinstance(step["value"], float):
                kind = "number"
            value = literal(step["value"], kind, world.zone)
            cells = [value if c is None else c for c in table.values(name)]
            result = result.with_column(name, kind, [float(c) if kind == "number" else c for c in cells])
        return result
    rows = in_order(table, step["order_by"])
    if step["method"] == "up":
        rows.reverse()
    result = replace(table, rows=tuple(rows), ordered=False)
    for name in step["columns"]:
        met: Any = None
        cells = []
        for row in rows:
            cell = row[table.at(name)]
            met = cell if cell is not None else met
            cells.append(met)
        result = result.with_column(name, table.kind(name), cells)
    return result
