"""S3 on loopback: moto's server, with one access key that it knows, and faults that a real one has."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import boto3
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

KEY, SECRET = "AKIATESTONLY00000000", "s3cr3t/of+the+stand-in"

StartResponse = Callable[..., Any]
_REFUSAL = (
    "<?xml version='1.0' encoding='UTF-8'?><Error><Code>{code}</Code><Message>{code}</Message>"
    "<RequestId>1</RequestId></Error>"
)


@dataclass
class S3StandIn:
    """Counts what it is asked. `slow`: how many of the next requests are told to slow down. `cut`: how many of the next
    object bodies break off halfway. `public`: whether requests without a signature may read.
    """

    url: str = ""
    slow: int = 0
    cut: int = 0
    public: bool = False
    requests: list[str] = field(default_factory=list)

    def put(self, bucket: str, **objects: bytes) -> None:
        """Make the bucket and its objects; a key's `__` stands for a slash and `_` for a dot."""
        for name, body in objects.items():
            self.write(bucket, name.replace("__", "/").replace("_", "."), body)

    def write(self, bucket: str, key: str, body: bytes) -> None:
        """Make the bucket and one object; not counted."""
        client = self.client()
        client.create_bucket(Bucket=bucket)
        client.put_object(Bucket=bucket, Key=key, Body=body, ACL="public-read")
        self.requests.clear()

    def client(self) -> Any:
        """Amazon's own client, to see that the stand-in is one for it too."""
        given = {"aws_access_key_id": KEY, "aws_secret_access_key": SECRET}
        return boto3.client("s3", endpoint_url=self.url, region_name="us-east-1", **given)

    def answer(self, app: Any, environ: dict[str, Any], start: StartResponse) -> Iterable[bytes]:
        """One request through the faults."""
        self.requests.append(f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}")
        signature = environ.get("HTTP_AUTHORIZATION", "")
        if signature and f"Credential={KEY}/" not in signature:
            return _refuse(environ, start, "403 Forbidden", "InvalidAccessKeyId")
        if not signature and not self.public:
            return _refuse(environ, start, "403 Forbidden", "AccessDenied")
        if self.slow:
            self.slow -= 1
            return _refuse(environ, start, "503 Slow Down", "SlowDown")
        answer: Iterable[bytes] = app(environ, start)
        if self.cut and environ["REQUEST_METHOD"] == "GET" and environ["PATH_INFO"].count("/") > 1:
            self.cut -= 1
            body = b"".join(answer)
            return [body[: len(body) // 2]]
        return answer


def _refuse(environ: dict[str, Any], start: StartResponse, status: str, code: str) -> Iterable[bytes]:
    body = _REFUSAL.format(code=code).encode()
    start(status, [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]


@contextmanager
def serve() -> Iterator[S3StandIn]:
    """A stand-in on a free port, its buckets empty."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    app = DomainDispatcherApplication(create_backend_app)
    stand_in = S3StandIn()

    def whole(environ: dict[str, Any], start: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"].startswith("/moto-api"):
            return app(environ, start)  # type: ignore[no-any-return]
        return stand_in.answer(app, environ, start)

    server = make_server("127.0.0.1", 0, whole, threaded=True)
    stand_in.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        import urllib.request

        urllib.request.urlopen(urllib.request.Request(f"{stand_in.url}/moto-api/reset", method="POST")).close()
        yield stand_in
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
