"""The function table and the operators as rows for documentation."""

from __future__ import annotations

from dataclasses import dataclass

from datasense_assets.recipes.formula.functions import FUNCTIONS


@dataclass(frozen=True, slots=True)
class FunctionReference:
    """One function: `examples` are (formula, what it gives as text or None for null)."""

    name: str
    signature: str
    section: str
    meaning: str
    examples: tuple[tuple[str, str | None], ...]
    aliases: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class OperatorReference:
    """One group of operators of the same precedence."""

    operators: tuple[str, ...]
    meaning: str
    examples: tuple[tuple[str, str | None], ...]


OPERATORS: tuple[OperatorReference, ...] = (
    OperatorReference(("-", "+"), "Sign of a number; binds tighter than ^.", (("-2 ^ 2", "4"),)),
    OperatorReference(
        ("^",),
        "Power, from left to right; gives a number, null where there is none.",
        (("2 ^ 3 ^ 2", "64"), ("0 ^ -1", None)),
    ),
    OperatorReference(
        ("*", "/", "%"),
        "Product, true division, and what is left of a division (with the divisor's sign); by zero null.",
        (("7 / 2", "3.5"), ("7 / 0", None), ("-7 % 3", "2")),
    ),
    OperatorReference(
        ("+", "-"),
        "Sum and difference of numbers; of two integers an integer, null beyond 64 bits.",
        (("1 + 2 - 4", "-1"),),
    ),
    OperatorReference(
        ("=", "<>", "!=", "<", "<=", ">", ">="),
        "Comparison of two values of one type; with null it is null. Case matters in text.",
        (("2 = 2.0", "true"), ("'a' <> 'A'", "true")),
    ),
    OperatorReference(("not",), "Whether the condition is false; null stays null.", (("not 1 > 2", "true"),)),
    OperatorReference(("and",), "Whether both conditions are true.", (("1 < 2 and 2 < 1", "false"),)),
    OperatorReference(("or",), "Whether one condition is true.", (("null or true", "true"),)),
)
"""From the tightest to the loosest."""


def function_reference() -> list[FunctionReference]:
    """Every function, in the order of the table: by section, the commonest first."""
    return [
        FunctionReference(
            row.name,
            row.signature,
            row.section,
            row.meaning,
            tuple((example.formula, example.result) for example in row.examples),
            row.aliases,
        )
        for row in FUNCTIONS
    ]


def operator_reference() -> list[OperatorReference]:
    """Every operator, the tightest first."""
    return list(OPERATORS)
