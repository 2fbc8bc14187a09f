"""Text to tree: lexing, parsing and naming every mistake of the text. Knows nothing of columns, functions and types."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from datasense_assets.recipes.formula.errors import FormulaError, FormulaErrors, error_at
from datasense_assets.recipes.formula.grammar import grammar, reference_text
from datasense_assets.recipes.formula.mistakes import clean
from datasense_assets.recipes.formula.names import KEYWORDS, bracketed, unbracketed
from datasense_assets.recipes.formula.recovery import RecoveringParser
from datasense_assets.recipes.formula.syntax import COMPARISONS, Chain, Node, Reference, walk

if TYPE_CHECKING:
    import ibis.expr.types as ir
    from lark import Token

    from datasense_assets.catalog.models import ColumnType

LONGEST_TEXT = 10_000
DEEPEST_NESTING = 40
"""Brackets, signs, calls and operators inside each other. SQL for more than this cannot be generated safely: sqlglot
recurses, and a formula must not end in a RecursionError."""


@dataclass(frozen=True, eq=False)
class Formula:
    """A formula that could be read. `text` is the user's own, `tree` what it says."""

    text: str
    tree: Node

    @property
    def references(self) -> tuple[str, ...]:
        """Names of the columns it refers to, each once, in the order of the text."""
        return tuple(dict.fromkeys(node.name for node in walk(self.tree) if isinstance(node, Reference)))

    def compile(self, columns: Mapping[str, ir.Value]) -> ir.Value:
        """The Ibis value over these columns, for PostgreSQL; raises FormulaErrors with every mistake found.

        Its type is one of text string, integer int64, number float64, boolean, date, datetime timestamp('UTC'), time
        and json jsonb; a column given as another width or as a decimal is brought to these.
        """
        from datasense_assets.recipes.formula.compile import compile_formula

        return compile_formula(self.text, self.tree, columns)

    def result_type(self, columns: Mapping[str, ir.Value]) -> ColumnType:
        """The type of the value over these columns; raises FormulaErrors as `compile` does."""
        from datasense_assets.recipes.formula.kinds import kind_of

        kind = kind_of(self.compile(columns).type())
        assert kind is not None  # noqa: S101 - compile gives no other type
        return kind


def parse_formula(text: str) -> Formula:
    """The formula that the text says; raises FormulaErrors with all mistakes of syntax."""
    return Formula(text, _tree(text, _tokens(text)))


def rename_reference(text: str, old: str, new: str) -> str:
    """`rename_references` of one column."""
    return rename_references(text, {old: new})


def rename_references(text: str, names: Mapping[str, str]) -> str:
    """The text with every reference to a column in `names` made one to its new name; the rest stays byte for byte.

    All at once, so two names may be exchanged. Raises FormulaErrors where the text is no formula, ValueError where a
    new name is one that no formula can hold.
    """
    for new in names.values():
        if not new or any(unwritable(character) for character in new):
            raise ValueError(f"{new!r} cannot be a column's name in a formula.")
    tokens = _tokens(text)
    _tree(text, tokens)
    parts: list[str] = []
    done = 0
    for token, following in zip(tokens, [*tokens[1:], None], strict=True):
        if token.type == "BRACKETED" and unbracketed(token) in names:
            written = bracketed(names[unbracketed(token)])
        elif token.type == "NAME" and str(token) in names and (following is None or following.type != "LPAR"):
            written = reference_text(names[str(token)])
        else:
            continue
        parts += [text[done : token.start_pos], written]
        done = _end(token)
    return "".join([*parts, text[done:]])


def unwritable(character: str) -> bool:
    """Whether PostgreSQL cannot hold the character: NUL and halves of surrogate pairs."""
    return character == "\x00" or "\ud800" <= character <= "\udfff"


def _tokens(text: str) -> list[Token]:
    """The words of the text, mistaken ones among them; raises FormulaErrors where there are too many to look at."""
    from lark import Token

    if len(text) > LONGEST_TEXT:
        message = f"The formula has {len(text):,} characters; {LONGEST_TEXT:,} is the most. Split it over two steps."
        raise FormulaErrors([error_at(text, LONGEST_TEXT, len(text) - LONGEST_TEXT, "too_complex", message)])
    bad = [index for index, character in enumerate(text) if unwritable(character)]
    if bad:
        message = "There is a character here that no table can hold. Take it out."
        raise FormulaErrors([error_at(text, index, 1, "syntax", message) for index in bad[:10]])
    return [
        Token.new_borrow_pos(token.lower().upper(), token, token)
        if token.type == "NAME" and token.lower() in KEYWORDS
        else token
        for token in grammar().lex(text)
    ]


def _tree(text: str, tokens: list[Token]) -> Node:
    """The tree of the words; raises FormulaErrors with every mistake among them."""
    cleaned = clean(text, tokens)
    errors = list(cleaned.errors)
    if cleaned.tokens or not errors:
        recovering = RecoveringParser(text, grammar().parse_interactive(start="formula"), cleaned)
        tree = recovering.parse()
        errors += recovering.errors
    if errors:
        raise FormulaErrors(errors)
    if not isinstance(tree, Node):
        raise FormulaErrors([error_at(text, 0, len(text), "syntax", "This cannot be read as a formula.")])
    _judge_depth(text, tree)
    _judge_comparisons(text, tree)
    return tree


def _judge_depth(text: str, tree: Node) -> None:
    """Raise FormulaErrors where the tree is higher than can be compiled."""
    if tree.depth <= DEEPEST_NESTING:
        return
    node = tree
    for _ in range(DEEPEST_NESTING):
        node = max(node.children(), key=lambda child: child.depth)
    raise FormulaErrors([too_deep(text, node.position, node.length)])


def _judge_comparisons(text: str, tree: Node) -> None:
    """Raise FormulaErrors for `a < b < c`, which mathematics knows and formulas do not."""
    chained = [
        node for node in walk(tree) if isinstance(node, Chain) and len(node.rest) > 1 and node.rest[0][0] in COMPARISONS
    ]
    message = "Only two values can be compared at once. Write a < b and b < c for a < b < c."
    if chained:
        raise FormulaErrors([error_at(text, node.position, node.length, "syntax", message) for node in chained])


def too_deep(text: str, position: int, length: int) -> FormulaError:
    """The error for nesting beyond DEEPEST_NESTING."""
    message = (
        f"The formula is nested more than {DEEPEST_NESTING} levels deep here. "
        "Work out the inner part in a formula step of its own and use its column."
    )
    return error_at(text, position, length, "too_complex", message)


def _end(token: Token) -> int:
    assert token.start_pos is not None  # noqa: S101 - every token of a lexer has its place
    return token.start_pos + len(token)
