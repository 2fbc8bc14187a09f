"""What the stand-in server answers rightly: kpi's assets and data endpoints, and plain files. No sockets here.

`answer` is a function of the site, the path, the query and the headers; kobo_site.py carries it over HTTP.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import formatdate, parsedate_to_datetime
from hashlib import sha256
from mimetypes import guess_type
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from examples.kobo_form import Form, QueryError

DEFAULT_LIMIT = 100
MOST_ROWS = 1000

Query = dict[str, list[str]]


@dataclass
class Site:
    """What is served: forms by token, a folder under /files/, and the most rows that a page of data has."""

    url: str
    accounts: dict[str, list[Form]]
    files: Path | None = None
    most_rows: int = MOST_ROWS


@dataclass(frozen=True)
class Reply:
    """What goes back: a status, a body and headers beside length and type."""

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def json(cls, value: Any, status: int = 200) -> Reply:
        """The value as JSON."""
        return cls(status, json.dumps(value, ensure_ascii=False).encode())

    @classmethod
    def detail(cls, status: int, detail: str) -> Reply:
        """A refusal as Django REST framework words it."""
        return cls.json({"detail": detail}, status)


def answer(site: Site, path: str, query: Query, headers: Mapping[str, str]) -> Reply:
    """The reply to a GET (header names in lower case); /api/v2/assets and below need `Authorization: Token ...`."""
    if path.startswith("/files/"):
        return _static_file(site.files, path.removeprefix("/files/"), headers)
    parts = [part.removesuffix(".json") for part in path.strip("/").split("/")]
    if parts[:3] != ["api", "v2", "assets"]:
        return Reply.detail(404, "Not found.")
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme != "Token":
        return Reply.detail(401, "Authentication credentials were not provided.")
    if token not in site.accounts:
        return Reply.detail(401, "Invalid token.")
    forms = site.accounts[token]
    try:
        if len(parts) == 3:
            return _asset_list(site.url, forms, query)
        form = next((form for form in forms if form.uid == parts[3]), None)
        if form is None:
            return Reply.detail(404, "Not found.")
        if len(parts) == 4:
            return Reply.json(_asset(site.url, form, with_content=True))
        if parts[4] == "data":
            return _data(site, form, parts[5:], query)
        if parts[4:] == ["history"]:
            return _history(site, form, query)
    except QueryError as error:
        return Reply.detail(400, str(error))
    return Reply.detail(404, "Not found.")


def _asset(base: str, form: Form, *, with_content: bool) -> dict[str, Any]:
    url = f"{base}/api/v2/assets/{form.uid}"
    deployed = form.deployed_at.strftime("%Y-%m-%dT%H:%M:%S.000000Z")
    survey = form.content.get("survey", [])
    asset = {
        "url": f"{url}/?format=json",
        "uid": form.uid,
        "name": form.name,
        "asset_type": "survey",
        "owner__username": "stand_in",
        "date_created": deployed,
        "date_modified": deployed,
        "date_deployed": deployed,
        "version_id": form.version_id,
        "has_deployment": form.has_deployment,
        "deployment__active": form.active,
        "deployment__encrypted": form.encrypted,
        "deployment__submission_count": form.submission_count,
        "deployment__last_submission_time": form.last_submission_time,
        "deployment_status": "deployed" if form.has_deployment else "draft",
        "status": "shared",
        "summary": {
            "geo": any(row["type"] == "geopoint" for row in survey),
            "languages": form.content.get("translations", []),
            "row_count": sum(not row["type"].startswith(("begin_", "end_")) for row in survey),
        },
        "settings": {},
        "data": f"{url}/data/?format=json",
    }
    return asset | {"content": form.content} if with_content else asset


def _asset_list(base: str, forms: Sequence[Form], query: Query) -> Reply:
    """The account's forms; `q` is kpi's search: `asset_type:survey` keeps them all, other words look into the name."""
    terms = " ".join(query.get("q", [])).replace(" AND ", " ").split()
    kinds = [term.partition(":")[2] for term in terms if term.startswith("asset_type:")]
    words = [term.lower() for term in terms if ":" not in term]
    found = [f for f in forms if all(k == "survey" for k in kinds) and all(word in f.name.lower() for word in words)]
    start, limit = _number(query, "start", 0), _number(query, "limit", DEFAULT_LIMIT)
    page = [_asset(base, form, with_content=False) for form in found[start : start + limit]]
    return _page(f"{base}/api/v2/assets/", query, len(found), start, limit, page)


def _data(site: Site, form: Form, rest: list[str], query: Query) -> Reply:
    if rest:
        try:
            return Reply.json(_with_links(site.url, form, form.get(int(rest[0]))))
        except (KeyError, ValueError):
            return Reply.detail(404, "Not found.")
    start = _number(query, "start", 0)
    limit = min(_number(query, "limit", DEFAULT_LIMIT), site.most_rows)
    count, rows = form.select(
        query=_document(query, "query"),
        sort=_document(query, "sort"),
        fields=_document(query, "fields"),
        start=start,
        limit=limit,
    )
    rows = [_with_links(site.url, form, row) for row in rows]
    return _page(f"{site.url}/api/v2/assets/{form.uid}/data/", query, count, start, limit, rows)


def _history(site: Site, form: Form, query: Query) -> Reply:
    """The project's history, newest first, for who may manage it; of `q` the actions and the first day count."""
    if not form.managed:
        return Reply.detail(403, "You do not have permission to perform this action.")
    text = " ".join(query.get("q", []))
    actions, days = re.findall(r"action:([a-z-]+)", text), re.findall(r"date_created__gte:\"?([0-9-]{10})", text)
    found = [
        entry
        for entry in form.history
        if (not actions or entry["action"] in actions) and (not days or entry["date_created"][:10] >= days[0])
    ]
    start, limit = _number(query, "offset", 0), _number(query, "limit", DEFAULT_LIMIT)
    url = f"{site.url}/api/v2/assets/{form.uid}/history/"
    return _page(url, query, len(found), start, limit, found[start : start + limit])


def _with_links(base: str, form: Form, row: dict[str, Any]) -> dict[str, Any]:
    """The row with each attachment's address on this server, which only the server knows."""
    for attachment in row.get("_attachments") or []:
        url = f"{base}/api/v2/assets/{form.uid}/data/{row.get('_id')}/attachments/{attachment['uid']}/"
        attachment |= {"download_url": url, "download_large_url": f"{url}large/", "download_small_url": f"{url}small/"}
    return row


def _page(url: str, query: Query, count: int, start: int, limit: int, results: list[Any]) -> Reply:
    def link(position: int) -> str:
        others = {name: values[-1] for name, values in query.items() if name not in {"start", "limit"}}
        return f"{url}?{urlencode(others | {'limit': limit, 'start': position})}"

    return Reply.json(
        {
            "count": count,
            "next": link(start + limit) if start + limit < count else None,
            "previous": link(max(0, start - limit)) if start > 0 else None,
            "results": results,
        }
    )


def _number(query: Query, name: str, default: int) -> int:
    text = query.get(name, [""])[-1]
    if not text:
        return default
    if not text.isdigit() or (name == "limit" and int(text) == 0):
        raise QueryError(f"{name} must be a positive whole number")
    return int(text)


def _document(query: Query, name: str) -> Any:
    text = query.get(name, [""])[-1]
    if not text:
        return None
    try:
        return json.loads(text)
    except ValueError as error:
        raise QueryError(f"{name} is not JSON: {error}") from None


def _static_file(folder: Path | None, name: str, headers: Mapping[str, str]) -> Reply:
    """A file of the folder with ETag and Last-Modified; 304 for a client that has it."""
    path = None if folder is None else (folder / name).resolve()
    if folder is None or path is None or not path.is_relative_to(folder) or not path.is_file():
        return Reply(404, b"Not Found", "text/plain")
    body = path.read_bytes()
    changed = int(path.stat().st_mtime)
    etag = f'"{sha256(body).hexdigest()[:32]}"'
    known, since = headers.get("if-none-match"), headers.get("if-modified-since")
    kept = {"ETag": etag, "Last-Modified": formatdate(changed, usegmt=True)}
    if known is not None:
        unchanged = etag in known or known.strip() == "*"
    else:
        unchanged = since is not None and changed <= parsedate_to_datetime(since).timestamp()
    content_type = guess_type(path.name)[0] or "application/octet-stream"
    return Reply(304, b"", content_type, kept) if unchanged else Reply(200, body, content_type, kept)
