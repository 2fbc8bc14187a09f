"""Sending alerts through Apprise: claimed, sent, and only then marked; what fails is tried again, ever more rarely.

A sender that dies between sending and marking sends twice: rather twice than never. A contact's URL is a secret and,
being a tenant's, is kept from the platform's own network and files.
"""

from __future__ import annotations

import ipaddress
import logging
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from datasense_assets.automation.alerts.planning import contact_failed, contact_works
from datasense_assets.catalog.credentials import SecretMissing, SecretReference, resolve
from datasense_assets.catalog.state.alerts import (
    Waiting,
    claim_messages,
    mark_dropped,
    mark_failed,
    mark_sent,
)
from datasense_assets.connectors.network import may_connect

if TYPE_CHECKING:
    from pydantic import SecretStr
    from sqlalchemy import Engine

    from datasense_assets.settings import Settings

MOST_AT_ONCE = 50
_TELL_AFTER = 4
_CLAIM = timedelta(minutes=5)
_FIRST_WAIT = timedelta(minutes=1)
_LONGEST_WAIT = timedelta(hours=6)
# Options of some services that name a file of this machine, or another server.
_LOCAL_OPTIONS = frozenset({"template", "keyfile", "pgpkey", "pgp_key", "file", "path", "config", "cert", "subfile"})
_LOCAL_SERVICES = frozenset({"syslog", "dbus", "kde", "qt", "glib", "gnome", "macosx", "windows", "file"})


class ContactRefused(Exception):
    """A contact that cannot be used; the message shows nothing of its URL but the service."""


@dataclass(frozen=True)
class Delivered:
    """How many messages were sent, failed (and are tried again) and had nobody to go to."""

    sent: int = 0
    failed: int = 0
    nobody: int = 0

    def __str__(self) -> str:
        """One line for the tick."""
        return f"{self.sent} sent, {self.failed} to be tried again"


def deliver(catalog: Engine, settings: Settings, now: datetime, *, limit: int = MOST_AT_ONCE) -> Delivered:
    """Send what may be sent now; messages for the same people go out as one, the oldest first."""
    with catalog.begin() as connection:
        waiting = claim_messages(connection, now, now + _CLAIM, limit)
    sent = failed = nobody = 0
    by_people = sorted(waiting, key=lambda each: (each.audience, each.org_id or 0, each.id))
    for _, group in groupby(by_people, key=lambda each: (each.audience, each.org_id if _is_org(each) else 0)):
        messages = list(group)
        ids = [each.id for each in messages]
        problem = _send(messages, settings)
        with catalog.begin() as connection:
            org = messages[0]
            if problem is None:
                mark_sent(connection, ids, datetime.now(UTC))
                sent += len(ids)
                if _is_org(org) and org.org_slug is not None:
                    contact_works(connection, org.org_slug, now)
            elif isinstance(problem, _Nobody):
                mark_dropped(connection, ids, "there is no contact")
                nobody += len(ids)
            else:
                attempts = max(each.attempts for each in messages)
                mark_failed(connection, ids, str(problem), now + wait_after(attempts))
                failed += len(ids)
                if _is_org(org) and org.org_id is not None and org.org_slug is not None and attempts >= _TELL_AFTER:
                    contact_failed(connection, org.org_id, org.org_slug, str(problem), now)
    return Delivered(sent, failed, nobody)


def wait_after(attempts: int) -> timedelta:
    """How long until the next try: a minute, doubling, six hours at most; there is no last try."""
    return min(_FIRST_WAIT * (1 << min(attempts, 12)), _LONGEST_WAIT)


class _Nobody(Exception):
    pass


def _is_org(message: Waiting) -> bool:
    return message.audience == "organization"


def _send(messages: Sequence[Waiting], settings: Settings) -> Exception | None:
    """Send one message, or several as a digest; None when every contact has taken it."""
    try:
        if _is_org(messages[0]):
            urls = contact_urls(messages[0].contacts, settings)
            return notify(urls, *digest(messages), allow_private=settings.allow_private_addresses)
        urls = operator_urls(settings)
        return notify(urls, *digest(messages), trusted=True)
    except (SecretMissing, ContactRefused, _Nobody) as error:
        return error


def digest(messages: Sequence[Waiting]) -> tuple[str, str]:
    """Title and body of one message, or of several in one."""
    if len(messages) == 1:
        return messages[0].title, messages[0].body
    name = messages[0].org_name if _is_org(messages[0]) else "DataSense"
    parts = [f"{each.title} ({each.created_at:%Y-%m-%d %H:%M} UTC)\n{each.body}" for each in messages]
    return f"{name}: {len(messages)} messages", "\n\n---\n\n".join(parts)


def contact_urls(contacts: Iterable[SecretReference], settings: Settings) -> list[SecretStr]:
    """The Apprise URLs of an organisation's contacts.

    Raises:
        SecretMissing: one of them cannot be had.
    """
    return [resolve(reference, settings) for reference in contacts]


def operator_urls(settings: Settings) -> list[SecretStr]:
    """The Apprise URLs of the platform's operators: DATASENSE_OPERATOR_CONTACTS, parted by white space."""
    from pydantic import SecretStr

    given = settings.operator_contacts
    return [SecretStr(url) for url in given.get_secret_value().split()] if given is not None else []


def notify(
    urls: Sequence[SecretStr], title: str, body: str, *, trusted: bool = False, allow_private: bool = False
) -> Exception | None:
    """Send one message to every URL; None when all have taken it, else what failed, naming services and no URL.

    Raises:
        ContactRefused: a URL is none, or leads where a tenant's may not.
    """
    if not urls:
        return _Nobody()
    import apprise

    # it logs what it sends to, a secret included
    logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)
    asset = apprise.AppriseAsset(app_id="DataSense", app_url="", async_mode=False, secure_logging=True)
    services = []
    for position, url in enumerate(urls, start=1):
        service = apprise.Apprise.instantiate(url.get_secret_value(), asset=asset, suppress_exceptions=True)
        if service is None:
            raise ContactRefused(f"Contact {position} is no address that Apprise knows.")
        if not trusted:
            _keep_out(service, url, position, allow_private=allow_private)
        services.append((position, service))
    refused = [f"{position} ({_named(service)})" for position, service in services if not _took(service, title, body)]
    return RuntimeError(f"Contact {', '.join(refused)} did not take the message.") if refused else None


def _took(service: Any, title: str, body: str) -> bool:
    try:
        return bool(service.notify(title=title, body=body, body_format="text"))
    except Exception:  # noqa: BLE001 - some services raise what they do not know; it may hold the URL
        return False


def _named(service: Any) -> str:
    return str(service.service_name)


def _keep_out(service: Any, url: SecretStr, position: int, *, allow_private: bool) -> None:
    """Refuse a tenant's address that leads into the platform's own network, machine or files."""
    parts = urlsplit(url.get_secret_value())
    if parts.scheme.lower() in _LOCAL_SERVICES:
        raise ContactRefused(f"Contact {position} is a service of this machine, not a person's.")
    if local := sorted(_LOCAL_OPTIONS & {name.lower().lstrip("+-:") for name in parse_qs(parts.query)}):
        raise ContactRefused(f"Contact {position} names a file of this machine ({', '.join(local)}).")
    for host in _hosts(service, parts.query):
        try:
            found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            continue
        for item in found:
            address = ipaddress.ip_address(str(item[4][0]).partition("%")[0])
            if not may_connect(address, allow_private=allow_private):
                raise ContactRefused(f"Contact {position} is in a private network, where alerts may not be sent to.")


def _hosts(service: Any, query: str) -> set[str]:
    """Whatever a service may connect to by the URL's own words."""
    named = {getattr(service, name, None) for name in ("host", "smtp_host", "hostname", "api_url", "url")}
    options: Mapping[str, list[str]] = parse_qs(query)
    named |= {value for values in options.values() for value in values if "." in value or ":" in value}
    texts = {value for value in named if isinstance(value, str) and value}
    return {urlsplit(value).hostname or "" if "://" in value else value for value in texts} - {""}
