"""Regular expressions as users know them, checked without a database and turned into PostgreSQL's dialect."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field

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
_NUMBERED = re.compile(r"\\([1-9][0-9]?)")
_OCTAL = re.compile(r"\\([1-3][0-7]{2})")


@dataclass(frozen=True)
class PostgresPattern:
    """A pattern in PostgreSQL's syntax. `groups`: PostgreSQL's number for each bracket of the pattern as written, in
    their order; None for one inside look-ahead, of which PostgreSQL keeps nothing.
    """

    text: str
    groups: tuple[int | None, ...]


def postgres_pattern(pattern: str, *, whole_group: bool = False) -> PostgresPattern:
    r"""The pattern in PostgreSQL's syntax: `\s`, `\d`, `\w` and `\b` mean the same in every database, look-ahead gets
    a group of its own (PostgreSQL repeats a group, and no look-ahead itself), the rest of the shared syntax stays.

    With `whole_group` all of it is in one more bracket, which is PostgreSQL's first.

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
    translation = _Translation(pattern, body, kept=int(whole_group))
    translation.run()
    if sum(part in _EDGES for part in translation.parts) > _MAX_EDGES:
        raise BadPattern(
            f"{pattern!r} asks for the edge of a word more than {_MAX_EDGES} times with no letter beside it, which is "
            "too much for PostgreSQL"
        )
    text = "".join(translation.parts)
    return PostgresPattern(flags + (f"({text})" if whole_group else text), tuple(translation.groups))


def postgres_replacement(text: str, found: PostgresPattern) -> str:
    r"""What takes the place of a match, in PostgreSQL's syntax: `\1` to `\9` are what brackets matched, `\0` is all of
    it, any other backslash is itself.

    Raises:
        BadPattern: the pattern has no such bracket, or it is inside look-ahead.

    """

    def named(match: re.Match[str]) -> str:
        if match[1] == "0":
            return r"\&"
        return f"\\{_kept(int(match[1]), found.groups, text)}" if match[1] else r"\\"

    return re.sub(r"\\([0-9]?)", named, text)


def _kept(number: int, groups: Sequence[int | None], written: str) -> int:
    if number > len(groups):
        raise BadPattern(f"{written!r} asks for bracket {number}, and the pattern has {len(groups)}")
    kept = groups[number - 1]
    if kept is None:
        raise BadPattern(
            f"{written!r} asks for bracket {number}, which is inside look-ahead, where PostgreSQL keeps nothing"
        )
    return kept


@dataclass
class _Translation:
    """One pattern on its way. `kept`: how many brackets PostgreSQL has counted so far."""

    pattern: str
    body: str
    kept: int
    parts: list[str] = field(default_factory=list)
    groups: list[int | None] = field(default_factory=list)
    closings: list[str] = field(default_factory=list)
    in_set: bool = False

    def run(self) -> None:
        position = 0
        while position < len(self.body):
            position = self._escaped(position) if self.body[position] == "\\" else self._plain(position)

    def _escaped(self, position: int) -> int:
        octal, numbered = (each.match(self.body, position) for each in (_OCTAL, _NUMBERED))
        if octal:
            character = chr(int(octal[1], 8))
            self.parts.append(character if character.isalnum() else "\\" + character)
            return octal.end()
        if numbered and not self.in_set:
            self.parts.append(self._back_reference(int(numbered[1]), numbered.end()))
            return numbered.end()
        letter = self.body[position + 1]
        edge = _edge(self.body, position) if letter == "b" and not self.in_set else ""
        self.parts.append(edge or _escape(letter, self.in_set, self.pattern))
        return position + 2

    def _back_reference(self, number: int, end: int) -> str:
        if "))" in self.closings:
            raise BadPattern(f"PostgreSQL takes no back-reference inside look-ahead, as in {self.pattern!r}")
        written = f"\\{_kept(number, self.groups, self.pattern)}"
        # PostgreSQL would read a digit after it as one more of its own.
        return f"(?:{written})" if self.body[end : end + 1].isdigit() else written

    def _plain(self, position: int) -> int:
        character, body = self.body[position], self.body
        if self.in_set:
            self.in_set = not (character == "]" and self.parts[-1] not in ("[", "[^"))
            if character == "[" and self.in_set:
                character = "\\["
        elif character == "[":
            self.in_set = True
            if body.startswith("[^", position):
                character, position = "[^", position + 1
        else:
            _refuse_foreign(body, position, self.pattern)
            if character == "{" and not _bounded(body, position):
                character = "\\{"
            elif character == "(":
                character = self._opened(position)
            elif character == ")":
                character = self.closings.pop()
        self.parts.append(character)
        return position + 1

    def _opened(self, position: int) -> str:
        if self.body.startswith(("(?=", "(?!"), position):
            self.closings.append("))")
            return "(?:("
        keeps = not self.body.startswith("(?", position)
        inside = "))" in self.closings
        self.closings.append(")")
        if keeps:
            self.kept += not inside
            self.groups.append(None if inside else self.kept)
        # One inside look-ahead keeps nothing, and says so.
        return "(?:" if keeps and inside else "("


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
    return bounds is not None and bounds[0] != "{}"


def _escape(letter: str, in_set: bool, pattern: str) -> str:
    if letter.isascii() and letter.isalnum() and letter not in _KNOWN_ESCAPES:
        raise BadPattern(f"PostgreSQL has no \\{letter} as {pattern!r} uses it; write the characters themselves")
    if in_set:
        if letter in "DWS":
            raise BadPattern(f"PostgreSQL does not take \\{letter} inside [...], as in {pattern!r}")
        if letter in "123456789":
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
    if bounds and bounds[0] != "{}":
        if not bounds[1]:
            raise BadPattern(f"write the lower bound in {bounds[0]!r} of {pattern!r}, as {{0,{bounds[3]}}}")
        if max(int(bounds[1]), int(bounds[3] or 0)) > _MAX_REPEAT:
            raise BadPattern(f"{bounds[0]!r} in {pattern!r} repeats more than {_MAX_REPEAT} times, PostgreSQL's limit")
