"""Formulas in plain Python: each operator and function of the table a second time, and random formulas made of them.

A random formula is made together with what it means, so that nothing of the project's own parser is trusted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from datasense_assets_tests.recipes.chooser import Chooser
from datasense_assets_tests.recipes.reference_conditions import COMPARE, equal
from datasense_assets_tests.recipes.reference_functions import RULES, Rule, fits
from datasense_assets_tests.recipes.relation import Loose, Relation, Undetermined, World

Cells = dict[str, Any]
ORDERED = ("integer", "number", "text", "date", "datetime", "time")
COMPARABLE = (*ORDERED, "boolean")
ALL = (*COMPARABLE, "json")
INEXACT = frozenset({"exp", "ln", "log", "power"})
"""Whose last digits are the C library's own; what then jumps (a comparison, a floor) is not tried on them."""
EITHER_NUMBER = frozenset(
    {"floor", "ceil", "trunc", "integer", "number", "boolean", "text", "concat", "is_null", "is_blank"}
)
"""Which take integers as they are beside numbers."""
CONTINUOUS = frozenset({"if", "case", "coalesce", "abs", "sqrt", "number"})


@dataclass(frozen=True)
class Node:
    """A formula's text, the type of its value and the value over a row. A wide integer may be beyond 64 bits."""

    text: str
    kind: str
    raw: Callable[[Cells, World], Any]
    wide: bool = False
    inexact: bool = False

    def value(self, row: Cells, world: World, kind: str | None = None) -> Any:
        """The settled value: an integer beyond 64 bits is null; as another type where one is asked for."""
        value = self.raw(row, world)
        if self.wide and value is not None and not -(2**63) <= value < 2**63:
            return None
        return float(value) if kind == "number" and value is not None else value


FORMULAS: dict[str, Node] = {}
"""What each random formula means, by its text."""


def formula(step: dict[str, Any], table: Relation, world: World) -> Relation:
    node = FORMULAS[step["formula"]]
    return table.with_column(step["column"], node.kind, [node.value(row, world) for row in table.dicts()])


def random_formula(choose: Chooser, table: Relation, function: str | None = None) -> Node:
    """A formula over the table's columns; of the function named, where one is."""
    maker = _Maker(choose, table)
    if function is not None:
        rule = choose.one([rule for rule in RULES if rule.name == function])
        node = maker.call(rule, choose.one(rule.results), 2)
    else:
        node = maker.of(choose.one(ALL), choose.between(1, 3))
    FORMULAS[node.text] = node
    return node


def plain(value: Any) -> Any:
    return float(value) if isinstance(value, (Decimal, Loose)) else value


def reference(name: str) -> str:
    return f"[{name.replace(']', ']]')}]"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


class _Maker:
    def __init__(self, choose: Chooser, table: Relation) -> None:
        self.choose = choose
        self.table = table

    def of(self, kind: str, depth: int) -> Node:
        """A formula of a type, so many levels deep at most."""
        if depth <= 0 or self.choose.chance(15):
            return self.leaf(kind)
        rules = [rule for rule in RULES if kind in rule.results]
        operators = {
            "integer": self.integer_operator,
            "number": self.number_operator,
            "boolean": self.boolean_operator,
        }
        if kind in operators and self.choose.chance(40):
            return operators[kind](depth)
        return self.call(self.choose.one(rules), kind, depth) if rules else self.leaf(kind)

    def leaf(self, kind: str) -> Node:
        names = [name for name, k in self.table.columns if k == kind]
        if names and not self.choose.chance(25):
            name = self.choose.one(names)
            return Node(reference(name), kind, lambda row, world: plain(row[name]))
        return self.constant(kind)

    def constant(self, kind: str) -> Node:
        if kind == "json" or self.choose.chance(10):
            names = [name for name, k in self.table.columns if k == kind]
            if kind == "json" and not names:
                raise Undetermined
            if kind == "json":
                return Node(reference(names[0]), kind, lambda row, world: row[names[0]])
            return Node(f"{kind}(null)", kind, lambda row, world: None)
        written, value = self.choose.one(_CONSTANTS[kind])
        return Node(written, kind, lambda row, world: value(world) if callable(value) else value)

    def argument(self, kind: str, depth: int) -> Node:
        """Of the type, or an integer where a number is taken."""
        if kind == "number" and self.choose.chance(30):
            return self.of("integer", depth)
        return self.of(kind, depth)

    def integer_operator(self, depth: int) -> Node:
        symbol = self.choose.one("+-*%")
        left, right = self.of("integer", depth - 1), self.of("integer", depth - 1)
        if self.choose.chance(15):
            return Node(f"-({left.text})", "integer", _strict(lambda a: -a, left), wide=True)
        return Node(
            f"({left.text} {symbol} {right.text})", "integer", _strict(_INTEGER[symbol], left, right), wide=True
        )

    def number_operator(self, depth: int) -> Node:
        symbol = self.choose.one("/+-*^%")
        left = self.argument("number", depth - 1)
        right = self.of("number", depth - 1) if symbol in "+-*%" else self.argument("number", depth - 1)
        if self.choose.chance(10) and left.kind == "number":
            return Node(f"-({left.text})", "number", _strict(lambda a: -a, left), inexact=left.inexact)

        def raw(row: Cells, world: World) -> Any:
            one, two = left.value(row, world, "number"), right.value(row, world, "number")
            return None if one is None or two is None else _NUMBER[symbol](one, two)

        inexact = left.inexact or right.inexact
        if inexact and symbol in "%^":
            raise Undetermined
        return Node(f"({left.text} {symbol} {right.text})", "number", raw, inexact=inexact or symbol == "^")

    def boolean_operator(self, depth: int) -> Node:
        symbol = self.choose.one(("and", "or", "not", *COMPARE, "<>"))
        if symbol == "not":
            inner = self.of("boolean", depth - 1)
            return Node(f"(not {inner.text})", "boolean", _strict(lambda a: not a, inner))
        if symbol in ("and", "or"):
            left, right = self.of("boolean", depth - 1), self.of("boolean", depth - 1)
            decisive = symbol == "or"

            def connected(row: Cells, world: World) -> Any:
                values = (left.value(row, world), right.value(row, world))
                if decisive in values:
                    return decisive
                return None if None in values else not decisive

            return Node(f"({left.text} {symbol} {right.text})", "boolean", connected)
        kind = self.choose.one(COMPARABLE if symbol in ("=", "!=", "<>") else ORDERED)
        left, right = self.argument(kind, depth - 1), self.of(kind, depth - 1)
        if left.inexact or right.inexact:
            raise Undetermined
        how = COMPARE[{"<>": "!="}.get(symbol, symbol)]

        def compared(row: Cells, world: World) -> Any:
            one, two = left.value(row, world, kind), right.value(row, world, kind)
            return None if one is None or two is None else equal(one, two, how)

        return Node(f"({left.text} {symbol} {right.text})", "boolean", compared)

    def call(self, rule: Rule, kind: str, depth: int) -> Node:
        """A call of the rule that gives the type."""
        written: list[str] = []
        arguments: list[tuple[Node | None, str]] = []
        exact = rule.name in EITHER_NUMBER or rule.together
        for wanted in rule.takes(self.choose, kind):
            if wanted.startswith("'"):
                written.append(wanted)
                arguments.append((None, wanted.strip("'")))
                continue
            # Of several numbers one at least is a number, or they would be integers together.
            node = self.of(wanted, depth - 1) if exact else self.argument(wanted, depth - 1)
            exact = exact and not (rule.together and wanted == "number")
            written.append(node.text)
            arguments.append((node, wanted))
        inexact = any(node is not None and node.inexact for node, _ in arguments)
        if inexact and rule.name not in CONTINUOUS:
            raise Undetermined
        inexact = inexact or rule.name in INEXACT
        name = self.choose.one((rule.name, rule.name.upper(), *rule.aliases))

        def raw(row: Cells, world: World) -> Any:
            values = [wanted if node is None else node.value(row, world, wanted) for node, wanted in arguments]
            if rule.strict and any(value is None for value in values):
                return None
            return fits(rule.value(world, *values), kind)

        return Node(f"{name}({', '.join(written)})", kind, raw, inexact=inexact)


def _strict(function: Callable[..., Any], *nodes: Node) -> Callable[[Cells, World], Any]:
    def raw(row: Cells, world: World) -> Any:
        values = [node.raw(row, world) if node.wide else node.value(row, world) for node in nodes]
        return None if any(value is None for value in values) else function(*values)

    return raw


def checked(function: Callable[[float, float], float]) -> Callable[[float, float], float]:
    """Beyond a double's range the build fails, if PostgreSQL works the part out at all, which only it knows."""

    def calculated(one: float, two: float) -> float:
        result = function(one, two)
        if (math.isinf(result) and math.isfinite(one) and math.isfinite(two)) or (result == 0 and one and two):
            raise Undetermined
        return result

    return calculated


def _of_numbers(name: str) -> Callable[[float, float], Any]:
    [rule] = [rule for rule in RULES if rule.name == name and "number" in rule.results]
    return lambda one, two: rule.value(None, one, two)


_INTEGER: dict[str, Callable[[int, int], int | None]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "%": lambda a, b: None if b == 0 else a % b,
}
_NUMBER: dict[str, Callable[[float, float], Any]] = {
    "+": lambda a, b: checked(lambda x, y: x + y)(a, b) if a + b else a + b,
    "-": lambda a, b: checked(lambda x, y: x - y)(a, b) if a - b else a - b,
    "*": checked(lambda a, b: a * b),
    "/": lambda a, b: None if b == 0 else checked(lambda x, y: x / y)(a, b),
    "^": _of_numbers("power"),
    "%": _of_numbers("mod"),
}


def _constants(kind: str, values: Sequence[str]) -> list[tuple[str, Any]]:
    from datasense_assets_tests.recipes import reference_casts as casts

    return [(f"{kind}({_quoted(v)})", lambda world, v=v: casts.read(v, kind, world.zone)) for v in values]


_CONSTANTS: dict[str, list[tuple[str, Any]]] = {
    "integer": [
        *((str(value), value) for value in (0, 1, 2, 3, 7, 100, 2**31, 2**63 - 1)),
        *((f"-{value}", -value) for value in (1, 3, 2**63)),
    ],
    "number": [
        ("0.5", 0.5),
        ("2.0", 2.0),
        ("1e2", 100.0),
        ("-1.5", -1.5),
        (".25", 0.25),
        ("0.0", 0.0),
        ("1e200", 1e200),
    ],
    "text": [
        *(
            (_quoted(text), text)
            for text in ("", "a", " b ", "it's", "%", "A,b", "12", "2026-02-28", "ज़िला", "😀", "e")
        ),
        ('"say ""so"""', 'say "so"'),
    ],
    "boolean": [("true", True), ("FALSE", False)],
    "date": [*_constants("date", ("2026-01-31", "2024-02-29", "1999-12-31")), ("today()", lambda world: world.today)],
    "datetime": [
        *_constants("datetime", ("2026-03-29T01:15:00Z", "2026-10-25 02:30", "2024-02-29 23:59:59.75")),
        ("now()", lambda world: world.now),
    ],
    "time": _constants("time", ("09:30", "23:59:59.5", "00:00:00")),
}
