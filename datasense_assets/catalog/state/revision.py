"""The catalog's revision: a number that grows by one with each transaction that changes what exists."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection, text


class CatalogRevision(NamedTuple):
    """The revision and the moment it was reached."""

    revision: int
    changed_at: datetime


def read_revision(connection: Connection) -> CatalogRevision:
    """Where the catalog stands now."""
    row = connection.execute(text("SELECT revision, changed_at FROM datasense.revisions")).one()
    return CatalogRevision(row.revision, row.changed_at)
