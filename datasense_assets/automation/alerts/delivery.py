"""Sending alerts: claimed, sent, and only then marked; what fails is tried again, ever more rarely.

Of several contacts each gets a message once: what one of them does not take is tried again with that one alone. A
sender that dies between sending and marking sends twice: rather twice than never.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import groupby
from time import monotonic
from typing import TYPE_CHECKING

from datasense_assets.automation.alerts.planning import contact_failed, contact_works
from datasense_assets.automation.alerts.services import Contact, ContactRefused, not_taken, operator_urls
from datasense_assets.automation.alerts.timing import out_of_quiet_hours
from datasense_assets.catalog.credentials import SecretMissing, resolve
from datasense_assets.catalog.state.messages import (
    Waiting,
    claim_messages,
    mark_dropped,
    mark_failed,
    mark_sent,
    put_back,
)

if TYPE_CHECKING:
    from pydantic import SecretStr
    from sqlalchemy import Engine

    from datasense_assets.settings import Settings

MOST_AT_ONCE = 50
# A look at what is wrong ends before whoever asked for it gives up, also where a mail server keeps silent.
LONGEST_SECONDS = 45.0
_TELL_AFTER = 4
_CLAIM = timedelta(minutes=5)
_FIRST_WAIT = timedelta(minutes=1)
_LONGEST_WAIT = timedelta(hours=6)


@dataclass(frozen=True)
class Delivered:
    """How many messages were sent, failed (and are tried again) and had nobody to go to."""

    sent: int = 0
    failed: int = 0
    nobody: int = 0

    def __str__(self) -> str:
        """One line for the tick."""
        return f"{self.sent} sent, {self.failed} to be tried again"


@dataclass
class _Sent:
    """What came of messages to the same people: by message the marks of contacts that took it; who did not."""

    contacts: int = 0
    taken: dict[int, list[str]] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def problem(self) -> str | None:
        """In a sentence or several; None where everybody has taken everything."""
        said = [*self.problems, *filter(None, [not_taken(self.refused)])]
        return " ".join(said) or None


def deliver(
    catalog: Engine,
    settings: Settings,
    now: datetime,
    *,
    limit: int = MOST_AT_ONCE,
    seconds: Callable[[], float] = monotonic,
) -> Delivered:
    """Send what may be sent now; messages for the same people go out as one, the oldest first.

    After `LONGEST_SECONDS` of the clock `seconds` the rest is left to the next look.
    """
    with catalog.begin() as connection:
        waiting = claim_messages(connection, now, now + _CLAIM, limit)
    sent = failed = nobody = 0
    began = seconds()
    by_people = sorted(waiting, key=lambda each: (each.audience, each.org_id or 0, each.id))
    for _, group in groupby(by_people, key=lambda each: (each.audience, each.org_id if _is_org(each) else 0)):
        messages = list(group)
        ids = [each.id for each in messages]
        if seconds() - began > LONGEST_SECONDS:
            with catalog.begin() as connection:
                put_back(connection, ids, now)
            continue
        done = _send(messages, settings)
        with catalog.begin() as connection:
            org = messages[0]
            if not done.contacts:
                mark_dropped(connection, ids, "there is no contact")
                nobody += len(ids)
            elif done.problem is None:
                mark_sent(connection, ids, datetime.now(UTC))
                sent += len(ids)
                if _is_org(org) and org.org_slug is not None:
                    contact_works(connection, org.org_slug, now)
            else:
                attempts = max(each.attempts for each in messages)
                again = now + wait_after(attempts)
                if _is_org(org):
                    again = out_of_quiet_hours(org.alerting, org.timezone, again)
                mark_failed(connection, ids, done.problem, again, done.taken)
                failed += len(ids)
                if _is_org(org) and org.org_id is not None and org.org_slug is not None and attempts >= _TELL_AFTER:
                    contact_failed(connection, org.org_id, org.org_slug, done.problem, now)
    return Delivered(sent, failed, nobody)


def wait_after(attempts: int) -> timedelta:
    """How long until the next try: a minute, doubling, six hours at most; there is no last try."""
    return min(_FIRST_WAIT * (1 << min(attempts, 12)), _LONGEST_WAIT)


def _is_org(message: Waiting) -> bool:
    return message.audience == "organization"


def _send(messages: Sequence[Waiting], settings: Settings) -> _Sent:
    """Send to each contact what it has not taken yet: one message, or several as a digest."""
    done = _Sent()
    trusted = not _is_org(messages[0])
    for position, url in _urls(messages[0], settings):
        done.contacts += 1
        if isinstance(url, SecretMissing):
            done.problems.append(str(url))
            continue
        owed = [each for each in messages if _mark(each, url) not in each.taken_by]
        if not owed:
            continue
        try:
            contact = Contact(url, position, trusted=trusted, allow_private=settings.allow_private_addresses)
        except ContactRefused as error:
            done.problems.append(str(error))
            continue
        if contact.take(*digest(owed)):
            for each in owed:
                done.taken.setdefault(each.id, []).append(_mark(each, url))
        else:
            done.refused.append(contact.name)
    return done


def _urls(message: Waiting, settings: Settings) -> Iterator[tuple[int, SecretStr | SecretMissing]]:
    """The contacts of a message, counted from 1; one that cannot be had keeps no other from being told."""
    if not _is_org(message):
        yield from enumerate(operator_urls(settings), start=1)
        return
    for position, reference in enumerate(message.contacts, start=1):
        try:
            yield position, resolve(reference, settings)
        except SecretMissing as error:
            yield position, error


def _mark(message: Waiting, url: SecretStr) -> str:
    """Of a contact that took a message: nothing of its URL can be read from it, nor that two messages share one."""
    return hashlib.sha256(f"{message.id}:{url.get_secret_value()}".encode()).hexdigest()[:32]


def digest(messages: Sequence[Waiting]) -> tuple[str, str]:
    """Title and body of one message, or of several in one."""
    if len(messages) == 1:
        return messages[0].title, messages[0].body
    name = messages[0].org_name if _is_org(messages[0]) else "DataSense"
    parts = [f"{each.title} ({each.created_at:%Y-%m-%d %H:%M} UTC)\n{each.body}" for each in messages]
    return f"{name}: {len(messages)} messages", "\n\n---\n\n".join(parts)
