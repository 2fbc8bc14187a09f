"""What can be wrong with a recipe: stable codes, one error's shape, and the error that carries all of them at once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal, get_args

Code = Literal[
    "unknown_column",
    "unknown_input",
    "type_mismatch",
    "name_collision",
    "join_key_type",
    "bad_literal",
    "bad_pattern",
    "bad_formula",
    "duplicate_step_id",
    "missing_table",
    "cycle",
    "name_too_long",
    "unknown_field",
    "missing_field",
    "invalid_value",
]
CODES: tuple[Code, ...] = get_args(Code)

MEANINGS: dict[Code, str] = {
    "unknown_column": "a step names a column that is not there at that point",
    "unknown_input": "a step names an alias that `inputs` does not have",
    "type_mismatch": "a column's type does not suit what is done with it",
    "name_collision": "two columns of the result would have one name",
    "join_key_type": "the two sides of a join key have types that cannot be compared",
    "bad_literal": "a value written in the recipe is not of the column's type",
    "bad_pattern": "a regular expression or date format cannot be read",
    "bad_formula": "a formula cannot be read, or its parts do not fit together",
    "duplicate_step_id": "two steps have the same id",
    "missing_table": "an input's table does not exist (yet)",
    "cycle": "recipes feed each other in a circle, or a check waits for itself in one",
    "name_too_long": "a new name is longer than PostgreSQL's 63 bytes",
    "unknown_field": "the recipe has a field that the language does not",
    "missing_field": "a field that is needed is not there",
    "invalid_value": "a field holds something the language does not allow there",
}


WarningCode = Literal[
    "never_matches",
    "needless_cast",
    "join_multiplies",
    "unused_input",
    "unordered_limit",
    "midnight_only",
    "unread_zone",
]

WARNINGS: dict[WarningCode, str] = {
    "never_matches": "a condition that no row can meet",
    "needless_cast": "a cast to the type that the column has already, or `on_error` where nothing can fail",
    "join_multiplies": "a join on columns that nothing says are unique in the joined input: rows may multiply",
    "unused_input": "an input that no step reads",
    "unordered_limit": "a limit without a sort before it, or with a step between that puts rows in another order",
    "midnight_only": "a date and time compared with a date as if that were the whole day: it stands for its midnight",
    "unread_zone": "a date format with the letters of a time zone (`Z`, `UTC`), which are text; `%z` reads the zone",
}
"""Every code of a warning and what it means. Codes are stable; a warning keeps nothing from being built."""


@dataclass(frozen=True)
class RecipeError:
    """One mistake: a stable `code`, the `path` in the recipe, a sentence for people, the nearest right name if any."""

    code: Code
    path: str
    message: str
    suggestion: str | None = None

    def __str__(self) -> str:
        """The error on one line."""
        return f"{self.path or 'recipe'}: {self.message} [{self.code}]"


@dataclass(frozen=True)
class RecipeWarning:
    """Something allowed and probably not meant: a stable `code`, the `path` in the recipe, words with the fix."""

    code: WarningCode
    path: str
    message: str

    def __str__(self) -> str:
        """The warning on one line."""
        return f"{self.path}: {self.message} [{self.code}]"


class RecipeErrors(ValueError):
    """Every mistake found in a recipe; `errors` is never empty and is in the order of the recipe."""

    def __init__(self, errors: Iterable[RecipeError]) -> None:
        self.errors = tuple(errors)
        super().__init__("\n".join(str(error) for error in self.errors))


def nearest(name: str, candidates: Iterable[str]) -> str | None:
    """The candidate most like `name` (case apart), or None when none is near."""
    by_fold: dict[str, str] = {}
    for candidate in candidates:
        by_fold.setdefault(candidate.casefold(), candidate)
    found = get_close_matches(name.casefold(), by_fold, n=1, cutoff=0.6)
    return by_fold[found[0]] if found else None
