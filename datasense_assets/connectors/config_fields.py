"""What the configs of all connectors are made of: the base model, addresses, lists of names."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict


def web_address(value: str) -> str:
    """The address, refused unless it is http(s) and holds no user name or password."""
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("is not an http:// or https:// address")
    if parts.username or parts.password:
        raise ValueError("holds a user name or password; name them under `credentials` instead")
    _ = parts.port  # urlsplit reads the port lazily and refuses a bad one here
    return value


def _api_root(value: str) -> str:
    parts = urlsplit(web_address(value.strip()))
    if parts.query or parts.fragment:
        raise ValueError("goes on after the server's address; give only that, for example https://kf.kobotoolbox.org")
    return value.strip().rstrip("/").removesuffix("/api/v2")


def _listed(value: Any) -> Any:
    return value if isinstance(value, list | tuple) or value is None else (value,)


def server_name(url: str) -> str:
    """The server of an address: its name, and its port where the address gives one."""
    parts = urlsplit(url)
    return f"{parts.hostname or ''}:{parts.port}" if parts.port else parts.hostname or ""


ApiRoot = Annotated[str, AfterValidator(_api_root)]
Names = Annotated[tuple[str, ...], BeforeValidator(_listed)]
"""One name or a list of them."""


class ConnectorConfig(BaseModel):
    """Config common to all kinds: unknown fields are refused. `CREDENTIALS` holds the sets of names that work;
    `MAX_MINUTES` is how long a load may take where the source says nothing.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    CREDENTIALS: ClassVar[tuple[frozenset[str], ...]] = (frozenset(),)
    MAX_MINUTES: ClassVar[int] = 120

    @property
    def host(self) -> str:
        """The server that the source is read from, by which runs are counted; '' for none.

        Unless a kind says otherwise it is the one of the field `base_url` or `server`.
        """
        address = getattr(self, "base_url", None) or getattr(self, "server", None)
        return server_name(address) if isinstance(address, str) else ""
