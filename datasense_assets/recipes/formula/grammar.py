"""The grammar of formulas as a parser, and how a column's name is written by its rules: bare, or `[in brackets]`."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import TYPE_CHECKING

from datasense_assets.recipes.formula.names import KEYWORDS, bracketed

if TYPE_CHECKING:
    from lark import Lark


@functools.cache
def grammar() -> Lark:
    """The parser made from formula.lark."""
    from lark import Lark

    from datasense_assets.recipes.formula.tree import TreeBuilder

    return Lark(
        Path(__file__).with_name("formula.lark").read_text(encoding="utf-8"),
        parser="lalr",
        lexer="basic",
        start=["formula", "mistakes"],
        maybe_placeholders=True,
        transformer=TreeBuilder(),
    )


def reference_text(name: str) -> str:
    """The text that refers to the column `name`: the bare name or `[the name]`."""
    if name.lower() not in KEYWORDS and _bare_name().fullmatch(name):
        return name
    return bracketed(name)


@functools.cache
def _bare_name() -> re.Pattern[str]:
    """The grammar's own rule for a bare name."""
    return re.compile(grammar().get_terminal("NAME").pattern.to_regexp())
