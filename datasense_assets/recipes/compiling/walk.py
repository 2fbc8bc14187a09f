"""From a recipe's inputs through its steps to its result, as frames; what is wrong on the way is collected."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import ibis

# The modules that register how steps compile.
from datasense_assets.recipes.compiling import aggregate as _aggregate
from datasense_assets.recipes.compiling import columns as _columns
from datasense_assets.recipes.compiling import derived as _derived
from datasense_assets.recipes.compiling import reshaping as _reshaping
from datasense_assets.recipes.compiling import rows as _rows
from datasense_assets.recipes.compiling import tables as _tables
from datasense_assets.recipes.compiling import texts as _texts
from datasense_assets.recipes.compiling import values as _values
from datasense_assets.recipes.compiling import windows as _windows
from datasense_assets.recipes.compiling.checks import check_errors
from datasense_assets.recipes.compiling.frame import UNKNOWN, Context, Frame
from datasense_assets.recipes.compiling.keeping import keeping_errors
from datasense_assets.recipes.compiling.registry import compile_step
from datasense_assets.recipes.compiling.stored import stored_rows
from datasense_assets.recipes.errors import RecipeError, nearest
from datasense_assets.recipes.language.recipe import RecipeModel
from datasense_assets.recipes.language.step import StepBase, step_label
from datasense_assets.recipes.tableref import TableRef

_REGISTERED = (_aggregate, _columns, _derived, _reshaping, _rows, _tables, _texts, _values, _windows)

NOTHING = Frame(ibis.table({UNKNOWN: "string"}, name=UNKNOWN), frozenset({UNKNOWN}), is_open=True)
"""A table of which nothing is known."""


class Gap(StepBase):
    """Stands for a step that could not be read. After it nobody knows the columns."""


def run_steps(
    recipe: RecipeModel,
    inputs: Mapping[str, TableRef],
    sample: int | None,
    seen: Callable[[Frame, Context], None] = lambda *_: None,
) -> tuple[Frame, Context]:
    """The frame after all steps; `seen` is called with the frame before each, and what is known by then."""
    errors: list[RecipeError] = []
    frames: dict[str, Frame] = {}
    for alias, reference in recipe.inputs.items():
        if alias in inputs:
            frames[alias] = Frame(stored_rows(inputs[alias]))
            continue
        message = f"The table of input {alias!r} ({reference}) does not exist yet; load or build it first."
        errors.append(RecipeError("missing_table", f"inputs.{alias}", message, nearest(alias, inputs)))
        frames[alias] = NOTHING
    frame = frames[recipe.start]
    if sample is not None:
        frame = replace(frame, table=frame.table.limit(sample))
    labels = {alias: ref.choice_labels for alias, ref in inputs.items()}
    keys = {alias: ref.keys for alias, ref in inputs.items()}
    context = Context(frames, recipe.start, errors, choice_labels=labels, keys=keys)
    for index, step in enumerate(recipe.steps):
        context.index, context.label = index, step_label(index, step)
        seen(frame, context)
        if isinstance(step, Gap):
            context.gone.clear()
            frame = NOTHING
            continue
        after = compile_step(step, frame, context)
        context.has_room(frame, len(after.names))
        context.note_gone(step, frame, after)
        context.note_answers(step, frame, after)
        frame = after
    return frame, context


def names_before(recipe: RecipeModel, inputs: Mapping[str, TableRef]) -> list[tuple[str, ...]]:
    """Names of the columns before each step, and after the last one."""
    names: list[tuple[str, ...]] = []
    frame, _ = run_steps(recipe, inputs, None, seen=lambda before, _: names.append(before.names))
    return [*names, frame.names]


def output_errors(recipe: RecipeModel, frame: Frame, context: Context) -> list[RecipeError]:
    """What is wrong with `output` and `checks`, held against the frame after the steps."""
    found: list[RecipeError] = []
    names = [
        (f"output.indexes[{i}][{j}]", n) for i, index in enumerate(recipe.output.indexes) for j, n in enumerate(index)
    ]
    for path, name in names:
        if not frame.has(name) and not frame.is_open:
            known = [each for each in frame.names if each != UNKNOWN]
            suggestion = nearest(name, known)
            hint = f"did you mean {suggestion!r}?" if suggestion else "it has " + ", ".join(known) + "."
            message = f"{path}: the result has no column {name!r} to index; {hint}"
            found.append(RecipeError("unknown_column", path, message, suggestion))
    # With a step that failed or could not be read, nobody knows all the casts.
    unknown = context.errors or any(isinstance(step, Gap) for step in recipe.steps)
    casts = None if unknown else {item.column for item in context.lossy}
    found += keeping_errors(recipe, frame)
    return found + check_errors(recipe.checks, frame, casts=casts)
