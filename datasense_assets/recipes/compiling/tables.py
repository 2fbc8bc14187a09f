"""How the steps of `language.tables` compile."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import ibis
import ibis.expr.operations as ops
import ibis.expr.types as ir

from datasense_assets.catalog.models import ColumnType
from datasense_assets.recipes.compiling.frame import Context, Frame, projected
from datasense_assets.recipes.compiling.kinds import (
    comparable,
    kind_of,
    mix,
    null,
    to_kind,
)
from datasense_assets.recipes.compiling.registry import compiles
from datasense_assets.recipes.keys import is_covered
from datasense_assets.recipes.language.tables import Join, Union

T = ColumnType


@compiles(Join)
def join(step: Join, frame: Frame, context: Context) -> Frame:
    """Renames the right's columns out of the way, joins, and names what is kept."""
    right = context.input_frame(step.with_, "with")
    if right is None:
        for i, key in enumerate(step.on):
            context.column(frame, key.left, f"on[{i}].left")
        new = [] if step.how in ("semi", "anti") else step.columns
        return Frame(frame.table, frame.placeholders | frozenset(new or ()), frame.is_open or new is None)
    keys = _join_keys(step, frame, right, context)
    if step.how in ("semi", "anti"):
        if keys is None:
            return frame
        kept = _Joining(step, frame, right, context.index)
        return Frame(kept.table(keys, kept.left), frame.placeholders, frame.is_open)
    _warn_of_many(step, keys, context)
    wanted = _wanted(step, right, context)
    brought = None if keys is None else _brought(step, frame, wanted, context)
    if keys is None or brought is None:
        # Which names collide hangs on the keys, so either name may be meant further down.
        either = frozenset(name + end for name in wanted for end in ("", step.suffix)) - frozenset(frame.names)
        return Frame(frame.table, frame.placeholders | either, frame.is_open or right.is_open)
    joining = _Joining(step, frame, right, context.index)
    columns = (
        joining.left
        | joining.keys(keys)
        | {new: joining.right[old] for old, new in brought.items() if old in joining.right}
    )
    hidden = frozenset(new for old, new in brought.items() if old in right.placeholders)
    return Frame(joining.table(keys, columns), frame.placeholders | hidden, frame.is_open or right.is_open)


def _warn_of_many(step: Join, keys: list[tuple[str, str]] | None, context: Context) -> None:
    """Says so where the input has known keys and the join is on none of them."""
    known = context.keys.get(step.with_, frozenset())
    columns = [right for _, right in keys or ()]
    if keys and known and not is_covered(columns, known):
        said = ", ".join(sorted(set(columns)))
        context.warn(
            "join_multiplies",
            "on",
            f"nothing says that {said} is unique in the input {step.with_!r}, so a row may come out several times; "
            f"deduplicate or aggregate {step.with_!r} in a recipe of its own, or declare a unique check on it.",
        )


def _join_keys(step: Join, frame: Frame, right: Frame, context: Context) -> list[tuple[str, str]] | None:
    keys: list[tuple[str, str]] = []
    for i, key in enumerate(step.on):
        left_value = context.column(frame, key.left, f"on[{i}].left")
        right_value = context.column(right, key.right, f"on[{i}].right", side=f"the input {step.with_!r}")
        if left_value is None or right_value is None:
            continue
        left_kind, right_kind = kind_of(left_value), kind_of(right_value)
        if not comparable(left_kind, right_kind):
            context.error(
                "join_key_type",
                f"on[{i}]",
                f"{key.left!r} is {left_kind} and {key.right!r} of {step.with_!r} is {right_kind}, which cannot be "
                "compared; cast one of them first.",
            )
            continue
        keys.append((key.left, key.right))
    return keys if len(keys) == len(step.on) else None


def _wanted(step: Join, right: Frame, context: Context) -> list[str]:
    """Names in the right table of the columns to bring; one that is not there is reported."""
    if step.columns is None:
        keys = {key.right for key in step.on}
        return [name for name in right.names if name not in keys]
    for i, name in enumerate(step.columns):
        context.column(right, name, f"columns[{i}]", side=f"the input {step.with_!r}")
    same = {key.right for key in step.on if key.left == key.right}
    return [name for name in step.columns if name not in same]


def _brought(step: Join, frame: Frame, wanted: list[str], context: Context) -> dict[str, str] | None:
    """New name by name in the right table, in order; None when two would be equal or one is too long (reported)."""
    if not context.distinct_names(wanted, "columns"):
        return None
    taken = set(frame.names)
    new = {name: name + step.suffix if name in taken else name for name in wanted}
    unfit = [name for old, name in new.items() if name != old and not context.new_name(name, "suffix")]
    if not context.distinct_names([*frame.names, *new.values()], "suffix"):
        return None
    return None if unfit else new


class _Joining:
    """The two sides of a join, and the columns of each in it by their own names.

    Made of ibis's operations: `Table.join` looks for earlier forms of each key and column among all relations below,
    which is a fifth of the work of checking a recipe, and here they are known.
    """

    def __init__(self, step: Join, frame: Frame, right: Frame, index: int) -> None:
        left = frame.table
        if isinstance(left.op(), ops.JoinChain):
            # Ibis would put both joins into one FROM, with an earlier semi join's EXISTS after a later outer join.
            left = left.view()
        # No left column has such a name, and no other step: to ibis two equal projections in one chain are one table.
        numbered = (f"_ds_right_{index}_{i}" for i in range(len(left.columns) + len(right.table.columns)))
        free = (name for name in numbered if name not in left.columns)
        renamed = dict(zip(right.table.columns, free, strict=False))
        other = projected(right.table, {new: right.table[old] for old, new in renamed.items()})
        self._how: Any = "outer" if step.how == "full" else step.how
        self._first = ops.JoinReference(left.op(), identifier=0)
        self._second = ops.JoinReference(other.op(), identifier=1)
        self.left = {name: ops.Field(self._first, name).to_expr() for name in left.columns}
        self.right = {old: ops.Field(self._second, new).to_expr() for old, new in renamed.items()}

    def keys(self, keys: list[tuple[str, str]]) -> dict[str, ir.Value]:
        """The keys that come once and have a value on the right alone too, by their names on the left."""
        if self._how not in ("right", "outer"):
            return {}
        return {key: ibis.coalesce(*_alike(self.left[key], self.right[other])) for key, other in dict(keys).items()}

    def table(self, keys: list[tuple[str, str]], columns: dict[str, ir.Value]) -> ir.Table:
        """The join on the keys, with these columns."""
        alike = [_alike(self.left[key], self.right[other]) for key, other in keys]
        link = ops.JoinLink(self._how, self._second, [(left == right).op() for left, right in alike])
        values = {name: value.op() for name, value in columns.items()}
        # A join is a table like any other: ibis cannot count the rows of its own `Join` in a window.
        return ir.Table(ops.JoinChain(self._first, (link,), values))


def _alike(left: ir.Value, right: ir.Value) -> tuple[ir.Value, ir.Value]:
    kind = mix((kind_of(left), kind_of(right)))
    if kind is None or left.type() == right.type():
        return left, right
    return to_kind(left, kind), to_kind(right, kind)


@compiles(Union)
def union(step: Union, frame: Frame, context: Context) -> Frame:
    """Columns by name; each side is brought to the same columns and types first."""
    found = [context.input_frame(alias, f"with[{i}]") for i, alias in enumerate(step.with_)]
    # As views of their own: ibis takes projections of one table that differ in the columns' order only for one.
    others = [(a, replace(f, table=f.table.view())) for a, f in zip(step.with_, found, strict=True) if f is not None]
    sides = [(context.start, frame), *others]
    is_open = any(side.is_open for _, side in sides) or len(sides) <= len(step.with_)
    names = list(dict.fromkeys(name for _, side in sides for name in side.names))
    if step.source_column is not None and step.source_column in names:
        context.error(
            "name_collision", "source_column", f"there is a column {step.source_column!r} already; choose another name."
        )
    kinds: dict[str, ColumnType | None] = {name: _union_kind(name, sides, step, context) for name in names}
    placeholders = frozenset(
        name for name, kind in kinds.items() if kind is None or any(name in side.placeholders for _, side in sides)
    )
    usable = {name: kind for name, kind in kinds.items() if kind is not None and name not in placeholders}
    extra = frozenset({step.source_column} if step.source_column is not None else ())
    if len(sides) <= len(step.with_) or not usable or extra & frozenset(names):
        return Frame(
            frame.table, (frame.placeholders | frozenset(names) | extra) - frozenset(frame.table.columns), is_open
        )
    tables = [_side(alias, side, usable, step.source_column) for alias, side in sides]
    table = ibis.union(tables[0], *tables[1:], distinct=step.distinct)
    return Frame(table, placeholders, is_open)


def _side(alias: str, side: Frame, kinds: dict[str, ColumnType], source_column: str | None) -> ir.Table:
    columns: list[ir.Value] = []
    for name, kind in kinds.items():
        value = to_kind(side.table[name], kind) if name in side.table.columns else null(kind)
        columns.append(value.name(name))
    if source_column is not None:
        columns.append(ibis.literal(alias, type="string").name(source_column))
    return side.table.select(columns)


def _union_kind(name: str, sides: list[tuple[str, Frame]], step: Union, context: Context) -> ColumnType | None:
    kind: ColumnType | None = None
    for i, (alias, side) in enumerate(sides):
        if name not in side.table.columns or name in side.placeholders:
            continue
        own = kind_of(side.table[name])
        together = own if kind is None else mix((kind, own))
        if together is None:
            path = f"with[{step.with_.index(alias)}]" if i else "with"
            context.error(
                "type_mismatch",
                path,
                f"{name!r} is {own} in {alias!r} and {kind} before; cast it to one type (in a recipe of its own "
                "where it is an input).",
            )
            return None
        kind = together
    return kind
