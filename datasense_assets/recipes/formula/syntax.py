"""The tree of a formula: what was written, with its place, before anything is known of columns and functions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

COMPARISONS = frozenset({"=", "<>", "!=", "<", "<=", ">", ">="})


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Node:
    """A part of the text: `position` and `length` in characters; `depth` is the height of the tree below."""

    position: int
    length: int
    depth: int

    def children(self) -> tuple[Node, ...]:
        """The parts of which this one is made."""
        return ()


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Number(Node):
    """A number, kept as written."""

    written: str


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Text(Node):
    """A text, quotes taken off."""

    value: str


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Constant(Node):
    """`true`, `false` or `null`."""

    value: bool | None


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Reference(Node):
    """A column's name, brackets taken off."""

    name: str


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Call(Node):
    """A function's name as written and its arguments."""

    name: str
    arguments: tuple[Node, ...]

    def children(self) -> tuple[Node, ...]:
        """The arguments."""
        return self.arguments


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Prefixed(Node):
    """`-x`, `+x` or `not x`."""

    operator: str
    operand: Node

    def children(self) -> tuple[Node, ...]:
        """The operand."""
        return (self.operand,)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Chain(Node):
    """Operators of one precedence in a row, `a - b + c`, to be taken from left to right."""

    first: Node
    rest: tuple[tuple[str, Node], ...]

    def children(self) -> tuple[Node, ...]:
        """The operands."""
        return (self.first, *(operand for _, operand in self.rest))


def walk(node: Node) -> Iterator[Node]:
    """The node and all below it, in the order of the text. Not recursive, so that depth can be judged by walking."""
    waiting = [node]
    while waiting:
        current = waiting.pop()
        yield current
        waiting.extend(reversed(current.children()))
