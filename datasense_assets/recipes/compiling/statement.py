"""The SQL text of an ibis table, and the PostgreSQL type of an ibis data type."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.operations as ops
import ibis.expr.types as ir
import sqlglot as sg
import sqlglot.expressions as sge
from ibis.backends.sql.compilers.base import SQLGlotCompiler
from ibis.backends.sql.compilers.postgres import PostgresCompiler


class _Compiler(PostgresCompiler):  # type: ignore[misc] # ibis types it as Any
    """PostgreSQL as ibis writes it, but for lists that become rows."""

    __slots__ = ()

    def visit_TableUnnest(  # noqa: N802 - the name by which ibis finds it
        self, op: ops.TableUnnest, *, parent: Any, column: Any, column_name: str, offset: str | None, keep_empty: bool
    ) -> sge.Select:
        """Ibis's own makes names up, other ones each time, and of one recipe as many statements."""
        element, rows = (sg.to_identifier(name, quoted=True) for name in (column_name, "_ds_list"))
        own = (sg.column(name, table=parent.alias_or_name, quoted=True) for name in op.parent.schema.names)
        chosen: list[sge.Expr] = list(own)
        chosen.append(sg.column(element, table=rows))
        number = None
        if offset is not None:
            number = sg.to_identifier(offset, quoted=True)
            chosen.append((sg.column(number, table=rows) - 1).as_(number, quoted=True))
        alias = sge.TableAlias(this=rows, columns=[element])
        elements = sge.Unnest(expressions=[column], alias=alias, offset=number)
        on = sge.true() if keep_empty else None
        return sg.select(*chosen).from_(parent).join(elements, on=on, join_type="LEFT" if keep_empty else "CROSS")


_COMPILER = _Compiler()


def select_statement(table: ir.Table, columns: Mapping[tuple[str, str], tuple[str, ...]]) -> str:
    """One SELECT for PostgreSQL, tables qualified, without parameters and without a star over a stored table.

    `columns` holds the known columns by (schema, table). A star would follow the table when a load adds a column after
    the recipe was compiled. PostgresCompiler's own `to_sqlglot` is gone round, since it casts JSON to text.
    """
    query = SQLGlotCompiler.to_sqlglot(_COMPILER, table)
    _bracket_conditions(query)
    _count_from_one(query)
    for select in query.find_all(sge.Select):
        source = select.args.get("from_") or select.args.get("from")
        if source is None or not isinstance(source.this, sge.Table) or not source.this.db:
            continue
        if len(select.expressions) == 1 and isinstance(select.expressions[0], sge.Star):
            stored = source.this
            names = columns[(stored.db, stored.name)]
            select.set("expressions", [sg.column(name, table=stored.alias_or_name, quoted=True) for name in names])
    return str(query.sql(dialect="postgres", pretty=True))


def _count_from_one(query: sge.Expr) -> None:
    """Leaves ranks as PostgreSQL counts them, where ibis takes one off and the step puts it back.

    Of a bare row_number() that has to be 1, PostgreSQL stops numbering each group after its first row.
    """
    for more in list(query.find_all(sge.Add)):
        less = more.this.unnest()
        ones = isinstance(less, sge.Sub) and _is_one(more.expression) and _is_one(less.expression)
        if ones and isinstance(less.this, sge.Window):
            more.replace(less.this)


def _is_one(node: sge.Expr) -> bool:
    return isinstance(node, sge.Literal) and node.this == "1"


def _bracket_conditions(query: sge.Expr) -> None:
    """Puts brackets round the conditions that are operands of another operator.

    Ibis leaves them off where it merges selects, and PostgreSQL then reads another question: `NOT (a) IS NULL` is
    `NOT (a IS NULL)`, and `x IS NOT NULL AND a OR b` takes in rows without x.
    """
    for operator in query.find_all(sge.Binary, sge.Predicate):
        for place, operand in list(operator.args.items()):
            if isinstance(operand, list):
                operator.set(place, [_bracketed(operator, item) for item in operand])
            # The NOT NULL of `x IS NOT NULL` is no condition.
            elif isinstance(operand, sge.Expr) and not (isinstance(operator, sge.Is) and place == "expression"):
                operator.set(place, _bracketed(operator, operand))


def _bracketed(operator: sge.Expr, operand: sge.Expr) -> sge.Expr:
    if isinstance(operator, sge.Connector):
        # A row of one connector stays flat: sqlglot writes it without recursion. NOT and comparisons bind tighter.
        needed = isinstance(operand, sge.Connector) and type(operand) is not type(operator)
    elif isinstance(operand, sge.SubqueryPredicate):
        needed = False
    else:
        needed = isinstance(operand, (sge.Connector, sge.Not, sge.Predicate))
    return sge.paren(operand, copy=False) if needed else operand


def postgres_type(dtype: dt.DataType) -> str:
    """The type with which a column of the data type is declared, such as `bigint`; what is unknown is kept as text."""
    if dtype.is_decimal():
        precision, scale = getattr(dtype, "precision", None), getattr(dtype, "scale", None)
        return "numeric" if precision is None else f"numeric({precision}, {scale or 0})"
    if dtype.is_timestamp():
        return "timestamp" if getattr(dtype, "timezone", None) is None else "timestamptz"
    for name, declared in _DECLARED:
        if dtype == ibis.dtype(name).copy(nullable=dtype.nullable):
            return declared
    return "jsonb" if dtype.is_json() else "text"


_DECLARED = (
    ("int16", "smallint"),
    ("int8", "smallint"),
    ("int32", "integer"),
    ("int64", "bigint"),
    ("float32", "real"),
    ("float64", "double precision"),
    ("boolean", "boolean"),
    ("date", "date"),
    ("time", "time"),
    ("uuid", "uuid"),
)
