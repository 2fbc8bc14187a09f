"""Types and conversions in the words of error messages."""

from __future__ import annotations

import re
from collections.abc import Iterable

from datasense_assets.catalog.models import ColumnType
from datasense_assets.recipes.formula.kinds import NUMERIC

T = ColumnType
_WRITTEN_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")
NOUNS: dict[ColumnType | None, str] = {
    T.TEXT: "text",
    T.INTEGER: "an integer",
    T.NUMBER: "a number",
    T.BOOLEAN: "true or false",
    T.DATE: "a date",
    T.DATETIME: "a datetime",
    T.TIME: "a time",
    T.JSON: "json",
    None: "null",
}

CONVERSIONS: dict[ColumnType, frozenset[ColumnType]] = {
    T.TEXT: frozenset(T),
    T.INTEGER: frozenset({T.TEXT, T.NUMBER, T.BOOLEAN}),
    T.NUMBER: frozenset({T.TEXT, T.BOOLEAN}),
    T.BOOLEAN: frozenset({T.TEXT}),
    T.DATE: frozenset({T.TEXT, T.DATETIME}),
    T.DATETIME: frozenset({T.TEXT, T.DATE}),
    T.TIME: frozenset({T.TEXT, T.DATETIME}),
}
"""By a function's name, which is the type it gives: the types worth converting with it."""


def listed(accepted: Iterable[ColumnType]) -> str:
    """`a date or a datetime`."""
    wanted = set(accepted)
    if wanted >= NUMERIC:
        wanted.discard(T.INTEGER)
    words = [NOUNS[kind] for kind in ColumnType if kind in wanted]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def conversion_hint(shown: str, given: ColumnType, accepted: Iterable[ColumnType]) -> tuple[str, str | None]:
    """How to bring a value to an accepted type, as a sentence and as the text to write; ("", None) where no way is."""
    wanted = set(accepted)
    if T.BOOLEAN in wanted and given in NUMERIC:
        return f"Write a comparison, e.g. {shown} > 0.", f"{shown} > 0"
    quoted = given == T.TEXT and shown[:1] in {"'", '"'}
    if quoted and wanted & NUMERIC:
        inside = shown[1:-1].strip()
        return (f"Write {inside} without quotes.", inside) if _WRITTEN_NUMBER.fullmatch(inside) else ("", None)
    for kind in (T.NUMBER, T.INTEGER, T.DATE, T.DATETIME, T.TIME, T.BOOLEAN, T.TEXT):
        if kind in wanted and given in CONVERSIONS[kind]:
            return f"Write {kind}({shown}).", f"{kind}({shown})"
    return "", None
