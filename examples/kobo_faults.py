"""What the stand-in server can answer wrong, on request: each function makes one kind of fault for `StandIn.fail`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

GATEWAY_PAGE = b"<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>"


@dataclass
class Fault:
    """A wrong answer to the next `times` requests whose path contains `path`, after `after` such requests.

    `status` None: the right answer, but `delay` seconds late, or cut in the middle of its body with `cut`.
    """

    status: int | None = None
    path: str = "/api/"
    times: int = 1
    after: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    content_type: str = "application/json"
    delay: float = 0.0
    cut: bool = False


def _refusal(status: int, detail: str, path: str, times: int, headers: Mapping[str, str] | None = None) -> Fault:
    return Fault(status, path, times, headers=headers or {}, body=json.dumps({"detail": detail}).encode())


def unauthorized(path: str = "/api/", times: int = 1) -> Fault:
    """401, as for a token that was revoked."""
    return _refusal(401, "Invalid token.", path, times)


def missing(path: str = "/api/", times: int = 1) -> Fault:
    """404, as for a form that is gone or not shared with the account."""
    return _refusal(404, "Not found.", path, times)


def throttled(retry_after: float, path: str = "/api/", times: int = 1) -> Fault:
    """429 that asks for a wait of so many seconds."""
    detail = f"Request was throttled. Expected available in {retry_after:g} seconds."
    return _refusal(429, detail, path, times, {"Retry-After": f"{retry_after:g}"})


def unavailable(retry_after: float | None = None, path: str = "/api/", times: int = 1) -> Fault:
    """503, with or without a wait asked for."""
    headers = {} if retry_after is None else {"Retry-After": f"{retry_after:g}"}
    return _refusal(503, "Service temporarily unavailable, try again later.", path, times, headers)


def bad_gateway(path: str = "/api/", times: int = 1) -> Fault:
    """502 with a page of HTML, as the proxy before a server that took too long."""
    return Fault(502, path, times, body=GATEWAY_PAGE, content_type="text/html")


def slow(seconds: float, path: str = "/api/", times: int = 1) -> Fault:
    """The right answer after a while."""
    return Fault(None, path, times, delay=seconds)


def cut_short(path: str = "/api/", times: int = 1) -> Fault:
    """The right headers and half the body, then a closed connection."""
    return Fault(None, path, times, cut=True)
