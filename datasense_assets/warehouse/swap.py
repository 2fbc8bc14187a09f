"""Replacing a table whole: built beside the old one with declared types, then swapped in by name, in one transaction.

Readers see the old table until the commit and the new one after it. What people hung on the old table comes along:
grants, comments, indexes, constraints, and views of ours. What cannot come along (others' views on it, foreign keys to
it, policies, triggers) is refused by name before any work is done. If anything fails, the old table stays as it was.

The new table is filled while readers use the old one; only the change of names needs the old one for itself. That is
asked for in short tries: a reader that takes long makes the swap wait, and nobody queues behind the swap.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic

import psycopg
from psycopg import sql

from datasense_assets.warehouse.attachments import Attachments, read_attachments, refusing, temporary_name
from datasense_assets.warehouse.columns import ColumnSpec, IndexSpec, comment_on, declared
from datasense_assets.warehouse.errors import DatabaseUnavailable, SwapRefused, WarehouseError
from datasense_assets.warehouse.reading import what_stays
from datasense_assets.warehouse.views import create_view, views_set_aside

OWN_INDEX_PREFIX = "_ds_ix_"
# How long one try for the old table may hold up readers that come after it, and the pause between two tries.
_TRY_SECONDS = 0.1
_PAUSE_SECONDS = 0.4

Staged = Callable[[psycopg.Connection, str, int], None]
"""Looks at the new table before it counts: the connection, in its transaction, the table's name and how many rows."""


class TableBusy(DatabaseUnavailable):
    """Somebody has used the table for longer than the lock timeout: try again."""


class LimitExceeded(WarehouseError):
    """The statement took longer than it may."""


@dataclass(frozen=True)
class SessionLimits:
    """Limits of one transaction: times in seconds, memory in MB for each sort or hash.

    `lock_timeout`: how long to wait, in all, for a table that others use. `timezone`: in which days begin and hours are
    read.
    """

    statement_timeout: float = 600.0
    lock_timeout: float = 30.0
    work_mem: int = 64
    timezone: str = "UTC"


@dataclass(frozen=True)
class Replaced:
    """Rows of the new table (or view), and views of ours that no longer fit it and are gone (`schema.view`)."""

    rows: int
    lost_views: tuple[str, ...] = ()


def apply_limits(connection: psycopg.Connection, limits: SessionLimits) -> None:
    """Set the limits for the current transaction only; nothing stays on a pooled connection."""
    connection.execute(
        "SELECT set_config('statement_timeout', %s, true), set_config('lock_timeout', %s, true),"
        " set_config('work_mem', %s, true), set_config('timezone', %s, true)",
        (
            str(int(limits.statement_timeout * 1000)),
            str(int(limits.lock_timeout * 1000)),
            f"{limits.work_mem}MB",
            limits.timezone,
        ),
    )


def replace_table(
    connection: psycopg.Connection,
    schema: str,
    table: str,
    columns: Sequence[ColumnSpec],
    insert_select: str,
    *,
    indexes: Sequence[IndexSpec] = (),
    table_comment: str | None = None,
    limits: SessionLimits | None = None,
    staged: Staged | None = None,
) -> Replaced:
    """Make `schema.table` hold exactly the rows of `insert_select`, with the declared types.

    `insert_select` is one SELECT compiled by us, its columns in the order of `columns`. Runs in a transaction of
    its own, or in a savepoint of the caller's. `staged` looks at the new table, whole and analysed, before it takes the
    old one's place; what it raises undoes everything.

    Raises:
        SwapRefused: something depends on the old table, it is no plain table, or a kept unique index does not hold.
        TableBusy: it was locked for longer than `limits.lock_timeout`.
        LimitExceeded: the statement took longer than `limits.statement_timeout`.
        psycopg.Error: the SELECT itself failed (a value does not fit its type, a column is not there).
    """
    limits = limits or SessionLimits()
    new = temporary_name(schema, table)
    with _in_turn(connection, schema, table, limits):
        old = _what_hangs_on(connection, schema, table)
        _create(connection, schema, new, columns)
        rows = _fill(connection, schema, new, columns, insert_select)
        renames = _add_own_indexes(connection, schema, new, table, columns, indexes)
        if old is not None:
            renames += old.build_on(connection, schema, new)
        title = table_comment if table_comment is not None or old is None else old.comment
        comment_on(connection, "TABLE", schema, new, title, _comments(columns, old))
        connection.execute(sql.SQL("ANALYZE {}").format(sql.Identifier(schema, new)))
        if staged is not None:
            staged(connection, new, rows)
        if old is not None:
            old.grant_on(connection, schema, new)
        lost = _take_turn(connection, limits, lambda: _swap(connection, schema, table, new, old, renames))
        return Replaced(rows, tuple(lost))


def replace_view(
    connection: psycopg.Connection,
    schema: str,
    name: str,
    columns: Sequence[ColumnSpec],
    select: str,
    *,
    view_comment: str | None = None,
    limits: SessionLimits | None = None,
    staged: Staged | None = None,
) -> Replaced:
    """Make `schema.name` a view of `select` with the declared types, in place of the table or view that was there.

    Grants and comments come along, and so do other views of ours that hang on it. All of it is read once, so that a
    view that fails is not taken for made. `staged`, transactions and errors as in `replace_table`.
    """
    limits = limits or SessionLimits()
    with _in_turn(connection, schema, name, limits):
        old = _what_hangs_on(connection, schema, name)

        def swap() -> list[str]:
            with views_set_aside(connection, schema, name) as lost:
                _drop(connection, schema, name, old)
                create_view(connection, schema, name, columns, select)
                title = view_comment if view_comment is not None or old is None else old.comment
                comment_on(connection, "VIEW", schema, name, title, _comments(columns, old))
                if old is not None:
                    old.grant_on(connection, schema, name)
            return lost

        new = temporary_name(schema, name)
        create_view(connection, schema, new, columns, select)
        # a plain count would leave out what makes the columns; of whole rows nothing is left out
        reading = sql.SQL("SELECT count(*), count(made) FROM {} AS made").format(sql.Identifier(schema, new))
        row = connection.execute(reading).fetchone()
        rows = int(row[0]) if row else 0
        if staged is not None:
            staged(connection, new, rows)
        connection.execute(sql.SQL("DROP VIEW {}").format(sql.Identifier(schema, new)))
        return Replaced(rows, tuple(_take_turn(connection, limits, swap)))


def _what_hangs_on(connection: psycopg.Connection, schema: str, table: str) -> Attachments | None:
    old = read_attachments(connection, schema, table)
    if old is not None and old.obstacles:
        raise _refused(f"{schema}.{table}", old.obstacles)
    return old


@contextmanager
def _in_turn(connection: psycopg.Connection, schema: str, table: str, limits: SessionLimits) -> Iterator[None]:
    """A transaction under the limits, one builder of a place at a time; what PostgreSQL says in words of ours."""
    place = f"{schema}.{table}"
    try:
        with connection.transaction():
            apply_limits(connection, limits)
            connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (f"datasense swap {place}",))
            yield
    except psycopg.errors.LockNotAvailable:
        raise TableBusy(
            f"{place} was in use for more than {limits.lock_timeout:g} s and was not replaced.", advice="Try again."
        ) from None
    except psycopg.errors.QueryCanceled:
        stays = what_stays(connection, schema, table)
        raise LimitExceeded(
            f"Building {place} took longer than {limits.statement_timeout:g} s; {stays}.",
            advice="Let it read less (filter earlier, join on fewer rows), or raise the limit.",
        ) from None
    except psycopg.errors.DependentObjectsStillExist as error:
        raise _refused(place, tuple((error.diag.message_detail or "").splitlines())) from None


def _swap(
    connection: psycopg.Connection,
    schema: str,
    table: str,
    new: str,
    old: Attachments | None,
    renames: list[tuple[str, str]],
) -> list[str]:
    with views_set_aside(connection, schema, table) as lost:
        _drop(connection, schema, table, old)
        _rename(connection, "TABLE", schema, new, table)
        for temporary, final in renames:
            _rename(connection, "INDEX", schema, temporary, final)
    return lost


def _drop(connection: psycopg.Connection, schema: str, table: str, old: Attachments | None) -> None:
    if old is not None:
        kind = sql.SQL("VIEW" if old.is_view else "TABLE")
        connection.execute(sql.SQL("DROP {} {}").format(kind, sql.Identifier(schema, table)))


def _take_turn(connection: psycopg.Connection, limits: SessionLimits, action: Callable[[], list[str]]) -> list[str]:
    """Do what needs others' tables for itself, in tries so short that who comes after it hardly waits.

    A lock that is waited for holds up all who ask after it; so each try gives up soon, lets them pass, and comes again.

    Raises:
        psycopg.errors.LockNotAvailable: no try succeeded within `limits.lock_timeout`.
    """
    deadline = monotonic() + limits.lock_timeout
    attempt = str(max(1, int(min(_TRY_SECONDS, limits.lock_timeout) * 1000)))
    pause = threading.Event()
    while True:
        try:
            with connection.transaction():
                connection.execute("SELECT set_config('lock_timeout', %s, true)", (attempt,))
                return action()
        except psycopg.errors.LockNotAvailable:
            if monotonic() + _PAUSE_SECONDS >= deadline:
                raise
        pause.wait(_PAUSE_SECONDS)


def _refused(place: str, obstacles: Sequence[str]) -> SwapRefused:
    return SwapRefused(
        f"{place} cannot be replaced, because of: {'; '.join(obstacles)}.",
        advice="Drop what is named (a recipe can take a view's place), then run this again.",
    )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _create(connection: psycopg.Connection, schema: str, new: str, columns: Sequence[ColumnSpec]) -> None:
    parts = [sql.SQL("{} {}").format(sql.Identifier(column.name), declared(column)) for column in columns]
    connection.execute(sql.SQL("CREATE TABLE {} ({})").format(sql.Identifier(schema, new), sql.SQL(", ").join(parts)))


def _fill(
    connection: psycopg.Connection, schema: str, new: str, columns: Sequence[ColumnSpec], insert_select: str
) -> int:
    names = sql.SQL(", ").join(sql.Identifier(column.name) for column in columns)
    statement = sql.SQL("INSERT INTO {} ({}) {}").format(sql.Identifier(schema, new), names, sql.SQL(insert_select))
    # binary asks for the extended protocol, in which the server itself refuses a second statement
    return connection.execute(statement, binary=True).rowcount


def _add_own_indexes(
    connection: psycopg.Connection,
    schema: str,
    new: str,
    table: str,
    columns: Sequence[ColumnSpec],
    indexes: Sequence[IndexSpec],
) -> list[tuple[str, str]]:
    """Build the declared indexes; they are known by their prefix, so one that is no longer declared goes away."""
    known = {column.name for column in columns}
    renames = []
    for index in dict.fromkeys(indexes):
        if not set(index.columns) <= known:
            raise ValueError(f"index over columns that the table does not have: {sorted(set(index.columns) - known)}")
        final = OWN_INDEX_PREFIX + _digest(f"{schema}.{table} {index}")
        temporary = f"_ds_new_{_digest(final)}"
        statement = sql.SQL("CREATE {unique}INDEX {name} ON {table} ({columns})").format(
            unique=sql.SQL("UNIQUE " if index.unique else ""),
            name=sql.Identifier(temporary),
            table=sql.Identifier(schema, new),
            columns=sql.SQL(", ").join(map(sql.Identifier, index.columns)),
        )
        with refusing(f"the unique key ({', '.join(index.columns)})"):
            connection.execute(statement)
        renames.append((temporary, final))
    return renames


def _comments(columns: Sequence[ColumnSpec], old: Attachments | None) -> dict[str, str]:
    """The comment of each column that has one: its own, else the old column's."""
    kept = {} if old is None else old.column_comments
    found = {column.name: column.comment if column.comment is not None else kept.get(column.name) for column in columns}
    return {name: text for name, text in found.items() if text is not None}


def _rename(connection: psycopg.Connection, kind: str, schema: str, name: str, to: str) -> None:
    connection.execute(
        sql.SQL("ALTER {} {} RENAME TO {}").format(sql.SQL(kind), sql.Identifier(schema, name), sql.Identifier(to))
    )
