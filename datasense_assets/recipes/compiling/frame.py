"""The table as it stands between two steps, and the place where a step reports its mistakes.

A step that fails leaves the columns it would have made as placeholders: they are known by name, nothing is said about
them any more, and so one mistake gives one error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import ibis.expr.operations as ops
import ibis.expr.types as ir

from datasense_assets.catalog.models import POSTGRES_NAME_BYTES
from datasense_assets.recipes.compiling.kinds import kind_of, to_kind
from datasense_assets.recipes.compiling.lineage import Mention
from datasense_assets.recipes.errors import Code, RecipeError, RecipeWarning, WarningCode, nearest
from datasense_assets.recipes.language.columns import Rename
from datasense_assets.recipes.language.step import StepBase

MOST_COLUMNS = 1_600
"""PostgreSQL's most for a table; a SELECT may name a few more."""

UNKNOWN = "_ds_unknown"
"""The only column of a table that is not there, which nobody is told of."""


@dataclass(frozen=True)
class Frame:
    """`placeholders` are columns known by name only. `is_open`: there may be columns that nobody can know."""

    table: ir.Table
    placeholders: frozenset[str] = frozenset()
    is_open: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all columns in order, placeholders that are not in the table last."""
        columns = tuple(self.table.columns)
        return columns + tuple(sorted(self.placeholders.difference(columns)))

    def has(self, name: str) -> bool:
        """Whether a column of that name is known."""
        return name in self.table.columns or name in self.placeholders

    def with_columns(self, new: Mapping[str, ir.Value | None]) -> Frame:
        """Columns added at the end or replaced in place; None makes a placeholder."""
        good = {name: value for name, value in new.items() if value is not None}
        bad = {name for name, value in new.items() if value is None}
        columns = dict.fromkeys(self.table.columns) | good
        return replace(self, table=projected(self.table, columns), placeholders=(self.placeholders - good.keys()) | bad)

    def only(self, names: Iterable[str]) -> Frame:
        """Only these columns, in this order; a name that is not there becomes a placeholder."""
        wanted = list(dict.fromkeys(names))
        present = [name for name in wanted if name in self.table.columns]
        placeholders = frozenset(name for name in wanted if name in self.placeholders or name not in present)
        table = projected(self.table, dict.fromkeys(present)) if present else self.table
        return Frame(table, placeholders, is_open=False)

    def without(self, names: Iterable[str]) -> Frame:
        """All columns but these."""
        gone = set(names)
        left = [name for name in self.table.columns if name not in gone]
        table = projected(self.table, dict.fromkeys(left)) if left else self.table
        return replace(self, table=table, placeholders=self.placeholders - gone)


def projected(table: ir.Table, columns: Mapping[str, ir.Value | None]) -> ir.Table:
    """The table of these columns in this order; None is its own column of that name.

    The same as `table.select`, which looks for earlier forms of each column among all relations below; that is a third
    of the work of checking a recipe, and only needed of values over other tables or over many rows.
    """
    parent = table.op()
    values = {name: None if value is None else _unaliased(value.op()) for name, value in columns.items()}
    beside = _beside(parent, values)
    if beside is not None:
        return beside.to_expr()
    if not isinstance(parent, ops.JoinChain):
        own = frozenset({parent})
        if all(
            value is None or (value.relations <= own and not value.find(_OVER_ROWS, filter=ops.Value))
            for value in values.values()
        ):
            found = {name: ops.Field(parent, name) if value is None else value for name, value in values.items()}
            return ops.Project(parent, found).to_expr()
    return table.select([(table[n] if value is None else value).name(n) for n, value in columns.items()])


_OVER_ROWS = (ops.Analytic, ops.Reduction, ops.WindowFunction)


def _beside(parent: ops.Relation, values: Mapping[str, ops.Value | None]) -> ops.Project | None:
    """The values in the same SELECT as the windows of `parent`, or None where one hangs on what is computed there.

    Ibis puts a SELECT round each that has windows, and PostgreSQL then walks the rows once for each, though they be
    of one order.
    """
    if not isinstance(parent, ops.Project):
        return None
    made = parent.values
    if not any(value.find(ops.WindowFunction, filter=ops.Value) for value in made.values()):
        return None
    found: dict[str, ops.Value] = {}
    for name, value in values.items():
        if value is None or (isinstance(value, ops.Field) and value.rel == parent):
            found[name] = made[name if value is None else value.name]
        elif value.relations <= {parent} and all(
            isinstance(made[field.name], ops.Field) for field in value.find(ops.Field, filter=ops.Value)
        ):
            found[name] = value.replace(_one_below(parent), filter=ops.Value)
        else:
            return None
    return ops.Project(parent.parent, found)


def _one_below(parent: ops.Project) -> Callable[[ops.Node, Mapping[str, Any] | None], ops.Node]:
    def lowered(node: ops.Node, changed: Mapping[str, Any] | None) -> ops.Node:
        if isinstance(node, ops.Field) and node.rel == parent:
            return parent.values[node.name]
        if isinstance(node, ops.CountStar) and node.arg == parent:
            return node.copy(arg=parent.parent, **({"where": changed["where"]} if changed else {}))
        return node.__recreate__(changed) if changed else node

    return lowered


def _unaliased(value: ops.Value) -> ops.Value:
    return value.arg if isinstance(value, ops.Alias) else value


@dataclass(frozen=True)
class Lossy:
    """A column in which values may become null because they cannot be read; `lost` is true where one does."""

    column: str
    table: ir.Table
    lost: ir.BooleanValue


@dataclass
class Context:
    """What a step may look at besides its frame: the other inputs, and the labels of their choices by alias and column.

    `keys` are the inputs' keys by alias, `gone` says of columns that earlier steps took away what became of them. It
    collects errors, warnings, lossy casts, the columns that steps name, and of values that steps made which columns'
    questions they `answer`.
    """

    inputs: Mapping[str, Frame]
    start: str
    errors: list[RecipeError] = field(default_factory=list)
    lossy: list[Lossy] = field(default_factory=list)
    index: int = 0
    label: str = ""
    choice_labels: Mapping[str, Mapping[str, Mapping[str, str]]] = field(default_factory=dict)
    mentions: set[Mention] = field(default_factory=set)
    warnings: list[RecipeWarning] = field(default_factory=list)
    keys: Mapping[str, frozenset[frozenset[str]]] = field(default_factory=dict)
    gone: dict[str, str] = field(default_factory=dict)
    answers: dict[ops.Value, tuple[Mention, ...]] = field(default_factory=dict)

    def error(self, code: Code, path: str, message: str, suggestion: str | None = None) -> None:
        """Reports a mistake at `path` within the current step; the step's number and name go before the message."""
        separator = "." if path and not path.startswith("[") else ""
        where = f"steps[{self.index}]{separator}{path}"
        self.errors.append(RecipeError(code, where, f"{self.label}: {message}", suggestion))

    def warn(self, code: WarningCode, path: str, message: str) -> None:
        """Reports what is allowed and probably not meant, as `error` does."""
        self.warnings.append(RecipeWarning(code, f"steps[{self.index}].{path}", f"{self.label}: {message}"))

    def note_gone(self, step: StepBase, before: Frame, after: Frame) -> None:
        """Keeps what became of the columns that the step took away."""
        if after.is_open:
            return
        renamed = step.columns if isinstance(step, Rename) else {}
        number = f"step {self.index + 1} ({getattr(step, 'op', '')})"
        for name in before.names:
            if not after.has(name):
                new = renamed.get(name)
                self.gone[name] = f"{number} removed it" if new is None else f"{number} calls it {new!r} now"
        for name in after.names:
            self.gone.pop(name, None)

    def note_answers(self, step: StepBase, before: Frame, after: Frame) -> None:
        """Keeps of each value that the step changed, and not what it answers, the columns whose question that is.

        By value, since what stands beside windows is put into a SELECT with them, and its table is another one then.
        """
        values = after.table.op().values
        for name, columns in step.answers().items():
            if name in values and name not in after.placeholders:
                known = before.table.columns
                self.answers[values[name]] = tuple((before.table.op(), n) for n in columns if n in known)

    def column(self, frame: Frame, name: str, path: str, *, side: str = "") -> ir.Value | None:
        """The column, or None when it is a placeholder (silently) or not there (reported)."""
        if name in frame.placeholders:
            return None
        if name in frame.table.columns:
            self.mention(frame, name)
            return frame.table[name]
        if not frame.is_open:
            self.unknown_column(frame, name, path, side=side)
        return None

    def mention(self, frame: Frame, name: str) -> None:
        """Notes that the step names a column of the frame."""
        self.mentions.add((frame.table.op(), name))

    def unknown_column(self, frame: Frame, name: str, path: str, *, side: str = "") -> None:
        """Reports a column that is not there."""
        suggestion = nearest(name, frame.names)
        names = [known for known in frame.names if known != UNKNOWN]
        shown = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
        hint = f"did you mean {suggestion!r}?" if suggestion else f"it has {shown}."
        if not side and name in self.gone:
            hint = f"{self.gone[name]}. Use it before that step, or keep it there."
        place = side or "the table at this point"
        self.error("unknown_column", path, f"{place} has no column {name!r}; {hint}", suggestion)

    def input_frame(self, alias: str, path: str) -> Frame | None:
        """Another input as a frame, or None when there is no such alias (reported)."""
        frame = self.inputs.get(alias)
        if frame is None:
            suggestion = nearest(alias, self.inputs)
            hint = f"did you mean {suggestion!r}?" if suggestion else "inputs are " + ", ".join(self.inputs) + "."
            self.error("unknown_input", path, f"there is no input {alias!r}; {hint}", suggestion)
        return frame

    def has_room(self, frame: Frame, columns: int) -> bool:
        """Whether so many columns may come of the frame; reported by the step that goes beyond, and by no later one."""
        if len(frame.names) <= MOST_COLUMNS < columns:
            message = f"{columns} columns are too many for PostgreSQL, which has at most {MOST_COLUMNS} in a table;"
            self.error("invalid_value", "", f"{message} drop some before, or make fewer.")
        return columns <= MOST_COLUMNS

    def new_name(self, name: str, path: str) -> bool:
        """Whether a name made by the step (prefix, suffix) fits in PostgreSQL; reported when it does not."""
        length = len(name.encode())
        if length > POSTGRES_NAME_BYTES:
            self.error(
                "name_too_long",
                path,
                f"the column {name!r} would have a name of {length} bytes and PostgreSQL keeps "
                f"{POSTGRES_NAME_BYTES}; choose something shorter.",
            )
        return length <= POSTGRES_NAME_BYTES

    def distinct_names(self, names: Iterable[str], path: str) -> bool:
        """Whether no name comes twice; reported when one does."""
        seen: set[str] = set()
        for name in names:
            if name in seen:
                self.error("name_collision", path, f"two columns would be named {name!r}; give one another name.")
                return False
            seen.add(name)
        return True


def usual(value: ir.Value) -> ir.Value:
    """A computed value in the usual data type of its kind, so that its column has it in PostgreSQL too."""
    return to_kind(value, kind_of(value))
