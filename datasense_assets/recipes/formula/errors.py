"""What can be wrong with a formula, with the place in its text. Nothing here reads or compiles one."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

CODES: dict[str, str] = {
    "syntax": "The text cannot be read as a formula.",
    "too_complex": "The formula is too long or too deeply nested.",
    "unknown_column": "A name that is no column of the table.",
    "unknown_function": "A name that is no function.",
    "wrong_arguments": "Too few or too many arguments.",
    "type_mismatch": "A value of a type that cannot be used there.",
    "invalid_value": "A number, text or unit that cannot be used there.",
}
"""Every `FormulaError.code` and what it means. Codes are stable."""

MOST_ERRORS = 20
"""After so many mistakes the rest of a formula is not looked at."""
LONGEST_COMPARED_NAME = 100
MOST_COMPARED_NAMES = 2_000


@dataclass(frozen=True, slots=True)
class FormulaError:
    """One mistake: `position` and `length` in characters of the text, `line` and `column` counting from 1.

    `message` says what is wrong and one way to mend it; `suggestion` is the nearest name or the text to write instead.
    """

    code: str
    message: str
    position: int
    length: int
    suggestion: str | None = None
    line: int = 1
    column: int = 1


class FormulaErrors(ValueError):
    """All mistakes of one formula, in the order of its text."""

    def __init__(self, errors: Iterable[FormulaError]) -> None:
        """Keep the errors sorted by place."""
        self.errors: list[FormulaError] = sorted(errors, key=lambda error: (error.position, error.length))
        super().__init__("\n".join(f"{error.line}:{error.column} {error.message}" for error in self.errors))


def error_at(
    text: str, position: int, length: int, code: str, message: str, suggestion: str | None = None
) -> FormulaError:
    """The error at `position` of `text`, its line and column worked out."""
    line_start = text.rfind("\n", 0, position) + 1
    line = text.count("\n", 0, position) + 1
    return FormulaError(code, message, position, length, suggestion, line, position - line_start + 1)


def nearest(name: str, names: Sequence[str]) -> str | None:
    """The name that was probably meant: equal but for case and separators, else by its last part, else most alike."""
    if len(name) > LONGEST_COMPARED_NAME:
        return None
    wanted = _plain(name)
    plain: dict[str, str] = {}
    for candidate in names[:MOST_COMPARED_NAMES]:
        if len(candidate) <= LONGEST_COMPARED_NAME:
            plain.setdefault(_plain(candidate), candidate)
    if wanted in plain:
        return plain[wanted]
    for candidate in plain.values():
        if wanted and _plain(re.split(r"[/.:]", candidate)[-1]) == wanted:
            return candidate
    close = difflib.get_close_matches(wanted, plain, n=1, cutoff=0.65)
    return plain[close[0]] if close else None


def _plain(name: str) -> str:
    return re.sub(r"[\s_\-]+", "", unicodedata.normalize("NFKC", name)).casefold()
