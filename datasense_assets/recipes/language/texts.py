"""Steps that tidy text and take it apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field

from datasense_assets.recipes.language.step import StepBase
from datasense_assets.recipes.language.values import ColumnName, NewName, Text

CleanAction = Literal[
    "trim",
    "collapse_spaces",
    "lower",
    "upper",
    "title",
    "remove_accents",
    "remove_digits",
    "remove_punctuation",
]


class CleanText(StepBase):
    """Tidies text columns in place, one action after another in the order written.

    `collapse_spaces` makes one space of any white space in a row. `remove_accents` takes the marks off Latin, Greek and
    Cyrillic letters and leaves the vowel signs of other scripts.
    """

    example: ClassVar[dict[str, Any]] = {
        "op": "clean_text",
        "columns": ["district", "last_name"],
        "actions": ["trim", "collapse_spaces", "title"],
    }

    op: Literal["clean_text"]
    columns: list[ColumnName] = Field(min_length=1)
    actions: list[CleanAction] = Field(min_length=1)

    def answers(self) -> Mapping[str, Sequence[str]]:
        """Every one."""
        return {name: (name,) for name in self.columns}


class Extract(StepBase):
    """The part of a text that a regular expression finds first; null where it finds none.

    `group` says which bracket of the pattern to take, 0 for all that it matched; without it the first bracket, or
    everything where there is none. `(?:...)` is no bracket; one inside look-ahead, `(?=...)`, counts and holds nothing.
    """

    example: ClassVar[dict[str, Any]] = {
        "op": "extract",
        "column": "note",
        "pattern": "ward ([0-9]+)",
        "into": "ward",
    }

    op: Literal["extract"]
    column: ColumnName
    pattern: Text = Field(min_length=1, max_length=10_000)
    group: int | None = Field(default=None, ge=0)
    into: NewName | None = None
    keep_source: bool = True


class SplitColumn(StepBase):
    """The pieces of a text between delimiters as columns of their own, without the spaces around them.

    Null where there are too few pieces; pieces beyond the last name are left out.
    """

    example: ClassVar[dict[str, Any]] = {
        "op": "split_column",
        "column": "last_name",
        "delimiter": "-",
        "into": ["last_name_1", "last_name_2"],
    }

    op: Literal["split_column"]
    column: ColumnName
    delimiter: Text = Field(min_length=1, max_length=100)
    into: list[NewName] = Field(min_length=1)
    keep_source: bool = True


class Mask(StepBase):
    """Hides personal values in place; null stays null.

    `blank` makes every value null. `hash` makes a SHA-256 of each, the same for the same value, so that rows can still
    be counted and joined; who can guess a value, such as a phone number, can check the guess. `partial` keeps the last
    characters, at most four and a quarter of the text, after `***`.
    """

    example: ClassVar[dict[str, Any]] = {"op": "mask", "columns": ["phone", "phone_2"], "method": "partial"}

    op: Literal["mask"]
    columns: list[ColumnName] = Field(min_length=1)
    method: Literal["blank", "hash", "partial"]

    def answers(self) -> Mapping[str, Sequence[str]]:
        """Every one."""
        return {name: (name,) for name in self.columns}
