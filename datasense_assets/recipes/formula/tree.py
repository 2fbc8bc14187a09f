"""What each rule of formula.lark builds. The parser calls it from the bottom up, so no text makes it recurse."""

from __future__ import annotations

from lark import Token, Transformer, v_args

from datasense_assets.recipes.formula.names import unbracketed
from datasense_assets.recipes.formula.syntax import Call, Chain, Constant, Node, Number, Prefixed, Reference, Text

CONSTANTS = {"true": True, "false": False, "null": None}


@v_args(inline=True)
class TreeBuilder(Transformer[Token, Node]):
    """One method a rule or alias of the grammar."""

    def formula(self, value: Node) -> Node:
        """The whole text."""
        return value

    def number(self, token: Token) -> Node:
        """`12.5`."""
        return Number(*_place(token), 1, str(token))

    def text(self, token: Token) -> Node:
        """`'text'`, the quote doubled inside."""
        quote = token[0]
        return Text(*_place(token), 1, token[1:-1].replace(quote * 2, quote))

    def constant(self, token: Token) -> Node:
        """`true`."""
        return Constant(*_place(token), 1, CONSTANTS[token.lower()])

    def bare_reference(self, token: Token) -> Node:
        """`district`."""
        return Reference(*_place(token), 1, str(token))

    def bracketed_reference(self, token: Token) -> Node:
        """`[Name of the district]`."""
        return Reference(*_place(token), 1, unbracketed(token))

    def arguments(self, *children: Node | Token) -> tuple[Node, ...]:
        """`a, b, c`."""
        return tuple(child for child in children if isinstance(child, Node))

    def call(self, name: Token, _left: Token, arguments: tuple[Node, ...] | None, right: Token) -> Node:
        """`f(a, b)`."""
        position, _ = _place(name)
        depth = 1 + max((argument.depth for argument in arguments or ()), default=0)
        return Call(position, _after(right) - position, depth, str(name), arguments or ())

    def group(self, _left: Token, value: Node, _right: Token) -> Node:
        """`(a)`: the value itself; brackets are counted before parsing."""
        return value

    def prefixed(self, operator: Token, operand: Node) -> Node:
        """`-a`, `not a`."""
        position, _ = _place(operator)
        length = operand.position + operand.length - position
        return Prefixed(position, length, operand.depth + 1, operator.lower(), operand)

    def chain(self, *children: Node | Token) -> Node:
        """`a + b - c`."""
        operands = [child for child in children if isinstance(child, Node)]
        operators = [str(child).lower() for child in children if isinstance(child, Token)]
        position = operands[0].position
        length = operands[-1].position + operands[-1].length - position
        depth = 1 + max(operand.depth for operand in operands)
        return Chain(position, length, depth, operands[0], tuple(zip(operators, operands[1:], strict=True)))


def _place(token: Token) -> tuple[int, int]:
    assert token.start_pos is not None  # noqa: S101 - tokens come from a lexer or are given a place
    return token.start_pos, len(token)


def _after(token: Token) -> int:
    position, length = _place(token)
    return position + length
