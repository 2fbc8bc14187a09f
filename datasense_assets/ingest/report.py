"""What a load is asked to do and what it says it did; plain values, no behaviour."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from datasense_assets.catalog.models import Organization, Source, SourceColumn
from datasense_assets.catalog.state import SchemaChange
from datasense_assets.connectors.base import Window


@dataclass(frozen=True)
class SyncPlan:
    """One source to load for one run.

    `window` set: a backfill of exactly that stretch, which neither reads nor moves the cursor; `changed_since`: the
    same for what may have been edited since then. `full`: re-read the whole history. None of them: a live load, what is
    new since the cursor. `origin`: the run that this one is another try of ('' for none): a read that it broke off may
    be gone on with.
    """

    org: Organization
    source: Source
    run_id: str
    window: Window | None = None
    full: bool = False
    origin: str = ""
    changed_since: datetime | None = None

    @property
    def again(self) -> bool:
        """Whether a part is read again, beside the cursor."""
        return self.window is not None or self.changed_since is not None


@dataclass(frozen=True)
class TableReport:
    """What a load did to one table; the top table's report comes first, its repeat groups' follow.

    `row_count`: rows in the table now, marked ones included; `live_rows`: without them (None: not counted).
    `rows_read`: rows that came, each of them one of `rows_loaded` (added or changed), `rows_unchanged` (as they were),
    `rows_repeated` (came again within the read, which keeps the last) or `rows_rejected`; `rows_padded` had fewer
    fields than the header. What was not read again, being unchanged, has none but the `rows_rejected` of its last read.
    `bytes`, `api_calls`, `throttled_seconds` are of the whole read and stand in the top table's report (0 in the
    others).
    `preview`: up to ten rows, personal columns masked. `changed`: the data version moved. `first_partition` None: every
    partition up to `last_partition` is filled (the whole history was read).
    """

    slug: str
    table_id: int
    schema: str
    warehouse_table: str
    title: str
    row_count: int
    live_rows: int | None
    rows_loaded: int
    rows_read: int
    rows_unchanged: int
    rows_repeated: int
    rows_padded: int
    rows_rejected: int
    rows_deleted: int
    bytes: int
    api_calls: int
    throttled_seconds: float
    cursor_before: str | None
    cursor_after: str | None
    columns: tuple[SourceColumn, ...]
    schema_changes: tuple[SchemaChange, ...]
    notes: tuple[str, ...]
    preview: tuple[dict[str, str | None], ...]
    data_version: int
    changed: bool
    first_partition: str | None
    last_partition: str
