"""The one HTTP client of the connectors: credentials in headers only, bounded in retries, waiting, time and size.

It reads: GET, POST where an API wants a file along with the question, and a login's form, which goes to the address
given and nowhere else. Whatever goes wrong comes out as a `SourceError`. Its message has the address without the query,
and no exception of the HTTP library is chained to it, so that neither a token nor a signed link can get into a log or a
trace.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx

from datasense_assets.connectors.addresses import asked, joined, may_not_leave, same_server, server_of, shown
from datasense_assets.connectors.answers import web_page_words
from datasense_assets.connectors.base import CallBudget, NetworkPolicy, ReadStats
from datasense_assets.connectors.errors import (
    BadConfig,
    BadData,
    OutOfQuota,
    Throttled,
    Unavailable,
)
from datasense_assets.connectors.file_version import FileVersion
from datasense_assets.connectors.http_failures import (
    ERROR_BODY_BYTES,
    NOT_MODIFIED,
    TookTooLongToAnswer,
    network_failures,
    raise_for_status,
)
from datasense_assets.connectors.json_text import decode
from datasense_assets.connectors.network import CheckedTransport, Deadline

ATTEMPTS = 4
MAX_REDIRECTS = 5
MAX_JSON_BYTES = 256 * 1024**2
MAX_JSON_SECONDS = 300.0
MAX_FILE_BYTES = 20 * 1024**3
MAX_FILE_SECONDS = 4 * 3600.0
_JSON = {"accept": "application/json"}
_AGAIN = "It is tried again later."
_SERVER = "Ask the server's owner, or give another address."

T = TypeVar("T")


def pause(seconds: float) -> None:
    """Wait; a name of its own so that tests need not."""
    threading.Event().wait(seconds)


@dataclass(frozen=True)
class _Form:
    """Fields to post, and what of them must not come back in a message."""

    fields: Mapping[str, str] = field(repr=False)
    secret: str = field(repr=False)


class HttpClient:
    """Reads under one policy, counted in `stats`.

    `authorization` is sent to the host of the first address only. A redirect to another host is refused where there
    is one, unless `follow_elsewhere`: then it is followed without it (a download that ends at a signed link).
    """

    def __init__(
        self,
        policy: NetworkPolicy,
        stats: ReadStats,
        *,
        authorization: str | None = None,
        follow_elsewhere: bool = False,
        budget: CallBudget | None = None,
    ) -> None:
        """Prepare; nothing is connected."""
        self._stats = stats
        self._authorization = authorization
        self._follow_elsewhere = follow_elsewhere
        self._budget = budget
        self._longest_wait = policy.longest_wait
        self._attempts = policy.attempts
        self._deadline = Deadline()
        # trust_env would add passwords from .netrc
        self._client = httpx.Client(
            transport=CheckedTransport(allow_private=policy.allow_private_addresses, deadline=self._deadline),
            timeout=httpx.Timeout(policy.timeout, connect=min(policy.timeout, policy.connect_timeout)),
            trust_env=False,
            follow_redirects=False,
            headers={"user-agent": _user_agent(), "accept-encoding": "gzip, deflate"},
        )

    def __repr__(self) -> str:
        return f"HttpClient(authorization={'set' if self._authorization else 'none'})"

    def close(self) -> None:
        """Close all connections."""
        self._client.close()

    def get_json(self, url: str, params: Mapping[str, str] | None = None) -> Any:
        """The decoded JSON of one GET, at most 256 MB and 300 s.

        Raises:
            SourceError: as the answer says; `BadData` for JSON that cannot be read, `BadConfig` for a web page.

        """
        where = shown(url)

        def read(response: httpx.Response) -> Any:
            parts: list[bytes] = []
            size = 0
            for chunk in response.iter_bytes():
                size += len(chunk)
                parts.append(chunk)
                if size > MAX_JSON_BYTES:
                    raise BadData(f"{where} sent more than {MAX_JSON_BYTES:,} bytes.", advice="Ask for less at a time.")
            return self._decoded(b"".join(parts), where)

        return self._attempt("GET", asked(url, params), read, headers=_JSON)

    def post_form(self, url: str, fields: Mapping[str, str], *, secret: str) -> Any:
        """The decoded JSON that answers a form sent to a login; it follows no redirect, for the form is a credential.

        Args:
            url: where to.
            fields: the form.
            secret: what of it may not be repeated in a message.

        Raises:
            SourceError: as the answer says.

        """

        def read(response: httpx.Response) -> Any:
            body = b""
            for chunk in response.iter_bytes():
                body += chunk
                if len(body) > ERROR_BODY_BYTES:
                    raise BadData(f"{shown(url)} sent too much for a login.", advice="Check its address.")
            return self._decoded(body, shown(url))

        return self._attempt("POST", url, read, headers=_JSON, form=_Form(fields, secret))

    def download(
        self,
        url: str,
        target: Path,
        *,
        params: Mapping[str, str] | None = None,
        files: Mapping[str, bytes] | None = None,
        head: int | None = None,
        unless: FileVersion | None = None,
    ) -> FileVersion | None:
        """Write the body of one GET to `target` (replaced on each attempt), at most 20 GB.

        Args:
            url: the address.
            target: the file to write.
            params: added to the address as its query.
            files: sent as the files of a form, by POST; they never leave the address's own server.
            head: stop after about so many bytes; None for the whole.
            unless: the version that is there already: where the server says that it is the same, None is returned.

        Raises:
            SourceError: as the answer says; the file may then hold a part.

        """

        def save(response: httpx.Response) -> FileVersion | None:
            if response.status_code == NOT_MODIFIED:
                return None
            size = 0
            with target.open("wb") as file:
                for chunk in response.iter_bytes(1 << 20):
                    size += len(chunk)
                    if size > MAX_FILE_BYTES:
                        raise BadData(
                            f"{shown(url)} is larger than {MAX_FILE_BYTES:,} bytes.", advice="Give a smaller file."
                        )
                    file.write(chunk)
                    if head is not None and size >= head:
                        break
            return FileVersion.of(response.headers)

        accept = {"accept": "*/*"} | ({} if unless is None else unless.conditions)
        method = "GET" if files is None else "POST"
        return self._attempt(method, asked(url, params), save, headers=accept, files=files, within=MAX_FILE_SECONDS)

    @staticmethod
    def _decoded(body: bytes, where: str) -> Any:
        try:
            return decode(body)
        except ValueError:
            words = web_page_words(body[:ERROR_BODY_BYTES].decode("utf-8", "replace"))
        if words is not None:
            raise BadConfig(
                f"{where} answered with a web page ({words}), not with data.",
                advice="Check the server's address in the source's config.",
            )
        raise BadData(f"{where} answered with something that is not JSON.", advice="Check the server's address.")

    def _attempt(
        self,
        method: str,
        url: str,
        action: Callable[[httpx.Response], T],
        *,
        headers: Mapping[str, str],
        form: _Form | None = None,
        files: Mapping[str, bytes] | None = None,
        within: float | None = None,
    ) -> T:
        waited, attempts = 0.0, min(ATTEMPTS, self._attempts)
        for attempt in range(1, attempts + 1):
            try:
                with self._answer(method, url, headers, form, files, within or MAX_JSON_SECONDS) as response:
                    return action(response)
            except (OutOfQuota, TookTooLongToAnswer):
                raise
            except (Unavailable, Throttled) as failure:
                asked = failure.retry_after
                seconds = asked if asked is not None else 2.0 ** (attempt - 1) * random.uniform(0.75, 1.25)  # noqa: S311
                if isinstance(failure, Throttled) and asked is None and self._budget is not None:
                    self._budget.block(server_of(url), seconds)
                # a longer wait than this is the run's affair, not of a worker that sits on its slot
                if attempt == attempts or waited + seconds > self._longest_wait:
                    raise
                if isinstance(failure, Throttled):
                    self._stats.throttled_seconds += seconds
            waited += seconds
            pause(seconds)
        raise AssertionError("the last attempt returns or raises")

    @contextmanager
    def _answer(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        form: _Form | None,
        files: Mapping[str, bytes] | None,
        within: float,
    ) -> Iterator[httpx.Response]:
        """The first answer that is no redirect, checked for success; network failures come out as `Unavailable`."""
        authorization = self._authorization
        for _ in range(MAX_REDIRECTS + 1):
            with (
                self._allowed(url, within),
                network_failures(url),
                self._client.stream(
                    method,
                    url,
                    headers=self._headers(url, authorization, headers),
                    data=None if form is None else dict(form.fields),
                    files=files,
                ) as response,
            ):
                try:
                    location = response.headers.get("location") if response.is_redirect else None
                    if location is None:
                        raise_for_status(response, url, self._secrets(form))
                        yield response
                        return
                finally:
                    self._stats.bytes += response.num_bytes_downloaded
            if form is not None:
                raise BadConfig(f"{shown(url)} redirects a login.", advice="Give the address that it leads to.")
            target = joined(url, location)
            if (authorization is not None or files is not None) and not same_server(url, target):
                if files is not None or not self._follow_elsewhere:
                    raise may_not_leave(url, target)
                authorization = None
            url = target
        raise BadConfig(f"{shown(url)} redirects without end.", advice="Give the address that it should lead to.")

    @contextmanager
    def _allowed(self, url: str, within: float) -> Iterator[None]:
        """Wait for the shared quotas and hold the right to this one call, whose time counts from then."""
        turn = nullcontext(0.0) if self._budget is None else self._budget.call(server_of(url))
        with turn as waited:
            self._stats.throttled_seconds += waited
            self._stats.api_calls += 1
            self._deadline.at = time.monotonic() + within
            try:
                yield
            except Throttled as failure:
                # before the turn ends: whoever waits for it would ask a server that wants to be let alone
                if failure.retry_after is not None and self._budget is not None:
                    self._budget.block(server_of(url), failure.retry_after)
                raise

    def _secrets(self, form: _Form | None) -> list[str]:
        """What a server may repeat of what it was sent."""
        own = [self._authorization, self._authorization.partition(" ")[2]] if self._authorization else []
        return own if form is None else [*own, form.secret]

    def _headers(self, url: str, authorization: str | None, headers: Mapping[str, str]) -> dict[str, str]:
        if urlsplit(url).scheme not in ("http", "https"):
            raise BadConfig(f"{shown(url)} is not an http:// or https:// address.", advice="Correct the address.")
        return dict(headers) | ({"authorization": authorization} if authorization else {})


def _user_agent() -> str:
    try:
        return f"datasense-assets/{version('datasense-assets')}"
    except PackageNotFoundError:
        return "datasense-assets"
