"""Alerts as rows: the troubles that are open, and those that are over."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from datasense_assets.catalog.state.discovery import AffectedRecipe, SchemaChange


@dataclass(frozen=True)
class Trouble:
    """One thing that is wrong. `subject`: `source`, `recipes/name`, or '' for the platform (`org_id` None).

    `fingerprint` changes when there is something new to say of it; `what` and `advice` are sentences without a value of
    anybody's data; `since`: when it began, where that is known.
    """

    org_id: int | None
    org_slug: str
    kind: str
    subject: str
    fingerprint: str
    what: str
    advice: str
    since: datetime | None = None

    @property
    def path(self) -> str:
        """`org/source`, `org/recipes/name`, or `platform`."""
        return f"{self.org_slug}/{self.subject}" if self.org_id is not None else "platform"


@dataclass(frozen=True)
class OpenAlert:
    """Something that was wrong when last looked at, and has been told."""

    id: int
    org_id: int | None
    org_slug: str | None
    kind: str
    subject: str
    fingerprint: str
    what: str
    advice: str
    opened_at: datetime


_OPEN = """
SELECT a.id, a.org_id, o.slug AS org_slug, a.kind, a.subject, a.fingerprint, a.what, a.advice, a.opened_at
FROM datasense.alerts a LEFT JOIN datasense.organizations o ON o.id = a.org_id
WHERE a.closed_at IS NULL AND (CAST(:org AS text) IS NULL OR o.slug = :org)
ORDER BY a.opened_at, a.id
"""

_UNTOLD = """
WITH taken AS (UPDATE datasense.schema_changes SET alerted = true WHERE NOT alerted RETURNING *)
SELECT o.id AS org_id, o.slug AS org_slug, s.slug AS source, t.slug AS table_slug, max(c.id) AS last, min(c.at) AS at,
       json_agg(json_build_object('kind', c.kind, 'column_name', c.column_name, 'old_type', c.old_type,
                                  'new_type', c.new_type, 'old_label', c.old_label, 'new_label', c.new_label,
                                  'affects', c.affects) ORDER BY c.id) AS changes
FROM taken c
JOIN datasense.source_tables t ON t.id = c.table_id
JOIN datasense.sources s ON s.id = t.source_id
JOIN datasense.organizations o ON o.id = s.org_id
GROUP BY o.id, o.slug, s.slug, t.slug
ORDER BY last
"""


def lock_alerts(connection: Connection) -> None:
    """Until this transaction ends, nobody else compares what is wrong with what was told."""
    connection.execute(text("SELECT pg_advisory_xact_lock(hashtextextended('datasense:alerts', 0))"))


def open_alerts(connection: Connection, org_slug: str | None = None) -> list[OpenAlert]:
    """Alerts that are not over, the oldest first; of one organisation, or all."""
    return [OpenAlert(**row) for row in connection.execute(text(_OPEN), {"org": org_slug}).mappings()]


def open_alert(connection: Connection, trouble: Trouble, now: datetime) -> int:
    """Write down that something is wrong; the alert's id."""
    row = connection.execute(
        text(
            "INSERT INTO datasense.alerts (org_id, kind, subject, fingerprint, what, advice, opened_at, changed_at) "
            "VALUES (:org_id, :kind, :subject, :fingerprint, :what, :advice, :now, :now) RETURNING id"
        ),
        {**_values(trouble), "org_id": trouble.org_id, "kind": trouble.kind, "subject": trouble.subject, "now": now},
    )
    return int(row.scalar_one())


def change_alert(connection: Connection, alert_id: int, trouble: Trouble, now: datetime) -> None:
    """Write down that there is something new to say of it."""
    connection.execute(
        text(
            "UPDATE datasense.alerts SET fingerprint = :fingerprint, what = :what, advice = :advice, "
            "changed_at = :now WHERE id = :id"
        ),
        {**_values(trouble), "id": alert_id, "now": now},
    )


def _values(trouble: Trouble) -> dict[str, Any]:
    return {"fingerprint": trouble.fingerprint, "what": trouble.what, "advice": trouble.advice}


def close_alert(connection: Connection, alert_id: int, now: datetime) -> None:
    """Write down that it is over."""
    connection.execute(
        text("UPDATE datasense.alerts SET closed_at = :now WHERE id = :id"), {"id": alert_id, "now": now}
    )


def prune_alerts(connection: Connection, before: datetime) -> None:
    """Forget what was over before that moment, with its messages."""
    connection.execute(text("DELETE FROM datasense.alerts WHERE closed_at < :before"), {"before": before})


def take_schema_changes(connection: Connection) -> list[Trouble]:
    """Schema changes that nobody was told of, one trouble a table; from now on they count as told."""
    found = []
    for row in connection.execute(text(_UNTOLD)).mappings():
        changes = [_change(each) for each in row["changes"]]
        found.append(
            Trouble(
                org_id=row["org_id"],
                org_slug=row["org_slug"],
                kind="schema_change",
                subject=f"{row['source']}/{row['table_slug']}",
                fingerprint=f"schema-{row['last']}",
                what=" ".join(_sentence(change) for change in changes),
                advice=_broken(changes),
                since=row["at"],
            )
        )
    return found


def _change(row: dict[str, Any]) -> SchemaChange:
    return SchemaChange(**{**row, "affects": tuple(AffectedRecipe(**each) for each in row["affects"])})


def _sentence(change: SchemaChange) -> str:
    said = str(change)
    return f"{said[0].upper()}{said[1:]}."


def _broken(changes: Iterable[SchemaChange]) -> str:
    names = sorted({each.recipe for change in changes for each in change.affects if each.effect == "breaks"})
    said = ", ".join(names)
    return f"Correct the recipes that break by it: {said}. They keep their last good data." if said else ""
