"""The operators: which types each takes, what it gives, and what to write instead where it does not fit."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import ibis.expr.types as ir

from datasense_assets.catalog.models import ColumnType
from datasense_assets.recipes.formula import number_functions as numbers
from datasense_assets.recipes.formula.kinds import COMPARABLE, NULL, NUMERIC, ORDERED, Typed, unify
from datasense_assets.recipes.formula.syntax import COMPARISONS
from datasense_assets.recipes.formula.wording import NOUNS, conversion_hint

ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {"+": operator.add, "-": operator.sub, "*": operator.mul}
COMPARED: dict[str, Callable[[Any, Any], Any]] = {
    "=": operator.eq,
    "<>": operator.ne,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
DAYS = frozenset({ColumnType.DATE, ColumnType.DATETIME})
LEFT, RIGHT, BOTH = 0, 1, 2


class OperandError(ValueError):
    """An operand that does not fit; `side` is LEFT, RIGHT or BOTH."""

    def __init__(self, side: int, message: str, suggestion: str | None = None) -> None:
        """Keep the parts."""
        super().__init__(message)
        self.side = side
        self.suggestion = suggestion


def combined(symbol: str, left: Typed, right: Typed, shown: tuple[str, str]) -> Typed:
    """`left symbol right`; `shown` is how the two are written. Raises OperandError where they do not fit."""
    if symbol in {"and", "or"}:
        return _connected(symbol, left, right, shown)
    if symbol in COMPARISONS:
        return _compared(symbol, left, right, shown)
    return _calculated(symbol, left, right, shown)


def prefixed(symbol: str, operand: Typed, shown: str) -> Typed:
    """`-operand`, `+operand` or `not operand`. Raises OperandError where it does not fit."""
    if symbol == "not":
        return Typed(ColumnType.BOOLEAN, ~_condition(symbol, operand, shown, LEFT))
    _judge_numeric(symbol, (operand,), (shown,))
    if symbol == "+" or operand.kind is None:
        return operand
    if operand.kind == ColumnType.INTEGER:
        return Typed(ColumnType.INTEGER, -operand.widened(), wide=True)
    return Typed(ColumnType.NUMBER, -operand.value)


def _calculated(symbol: str, left: Typed, right: Typed, shown: tuple[str, str]) -> Typed:
    _judge_numeric(symbol, (left, right), shown)
    kind = unify((left.kind, right.kind))
    if kind is None:
        return NULL
    if kind == ColumnType.INTEGER and symbol not in {"/", "^"}:
        first, second = _wide(left), _wide(right)
        made = numbers.remainder(first, second) if symbol == "%" else ARITHMETIC[symbol](first, second)
        return Typed(kind, made, wide=True)
    number = ColumnType.NUMBER
    first, second = left.to(number), right.to(number)
    functions = {"/": numbers.divided, "%": numbers.remainder_of_numbers, "^": numbers.power, **ARITHMETIC}
    return Typed(number, functions[symbol](first, second))


def _wide(operand: Typed) -> ir.Value:
    return (
        Typed(ColumnType.INTEGER, operand.to(ColumnType.INTEGER)).widened()
        if operand.kind is None
        else operand.widened()
    )


def _judge_numeric(symbol: str, operands: tuple[Typed, ...], shown: tuple[str, ...]) -> None:
    kinds = [operand.kind for operand in operands]
    for side, (kind, written) in enumerate(zip(kinds, shown, strict=True)):
        if kind is None or kind in NUMERIC:
            continue
        start = f"{symbol} works on numbers, but {written} is {NOUNS[kind]}."
        if kind == ColumnType.TEXT and symbol == "+" and len(operands) == 2:
            joined = f"concat({', '.join(shown)})"
            raise OperandError(side, f"{start} To join text, write {joined}; to add it, number({written}).", joined)
        if kind in DAYS and symbol in {"+", "-"} and len(operands) == 2:
            both = set(kinds) <= DAYS
            wanted = (
                f"date_diff({shown[1]}, {shown[0]}, 'day')"
                if both
                else f"date_add({written}, {symbol.strip('+')}1, 'day')"
            )
            raise OperandError(side, f"{start} Write {wanted}.", wanted)
        if kind == ColumnType.BOOLEAN:
            wanted = f"if({written}, 1, 0)"
            raise OperandError(side, f"{start} Write {wanted}.", wanted)
        hint, suggestion = conversion_hint(written, kind, NUMERIC)
        raise OperandError(side, f"{start} {hint}".strip(), suggestion)


def _connected(symbol: str, left: Typed, right: Typed, shown: tuple[str, str]) -> Typed:
    first = _condition(symbol, left, shown[0], LEFT)
    second = _condition(symbol, right, shown[1], RIGHT)
    return Typed(ColumnType.BOOLEAN, first & second if symbol == "and" else first | second)


def _condition(symbol: str, operand: Typed, shown: str, side: int) -> Any:
    if operand.kind not in {None, ColumnType.BOOLEAN}:
        kind = operand.kind
        assert kind is not None  # noqa: S101 - excluded above
        hint, suggestion = conversion_hint(shown, kind, {ColumnType.BOOLEAN})
        hint = hint or f"Write a comparison with {shown}."
        raise OperandError(
            side, f"{symbol} works on conditions (true or false), but {shown} is {NOUNS[kind]}. {hint}", suggestion
        )
    return operand.to(ColumnType.BOOLEAN)


def _compared(symbol: str, left: Typed, right: Typed, shown: tuple[str, str]) -> Typed:
    if left.kind is None or right.kind is None:
        other = shown[1] if left.kind is None else shown[0]
        wanted = f"is_null({other})" if symbol == "=" else f"not is_null({other})"
        raise OperandError(BOTH, f"Nothing compares with null, not even null. Write {wanted}.", wanted)
    try:
        kind = unify((left.kind, right.kind))
    except ValueError:
        raise _different(left.kind, right.kind, shown) from None
    if kind not in (COMPARABLE if symbol in {"=", "<>", "!="} else ORDERED):
        hint = "Compare text(...) of it." if kind == ColumnType.JSON else "Use = or <>, or the condition itself."
        raise OperandError(BOTH, f"{symbol} does not work on {NOUNS[kind]} values. {hint}")
    if left.kind != right.kind:
        return Typed(ColumnType.BOOLEAN, COMPARED[symbol](left.to(ColumnType.NUMBER), right.to(ColumnType.NUMBER)))
    return Typed(ColumnType.BOOLEAN, COMPARED[symbol](left.settled(), right.settled()))


def _different(left: ColumnType, right: ColumnType, shown: tuple[str, str]) -> OperandError:
    """The error for two types that do not compare; the hint converts the side that is text, else the richer one."""
    start = f"{shown[0]} is {NOUNS[left]} and {shown[1]} is {NOUNS[right]}; only values of one type can be compared."
    tries = [(RIGHT, right, left), (LEFT, left, right)]
    if left == ColumnType.TEXT or (left == ColumnType.DATETIME and right == ColumnType.DATE):
        tries.reverse()
    for side, given, wanted in tries:
        hint, suggestion = conversion_hint(shown[side], given, {wanted})
        if suggestion and not (wanted == ColumnType.TEXT and given != ColumnType.JSON):
            if wanted == ColumnType.BOOLEAN and given in NUMERIC:
                continue
            return OperandError(BOTH, f"{start} {hint}", suggestion)
    texts = [
        written if kind == ColumnType.TEXT else f"text({written})"
        for kind, written in zip((left, right), shown, strict=True)
    ]
    return OperandError(BOTH, f"{start} To compare them as text, compare {texts[0]} and {texts[1]}.")
