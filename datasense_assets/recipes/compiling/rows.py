"""How the steps of `language.rows` compile."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from datasense_assets.catalog.models import ColumnType
from datasense_assets.recipes.compiling.casts import cast_value
from datasense_assets.recipes.compiling.columns import note_lossy, tokens
from datasense_assets.recipes.compiling.conditions import compile_condition
from datasense_assets.recipes.compiling.frame import Context, Frame
from datasense_assets.recipes.compiling.functions import json_field, json_field_text, json_type
from datasense_assets.recipes.compiling.kinds import JSONB, ORDERABLE, kind_of
from datasense_assets.recipes.compiling.registry import compiles
from datasense_assets.recipes.language.rows import ExpandList, Filter, Limit, Sort

T = ColumnType


@compiles(Filter)
def filter_step(step: Filter, frame: Frame, context: Context) -> Frame:
    """Keeps rows by a condition; after a mistake, all of them."""
    condition = compile_condition(step.where, frame, context, "where")
    if condition is None:
        return frame
    return Frame(frame.table.filter(condition), frame.placeholders, frame.is_open)


def sort_keys(keys: list[str], frame: Frame, context: Context, path: str) -> list[ir.Value] | None:
    """Keys to order by, nulls last; None when one has a mistake (reported) or hangs on a placeholder."""
    result: list[ir.Value] = []
    seen: set[str] = set()
    failed = False
    for i, key in enumerate(keys):
        # A column that is really named "-x" is meant before the descending order of "x".
        descending = key.startswith("-") and len(key) > 1 and not frame.has(key)
        name = key[1:] if descending else key
        column = context.column(frame, name, f"{path}[{i}]")
        if column is not None and kind_of(column) not in ORDERABLE:
            context.error("type_mismatch", f"{path}[{i}]", f"{name!r} is {kind_of(column)}, which has no order.")
            column = None
        if column is None:
            failed = True
            continue
        if name in seen:  # it orders nothing that the first mention left unordered
            continue
        seen.add(name)
        result.append(ibis.desc(column, nulls_first=False) if descending else ibis.asc(column, nulls_first=False))
    return None if failed else result


@compiles(Sort)
def sort(step: Sort, frame: Frame, context: Context) -> Frame:
    """Orders the rows."""
    keys = sort_keys(step.by, frame, context, "by")
    if keys is None:
        return frame
    return Frame(frame.table.order_by(keys), frame.placeholders, frame.is_open)


@compiles(Limit)
def limit(step: Limit, frame: Frame, context: Context) -> Frame:  # noqa: ARG001 - nothing can be wrong with it
    """At most so many rows."""
    return Frame(frame.table.limit(step.rows), frame.placeholders, frame.is_open)


@compiles(ExpandList)
def expand_list(step: ExpandList, frame: Frame, context: Context) -> Frame:
    """A row for each element of the list in a cell."""
    new = list(step.fields or [step.column]) + ([step.index_into] if step.index_into else [])
    before = len(context.errors)
    if step.delimiter is not None and step.keep_source:
        context.error("invalid_value", "keep_source", "with delimiter the column itself holds the pieces; remove it.")
    context.distinct_names(new, "index_into" if step.index_into in new[:-1] else "fields")
    column = context.column(frame, step.column, "column")
    elements = None if column is None else _elements(step, column, context)
    if elements is None or len(context.errors) > before:
        done = frame.with_columns(dict.fromkeys(new))
        return done if step.keep_source or step.column in new else done.without([step.column])
    return _expanded(step, frame, elements, context)


def _elements(step: ExpandList, column: ir.Value, context: Context) -> ir.ArrayValue | None:
    """The elements of a cell, null where it holds no list; None after a mistake (reported)."""
    kind = kind_of(column)
    if step.delimiter is not None:
        if kind is not T.TEXT:
            context.error("type_mismatch", "column", f"{step.column!r} is {kind} and a delimiter splits text only.")
            return None
        return tokens(column.cast("string"), step.delimiter).remove("")
    if kind not in (T.JSON, T.TEXT):
        context.error("type_mismatch", "column", f"{step.column!r} is {kind}; a list is JSON, or text that holds JSON.")
        return None
    return (column if kind is T.JSON else cast_value(column, T.JSON).value).cast(JSONB).array


def _expanded(step: ExpandList, frame: Frame, elements: ir.ArrayValue, context: Context) -> Frame:
    """Elements, and where wanted their numbers, beside the row's own columns.

    As a lateral join: PostgreSQL remembers the pieces of a text that comes again, as the choices of a form do.
    """
    element, number = free_names(frame, 2)
    numbered = number if step.index_into is not None else None
    table = frame.table.unnest(elements.name(element), offset=numbered, keep_empty=step.keep_empty)
    opened = Frame(table, frame.placeholders, frame.is_open)
    new: dict[str, ir.Value | None] = {}
    if step.fields is None:
        new[step.column] = table[element]
    for name, to in (step.fields or {}).items():
        new[name] = read_field(name, name, to, table[element], opened, context)
    if step.index_into is not None:
        new[step.index_into] = table[number] + 1
    result = opened.with_columns(new)
    gone = [element] if numbered is None else [element, numbered]
    if step.fields is not None and not step.keep_source and step.column not in new:
        gone.append(step.column)
    return result.without(gone)


def read_field(field: str, into: str, to: ColumnType, element: ir.Value, frame: Frame, context: Context) -> ir.Value:
    """A field of a JSON object as a type of the language; what cannot be read is null and counted under `into`."""
    if to is T.JSON:
        found = json_field(element, field)
        return ibis.cases((json_type(found) != "null", found))
    text = json_field_text(element, field)
    if to is T.TEXT:
        return text
    result = cast_value(text, to)
    note_lossy(result, into, frame, context)
    return result.value


def free_names(frame: Frame, count: int) -> list[str]:
    """Names that no column of the frame has, for columns that live within one step."""
    taken = set(frame.names)
    found = (f"_ds_step_{i}" for i in range(len(taken) + count))
    return [name for name in found if name not in taken][:count]
