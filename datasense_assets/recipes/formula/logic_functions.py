"""The functions of the section Choices and nulls, as Ibis values. Arguments that go together come in one type."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from datasense_assets.recipes.formula.kinds import null_of


def if_then(condition: ir.BooleanValue, then: ir.Value, otherwise: ir.Value | None) -> ir.Value:
    """One of two values."""
    return ibis.ifelse(condition, then, null_of(then.type()) if otherwise is None else otherwise)


def case(*arguments: ir.Value) -> ir.Value:
    """The value after the first true condition, else the last of an odd number of arguments, else null."""
    conditions = arguments[:-1:2]
    values = arguments[1::2]
    default = arguments[-1] if len(arguments) % 2 else null_of(values[0].type())
    return ibis.cases(*zip(conditions, values, strict=False), else_=default)


def coalesce(*values: ir.Value) -> ir.Value:
    """The first that is not null."""
    return ibis.coalesce(*values)


def null_if(value: ir.Value, unwanted: ir.Value) -> ir.Value:
    """Null where equal."""
    return value.nullif(unwanted)


def is_null(value: ir.Value) -> ir.Value:
    """Whether null."""
    return value.isnull()


def is_blank(value: ir.Value) -> ir.Value:
    """Whether null or white space."""
    if isinstance(value, ir.StringValue):
        return ibis.coalesce(value.strip(), "") == ""
    return value.isnull()


def between(value: ir.Value, low: ir.Value, high: ir.Value) -> ir.Value:
    """Whether in the range, ends included."""
    return value.between(low, high)


def one_of(value: ir.Value, *options: ir.Value) -> ir.Value:
    """Whether equal to an option."""
    return value.isin(options)
