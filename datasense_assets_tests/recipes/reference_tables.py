"""References of the steps that bring tables together or change what a row stands for."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from datasense_assets_tests.recipes import reference_casts as casts
from datasense_assets_tests.recipes.reference_columns import Step, as_number, mixed
from datasense_assets_tests.recipes.reference_conditions import equal, literal, truth
from datasense_assets_tests.recipes.reference_rows import average, in_order, sort_key, tame, total
from datasense_assets_tests.recipes.relation import Relation, Row, Undetermined, World, group_value, order_value


def join(step: Step, table: Relation, world: World) -> Relation:
    right, how = world.inputs[step["with"]], step["how"]
    pairs = [(key["left"], key["right"]) for key in step["on"]]

    def meets(one: Row, two: Row) -> bool:
        return all(_equal_keys(one[table.at(a)], two[right.at(b)]) for a, b in pairs)

    if how in ("semi", "anti"):
        return table.keep(any(meets(row, other) for other in right.rows) == (how == "semi") for row in table.rows)
    key_of = dict(pairs)
    if "columns" in step:
        wanted = [c for c in step["columns"] if (c, c) not in pairs]
    else:
        wanted = [c for c in right.names if c not in {b for _, b in pairs}]
    suffix = step.get("suffix", "_2")
    brought = [(c, c + suffix if c in table.names else c) for c in wanted]
    kinds = [
        (n, mixed([k, right.kind(key_of[n])]) if n in key_of and how in ("right", "full") else k)
        for n, k in table.columns
    ] + [(new, right.kind(old)) for old, new in brought]

    def made(one: Row | None, two: Row | None) -> Row:
        cells = []
        for place, name in enumerate(table.names):
            cell = None if one is None else one[place]
            if cell is None and two is not None and name in key_of and how in ("right", "full"):
                cell = two[right.at(key_of[name])]
            cells.append(cell)
        return (*cells, *(None if two is None else two[right.at(old)] for old, _ in brought))

    rows = [made(one, two) for one in table.rows for two in right.rows if meets(one, two)]
    if how in ("left", "full"):
        rows += [made(one, None) for one in table.rows if not any(meets(one, two) for two in right.rows)]
    if how in ("right", "full"):
        rows += [made(None, two) for two in right.rows if not any(meets(one, two) for one in table.rows)]
    return typed(Relation(tuple(kinds), tuple(rows)))


def _equal_keys(left: Any, right: Any) -> bool:
    if left is None or right is None:
        return False
    return equal(left, right, lambda a, b: a == b)


def typed(table: Relation) -> Relation:
    """With integers in number columns as numbers."""
    kinds = [kind for _, kind in table.columns]
    rows = tuple(
        tuple(as_number(c) if k == "number" else c for c, k in zip(row, kinds, strict=True)) for row in table.rows
    )
    return replace(table, rows=rows)


def union(step: Step, table: Relation, world: World) -> Relation:
    sides = [(world.start, table), *((alias, world.inputs[alias]) for alias in step["with"])]
    names = list(dict.fromkeys(name for _, side in sides for name in side.names))
    kinds = [(n, mixed(side.kind(n) for _, side in sides if n in side.names)) for n in names]
    rows = [
        tuple(row.get(name) for name in names) + ((alias,) if "source_column" in step else ())
        for alias, side in sides
        for row in side.dicts()
    ]
    if "source_column" in step:
        kinds.append((step["source_column"], "text"))
    result = typed(Relation(tuple(kinds), tuple(rows)))
    if step.get("distinct", False):
        kept: dict[Any, Row] = {}
        for row in result.rows:
            kept.setdefault(tuple(map(group_value, row)), row)
        result = replace(result, rows=tuple(kept.values()))
    return result


def aggregate(step: Step, table: Relation, world: World) -> Relation:
    by = step.get("group_by", [])
    groups = grouped(table, by)
    columns = [(name, table.kind(name)) for name in by]
    columns += [
        (a["into"], figure_kind(a["fn"], table.kind(a["column"]) if a.get("column") else None))
        for a in step["aggregations"]
    ]
    rows = [
        (*key, *(figure(a, replace(table, rows=tuple(part)), world) for a in step["aggregations"]))
        for key, part in groups
    ]
    return Relation(tuple(columns), tuple(rows))


def grouped(table: Relation, by: Sequence[str]) -> list[tuple[Row, list[Row]]]:
    """(values of the group columns, rows) by group; all rows, none included, as one group without group columns."""
    if not by:
        return [((), list(table.rows))]
    places = [table.at(name) for name in by]
    found: dict[Any, tuple[Row, list[Row]]] = {}
    for row in table.rows:
        key = tuple(row[place] for place in places)
        found.setdefault(tuple(map(group_value, key)), (key, []))[1].append(row)
    return list(found.values())


def figure_kind(fn: str, kind: str | None) -> str:
    if fn in ("count", "count_distinct"):
        return "integer"
    if fn in ("avg", "median", "stddev", "percentile"):
        return "number"
    return {"concat": "text", "any": "boolean", "all": "boolean"}.get(fn, str(kind))


def figure(item: Step, part: Relation, world: World) -> Any:
    """One figure of the rows of a group."""
    if "filter" in item:
        kinds = dict(part.columns)
        part = part.keep(truth(item["filter"], row, kinds, world) for row in part.dicts())
    if item.get("column") is None:
        return len(part.rows)
    name = item["column"]
    kind = part.kind(name)
    known = [cell for cell in part.values(name) if cell is not None]
    fn = item["fn"]
    if fn in ("first", "last", "concat"):
        return _ordered_figure(item, part, kind, world)
    return _FIGURES[fn](known) if fn in _FIGURES else percentile(known, item.get("percentile", 50))


def _ordered_figure(item: Step, part: Relation, kind: str, world: World) -> Any:
    """Ties, and everything without an order, go by the value itself (as text where it is joined)."""
    name, fn = item["column"], item["fn"]
    key = sort_key(part, item.get("order_by") or [])
    place = part.at(name)

    def tie(value: Any) -> Any:
        if fn == "concat" or kind == "json":
            return casts.text_of(value, kind, world.zone) if fn == "concat" else _json_written(value)
        return order_value(value)

    rows = [row for row in part.rows if row[place] is not None]
    if fn == "concat":
        rows = [row for row in rows if casts.text_of(row[place], kind, world.zone) is not None]
    rows.sort(key=lambda row: (key(row), tie(row[place])))
    if not rows:
        return None
    if fn == "concat":
        return item.get("separator", ", ").join(str(casts.text_of(row[place], kind, world.zone)) for row in rows)
    return rows[0][place] if fn == "first" else rows[-1][place]


def _json_written(value: Any) -> str:
    import json

    return (
        json.dumps(value, ensure_ascii=False)
        if isinstance(value, str)
        else casts.json_text(value)
        if isinstance(value, (dict, list, bool, int, float))
        else "null"
    )


def _mode(known: list[Any]) -> Any:
    counts = Counter(map(group_value, known))
    if not counts:
        return None
    most = max(counts.values())
    # Of values equally frequent the least, as PostgreSQL's mode() meets them in order.
    return min((v for v in known if counts[group_value(v)] == most), key=order_value)


def percentile(known: Sequence[Any], percent: float) -> float | None:
    """Between the two nearest values, in proportion."""
    if not known:
        return None
    tame(known)
    ordered = sorted(float(value) for value in known)
    place = (len(ordered) - 1) * percent / 100
    low = math.floor(place)
    high = math.ceil(place)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def _stddev(known: list[Any]) -> float | None:
    if len(known) < 2:
        return None
    tame(known)
    return statistics.stdev(map(float, known))


_FIGURES: dict[str, Callable[[list[Any]], Any]] = {
    "count": len,
    "count_distinct": lambda known: len(set(map(group_value, known))),
    "sum": total,
    "avg": average,
    "min": lambda known: min(known, key=order_value, default=None),
    "max": lambda known: max(known, key=order_value, default=None),
    "median": lambda known: percentile(known, 50),
    "mode": _mode,
    "any": lambda known: any(known) if known else None,
    "all": lambda known: all(known) if known else None,
    "stddev": _stddev,
}


def pivot(step: Step, table: Relation, world: World) -> Relation:
    by, fn, values_from = step["group_by"], step["fn"], step.get("values_from")
    key_kind = table.kind(step["names_from"])
    cell_kind = figure_kind(fn, table.kind(values_from) if values_from else None)
    fill = step.get("fill")
    kind = "number" if cell_kind == "integer" and isinstance(fill, float) else cell_kind
    columns = [(name, table.kind(name)) for name in by]
    columns += [(step.get("prefix", "") + name_text(value), kind) for value in step["names"]]
    place = table.at(step["names_from"])
    rows = []
    for key, part in grouped(table, by):
        cells = []
        for value in step["names"]:
            wanted = literal(value, key_kind, world.zone)
            mine = [r for r in part if r[place] is not None and equal(r[place], wanted, lambda a, b: a == b)]
            cell = figure({"fn": fn, "column": values_from}, replace(table, rows=tuple(mine)), world)
            # A count is empty where there is no row to count, the rest where there is no value.
            if fill is not None and (not mine if fn in ("count", "count_distinct") else cell is None):
                cell = literal(fill, cell_kind, world.zone)
            cells.append(cell)
        rows.append((*key, *cells))
    return typed(Relation(tuple(columns), tuple(rows)))


def name_text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def unpivot(step: Step, table: Relation, world: World) -> Relation:
    kind = mixed(table.kind(name) for name in step["columns"])
    others = [name for name in table.names if name not in step["columns"]]
    kept = table.only(others) if others else replace(table, columns=(), rows=tuple(() for _ in table.rows))
    rows = [
        (*rest, name, cell)
        for rest, row in zip(kept.rows, table.dicts(), strict=True)
        for name in step["columns"]
        for cell in [row[name]]
        if not (step.get("drop_missing", False) and cell is None)
    ]
    columns = (*kept.columns, (step["names_to"], "text"), (step["values_to"], kind))
    return typed(Relation(columns, tuple(rows)))


__all__ = ["Undetermined", "aggregate", "in_order", "join", "pivot", "union", "unpivot"]
