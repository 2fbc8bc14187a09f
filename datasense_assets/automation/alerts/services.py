"""Contacts as Apprise knows them: one URL each, which is a secret and, being a tenant's, may not lead everywhere.

A tenant's contact is kept from the platform's own network and files.
"""

from __future__ import annotations

import ipaddress
import logging
import socket
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from datasense_assets.catalog.credentials import SecretReference, resolve
from datasense_assets.connectors.network import may_connect

if TYPE_CHECKING:
    from pydantic import SecretStr

    from datasense_assets.settings import Settings

# Options of some services that name a file of this machine, or another server.
_LOCAL_OPTIONS = frozenset({"template", "keyfile", "pgpkey", "pgp_key", "file", "path", "config", "cert", "subfile"})
_LOCAL_SERVICES = frozenset({"syslog", "dbus", "kde", "qt", "glib", "gnome", "macosx", "windows", "file"})


class ContactRefused(Exception):
    """A contact that cannot be used; the message shows nothing of its URL but the service."""


class Contact:
    """One contact, ready to be sent to; `position` counts from 1, and is all that is said of it beside the service."""

    def __init__(self, url: SecretStr, position: int, *, trusted: bool = False, allow_private: bool = False) -> None:
        """Read the URL.

        Raises:
            ContactRefused: it is none, or (where not `trusted`) leads where a tenant's may not.
        """
        import apprise

        # it logs what it sends to, a secret included
        logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)
        asset = apprise.AppriseAsset(app_id="DataSense", app_url="", async_mode=False, secure_logging=True)
        service = apprise.Apprise.instantiate(url.get_secret_value(), asset=asset, suppress_exceptions=True)
        if service is None:
            raise ContactRefused(f"Contact {position} is no address that Apprise knows.")
        if not trusted:
            _keep_out(service, url, position, allow_private=allow_private)
        self._service: Any = service
        self.name = f"{position} ({service.service_name})"

    def take(self, title: str, body: str) -> bool:
        """Send a message; whether the service has taken it."""
        try:
            return bool(self._service.notify(title=title, body=body, body_format="text"))
        except Exception:  # noqa: BLE001 - some services raise what they do not know; it may hold the URL
            return False


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
) -> str | None:
    """Send one message to every URL; None when all have taken it, else who did not, naming services and no URL.

    Raises:
        ContactRefused: a URL is none, or leads where a tenant's may not; then nothing is sent.
    """
    contacts = [
        Contact(url, position, trusted=trusted, allow_private=allow_private)
        for position, url in enumerate(urls, start=1)
    ]
    return not_taken([contact.name for contact in contacts if not contact.take(title, body)])


def not_taken(names: Sequence[str]) -> str | None:
    """A sentence on contacts that have taken no message; None where there is none."""
    return f"Contact {', '.join(names)} did not take the message." if names else None


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
