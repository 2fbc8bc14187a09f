"""Checks over a table: what is wrong with them, which rows break them, and the SQL that counts those rows.

All checks of single rows share one scan of the table; a key that must be unique, or found elsewhere, takes a query of
its own.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ibis
import ibis.expr.types as ir

from datasense_assets.catalog.models import ColumnType
from datasense_assets.recipes.compiling.conditions import compile_condition, read_literal, read_pattern
from datasense_assets.recipes.compiling.frame import Context, Frame
from datasense_assets.recipes.compiling.kinds import ORDERABLE, comparable, kind_of, to_kind
from datasense_assets.recipes.compiling.statement import select_statement
from datasense_assets.recipes.compiling.stored import stored_rows
from datasense_assets.recipes.errors import Code, RecipeError, nearest
from datasense_assets.recipes.language.checks import (
    AcceptedValuesCheck,
    CheckBase,
    ConditionCheck,
    ExistsInCheck,
    FreshWithinCheck,
    MaxLossyCastsCheck,
    NotNullCheck,
    PatternCheck,
    RangeCheck,
    UniqueCheck,
)
from datasense_assets.recipes.tableref import TableRef

T = ColumnType
_RANGED = frozenset({T.INTEGER, T.NUMBER, T.DATE, T.DATETIME, T.TIME})


class CheckContext(Context):
    """Collects the mistakes of checks, with paths from the list of checks."""

    def __init__(self) -> None:
        super().__init__({}, "")

    def error(self, code: Code, path: str, message: str, suggestion: str | None = None) -> None:
        """Reports a mistake at `path` within the current check."""
        where = f"checks[{self.index}].{path}"
        self.errors.append(RecipeError(code, where, f"{where}: {message}", suggestion))


def checked_columns(checks: Iterable[CheckBase]) -> set[str]:
    """Names of the columns that the checks cannot do without."""
    return {name for check in checks for name in check.column_names()}


def check_errors(
    checks: Sequence[CheckBase], frame: Frame, *, casts: Collection[str] | None, of_recipe: bool = True
) -> list[RecipeError]:
    """Columns that the table does not have, values of another type, patterns that cannot be read.

    `casts`: the columns in which the recipe's casts may lose values; None where that is not known.
    """
    context = CheckContext()
    for context.index, check in enumerate(checks):
        broken_rows(check, frame, context)
        if isinstance(check, UniqueCheck):
            _check_key(check, frame, context)
        elif isinstance(check, ExistsInCheck):
            _orderable(check.column, "column", frame, context)
        elif isinstance(check, FreshWithinCheck) and check.column is not None:
            _moment(check.column, frame, context)
        elif isinstance(check, MaxLossyCastsCheck):
            _check_casts(check, casts, context, of_recipe=of_recipe)
    return context.errors


def reference_errors(
    checks: Sequence[CheckBase], frame: Frame, references: Mapping[str, TableRef | None]
) -> list[RecipeError]:
    """What is wrong with the columns that checks look into; `references` holds tables by how checks name them.

    A name that `references` does not have is passed over; None stands for a table that is not there.
    """
    context = CheckContext()
    for context.index, check in enumerate(checks):
        if isinstance(check, ExistsInCheck) and check.in_ in references:
            column = frame.table[check.column] if check.column in frame.table.columns else None
            _other_column(check, column, references[check.in_], context)
    return context.errors


def _other_column(
    check: ExistsInCheck, column: ir.Value | None, ref: TableRef | None, context: Context
) -> ir.Value | None:
    """The column that is looked into, as an expression over its table; None where it does not do (reported)."""
    name = check.to or check.column
    if ref is None:
        context.error("missing_table", "in", f"the table {check.in_} does not exist yet; load or build it first.")
        return None
    if name not in ref.columns:
        suggestion = nearest(name, ref.columns.names)
        hint = f"did you mean {suggestion!r}?" if suggestion else "it has " + ", ".join(ref.columns.names) + "."
        path = "in" if check.to is None else "to"
        context.error("unknown_column", path, f"{check.in_} has no column {name!r}; {hint}", suggestion)
        return None
    other = stored_rows(ref)[name]
    if column is not None and not comparable(kind_of(column), kind_of(other)):
        context.error(
            "join_key_type",
            "to" if check.to is not None else "in",
            f"{check.column!r} is {kind_of(column)} and {name!r} of {check.in_} is {kind_of(other)}, which cannot be "
            "compared.",
        )
        return None
    return other


def broken_rows(check: CheckBase, frame: Frame, context: Context) -> ir.BooleanValue | None:
    """True for a row that breaks the check, never null; None for other kinds of check, and for a mistake (reported)."""
    if isinstance(check, ConditionCheck):
        met = compile_condition(check.where, frame, context, "where")
        return None if met is None else ~ibis.coalesce(met, False)
    if not isinstance(check, (NotNullCheck, AcceptedValuesCheck, RangeCheck, PatternCheck)):
        return None
    column = context.column(frame, check.column, "column", side="the table")
    if column is None:
        if isinstance(check, PatternCheck):
            read_pattern(check.pattern, context, "pattern")
        return None
    if isinstance(check, NotNullCheck):
        return column.isnull()
    if isinstance(check, AcceptedValuesCheck):
        values = [
            read_literal(value, check.column, kind_of(column), context, f"values[{i}]")
            for i, value in enumerate(check.values)
        ]
        return None if any(v is None for v in values) else column.notnull() & ~column.isin(values)
    if isinstance(check, RangeCheck):
        return _outside(check, column, context)
    if kind_of(column) is not T.TEXT:
        context.error("type_mismatch", "column", f"a pattern is for text and {check.column!r} is {kind_of(column)}.")
        return None
    pattern = read_pattern(check.pattern, context, "pattern")
    return None if pattern is None else column.notnull() & ~column.re_search(pattern.text)


def _outside(check: RangeCheck, column: ir.Value, context: Context) -> ir.BooleanValue | None:
    kind = kind_of(column)
    if kind not in _RANGED:
        context.error(
            "type_mismatch", "column", f"a range is for numbers, dates and times, and {check.column!r} is {kind}."
        )
        return None
    given = {name: value for name, value in (("min", check.min), ("max", check.max)) if value is not None}
    read = {name: read_literal(value, check.column, kind, context, name) for name, value in given.items()}
    if any(value is None for value in read.values()):
        return None
    parts = [column < read["min"]] if "min" in read else []
    parts += [column > read["max"]] if "max" in read else []
    return ibis.coalesce(ibis.or_(*parts), False)


def _check_key(check: UniqueCheck, frame: Frame, context: Context) -> None:
    for i, name in enumerate(check.columns):
        _orderable(name, f"columns[{i}]", frame, context)


def _orderable(name: str, path: str, frame: Frame, context: Context) -> None:
    column = context.column(frame, name, path, side="the table")
    if column is not None and kind_of(column) not in ORDERABLE:
        context.error("type_mismatch", path, f"{name!r} is {kind_of(column)}, whose values cannot be compared.")


def _moment(name: str, frame: Frame, context: Context) -> None:
    column = context.column(frame, name, "column", side="the table")
    if column is not None and kind_of(column) not in (T.DATE, T.DATETIME):
        context.error(
            "type_mismatch", "column", f"fresh_within works on dates and {name!r} is {kind_of(column)}; cast it first."
        )


def _check_casts(
    check: MaxLossyCastsCheck, casts: Collection[str] | None, context: Context, *, of_recipe: bool
) -> None:
    if not of_recipe:
        context.error("invalid_value", "check", "max_lossy_casts is for recipes; a source's table has no casts.")
    elif check.column is not None and casts is not None and check.column not in casts:
        suggestion = nearest(check.column, casts)
        hint = "casts that may lose values: " + (", ".join(sorted(casts)) or "none")
        context.error("unknown_column", "column", f"no cast of {check.column!r} may lose values; {hint}.", suggestion)


@dataclass(frozen=True)
class ScanQuery:
    """One SELECT of one row: the number of rows, then for each of `parts` (an index of a check) its figure."""

    sql: str
    parts: tuple[int, ...]


class CheckedTable:
    """A stored table, and the SQL that counts what breaks its checks.

    `references` are the tables that `exists_in` looks into, by how checks name them.
    """

    def __init__(self, ref: TableRef, references: Mapping[str, TableRef | None]) -> None:
        self.frame = Frame(stored_rows(ref))
        self._references = references
        tables = [ref, *(other for other in references.values() if other is not None)]
        self._known = {(each.schema, each.table): tuple(each.columns.names) for each in tables}

    def errors(self, check: CheckBase, *, of_recipe: bool) -> list[RecipeError]:
        """What is wrong with one check on this very table."""
        found = check_errors([check], self.frame, casts=None, of_recipe=of_recipe)
        if isinstance(check, ExistsInCheck) and not found:
            references = {check.in_: self._references.get(check.in_)}
            return reference_errors([check], self.frame, references)
        return found

    def scan(self, checks: Mapping[int, CheckBase], newest: Mapping[int, str]) -> ScanQuery:
        """Rows in all, rows that break each of `checks` (of single rows), and the newest value of columns, by check."""
        table = self.frame.table
        figures: dict[str, Any] = {"_ds_rows": table.count()}
        for index, check in checks.items():
            figures[f"_ds_check_{index}"] = table.count(where=self._broken(check))
        for index, name in newest.items():
            figures[f"_ds_check_{index}"] = to_kind(table[name], kind_of(table[name])).max()
        return ScanQuery(self._sql(table.aggregate(**figures)), (*checks, *newest))

    def count(self, check: UniqueCheck | ExistsInCheck) -> str:
        """One SELECT of one number: the rows that break the check."""
        if isinstance(check, ExistsInCheck):
            return self._sql(self._strays(check).count().name("broken").as_table())
        table = self._whole_keys(check)
        sizes = table.group_by(check.columns).aggregate(_ds_n=table.count())
        return self._sql(ibis.coalesce(sizes.filter(sizes["_ds_n"] > 1)["_ds_n"].sum(), 0).name("broken").as_table())

    def sample(self, index: int, check: CheckBase, key: str, rows: int) -> str:
        """One SELECT of the check's index and the key, as text, of the first rows that break it."""
        if isinstance(check, ExistsInCheck):
            table = self._strays(check)
        elif isinstance(check, UniqueCheck):
            table = self._whole_keys(check)
            table = table.mutate(_ds_n=table.count().over(group_by=check.columns))
            table = table.filter(table["_ds_n"] > 1)
        else:
            table = self.frame.table.filter(self._broken(check))
        chosen = table.select(_ds_check=ibis.literal(index), _ds_key=table[key].cast("string"))
        return self._sql(chosen.order_by("_ds_key").limit(rows))

    def _broken(self, check: CheckBase) -> ir.BooleanValue:
        context = CheckContext()
        found = broken_rows(check, self.frame, context)
        if found is None:
            raise ValueError(f"{check} was not looked over: {context.errors}")
        return found

    def _whole_keys(self, check: UniqueCheck) -> ir.Table:
        table = self.frame.table
        return table.filter(*(table[name].notnull() for name in check.columns))

    def _strays(self, check: ExistsInCheck) -> ir.Table:
        """Rows whose value is not in the other table."""
        context = CheckContext()
        table = self.frame.table
        other = _other_column(check, table[check.column], self._references.get(check.in_), context)
        if other is None:
            raise ValueError(f"{check} was not looked over: {context.errors}")
        there = other.as_table().distinct().rename(_ds_other=other.get_name()).view()
        given = table.filter(table[check.column].notnull())
        return given.anti_join(there, given[check.column] == there["_ds_other"])

    def _sql(self, table: ir.Table) -> str:
        return select_statement(table, self._known)
