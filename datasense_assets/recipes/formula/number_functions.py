"""Numbers: the arithmetic operators and the functions of the section Numbers, as Ibis values.

Where mathematics has no answer, and where the answer is beyond the type, the value is null: one odd row must not fail a
whole table. Arguments come in their declared types.
"""

from __future__ import annotations

import math

import ibis
import ibis.expr.types as ir

from datasense_assets.recipes.formula import postgres
from datasense_assets.recipes.formula.kinds import (
    NUMBER,
    WIDE,
    between_or_null,
    constant_of,
    integer_literal,
    narrow,
    null_of,
    number_literal,
    whole,
)

LARGEST_EXPONENT = 700
"""The number e to this is near the end of a double's range."""
SMALLEST_DOUBLE = 5e-324
SMALLEST_DIGIT = 300
"""A numeric with more decimals may be too small for a double, which PostgreSQL refuses."""
FARTHEST_DIGIT = 30
LARGE = 1e12
"""From here on 15 digits leave a number fewer than three decimals."""


def divided(left: ir.NumericValue, right: ir.NumericValue) -> ir.Value:
    """True division of doubles; by zero null."""
    return left / right.nullif(number_literal(0.0))


def remainder(left: ir.Value, right: ir.Value) -> ir.Value:
    """What is left of a division of two numerics, with the sign of `right` as in a spreadsheet; by zero null."""
    divisor = right.nullif(ibis.literal("0").cast(WIDE))
    return postgres.remainder(postgres.remainder(left, divisor) + divisor, divisor)


def remainder_of_numbers(left: ir.Value, right: ir.Value) -> ir.Value:
    """As `remainder`, of doubles."""
    return postgres.rounded(remainder(decimal(left), decimal(right)), SMALLEST_DIGIT).cast(NUMBER)


def decimal(value: ir.Value) -> ir.Value:
    """A number in decimal, of 15 digits as people write it: 0.1 + 0.2 is 0.3, and 1.005 * 100 is 100.5.

    A large one keeps all that tell it from others: PostgreSQL's cast makes 0 of the sixteenth digit.
    """
    constant = constant_of(value)
    if constant is not None and abs(constant) < LARGE:
        return value.cast(WIDE)
    return ibis.ifelse(value.abs() < number_literal(LARGE), value.cast(WIDE), value.cast("string").cast(WIDE))


def mod(left: ir.Value, right: ir.Value) -> ir.Value:
    """As `remainder`, of two 64-bit integers or two doubles."""
    if left.type().is_integer():
        return narrow(remainder(left.cast(WIDE), right.cast(WIDE)))
    return remainder_of_numbers(left, right)


def power(base: ir.FloatingValue, exponent: ir.FloatingValue) -> ir.Value:
    """`base ^ exponent` of doubles; null for a root of a negative, for 0 to a negative, and beyond the range."""
    zero = number_literal(0.0)
    known = constant_of(exponent)
    if known is not None and 1 <= known <= LARGEST_EXPONENT and known.is_integer():
        farthest = math.exp(LARGEST_EXPONENT / known)
        return ibis.cases(
            (base.abs() > number_literal(farthest), null_of(NUMBER)),
            (base.abs() < number_literal(1 / farthest), zero),
            else_=base**exponent,
        )
    size = exponent.cast(WIDE) * logarithm(base.abs()).cast(WIDE)
    return ibis.cases(
        ((base < zero) & (exponent != postgres.floor(exponent)), null_of(NUMBER)),
        ((base == zero) & (exponent < zero), null_of(NUMBER)),
        (size > LARGEST_EXPONENT, null_of(NUMBER)),
        (size < -LARGEST_EXPONENT, zero),
        else_=base**exponent,
    )


def absolute(value: ir.NumericValue) -> ir.Value:
    """The value without its sign."""
    return narrow(value.cast(WIDE).abs()) if value.type().is_integer() else value.abs()


def rounded(value: ir.Value, digits: ir.IntegerValue | int) -> ir.Value:
    """Rounded, halves away from zero, in decimal: 2.675 becomes 2.68."""
    return postgres.rounded(decimal(value), counted(digits, -FARTHEST_DIGIT, FARTHEST_DIGIT)).cast(NUMBER)


def floor(value: ir.NumericValue) -> ir.Value:
    """The next integer below."""
    return value if value.type().is_integer() else whole(postgres.floor(value))


def ceil(value: ir.NumericValue) -> ir.Value:
    """The next integer above."""
    return value if value.type().is_integer() else whole(postgres.ceil(value))


def truncated(value: ir.NumericValue) -> ir.Value:
    """The integer that is left when the decimals are cut off."""
    return value if value.type().is_integer() else whole(postgres.truncated(value))


def sign(value: ir.NumericValue) -> ir.Value:
    """-1, 0 or 1."""
    return whole(value.cast(NUMBER).sign())


def square_root(value: ir.FloatingValue) -> ir.Value:
    """Null for a negative: the sentinel is the negative next to zero, so that nothing slips between."""
    tiny = number_literal(-SMALLEST_DOUBLE)
    return ibis.greatest(value, tiny).nullif(tiny).sqrt()


def exponential(value: ir.FloatingValue) -> ir.Value:
    """The number e to the value; null beyond the range, 0 far below zero."""
    return ibis.cases(
        (value > number_literal(float(LARGEST_EXPONENT)), null_of(NUMBER)),
        (value < number_literal(float(-LARGEST_EXPONENT)), number_literal(0.0)),
        else_=value.exp(),
    )


def logarithm(value: ir.FloatingValue) -> ir.FloatingValue:
    """Natural logarithm; null for zero and below."""
    zero = number_literal(0.0)
    return ibis.greatest(value, zero).nullif(zero).ln()


def logarithm_to_base(value: ir.FloatingValue, base: ir.FloatingValue | int) -> ir.Value:
    """Logarithm to a base, 10 where none is given; null where value or base is zero or below, or the base is 1."""
    if isinstance(base, int):
        zero = number_literal(0.0)
        return ibis.greatest(value, zero).nullif(zero).log10()
    return divided(logarithm(value), logarithm(base))


def counted(value: ir.IntegerValue | int, least: int, most: int) -> ir.Value:
    """A count for a PostgreSQL function that takes a 32-bit integer; null outside `least` to `most`."""
    if isinstance(value, int):
        return ibis.literal(value, "int32")
    return between_or_null(value, least - 1, most + 1).cast("int32")


def counted_at_most(value: ir.IntegerValue, least: int, most: int) -> ir.Value:
    """A count of which more than `most` is as good as `most`; null below `least`."""
    low, high = integer_literal(least - 1), integer_literal(most)
    return ibis.least(ibis.greatest(value, low), high).nullif(low).cast("int32")


def smallest(*values: ir.Value) -> ir.Value:
    """The smallest that is not null."""
    return ibis.least(*values)


def largest(*values: ir.Value) -> ir.Value:
    """The largest that is not null."""
    return ibis.greatest(*values)
