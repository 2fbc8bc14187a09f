"""Steps that read something out of the values of one column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field

from datasense_assets.recipes.language.rows import FieldType
from datasense_assets.recipes.language.step import OneOf, StepBase
from datasense_assets.recipes.language.values import ColumnName, NewName, Scalar, Text

DatePartName = Literal[
    "year",
    "quarter",
    "month",
    "week",
    "day",
    "weekday",
    "hour",
    "minute",
    "trunc_year",
    "trunc_quarter",
    "trunc_month",
    "trunc_week",
    "trunc_day",
]


class DatePart(StepBase):
    """A part of a date or datetime as an integer; `trunc_...` gives the first day of its year, quarter, ... as a date.

    Weeks are ISO's and start on Monday; `weekday` is 1 for Monday to 7 for Sunday. A datetime is read in the
    organisation's time zone. `hour` and `minute` need a datetime or a time.
    """

    example: ClassVar[dict[str, Any]] = {
        "op": "date_part",
        "column": "seen_on",
        "part": "trunc_month",
        "into": "month",
    }

    op: Literal["date_part"]
    column: ColumnName
    part: DatePartName
    into: NewName | None = None


class Geopoint(StepBase):
    """A form's location ("lat lon alt acc") as four numbers: latitude, longitude, altitude and accuracy.

    The columns are `<prefix>latitude` and so on; the prefix is `<column>_` unless given. A part that is missing is
    null; one that is no number is null and counted.
    """

    example: ClassVar[dict[str, Any]] = {"op": "geopoint", "column": "location", "prefix": "gps_"}

    op: Literal["geopoint"]
    column: ColumnName
    prefix: Text | None = None
    keep_source: bool = True


class LabelValues(StepBase):
    """Choice names as the labels of the form's own choice list; a value that has none stays as it is.

    `source` is the alias of the input whose form has the list, for the column of the same name; where the column has
    been renamed, write `<alias>.<column in the form>`.
    """

    example: ClassVar[dict[str, Any]] = {
        "op": "label_values",
        "column": "sex",
        "source": "visits",
        "into": "sex_label",
    }

    op: Literal["label_values"]
    column: ColumnName
    source: Text = Field(min_length=1)
    into: NewName | None = None

    def answers(self) -> Mapping[str, Sequence[str]]:
        """The same in words."""
        return {self.into or self.column: (self.column,)}


class Bin(OneOf, StepBase):
    """Which of several ranges a number is in: by `edges` as text, or by `width` as the range's lower end.

    Three edges make two bins. A bin has its lower edge in it and not its upper one; only the last bin has both. What is
    outside the edges is null. `labels` names the bins of `edges`, otherwise they are called "0-5" and so on.
    """

    example: ClassVar[dict[str, Any]] = {
        "op": "bin",
        "column": "visits",
        "edges": [0, 5, 20, 1000],
        "labels": ["few", "some", "many"],
        "into": "load",
    }
    one_of = ("edges", "width")

    op: Literal["bin"]
    column: ColumnName
    edges: list[Scalar] | None = Field(default=None, min_length=2, max_length=1_000)
    width: Scalar = None
    labels: list[Text] | None = None
    into: NewName


class ExpandJson(StepBase):
    """Fields of a JSON object as columns `<prefix><name>`; the column is dropped unless `keep_source`.

    Text that holds JSON is read. A field that is not there is null; one that cannot be read as its type is null and
    counted.
    """

    example: ClassVar[dict[str, Any]] = {
        "op": "expand_json",
        "column": "address",
        "fields": {"street": "text", "number": "integer"},
        "prefix": "address_",
    }

    op: Literal["expand_json"]
    column: ColumnName
    fields: dict[Text, FieldType] = Field(min_length=1)
    prefix: Text = ""
    keep_source: bool = False
