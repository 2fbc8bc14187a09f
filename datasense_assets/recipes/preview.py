"""Looking at what a recipe makes, at any of its steps, on a part of the data and with little time."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Any

import psycopg
from psycopg import sql

from datasense_assets.recipes.compiling.compile import Checked, Compiled, compile_recipe
from datasense_assets.recipes.compiling.kinds import kind_of
from datasense_assets.recipes.compiling.stages import Stage, compile_stages
from datasense_assets.recipes.language.step import step_label
from datasense_assets.recipes.recipe import Recipe
from datasense_assets.recipes.tableref import TableRef
from datasense_assets.warehouse.errors import WarehouseError
from datasense_assets.warehouse.swap import LimitExceeded, SessionLimits, apply_limits

MASK = "•••"
SAMPLE = 10_000
# What `casts.failing` says, in the words that PostgreSQL has for a text it cannot read.
_MARKED = re.compile(r"^[^\"]*\"(column .* cannot be read as .*)\"$", re.DOTALL)
_LONGEST_REASON = 300


@dataclass(frozen=True)
class StepFigures:
    """What a step leaves: rows, nulls by column, and values that its casts could not read by column.

    `step` 0 is the first input as it is read. The figures are None where the time did not suffice.
    """

    step: int
    label: str
    columns: tuple[str, ...]
    rows: int | None = None
    nulls: Mapping[str, int] | None = None
    lost: Mapping[str, int] | None = None


@dataclass(frozen=True)
class Preview:
    """The first rows of a step, personal columns masked. `types` are the language's own.

    `sampled`: the first input has more rows than were read, so all figures are of a part. `steps`: one for each step up
    to this one where figures were asked for.
    """

    columns: tuple[str, ...]
    types: Mapping[str, str]
    rows: tuple[tuple[Any, ...], ...]
    sql: str
    sampled: bool
    steps: tuple[StepFigures, ...] = ()


def preview_step(
    connection: psycopg.Connection,
    recipe: Recipe,
    inputs: Mapping[str, TableRef],
    *,
    step: int | None = None,
    rows: int = 50,
    sample: int | None = SAMPLE,
    figures: bool = False,
    limits: SessionLimits | None = None,
) -> Preview:
    """The first `rows` rows after the first `step` steps (all of them by default; 0 is the first input itself).

    Only `sample` rows of the first input are read (None: all). Nothing is written. The limits (20 s by default) are for
    the whole of it: the rows come first, then as many of the `figures` as there is time for.

    Raises:
        RecipeErrors: a step up to there has mistakes; those of later steps do not matter.
        LimitExceeded: not even the rows came in time.
        WarehouseError: a value stands in the way, such as one that a cast must not lose.
        ValueError: the recipe has no such step.

    """
    last = len(recipe.steps) if step is None else step
    if not 0 <= last <= len(recipe.steps):
        raise ValueError(f"the recipe has {len(recipe.steps)} steps; there is no step {last}")
    compiled = compile_recipe(recipe.upto(last), inputs, sample=sample)
    look = _Look(connection, recipe, inputs, sample, limits or SessionLimits(statement_timeout=20.0))
    statement = sql.SQL("SELECT * FROM ({}) AS preview LIMIT {}").format(sql.SQL(compiled.sql), sql.Literal(rows))
    try:
        with connection.transaction(force_rollback=True):
            apply_limits(connection, look.limits)
            connection.execute("SET LOCAL transaction_read_only = on")
            found = look.rows(statement)
            sampled = sample is not None and look.has_more()
            steps = look.figures(last) if figures else ()
    except psycopg.errors.QueryCanceled:
        raise LimitExceeded(
            f"The preview of {recipe.name} took longer than {look.limits.statement_timeout:g} s.",
            advice="Look at an earlier step or at a smaller sample, or let the first steps filter.",
        ) from None
    except (psycopg.DataError, psycopg.ProgrammingError) as error:
        raise WarehouseError(
            f"{recipe.name} cannot be shown so far: {reason(error, inputs.values())}.",
            advice="Look at an earlier step to see the value that stands in the way.",
        ) from None
    names = tuple(compiled.schema.names)
    hidden = personal_columns(compiled, inputs.values())
    types = {name: kind_of(dtype).value for name, dtype in compiled.schema.items()}
    return Preview(names, types, tuple(mask(names, row, hidden) for row in found), compiled.sql, sampled, steps)


class _Look:
    """One preview: what it looks at, and until when."""

    def __init__(
        self,
        connection: psycopg.Connection,
        recipe: Recipe,
        inputs: Mapping[str, TableRef],
        sample: int | None,
        limits: SessionLimits,
    ) -> None:
        self.connection, self.recipe, self.inputs, self.sample, self.limits = connection, recipe, inputs, sample, limits
        self.deadline = monotonic() + limits.statement_timeout

    def rows(self, statement: sql.Composed) -> list[tuple[Any, ...]]:
        """The rows of a statement, which is stopped when the time of the whole preview is over."""
        left = max(1, int((self.deadline - monotonic()) * 1000))
        self.connection.execute("SELECT set_config('statement_timeout', %s, true)", (str(left),))
        return self.connection.execute(statement, binary=False).fetchall()

    def has_more(self) -> bool:
        """Whether the first input has more rows than the sample."""
        one_more = compile_recipe(self.recipe.upto(0), self.inputs, sample=(self.sample or 0) + 1)
        (row,) = self.rows(sql.SQL("SELECT count(*) FROM ({}) AS preview").format(sql.SQL(one_more.sql)))
        return self.sample is not None and int(row[0]) > self.sample

    def figures(self, last: int) -> tuple[StepFigures, ...]:
        """The figures of each step up to the last; when the time is over, the rest without numbers."""
        found: list[StepFigures] = []
        in_time = True
        for number, stage in enumerate(compile_stages(self.recipe.upto(last), self.inputs, sample=self.sample)):
            label = step_label(number - 1, self.recipe.steps[number - 1]) if number else f"Input {self.recipe.start}"
            figures = StepFigures(number, label, stage.columns)
            if in_time:
                try:
                    # a savepoint: what has been counted stays when this is stopped
                    with self.connection.transaction():
                        figures = self._counted(figures, stage)
                except psycopg.errors.QueryCanceled:
                    in_time = False
            found.append(figures)
        return tuple(found)

    def _counted(self, figures: StepFigures, stage: Stage) -> StepFigures:
        null = sql.SQL("count(*) FILTER (WHERE {} IS NULL)")
        counts = sql.SQL(", ").join(
            [sql.SQL("count(*)"), *(null.format(sql.Identifier(name)) for name in figures.columns)]
        )
        (row,) = self.rows(sql.SQL("SELECT {} FROM ({}) AS preview").format(counts, sql.SQL(stage.sql)))
        lost: dict[str, int] = {}
        for column, query in stage.lossy_casts:
            (one,) = self.rows(sql.SQL("SELECT * FROM ({}) AS lost").format(sql.SQL(query)))
            lost[column] = lost.get(column, 0) + int(one[0])
        nulls = dict(zip(figures.columns, map(int, row[1:]), strict=True))
        return StepFigures(figures.step, figures.label, figures.columns, int(row[0]), nulls, lost)


def reason(error: psycopg.Error, inputs: Iterable[TableRef]) -> str:
    """What PostgreSQL says of the failure, without the value that it names where an input has personal columns."""
    said = (error.diag.message_primary or str(error)).strip()
    marked = _MARKED.search(said)
    if marked:
        said = marked[1] if len(marked[1]) <= _LONGEST_REASON else f"{marked[1][: _LONGEST_REASON - 3]}..."
    if not any(ref.personal for ref in inputs) or not isinstance(error, psycopg.DataError):
        return said
    what, found, _ = said.partition(" cannot be read as ")
    if found:
        kind = said[len(what) + len(found) :].partition(":")[0]
        return f"{what}{found}{kind}: {MASK}"
    return said.partition(":")[0]


def personal_columns(compiled: Compiled | Checked, inputs: Iterable[TableRef]) -> frozenset[str]:
    """The result's columns that are made of a personal column."""
    personal = {(ref.table, name) for ref in inputs for name in ref.personal}
    return frozenset(name for name, sources in compiled.lineage.items() if personal.intersection(sources))


def mask(names: tuple[str, ...], row: tuple[Any, ...], hidden: frozenset[str]) -> tuple[Any, ...]:
    """The row with every value of a hidden column covered; null shows as null."""
    return tuple(
        MASK if name in hidden and value is not None else value for name, value in zip(names, row, strict=True)
    )
