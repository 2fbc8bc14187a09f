"""How the steps that look at the rows around a row compile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import ibis
import ibis.expr.types as ir

from datasense_assets.catalog.models import ColumnType
from datasense_assets.recipes.compiling.aggregate import summable, whole_sum
from datasense_assets.recipes.compiling.conditions import read_literal
from datasense_assets.recipes.compiling.frame import Context, Frame, usual
from datasense_assets.recipes.compiling.functions import bigint
from datasense_assets.recipes.compiling.kinds import JSONB, NUMERIC, ORDERABLE, kind_of, mix, to_kind
from datasense_assets.recipes.compiling.registry import compiles
from datasense_assets.recipes.compiling.rows import free_names, sort_keys
from datasense_assets.recipes.language.windows import FillMissing, Window

T = ColumnType
_NUMBERS_ONLY = frozenset({"running_sum", "moving_avg", "sum", "avg", "percent_of_total"})


@compiles(Window)
def window(step: Window, frame: Frame, context: Context) -> Frame:
    """One window function over the frame's rows."""
    groups = group_keys(step.partition_by, frame, context, "partition_by")
    order = sort_keys(step.order_by, frame, context, "order_by") if step.order_by else []
    column = None if step.column is None else _window_column(step, step.column, frame, context)
    if groups is None or order is None or (step.column is not None and column is None):
        return frame.with_columns({step.into: None})
    if not step.order_by and step.fn in ("row_number", "ntile"):
        order = every_column(frame)
    return frame.with_columns({step.into: usual(_figure(step, column, groups, order, frame))})


def group_keys(names: list[str], frame: Frame, context: Context, path: str) -> list[ir.Value] | None:
    """Columns to group by; None when one has a mistake (reported) or is a placeholder."""
    found: list[ir.Value] = []
    for i, name in enumerate(names):
        column = context.column(frame, name, f"{path}[{i}]")
        if column is not None and kind_of(column) not in ORDERABLE:
            context.error("type_mismatch", f"{path}[{i}]", f"{name!r} is json and cannot be grouped; cast it to text.")
            column = None
        if column is not None:
            found.append(column)
    return found if len(found) == len(names) else None


def every_column(frame: Frame, ordered: Sequence[Any] = ()) -> list[ir.Value]:
    """All columns as keys to order by: rows that are still tied then are the same row.

    Columns in `ordered` keys are left out: of two keys on one value, ibis would keep the later.
    """
    done = {key.op().arg for key in ordered}
    columns = [frame.table[name] for name in frame.table.columns if name not in frame.placeholders]
    plain = [c.cast(JSONB).cast("string") if kind_of(c) is T.JSON else c for c in columns if c.op() not in done]
    return [ibis.asc(column, nulls_first=False) for column in plain]


def _window_column(step: Window, name: str, frame: Frame, context: Context) -> ir.Value | None:
    column = context.column(frame, name, "column")
    if column is None:
        return None
    kind = kind_of(column)
    wanted = NUMERIC if step.fn in _NUMBERS_ONLY else ORDERABLE if step.fn in ("min", "max") else frozenset(T)
    if kind not in wanted:
        hint = "works on numbers" if wanted is NUMERIC else "needs an order"
        context.error("type_mismatch", "column", f"{step.fn} {hint} and {name!r} is {kind}; cast it first.")
        return None
    return column


def _figure(step: Window, column: Any, groups: list[ir.Value], order: list[Any], frame: Frame) -> Any:
    def over(value: Any, **bounds: Any) -> Any:
        return value.over(ibis.window(group_by=groups, order_by=order, **bounds))

    def placed(value: Any) -> Any:
        # The frame means nothing to these; with that of a running sum, PostgreSQL works out both in one walk.
        return over(value, **({"preceding": None, "following": 0} if order else {}))

    periods = step.periods or 1
    figures: dict[str, Callable[[], Any]] = {
        # PostgreSQL's ranks as ibis gives them count from 0.
        "row_number": lambda: placed(ibis.row_number()) + 1,
        "rank": lambda: placed(ibis.rank()) + 1,
        "dense_rank": lambda: placed(ibis.dense_rank()) + 1,
        "ntile": lambda: bigint(placed(ibis.ntile(periods)) + 1),
        "lag": lambda: placed(column.lag(periods)),
        "lead": lambda: placed(column.lead(periods)),
        "running_sum": lambda: whole_sum(over(summable(column).sum(), preceding=None, following=0), column),
        "moving_avg": lambda: over(column.cast("float64").mean(), preceding=periods - 1, following=0),
        "sum": lambda: whole_sum(over(summable(column).sum()), column),
        "avg": lambda: over(column.cast("float64").mean()),
        "min": lambda: over(column.min()),
        "max": lambda: over(column.max()),
        "count": lambda: over(frame.table.count() if column is None else column.count()),
        "first": lambda: edge(True, column, groups, order),
        "last": lambda: edge(False, column, groups, order),
        "percent_of_total": lambda: column.cast("float64") * 100.0 / over(column.cast("float64").sum()).nullif(0.0),
    }
    return figures[step.fn]()


def edge(first: bool, column: Any, groups: list[ir.Value], order: list[Any]) -> Any:
    """The first or last value that is not null: PostgreSQL has no IGNORE NULLS, so nulls are put at the other end."""
    missing = ibis.asc(column.isnull()) if first else ibis.desc(column.isnull())
    whole_partition = ibis.window(group_by=groups, order_by=[missing, *order], preceding=None, following=None)
    return (column.first() if first else column.last()).over(whole_partition)


@compiles(FillMissing)
def fill_missing(step: FillMissing, frame: Frame, context: Context) -> Frame:
    """A literal in place of nulls, or the nearest value in an order."""
    context.distinct_names(step.columns, "columns")
    columns = {name: context.column(frame, name, f"columns[{i}]") for i, name in enumerate(step.columns)}
    if step.method == "value":
        return frame.with_columns(
            {name: None if column is None else _filled(step, name, column, context) for name, column in columns.items()}
        )
    order = sort_keys(step.order_by or [], frame, context, "order_by")
    if order is None:
        return frame.with_columns(dict.fromkeys(columns))
    # How many values have been met so far numbers the runs of a value and the nulls that follow it.
    back = step.method == "up"
    bounds: Any = {"preceding": 0, "following": None} if back else {"preceding": None, "following": 0}
    met = {
        name: column.count().over(ibis.window(order_by=order, **bounds))
        for name, column in columns.items()
        if column is not None
    }
    if not context.has_room(frame, len(frame.names) + len(met)):
        return frame.with_columns(dict.fromkeys(columns))
    runs = dict(zip(met, free_names(frame, len(met)), strict=True))
    numbered = frame.with_columns({runs[name]: count for name, count in met.items()})
    new: dict[str, ir.Value | None] = dict.fromkeys(columns)
    for name, run in runs.items():
        new[name] = usual(edge(True, numbered.table[name], [numbered.table[run]], []))
    return numbered.with_columns(new).without(runs.values())


def _filled(step: FillMissing, name: str, column: ir.Value, context: Context) -> ir.Value | None:
    kind = kind_of(column)
    found = read_literal(step.value, name, kind, context, "value")
    if found is None:
        return None
    kind = mix((kind, kind_of(found))) or kind
    return ibis.coalesce(to_kind(column, kind), to_kind(found, kind))
