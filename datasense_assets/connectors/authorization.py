"""Credentials as the value of the one header that they travel in."""

from __future__ import annotations

import base64
from collections.abc import Mapping

from datasense_assets.connectors.errors import CredentialRefused


def header_value(prefix: str, secret: str) -> str:
    """`prefix` and the secret as the value of an `Authorization` header.

    Raises:
        CredentialRefused: the secret is empty or has characters that no header can carry; it is not quoted.

    """
    secret = secret.strip()
    if not secret or not secret.isascii() or not secret.isprintable() or " " in secret:
        raise CredentialRefused(
            "The credential is empty, or holds spaces, line breaks or letters that no token has.",
            advice="Copy it again: the token alone, without quotes or other words.",
        )
    return f"{prefix} {secret}"


def basic_authorization(credentials: Mapping[str, str]) -> str:
    """`username` and `password` as the value of an `Authorization` header; raises CredentialRefused."""
    pair = f"{credentials['username'].strip()}:{credentials['password'].strip()}"
    return header_value("Basic", base64.b64encode(pair.encode()).decode())
