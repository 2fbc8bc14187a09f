"""How the steps of `language.reshaping` compile."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import ibis
import ibis.expr.types as ir

from datasense_assets.catalog.models import ColumnType
from datasense_assets.recipes.compiling.aggregate import ALLOWED, FUNCTIONS, Figure
from datasense_assets.recipes.compiling.conditions import read_literal
from datasense_assets.recipes.compiling.frame import Context, Frame, usual
from datasense_assets.recipes.compiling.kinds import kind_of, mix, to_kind
from datasense_assets.recipes.compiling.registry import compiles
from datasense_assets.recipes.compiling.rows import free_names, sort_keys
from datasense_assets.recipes.compiling.values import one_kind
from datasense_assets.recipes.compiling.windows import every_column, group_keys
from datasense_assets.recipes.language.reshaping import Deduplicate, Pivot, Unpivot
from datasense_assets.recipes.language.tables import Aggregation

T = ColumnType


@compiles(Deduplicate)
def deduplicate(step: Deduplicate, frame: Frame, context: Context) -> Frame:
    """Numbers the rows of each key and keeps number 1: DISTINCT ON has no word in ibis."""
    groups = group_keys(step.keys, frame, context, "keys")
    order = sort_keys(step.order_by, frame, context, "order_by") if step.order_by else []
    if groups is None or order is None:
        return frame
    keys = [*order, *every_column(frame, order)]
    if step.keep == "last":
        keys = [_reversed(key) for key in keys]
    number = free_names(frame, 1)[0]
    numbered = frame.with_columns({number: ibis.row_number().over(ibis.window(group_by=groups, order_by=keys)) + 1})
    firsts = numbered.table.filter(numbered.table[number] == 1)
    return replace(numbered, table=firsts).without([number])


def _reversed(key: Any) -> Any:
    operation = key.op()
    value = operation.arg.to_expr()
    turned = ibis.asc if operation.descending else ibis.desc
    return turned(value, nulls_first=not operation.nulls_first)


@compiles(Pivot)
def pivot(step: Pivot, frame: Frame, context: Context) -> Frame:
    """One filtered aggregate a name."""
    groups = group_keys(step.group_by, frame, context, "group_by")
    names = _pivot_names(step, context)
    key = context.column(frame, step.names_from, "names_from")
    values = None if step.values_from is None else context.column(frame, step.values_from, "values_from")
    right = names is not None and context.distinct_names([*step.group_by, *names], "names")
    if values is not None and kind_of(values) not in ALLOWED[step.fn]:
        wanted = " or ".join(sorted(ALLOWED[step.fn]))
        message = f"{step.fn} works on {wanted} and {step.values_from!r} is {kind_of(values)}; cast it first."
        context.error("type_mismatch", "values_from", message)
        right = False
    keys = None if key is None else _pivot_keys(step, key, context)
    filled: list[ir.Value] | None = None
    if right and keys is not None and (values is not None or step.values_from is None):
        chosen = [key == one for one in keys]
        cells = [_cell(step, values, where, frame) for where in chosen]
        if step.fn in ("count", "count_distinct"):
            # Where there are rows, none of them with a value, nought is the count and no empty cell.
            empty = [frame.table.count(where=where) == 0 for where in chosen]
        else:
            empty = [cell.isnull() for cell in cells]
        filled = _fill_cells(step, cells, empty, context)
    if groups is None or filled is None or names is None:
        return _unknown_shape(step.group_by, names, frame)
    by = [group.name(name) for group, name in zip(groups, step.group_by, strict=True)]
    metrics = [cell.name(name) for cell, name in zip(filled, names, strict=True)]
    return Frame(frame.table.group_by(by).aggregate(metrics) if by else frame.table.aggregate(metrics))


def _unknown_shape(group_by: list[str], names: list[str] | None, frame: Frame) -> Frame:
    """What is known of a pivot that has a mistake: the names of its columns, where they can be read."""
    shape = frozenset([*frame.table.columns, *group_by, *(names or ())])
    return Frame(frame.table, shape, is_open=names is None)


def _pivot_names(step: Pivot, context: Context) -> list[str] | None:
    names: list[str] = []
    before = len(context.errors)
    for i, value in enumerate(step.names):
        text = str(value).lower() if isinstance(value, bool) else "" if value is None else str(value)
        name = step.prefix + text
        if not name:
            context.error("invalid_value", f"names[{i}]", "the column would have no name; write a prefix.")
        context.new_name(name, f"names[{i}]")
        names.append(name)
    return names if len(context.errors) == before else None


def _pivot_keys(step: Pivot, key: ir.Value, context: Context) -> list[ir.Value] | None:
    kind = kind_of(key)
    if kind is T.JSON:
        context.error("type_mismatch", "names_from", f"{step.names_from!r} is json; cast it to text first.")
        return None
    found = [read_literal(value, step.names_from, kind, context, f"names[{i}]") for i, value in enumerate(step.names)]
    good = [value for value in found if value is not None]
    return good if len(good) == len(found) else None


def _cell(step: Pivot, values: ir.Value | None, where: Any, frame: Frame) -> ir.Value:
    if values is None:
        return usual(frame.table.count(where=where))
    item = Aggregation(fn=step.fn, column=step.values_from, into="cell")
    return usual(FUNCTIONS[step.fn](Figure(item, values, [], where)))


def _fill_cells(step: Pivot, cells: list[ir.Value], empty: list[Any], context: Context) -> list[ir.Value] | None:
    if step.fill is None:
        return cells
    found = read_literal(step.fill, f"{step.fn} of {step.values_from or 'rows'}", kind_of(cells[0]), context, "fill")
    if found is None:
        return None
    kind = mix((kind_of(cells[0]), kind_of(found))) or kind_of(found)
    return [
        ibis.ifelse(nothing, to_kind(found, kind), to_kind(cell, kind))
        for cell, nothing in zip(cells, empty, strict=True)
    ]


@compiles(Unpivot)
def unpivot(step: Unpivot, frame: Frame, context: Context) -> Frame:
    """Two lists side by side in one SELECT list, which PostgreSQL walks in step; ibis' own way fails on nulls."""
    columns = [context.column(frame, name, f"columns[{i}]") for i, name in enumerate(step.columns)]
    before = len(context.errors)
    kind = one_kind(
        [
            (f"columns[{i}]", n, kind_of(c))
            for i, (n, c) in enumerate(zip(step.columns, columns, strict=True))
            if c is not None
        ],
        context,
    )
    context.distinct_names(step.columns, "columns")
    others = [name for name in frame.names if name not in step.columns]
    if step.names_to in others:
        message = f"there is a column {step.names_to!r} already; choose another name."
        context.error("name_collision", "names_to", message)
    elif step.values_to in (*others, step.names_to):
        message = f"there is a column {step.values_to!r} already; choose another name."
        context.error("name_collision", "values_to", message)
    good = [column for column in columns if column is not None]
    if kind is None or len(good) < len(columns) or len(context.errors) > before:
        left = frame.without(step.columns) if others else frame
        return replace(left, placeholders=left.placeholders | {step.names_to, step.values_to})
    names = ibis.array([ibis.literal(name, type="string") for name in step.columns])
    values = ibis.array([to_kind(column, kind) for column in good])
    kept = [frame.table[name] for name in frame.table.columns if name not in step.columns]
    table = frame.table.select([*kept, names.unnest().name(step.names_to), values.unnest().name(step.values_to)])
    if step.drop_missing:
        table = table.filter(table[step.values_to].notnull())
    return replace(frame, table=table, placeholders=frame.placeholders - {step.names_to, step.values_to})
