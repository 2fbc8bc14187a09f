"""Addresses of servers and files: how they are shown, put together and told apart. No request is made here."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urljoin, urlsplit

import httpx

from datasense_assets.connectors.config_fields import server_name
from datasense_assets.connectors.errors import BadConfig


def shown(url: str) -> str:
    """The address as it may appear in a message: without user, query and fragment."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}{port}{parts.path}"


def server_of(url: str) -> str:
    """The server that a quota is about: its name, and its port where the address gives one."""
    return server_name(url)


def asked(url: str, params: Mapping[str, str] | None) -> str:
    """The address with its query; raises BadConfig for what is none."""
    try:
        return str(httpx.URL(url, params=params) if params else httpx.URL(url))
    except (httpx.InvalidURL, ValueError):
        raise BadConfig(f"{shown(url)} is no address.", advice="Correct the address.") from None


def may_not_leave(url: str, target: str) -> BadConfig:
    """The failure of a redirect that leads a credential to another server."""
    return BadConfig(
        f"{shown(url)} redirects to another server ({urlsplit(target).hostname}), which may not see the credential.",
        advice="If that server is the right one, give its address in the source's config.",
    )


def joined(url: str, location: str) -> str:
    """Where a redirect leads.

    Raises:
        BadConfig: to no address.

    """
    try:
        target = urljoin(url, location)
        urlsplit(target).port  # noqa: B018  a bad port is found when it is read
    except ValueError:
        raise BadConfig(f"{shown(url)} redirects to no address.", advice="Check the address.") from None
    return target


def same_server(url: str, target: str) -> bool:
    """Whether the credential may go along: the same scheme, host and port, or the same host from http up to https."""
    one, other = urlsplit(url), urlsplit(target)
    if one.hostname != other.hostname:
        return False
    if one.scheme == "http" and other.scheme == "https":
        return one.port in (None, 80) and other.port in (None, 443)
    default = {"http": 80, "https": 443}
    return one.scheme == other.scheme and (one.port or default.get(one.scheme)) == (
        other.port or default.get(other.scheme)
    )
