"""PostgreSQL functions that Ibis has no word for, each with the types it is called with here."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import ibis.expr.datatypes as dt
import ibis.expr.types as ir
from ibis import udf

_TEXT, _INT, _BIGINT, _DOUBLE, _NUMERIC = dt.String(), dt.Int32(), dt.Int64(), dt.Float64(), dt.Decimal()
_MOMENT, _INTERVAL, _JSONB = dt.Timestamp(timezone="UTC"), dt.Interval("s"), dt.JSON(binary=True)


def _builtin(name: str, takes: tuple[dt.DataType, ...], gives: dt.DataType) -> Callable[..., ir.Value]:
    def declared() -> None:
        """Never run: Ibis wants a function to read the name and the arguments from."""

    parameters = [inspect.Parameter(f"arg{i}", inspect.Parameter.POSITIONAL_ONLY) for i in range(len(takes))]
    declared.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    made: Callable[..., ir.Value] = udf.scalar.builtin(declared, name=name, signature=(takes, gives))
    return made


match_of = _builtin("substring", (_TEXT, _TEXT), _TEXT)
"""The part of a text that the pattern's group matches; null where nothing does."""

first_characters = _builtin("left", (_TEXT, _INT), _TEXT)
last_characters = _builtin("right", (_TEXT, _INT), _TEXT)
characters_from = _builtin("substr", (_TEXT, _INT, _INT), _TEXT)
part_of_split = _builtin("split_part", (_TEXT, _TEXT, _INT), _TEXT)
padded_left = _builtin("lpad", (_TEXT, _INT, _TEXT), _TEXT)
capitalized = _builtin("initcap", (_TEXT,), _TEXT)

bigint = _builtin("int8", (_BIGINT,), _BIGINT)
"""The value as bigint, where Ibis takes it for one already and leaves out the cast."""

rounded = _builtin("round", (_NUMERIC, _INT), _NUMERIC)
truncated = _builtin("trunc", (_DOUBLE,), _DOUBLE)
floor = _builtin("floor", (_DOUBLE,), _DOUBLE)
ceil = _builtin("ceil", (_DOUBLE,), _DOUBLE)
remainder = _builtin("mod", (_NUMERIC, _NUMERIC), _NUMERIC)

part_of_moment = _builtin("date_part", (_TEXT, _MOMENT), _DOUBLE)
part_of_interval = _builtin("date_part", (_TEXT, _INTERVAL), _DOUBLE)
age = _builtin("age", (_MOMENT, _MOMENT), _INTERVAL)

json_list_of = _builtin("jsonb_build_array", (_JSONB,), _JSONB)
json_element_text = _builtin("jsonb_array_element_text", (_JSONB, _BIGINT), _TEXT)
json_field_text = _builtin("jsonb_object_field_text", (_JSONB, _TEXT), _TEXT)
