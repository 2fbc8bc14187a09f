"""Tree to Ibis: looking up columns and functions, checking types, and collecting every mistake with its place."""

from __future__ import annotations

from collections.abc import Mapping

import ibis
import ibis.expr.types as ir

from datasense_assets.catalog.models import ColumnType
from datasense_assets.recipes.formula import kinds, operators
from datasense_assets.recipes.formula.calls import ArgumentProblem, called, find_function
from datasense_assets.recipes.formula.errors import MOST_ERRORS, FormulaError, FormulaErrors, error_at, nearest
from datasense_assets.recipes.formula.grammar import reference_text
from datasense_assets.recipes.formula.kinds import Typed
from datasense_assets.recipes.formula.operators import OperandError
from datasense_assets.recipes.formula.size import fits
from datasense_assets.recipes.formula.syntax import Call, Chain, Constant, Node, Number, Prefixed, Reference, Text

LONGEST_SHOWN = 40


def compile_formula(text: str, tree: Node, columns: Mapping[str, ir.Value]) -> ir.Value:
    """The value of the tree over the columns; raises FormulaErrors with all mistakes."""
    compiler = _Compiler(text, columns)
    result = compiler.value_of(tree)
    if result is not None and result.kind is None:
        compiler.note(
            tree, "type_mismatch", "This is always null, of no type. Say which, e.g. text(null) or number(null)."
        )
    if compiler.errors or result is None:
        raise FormulaErrors(compiler.errors[:MOST_ERRORS])
    value = result.settled()
    if not fits(value):
        compiler.note(
            tree,
            "too_complex",
            "The formula is too large once its functions are written out in SQL. "
            "Work out a part of it in a formula step of its own and use its column.",
        )
        raise FormulaErrors(compiler.errors)
    return value


class _Compiler:
    """One formula over one set of columns. A part that cannot be compiled is None, and what holds it says no more."""

    def __init__(self, text: str, columns: Mapping[str, ir.Value]) -> None:
        self.errors: list[FormulaError] = []
        self._text = text
        self._columns = columns
        self._known: dict[str, Typed | None] = {}

    def note(self, node: Node, code: str, message: str, suggestion: str | None = None) -> None:
        """Remember a mistake at a node."""
        self.errors.append(error_at(self._text, node.position, node.length, code, message, suggestion))

    def value_of(self, node: Node) -> Typed | None:
        """The compiled node. Recursive; the parser has limited the depth."""
        match node:
            case Number():
                return self._number(node, node.written)
            case Text():
                return Typed(ColumnType.TEXT, ibis.literal(node.value, "string"))
            case Constant():
                return kinds.NULL if node.value is None else Typed(ColumnType.BOOLEAN, ibis.literal(node.value))
            case Reference():
                return self._reference(node)
            case Prefixed():
                return self._prefixed(node)
            case Chain():
                return self._chain(node)
            case Call():
                return self._call(node)
        raise TypeError(f"{type(node).__name__} is no part of a formula.")

    def _number(self, node: Node, written: str) -> Typed | None:
        if written.lstrip("-").isdigit():
            integer = int(written)
            if kinds.SMALLEST_INTEGER <= integer <= kinds.LARGEST_INTEGER:
                return Typed(ColumnType.INTEGER, kinds.integer_literal(integer))
            self.note(
                node,
                "invalid_value",
                f"An integer has at most 19 digits. Write it as a number: {written}.0",
                f"{written}.0",
            )
            return None
        number = float(written)
        if abs(number) == float("inf"):
            self.note(node, "invalid_value", "The number is too large; the largest is about 1.7e308.")
            return None
        return Typed(ColumnType.NUMBER, kinds.number_literal(number))

    def _reference(self, node: Reference) -> Typed | None:
        if node.name in self._columns:
            if node.name not in self._known:
                self._known[node.name] = kinds.column(self._columns[node.name])
            found = self._known[node.name]
            if found is None:
                dtype = self._columns[node.name].type()
                self.note(
                    node, "type_mismatch", f"{self._shown(node)} has the type {dtype}, which formulas cannot use."
                )
            return found
        suggestion = nearest(node.name, list(self._columns))
        message = f"There is no column {_shortened(node.name)}."
        if suggestion is not None:
            message += f" Did you mean {reference_text(suggestion)}?"
        elif find_function(node.name):
            message += f" To call the function, write {node.name}(...); for text, write it between quotes."
        elif self._columns:
            some = [reference_text(name) for name in list(self._columns)[:8]]
            message += f" There are {_shortened(', '.join(some), 200)}; text goes between quotes."
        self.note(node, "unknown_column", message, suggestion)
        return None

    def _prefixed(self, node: Prefixed) -> Typed | None:
        if node.operator == "-" and isinstance(node.operand, Number):
            return self._number(node, f"-{node.operand.written}")
        operand = self.value_of(node.operand)
        if operand is None:
            return None
        try:
            return operators.prefixed(node.operator, operand, self._shown(node.operand))
        except OperandError as problem:
            self.note(node.operand, "type_mismatch", str(problem), problem.suggestion)
            return None

    def _chain(self, node: Chain) -> Typed | None:
        result = self.value_of(node.first)
        before: Node = node.first
        for symbol, operand in node.rest:
            right = self.value_of(operand)
            both = Node(before.position, operand.position + operand.length - before.position, 1)
            if result is not None and right is not None:
                try:
                    result = operators.combined(symbol, result, right, (self._shown(before), self._shown(operand)))
                except OperandError as problem:
                    place = (before, operand, both)[problem.side]
                    self.note(place, "type_mismatch", str(problem), problem.suggestion)
                    result = None
            else:
                result = None
            before = both
        return result

    def _call(self, node: Call) -> Typed | None:
        row = find_function(node.name)
        arguments = [self.value_of(argument) for argument in node.arguments]
        try:
            return called(row, node, arguments, [self._shown(argument) for argument in node.arguments], self._columns)
        except ArgumentProblem as problem:
            for place, code, message, suggestion in problem.problems:
                self.note(place, code, message, suggestion)
            return None

    def _shown(self, node: Node) -> str:
        return _shortened(" ".join(self._text[node.position : node.position + node.length].split()))


def _shortened(written: str, longest: int = LONGEST_SHOWN) -> str:
    return written if len(written) <= longest else f"{written[: longest - 3]}..."
