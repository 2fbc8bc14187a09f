"""Steps that choose, order or multiply rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from datasense_assets.catalog.models import ColumnType
from datasense_assets.recipes.language.conditions import Condition
from datasense_assets.recipes.language.step import OneOf, StepBase
from datasense_assets.recipes.language.values import ColumnName, NewName, SortKey, Text

FieldType = Annotated[ColumnType, Field(strict=False)]


class Filter(StepBase):
    """Keeps the rows for which the condition is true. A row for which it is null is left out."""

    example: ClassVar[dict[str, Any]] = {
        "op": "filter",
        "where": {"column": "district", "operator": "!=", "value": "North"},
    }

    op: Literal["filter"]
    where: Condition


class Sort(StepBase):
    """Orders the rows; `-name` for descending. Nulls come last either way."""

    example: ClassVar[dict[str, Any]] = {"op": "sort", "by": ["district", "-visits"]}

    op: Literal["sort"]
    by: list[SortKey] = Field(min_length=1)


class Limit(StepBase):
    """Keeps at most so many rows: the first ones after a `sort`, else any."""

    example: ClassVar[dict[str, Any]] = {"op": "limit", "rows": 100}

    op: Literal["limit"]
    rows: int = Field(ge=0, le=2**63 - 1)


class ExpandList(OneOf, StepBase):
    """A list in a cell becomes rows: a JSON list of objects by `fields`, or a text by `delimiter`.

    With `fields`, each becomes a new column and the list is dropped unless `keep_source`; a value that cannot be read
    as its type is null. With `delimiter`, the column itself holds the pieces, trimmed, empty ones left out.
    `index_into` counts from 1. A row with no list, or an empty one, goes unless `keep_empty`.
    """

    example: ClassVar[dict[str, Any]] = {
        "op": "expand_list",
        "column": "members",
        "fields": {"name": "text", "age": "integer"},
        "index_into": "member_number",
    }
    one_of = ("fields", "delimiter")

    op: Literal["expand_list"]
    column: ColumnName
    fields: dict[NewName, FieldType] | None = Field(default=None, min_length=1)
    delimiter: Text | None = Field(default=None, min_length=1, max_length=100)
    index_into: NewName | None = None
    keep_empty: bool = False
    keep_source: bool = False

    def answers(self) -> Mapping[str, Sequence[str]]:
        """Each piece of a text is one of several answers to its question."""
        return {} if self.delimiter is None else {self.column: (self.column,)}
