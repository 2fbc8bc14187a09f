"""A stand-in for Google's servers on loopback: OAuth tokens for service accounts, Sheets API v4, Drive's modifiedTime.

    account = Account("reader@project.iam.gserviceaccount.com")
    with serve([book], [account]) as google:
        key = account.key(google.url)       # the JSON key, its token_uri on the stand-in
        google.fail(Fault("/values", status=429, body=QUOTA_BODY))

Signatures are verified with the public part of the account's key; a token is good for an hour.
"""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256

from datasense_assets_tests.stand_ins.google_book import Book, Box, Json, RangeError, masked
from examples.kobo_faults import Fault as Manner
from examples.kobo_faults import send

GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
SHEETS_SCOPES = frozenset(
    f"https://www.googleapis.com/auth/{name}" for name in ("spreadsheets", "spreadsheets.readonly", "drive")
)
DRIVE_SCOPES = frozenset(
    f"https://www.googleapis.com/auth/{name}" for name in ("drive", "drive.readonly", "drive.metadata.readonly")
)


class Account:
    """A service account with a key pair of its own."""

    def __init__(self, email: str) -> None:
        self.email = email
        self.key_id = secrets.token_hex(20)
        self.private = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    def key(self, url: str) -> str:
        """The JSON key as the console hands it out, with the stand-in's token endpoint."""
        pem = self.private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return json.dumps(
            {
                "type": "service_account",
                "project_id": "project",
                "private_key_id": self.key_id,
                "private_key": pem.decode(),
                "client_email": self.email,
                "client_id": "1",
                "token_uri": f"{url}/token",
            }
        )


@dataclass
class Fault:
    """A wrong answer to the next `times` requests whose path has `path` in it; `$sent` in its body is what was sent."""

    path: str
    status: int = 500
    body: str = "{}"
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    times: int = 1


@dataclass(frozen=True)
class Quota:
    """Reads a minute, or in so many seconds."""

    user: int = 60
    project: int = 300
    seconds: float = 60.0


@dataclass(frozen=True)
class Seen:
    """A request that came in, and the status it was answered with."""

    method: str
    path: str
    query: Mapping[str, list[str]]
    status: int
    at: float = field(default_factory=time.monotonic)


class Refusal(Exception):
    """An error in Google's form."""

    def __init__(self, code: int, status: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.body = {"error": {"code": code, "message": message, "status": status}}


QUOTA_WORDS = (
    "Quota exceeded for quota metric 'Read requests' and limit 'Read requests per minute per user' of service "
    "'sheets.googleapis.com' for consumer 'project_number:1'."
)
QUOTA_BODY = json.dumps(Refusal(429, "RESOURCE_EXHAUSTED", QUOTA_WORDS).body)
DISABLED_BODY = json.dumps(
    Refusal(
        403,
        "PERMISSION_DENIED",
        "Google Sheets API has not been used in project 1 before or it is disabled. Enable it by visiting "
        "https://console.developers.google.com/apis/api/sheets.googleapis.com/overview?project=1 then retry.",
    ).body
)


class Google:
    """The running server: spreadsheets by id, accounts by email, what was asked of it."""

    def __init__(self, books: Sequence[Book], accounts: Sequence[Account], quota: Quota | None) -> None:
        self.books = {book.id: book for book in books}
        self.accounts = {account.email: account for account in accounts}
        self.tokens: dict[str, tuple[str, frozenset[str], float]] = {}
        self.seen: list[Seen] = []
        self.clock: Callable[[], float] = time.time
        self._quota = quota
        self._reads: list[tuple[float, str]] = []
        self._faults: list[Fault | Manner] = []
        self._lock = threading.Lock()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _handler_for(self))
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def clear_faults(self) -> None:
        with self._lock:
            self._faults.clear()

    def fail(self, *faults: Fault | Manner) -> None:
        with self._lock:
            self._faults.extend(faults)

    def reads(self) -> list[Seen]:
        """Requests to the Sheets API so far: those that Google counts."""
        return [seen for seen in self.seen if seen.path.startswith("/v4/")]

    def next_fault(self, path: str) -> Fault | Manner | None:
        with self._lock:
            for fault in self._faults:
                if fault.path in path:
                    fault.times -= 1
                    if fault.times <= 0:
                        self._faults.remove(fault)
                    return fault
        return None

    # --- the API

    def token(self, form: Mapping[str, list[str]]) -> Json:
        """POST /token: an access token for a signed claim."""
        if form.get("grant_type") != [GRANT]:
            raise _oauth("unsupported_grant_type", "Invalid grant_type")
        try:
            head, body, signature = form["assertion"][0].split(".")
            claims = json.loads(_decoded(body))
            account = self.accounts[claims["iss"]]
            header = json.loads(_decoded(head))
        except (KeyError, ValueError):
            raise _oauth("invalid_grant", "Invalid grant: account not found") from None
        if header.get("alg") != "RS256":
            raise _oauth("invalid_grant", "Invalid JWT algorithm")
        try:
            account.private.public_key().verify(
                _decoded(signature), f"{head}.{body}".encode(), padding.PKCS1v15(), SHA256()
            )
        except (InvalidSignature, ValueError):
            raise _oauth("invalid_grant", "Invalid JWT Signature.") from None
        now = self.clock()
        if not now - 300 <= claims.get("iat", 0) <= now + 300 or not now < claims.get("exp", 0) <= now + 3900:
            raise _oauth("invalid_grant", "Invalid JWT: Token must be a short-lived token (60 minutes)")
        own = f"{self.url}/token"  # which may be asked by another name, as Google's token server has one
        if claims.get("aud") not in (own, own.replace("127.0.0.1", "localhost"), "https://oauth2.googleapis.com/token"):
            raise _oauth("invalid_grant", "Invalid JWT: Failed audience check.")
        scopes = frozenset(str(claims.get("scope", "")).split())
        if not scopes:
            raise _oauth("invalid_scope", "Invalid OAuth scope or ID token audience provided.")
        token = f"ya29.{secrets.token_urlsafe(40)}"
        self.tokens[token] = (account.email, scopes, now + 3600)
        return {"access_token": token, "expires_in": 3599, "token_type": "Bearer"}

    def answer(self, path: str, query: Mapping[str, list[str]], authorization: str) -> Json:
        """A GET."""
        email, scopes = self._who(authorization)
        parts = path.strip("/").split("/", 3)
        if parts[:3] == ["drive", "v3", "files"] and len(parts) == 4:
            self._need(scopes, DRIVE_SCOPES)
            return self._file(self._book(parts[3], email), query)
        if parts[:2] != ["v4", "spreadsheets"] or len(parts) < 3:
            raise Refusal(404, "NOT_FOUND", "Requested entity was not found.")
        self._need(scopes, SHEETS_SCOPES)
        self._count(email)
        identity, _, method = parts[2].partition(":")
        book = self._book(identity, email)
        if book.is_office_file:
            raise Refusal(400, "FAILED_PRECONDITION", "This operation is not supported for this document")
        rest = parts[3] if len(parts) == 4 else ""
        try:
            if not rest and not method:
                return self._spreadsheet(book, query)
            if rest == "values:batchGet":
                ranges = [self._values(book.box(text), query) for text in query.get("ranges", [])]
                return {"spreadsheetId": book.id, "valueRanges": ranges}
            if rest.startswith("values/"):
                return self._values(book.box(rest.removeprefix("values/")), query)
        except RangeError as error:
            raise Refusal(400, "INVALID_ARGUMENT", str(error)) from None
        raise Refusal(404, "NOT_FOUND", "Requested entity was not found.")

    def _spreadsheet(self, book: Book, query: Mapping[str, list[str]]) -> Json:
        fields = query.get("fields", ["*"])[0]
        # a mask decides whether cells come along; includeGridData counts only without one
        data = "data" in fields if fields != "*" else query.get("includeGridData") == ["true"]
        answer: Json = masked(book.described(query.get("ranges", []), data=data), fields)
        return answer

    def _values(self, box: Box, query: Mapping[str, list[str]]) -> Json:
        option = query.get("valueRenderOption", ["FORMATTED_VALUE"])[0]
        date_option = query.get("dateTimeRenderOption", ["SERIAL_NUMBER"])[0]
        dimension = query.get("majorDimension", ["ROWS"])[0]
        values = box.values(option, date_option)
        if dimension == "COLUMNS":
            width = max((len(row) for row in values), default=0)
            values = [[row[i] if i < len(row) else "" for row in values] for i in range(width)]
        answer: Json = {"range": box.a1(), "majorDimension": dimension}
        return answer | ({"values": values} if values else {})

    def _file(self, book: Book, query: Mapping[str, list[str]]) -> Json:
        file = {
            "kind": "drive#file",
            "id": book.id,
            "name": book.title,
            "mimeType": "application/vnd.google-apps.spreadsheet",
            "createdTime": "2025-01-01T00:00:00.000Z",
            "modifiedTime": book.modified,
        }
        wanted = query.get("fields", ["kind,id,name,mimeType"])[0]
        result: Json = masked(file, wanted)
        return result

    def _who(self, authorization: str) -> tuple[str, frozenset[str]]:
        email, scopes, until = self.tokens.get(authorization.removeprefix("Bearer "), ("", frozenset(), 0.0))
        if self.clock() >= until:
            raise Refusal(
                401,
                "UNAUTHENTICATED",
                "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other "
                "valid authentication credential.",
            )
        return email, scopes

    def _need(self, scopes: frozenset[str], allowed: frozenset[str]) -> None:
        if not scopes & allowed:
            raise Refusal(403, "PERMISSION_DENIED", "Request had insufficient authentication scopes.")

    def _count(self, email: str) -> None:
        if self._quota is None:
            return
        now = self.clock()
        with self._lock:
            self._reads = [(at, who) for at, who in self._reads if at > now - self._quota.seconds]
            mine = sum(who == email for _, who in self._reads)
            if mine >= self._quota.user or len(self._reads) >= self._quota.project:
                raise Refusal(429, "RESOURCE_EXHAUSTED", QUOTA_WORDS)
            self._reads.append((now, email))

    def _book(self, identity: str, email: str) -> Book:
        book = self.books.get(identity)
        if book is None:
            raise Refusal(404, "NOT_FOUND", "Requested entity was not found.")
        if email not in book.shared:
            raise Refusal(403, "PERMISSION_DENIED", "The caller does not have permission")
        return book


def _decoded(part: str) -> bytes:
    import base64

    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def _oauth(error: str, description: str) -> Refusal:
    refusal = Refusal(400, error, description)
    refusal.body = {"error": error, "error_description": description}  # OAuth's own form, not the API's
    return refusal


@contextmanager
def serve(books: Sequence[Book], accounts: Sequence[Account], *, quota: Quota | None = None) -> Iterator[Google]:
    """Serve from a thread until the block ends."""
    google = Google(books, accounts, quota)
    thread = threading.Thread(target=google.server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield google
    finally:
        google.server.shutdown()
        google.server.server_close()
        thread.join()


def _handler_for(google: Google) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            url = urlsplit(self.path)
            query = parse_qs(url.query, keep_blank_values=True)
            self._reply(
                unquote(url.path), query, lambda path: google.answer(path, query, self.headers["Authorization"] or "")
            )

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
            path = urlsplit(self.path).path
            if path != "/token":
                self._reply(path, {}, lambda _: _raise(Refusal(404, "NOT_FOUND", "Not found")))
            else:
                self._reply(
                    path, {}, lambda _: google.token(parse_qs(body)), sent=parse_qs(body).get("assertion", [""])[0]
                )

        def _reply(self, path: str, query: Mapping[str, list[str]], act: Callable[[str], Json], sent: str = "") -> None:
            fault = google.next_fault(path)
            headers: Mapping[str, str] = {}
            kind = "application/json; charset=UTF-8"
            manner = fault if isinstance(fault, Manner) else None
            if manner is not None and manner.act is not None:
                manner.act()
            if fault is not None and fault.status is not None:
                said = fault.body if isinstance(fault.body, str) else fault.body.decode()
                status, text = fault.status, said.replace("$sent", sent)
                headers, kind = fault.headers, fault.content_type
            else:
                try:
                    status, text = 200, json.dumps(act(path))
                except Refusal as refusal:
                    status, text = refusal.code, json.dumps(refusal.body)
            google.seen.append(Seen(self.command, path, query, status))
            body = text.encode()
            if manner is not None and manner.truncated:
                body = body[: len(body) // 2]
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            with suppress(ConnectionError):  # who asked may have gone
                if send(manner, body, self.wfile.write, threading.Event().wait):
                    self.close_connection = True

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler


def _raise(error: Exception) -> Any:
    raise error
