"""How far a table has been read, what its last load brought, and how its source fared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, case, func, select, update
from sqlalchemy.dialects.postgresql import insert

from datasense_assets.catalog.state.breaker import close_breaker, open_breaker
from datasense_assets.catalog.tables import (
    cursors,
    leases,
    source_status,
    source_tables,
    table_status,
)


class FenceLost(Exception):
    """Another run has taken the source since our lease was given: what we read must not move the cursor."""


@dataclass(frozen=True)
class CursorRow:
    """Position of a table: the connector's own `value`, and `boundary`, row id → short hash of the rows at it."""

    value: str | None
    boundary: dict[str, str]
    fence: int
    updated_at: datetime


@dataclass(frozen=True)
class Fingerprint:
    """What a source said of a table's content when it was last read whole (`value`, the connector's own words), what
    that load depended on besides (`terms`, a hash of settings and versions), and when it was.
    """

    value: str
    terms: str
    read_at: datetime


@dataclass(frozen=True)
class TableStatus:
    """What is known of a table's data; times are None and `data_version` 0 until its first load.

    `load_id`: the load that this is of; the warehouse names another one where a load has written and not recorded it.
    `gone_since`: since then the source has said that it no longer has the table. `column_notes`: sentences by column
    name, such as why one is text.
    """

    data_version: int
    content_hash: str | None
    row_count: int | None
    fresh_as_of: datetime | None
    loaded_at: datetime | None
    load_id: str | None = None
    rejected_rows: int | None = None
    fingerprint: Fingerprint | None = None
    gone_since: datetime | None = None
    column_notes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class FailureRecord:
    """A failure as people read it: `kind` is a stable word, `message` what happened, `advice` what helps.

    `permanent`: nothing was loaded, and trying again without a person's help fails again.
    """

    kind: str
    message: str
    advice: str = ""
    permanent: bool = False


def read_cursor(connection: Connection, table_id: int) -> CursorRow | None:
    """The cursor of the table; None when it has never been loaded live."""
    query = select(cursors.c.value, cursors.c.boundary, cursors.c.fence, cursors.c.updated_at)
    row = connection.execute(query.where(cursors.c.table_id == table_id)).one_or_none()
    return None if row is None else CursorRow(row.value, row.boundary, row.fence, row.updated_at)


def advance_cursor(
    connection: Connection, table_id: int, value: str | None, boundary: Mapping[str, str], fence: int
) -> None:
    """Write the cursor under the fence number of our lease.

    Raises:
        FenceLost: the source's lease, or the cursor itself, carries a higher fence than ours.

    """
    check_fence(connection, table_id, fence)
    row = {"value": value, "boundary": dict(boundary), "fence": fence, "updated_at": func.now()}
    # The returned row tells, not the row count: a driver may not know that of an insert.
    moved = connection.execute(
        insert(cursors)
        .values(table_id=table_id, **row)
        .on_conflict_do_update(index_elements=["table_id"], set_=row, where=cursors.c.fence <= fence)
        .returning(cursors.c.table_id)
    ).one_or_none()
    if moved is None:
        raise FenceLost(f"the cursor of table {table_id} was moved by a later run (our fence is {fence})")


def check_fence(connection: Connection, table_id: int, fence: int) -> None:
    """Do nothing while no other run has taken the table's source; none can until this transaction ends.

    Raises:
        FenceLost: the source's lease carries a higher fence than ours.

    """
    # Locking the lease row makes a run that is about to take the source over wait until this transaction ends.
    held = connection.execute(
        select(leases.c.fence)
        .join(source_tables, source_tables.c.source_id == leases.c.source_id)
        .where(source_tables.c.id == table_id)
        .with_for_update(read=True, of=leases)
    ).scalar()
    if held is not None and held > fence:
        raise FenceLost(f"the source of table {table_id} was taken by another run (fence {held}, ours {fence})")


def read_table_status(connection: Connection, table_id: int) -> TableStatus | None:
    """What is known of the table's data; None when there is no such table."""
    row = connection.execute(
        select(
            table_status.c.data_version,
            table_status.c.content_hash,
            table_status.c.row_count,
            table_status.c.fresh_as_of,
            table_status.c.loaded_at,
            table_status.c.load_id,
            table_status.c.rejected_rows,
            table_status.c.fingerprint,
            table_status.c.column_notes,
            table_status.c.gone_since,
        ).where(table_status.c.table_id == table_id)
    ).one_or_none()
    return None if row is None else TableStatus(**{**row._mapping, "fingerprint": _fingerprint(row.fingerprint)})


def mark_gone(connection: Connection, table_id: int, *, gone: bool) -> None:
    """Remember that the source no longer has the table, or has it again."""
    when = func.coalesce(table_status.c.gone_since, func.now()) if gone else None
    connection.execute(update(table_status).where(table_status.c.table_id == table_id).values(gone_since=when))


def _fingerprint(row: Mapping[str, str] | None) -> Fingerprint | None:
    return None if row is None else Fingerprint(row["value"], row["terms"], datetime.fromisoformat(row["read_at"]))


def keep_fingerprint(connection: Connection, table_id: int, fingerprint: Fingerprint | None) -> None:
    """Remember what the source said of what was just loaded, in the load's own transaction; None forgets."""
    row = fingerprint and {**asdict(fingerprint), "read_at": fingerprint.read_at.isoformat()}
    connection.execute(update(table_status).where(table_status.c.table_id == table_id).values(fingerprint=row))


def record_unchanged(connection: Connection, table_id: int, *, run_id: str, fresh_as_of: datetime) -> int:
    """Record that the source has not changed since the last load, which stays as it is; return the data version."""
    version = connection.execute(
        update(table_status)
        .where(table_status.c.table_id == table_id)
        .values(
            run_id=run_id,
            rows_loaded=0,
            loaded_at=func.now(),
            fresh_as_of=func.greatest(table_status.c.fresh_as_of, fresh_as_of),
        )
        .returning(table_status.c.data_version)
    ).scalar_one()
    return int(version)


def record_load(
    connection: Connection,
    table_id: int,
    *,
    run_id: str,
    row_count: int,
    rows_loaded: int,
    rejected: int,
    content_hash: str | None,
    changed: bool,
    fresh_as_of: datetime | None,
    load_id: str | None = None,
    column_notes: Mapping[str, str] | None = None,
) -> int:
    """Record a load of the table and return its data version, which grows by one when `changed`.

    `row_count`: rows in the table now; `rows_loaded`: rows written by this load (0 included); `rejected`: rows that
    could not be read; `content_hash`: of the whole content, for sources without history; `fresh_as_of`: the moment the
    data is complete up to (None keeps the old one, as a backfill must); `load_id`: as in `TableStatus`;
    `column_notes`: as in `TableStatus` (None keeps them).
    """
    values: dict[str, Any] = {
        "run_id": run_id,
        "row_count": row_count,
        "rows_loaded": rows_loaded,
        "rejected_rows": rejected,
        "content_hash": content_hash,
        "loaded_at": func.now(),
        "load_id": load_id,
    }
    if column_notes is not None:
        values["column_notes"] = dict(column_notes)
    if fresh_as_of is not None:
        values["fresh_as_of"] = func.greatest(table_status.c.fresh_as_of, fresh_as_of)
    if changed:
        values["data_version"] = table_status.c.data_version + 1
        values["changed_at"] = func.now()
    version = connection.execute(
        update(table_status)
        .where(table_status.c.table_id == table_id)
        .values(**values)
        .returning(table_status.c.data_version)
    ).scalar_one()
    return int(version)


def tables_loaded_by(connection: Connection, source_id: int, run_id: str) -> frozenset[int]:
    """Ids of the source's tables whose last load was this run's: what a retry of the run need not do again."""
    of_source = select(source_tables.c.id).where(source_tables.c.source_id == source_id)
    query = select(table_status.c.table_id).where(
        table_status.c.run_id == run_id, table_status.c.table_id.in_(of_source)
    )
    return frozenset(connection.execute(query).scalars())


def record_source_result(
    connection: Connection,
    source_id: int,
    *,
    run_id: str,
    started_at: datetime,
    failure: FailureRecord | None,
    counted: bool = True,
) -> int:
    """Record how a run, or one try of it, ended; return how many runs in a row have failed (0 after a success).

    However often a run tries, it fails once. A success closes the source's breaker, the third permanent failure in a
    row opens it. A failure that is not `counted` is of nobody's making, as when a quota is used up: it is remembered,
    but the source does not fail by it.
    """
    values: dict[str, Any] = {"last_run_id": run_id, "last_started_at": started_at}
    if failure is None:
        values |= {"last_success_at": func.now(), "failures_in_a_row": 0}
        values |= {"failure_kind": None, "failure_message": None, "failure_advice": None, "put_off_until": None}
        close_breaker(connection, source_id)
    else:
        values |= {"last_failure_at": func.now()}
        so_far = source_status.c.failures_in_a_row
        first_of_run = source_status.c.last_run_id.is_distinct_from(run_id) | (so_far == 0)
        values |= {"failures_in_a_row": case((first_of_run, so_far + int(counted)), else_=so_far)}
        values |= {
            "failure_kind": failure.kind,
            "failure_message": failure.message,
            "failure_advice": failure.advice,
        }
    count = connection.execute(
        update(source_status)
        .where(source_status.c.source_id == source_id)
        .values(**values)
        .returning(source_status.c.failures_in_a_row)
    ).scalar_one()
    if failure is not None and failure.permanent:
        now = datetime.now(UTC)
        open_breaker(connection, source_id, failures=int(count), message=failure.message, now=now)
    return int(count)
