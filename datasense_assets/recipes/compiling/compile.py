"""`compile_recipe`: a recipe and its tables in; one SQL statement, types and lineage out, or every error at once."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ibis
import ibis.expr.operations as ops
import ibis.expr.types as ir

from datasense_assets.recipes.advice import form_warnings
from datasense_assets.recipes.compiling.checks import checked_columns
from datasense_assets.recipes.compiling.frame import Context, Lossy
from datasense_assets.recipes.compiling.keeping import Increment, increment_of
from datasense_assets.recipes.compiling.lineage import (
    RowUse,
    Source,
    answered_columns,
    column_lineage,
    named_sources,
    row_lineage,
    row_uses,
)
from datasense_assets.recipes.compiling.statement import select_statement
from datasense_assets.recipes.compiling.stored import DELETED_AT
from datasense_assets.recipes.compiling.walk import output_errors, run_steps
from datasense_assets.recipes.errors import RecipeError, RecipeErrors, RecipeWarning
from datasense_assets.recipes.language.derived import LabelValues
from datasense_assets.recipes.language.recipe import RecipeModel
from datasense_assets.recipes.tableref import TableRef
from datasense_assets.recipes.versions import COMPILER_VERSION, Clock

__all__ = ["COMPILER_VERSION", "DELETED_AT", "Checked", "Compiled", "check_recipe", "compile_recipe"]

_CACHE_SIZE = 512
# Levels of an expression; from about 300 on the SQL writer runs out of Python's stack.
_SURELY_WRITTEN = 150


@dataclass(frozen=True)
class Compiled:
    """What a recipe compiles to. `lossy_casts` has (column, SQL that counts the values lost in it).

    `lineage` gives the source columns of each result column, `answered` those whose question it answers, changed or
    not; `row_lineage` those that only decide which rows there are, `row_uses` the same by how they do; `named` are
    those without which the recipe could not be compiled. `warnings` are what is allowed and probably not meant, in the
    order of the recipe. `clock`: whether the result hangs on the day or even the moment of the build. `increment`: how
    changed rows are known, where the recipe is kept incrementally.
    """

    sql: str
    schema: ibis.Schema
    lineage: Mapping[str, list[Source]]
    answered: Mapping[str, list[Source]]
    row_lineage: list[Source]
    row_uses: Mapping[RowUse, list[Source]]
    named: list[Source]
    warnings: list[RecipeWarning]
    lossy_casts: list[tuple[str, str]]
    key: str
    clock: Clock = "none"
    increment: Increment | None = None


_cache: OrderedDict[str, Compiled] = OrderedDict()
_checked: OrderedDict[str, Checked] = OrderedDict()
_cache_lock = threading.Lock()


def compile_recipe(recipe: RecipeModel, inputs: Mapping[str, TableRef], *, sample: int | None = None) -> Compiled:
    """The recipe over the tables of its inputs, by alias. Needs no connection.

    With `sample`, only that many rows of the first input are read (for previews). Results are kept in the process by
    recipe, input schemas and compiler version.

    Raises:
        RecipeErrors: every mistake at once, in the order of the recipe; columns that a failed step would have made
            cause no errors of their own.

    """
    key = _cache_key(recipe, inputs, sample)
    with _cache_lock:
        if key in _cache:
            _cache.move_to_end(key)
            return _cache[key]
    try:
        compiled = _compile(recipe, inputs, sample, key)
    except RecursionError:
        # Steps that change one column again and again become one expression, and the SQL writer recurses into it.
        message = (
            "Too many steps hang on each other to make one statement of them; split the recipe in two, the second "
            "reading the first as recipe:<name>."
        )
        raise RecipeErrors([RecipeError("invalid_value", "steps", message)]) from None
    with _cache_lock:
        _cache[key] = compiled
        while len(_cache) > _CACHE_SIZE:
            _cache.popitem(last=False)
    return compiled


@dataclass(frozen=True)
class Checked:
    """What is known of a recipe without its SQL, as in `Compiled`."""

    schema: ibis.Schema
    lineage: Mapping[str, list[Source]]
    warnings: list[RecipeWarning]


def check_recipe(recipe: RecipeModel, inputs: Mapping[str, TableRef]) -> Checked:
    """As `compile_recipe`, without writing the SQL, which is two thirds of the work.

    Only where steps are so entangled that the SQL writer may give up is it asked. Results are kept in the same way.

    Raises:
        RecipeErrors: every mistake at once, those of `compile_recipe`.

    """
    key = _cache_key(recipe, inputs, None)
    with _cache_lock:
        if key in _checked:
            _checked.move_to_end(key)
            return _checked[key]
    frame, context = run_steps(recipe, inputs, None)
    context.errors.extend(output_errors(recipe, frame, context))
    if context.errors:
        raise RecipeErrors(context.errors)
    if _depth(frame.table.op()) > _SURELY_WRITTEN:
        compile_recipe(recipe, inputs)
    checked = Checked(frame.table.schema(), column_lineage(frame.table), _warnings(recipe, context))
    with _cache_lock:
        _checked[key] = checked
        while len(_checked) > _CACHE_SIZE:
            _checked.popitem(last=False)
    return checked


def known_errors(recipe: RecipeModel, inputs: Mapping[str, TableRef]) -> list[RecipeError]:
    """Every mistake that shows with the tables that are there: a formula or a pattern cannot be read without any.

    What hangs on columns of a table that is not there is passed over, and so is that it is not there.
    """
    try:
        check_recipe(recipe, inputs)
    except RecipeErrors as errors:
        return [error for error in errors.errors if error.code != "missing_table"]
    return []


def _warnings(recipe: RecipeModel, context: Context) -> list[RecipeWarning]:
    return sorted([*form_warnings(recipe), *context.warnings], key=_place)


def _depth(root: ops.Node) -> int:
    """The longest way down an expression, in nodes."""
    depths: dict[ops.Node, int] = {}
    children: dict[ops.Node, tuple[ops.Node, ...]] = {}
    waiting = [root]
    while waiting:
        node = waiting[-1]
        if node in children:
            waiting.pop()
            depths[node] = 1 + max((depths[child] for child in children[node]), default=0)
        else:
            children[node] = node.__children__
            waiting.extend(child for child in children[node] if child not in children)
    return depths[root]


def _cache_key(recipe: RecipeModel, inputs: Mapping[str, TableRef], sample: int | None) -> str:
    tables = [
        [alias, ref.schema, ref.table, [[name, str(dtype)] for name, dtype in ref.columns.items()], _keys(ref)]
        for alias, ref in sorted(inputs.items())
    ]
    # A null that is written may mean something else than a field left out (`otherwise`).
    written = recipe.model_dump_json(by_alias=True, exclude_unset=True)
    body = json.dumps([COMPILER_VERSION, ibis.__version__, written, tables, sample, _labels_used(recipe, inputs)])
    return hashlib.sha256(body.encode()).hexdigest()


def _keys(ref: TableRef) -> list[list[str]]:
    return sorted(sorted(key) for key in ref.keys)


def _labels_used(recipe: RecipeModel, inputs: Mapping[str, TableRef]) -> list[Any]:
    """The choice labels, when a step writes them into the SQL; else a new translation of a form changes nothing."""
    if not any(isinstance(step, LabelValues) for step in recipe.steps):
        return []
    return [
        [alias, {c: dict(found) for c, found in ref.choice_labels.items()}] for alias, ref in sorted(inputs.items())
    ]


def _compile(recipe: RecipeModel, inputs: Mapping[str, TableRef], sample: int | None, key: str) -> Compiled:
    frame, context = run_steps(recipe, inputs, sample)
    context.errors.extend(output_errors(recipe, frame, context))
    if context.errors:
        raise RecipeErrors(context.errors)
    known = known_columns(inputs)
    counts = [counting(item, known) for item in context.lossy]
    uses = row_uses(frame.table)
    kept = {name for index in recipe.output.indexes for name in index} | set(recipe.output.key or ())
    mentions = context.mentions | {(frame.table.op(), name) for name in kept | checked_columns(recipe.checks)}
    return Compiled(
        sql=select_statement(frame.table, known),
        schema=frame.table.schema(),
        lineage=column_lineage(frame.table),
        answered=answered_columns(frame.table, context.answers),
        row_lineage=row_lineage(uses),
        row_uses=uses,
        named=named_sources(mentions),
        warnings=_warnings(recipe, context),
        lossy_casts=counts,
        key=key,
        clock=_clock(frame.table),
        increment=increment_of(recipe, frame, inputs[recipe.start]),
    )


def known_columns(inputs: Mapping[str, TableRef]) -> dict[tuple[str, str], tuple[str, ...]]:
    """Columns of the tables by schema and name, for writing SQL."""
    return {(ref.schema, ref.table): tuple(ref.columns.names) for ref in inputs.values()}


def counting(item: Lossy, known: Mapping[tuple[str, str], tuple[str, ...]]) -> tuple[str, str]:
    """A column whose values may be lost, and the SQL that counts those."""
    return item.column, select_statement(item.table.filter(item.lost).count().name("lost").as_table(), known)


def _clock(table: ir.Table) -> Clock:
    operation = table.op()
    if operation.find(ops.TimestampNow):
        return "moment"
    return "day" if operation.find(ops.DateNow) else "none"


def _place(warning: RecipeWarning) -> tuple[bool, int]:
    """Inputs before steps, steps in order."""
    step = re.match(r"steps\[(\d+)\]", warning.path)
    return step is not None, int(step[1]) if step else 0
