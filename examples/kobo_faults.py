"""What the stand-in server can answer wrong, on request: each function makes one kind of fault for `StandIn.fail`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

GATEWAY_PAGE = b"<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>"


@dataclass
class Fault:
    """A wrong answer to the next `times` requests whose path contains `path`, after `after` such requests.

    `status` None: the right answer, but `delay` seconds late; `cut` in the middle of its body by a closed connection,
    or `truncated` there as if that were all; silent in the middle for `stall` seconds; or in twenty parts with `drip`
    seconds between them. `act` is called before the answer is made: what changes at the source meanwhile.
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
    truncated: bool = False
    stall: float = 0.0
    drip: float = 0.0
    act: Callable[[], object] | None = None


def send(fault: Fault | None, body: bytes, write: Callable[[bytes], object], wait: Callable[[float], object]) -> bool:
    """Send a body as the fault has it; whether the connection has to be closed after it."""
    half = len(body) // 2
    if fault is not None and fault.cut:
        write(body[:half])
        return True
    if fault is not None and fault.stall:
        write(body[:half])
        wait(fault.stall)
        return True
    if fault is not None and fault.drip:
        step = max(1, -(-len(body) // 20))
        for start in range(0, len(body), step):
            write(body[start : start + step])
            wait(fault.drip)
        return False
    write(body)
    return False


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


def truncated(path: str = "/api/", times: int = 1) -> Fault:
    """Half the body as if it were the whole."""
    return Fault(None, path, times, truncated=True)


def stalling(seconds: float, path: str = "/api/", times: int = 1) -> Fault:
    """Half the body, then silence."""
    return Fault(None, path, times, stall=seconds)


def dripping(seconds: float, path: str = "/api/", times: int = 1) -> Fault:
    """The right answer, little by little."""
    return Fault(None, path, times, drip=seconds)


def web_page(path: str = "/api/", times: int = 1) -> Fault:
    """A page of HTML with status 200, as a login or a captive portal sends."""
    page = b"<!doctype html><html><body>Please log in</body></html>"
    return Fault(200, path, times, body=page, content_type="text/html")


def meanwhile(act: Callable[[], object], path: str = "/api/", after: int = 0) -> Fault:
    """The right answer, made after something has changed at the source."""
    return Fault(None, path, 1, after, act=act)
