"""How `aggregate` compiles: groups and figures, with integers staying integers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ibis
import ibis.expr.types as ir

from datasense_assets.catalog.models import ColumnType
from datasense_assets.recipes.compiling.conditions import compile_condition
from datasense_assets.recipes.compiling.frame import Context, Frame, usual
from datasense_assets.recipes.compiling.functions import bigint
from datasense_assets.recipes.compiling.kinds import JSONB, NUMERIC, ORDERABLE, kind_of, null
from datasense_assets.recipes.compiling.registry import compiles
from datasense_assets.recipes.compiling.rows import free_names, sort_keys
from datasense_assets.recipes.compiling.values import cast_to_text
from datasense_assets.recipes.language.tables import Aggregate, Aggregation

T = ColumnType


@compiles(Aggregate)
def aggregate(step: Aggregate, frame: Frame, context: Context) -> Frame:
    """GROUP BY; integers stay integers in sums, averages are numbers."""
    keys: dict[str, ir.Value | None] = {}
    for i, name in enumerate(step.group_by):
        keys[name] = context.column(frame, name, f"group_by[{i}]")
        if keys[name] is not None and kind_of(keys[name]) not in ORDERABLE:
            context.error(
                "type_mismatch", f"group_by[{i}]", f"{name!r} is json and cannot be grouped; cast it to text."
            )
            keys[name] = None
    figures = {a.into: _figure(a, frame, context, f"aggregations[{i}]") for i, a in enumerate(step.aggregations)}
    intos = [a.into for a in step.aggregations]
    context.distinct_names([*step.group_by, *intos], "aggregations" if intos else "group_by")
    everything = {**keys, **figures}
    missing = frozenset(name for name, value in everything.items() if value is None)
    if missing or len(everything) < len(step.group_by) + len(intos):
        known = {name: value for name, value in everything.items() if value is not None}
        stand_in = [null(kind_of(value)).name(name) for name, value in known.items()]
        table = frame.table.select(stand_in) if stand_in else frame.table
        leftover = frozenset(() if stand_in else frame.table.columns)
        return Frame(table, missing | leftover, is_open=False)
    by = [value.name(name) for name, value in keys.items() if value is not None]
    metrics = [value.name(name) for name, value in figures.items() if value is not None]
    if not metrics:
        # Not as DISTINCT: after a sort, ibis makes that of the columns that are sorted by, too.
        counted = frame.table.group_by(by).aggregate(frame.table.count().name(free_names(frame, 1)[0]))
        return Frame(counted.select(list(keys)))
    return Frame(frame.table.group_by(by).aggregate(metrics) if by else frame.table.aggregate(metrics))


def _figure(item: Aggregation, frame: Frame, context: Context, path: str) -> ir.Value | None:
    where: Any = None
    failed = False
    if item.filter is not None:
        where = compile_condition(item.filter, frame, context, f"{path}.filter")
        failed = where is None
    if item.column is None:
        return None if failed else usual(frame.table.count(where=where))
    column = context.column(frame, item.column, f"{path}.column")
    order = _order(item, frame, context, path)
    if column is None or failed or order is None:
        return None
    kind = kind_of(column)
    if kind not in ALLOWED[item.fn]:
        wanted = " or ".join(sorted(ALLOWED[item.fn]))
        context.error(
            "type_mismatch",
            f"{path}.column",
            f"{item.fn} works on {wanted} and {item.column!r} is {kind}; cast it first.",
        )
        return None
    return usual(FUNCTIONS[item.fn](Figure(item, column, order, where)))


def _order(item: Aggregation, frame: Frame, context: Context, path: str) -> list[ir.Value] | None:
    if item.order_by is None:
        return []
    if item.fn not in ("first", "last", "concat"):
        context.error("invalid_value", f"{path}.order_by", f"{item.fn} has no order; remove order_by.")
        return None
    return sort_keys(item.order_by, frame, context, f"{path}.order_by")


@dataclass(frozen=True)
class Figure:
    """What a function is given: the aggregation as written, its column, the order and the filter."""

    item: Aggregation
    column: Any
    order: list[Any]
    where: Any


_ANY_KIND = frozenset(ColumnType)
ALLOWED: dict[str, frozenset[ColumnType]] = {
    "count": _ANY_KIND,
    "count_distinct": ORDERABLE,
    "sum": NUMERIC,
    "avg": NUMERIC,
    "min": ORDERABLE,
    "max": ORDERABLE,
    "median": NUMERIC,
    "mode": ORDERABLE,
    "first": _ANY_KIND,
    "last": _ANY_KIND,
    "concat": _ANY_KIND,
    "any": frozenset({T.BOOLEAN}),
    "all": frozenset({T.BOOLEAN}),
    "stddev": NUMERIC,
    "percentile": NUMERIC,
}


def _sum(figure: Figure) -> Any:
    return whole_sum(summable(figure.column).sum(where=figure.where), figure.column)


def summable(column: Any) -> Any:
    """The column, a real as double precision: PostgreSQL sums reals to a real of six digits."""
    return column.cast("float64") if column.type().is_float32() else column


def whole_sum(total: Any, column: ir.Value) -> Any:
    """A sum that stays an integer when its column is one."""
    return bigint(total) if kind_of(column) is T.INTEGER else total


def _edge(figure: Figure) -> Any:
    """The first or last value that is not null. Ties, and everything without an order, go by the value itself."""
    column = figure.column
    tie = column.cast(JSONB).cast("string") if kind_of(column) is T.JSON else column
    keys = [*figure.order, ibis.asc(tie, nulls_first=False)]
    values = column.collect(order_by=keys, where=figure.where)
    return values[0] if figure.item.fn == "first" else values[values.length() - 1]


def _concat(figure: Figure) -> Any:
    text = cast_to_text(figure.column)
    keys = [*figure.order, ibis.asc(text, nulls_first=False)]
    return text.group_concat(figure.item.separator, order_by=keys, where=figure.where)


def _percentile(figure: Figure) -> Any:
    return figure.column.cast("float64").quantile(figure.item.percentile / 100, where=figure.where)


FUNCTIONS: dict[str, Callable[[Figure], Any]] = {
    "count": lambda figure: figure.column.count(where=figure.where),
    "count_distinct": lambda figure: figure.column.nunique(where=figure.where),
    "sum": _sum,
    "avg": lambda figure: figure.column.cast("float64").mean(where=figure.where),
    "min": lambda figure: figure.column.min(where=figure.where),
    "max": lambda figure: figure.column.max(where=figure.where),
    "median": lambda figure: figure.column.cast("float64").median(where=figure.where),
    "mode": lambda figure: figure.column.mode(where=figure.where),
    "first": _edge,
    "last": _edge,
    "concat": _concat,
    "any": lambda figure: figure.column.any(where=figure.where),
    "all": lambda figure: figure.column.all(where=figure.where),
    "stddev": lambda figure: figure.column.cast("float64").std(where=figure.where, how="sample"),
    "percentile": _percentile,
}
