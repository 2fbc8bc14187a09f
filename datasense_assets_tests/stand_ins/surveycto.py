"""A stand-in SurveyCTO server on loopback: its wide JSON and its refusals over real HTTP, with made-up forms.

    with serve([form]) as server:
        form.add({"name": "Asha", "members": [{"age": "7"}]}, at=moment)
        ...                                  # a client of server.url
        server.pass_time(300)                # until the next full pull is allowed

What it holds to, as apis and clients have it: Basic auth (or digest alone, as old servers did), `date` required and
inclusive to the second, `r` with `|` or `,`, 417 for a full pull within 300 s of the last one, 409 while another
request runs, 412 for a user without API access, and answers of an encrypted form only for its private key by POST.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from examples.kobo_faults import Fault, send

FULL_PULL_SECONDS = 300
USER, PASSWORD = "data@example.org", "s3cret pass"
Question = str | tuple[str, list[Any]]
_FORMAT = "%b %d, %Y %I:%M:%S %p"
_REALM, _NONCE = "stand-in", "5f2c1e"


@dataclass
class Submission:
    key: str
    at: datetime
    answers: dict[str, Any]
    review: str = "APPROVED"


@dataclass
class Form:
    """`questions` are names, or (repeat, its questions); `private_key` makes the form an encrypted one. `narrow`: an
    answer has the columns that its own submissions need, and not those that all of the form's do.
    """

    id: str
    questions: list[Question]
    private_key: str | None = None
    narrow: bool = False
    submissions: list[Submission] = field(default_factory=list)

    def add(self, answers: dict[str, Any], at: datetime, review: str = "APPROVED") -> Submission:
        submission = Submission(f"uuid:{len(self.submissions) + 1:08d}", at, answers, review)
        self.submissions.append(submission)
        return submission

    def wide(self, chosen: Sequence[Submission], *, readable: bool) -> list[dict[str, str]]:
        """The rows as the server writes them: the columns of every row are those of the widest."""
        everyone: list[dict[str, Any] | None] = [
            s.answers if s in chosen or not self.narrow else None for s in self.submissions
        ]
        columns = list(_spread(self.questions, everyone, "")) if readable else []
        rows = []
        for number, submission in enumerate(self.submissions):
            if submission in chosen:
                moment = written(submission.at)
                row = {"CompletionDate": moment, "SubmissionDate": moment}
                row |= {name: values[number] for name, values in columns}
                row |= {"instanceID": submission.key, "formdef_version": "2601011200", "review_quality": ""}
                rows.append(row | {"review_status": submission.review, "KEY": submission.key})
        return rows


@dataclass
class Dataset:
    """A server dataset: `fields` and rows of texts; `unique` is the field that names a row, where there is one."""

    id: str
    fields: list[str]
    rows: list[list[str]]
    unique: str | None = None
    status: str = "READY"

    def described(self) -> dict[str, Any]:
        return {
            "id": self.id, "title": self.id.replace("_", " ").title(), "discriminator": "DATA", "status": self.status,
            "totalRecords": len(self.rows), "fieldNames": ",".join(self.fields), "groupId": 1, "version": 1,
            "createdOn": "2026-01-05T08:00:00.000Z", "modifiedOn": "2026-01-05T08:00:00.000Z",
            "allowOfflineUpdates": False, "uniqueRecordField": self.unique, "idFormatOptions": {},
        }  # fmt: skip

    def csv(self) -> bytes:
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerows([self.fields, *self.rows])
        return out.getvalue().encode()


def written(moment: datetime) -> str:
    """`Oct 5, 2015 6:26:24 PM`, in UTC."""
    return re.sub(r"\b0(\d)(, |:\d\d:\d\d )", r"\1\2", moment.astimezone(UTC).strftime(_FORMAT))


def _spread(
    questions: Sequence[Question], answers: Sequence[dict[str, Any] | None], suffix: str
) -> Iterator[tuple[str, list[str]]]:
    for question in questions:
        if isinstance(question, str):
            yield question + suffix, [str((a or {}).get(question, "")) for a in answers]
            continue
        name, inner = question
        lists = [list((a or {}).get(name, [])) for a in answers]
        counts = ["" if a is None else str(len(each)) for a, each in zip(answers, lists, strict=True)]
        yield f"{name}_count{suffix}", counts
        for index in range(max(map(len, lists), default=0)):
            picked = [each[index] if index < len(each) else None for each in lists]
            yield from _spread(inner, picked, f"{suffix}_{index + 1}")


@dataclass
class Request:
    method: str
    path: str
    query: Mapping[str, str]
    status: int


@dataclass
class Reply:
    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    fault: Fault | None = None


class StandIn:
    """A running server: where it is, what it was asked, what it shall answer wrong, how slow it is."""

    def __init__(
        self, forms: Sequence[Form], datasets: Sequence[Dataset], *, digest_only: bool, api_access: bool
    ) -> None:
        self.forms = {form.id: form for form in forms}
        self.datasets = {dataset.id: dataset for dataset in datasets}
        self.lists = True  # older servers list neither forms nor datasets, and do not describe a dataset
        self.digest_only, self.api_access = digest_only, api_access
        self.requests: list[Request] = []
        self.slow = 0.0
        self._faults: list[Fault] = []
        self._now = 1_000_000.0
        self._last_full: float | None = None
        self._busy = threading.Lock()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _handler_for(self))
        self.server.daemon_threads = True
        self.server.block_on_close = False
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def pass_time(self, seconds: float) -> None:
        """Let the server's clock go on; nobody waits."""
        self._now += seconds

    def fail(self, *faults: Fault) -> None:
        self._faults.extend(faults)

    @contextmanager
    def another_request_running(self) -> Iterator[None]:
        with self._busy:
            yield

    def reply(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Reply:
        url = urlsplit(target)
        path, query = unquote(url.path), {k: v[-1] for k, v in parse_qs(url.query, keep_blank_values=True).items()}
        fault = self._next_fault(path)
        if fault is not None and fault.act is not None:
            fault.act()
        if fault is not None and fault.status is not None:
            reply = Reply(fault.status, fault.body, dict(fault.headers), fault.content_type)
        else:
            reply = self._answer(method, path, query, headers, body)
            reply.fault = fault
            if fault is not None and fault.truncated:
                reply.body = reply.body[: len(reply.body) // 2]
        self.requests.append(Request(method, path, query, reply.status))
        return reply

    def clear_faults(self) -> None:
        self._faults.clear()

    def _next_fault(self, path: str) -> Fault | None:
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

    def _answer(
        self, method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str], body: bytes
    ) -> Reply:
        if not self._may_enter(method, headers.get("authorization", "")):
            scheme = f'Digest realm="{_REALM}", qop="auth", nonce="{_NONCE}"'
            offered = scheme if self.digest_only else f'Basic realm="{_REALM}"'
            return _error(401, "Bad credentials", {"WWW-Authenticate": offered})
        if path == "/api/v1/forms/settings/csv/linebreak" and method in ("POST", "DELETE"):
            return Reply(200, b"")
        if not self.api_access:
            return _error(412, "The user has no access to the API")
        if not self._busy.acquire(blocking=False):
            return _error(409, "Another request is being processed")
        try:
            threading.Event().wait(self.slow)
            found = re.fullmatch(r"/api/v(1|2)/forms/data/wide/json/([^/]+)", path)
            if found is not None and method in ("GET", "POST"):
                return self._data(int(found[1]), found[2], query, _private_key(headers, body))
            return self._dataset(path, query)
        finally:
            self._busy.release()

    def _dataset(self, path: str, query: Mapping[str, str]) -> Reply:
        data = re.fullmatch(r"/api/v2/datasets/data/csv/([^/]+)", path)
        one = re.fullmatch(r"/api/v2/datasets/([^/]+)", path)
        if data is not None and data[1] in self.datasets:
            return Reply(200, self.datasets[data[1]].csv(), {}, "text/csv;charset=UTF-8")
        if not self.lists:
            return _error(404, "Not found")
        if path == "/api/v2/forms/ids":
            return Reply(200, json.dumps({"formIds": list(self.forms)}).encode())
        if path == "/api/v2/datasets":
            every = sorted(self.datasets)
            start, limit = int(query.get("cursor", 0)), min(int(query.get("limit", 20)), 1000)
            page = [self.datasets[each].described() for each in every[start : start + limit]]
            following = str(start + limit) if start + limit < len(every) else None
            answer = {"total": len(every), "limit": limit, "data": page, "nextCursor": following}
            return Reply(200, json.dumps(answer).encode())
        if one is not None and one[1] in self.datasets:
            return Reply(200, json.dumps(self.datasets[one[1]].described()).encode())
        return _error(404, "Not found")

    def _data(self, version: int, form_id: str, query: Mapping[str, str], private_key: str | None) -> Reply:
        form = self.forms.get(form_id)
        if form is None:
            return _error(404, f"Form {form_id} not found")
        date = query.get("date") if version == 2 else "0"
        since = _moment(date) if date is not None else None
        if since is None:
            return _error(400, "date is required: 0, seconds since 1970, or like Oct 10, 2015 6:26:24 PM")
        if private_key is not None and private_key != form.private_key:
            return _error(400, "The private key does not fit the form")
        if date == "0":
            wait = 0.0 if self._last_full is None else self._last_full + FULL_PULL_SECONDS - self._now
            if wait > 0:
                return _error(417, f"Please wait for {wait:.0f} seconds before requesting all of the data again.")
            self._last_full = self._now
        statuses = {word.upper() for word in re.split(r"[|,]", query.get("r", "approved"))}
        chosen = [s for s in form.submissions if s.at.replace(microsecond=0) >= since and s.review in statuses]
        readable = form.private_key is None or private_key == form.private_key
        return Reply(200, json.dumps(form.wide(chosen, readable=readable), ensure_ascii=False).encode())

    def _may_enter(self, method: str, authorization: str) -> bool:
        scheme, _, rest = authorization.partition(" ")
        if scheme == "Basic" and not self.digest_only:
            return base64.b64decode(rest).decode() == f"{USER}:{PASSWORD}"
        if scheme != "Digest":
            return False
        given = {k: quoted or bare for k, quoted, bare in re.findall(r'(\w+)=(?:"([^"]*)"|([^,\s]+))', rest)}
        who, what = _md5(f"{USER}:{_REALM}:{PASSWORD}"), _md5(f"{method}:{given.get('uri')}")
        expected = _md5(f"{who}:{_NONCE}:{given.get('nc')}:{given.get('cnonce')}:auth:{what}")
        return given.get("username") == USER and given.get("response") == expected


@contextmanager
def serve(
    forms: Sequence[Form], datasets: Sequence[Dataset] = (), *, digest_only: bool = False, api_access: bool = True
) -> Iterator[StandIn]:
    """Serve forms and datasets to `USER` with `PASSWORD` from a thread until the block ends."""
    stand_in = StandIn(forms, datasets, digest_only=digest_only, api_access=api_access)
    thread = threading.Thread(target=stand_in.server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield stand_in
    finally:
        stand_in.server.shutdown()
        stand_in.server.server_close()
        thread.join()


def _error(status: int, message: str, headers: dict[str, str] | None = None) -> Reply:
    return Reply(status, json.dumps({"error": {"code": status, "message": message}}).encode(), headers or {})


def _moment(date: str) -> datetime | None:
    if date.isdigit():
        return datetime.fromtimestamp(int(date), UTC)
    try:
        return datetime.strptime(date, _FORMAT).replace(tzinfo=UTC)
    except ValueError:
        return None


def _private_key(headers: Mapping[str, str], body: bytes) -> str | None:
    """The `private_key` file of a multipart form."""
    kind = headers.get("content-type", "")
    if not kind.startswith("multipart/form-data"):
        return None
    message = message_from_bytes(f"Content-Type: {kind}\r\n\r\n".encode() + body)
    for part in message.get_payload():
        if 'name="private_key"' in str(part["Content-Disposition"]):  # type: ignore[index]
            return bytes(part.get_payload(decode=True)).decode()  # type: ignore[union-attr,arg-type]
    return None


def _md5(text: str) -> str:
    return hashlib.md5(text.encode()).hexdigest()


def _handler_for(stand_in: StandIn) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            reply = stand_in.reply(self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, body)
            self.send_response(reply.status)
            self.send_header("Content-Type", reply.content_type)
            self.send_header("Content-Length", str(len(reply.body)))
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.end_headers()
            with suppress(ConnectionError):  # who asked may have gone
                if send(reply.fault, reply.body, self.wfile.write, threading.Event().wait):
                    self.close_connection = True

        do_POST = do_DELETE = do_GET  # noqa: N815  the names that http.server looks for

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler
