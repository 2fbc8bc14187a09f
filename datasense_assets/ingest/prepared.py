"""A load that has been read and not yet merged: its tables, their pages on disk, and what is to become of them."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlt.common.exceptions import SignalReceivedException
from dlt.common.runtime import signals

from datasense_assets.catalog.models import SourceTable
from datasense_assets.catalog.state import CursorRow, FenceLost, Fingerprint, TableStatus
from datasense_assets.connectors.base import ReadRequest, ReadStats, TableInfo
from datasense_assets.ingest import claims
from datasense_assets.ingest.dataset import staging_schema
from datasense_assets.ingest.dlt_jobs import LoadDestination
from datasense_assets.ingest.errors import not_exact, source_error, telling_full_disk
from datasense_assets.ingest.keeping import KeptPages
from datasense_assets.ingest.planning import ColumnPlan
from datasense_assets.ingest.schema import PG_TYPES, count_rows
from datasense_assets.ingest.scratch import RejectedScratch, TableScratch

if TYPE_CHECKING:
    from dlt import Pipeline
    from dlt.extract import DltSource

    from datasense_assets.warehouse.organizations import WarehouseTarget

TablePath = tuple[str, ...]
"""Names of the repeat groups down to a table; () is the top table."""


@dataclass
class TableLoad:
    """One table of a prepared load: its catalog row, its pages on disk, its shape, and the rows to leave out.

    `is_left_over`: a repeat group that the form has no more, of which old submissions still have rows.
    """

    path: TablePath
    info: TableInfo
    table: SourceTable
    warehouse_table: str
    scratch: TableScratch
    found: dict[str, str] | None
    plan: ColumnPlan
    is_left_over: bool = False
    skip: set[str] = field(default_factory=set)
    duplicates: Mapping[str, int] = field(default_factory=dict)
    unique_rows: int = 0

    def __post_init__(self) -> None:
        """Count each row id once."""
        duplicates = self.scratch.duplicates()
        self.duplicates = duplicates.last
        self.unique_rows = self.scratch.rows - duplicates.surplus

    @property
    def expected(self) -> int:
        """Rows that the load brings: each id once, without those that are as they were."""
        return self.unique_rows - len(self.skip)


@dataclass
class PreparedLoad:
    """A read that is ready to be merged: run `pipeline` on `dlt_source` (or call `run`), then `Sync.finish`.

    With `needs_load` false there is nothing new: `run` does nothing, and running the pipeline does no harm. `vanished`:
    repeat groups that the form no longer has.
    """

    pipeline: Pipeline
    dlt_source: DltSource
    tables: list[TableLoad]
    needs_load: bool
    mirror: bool
    complete: bool
    request: ReadRequest
    cursor: CursorRow | None
    boundary: dict[str, str]
    cursor_after: str | None
    rejected: RejectedScratch
    fingerprint: Fingerprint | None
    content_hash: str | None
    status: TableStatus | None
    stats: ReadStats
    notes: list[str]
    loaded_at: datetime
    kept: KeptPages
    claim: claims.Claim
    target: WarehouseTarget
    folder: Path
    vanished: tuple[SourceTable, ...] = ()
    ensured: bool = False
    _signal: int | None = None

    @property
    def top(self) -> TableLoad:
        """The table itself; the others are its repeat groups."""
        return self.tables[0]

    def run(self) -> Any:
        """Merge what was read into the warehouse; dlt's load info, None where nothing is new.

        Raises:
            SourceError: as raised under dlt; its own wrapping is taken off.
            FenceLost: another load of the table has begun since.
        """
        if not self.needs_load:
            return None
        try:
            return self.pipeline.run(self.dlt_source)
        except Exception as error:
            cause = self.explain(error)
            if cause is error:
                raise
            raise cause from error

    def let_go(self) -> None:
        """Close what dlt's jobs have left open."""
        destination = self.pipeline.destination
        if isinstance(destination, LoadDestination):
            destination.let_go()

    def stop_if_interrupted(self) -> None:
        """Asked between two batches, so that whoever cancels a run does not wait for all of a large table.

        Raises:
            SignalReceivedException: dlt, which takes signals for itself while it runs, has received one.
        """
        if signals.was_signal_received():
            received = signals.exception_for_signal()
            self._signal = received.signal_code if isinstance(received, SignalReceivedException) else None
            raise received

    def explain(self, error: Exception) -> Exception:
        """What a failed run of the pipeline comes down to; the error itself where nothing more is known.

        A signal that ended it goes on to whoever handled signals before, who raises as is meant for it.
        """
        received = self._signal or _signal_in(error)
        if received is not None:
            signal.raise_signal(received)
        try:
            with telling_full_disk(self.folder):
                raise error
        except Exception as told:  # noqa: BLE001 - given back, to be raised by the caller
            cause = source_error(told)
        if cause is not None:
            return cause
        with self.target.connect() as connection:
            if not claims.is_held(connection, self.claim):
                return FenceLost(f"table {self.claim.table} was taken over by another load")
            staging = staging_schema(self.target.schema)
            for each in self.tables if self.ensured else ():
                if each.expected and count_rows(connection, staging, each.warehouse_table) != each.expected:
                    return not_exact(each.warehouse_table, each.expected)
        return error

    def guard(self, table: str) -> list[str]:
        """SQL at the head of a table's merge: see `claims.guard`."""
        load = next(each for each in self.tables if each.warehouse_table == table)
        return claims.guard(self.claim, table, load.expected)


def _signal_in(error: BaseException) -> int | None:
    current: BaseException | None = error
    while current is not None and not isinstance(current, SignalReceivedException):
        current = current.__cause__ or current.__context__
    return None if current is None else current.signal_code


def same_shape(tables: list[TableLoad]) -> bool:
    """Whether the warehouse already has every column with its type."""
    for each in tables:
        wanted = {column.name: PG_TYPES[column.type] for column in each.plan.columns}
        if each.found is None or any(each.found.get(n) != t for n, t in wanted.items()):
            return False
    return True


def content_hash(tables: list[TableLoad]) -> str:
    """Hash of all that was read, repeat groups included."""
    return "-".join(each.scratch.content_hash for each in tables if each.scratch.rows or not each.path)
