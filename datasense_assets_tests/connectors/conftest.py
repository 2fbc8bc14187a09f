"""A small web server whose answers each test writes down, and openers of connectors that may reach it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from datasense_assets.connectors import NetworkPolicy, http, open_connector
from datasense_assets.connectors.base import Connector, Page, ReadRequest


@dataclass
class Answer:
    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Seen:
    method: str
    path: str
    headers: Mapping[str, str]


class Web:
    """Answers by path: one for ever, or several in turn of which the last stays."""

    def __init__(self) -> None:
        self.answers: dict[str, list[Answer]] = {}
        self.seen: list[Seen] = []
        web = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                web.seen.append(Seen(self.command, self.path, {k.lower(): v for k, v in self.headers.items()}))
                turns = web.answers.get(path) or [Answer(b"nothing here", 404)]
                answer = turns.pop(0) if len(turns) > 1 else turns[0]
                self.send_response(answer.status)
                headers = {"Content-Length": str(len(answer.body)), **answer.headers}
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    with suppress(ConnectionError):  # a reader may stop when it has seen enough
                        self.wfile.write(answer.body)
                if int(headers["Content-Length"]) != len(answer.body):
                    self.close_connection = True

            do_HEAD = do_GET  # noqa: N815  the name that http.server looks for

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_port
        self.url = f"http://127.0.0.1:{self.port}"
        self.other_host = f"http://localhost:{self.port}"

    def on(self, path: str, *answers: Answer | bytes) -> str:
        self.answers[path] = [a if isinstance(a, Answer) else Answer(a) for a in answers]
        return self.url + path


@pytest.fixture
def web() -> Iterator[Web]:
    server = Web()
    thread = threading.Thread(target=server.server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield server
    server.server.shutdown()
    server.server.server_close()
    thread.join()


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that the HTTP client would have waited; it does not."""
    waited: list[float] = []
    monkeypatch.setattr(http, "pause", waited.append)
    return waited


@pytest.fixture
def local_policy(tmp_path: Path) -> NetworkPolicy:
    return NetworkPolicy(allow_private_addresses=True, scratch=tmp_path / "scratch")


CsvOpener = Callable[..., Connector]


@pytest.fixture
def csv_of(tmp_path: Path, local_policy: NetworkPolicy) -> Iterator[CsvOpener]:
    """Opens a CSV connector on a file with that content: `csv_of("a,b\\n1,2\\n", key=["a"])`."""
    opened: list[Connector] = []

    def make(content: str | bytes, name: str = "file.csv", **config: object) -> Connector:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        connector = open_connector("csv", {"url": str(path), **config}, {}, local_policy)
        opened.append(connector)
        return connector

    yield make
    for connector in opened:
        connector.close()


def pages(connector: Connector, resource: str = "file.csv") -> list[Page]:
    return list(connector.read(ReadRequest(resource)))


def rows(connector: Connector, resource: str = "file.csv") -> list[dict[str, str | None]]:
    return [row for page in pages(connector, resource) for row in page.data.to_pylist()]
