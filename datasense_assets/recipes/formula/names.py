"""How a column's name is written in a formula: bare where it can be, else `[in brackets]` with `]` doubled."""

from __future__ import annotations

import functools
import re

KEYWORDS = frozenset({"and", "or", "not", "true", "false", "null"})


def reference_text(name: str) -> str:
    """The text that refers to the column `name`: the bare name or `[the name]`."""
    if name.lower() not in KEYWORDS and _bare_name().fullmatch(name):
        return name
    return bracketed(name)


def bracketed(name: str) -> str:
    """The name in square brackets."""
    return f"[{name.replace(']', ']]')}]"


def unbracketed(written: str) -> str:
    """The name that `[written so]` refers to."""
    return written[1:-1].replace("]]", "]")


@functools.cache
def _bare_name() -> re.Pattern[str]:
    """The grammar's own rule for a bare name."""
    from datasense_assets.recipes.formula.parse import grammar

    return re.compile(grammar().get_terminal("NAME").pattern.to_regexp())
