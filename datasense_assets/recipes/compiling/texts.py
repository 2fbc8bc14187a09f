"""How the steps of `language.texts` compile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ibis
import ibis.expr.types as ir

from datasense_assets.catalog.models import ColumnType
from datasense_assets.recipes.compiling.conditions import read_pattern
from datasense_assets.recipes.compiling.frame import Context, Frame
from datasense_assets.recipes.compiling.functions import first_match, normalized, sha256_hex
from datasense_assets.recipes.compiling.kinds import kind_of, null
from datasense_assets.recipes.compiling.patterns import PostgresPattern, postgres_pattern
from datasense_assets.recipes.compiling.registry import compiles
from datasense_assets.recipes.compiling.values import cast_to_text
from datasense_assets.recipes.formula import text_functions
from datasense_assets.recipes.language.texts import CleanText, Extract, Mask, SplitColumn
from datasense_assets.recipes.spaces import SPACE

T = ColumnType
_MARKS = r"[\u0300-\u036f]"
# Letters with a stroke or tied together, which Unicode does not take apart.
_STROKES, _PLAIN = "łŁøØđĐħĦŧŦı", "lLoOdDhHtTi"
_TIED = {"ß": "ss", "æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE"}
# By code point and not as "neither letter nor digit": to PostgreSQL the vowel signs of Indic scripts are no letters.
_PUNCTUATION = (
    r"[\u0021-\u002f\u003a-\u0040\u005b-\u0060\u007b-\u007e\u00a1\u00a7\u00ab\u00b6\u00b7\u00bb\u00bf"
    r"\u060c\u061b\u061f\u0964\u0965\u2010-\u2027\u2030-\u205e\u3001-\u3003\u3008-\u3011"
    r"\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65]"
)


@compiles(CleanText)
def clean_text(step: CleanText, frame: Frame, context: Context) -> Frame:
    """Each column through all actions."""
    context.distinct_names(step.columns, "columns")
    new: dict[str, ir.Value | None] = {}
    for i, name in enumerate(step.columns):
        value: Any = text_column(frame, name, f"columns[{i}]", "clean_text", context)
        for action in step.actions if value is not None else ():
            value = _ACTIONS[action](value)
        new[name] = value
    return frame.with_columns(new)


def text_column(frame: Frame, name: str, path: str, what: str, context: Context) -> Any:
    """The column as text; None when it is a placeholder, or not there or of another type (reported)."""
    column = context.column(frame, name, path)
    if column is None:
        return None
    if kind_of(column) is not T.TEXT:
        context.error("type_mismatch", path, f"{what} works on text and {name!r} is {kind_of(column)}; cast it first.")
        return None
    return column.cast("string")


def _without_accents(text: Any) -> Any:
    text = text.translate(_STROKES, _PLAIN)
    for letter, plain in _TIED.items():
        text = text.replace(letter, plain)
    return normalized(normalized(text, "NFD").re_replace(_MARKS, ""), "NFC")


_ACTIONS: dict[str, Callable[[Any], Any]] = {
    "trim": text_functions.trim,
    "collapse_spaces": lambda text: text.re_replace(f"{SPACE}+", " "),
    "lower": text_functions.lower,
    "upper": text_functions.upper,
    "title": text_functions.title,
    "remove_accents": _without_accents,
    "remove_digits": lambda text: text.re_replace("[0-9]", ""),
    "remove_punctuation": lambda text: text.re_replace(_PUNCTUATION, ""),
}


@compiles(Extract)
def extract(step: Extract, frame: Frame, context: Context) -> Frame:
    """PostgreSQL's own match: ibis puts brackets round the pattern, which would count in its back-references."""
    text = text_column(frame, step.column, "column", "extract", context)
    pattern = read_pattern(step.pattern, context, "pattern")
    place = None if pattern is None else _group(step, pattern, context)
    value = None
    if place is not None and text is not None:
        # Without a bracket PostgreSQL gives all that matched, as its first.
        whole = postgres_pattern(step.pattern, whole_group=place == 0)
        value = first_match(text, whole.text)[max(place - 1, 0)]
    into = step.into or step.column
    after = frame.with_columns({into: value})
    return after if step.keep_source or into == step.column else after.without([step.column])


def _group(step: Extract, pattern: PostgresPattern, context: Context) -> int | None:
    """PostgreSQL's number of the bracket to take, 0 for all that matched; None where it is not to be had (reported)."""
    count = len(pattern.groups)
    group = min(count, 1) if step.group is None else step.group
    if group > count:
        context.error("invalid_value", "group", f"the pattern has {count} groups; write one of 0 to {count}.")
        return None
    kept = 0 if group == 0 else pattern.groups[group - 1]
    if kept is None:
        message = (
            f"bracket {group} is inside look-ahead, where PostgreSQL keeps nothing; take another one (0 for all that "
            "matched), or put it outside."
        )
        context.error("bad_pattern", "pattern" if step.group is None else "group", message)
    return kept


@compiles(SplitColumn)
def split_column(step: SplitColumn, frame: Frame, context: Context) -> Frame:
    """One element of the list of pieces a column."""
    text = text_column(frame, step.column, "column", "split_column", context)
    new: dict[str, ir.Value | None] = dict.fromkeys(step.into)
    if context.distinct_names(step.into, "into") and text is not None:
        pieces = text.split(step.delimiter)
        new = {name: pieces[i].strip() for i, name in enumerate(step.into)}
    after = frame.with_columns(new)
    return after if step.keep_source or step.column in new else after.without([step.column])


@compiles(Mask)
def mask(step: Mask, frame: Frame, context: Context) -> Frame:
    """Values of any type; `hash` and `partial` make text of them."""
    context.distinct_names(step.columns, "columns")
    columns = {name: context.column(frame, name, f"columns[{i}]") for i, name in enumerate(step.columns)}
    return frame.with_columns({n: None if c is None else _masked(step, c) for n, c in columns.items()})


def _masked(step: Mask, column: ir.Value) -> ir.Value:
    if step.method == "blank":
        return null(kind_of(column))
    text: Any = cast_to_text(column)
    if step.method == "hash":
        return sha256_hex(text)
    shown = ibis.least(4, (text.length() / 4.0).floor()).cast("int32")
    return ibis.literal("***", type="string") + text.right(shown)
