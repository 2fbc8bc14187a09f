"""Whether a result can be kept as its recipe wants: as a view, or as a table that only changed rows are put into."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import ibis.expr.operations as ops
import ibis.expr.types as ir

from datasense_assets.catalog.models import InputReference
from datasense_assets.recipes.compiling.frame import Frame
from datasense_assets.recipes.compiling.lineage import passed_columns
from datasense_assets.recipes.compiling.stored import DELETED_AT
from datasense_assets.recipes.errors import RecipeError, nearest
from datasense_assets.recipes.language.output import ROW_WISE
from datasense_assets.recipes.language.recipe import RecipeModel
from datasense_assets.recipes.language.step import StepBase, step_label
from datasense_assets.recipes.language.windows import FillMissing
from datasense_assets.recipes.tableref import TableRef

ROW_ID, LOADED_AT = "_ds_row_id", "_ds_loaded_at"
# What two moments are to each other hangs on no time zone.
_ZONELESS = (
    ops.Comparison,
    ops.IsNull,
    ops.NotNull,
    ops.Coalesce,
    ops.Field,
    ops.Alias,
    ops.Reduction,
    ops.NullIf,
    ops.SortKey,
    ops.Analytic,
    ops.WindowFunction,
)
_CONDITIONAL = (ops.SimpleCase, ops.SearchedCase, ops.IfElse)


@dataclass(frozen=True)
class Increment:
    """How to tell which rows of a result are still right: `key` and `loaded_at` are columns of the result that hold
    the row id and the load's moment of the row of `schema.table` that it was made of.
    """

    key: str
    loaded_at: str
    schema: str
    table: str
    tracks_deletes: bool


def keeping_errors(recipe: RecipeModel, frame: Frame) -> list[RecipeError]:
    """What stands against `output.materialize`; nothing where it is `table`."""
    if recipe.output.materialize == "view":
        return list(_view_errors(frame.table))
    if recipe.output.materialize == "incremental":
        return list(_increment_errors(recipe, frame))
    return []


def increment_of(recipe: RecipeModel, frame: Frame, ref: TableRef) -> Increment | None:
    """For a recipe that is kept incrementally and has no mistakes; else None."""
    if recipe.output.key is None:
        return None
    loaded_at = next(name for name, (_, column) in passed_columns(frame.table).items() if column == LOADED_AT)
    return Increment(recipe.output.key[0], loaded_at, ref.schema, ref.table, DELETED_AT in ref.columns)


def _increment_errors(recipe: RecipeModel, frame: Frame) -> Iterator[RecipeError]:
    place = "output.materialize"
    advice = "leave materialize out, and the table is made anew at each build."
    if InputReference.parse(recipe.inputs[recipe.start]).source is None:
        said = (
            f"incremental reads a source's table, whose rows tell when they changed, and {recipe.start!r} is a recipe"
        )
        yield RecipeError("invalid_value", place, f"{place}: {said}; {advice}")
    several = [step_label(i, step) for i, step in enumerate(recipe.steps) if not _is_row_wise(step)]
    if several:
        said = f"incremental takes steps that make a row of one row, and {', '.join(several)} looks at several"
        yield RecipeError("invalid_value", place, f"{place}: {said}; {advice}")
        return
    if frame.table.op().find(ops.TimestampNow):
        said = "incremental cannot keep now(), which is another moment for each build"
        yield RecipeError("invalid_value", place, f"{place}: {said}; use today(), or {advice}")
    (key,) = recipe.output.key or ("",)
    passed = {name: column for name, (_, column) in passed_columns(frame.table).items()}
    if not frame.has(key):
        if not frame.is_open:
            said = f"the result has no column {key!r}; keep {ROW_ID!r} in it (or rename it) and name it here."
            yield RecipeError("unknown_column", "output.key[0]", f"output.key[0]: {said}", nearest(key, frame.names))
    elif key in frame.table.columns and passed.get(key) != ROW_ID:
        said = f"{key!r} is not the source's {ROW_ID!r} as it came; rows that changed are found by that alone."
        yield RecipeError("invalid_value", "output.key[0]", f"output.key[0]: {said}")
    # Of a column that is known by name only, nobody knows what it was.
    if not frame.is_open and not frame.placeholders and LOADED_AT not in passed.values():
        said = f"incremental needs the source's {LOADED_AT!r} in the result, by which a changed row is known; keep it"
        yield RecipeError("missing_field", place, f"{place}: {said}, or {advice}")


def _is_row_wise(step: StepBase) -> bool:
    if isinstance(step, FillMissing) and step.method != "value":
        return False
    return getattr(step, "op", "") in ROW_WISE


def _view_errors(table: ir.Table) -> Iterator[RecipeError]:
    """A view is reckoned in the session of its reader, whose time zone need not be the organisation's."""
    what = _of_the_session(table.op())
    if what is not None:
        yield RecipeError(
            "invalid_value",
            "output.materialize",
            f"output.materialize: a view cannot be made of this recipe, for it uses {what}: each reader would get that"
            " by the settings of his own session and not in the organisation's time zone; leave materialize out, and it"
            " is a table.",
        )


def _of_the_session(root: ops.Node) -> str | None:
    if root.find((ops.DateNow, ops.TimestampNow)):
        return "today's date"
    for node in root.find(ops.Value):
        if isinstance(node, ops.Cast) and _is_moment(node) and not _is_moment(node.arg):
            return "dates or text read as moments"
        if isinstance(node, ops.Cast) and node.to.is_string() and node.arg.dtype.is_date():
            return "the text of a date"
        if isinstance(node, (*_ZONELESS, *_CONDITIONAL)) or (isinstance(node, ops.Cast) and _is_moment(node)):
            continue
        if any(_is_moment(child) for child in node.__children__):
            return "the date or hour of a moment"
    return None


def _is_moment(node: object) -> bool:
    if not isinstance(node, ops.Value) or not node.dtype.is_timestamp():
        return False
    return getattr(node.dtype, "timezone", None) is not None
