"""PostgreSQL's own functions that ibis has no expression for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ibis
import ibis.expr.datatypes as dt

from datasense_assets.recipes.compiling.kinds import JSONB


def _of_one(name: str, argument: dt.DataType, result: dt.DataType) -> Callable[[Any], Any]:
    def function(value: Any) -> Any: ...

    found: Callable[[Any], Any] = ibis.udf.scalar.builtin(function, name=name, signature=((argument,), result))
    return found


def _of_two(name: str, first: dt.DataType, second: dt.DataType, result: dt.DataType) -> Callable[[Any, Any], Any]:
    def function(value: Any, argument: Any) -> Any: ...

    found: Callable[[Any, Any], Any] = ibis.udf.scalar.builtin(function, name=name, signature=((first, second), result))
    return found


bigint = _of_one("int8", dt.int64, dt.int64)
"""The value as bigint; PostgreSQL sums bigints to numeric, and ibis leaves out a cast to the type it expects."""

json_type = _of_one("jsonb_typeof", JSONB, dt.string)
"""`object`, `array`, `string`, `number`, `boolean` or `null`; SQL null for SQL null."""

json_field = _of_two("jsonb_object_field", JSONB, dt.string, JSONB)
"""The field of a JSON object as JSON; null where there is none."""

json_field_text = _of_two("jsonb_object_field_text", JSONB, dt.string, dt.string)
"""The field of a JSON object as text without quotes; null where there is none."""

_list_of = _of_one("jsonb_build_array", JSONB, JSONB)
_element_text = _of_two("jsonb_array_element_text", JSONB, dt.int32, dt.string)


def json_as_text(value: Any) -> Any:
    """JSON as text: a string without its quotes, JSON null as null, the rest as written."""
    return _element_text(_list_of(value.cast(JSONB)), 0)


def to_json(value: Any) -> Any:
    """Any scalar as JSON; null stays null."""
    return _of_one("to_jsonb", value.type(), JSONB)(value)


def normalized(text: Any, form: str) -> Any:
    """The text in a Unicode normal form, `NFC` or `NFD`."""
    return _normalize(text, form)


def _declared(text: Any, form: Any) -> Any: ...


# With its schema: PostgreSQL's grammar has a NORMALIZE of its own, which takes the form as a keyword.
_normalize = ibis.udf.scalar.builtin(
    _declared, name="normalize", database="pg_catalog", signature=((dt.string, dt.string), dt.string)
)

first_match = _of_two("regexp_match", dt.string, dt.string, dt.Array(dt.string))
"""What the groups of a pattern match first, or all of the match where it has no group; null for no match."""

_bytes_in = _of_two("convert_to", dt.string, dt.string, dt.binary)
_sha256 = _of_one("sha256", dt.binary, dt.binary)
_encoded = _of_two("encode", dt.binary, dt.string, dt.string)


def sha256_hex(text: Any) -> Any:
    """The SHA-256 of the text in UTF-8, as hexadecimal digits."""
    return _encoded(_sha256(_bytes_in(text, "UTF8")), "hex")
