"""Making a recipe's table in the warehouse: whole beside the old one, row by row, or as a view."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import psycopg

from datasense_assets.recipes.compiling.compile import Compiled
from datasense_assets.recipes.compiling.keeping import LOADED_AT, ROW_ID
from datasense_assets.recipes.compiling.stored import DELETED_AT
from datasense_assets.recipes.language.checks import MaxLossyCastsCheck
from datasense_assets.recipes.preview import reason
from datasense_assets.recipes.recipe import Recipe
from datasense_assets.recipes.tableref import TableRef
from datasense_assets.recipes.versions import columns_hash, content_hash, short_hash
from datasense_assets.warehouse.columns import ColumnSpec, IndexSpec, full_name
from datasense_assets.warehouse.errors import WarehouseError
from datasense_assets.warehouse.increment import Origin, replace_changed_rows
from datasense_assets.warehouse.reading import is_view, table_columns, what_stays
from datasense_assets.warehouse.swap import LimitExceeded, SessionLimits, apply_limits, replace_table, replace_view


class Inspect(Protocol):
    """Looks at a recipe's table; raises where it must not be put in place or built on.

    `lost`: values lost to casts by column, None where nothing was built. `limits` None: the transaction has them.
    """

    def __call__(
        self,
        connection: psycopg.Connection,
        ref: TableRef,
        *,
        lost: Mapping[str, int] | None,
        limits: SessionLimits | None,
    ) -> None:
        """Look at the table."""


class BuildFailed(WarehouseError):
    """The recipe compiles, and its data or the tables under it stood in the way; a table that was there stays."""


@dataclass
class Made:
    """What came of making the table; `added` and `removed` rows where only changed ones were touched."""

    rows: int
    content: str | None = None
    lost: dict[str, int] = field(default_factory=dict)
    unchanged: bool = False
    added: int | None = None
    removed: int | None = None
    lost_views: tuple[str, ...] = ()


@dataclass(frozen=True)
class Maker:
    """All that one build needs at hand."""

    connection: psycopg.Connection
    schema: str
    recipe: Recipe
    compiled: Compiled
    columns: tuple[ColumnSpec, ...]
    limits: SessionLimits
    inputs: tuple[TableRef, ...]
    personal: frozenset[str] = frozenset()
    inspect: Inspect | None = None

    def is_there(self) -> bool:
        """Whether the table has the columns that the recipe gives it; somebody may have dropped or altered it."""
        found = table_columns(self.connection, self.schema, self.recipe.ident)
        if [(c.name, c.pg_type) for c in found] != [(c.name, full_name(c.pg_type)) for c in self.columns]:
            return False
        return is_view(self.connection, self.schema, self.recipe.ident) == (self.recipe.output.materialize == "view")

    def make(self, *, incrementally: bool) -> Made:
        """Make it; `incrementally`: the table is that of the same definition, so an incremental recipe may build on it.

        Raises:
            BuildFailed: the data stands against it.
            SwapRefused, TableBusy, LimitExceeded: from the warehouse.
        """
        try:
            made = Made(rows=0, lost=self._count_lost())
            if self.recipe.output.materialize == "view":
                self._as_view(made)
            elif incrementally and self.compiled.increment is not None:
                self._row_by_row(made)
            else:
                self._whole(made)
        except (psycopg.DataError, psycopg.ProgrammingError) as error:
            raise self._failed(error, reason(error, self.inputs)) from None
        return made

    def look_over(self) -> None:
        """Have the table that stands inspected, as it will not be made.

        Its inputs are those that it was made of, so what casts lose of them is what they lost in it.
        """
        if self.inspect is not None:
            ref = TableRef(self.schema, self.recipe.ident, self.compiled.schema, self.personal)
            asked = any(isinstance(check, MaxLossyCastsCheck) for check in self.recipe.checks)
            self.inspect(self.connection, ref, lost=self._count_lost() if asked else None, limits=self.limits)

    def _whole(self, made: Made) -> None:
        output = self.recipe.output
        indexes = [IndexSpec(tuple(index)) for index in output.indexes]
        if output.key is not None:
            indexes.append(IndexSpec(tuple(output.key), unique=True))
        replaced = replace_table(
            self.connection,
            self.schema,
            self.recipe.ident,
            self.columns,
            self.compiled.sql,
            indexes=indexes,
            table_comment=self._title,
            limits=self.limits,
            staged=lambda connection, name, rows: self._staged(made, connection, name, rows),
        )
        made.rows, made.lost_views = replaced.rows, replaced.lost_views

    def _as_view(self, made: Made) -> None:
        replaced = replace_view(
            self.connection,
            self.schema,
            self.recipe.ident,
            self.columns,
            self.compiled.sql,
            view_comment=self._title,
            limits=self.limits,
            staged=None if self.inspect is None else lambda connection, name, _: self._inspect(made, connection, name),
        )
        made.rows, made.lost_views = replaced.rows, replaced.lost_views

    def _row_by_row(self, made: Made) -> None:
        increment = self.compiled.increment
        assert increment is not None  # noqa: S101 - the caller has looked
        origin = Origin(
            schema=increment.schema,
            table=increment.table,
            row_id=ROW_ID,
            row_loaded_at=LOADED_AT,
            deleted_at=DELETED_AT if increment.tracks_deletes else None,
            key=increment.key,
            loaded_at=increment.loaded_at,
        )
        done = replace_changed_rows(
            self.connection,
            self.schema,
            self.recipe.ident,
            self.columns,
            self.compiled.sql,
            origin,
            limits=self.limits,
            staged=lambda connection, name, rows: self._staged(made, connection, name, rows),
        )
        made.rows, made.added, made.removed = done.rows, done.added, done.removed

    @property
    def _title(self) -> str | None:
        return self.recipe.description or self.recipe.title

    def _inspect(self, made: Made, connection: psycopg.Connection, name: str) -> None:
        if self.inspect is not None:
            ref = TableRef(self.schema, name, self.compiled.schema, self.personal)
            self.inspect(connection, ref, lost=made.lost, limits=None)

    def _staged(self, made: Made, connection: psycopg.Connection, name: str, rows: int) -> None:
        self._inspect(made, connection, name)
        found = content_hash(connection, self.schema, name, rows)
        made.content = None if found is None else short_hash(columns_hash(self.columns), found)

    def _count_lost(self) -> dict[str, int]:
        """Before the swap, so that the swap's lock on the old table is short."""
        lost: Counter[str] = Counter()
        if not self.compiled.lossy_casts:
            return {}
        try:
            with self.connection.transaction():
                apply_limits(self.connection, self.limits)
                for column, query in self.compiled.lossy_casts:
                    row = self.connection.execute(query).fetchone()
                    lost[column] += 0 if row is None else int(row[0])
        except psycopg.errors.QueryCanceled:
            raise LimitExceeded(
                f"Counting unreadable values of {self.recipe.name} took longer than"
                f" {self.limits.statement_timeout:g} s.",
                advice="Let it read less (filter earlier), or raise the limit.",
            ) from None
        return dict(lost)

    def _failed(self, error: psycopg.Error, said: str) -> BuildFailed:
        stays = what_stays(self.connection, self.schema, self.recipe.ident)
        return BuildFailed(f"{self.recipe.name} was not built, {stays}: {said}.", advice=_advice(error, said))


def _advice(error: psycopg.Error, said: str) -> str:
    if "cannot be read as" in said:
        return "Mend the value at its source, replace it before the cast, or set on_error to null."
    if isinstance(error, (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn)):
        return "An input has changed since the recipe was compiled; build it again."
    if "out of range: overflow" in str(error) or "out of range: underflow" in str(error):
        # Null would hide that a figure is wrong, and PostgreSQL has no arithmetic that gives it.
        return (
            "A result is beyond 1.8e308, or nearer to zero than 1e-308, which no number holds. Look at the recipe's "
            "preview step by step to see where it happens, and filter or replace such values before that step."
        )
    if isinstance(error, psycopg.errors.NumericValueOutOfRange):
        return "A number is too large for its type; cast the columns it is made of to number first."
    return "Look at the recipe's preview step by step to see where it happens."
