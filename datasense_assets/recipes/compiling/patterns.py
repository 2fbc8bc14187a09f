"""Regular expressions as users know them, checked without a database and turned into PostgreSQL's dialect."""

from __future__ import annotations

import re
import warnings

from datasense_assets.recipes import words
from datasense_assets.recipes.spaces import IN_SET, SPACE


class BadPattern(ValueError):
    """The pattern cannot be used; the message says why."""


_WORD = f"[{words.IN_SET}]"
_NO_WORD_BEFORE = f"(?:(?<!{_WORD}))"
_NO_WORD_AFTER = f"(?:(?!{_WORD}))"
_ESCAPES = {
    "b": f"(?:(?<!{_WORD})(?={_WORD})|(?<={_WORD})(?!{_WORD}))",
    "B": f"(?:(?<!{_WORD})(?!{_WORD})|(?<={_WORD})(?={_WORD}))",
    **{"s": SPACE, "S": f"[^{IN_SET}]", "d": "[0-9]", "D": "[^0-9]", "w": _WORD, "W": f"[^{words.IN_SET}]"},
}
_EDGES = (_ESCAPES["b"], _ESCAPES["B"])
_ESCAPES_IN_SET = {"b": r"\b", "s": IN_SET, "d": "0-9", "w": words.IN_SET}
_KNOWN_ESCAPES = frozenset("dDwWsSbBAZtnrfv0123456789")
_ENDS_IN_ESCAPE = re.compile(r"\\[0-9A-Za-z]*$")
_MAX_REPEAT = 255
_MAX_EDGES = 10
"""From 16 edges of unknown side on, PostgreSQL finds some patterns too complex."""
_BOUND = re.compile(r"\{(\d*)(,?)(\d*)\}")


def postgres_pattern(pattern: str) -> str:
    r"""The pattern in PostgreSQL's syntax: `\s`, `\d`, `\w` and `\b` mean the same in every database, look-ahead gets
    a group of its own (PostgreSQL repeats a group, and no look-ahead itself), the rest of the shared syntax stays.

    Raises:
        BadPattern: it is no regular expression, or uses what PostgreSQL does not have (named groups), or what it has
            and recipes do not take (look-behind, in which other programs want a text of one length).

    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise BadPattern(f"{pattern!r} is no regular expression: {error}") from None
    flags, body = ("(?i)", pattern[4:]) if pattern.startswith("(?i)") else ("", pattern)
    return flags + _translate(body, pattern)


def _translate(body: str, pattern: str) -> str:
    result: list[str] = []
    closings: list[str] = []
    in_set = False
    position = 0
    while position < len(body):
        character = body[position]
        if character == "\\":
            if body[position + 1] in "123456789" and "))" in closings:
                raise BadPattern(f"PostgreSQL takes no back-reference inside look-ahead, as in {pattern!r}")
            edge = "" if in_set or body[position + 1] != "b" else _edge(body, position)
            result.append(edge or _escape(body[position + 1], in_set, pattern))
            position += 2
            continue
        if in_set:
            in_set = not (character == "]" and result[-1] not in ("[", "[^"))
            if character == "[" and in_set:
                character = "\\["
        elif character == "[":
            in_set = True
            if body.startswith("[^", position):
                character, position = "[^", position + 1
        else:
            _refuse_foreign(body, position, pattern)
            if character == "{" and not _bounded(body, position):
                character = "\\{"
            elif character == "(":
                looks_ahead = body.startswith(("(?=", "(?!"), position)
                character = "(?:(" if looks_ahead else "("
                closings.append("))" if looks_ahead else ")")
            elif character == ")":
                character = closings.pop()
        result.append(character)
        position += 1
    if sum(part in _EDGES for part in result) > _MAX_EDGES:
        raise BadPattern(
            f"{pattern!r} asks for the edge of a word more than {_MAX_EDGES} times with no letter beside it, which is "
            "too much for PostgreSQL"
        )
    return "".join(result)


def _edge(body: str, position: int) -> str:
    r"""A `\b` that has a letter beside it asks for the other side alone; else nothing: it may be either edge."""
    before, after = body[:position], body[position + 2 :]
    if after[:1] and words.is_word(after[0]) and after[1:2] not in ("?", "*", "{"):
        return _NO_WORD_BEFORE
    if before[-1:] and words.is_word(before[-1]) and not _ENDS_IN_ESCAPE.search(before):
        return _NO_WORD_AFTER
    return ""


def _bounded(body: str, position: int) -> bool:
    """Whether the `{` there begins a bound; else it stands for itself, which PostgreSQL wants escaped."""
    bounds = _BOUND.match(body, position)
    return bounds is not None and bounds[0] not in ("{}", "{,}")


def _escape(letter: str, in_set: bool, pattern: str) -> str:
    if letter.isascii() and letter.isalnum() and letter not in _KNOWN_ESCAPES:
        raise BadPattern(f"PostgreSQL has no \\{letter} as {pattern!r} uses it; write the characters themselves")
    if in_set:
        if letter in "DWS":
            raise BadPattern(f"PostgreSQL does not take \\{letter} inside [...], as in {pattern!r}")
        return _ESCAPES_IN_SET.get(letter, "\\" + letter)
    if letter == "0":
        raise BadPattern(f"{pattern!r} looks for a NUL character, which PostgreSQL cannot store")
    return _ESCAPES.get(letter, "\\" + letter)


def _refuse_foreign(body: str, position: int, pattern: str) -> None:
    rest = body[position:]
    if rest.startswith("(?") and rest[2:3] not in (":", "=", "!"):
        raise BadPattern(
            f"a recipe takes no {rest[:4]!r} as {pattern!r} uses it: named groups, look-behind and flags "
            "(but (?i) at the very start) are not available"
        )
    if re.match(r"([*+?]|\})\+", rest):
        raise BadPattern(f"PostgreSQL has no possessive repeat {rest[:2]!r} as {pattern!r} uses it")
    bounds = _BOUND.match(rest)
    if bounds and bounds[0] not in ("{}", "{,}"):
        if not bounds[1]:
            raise BadPattern(f"write the lower bound in {bounds[0]!r} of {pattern!r}, as {{0,{bounds[3]}}}")
        if max(int(bounds[1]), int(bounds[3] or 0)) > _MAX_REPEAT:
            raise BadPattern(f"{bounds[0]!r} in {pattern!r} repeats more than {_MAX_REPEAT} times, PostgreSQL's limit")
