"""A recipe's checks: what is wrong with them, and the SQL that counts the rows which break each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import ibis
import ibis.expr.types as ir

from datasense_assets.recipes.compiling.frame import Frame
from datasense_assets.recipes.compiling.kinds import BadLiteral, check_literal, kind_of, literal
from datasense_assets.recipes.compiling.statement import select_statement
from datasense_assets.recipes.errors import RecipeError, nearest
from datasense_assets.recipes.recipe import AcceptedValuesCheck, Check, NotNullCheck, Recipe, UniqueCheck


@dataclass(frozen=True)
class CheckQuery:
    """One check over the built table: `sql` gives one number, 0 when the promise holds."""

    name: str
    severity: Literal["warn", "error"]
    sql: str


def check_name(index: int, check: Check) -> str:
    """A name for the check within its recipe, legal as an identifier and the same at every load."""
    return f"check_{index + 1}_{check.check}"


def check_queries(recipe: Recipe, schema: str, columns: ibis.Schema) -> list[CheckQuery]:
    """The recipe's checks over its built table in `schema`, whose columns are the compiled ones."""
    table = ibis.table(columns, name=recipe.ident, database=schema)
    known = {(schema, recipe.ident): tuple(columns.names)}
    return [
        CheckQuery(check_name(i, check), check.severity, select_statement(_broken(check, table), known))
        for i, check in enumerate(recipe.checks)
    ]


def _broken(check: Check, table: ir.Table) -> ir.Table:
    if isinstance(check, NotNullCheck):
        return table.filter(table[check.column].isnull()).count().name("broken").as_table()
    if isinstance(check, UniqueCheck):
        keys = [table[name] for name in check.columns]
        whole = table.filter(*(key.notnull() for key in keys))
        sizes = whole.group_by([whole[name] for name in check.columns]).aggregate(n=whole.count())
        return ibis.coalesce(sizes.filter(sizes.n > 1).n.sum(), 0).name("broken").as_table()
    if isinstance(check, AcceptedValuesCheck):
        column = table[check.column]
        accepted = [literal(value, kind_of(column)) for value in check.values]
        return table.filter(column.notnull() & ~column.isin(accepted)).count().name("broken").as_table()
    rows = table.count()
    too_many = (rows > check.max).ifelse(rows - check.max, 0) if check.max is not None else 0
    return (rows < check.min).ifelse(check.min - rows, too_many).name("broken").as_table()


def check_errors(recipe: Recipe, frame: Frame) -> list[RecipeError]:
    """Checks on columns that the result does not have, or with values of another type."""
    return [error for i, check in enumerate(recipe.checks) for error in _errors(check, f"checks[{i}]", frame)]


def _errors(check: Check, path: str, frame: Frame) -> Iterator[RecipeError]:
    named: list[tuple[str, str]] = []
    if isinstance(check, UniqueCheck):
        named = [(f"{path}.columns[{i}]", name) for i, name in enumerate(check.columns)]
    elif isinstance(check, (NotNullCheck, AcceptedValuesCheck)):
        named = [(f"{path}.column", check.column)]
    for place, name in named:
        if not frame.has(name) and not frame.is_open:
            suggestion = nearest(name, frame.names)
            hint = f"did you mean {suggestion!r}?" if suggestion else "it has " + ", ".join(frame.names) + "."
            message = f"{place}: the result has no column {name!r} to check; {hint}"
            yield RecipeError("unknown_column", place, message, suggestion)
    if isinstance(check, AcceptedValuesCheck) and check.column in set(frame.table.columns) - frame.placeholders:
        kind = kind_of(frame.table[check.column])
        for i, value in enumerate(check.values):
            try:
                check_literal(value, kind)
            except BadLiteral as error:
                place = f"{path}.values[{i}]"
                yield RecipeError("bad_literal", place, f"{place}: {check.column!r} is {kind}, and {error}.")
