r"""What the language takes for a space: ASCII's six, which `trim` takes off too.

PostgreSQL's own `\s` and `\d` hang on the locale provider of the database: a no-break space is one to some servers and
not to others, so a recipe would give other cells elsewhere.
"""

from __future__ import annotations

CHARACTERS = " \t\n\r\v\f"

IN_SET = r" \t\n\r\v\f"
"""The spaces as they are written between the brackets of a regular expression."""

SPACE = f"[{IN_SET}]"
"""A regular expression that one space matches."""
