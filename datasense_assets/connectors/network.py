"""Which network addresses a source may be read from, held at the moment of connecting.

A name is resolved here, its addresses are judged, and the socket is opened to a judged address itself, not to the
name: a name that changes its address between the check and the connection (DNS rebinding) gains nothing. TLS still
proves the name.
"""

from __future__ import annotations

import ipaddress
import math
import socket
import ssl
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import httpcore
import httpx

from datasense_assets.connectors.errors import BadConfig, Unavailable

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_WORLD = ipaddress.IPv6Network("2000::/3")


def embedded_address(address: IPAddress) -> IPAddress:
    """The IPv4 address that an IPv6 one carries (mapped, 6to4, Teredo, NAT64), else the address itself."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    teredo = address.teredo
    return address.ipv4_mapped or address.sixtofour or (teredo[1] if teredo else None) or address


def may_connect(address: IPAddress, *, allow_private: bool) -> bool:
    """Whether a socket may be opened to the address.

    Public addresses always; loopback and private ones when allowed; link-local ones never, because cloud machines
    hand out their own credentials there. Of IPv6 only what is handed out to the world (2000::/3) is public: the rest
    holds older ways to write an IPv4 address.
    """
    inner = embedded_address(address)
    if inner.is_link_local or inner.is_multicast or inner.is_unspecified:
        return False
    if inner.is_global and (inner.version == 4 or inner in _WORLD):
        return True
    return allow_private and (inner.is_private or inner.is_loopback)


class Overdue(httpcore.ReadTimeout):
    """A request took longer than it may in all, however steadily it trickled."""


class Deadline:
    """The moment (of the monotonic clock) at which the requests of one client end; set anew before each."""

    def __init__(self) -> None:
        self.at = math.inf

    def left(self, timeout: float | None) -> float:
        """Seconds that the next step may take; raise Overdue where none is left."""
        left = self.at - time.monotonic()
        if left <= 0:
            raise Overdue
        return left if timeout is None else min(timeout, left)

    @contextmanager
    def told(self) -> Iterator[None]:
        """A step that was cut short by the deadline, and not by the server's silence, raises Overdue."""
        try:
            yield
        except httpcore.TimeoutException:
            if time.monotonic() >= self.at:
                raise Overdue from None
            raise


class _TimedStream(httpcore.NetworkStream):
    """A connection whose every read and write ends at the deadline: each is short, but their number has no bound."""

    def __init__(self, inner: httpcore.NetworkStream, deadline: Deadline) -> None:
        self._inner, self._deadline = inner, deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        with self._deadline.told():
            return self._inner.read(max_bytes, self._deadline.left(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        with self._deadline.told():
            self._inner.write(buffer, self._deadline.left(timeout))

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        secured = self._inner.start_tls(ssl_context, server_hostname, self._deadline.left(timeout))
        return _TimedStream(secured, self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


class _CheckedBackend(httpcore.NetworkBackend):
    def __init__(self, *, allow_private: bool, deadline: Deadline) -> None:
        self._allow_private = allow_private
        self._deadline = deadline
        self._inner = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        error: Exception | None = None
        for address in self._allowed(host, port):
            try:
                left = self._deadline.left(timeout)
                stream = self._inner.connect_tcp(str(address), port, left, local_address, socket_options)
                return _TimedStream(stream, self._deadline)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as failure:
                error = failure
        raise error or httpcore.ConnectError(host)

    def connect_unix_socket(self, *_: Any, **__: Any) -> httpcore.NetworkStream:
        raise BadConfig("A Unix socket is no source.", advice="Give an http:// or https:// address.")

    def sleep(self, seconds: float) -> None:
        raise NotImplementedError(f"the client never waits {seconds} s in the transport")

    def _allowed(self, host: str, port: int) -> list[IPAddress]:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            raise Unavailable(
                f"The address of {host} could not be found.", advice="Check the spelling of the server's name."
            ) from None
        addresses = list(dict.fromkeys(ipaddress.ip_address(str(item[4][0]).partition("%")[0]) for item in found))
        allowed = [a for a in addresses if may_connect(a, allow_private=self._allow_private)]
        if not allowed:
            raise BadConfig(
                f"{host} is an address of a private network, where sources may not be read from.",
                advice="Give a public address, or set DATASENSE_ALLOW_PRIVATE_ADDRESSES=true on your own machine.",
            )
        return allowed


class _Body(httpx.SyncByteStream):
    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[bytes]:
        yield from self._stream

    def close(self) -> None:
        self._stream.close()


class CheckedTransport(httpx.BaseTransport):
    """An httpx transport that connects to allowed addresses only; environment proxies are not used.

    Network failures come out as httpcore's own exceptions.
    """

    def __init__(self, *, allow_private: bool, deadline: Deadline) -> None:
        """Make an empty pool; nothing is connected. Whatever is sent ends at the deadline."""
        self._pool = httpcore.ConnectionPool(
            ssl_context=_ssl_context(),
            max_connections=10,
            keepalive_expiry=30.0,
            network_backend=_CheckedBackend(allow_private=allow_private, deadline=deadline),
        )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request; redirects are the client's affair."""
        url = httpcore.URL(
            scheme=request.url.raw_scheme,
            host=request.url.raw_host,
            port=request.url.port,
            target=request.url.raw_path,
        )
        answer = self._pool.handle_request(
            httpcore.Request(
                request.method, url, headers=request.headers.raw, content=request.stream, extensions=request.extensions
            )
        )
        return httpx.Response(
            answer.status, headers=answer.headers, stream=_Body(answer.stream), extensions=answer.extensions
        )

    def close(self) -> None:
        """Close all connections."""
        self._pool.close()


@cache
def _ssl_context() -> ssl.SSLContext:
    # reading all the authorities there are takes 30 ms, and they are the same for everybody
    return httpx.create_ssl_context()
