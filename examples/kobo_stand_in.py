"""A stand-in KoboToolbox server (kpi, API v2) on loopback, for the demo and for tests; real HTTP, made-up forms.

In a test:

    with serve([form], token="secret") as kobo:
        kobo.fail(kobo_faults.throttled(2.0, path="/data/"))
        ...                             # a client of kobo.url; form.add(...), form.edit(...), form.delete(...)
        assert kobo.count_requests("/data/") == 2

From a shell, with the forms of the demo organisations and a folder served as static files under /files/:

    python examples/kobo_stand_in.py --port 0 --files examples/data

prints one line of JSON with its address and accounts, and ends when the process that started it does.
A form and its rows are in kobo_form.py, the API in kobo_api.py, wrong answers in kobo_faults.py, the demo's own
form in make_submissions.py.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

if not __package__:  # run by its path: the package `examples` is in the folder above
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from examples.kobo_api import Reply, Site, answer
from examples.kobo_faults import Fault, send
from examples.kobo_form import Form

DEFAULT_PORT = 8765
PARENT_CHECK_SECONDS = 0.5


@dataclass(frozen=True)
class Request:
    """A request that came in, and the status it was answered with."""

    method: str
    path: str
    query: Mapping[str, str]
    status: int


class StandIn:
    """A running stand-in server: where it is, what it was asked, and what it shall answer wrong."""

    def __init__(self, accounts: Mapping[str, Sequence[Form]], files: Path | None, host: str, port: int) -> None:
        """Listen; `accounts` are the forms by token, `port` 0 takes a free one. Raises OSError for a taken port."""
        self._faults: list[Fault] = []
        self._requests: list[Request] = []
        self._lock = threading.Lock()
        self.stopping = threading.Event()
        self.server = ThreadingHTTPServer((host, port), _handler_for(self))
        self.server.daemon_threads = True
        self.server.block_on_close = False
        self.url = f"http://{host}:{self.server.server_port}"
        forms_by_token = {token: list(forms) for token, forms in accounts.items()}
        self.site = Site(self.url, forms_by_token, None if files is None else files.resolve())

    @property
    def requests(self) -> list[Request]:
        """Every request so far, oldest first."""
        with self._lock:
            return list(self._requests)

    def count_requests(self, path: str = "") -> int:
        """How many requests so far had `path` in theirs."""
        return sum(path in request.path for request in self.requests)

    def record(self, request: Request) -> None:
        """Note a request that was answered."""
        with self._lock:
            self._requests.append(request)

    def fail(self, *faults: Fault) -> None:
        """Queue faults; each request takes the first one that fits it."""
        with self._lock:
            self._faults.extend(faults)

    def clear_faults(self) -> None:
        """Answer rightly from now on."""
        with self._lock:
            self._faults.clear()

    def next_fault(self, path: str) -> Fault | None:
        """The fault that this request meets, used up by it."""
        with self._lock:
            for fault in self._faults:
                if fault.path not in path:
                    continue
                if fault.after > 0:
                    fault.after -= 1
                    continue
                fault.times -= 1
                if fault.times <= 0:
                    self._faults.remove(fault)
                return fault
        return None

    def stop(self) -> None:
        """Close the port; a request that is being answered is dropped."""
        self.stopping.set()
        self.server.shutdown()
        self.server.server_close()


@contextmanager
def serve(
    forms: Sequence[Form] = (),
    *,
    token: str = "stand-in-token",  # noqa: S107  it guards nothing but made-up forms on loopback
    more_accounts: Mapping[str, Sequence[Form]] | None = None,
    faults: Sequence[Fault] = (),
    files: Path | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
) -> Iterator[StandIn]:
    """Serve forms to the account of `token`, and others to `more_accounts`, from a thread until the block ends."""
    stand_in = StandIn({token: forms, **(more_accounts or {})}, files, host, port)
    stand_in.fail(*faults)
    thread = threading.Thread(target=stand_in.server.serve_forever, args=(0.05,), name="kobo-stand-in", daemon=True)
    thread.start()
    try:
        yield stand_in
    finally:
        stand_in.stop()
        thread.join()


def _handler_for(stand_in: StandIn) -> type[BaseHTTPRequestHandler]:
    """A handler class bound to one server: `http.server` makes an object of it for each connection."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        server_version = "kobo-stand-in"

        def do_GET(self) -> None:
            url = urlsplit(self.path)
            path, query = unquote(url.path), parse_qs(url.query, keep_blank_values=True)
            fault = stand_in.next_fault(path)
            if fault is not None and fault.delay:
                stand_in.stopping.wait(fault.delay)
            if fault is not None and fault.act is not None:
                fault.act()
            if fault is None or fault.status is None:
                reply = answer(
                    stand_in.site, path, query, {name.lower(): value for name, value in self.headers.items()}
                )
            else:
                reply = Reply(fault.status, fault.body, fault.content_type, fault.headers)
            flat = {name: values[-1] for name, values in query.items()}
            stand_in.record(Request(self.command, path, flat, reply.status))
            self._send(reply, fault)

        do_HEAD = do_GET  # noqa: N815  the name that http.server looks for

        def _send(self, reply: Reply, fault: Fault | None) -> None:
            body = reply.body[: len(reply.body) // 2] if fault is not None and fault.truncated else reply.body
            self.send_response(reply.status)
            self.send_header("Content-Type", reply.content_type)
            self.send_header("Content-Length", str(len(body)))
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.end_headers()
            with suppress(ConnectionError):  # who asked may have gone
                if self.command != "HEAD" and send(fault, body, self.wfile.write, stand_in.stopping.wait):
                    self.close_connection = True

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing: the requests are kept in `StandIn.requests`."""

    return Handler


def _stop_with_parent(stop: threading.Event) -> None:
    """Set `stop` once the process that started this one is gone (an orphan gets another parent)."""
    parent = os.getppid()
    while not stop.wait(PARENT_CHECK_SECONDS):
        if os.getppid() != parent:
            stop.set()


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve the demo organisations' forms until interrupted, or until the parent process is gone."""
    from examples.make_submissions import demo_accounts

    parser = argparse.ArgumentParser(description="A stand-in KoboToolbox server with the demo organisations' forms.")
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help="0 takes a free one (default %(default)s)")
    parser.add_argument("--files", type=Path, help="folder to serve under /files/")
    parser.add_argument("--until", type=date.fromisoformat, help="day before which the newest submission is (today)")
    parser.add_argument("--keep", action="store_true", help="go on when the process that started this one ends")
    options = parser.parse_args(arguments)
    accounts = demo_accounts(options.until or datetime.now(UTC).date())
    try:
        stand_in = StandIn({a.token: a.forms for a in accounts}, options.files, "127.0.0.1", options.port)
    except OSError as error:
        print(f"port {options.port} cannot be used ({error.strerror}); --port 0 takes a free one", file=sys.stderr)
        return 2
    threading.Thread(target=stand_in.server.serve_forever, daemon=True).start()
    described = [
        {"organization": a.organization, "token": a.token, "forms": {f.uid: f.submission_count for f in a.forms}}
        for a in accounts
    ]
    line = {"url": stand_in.url, "files": f"{stand_in.url}/files/", "accounts": described}
    print(json.dumps(line), flush=True)
    stop = threading.Event()
    if not options.keep:
        threading.Thread(target=_stop_with_parent, args=(stop,), daemon=True).start()
    try:
        stop.wait()
    except KeyboardInterrupt:
        pass
    finally:
        stand_in.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
