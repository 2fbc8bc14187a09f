"""Credentials that have run out, or will within two weeks, by the day that somebody wrote beside their reference."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from sqlalchemy import Connection, text

WARN_AHEAD = timedelta(days=14)


@dataclass(frozen=True)
class Expiring:
    """A credential by its name (never its value), and the last day on which it can be used."""

    org_id: int
    org_slug: str
    source: str
    name: str
    expires: date


_EXPIRING = """
SELECT o.id AS org_id, o.slug AS org_slug, s.slug AS source, c.name, (c.reference ->> 'expires')::date AS expires
FROM datasense.credentials c
JOIN datasense.sources s ON s.id = c.source_id
JOIN datasense.organizations o ON o.id = s.org_id
WHERE c.reference ? 'expires' AND (c.reference ->> 'expires')::date <= CAST(:until AS date)
ORDER BY expires, o.slug, s.slug, c.name
"""


def expiring_credentials(connection: Connection, now: datetime) -> Iterator[Expiring]:
    """Those that end within two weeks of `now` or have ended, the first to end first."""
    for row in connection.execute(text(_EXPIRING), {"until": (now + WARN_AHEAD).date()}).mappings():
        yield Expiring(**row)
