"""The types of formulas and their one Ibis type each: bringing columns to them, converting and unifying values."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.operations as ops
import ibis.expr.types as ir

from datasense_assets.catalog.models import ColumnType

INTEGER = dt.Int64()
NUMBER = dt.Float64()
WIDE = dt.Decimal()
"""Numeric without bounds: integers are worked out in it, so that no sum or product of theirs can overflow."""

DTYPES: dict[ColumnType, dt.DataType] = {
    ColumnType.TEXT: dt.String(),
    ColumnType.INTEGER: INTEGER,
    ColumnType.NUMBER: NUMBER,
    ColumnType.BOOLEAN: dt.Boolean(),
    ColumnType.DATE: dt.Date(),
    ColumnType.DATETIME: dt.Timestamp(timezone="UTC"),
    ColumnType.TIME: dt.Time(),
    ColumnType.JSON: dt.JSON(binary=True),
}

NUMERIC = frozenset({ColumnType.INTEGER, ColumnType.NUMBER})
ORDERED = NUMERIC | {ColumnType.TEXT, ColumnType.DATE, ColumnType.DATETIME, ColumnType.TIME}
COMPARABLE = ORDERED | {ColumnType.BOOLEAN}

SMALLEST_INTEGER, LARGEST_INTEGER = -(2**63), 2**63 - 1


def null_of(dtype: dt.DataType) -> ir.Value:
    """Null of a type. As a cast, because Ibis reads `x == <null literal>` as `x IS NULL`, which is another question."""
    return ibis.null().cast(dtype)


@dataclass(frozen=True, slots=True)
class Typed:
    """A compiled part: its type (None: `null`, which fits every type) and its value.

    An integer may be `wide`: a numeric that has not been brought back to 64 bits yet.
    """

    kind: ColumnType | None
    value: ir.Value
    wide: bool = False

    def settled(self) -> ir.Value:
        """The value in its kind's own Ibis type; an integer beyond 64 bits is null."""
        return narrow(self.value) if self.wide else self.value

    def widened(self) -> ir.Value:
        """An integer as a numeric without bounds."""
        return self.value if self.wide else self.value.cast(WIDE)

    def to(self, kind: ColumnType) -> ir.Value:
        """The settled value as `kind`: itself, an integer as a number, or null of that type."""
        if self.kind is None:
            return null_of(DTYPES[kind])
        return self.settled() if self.kind == kind else self.settled().cast(DTYPES[kind])


NULL = Typed(None, ibis.null())


def kind_of(dtype: dt.DataType) -> ColumnType | None:
    """The type of formulas that a column of this Ibis type has; None where formulas cannot use it."""
    rules = (
        (dt.String, ColumnType.TEXT),
        (dt.Boolean, ColumnType.BOOLEAN),
        (dt.Integer, ColumnType.INTEGER),
        ((dt.Floating, dt.Decimal), ColumnType.NUMBER),
        (dt.Date, ColumnType.DATE),
        (dt.Timestamp, ColumnType.DATETIME),
        (dt.Time, ColumnType.TIME),
        (dt.JSON, ColumnType.JSON),
    )
    return next((kind for types, kind in rules if isinstance(dtype, types)), None)


def column(value: ir.Value) -> Typed | None:
    """A column as formulas see it; None where its type is none of theirs.

    A narrow integer, a decimal, a timestamp without zone and a json come as the one type of their kind.
    """
    kind = kind_of(value.type())
    if kind is None:
        return None
    wanted = DTYPES[kind]
    return Typed(kind, value if value.type().copy(nullable=True) == wanted else value.cast(wanted))


def unify(kinds: Iterable[ColumnType | None]) -> ColumnType | None:
    """The type that values of these types have together; None where all are null. Raises ValueError where none is."""
    found = set(kinds) - {None}
    if len(found) <= 1:
        return next(iter(found), None)
    if found == NUMERIC:
        return ColumnType.NUMBER
    raise ValueError("no common type")


def between_or_null(value: ir.Value, below: float, above: float) -> ir.Value:
    """The value where it is strictly between the two bounds, else null. Names the value once only.

    GREATEST and LEAST pass over null, so a null ends at `below`, and what ends at a bound is null.
    """
    constant = constant_of(value)
    if constant is not None and below < constant < above:
        return value
    kind = value.type().copy(nullable=True)
    low, high = ibis.literal(str(below)).cast(kind), ibis.literal(str(above)).cast(kind)
    return ibis.least(ibis.greatest(value, low), high).nullif(high).nullif(low)


def narrow(value: ir.Value) -> ir.Value:
    """A whole numeric as a 64-bit integer, null beyond."""
    return between_or_null(value, SMALLEST_INTEGER - 1, LARGEST_INTEGER + 1).cast(INTEGER)


def whole(value: ir.Value) -> ir.Value:
    """A whole double as a 64-bit integer, null beyond and for NaN. The lower bound is the next double below -2**63."""
    return between_or_null(value, -9223372036854777856.0, 9223372036854775808.0).cast(INTEGER)


def constant_of(value: ir.Value) -> float | None:
    """The number that the value is where it is written in the formula, else None.

    A whole number that is used as a number is a literal in two casts.
    """
    operation, whole_numbers = value.op(), False
    while isinstance(operation, ops.Cast):
        whole_numbers = whole_numbers or operation.to.is_integer()
        operation = operation.arg
    if isinstance(operation, ops.Literal) and isinstance(operation.value, int | float | str):
        with contextlib.suppress(ValueError):
            number = float(operation.value)
            return number if number.is_integer() or not whole_numbers else None
    return None


def number_literal(value: float) -> ir.Value:
    """A double precision constant; a bare 1.5 would be numeric to PostgreSQL."""
    return ibis.literal(repr(value)).cast(NUMBER)


def integer_literal(value: int) -> ir.Value:
    """A 64-bit constant; a bare 5 would be an integer of 32 bits to PostgreSQL."""
    return ibis.literal(str(value)).cast(INTEGER)
