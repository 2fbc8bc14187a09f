"""Steps that make, change or choose columns and leave the rows as they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field

from datasense_assets.catalog.models import ColumnType
from datasense_assets.recipes.language.conditions import Condition
from datasense_assets.recipes.language.step import OneOf, StepBase
from datasense_assets.recipes.language.values import ColumnName, NewName, Scalar, Shape, Text


class Select(StepBase):
    """Keeps the columns named, in this order."""

    example: ClassVar[dict[str, Any]] = {"op": "select", "columns": ["district", "visits"]}

    op: Literal["select"]
    columns: list[ColumnName] = Field(min_length=1)


class Drop(StepBase):
    """Removes the columns named; one that is not there is an error."""

    example: ClassVar[dict[str, Any]] = {"op": "drop", "columns": ["note"]}

    op: Literal["drop"]
    columns: list[ColumnName] = Field(min_length=1)


class Rename(StepBase):
    """Gives columns new names, in place."""

    example: ClassVar[dict[str, Any]] = {"op": "rename", "columns": {"visits": "visit_count"}}

    op: Literal["rename"]
    columns: dict[ColumnName, NewName] = Field(min_length=1)


class CastColumn(Shape):
    """One column to cast. `on_error: fail` makes an unreadable value fail the build instead of becoming null."""

    column: ColumnName
    to: ColumnType = Field(strict=False)
    format: Text | None = Field(default=None, max_length=200)
    on_error: Literal["null", "fail"] = "null"


class Cast(StepBase):
    """Reads columns as another type. Text is trimmed; what cannot be read becomes null and is counted.

    Blank text is null and not counted. Numbers are written as 12, -1.5 or 1e3 (12.5 is no integer), booleans as `true`
    `t` `yes` `y` `on` `1` or `false` `f` `no` `n` `off` `0` in any case, dates and times as 2026-03-09,
    2026-03-09T18:05:00+03:00 (without a zone: the organisation's) and 18:05:30 (a zone is left out), else as `format`
    says: `%Y` `%y` `%m` `%b` `%B` `%d` `%H` `%I` `%p` `%M` `%S` `%f` `%z` `%%` and the characters between, months in
    English. No day is read that there is not, and no JSON of more than 16 levels. A number is an integer where it has
    no decimals, a boolean where it is 0 or 1. With `on_error: fail` an unreadable value fails the build, and the old
    table stays.
    """

    example: ClassVar[dict[str, Any]] = {
        "op": "cast",
        "columns": [{"column": "day", "to": "date", "format": "%d/%m/%Y"}],
    }

    op: Literal["cast"]
    columns: list[CastColumn] = Field(min_length=1)

    def answers(self) -> Mapping[str, Sequence[str]]:
        """Every one."""
        return {item.column: (item.column,) for item in self.columns}


class Formula(StepBase):
    """Puts the result of a formula into `column`, new or replaced in place."""

    example: ClassVar[dict[str, Any]] = {
        "op": "formula",
        "column": "cost_per_visit",
        "formula": "round(cost / visits, 2)",
    }

    op: Literal["formula"]
    column: NewName
    formula: Text = Field(max_length=20_000)


class Replacement(Shape):
    """One value (or piece of text, or pattern) and what takes its place."""

    find: Scalar
    replace: Scalar


class ReplaceValues(StepBase):
    r"""Replaces values by a table of pairs, the first that matches.

    `substring` and `regex` replace every occurrence, pair after pair; with `regex`, `\1` to `\9` in `replace` are what
    the pattern's brackets matched and `\0` is all of it. `otherwise` takes the place of whatever no pair matches, null
    too; without it such values stay.
    """

    example: ClassVar[dict[str, Any]] = {
        "op": "replace_values",
        "column": "sex",
        "mapping": [{"find": "f", "replace": "female"}, {"find": "m", "replace": "male"}],
        "otherwise": "unknown",
    }

    op: Literal["replace_values"]
    column: ColumnName
    mapping: list[Replacement] = Field(min_length=1)
    match: Literal["whole", "substring", "regex"] = "whole"
    otherwise: Scalar = None
    into: NewName | None = None

    def answers(self) -> Mapping[str, Sequence[str]]:
        """In place; a column of its own may be about something else, as the region is that a district lies in."""
        return {self.column: (self.column,)} if self.into in (None, self.column) else {}


class Coalesce(StepBase):
    """The first of the columns that is not null, else `default`."""

    example: ClassVar[dict[str, Any]] = {
        "op": "coalesce",
        "columns": ["phone", "phone_2"],
        "into": "contact",
        "default": "none",
    }

    op: Literal["coalesce"]
    columns: list[ColumnName] = Field(min_length=1)
    into: NewName
    default: Scalar = None
    keep_source: bool = True

    def answers(self) -> Mapping[str, Sequence[str]]:
        """What all of them answer."""
        return {self.into: self.columns}


class CaseBranch(OneOf):
    """A condition and the value (or column) that holds where it is true."""

    one_of = ("then", "then_column")

    when: Condition
    then: Scalar = None
    then_column: ColumnName | None = None


class Case(OneOf, StepBase):
    """The value of the first case whose condition is true, else `otherwise` (null when not given)."""

    example: ClassVar[dict[str, Any]] = {
        "op": "case",
        "cases": [{"when": {"column": "visits", "operator": ">=", "value": 10}, "then": "high"}],
        "otherwise": "low",
        "into": "load",
    }
    one_of = ("otherwise", "otherwise_column")
    one_of_optional = True

    op: Literal["case"]
    cases: list[CaseBranch] = Field(min_length=1)
    otherwise: Scalar = None
    otherwise_column: ColumnName | None = None
    into: NewName
    keep_source: bool = True


class Part(OneOf):
    """A column's value or a fixed text."""

    one_of = ("column", "text")

    column: ColumnName | None = None
    text: Text | None = None


class Concat(StepBase):
    """Joins parts into one text, with `separator` between them. Null parts are skipped; no part at all is ''."""

    example: ClassVar[dict[str, Any]] = {
        "op": "concat",
        "parts": [{"column": "first_name"}, {"column": "last_name"}],
        "separator": " ",
        "into": "name",
    }

    op: Literal["concat"]
    parts: list[Part] = Field(min_length=1)
    separator: Text = ""
    into: NewName
    keep_source: bool = True


class SplitChoices(StepBase):
    """A select-multiple answer ("a b") as one boolean column a choice, `<column>/<choice>` or `<prefix><choice>`.

    Only whole tokens count; null stays null in each of them.
    """

    example: ClassVar[dict[str, Any]] = {"op": "split_choices", "column": "services", "choices": ["water", "food"]}

    op: Literal["split_choices"]
    column: ColumnName
    choices: list[Text] = Field(min_length=1)
    delimiter: Text = Field(default=" ", min_length=1, max_length=100)
    prefix: Text | None = None
    keep_source: bool = True
