"""How the steps that read something out of one column compile."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import ibis
import ibis.expr.types as ir

from datasense_assets.catalog.models import ColumnType
from datasense_assets.recipes.compiling.casts import cast_value
from datasense_assets.recipes.compiling.columns import note_lossy
from datasense_assets.recipes.compiling.frame import Context, Frame
from datasense_assets.recipes.compiling.functions import json_field_text
from datasense_assets.recipes.compiling.kinds import JSONB, NUMERIC, kind_of, literal
from datasense_assets.recipes.compiling.registry import compiles
from datasense_assets.recipes.compiling.rows import read_field
from datasense_assets.recipes.compiling.texts import text_column
from datasense_assets.recipes.compiling.values import cast_to_text
from datasense_assets.recipes.errors import nearest
from datasense_assets.recipes.formula import date_functions, number_functions
from datasense_assets.recipes.formula.kinds import WIDE, narrow
from datasense_assets.recipes.language.derived import Bin, DatePart, ExpandJson, Geopoint, LabelValues
from datasense_assets.recipes.spaces import SPACE

T = ColumnType
_GREATEST = 10**300
_CLOCK_PARTS = frozenset({"hour", "minute"})


@compiles(DatePart)
def date_part(step: DatePart, frame: Frame, context: Context) -> Frame:
    """The formulas' own date functions, so that a formula and a step never disagree."""
    column = context.column(frame, step.column, "column")
    value = None if column is None else _part(step, column, context)
    return frame.with_columns({step.into or step.column: value})


def _part(step: DatePart, column: ir.Value, context: Context) -> ir.Value | None:
    kind = kind_of(column)
    clock = step.part in _CLOCK_PARTS
    wanted = (T.DATETIME, T.TIME) if clock else (T.DATE, T.DATETIME)
    if kind not in wanted:
        context.error(
            "type_mismatch",
            "column",
            f"{step.part} needs {wanted[0]} or {wanted[1]} and {step.column!r} is {kind}; cast it first.",
        )
        return None
    moment: Any = column
    if step.part == "weekday":
        return date_functions.weekday(moment)
    if step.part.startswith("trunc_"):
        return date_functions.start_of(moment, step.part.removeprefix("trunc_"))
    return date_functions.part(step.part, moment)


@compiles(Geopoint)
def geopoint(step: Geopoint, frame: Frame, context: Context) -> Frame:
    """Four numbers from the words of a text."""
    prefix = f"{step.column}_" if step.prefix is None else step.prefix
    names = [prefix + part for part in ("latitude", "longitude", "altitude", "accuracy")]
    unfit = [name for name in names if not context.new_name(name, "prefix")]
    text = text_column(frame, step.column, "column", "geopoint", context)
    new: dict[str, ir.Value | None] = dict.fromkeys(names)
    if not unfit and text is not None:
        words = text.strip().re_split(f"{SPACE}+")
        for i, name in enumerate(names):
            result = cast_value(words[i], T.NUMBER)
            note_lossy(result, name, frame, context)
            new[name] = result.value
    return _done(frame.with_columns(new), step.column, step.keep_source, new)


def _done(after: Frame, source: str, keep_source: bool, new: dict[str, ir.Value | None]) -> Frame:
    return after if keep_source or source in new else after.without([source])


@compiles(LabelValues)
def label_values(step: LabelValues, frame: Frame, context: Context) -> Frame:
    """One look-up in a JSON object of all labels: a CASE of thousands of choices would be slow."""
    column = context.column(frame, step.column, "column")
    labels = _labels(step, context)
    value: Any = None
    if column is not None and kind_of(column) not in (T.TEXT, T.INTEGER):
        kind = kind_of(column)
        context.error("type_mismatch", "column", f"choice names are text and {step.column!r} is {kind}; cast it first.")
    elif column is not None and labels is not None:
        text = cast_to_text(column)
        known = ibis.literal(json.dumps(labels, ensure_ascii=False), type="string").cast(JSONB)
        value = ibis.coalesce(json_field_text(known, text), text)
    return frame.with_columns({step.into or step.column: value})


def _labels(step: LabelValues, context: Context) -> dict[str, str] | None:
    """The labels by choice name; None when there are none (reported) or the input's table is missing."""
    alias, _, named = (step.source, "", "") if step.source in context.inputs else step.source.partition(".")
    column = named or step.column
    source = context.input_frame(alias, "source")
    if source is None or source.is_open:
        return None
    found = context.choice_labels.get(alias, {})
    if source.has(column):
        context.mention(source, column)
    if column in found:
        return dict(found[column])
    if not source.has(column):
        context.unknown_column(source, column, "source", side=f"the input {alias!r}")
        return None
    listed = ", ".join(found) if found else "none of its columns has"
    message = f"{column!r} of the input {alias!r} has no choice list with labels; those that have: {listed}."
    context.error("invalid_value", "source", message, nearest(column, found))
    return None


@compiles(Bin)
def bin_step(step: Bin, frame: Frame, context: Context) -> Frame:
    """A CASE over the edges, or the number rounded down to a multiple of the width."""
    column = context.column(frame, step.column, "column")
    if column is not None and kind_of(column) not in NUMERIC:
        context.error(
            "type_mismatch", "column", f"bin works on numbers and {step.column!r} is {kind_of(column)}; cast it first."
        )
        column = None
    value: Any = None
    if step.edges is None:
        value = _by_width(step, column, context)
    elif _edges_right(step, step.edges, context) and column is not None:
        value = _by_edges(step, step.edges, column)
    return frame.with_columns({step.into: value})


def _is_number(value: Any) -> bool:
    """Whether it is a number that a double holds: JSON may have an integer of any length."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= _GREATEST


def _by_width(step: Bin, column: Any, context: Context) -> ir.Value | None:
    if not _is_number(step.width) or step.width <= 0:
        context.error("bad_literal", "width", f"{step.width!r} is no number above 0; write one, as 10.")
        return None
    if step.labels is not None:
        context.error("invalid_value", "labels", "they name bins between edges; with width, remove labels.")
        return None
    if column is None:
        return None
    # In decimal, as the width is written: to doubles 0.3 / 0.1 is below 3, and 0.3 would be in the bin of 0.2.
    width = ibis.literal(repr(step.width), type="string").cast(WIDE)
    if kind_of(column) is T.INTEGER and isinstance(step.width, int):
        exact = column.cast(WIDE)
        return narrow(exact - number_functions.remainder(exact, width))
    number = column.cast("float64")
    exact = number_functions.decimal(number)
    lower = (exact - number_functions.remainder(exact, width)).cast("float64")
    # So far out that the width is lost in the number's last digit, a number is its own lower end.
    return ibis.ifelse(number.abs() >= literal(1e300 * min(1.0, step.width), T.NUMBER), number, lower)


def _edges_right(step: Bin, edges: list[Any], context: Context) -> bool:
    before = len(context.errors)
    for i, edge in enumerate(edges):
        if not _is_number(edge):
            context.error("bad_literal", f"edges[{i}]", f"{edge!r} is no number; write it without quotes, as 12.5.")
        elif i > 0 and _is_number(edges[i - 1]) and edge <= edges[i - 1]:
            context.error("invalid_value", f"edges[{i}]", f"{edge} is not above {edges[i - 1]}; write edges in order.")
    if step.labels is not None and len(step.labels) != len(edges) - 1:
        message = f"{len(edges)} edges make {len(edges) - 1} bins and there are {len(step.labels)} labels."
        context.error("invalid_value", "labels", message)
    return len(context.errors) == before


def _by_edges(step: Bin, edges: list[Any], column: Any) -> ir.Value:
    labels = step.labels or [f"{low}-{high}" for low, high in pairwise(edges)]
    values = [literal(edge, T.NUMBER) for edge in edges]
    number = column.cast("float64")
    # The first upper edge that the number is below decides, so a bin needs no lower bound but the first.
    branches: list[Any] = [(number < values[0], ibis.null("string"))]
    branches += [(number < upper, label) for upper, label in zip(values[1:], labels, strict=True)]
    branches.append((number == values[-1], labels[-1]))
    return ibis.cases(*((when, ibis.literal(x, type="string") if isinstance(x, str) else x) for when, x in branches))


@compiles(ExpandJson)
def expand_json(step: ExpandJson, frame: Frame, context: Context) -> Frame:
    """One field a column."""
    names = {field: step.prefix + field for field in step.fields}
    usable = True
    for field, name in names.items():
        usable = context.new_name(name, f"fields.{field}") and usable
        if not name:
            context.error("invalid_value", "fields", "a column would have no name; write a prefix.")
            usable = False
    column = context.column(frame, step.column, "column")
    if column is not None and kind_of(column) not in (T.JSON, T.TEXT):
        message = f"{step.column!r} is {kind_of(column)}; an object is JSON, or text that holds JSON."
        context.error("type_mismatch", "column", message)
        usable = False
    new: dict[str, ir.Value | None] = dict.fromkeys(names.values())
    if usable and column is not None:
        held = column if kind_of(column) is T.JSON else cast_value(column, T.JSON).value
        for field, name in names.items():
            new[name] = read_field(field, name, step.fields[field], held.cast(JSONB), frame, context)
    return _done(frame.with_columns(new), step.column, step.keep_source, new)
