"""From what is wrong to messages: an alert opens, changes and closes, and each of these is told once.

All of it is one transaction over the catalog, so a process that dies in between has told nothing and forgotten nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection

from datasense_assets.automation.alerts.timing import send_after
from datasense_assets.catalog.state.alerts import (
    OpenAlert,
    Trouble,
    change_alert,
    close_alert,
    lock_alerts,
    open_alert,
    open_alerts,
    prune_alerts,
    take_schema_changes,
)
from datasense_assets.catalog.state.messages import Message, Recipient, add_messages, drop_waiting, recipients

_KEPT = timedelta(days=90)
# What was over while only a mail server kept it from being told is told for so long.
_STILL_NEWS = timedelta(days=1)
_NAMES = {
    "failing": "is failing",
    "late": "is late",
    "credential": "expires",
    "check": "holds data that its checks object to",
    "failure_rate": "Many sources are failing",
    "queue_delay": "Runs wait too long",
    "disk": "The disk is nearly full",
    "contact": "cannot be told of alerts",
}


@dataclass(frozen=True)
class Planned:
    """What one look at the platform changed."""

    opened: int = 0
    changed: int = 0
    closed: int = 0
    messages: int = 0

    def __str__(self) -> str:
        """One line for the tick."""
        return f"{self.opened} opened, {self.changed} changed, {self.closed} closed, {self.messages} messages to send"


def plan(connection: Connection, found: Iterable[Trouble], now: datetime, *, link: str | None = None) -> Planned:
    """Make open alerts equal to what was `found`, and write the messages that this gives.

    `link`: address of the web UI, for the next step. Schema changes are told once each and leave nothing open.
    """
    lock_alerts(connection)
    known = {(alert.org_id, alert.kind, alert.subject): alert for alert in open_alerts(connection)}
    people: dict[int | None, Recipient] = {recipient.org_id: recipient for recipient in recipients(connection)}
    counts = {"opened": 0, "changed": 0, "closed": 0}
    messages: list[Message] = []
    for trouble in found:
        alert = known.pop((trouble.org_id, trouble.kind, trouble.subject), None)
        if alert is None:
            alert_id, event = open_alert(connection, trouble, now), "opened"
        elif alert.fingerprint != trouble.fingerprint:
            change_alert(connection, alert.id, trouble, now)
            alert_id, event = alert.id, "changed"
        else:
            continue
        counts[event] += 1
        messages += _messages(alert_id, trouble, event, people, now, link)
    for alert in known.values():
        if alert.kind == "contact":
            continue
        counts["closed"] += 1
        messages += _close(connection, alert, people, now)
    for trouble in take_schema_changes(connection):
        counts["opened"] += 1
        alert_id = open_alert(connection, trouble, now)
        close_alert(connection, alert_id, now)
        messages += _messages(alert_id, trouble, "opened", people, now, link)
    add_messages(connection, messages)
    prune_alerts(connection, now - _KEPT)
    return Planned(**counts, messages=len(messages))


def contact_failed(connection: Connection, org_id: int, org_slug: str, problem: str, now: datetime) -> None:
    """Tell the operators, once, that an organisation cannot be told anything."""
    trouble = Trouble(
        org_id, org_slug, "contact", "contacts", "contact", problem, f"Run datasense alerts test {org_slug}."
    )
    if not any(alert.kind == "contact" for alert in open_alerts(connection, org_slug)):
        add_messages(
            connection, list(_messages(open_alert(connection, trouble, now), trouble, "opened", {}, now, None))
        )


def contact_works(connection: Connection, org_slug: str, now: datetime) -> None:
    """The organisation has got a message: whatever was wrong with its contacts is over."""
    for alert in open_alerts(connection, org_slug):
        if alert.kind == "contact":
            add_messages(connection, _close(connection, alert, {}, now))


def _messages(
    alert_id: int,
    trouble: Trouble,
    event: str,
    people: Mapping[int | None, Recipient],
    now: datetime,
    link: str | None,
) -> Iterator[Message]:
    """To the organisation in plain words with the next step; to the operators the same with the path and a link."""
    recipient = people.get(trouble.org_id)
    subject = _title(trouble)
    if recipient is not None and recipient.wants(trouble.kind):
        when = send_after(recipient.alerting, recipient.timezone, now)
        body = "\n\n".join(part for part in (trouble.what, _next_step(trouble.advice)) if part)
        yield Message(alert_id, trouble.org_id, "organization", event, subject, body, when)
    since = f"Since {trouble.since:%Y-%m-%d %H:%M} UTC." if trouble.since is not None else ""
    detail = f"{trouble.path} · {trouble.kind} ({trouble.fingerprint}). {since}".strip()
    parts = (trouble.what, _next_step(trouble.advice), detail, link or "")
    yield Message(alert_id, trouble.org_id, "operators", event, subject, "\n\n".join(p for p in parts if p), now)


def _close(
    connection: Connection, alert: OpenAlert, people: Mapping[int | None, Recipient], now: datetime
) -> list[Message]:
    """Close the alert; what is said of it, to those that were told: who was not need not hear that it works."""
    close_alert(connection, alert.id, now)
    because = "it was over before it could be told"
    told = drop_waiting(connection, alert.id, because, refused_after=now - _STILL_NEWS)
    lasted = _span(now - alert.opened_at)
    recipient = people.get(alert.org_id)
    path = f"{alert.org_slug}/{alert.subject}" if alert.org_slug is not None else "platform"
    title = f"{path} works again" if alert.org_slug is not None else f"Over: {_NAMES[alert.kind]}"
    body = f"It is over after {lasted}. {alert.what}"
    messages: list[Message] = []
    if recipient is not None and recipient.wants(alert.kind) and "organization" in told:
        when = send_after(recipient.alerting, recipient.timezone, now)
        said = f"It is over after {lasted}."
        messages.append(Message(alert.id, alert.org_id, "organization", "closed", title, said, when))
    if "operators" in told:
        messages.append(Message(alert.id, alert.org_id, "operators", "closed", title, body, now))
    return messages


def _title(trouble: Trouble) -> str:
    if trouble.org_id is None:
        return _NAMES[trouble.kind]
    if trouble.kind == "schema_change":
        return f"{trouble.path} has changed its columns"
    return f"{trouble.path} {_NAMES[trouble.kind]}"


def _next_step(advice: str) -> str:
    return f"What to do: {advice}" if advice else ""


def _span(length: timedelta) -> str:
    minutes = max(1, int(length.total_seconds()) // 60)
    if minutes < 120:
        return f"{minutes} minute{'s' if minutes > 1 else ''}"
    return f"{minutes // 60} hours" if minutes < 48 * 60 else f"{minutes // 1440} days"
