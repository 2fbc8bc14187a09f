"""A web server of CSV files, some of which are answered only when a test lets them."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ROWS = "name,people\n" + "".join(f"Town {number},{number}\n" for number in range(100))


class Gates:
    """`/open/NAME.csv` is answered at once, `/gate/NAME.csv` when `let(NAME)` was called, and again after that."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self._events: dict[str, threading.Event] = {}
        self._lock = threading.Lock()
        self.text = ROWS
        self.port = 0

    def url(self, kind: str, name: str) -> str:
        return f"http://127.0.0.1:{self.port}/{kind}/{name}.csv"

    def let(self, name: str) -> None:
        self._event(name).set()

    def shut(self, name: str) -> None:
        self._event(name).clear()

    def _event(self, name: str) -> threading.Event:
        with self._lock:
            return self._events.setdefault(name, threading.Event())

    def answer(self, path: str, seconds: float) -> bytes:
        kind, _, name = path.strip("/").removesuffix(".csv").partition("/")
        with self._lock:
            self.asked[name] += 1
        if kind == "gate":
            self._event(name).wait(seconds)
        return self.text.encode()


@contextmanager
def serve_gates() -> Iterator[Gates]:
    gates = Gates()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = gates.answer(self.path.partition("?")[0], 600.0)
            try:
                self.send_response(200)
                self.send_header("Content-Type", "text/csv")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
            except OSError:
                self.close_connection = True

        do_HEAD = do_GET  # noqa: N815 - the name that the server looks for

        def log_message(self, *_: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    gates.port = server.server_address[1]
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield gates
    finally:
        server.shutdown()
        server.server_close()
