"""How the steps that choose between values compile: replace_values, coalesce, case, concat."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import ibis
import ibis.expr.types as ir

from datasense_assets.catalog.models import ColumnType
from datasense_assets.recipes.compiling.casts import cast_value
from datasense_assets.recipes.compiling.conditions import compile_condition, read_literal, read_pattern
from datasense_assets.recipes.compiling.frame import Context, Frame, usual
from datasense_assets.recipes.compiling.kinds import kind_of, literal, literal_kind, mix, null, to_kind
from datasense_assets.recipes.compiling.patterns import BadPattern, postgres_replacement
from datasense_assets.recipes.compiling.registry import compiles
from datasense_assets.recipes.language.columns import (
    Case,
    Coalesce,
    Concat,
    ReplaceValues,
)

T = ColumnType
_MOST_ARGUMENTS = 100


@compiles(ReplaceValues)
def replace_values(step: ReplaceValues, frame: Frame, context: Context) -> Frame:
    """Whole values by a CASE, pieces of text by one replacement after another."""
    column = context.column(frame, step.column, "column")
    value = None
    if column is not None:
        value = _replace_whole(step, column, context) if step.match == "whole" else _replace_text(step, column, context)
    return frame.with_columns({step.into or step.column: value})


def _replace_whole(step: ReplaceValues, column: ir.Value, context: Context) -> ir.Value | None:
    kind = kind_of(column)
    finds = [
        read_literal(pair.find, step.column, kind, context, f"mapping[{i}].find") for i, pair in enumerate(step.mapping)
    ]
    has_otherwise = "otherwise" in step.model_fields_set
    replacements = {f"mapping[{i}].replace": pair.replace for i, pair in enumerate(step.mapping)}
    if has_otherwise:
        values = _literals({**replacements, "otherwise": step.otherwise}, [], context)
    else:
        values = _literals(replacements, [(step.column, kind)], context)
    if values is None or any(find is None for find in finds):
        return None
    *results, default = _alike([*values.values(), *([] if has_otherwise else [usual(column)])])
    return ibis.cases(*((column == find, result) for find, result in zip(finds, results, strict=True)), else_=default)


def _literals(
    values: dict[str, Any], columns: list[tuple[str, ColumnType]], context: Context
) -> dict[str, ir.Scalar] | None:
    """Literals by path, all of one kind: the columns', else the one they have by themselves. Null fits any."""
    kinds = [kind for _, kind in columns] or [literal_kind(value) for value in values.values() if value is not None]
    kind = mix(kinds) if kinds else T.TEXT
    result: dict[str, ir.Scalar] = {}
    before = len(context.errors)
    for path, value in values.items():
        if value is None:
            result[path] = null(kind or T.TEXT)
        elif kind is None:
            context.error(
                "bad_literal", path, f"{value!r} is {literal_kind(value)} where others are not; make all of one type."
            )
            return None
        elif not columns:
            result[path] = to_kind(literal(value, literal_kind(value)), kind)
        else:
            read = read_literal(value, columns[0][0], kind, context, path)
            if read is not None:
                result[path] = to_kind(read, mix((kind, kind_of(read))) or kind)
    return result if len(context.errors) == before else None


def _together(values: Iterable[ir.Value]) -> ColumnType:
    """The kind of values that are of one, or integers among numbers: 0.5 in place of an integer makes all numbers."""
    return mix(kind_of(value) for value in values) or T.TEXT


def _alike(values: list[ir.Value]) -> list[ir.Value]:
    kind = _together(values)
    return [to_kind(value, kind) for value in values]


def _replace_text(step: ReplaceValues, column: ir.Value, context: Context) -> ir.Value | None:
    if kind_of(column) is not T.TEXT:
        context.error(
            "type_mismatch",
            "column",
            f"{step.match} works on text and {step.column!r} is {kind_of(column)}; cast it first.",
        )
        return None
    before = len(context.errors)
    text = column.cast("string")
    matched: list[ir.BooleanValue] = []
    value = text
    for i, pair in enumerate(step.mapping):
        find = read_literal(pair.find, step.column, T.TEXT, context, f"mapping[{i}].find")
        replace = read_literal(pair.replace, step.column, T.TEXT, context, f"mapping[{i}].replace")
        if find is None or replace is None:
            continue
        if step.match == "substring":
            matched.append(text.contains(find))
            value = value.replace(find, replace)
            continue
        pattern = read_pattern(pair.find, context, f"mapping[{i}].find")
        if pattern is None:
            continue
        matched.append(text.re_search(pattern.text))
        try:
            put = postgres_replacement(pair.replace, pattern)
        except BadPattern as error:
            context.error("bad_pattern", f"mapping[{i}].replace", f"{error}.")
        else:
            value = value.re_replace(pattern.text, ibis.literal(put, type="string"))
    otherwise = None
    if "otherwise" in step.model_fields_set:
        otherwise = _literals({"otherwise": step.otherwise}, [(step.column, T.TEXT)], context)
    if len(context.errors) > before:
        return None
    if otherwise is None:
        return value
    return ibis.cases((ibis.or_(*matched), value), else_=otherwise["otherwise"])


@compiles(Coalesce)
def coalesce(step: Coalesce, frame: Frame, context: Context) -> Frame:
    """The first that is not null, all of one type."""
    columns = [context.column(frame, name, f"columns[{i}]") for i, name in enumerate(step.columns)]
    value = None
    present = [(name, column) for name, column in zip(step.columns, columns, strict=True) if column is not None]
    kind = one_kind([(f"columns[{i}]", n, kind_of(c)) for i, (n, c) in enumerate(present)], context)
    if kind is not None and len(present) == len(columns):
        parts: list[ir.Value] = [to_kind(column, kind) for _, column in present]
        default = None
        if step.default is not None:
            default = read_literal(step.default, step.columns[0], kind, context, "default")
        if step.default is None or default is not None:
            value = ibis.coalesce(*_alike([*parts, *([] if default is None else [default])]))
    return _finish(frame, step.into, value, step.columns, step.keep_source)


def one_kind(found: list[tuple[str, str, ColumnType]], context: Context) -> ColumnType | None:
    """The one kind of these (path, column, kind); None when there is none (reported) or nothing was found."""
    kind: ColumnType | None = None
    for path, name, own in found:
        together = own if kind is None else mix((kind, own))
        if together is None:
            context.error(
                "type_mismatch", path, f"{name!r} is {own} and {found[0][1]!r} is {kind}; cast one of them first."
            )
            return None
        kind = together
    return kind


def _finish(frame: Frame, into: str, value: ir.Value | None, sources: list[str], keep_source: bool) -> Frame:
    after = frame.with_columns({into: value})
    return after if keep_source else after.without(name for name in sources if name != into)


@compiles(Case)
def case(step: Case, frame: Frame, context: Context) -> Frame:
    """A searched CASE; branches are literals or columns, all of one type."""
    conditions = [compile_condition(b.when, frame, context, f"cases[{i}].when") for i, b in enumerate(step.cases)]
    slots: list[tuple[str, Any, str | None]] = [
        (f"cases[{i}].then" + ("_column" if b.then_column is not None else ""), b.then, b.then_column)
        for i, b in enumerate(step.cases)
    ]
    suffix = "_column" if step.otherwise_column is not None else ""
    slots.append((f"otherwise{suffix}", step.otherwise, step.otherwise_column))
    results = _branches(slots, frame, context)
    value = None
    if results is not None and all(condition is not None for condition in conditions):
        value = ibis.cases(*zip(conditions, results[:-1], strict=True), else_=results[-1])
    return _finish(frame, step.into, value, [name for _, _, name in slots if name is not None], step.keep_source)


def _branches(slots: list[tuple[str, Any, str | None]], frame: Frame, context: Context) -> list[ir.Value] | None:
    """What each slot (path, literal, column or None) gives, all of one kind; None after a mistake or a placeholder."""
    columns = {path: context.column(frame, name, path) for path, _, name in slots if name is not None}
    if any(column is None for column in columns.values()):
        return None
    named = [(path, name, kind_of(columns[path])) for path, _, name in slots if name is not None]
    kind = one_kind(named, context)
    if named and kind is None:
        return None
    values = {path: value for path, value, name in slots if name is None}
    literals = _literals(values, [(named[0][1], kind)] if kind is not None else [], context)
    if literals is None:
        return None
    found: list[Any] = [literals[path] if name is None else columns[path] for path, _, name in slots]
    return _alike(found)


@compiles(Concat)
def concat(step: Concat, frame: Frame, context: Context) -> Frame:
    """CONCAT_WS, which skips nulls, and of more parts than a function takes a list, which does so too."""
    parts: list[ir.Value | None] = []
    for i, part in enumerate(step.parts):
        if part.column is None:
            parts.append(ibis.literal(part.text or "", type="string"))
            continue
        column = context.column(frame, part.column, f"parts[{i}].column")
        parts.append(None if column is None else cast_to_text(column))
    value = None
    if all(part is not None for part in parts):
        if len(parts) < _MOST_ARGUMENTS:
            value = ibis.literal(step.separator, type="string").join(parts)
        else:
            value = ibis.array(parts).join(step.separator)
    return _finish(frame, step.into, value, [p.column for p in step.parts if p.column is not None], step.keep_source)


def cast_to_text(column: ir.Value) -> ir.Value:
    """Any value as text, not trimmed."""
    return column if column.type().is_string() else cast_value(column, T.TEXT).value
