"""Troubles as people are told of them, alerts and their messages, as rows: what is open, whom to tell, what waits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import ValidationError
from sqlalchemy import Connection, text

from datasense_assets.catalog.credentials import SecretReference
from datasense_assets.catalog.models import Alerting
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


@dataclass(frozen=True)
class Recipient:
    """An organisation that has somebody to tell, and how it wants to be told."""

    org_id: int
    name: str
    timezone: str
    alerting: Alerting

    def wants(self, kind: str) -> bool:
        """Whether it wants to hear of this kind."""
        return self.alerting.kinds is None or kind in self.alerting.kinds


@dataclass(frozen=True)
class Message:
    """One message to one audience; `org_id` None: of the platform itself."""

    alert_id: int
    org_id: int | None
    audience: str
    event: str
    title: str
    body: str
    send_after: datetime


@dataclass(frozen=True)
class Waiting:
    """A message that may be sent now, with the contacts of its organisation (none for operators).

    `taken_by`: marks of contacts that have taken it before. `timezone` and `alerting` are the organisation's.
    """

    id: int
    org_id: int | None
    org_slug: str | None
    org_name: str | None
    timezone: str
    alerting: Alerting
    audience: str
    title: str
    body: str
    created_at: datetime
    attempts: int
    taken_by: tuple[str, ...]
    contacts: tuple[SecretReference, ...]


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

_CLAIM = """
WITH due AS (
    SELECT id FROM datasense.alert_messages
    WHERE sent_at IS NULL AND dropped_because IS NULL AND send_after <= :now
    ORDER BY send_after, id LIMIT :limit FOR UPDATE SKIP LOCKED
), claimed AS (
    UPDATE datasense.alert_messages m SET send_after = :until FROM due WHERE m.id = due.id
    RETURNING m.id, m.org_id, m.audience, m.title, m.body, m.created_at, m.attempts, m.taken_by
)
SELECT c.*, o.slug AS org_slug, o.name AS org_name, coalesce(o.contacts, '[]') AS contacts,
       coalesce(o.timezone, 'UTC') AS timezone, coalesce(o.alerting, '{}') AS alerting
FROM claimed c LEFT JOIN datasense.organizations o ON o.id = c.org_id
ORDER BY c.id
"""


def lock_alerts(connection: Connection) -> None:
    """Until this transaction ends, nobody else compares what is wrong with what was told."""
    connection.execute(text("SELECT pg_advisory_xact_lock(hashtextextended('datasense:alerts', 0))"))


def open_alerts(connection: Connection, org_slug: str | None = None) -> list[OpenAlert]:
    """Alerts that are not over, the oldest first; of one organisation, or all."""
    return [OpenAlert(**row) for row in connection.execute(text(_OPEN), {"org": org_slug}).mappings()]


def recipients(connection: Connection) -> list[Recipient]:
    """Organisations with at least one contact."""
    rows = connection.execute(
        text("SELECT id, name, timezone, alerting FROM datasense.organizations WHERE contacts <> '[]'::jsonb")
    )
    return [Recipient(row.id, row.name, row.timezone, _alerting(row.alerting)) for row in rows]


def _alerting(stored: Any) -> Alerting:
    """How an organisation wants to be told; of everything and at once, where what is stored means nothing."""
    try:
        return Alerting.model_validate(stored)
    except ValidationError:
        return Alerting()


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


def drop_waiting(connection: Connection, alert_id: int, because: str, *, refused_after: datetime) -> frozenset[str]:
    """Drop the alert's messages that nobody has got yet; the audiences that have got one, or still get it.

    What a contact has refused since `refused_after` stays: that a mail server was down keeps nothing silent.
    """
    rows = connection.execute(
        text(
            "WITH dropped AS (UPDATE datasense.alert_messages SET dropped_because = :because WHERE alert_id = :id "
            "AND sent_at IS NULL AND dropped_because IS NULL AND (attempts = 0 OR created_at < :after)) "
            "SELECT DISTINCT audience FROM datasense.alert_messages WHERE alert_id = :id AND (sent_at IS NOT NULL "
            "OR taken_by <> '{}' OR (dropped_because IS NULL AND attempts > 0 AND created_at >= :after))"
        ),
        {"id": alert_id, "because": because, "after": refused_after},
    )
    return frozenset(rows.scalars())


def add_messages(connection: Connection, messages: Sequence[Message]) -> None:
    """Put messages where delivery finds them."""
    if messages:
        connection.execute(
            text(
                "INSERT INTO datasense.alert_messages (alert_id, org_id, audience, event, title, body, send_after) "
                "VALUES (:alert_id, :org_id, :audience, :event, :title, :body, :send_after)"
            ),
            [vars(message) for message in messages],
        )


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


def claim_messages(connection: Connection, now: datetime, until: datetime, limit: int) -> list[Waiting]:
    """Messages that may be sent now; until `until` they are ours, and after it anybody's, should we have died."""
    rows = connection.execute(text(_CLAIM), {"now": now, "until": until, "limit": limit}).mappings()
    return [
        Waiting(
            **{
                **row,
                "taken_by": tuple(row["taken_by"]),
                "alerting": _alerting(row["alerting"]),
                "contacts": tuple(SecretReference.model_validate(each) for each in row["contacts"]),
            }
        )
        for row in rows
    ]


def mark_sent(connection: Connection, message_ids: Sequence[int], now: datetime) -> None:
    """The messages have reached every contact."""
    connection.execute(
        text(
            "UPDATE datasense.alert_messages SET sent_at = :now, attempts = attempts + 1, last_error = NULL "
            "WHERE id = ANY(:ids)"
        ),
        {"ids": list(message_ids), "now": now},
    )


def mark_dropped(connection: Connection, message_ids: Sequence[int], because: str) -> None:
    """Nobody is there to get the messages."""
    connection.execute(
        text("UPDATE datasense.alert_messages SET dropped_because = :because WHERE id = ANY(:ids)"),
        {"ids": list(message_ids), "because": because},
    )


def mark_failed(
    connection: Connection,
    message_ids: Sequence[int],
    error: str,
    again_at: datetime,
    taken: Mapping[int, Sequence[str]],
) -> None:
    """Sending failed and is tried again, but for contacts that have taken it: their marks, by message."""
    connection.execute(
        text(
            "UPDATE datasense.alert_messages SET attempts = attempts + 1, last_error = :error, send_after = :again, "
            "taken_by = taken_by || CAST(:taken AS text[]) WHERE id = :id"
        ),
        [{"id": each, "error": error, "again": again_at, "taken": list(taken.get(each, ()))} for each in message_ids],
    )


def put_back(connection: Connection, message_ids: Sequence[int], now: datetime) -> None:
    """Messages that were claimed and not tried may be sent by anybody again."""
    connection.execute(
        text("UPDATE datasense.alert_messages SET send_after = :now WHERE id = ANY(:ids)"),
        {"ids": list(message_ids), "now": now},
    )


def stuck_messages(connection: Connection, org_slug: str | None = None) -> list[dict[str, Any]]:
    """Messages that have failed at least once and are still to be sent, the oldest first."""
    rows = connection.execute(
        text(
            "SELECT o.slug AS org, m.audience, m.title, m.created_at, m.attempts, m.last_error, m.send_after "
            "FROM datasense.alert_messages m LEFT JOIN datasense.organizations o ON o.id = m.org_id "
            "WHERE m.sent_at IS NULL AND m.dropped_because IS NULL AND m.attempts > 0 "
            "AND (CAST(:org AS text) IS NULL OR o.slug = :org) ORDER BY m.created_at, m.id LIMIT 100"
        ),
        {"org": org_slug},
    ).mappings()
    return [dict(row) for row in rows]
