"""A small HTTP server for probes and Prometheus: `/metrics`, `/health/live`, `/health/ready`; it only reads."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import monotonic
from typing import TYPE_CHECKING, Any

from prometheus_client import CONTENT_TYPE_LATEST

if TYPE_CHECKING:
    from datasense_assets.operations.health import Health

_JSON = "application/json; charset=utf-8"
_log = logging.getLogger("datasense.metrics")


def make_server(host: str, port: int, metrics: Callable[[], bytes], ready: Callable[[], Health]) -> ThreadingHTTPServer:
    """A server that is bound and not yet serving; port 0 takes any free one.

    Live means that this process answers. Ready says 503 with reasons where anything of the platform is not well.

    Raises:
        OSError: the address cannot be used.
    """
    started = monotonic()

    def live() -> tuple[int, str, bytes]:
        return 200, _JSON, _as_json({"live": True, "uptime_seconds": round(monotonic() - started, 1)})

    def health() -> tuple[int, str, bytes]:
        found = ready()
        return (200 if found.ready else 503), _JSON, _as_json(found.document())

    pages = {
        "/metrics": lambda: (200, CONTENT_TYPE_LATEST, metrics()),
        "/health/live": live,
        "/health/ready": health,
    }

    class Pages(BaseHTTPRequestHandler):
        server_version = "datasense"
        sys_version = ""

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def _answer(self, *, with_body: bool) -> None:
            page = pages.get(self.path.partition("?")[0])
            if page is None:
                status, kind, body = 404, _JSON, _as_json({"pages": sorted(pages)})
            else:
                try:
                    status, kind, body = page()
                except Exception as error:  # noqa: BLE001 - a probe gets an answer whatever happens
                    _log.exception("%s cannot be answered", self.path)
                    status, kind, body = 500, _JSON, _as_json({"error": type(error).__name__})
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            if with_body:
                self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            _log.debug(format, *args)

    server = ThreadingHTTPServer((host, port), Pages)
    server.daemon_threads = True
    return server


def _as_json(document: Any) -> bytes:
    return json.dumps(document, indent=2).encode() + b"\n"
