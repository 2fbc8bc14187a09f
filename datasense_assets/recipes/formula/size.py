"""How large a value is once it is SQL. An Ibis value shares its parts; SQL writes each out wherever it is used."""

from __future__ import annotations

import ibis.expr.operations as ops
import ibis.expr.types as ir

MOST_PARTS = 5_000
DEEPEST = 60
"""sqlglot takes up to nine stack frames a level and Python has a thousand; a recipe's own nesting needs some too."""

LEVEL = 10
FLAT_LEVEL = 1
FLAT = (ops.Add, ops.Multiply, ops.And, ops.Or)
"""A row of one of these costs sqlglot a tenth of a level for each."""


def fits(value: ir.Value) -> bool:
    """Whether the value can be written out as SQL in reasonable time and without a RecursionError."""
    parts, depth = _measure(value.op())
    return parts <= MOST_PARTS and depth <= DEEPEST * LEVEL


def _measure(root: ops.Node) -> tuple[int, int]:
    """Parts and depth (in tenths) of the tree, each shared part counted as often as it is used. Not recursive."""
    known: dict[ops.Node, tuple[int, int]] = {}
    waiting = [root]
    while waiting:
        node = waiting[-1]
        below = _operands(node)
        missing = [child for child in below if child not in known]
        if missing:
            waiting.extend(missing)
            continue
        waiting.pop()
        depths = [known[child][1] + LEVEL for child in below]
        if isinstance(node, FLAT) and type(below[0]) is type(node):
            depths[0] -= LEVEL - FLAT_LEVEL
        known[node] = (1 + sum(known[child][0] for child in below), max(depths, default=LEVEL))
    return known[root]


def _operands(node: ops.Node) -> list[ops.Node]:
    """The values that this one is made of; a table's column is made of nothing here."""
    if isinstance(node, ops.Field):
        return []
    found: list[ops.Node] = []
    for argument in node.args:
        several = argument if isinstance(argument, tuple) else (argument,)
        found += [operand for operand in several if isinstance(operand, ops.Value)]
    return found
