"""A stand-in ODK Central on loopback: projects' forms, their fields, and submissions as OData, over real HTTP.

    form = Form("visits", [("name", "string"), ("house/size", "int"), ("members", "repeat"), ("members/age", "int")])
    form.add({"name": "Asha", "house": {"size": 3}, "members": [{"age": 7}]}, at=moment)
    with serve([form]) as central:
        ...                             # a client of central.url, project 1

What it holds to, as Central's documents and source have it: newest first, `$skiptoken` pages that are not shifted by
new rows, `__id` in repeats' rows, navigation links where `$expand` is not asked for, Basic auth and sessions, 404 for
what is not there.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

USER, PASSWORD = "reader@example.org", "s3cret of central"
PROJECT = 1


def written(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass
class Submission:
    id: str
    answers: dict[str, Any]
    at: datetime
    updated: datetime | None = None


@dataclass
class Form:
    """`fields` are (path, type) in the form's order; groups are added by themselves as structures."""

    id: str
    fields: list[tuple[str, str]]
    published: bool = True
    submissions: list[Submission] = field(default_factory=list)

    def add(self, answers: dict[str, Any], at: datetime) -> Submission:
        submission = Submission(f"uuid:{len(self.submissions) + 1:08d}", answers, at)
        self.submissions.append(submission)
        return submission

    def schema(self) -> list[dict[str, Any]]:
        described: list[dict[str, Any]] = []
        known = {path for path, _ in self.fields}
        for path, kind in self.fields:
            group = path.rpartition("/")[0]
            if group and group not in known:
                known.add(group)
                described.append({"name": group.rpartition("/")[2], "path": f"/{group}", "type": "structure"})
            described.append({"name": path.rpartition("/")[2], "path": f"/{path}", "type": kind})
        return described

    def repeats(self) -> set[str]:
        return {path for path, kind in self.fields if kind == "repeat"}

    def row(self, submission: Submission, *, expand: bool) -> dict[str, Any]:
        system = {
            "submissionDate": written(submission.at),
            "updatedAt": written(submission.updated) if submission.updated else None,
            "submitterId": "7",
            "submitterName": "Asha",
            "attachmentsPresent": 0,
            "attachmentsExpected": 0,
            "status": None,
            "reviewState": None,
            "deviceId": None,
            "edits": int(submission.updated is not None),
            "formVersion": "1",
            "deletedAt": None,
        }
        body = self._filled("", submission.answers, f"Submissions('{submission.id}')", expand=expand)
        return {"__id": submission.id, "__system": system, **body}

    def _filled(self, above: str, answers: Mapping[str, Any], link: str, *, expand: bool) -> dict[str, Any]:
        """Every field of the level, null where there is no answer, as Central fills its rows."""
        filled: dict[str, Any] = {}
        level = [each for each in self.schema() if each["path"][1:].rpartition("/")[0] == above]
        for each in level:
            name, path = each["name"], each["path"][1:]
            value = answers.get(name)
            if each["type"] == "structure":
                filled[name] = self._filled(path, value or {}, f"{link}/{name}", expand=expand)
            elif each["type"] == "repeat":
                filled[f"{name}@odata.navigationLink"] = f"{link}/{name}"
                if expand:
                    filled[name] = []
                    for index, inner in enumerate(value or ()):
                        identity = hashlib.sha1(f"{link}%%{name}#{index}".encode()).hexdigest()
                        row = self._filled(path, inner, f"{link}/{name}('{identity}')", expand=True)
                        filled[name].append({**row, "__id": identity})
            else:
                filled[name] = value
        return filled


@dataclass(frozen=True)
class Seen:
    path: str
    query: Mapping[str, str]
    status: int


class Central:
    """The running server."""

    def __init__(self, forms: Sequence[Form]) -> None:
        self.forms = {form.id: form for form in forms}
        self.seen: list[Seen] = []
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _handler_for(self))
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def answer(self, path: str, query: dict[str, str], authorization: str) -> tuple[int, Any]:
        pair = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if authorization != f"Basic {pair}" and authorization != "Bearer session-token":
            return 401, {"code": 401.2, "message": "Could not authenticate with the provided credentials."}
        if path == f"/v1/projects/{PROJECT}/forms":
            listed = [
                {"xmlFormId": f.id, "name": f.id, "publishedAt": "x" if f.published else None}
                for f in self.forms.values()
            ]
            return 200, listed
        found = re.fullmatch(rf"/v1/projects/{PROJECT}/forms/([^/]+?)(/fields|\.svc/Submissions)", path)
        form = self.forms.get(unquote(found[1])) if found else None
        if found is None or form is None:
            return 404, {"code": 404.1, "message": "Could not find the resource you were looking for."}
        return 200, form.schema() if found[2] == "/fields" else self._data(form, path, query)

    def _data(self, form: Form, path: str, query: dict[str, str]) -> dict[str, Any]:
        chosen = [s for s in form.submissions if _matches(s, query.get("$filter", ""))]
        chosen.sort(key=lambda s: (s.at, s.id), reverse=True)
        total = len(chosen)
        if "$skiptoken" in query:
            last = json.loads(base64.b64decode(query["$skiptoken"]))["instanceId"]
            ids = [s.id for s in chosen]
            chosen = chosen[ids.index(last) + 1 :]
        top = int(query["$top"]) if "$top" in query else len(chosen)
        page = chosen[:top]
        answer: dict[str, Any] = {"@odata.context": f"{self.url}{path}/$metadata#Submissions"}
        if page and len(page) < len(chosen):
            token = base64.b64encode(json.dumps({"instanceId": page[-1].id}).encode()).decode()
            answer["@odata.nextLink"] = f"{self.url}{path}?{urlencode({**query, '$skiptoken': token})}"
        if query.get("$count") == "true":
            answer["@odata.count"] = total
        expand = query.get("$expand") == "*"
        return {**answer, "value": [form.row(s, expand=expand) for s in page]}


def _matches(submission: Submission, condition: str) -> bool:
    """`and` and `or` of comparisons of the two dates; a null is neither earlier nor later."""

    def holds(comparison: str) -> bool:
        name, operator, value = comparison.split()
        moment = {"__system/submissionDate": submission.at, "__system/updatedAt": submission.updated}[name]
        if moment is None:
            return False
        other = datetime.fromisoformat(value)
        return {"ge": moment >= other, "lt": moment < other}[operator]

    return not condition or any(all(map(holds, part.split(" and "))) for part in condition.split(" or "))


@contextmanager
def serve(forms: Sequence[Form]) -> Iterator[Central]:
    """Serve from a thread until the block ends."""
    central = Central(forms)
    thread = threading.Thread(target=central.server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield central
    finally:
        central.server.shutdown()
        central.server.server_close()
        thread.join()


def _handler_for(central: Central) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            url = urlsplit(self.path)
            query = {name: values[-1] for name, values in parse_qs(url.query, keep_blank_values=True).items()}
            self._reply(url.path, query, *central.answer(url.path, query, self.headers["Authorization"] or ""))

        def do_POST(self) -> None:
            sent = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")
            right = self.path == "/v1/sessions" and sent == {"email": USER, "password": PASSWORD}
            answer = {"token": "session-token", "csrf": "x", "expiresAt": "2099-01-01T00:00:00.000Z"}
            self._reply(self.path, {}, 200 if right else 401, answer if right else {"code": 401.2, "message": "no"})

        def _reply(self, path: str, query: Mapping[str, str], status: int, answer: Any) -> None:
            central.seen.append(Seen(path, query, status))
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler
