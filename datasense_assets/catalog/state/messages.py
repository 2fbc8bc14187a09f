"""Messages of alerts as rows: who wants any, what waits to be sent, and what became of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import ValidationError
from sqlalchemy import Connection, text

from datasense_assets.catalog.credentials import SecretReference
from datasense_assets.catalog.models import Alerting


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
