"""The rows of a prepared load as dlt takes them: read back from disk, each once, typed and named, in batches."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from datasense_assets.connectors.base import INDEX, PARENT_ID, ROW_ID
from datasense_assets.ingest.casting import ARROW_TYPES, cast
from datasense_assets.ingest.dataset import LOADED_AT
from datasense_assets.ingest.prepared import TableLoad
from datasense_assets.ingest.schema import DELETED_AT
from datasense_assets.ingest.scratch import SPECIAL_COLUMNS


def typed_rows(load: TableLoad, *, loaded_at: datetime, timezone: str, tracks_deletes: bool) -> Iterator[pa.Table]:
    """The table's rows with the columns of its plan; a row id that came twice comes once, as it came last."""
    special = [name for name in SPECIAL_COLUMNS if load.path or name == ROW_ID]
    keys = [column.key for column in load.plan.columns if column.key in load.scratch.votes]
    skip = pa.array(sorted(load.skip), pa.string())
    repeated = pa.array(list(load.duplicates), pa.string())
    last = pa.array(sorted(load.duplicates.values()), pa.int64())
    position = 0
    for page in load.scratch.batches([*special, *keys]):
        batch = page
        if load.duplicates:
            numbers = pa.array(range(position, position + batch.num_rows), pa.int64())
            keep = pc.or_(pc.is_in(numbers, last), pc.invert(pc.is_in(batch[ROW_ID], repeated)))
            batch = batch.filter(keep)
        position += page.num_rows
        if load.skip:
            batch = batch.filter(pc.invert(pc.is_in(batch[ROW_ID], skip)))
        if batch.num_rows:
            yield _typed(batch, load, loaded_at, timezone, tracks_deletes)


def _typed(batch: pa.Table, load: TableLoad, loaded_at: datetime, timezone: str, tracks_deletes: bool) -> pa.Table:
    rows = batch.num_rows
    moment = pa.timestamp("us", tz="UTC")
    columns: dict[str, Any] = {ROW_ID: batch[ROW_ID]}
    if load.path:
        columns[PARENT_ID] = batch[PARENT_ID]
        columns[INDEX] = batch[INDEX].cast(pa.int64())
    columns[LOADED_AT] = pa.repeat(pa.scalar(loaded_at, moment), rows)
    if tracks_deletes:
        columns[DELETED_AT] = pa.nulls(rows, moment)
    for column in load.plan.columns:
        if column.key in load.scratch.votes:
            plain = load.scratch.votes[column.key].plain
            columns[column.name] = cast(batch[column.key], column.type, timezone, plain=plain)
        else:
            columns[column.name] = pa.nulls(rows, ARROW_TYPES[column.type])
    return pa.table(columns)
