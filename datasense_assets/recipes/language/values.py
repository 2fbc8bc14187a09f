"""The small values of the language: names, literals, and the base that refuses unknown fields."""

from __future__ import annotations

from datetime import date, time
from math import isfinite
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict
from pydantic_core import PydanticCustomError

from datasense_assets.catalog.models import POSTGRES_NAME_BYTES, InputReference

MAX_ITEMS = 10_000
MAX_DEPTH = 60


class Shape(BaseModel):
    """Base of every model of the language: frozen, strict about types, no field it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, populate_by_name=True)


def _storable(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise PydanticCustomError("invalid_value", "has half of a surrogate pair, which is no character") from None
    if "\x00" in text:
        raise PydanticCustomError("invalid_value", "has a NUL character, which PostgreSQL cannot store; remove it")
    return text


def _name(text: str) -> str:
    if not text:
        raise PydanticCustomError("invalid_value", "is empty; write the name of a column")
    return _storable(text)


def _new_name(text: str) -> str:
    length = len(_name(text).encode())
    if length > POSTGRES_NAME_BYTES:
        raise PydanticCustomError(
            "name_too_long",
            "is a name of {length} bytes and PostgreSQL keeps {limit}; choose a shorter one",
            {"length": length, "limit": POSTGRES_NAME_BYTES},
        )
    return text


def _reference(text: str) -> str:
    try:
        InputReference.parse(text)
    except ValueError as error:
        raise PydanticCustomError("invalid_value", "{reason}", {"reason": str(error)}) from None
    return text


def _scalar(value: Any) -> Any:
    if isinstance(value, str):
        return _storable(value)
    if isinstance(value, float) and not isfinite(value):
        raise PydanticCustomError("bad_literal", "is not a finite number")
    if value is None or isinstance(value, (bool, int, float, date, time)):
        return value
    raise PydanticCustomError("bad_literal", "is not a single value; write text, a number, true or false")


def _scalar_or_list(value: Any) -> Any:
    if not isinstance(value, (list, tuple)):
        return _scalar(value)
    if len(value) > MAX_ITEMS:
        raise PydanticCustomError("invalid_value", "has more than {limit} values", {"limit": MAX_ITEMS})
    return tuple(_scalar(item) for item in value)


ColumnName = Annotated[str, AfterValidator(_name)]
"""The name of a column that should be there already."""

NewName = Annotated[str, AfterValidator(_new_name)]
"""The name of a column that the step makes: at most 63 bytes."""

WrittenReference = Annotated[str, AfterValidator(_reference)]
"""A table or recipe as `InputReference.parse` reads it; kept as it is written."""

Text = Annotated[str, AfterValidator(_storable)]
"""Any text that PostgreSQL can store."""

Scalar = Annotated[Any, AfterValidator(_scalar)]
"""A literal: text, number, boolean or null (dates are ISO text, or YAML's own dates)."""

ScalarOrList = Annotated[Any, AfterValidator(_scalar_or_list)]
"""A literal, or a list of them."""

SortKey = Annotated[str, AfterValidator(_name)]
"""A column to order by; `-name` for descending."""
