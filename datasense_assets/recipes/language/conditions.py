"""The condition tree: `all`, `any`, `not`, and a comparison of one column with a literal or another column."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

from datasense_assets.recipes.language.values import MAX_ITEMS, ColumnName, ScalarOrList, Shape

Operator = Literal[
    "=",
    "!=",
    ">",
    ">=",
    "<",
    "<=",
    "in",
    "not_in",
    "between",
    "contains",
    "not_contains",
    "starts_with",
    "ends_with",
    "matches",
    "is_null",
    "is_not_null",
    "is_empty",
    "is_not_empty",
    "in_last",
]
OPERATORS: tuple[str, ...] = get_args(Operator)
WITHOUT_VALUE = frozenset({"is_null", "is_not_null", "is_empty", "is_not_empty"})
LIST_OPERATORS = frozenset({"in", "not_in", "between"})
LITERAL_ONLY = frozenset({"in", "not_in", "between", "matches", "in_last"})

UNION_TAG = "condition:"
"""Prefix of the tags that pydantic puts into an error's location; no part of the recipe's own path."""


class AllOf(Shape):
    """True when every condition is true; an empty list is true."""

    all: list[Condition] = Field(max_length=MAX_ITEMS)


class AnyOf(Shape):
    """True when at least one condition is true; an empty list is false."""

    any: list[Condition] = Field(max_length=MAX_ITEMS)


class Not(Shape):
    """True when the condition is false. Null stays null, so it keeps a row out as a comparison does."""

    not_: Condition = Field(alias="not")


class Comparison(Shape):
    """One column compared. Null never matches, `!=`, `not_in` and `not_contains` included, unless `or_null`."""

    column: ColumnName
    operator: Operator
    value: ScalarOrList = None
    value_column: ColumnName | None = None
    or_null: bool = False

    @model_validator(mode="after")
    def _value_fits_operator(self) -> Comparison:
        given = "value" in self.model_fields_set
        if self.operator in WITHOUT_VALUE:
            if given or self.value_column is not None:
                raise PydanticCustomError(
                    "invalid_value", "{operator} takes no value; remove it", {"operator": self.operator}
                )
            return self
        if given and self.value_column is not None:
            raise PydanticCustomError("invalid_value", "has both value and value_column; keep one")
        if self.value_column is not None and self.operator in LITERAL_ONLY:
            raise PydanticCustomError(
                "invalid_value", "{operator} needs value, not value_column", {"operator": self.operator}
            )
        if not given and self.value_column is None:
            raise PydanticCustomError(
                "missing_field", "{operator} needs value or value_column", {"operator": self.operator, "field": "value"}
            )
        return self


def _branch(data: Any) -> str:
    keys: Any = data if isinstance(data, dict) else ()
    for key, model in (("all", AllOf), ("any", AnyOf), ("not", Not)):
        if key in keys or isinstance(data, model):
            return UNION_TAG + key
    return UNION_TAG + "comparison"


Condition = Annotated[
    Annotated[AllOf, Tag(UNION_TAG + "all")]
    | Annotated[AnyOf, Tag(UNION_TAG + "any")]
    | Annotated[Not, Tag(UNION_TAG + "not")]
    | Annotated[Comparison, Tag(UNION_TAG + "comparison")],
    Discriminator(_branch),
]

AllOf.model_rebuild()
AnyOf.model_rebuild()
Not.model_rebuild()
