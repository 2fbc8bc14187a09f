"""What makes two builds of a recipe equal: hashes of what it compiles to, of what it reads and of what it made.

Nothing here imports ibis: the sensor that looks for stale recipes reads the compiler's version.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, Literal
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    import psycopg

    from datasense_assets.warehouse.columns import ColumnSpec

COMPILER_VERSION = 18
"""Raised whenever the same recipe compiles to other SQL; part of the cache's key and of what makes a recipe stale."""

Clock = Literal["none", "day", "moment"]
"""What of the time a result hangs on: nothing, the day it is built on, or the very moment."""

HASHED_ROWS = 100_000
"""The largest table whose content is hashed: a hash of a million rows costs a tenth of their build."""


def short_hash(*parts: Any) -> str:
    """128 bits of SHA-256 over JSON values, as 32 hex digits."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def local_day(timezone: str, moment: datetime) -> date:
    """The day that it is in a time zone."""
    return moment.astimezone(ZoneInfo(timezone)).date()


def columns_hash(columns: Sequence[ColumnSpec]) -> str:
    """Equal for equal columns: names, types and their order."""
    return short_hash([[column.name, column.pg_type] for column in columns])


def build_key(definition: str, versions: Mapping[str, int], clock: Clock, today: date) -> str | None:
    """Equal when a build would give the same table again; None where no two builds do."""
    if clock == "moment":
        return None
    return short_hash(definition, sorted(versions.items()), today.isoformat() if clock == "day" else "")


def content_hash(connection: psycopg.Connection, schema: str, table: str, rows: int) -> str | None:
    """A hash of the table's rows in whatever order; None where they are (by `rows`) too many for one."""
    from psycopg import sql

    if rows > HASHED_ROWS:
        return None
    query = sql.SQL(
        "SELECT count(*), coalesce(sum(hash_record_extended(_ds_row.*, 0)::numeric), 0) FROM {} AS _ds_row"
    ).format(sql.Identifier(schema, table))
    row = connection.execute(query).fetchone()
    return None if row is None else short_hash(int(row[0]), str(row[1]))
