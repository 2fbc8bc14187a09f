"""The functions of the section Text, as Ibis values. Counting starts at 1; case matters."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from datasense_assets.recipes.formula import postgres
from datasense_assets.recipes.formula.conversions import to_text
from datasense_assets.recipes.formula.kinds import INTEGER
from datasense_assets.recipes.formula.number_functions import counted, counted_at_most

LONGEST = 2**31 - 2
LONGEST_PADDED = 1_000


def lower(text: ir.StringValue) -> ir.Value:
    """Small letters."""
    return text.lower()


def upper(text: ir.StringValue) -> ir.Value:
    """Capital letters."""
    return text.upper()


def title(text: ir.StringValue) -> ir.Value:
    """Each word with a capital letter."""
    return postgres.capitalized(text)


def trim(text: ir.StringValue) -> ir.Value:
    """Without the white space around it."""
    return text.strip()


def left(text: ir.StringValue, count: ir.IntegerValue) -> ir.Value:
    """The first characters; null for a count below 0."""
    return postgres.first_characters(text, counted_at_most(count, 0, LONGEST))


def right(text: ir.StringValue, count: ir.IntegerValue) -> ir.Value:
    """The last characters; null for a count below 0."""
    return postgres.last_characters(text, counted_at_most(count, 0, LONGEST))


def mid(text: ir.StringValue, start: ir.IntegerValue, count: ir.IntegerValue) -> ir.Value:
    """Characters from the place `start`; null for a start below 1 or a count below 0."""
    return postgres.characters_from(text, counted_at_most(start, 1, LONGEST), counted_at_most(count, 0, LONGEST))


def length(text: ir.StringValue) -> ir.Value:
    """How many characters."""
    return text.length().cast(INTEGER)


def replace(text: ir.StringValue, find: ir.StringValue, put: ir.StringValue) -> ir.Value:
    """Each occurrence replaced."""
    return text.replace(find, put)


def contains(text: ir.StringValue, part: ir.StringValue) -> ir.Value:
    """Whether the part is in it."""
    return text.contains(part)


def starts_with(text: ir.StringValue, part: ir.StringValue) -> ir.Value:
    """Whether it begins with the part."""
    return text.startswith(part)


def ends_with(text: ir.StringValue, part: ir.StringValue) -> ir.Value:
    """Whether it ends with the part."""
    return text.endswith(part)


def find(text: ir.StringValue, part: ir.StringValue) -> ir.Value:
    """The place of the first occurrence, null where there is none. Ibis counts from 0 and gives -1."""
    return postgres.bigint(text.find(part) + 1).nullif(ibis.literal(0, INTEGER))


def split(text: ir.StringValue, separator: ir.StringValue, index: ir.IntegerValue) -> ir.Value:
    """The part at a place; null where there is none or it is empty."""
    return postgres.part_of_split(text, separator, counted(index, 1, LONGEST)).nullif("")


def pad_left(text: ir.StringValue, width: ir.IntegerValue, fill: ir.StringValue | str) -> ir.Value:
    """Filled up from the left to a width of at most LONGEST_PADDED; a longer text stays."""
    wanted = counted(width, 0, LONGEST_PADDED)
    padded = postgres.padded_left(text, wanted, fill)
    if isinstance(fill, str):
        return ibis.ifelse(text.length() > wanted, text, padded)
    return ibis.cases((text.length() <= wanted, padded), ((text.length() > wanted) & fill.notnull(), text))


def concat(*values: ir.Value) -> ir.Value:
    """Everything as text in a row; null counts as no text."""
    texts = [ibis.coalesce(to_text(value), "") for value in values]
    return texts[0].concat(*texts[1:]) if len(texts) > 1 else texts[0]


def json_field(value: ir.JSONValue, name: ir.StringValue) -> ir.Value:
    """A field of a json object as text."""
    return postgres.json_field_text(value, name)
