"""How the steps that choose, name, cast and compute columns compile."""

from __future__ import annotations

import re
from typing import Any

import ibis
import ibis.expr.types as ir

from datasense_assets.catalog.models import ColumnType
from datasense_assets.recipes.compiling.casts import CastResult, NoSuchCast, cast_value, failing
from datasense_assets.recipes.compiling.frame import Context, Frame, Lossy, projected, usual
from datasense_assets.recipes.compiling.kinds import kind_of
from datasense_assets.recipes.compiling.patterns import BadPattern
from datasense_assets.recipes.compiling.readable import DateFormat
from datasense_assets.recipes.compiling.registry import compiles
from datasense_assets.recipes.language.columns import (
    Cast,
    CastColumn,
    Drop,
    Formula,
    Rename,
    Select,
    SplitChoices,
)
from datasense_assets.recipes.spaces import CHARACTERS, SPACE

T = ColumnType
_ZONE_LETTERS = re.compile(r"(?:%[HIMSfp]|\s)(?:Z|UTC|GMT)$")


@compiles(Select)
def select(step: Select, frame: Frame, context: Context) -> Frame:
    """Keeps columns in the order named."""
    for i, name in enumerate(step.columns):
        context.column(frame, name, f"columns[{i}]")
    context.distinct_names(step.columns, "columns")
    return frame.only(step.columns)


@compiles(Drop)
def drop(step: Drop, frame: Frame, context: Context) -> Frame:
    """Removes columns; at least one has to be left."""
    for i, name in enumerate(step.columns):
        context.column(frame, name, f"columns[{i}]")
    left = [name for name in frame.names if name not in step.columns]
    if not left and not frame.is_open:
        context.error("invalid_value", "columns", "this drops every column; keep at least one.")
        return frame
    return frame.without(step.columns)


@compiles(Rename)
def rename(step: Rename, frame: Frame, context: Context) -> Frame:
    """Renames in place; all at once, so two names may be exchanged."""
    for old in step.columns:
        context.column(frame, old, f"columns.{old}")
    after = [step.columns.get(name, name) for name in frame.names]
    if not context.distinct_names(after, "columns"):
        return Frame(frame.table, frame.placeholders | frozenset(step.columns.values()), frame.is_open)
    columns = {step.columns.get(name, name): frame.table[name] for name in frame.table.columns}
    missing = {new for old, new in step.columns.items() if not frame.has(old)}
    placeholders = frozenset(step.columns.get(name, name) for name in frame.placeholders) | missing
    return Frame(projected(frame.table, columns), placeholders, frame.is_open)


@compiles(Cast)
def cast_step(step: Cast, frame: Frame, context: Context) -> Frame:
    """Casts columns in place and notes what to count."""
    new: dict[str, ir.Value | None] = {}
    if not context.distinct_names([item.column for item in step.columns], "columns"):
        return frame.with_columns(dict.fromkeys(item.column for item in step.columns))
    for i, item in enumerate(step.columns):
        new[item.column] = _cast_one(item, frame, context, f"columns[{i}]")
    return frame.with_columns(new)


def _cast_one(item: CastColumn, frame: Frame, context: Context, path: str) -> ir.Value | None:
    date_format = None
    if item.format is not None:
        if item.to not in (T.DATE, T.DATETIME, T.TIME):
            context.error(
                "invalid_value", f"{path}.format", f"format is for dates and times, not {item.to}; remove it."
            )
            return None
        try:
            date_format = DateFormat.parse(item.format, item.to)
        except BadPattern as error:
            context.error("bad_pattern", f"{path}.format", f"{error}.")
            return None
        if item.to is T.DATETIME and not date_format.has_zone and _ZONE_LETTERS.search(item.format):
            message = (
                f"the zone in {item.format!r} is only text, and the rest the organisation's time; write %z for it."
            )
            context.warn("unread_zone", f"{path}.format", message)
    column = context.column(frame, item.column, f"{path}.column")
    if column is None:
        return None
    if date_format is not None and kind_of(column) is not T.TEXT:
        context.error(
            "invalid_value",
            f"{path}.format",
            f"format is for reading text, and {item.column!r} is {kind_of(column)}; remove it.",
        )
        return None
    try:
        result = cast_value(column, item.to, date_format)
    except NoSuchCast as error:
        context.error("type_mismatch", f"{path}.to", f"{item.column!r}: {error}; cast it to text first.")
        return None
    if kind_of(column) is item.to and item.to is not T.TEXT:
        context.warn("needless_cast", path, f"{item.column!r} is {item.to} already; remove the cast.")
    elif result.lost is None and "on_error" in item.model_fields_set:
        message = f"every {kind_of(column)} can be read as {item.to}, so on_error does nothing; remove it."
        context.warn("needless_cast", f"{path}.on_error", message)
    if item.on_error == "fail":
        return failing(result, column, item.column, item.to)
    note_lossy(result, item.column, frame, context)
    return result.value


def note_lossy(result: CastResult, column: str, frame: Frame, context: Context) -> None:
    """Keeps what counts the values lost, where any may be."""
    if result.lost is not None:
        context.lossy.append(Lossy(column, frame.table, result.lost))


@compiles(Formula)
def formula(step: Formula, frame: Frame, context: Context) -> Frame:
    """The formula over the frame's columns; its own errors come through with their place in its text."""
    return frame.with_columns({step.column: _formula_value(step, frame, context)})


def _formula_value(step: Formula, frame: Frame, context: Context) -> ir.Value | None:
    from datasense_assets.recipes.formula import FormulaErrors, parse_formula
    from datasense_assets.recipes.formula.names import bracketed

    known = {name: frame.table[name] for name in frame.table.columns if name not in frame.placeholders}
    try:
        parsed = parse_formula(step.formula)
        references = set(parsed.references)
        if references & frame.placeholders or (frame.is_open and references - known.keys()):
            return None
        for name in references & known.keys():
            context.mention(frame, name)
        return usual(parsed.compile(known))
    except FormulaErrors as errors:
        for error in errors.errors:
            code: Any = error.code if error.code in ("unknown_column", "type_mismatch") else "bad_formula"
            said = error.message
            if code == "unknown_column":
                written = step.formula[error.position : error.position + error.length]
                known_as = next((name for name in context.gone if written in (name, bracketed(name))), None)
                said = f"There is no column {written}: {context.gone[known_as]}." if known_as else said
            place = f"at character {error.position + 1} of the formula"
            context.error(code, "formula", f"{place}: {said}", error.suggestion)
        return None


@compiles(SplitChoices)
def split_choices(step: SplitChoices, frame: Frame, context: Context) -> Frame:
    """One boolean a choice, true where it is one of the tokens."""
    prefix = f"{step.column}/" if step.prefix is None else step.prefix
    names = {choice: prefix + choice for choice in step.choices}
    if not context.distinct_names(step.choices, "choices"):
        return _choices_done(step, frame, dict.fromkeys(names.values()))
    column = context.column(frame, step.column, "column")
    if column is not None and kind_of(column) is not T.TEXT:
        context.error(
            "type_mismatch", "column", f"{step.column!r} is {kind_of(column)} and choices are text; cast it first."
        )
        column = None
    new: dict[str, ir.Value | None] = {}
    for i, (choice, name) in enumerate(names.items()):
        path = f"choices[{i}]"
        usable = context.new_name(name, path)
        if not choice.strip(CHARACTERS) or (step.delimiter in choice):
            context.error("invalid_value", path, f"{choice!r} is empty or has the delimiter in it; no token can be it.")
            usable = False
        new[name] = _has_token(column, choice, step.delimiter) if usable and column is not None else None
    return _choices_done(step, frame, new)


def _choices_done(step: SplitChoices, frame: Frame, new: dict[str, ir.Value | None]) -> Frame:
    after = frame.with_columns(new)
    return after if step.keep_source or step.column in new else after.without([step.column])


def tokens(text: ir.StringValue, delimiter: str) -> ir.ArrayValue:
    """The pieces between delimiters, without the spaces around them; between two spaces there is an empty one."""
    mark = delimiter.strip(CHARACTERS)
    if not mark:
        # Three quarters of what a split by pattern takes.
        return text.translate(CHARACTERS, " " * len(CHARACTERS)).split(" ")
    return text.strip().re_split(f"{SPACE}*{re.escape(mark)}{SPACE}*")


def _has_token(text: ir.StringValue, choice: str, delimiter: str) -> ir.Value:
    wanted = choice.strip(CHARACTERS)
    if not delimiter.strip(CHARACTERS):
        # Half the cost of splitting, which every choice would do again.
        return (" " + text.translate(CHARACTERS, " " * len(CHARACTERS)) + " ").contains(f" {wanted} ")
    return ibis.cases((text.notnull(), tokens(text, delimiter).contains(wanted)))
