"""Words that a formula keeps for itself, and a column's name in brackets: `[so]`, with `]` doubled."""

from __future__ import annotations

KEYWORDS = frozenset({"and", "or", "not", "true", "false", "null"})


def bracketed(name: str) -> str:
    """The name in square brackets."""
    return f"[{name.replace(']', ']]')}]"


def unbracketed(written: str) -> str:
    """The name that `[written so]` refers to."""
    return written[1:-1].replace("]]", "]")
