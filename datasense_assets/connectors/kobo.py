"""KoboToolbox (kpi, API v2) as a source: every deployed form is a resource, its submissions are read by key.

Pages follow `_id`, which never changes, not an offset, which shifts when rows come or go. `_submission_time` is what a
window and the cursor are about; the server compares it as text, so it is sent in the server's own form. There is no
time of modification: edits are seen only by reading again, which is the caller's affair.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, date, datetime, timedelta
from typing import Any, ClassVar

from datasense_assets.connectors.addresses import shown
from datasense_assets.connectors.authorization import header_value
from datasense_assets.connectors.base import (
    Page,
    Quota,
    ReadRequest,
    TableInfo,
)
from datasense_assets.connectors.config import KoboConfig
from datasense_assets.connectors.errors import AccessForbidden, BadConfig, BadData, ResourceGone
from datasense_assets.connectors.http_connector import HttpConnector
from datasense_assets.connectors.kobo_form import Json, form_tables
from datasense_assets.connectors.kobo_history import queries, read_edits, root_of
from datasense_assets.connectors.kobo_resume import Mark
from datasense_assets.connectors.kobo_rows import Flattener

ASSETS_A_CALL = 100
MOST_FORMS = 20_000


class KoboConnector(HttpConnector):
    """One KoboToolbox account; `resource` is a form's uid."""

    kind: ClassVar[str] = "kobo"
    has_history: ClassVar[bool] = True
    Config = KoboConfig

    def begin(self, credentials: Mapping[str, str]) -> None:  # noqa: ARG002  the protocol's
        """The forms met so far."""
        self._assets: dict[str, Json] = {}
        self._no_history = False

    def authorization(self, credentials: Mapping[str, str]) -> str:
        """By the account's token."""
        return header_value("Token", credentials["token"])

    @classmethod
    def quotas(cls, config: Mapping[str, Any], credentials: Mapping[str, str]) -> tuple[Quota, ...]:  # noqa: ARG003
        """A measure of ours, lest we be the reason for one of theirs: the server names none for data."""
        return (Quota("kobo.account", shared_by=credentials["token"], calls=240),)

    def check(self) -> str:
        """List the account's forms; one sentence; raise SourceError."""
        forms = list(self._forms())
        encrypted = sum(bool(form.get("deployment__encrypted")) for form in forms)
        also = f", {encrypted} of them encrypted, which cannot be loaded" if encrypted else ""
        found = "1 deployed form" if len(forms) == 1 else f"{len(forms)} deployed forms"
        return f"{shown(self.config.base_url)} accepts the token: {found}{also}."

    def discover(self) -> list[TableInfo]:
        """Tables of every deployed form that is not encrypted, by name; two calls a form; raise SourceError."""
        forms = [form for form in self._forms() if not form.get("deployment__encrypted")]
        forms.sort(key=lambda form: (str(form.get("name")), str(form.get("uid"))))
        return [table for form in forms for table in self.describe(str(form["uid"]))]

    def describe(self, resource: str) -> list[TableInfo]:
        """The form's table and its repeat groups'.

        `rows` is the server's own counter (`deployment__submission_count`). `history_start` is the day (UTC) of the
        first submission, else of the deployment.

        Raises:
            ResourceGone: the form is not there, or the token may not see it.
            BadConfig: the form is encrypted.

        """
        asset = self._asset(resource)
        rows = asset.get("deployment__submission_count")
        return form_tables(asset).infos(rows if isinstance(rows, int) else None, self._history_start(asset))

    def read(self, request: ReadRequest) -> Iterator[Page]:
        """Submissions as asked, in order of `_id`; no page where there are none.

        With a cursor, those since it, less `lag_seconds`: rows near it come again. The cursor of a page is the
        highest `_submission_time` so far, never before the request's own. Every page of the server can be gone on from.
        What changed since a moment is what was submitted since; with `edits: history`, what the form's history names.

        Raises:
            SourceError: at any page; `BadConfig` for a cursor that is no time.

        """
        mark = Mark.read(request.resume)
        flattener = Flattener(form_tables(self._asset(request.resource)), mark.found)
        newest = mark.newest
        if newest is None and request.cursor is not None:
            newest = _server_time(_cursor_time(request.cursor))
        edited = self._edited(request)
        if edited is not None:
            for submissions in edited:
                for path, data in flattener.flatten(submissions):
                    yield Page(path, data)
            self.stats.notes += flattener.clean.notes()
            return
        for submissions in self._submissions(request.resource, self._time_query(request), after=mark.after):
            times = [str(s["_submission_time"]) for s in submissions if s.get("_submission_time")]
            newest = max([*times, *([newest] if newest else [])], default=None)
            tables = flattener.flatten(submissions)
            resume = mark.text(submissions[-1]["_id"], newest, flattener.found, datetime.now(UTC))
            for number, (path, data) in enumerate(tables, start=1):
                yield Page(path, data, mark.cursor(newest), resume=resume if number == len(tables) else None)
        self.stats.notes += flattener.clean.notes()

    def count(self, resource: str) -> int | None:
        """How many submissions there are now: the `count` of a data call for one row.

        Not `deployment__submission_count`: that counter is kept apart from the rows and counts also those that this
        token may not see.
        """
        with self._named(resource):
            answer = self._data(resource, {"limit": "1", "fields": '["_id"]'})
        count = answer.get("count")
        return count if isinstance(count, int) else None

    def row_ids(self, resource: str) -> Iterator[list[str]]:
        """Every submission's `_id` as text, ascending, at most 1,000 a list; raise SourceError."""
        for submissions in self._submissions(resource, {}, fields=["_id"]):
            yield [str(s["_id"]) for s in submissions]

    def _time_query(self, request: ReadRequest) -> dict[str, Any]:
        times = {}
        if request.window is not None:
            times = {"$gte": _server_time(request.window.start), "$lt": _server_time(request.window.end)}
        elif request.changed_since is not None:
            times = {"$gte": _server_time(request.changed_since)}
        elif request.cursor is not None:
            lag = timedelta(seconds=self.config.lag_seconds)
            times = {"$gte": _server_time(_cursor_time(request.cursor) - lag)}
        return {"_submission_time": times} if times else {}

    def _edited(self, request: ReadRequest) -> list[list[Json]] | None:
        """Submissions that the form's history says were edited; None where they are to be found by reading again."""
        uid, since = request.resource, request.changed_since
        if since is None or request.resume is not None or self.config.edits != "history" or self._no_history:
            return None
        try:
            edits = read_edits(self.client, self._url(f"{uid}/history/"), since)
        except (AccessForbidden, ResourceGone, BadConfig, BadData) as refused:
            self._no_history = isinstance(refused, AccessForbidden | ResourceGone)
            self.stats.notes.append(
                f"The history of edits cannot be read ({refused.message}), so what was submitted lately is read again. "
                "It is open to accounts that may manage the project; without such a one, set `edits: reread`."
            )
            return None
        wanted = sorted(edits.changed - edits.deleted)
        pages = [page for query in queries(wanted) for page in self._submissions(uid, query)]
        missing = set(wanted) - {root_of(submission) for page in pages for submission in page}
        if missing:
            self.stats.notes.append(
                f"{len(missing)} submissions that the history names were not found, so what was submitted lately is "
                "read again."
            )
            return None
        return pages

    def _submissions(
        self, uid: str, where: Mapping[str, Any], fields: list[str] | None = None, after: int | None = None
    ) -> Iterator[list[Json]]:
        """Pages of submissions by rising `_id`, `after` one; ends when the server counts no more than it sent."""
        last = after
        while True:
            query: dict[str, Any] = {} if last is None else {"_id": {"$gt": last}}
            query |= where
            params = {"limit": str(self.config.page_size), "sort": '{"_id":1}'}
            if query:
                params["query"] = json.dumps(query, separators=(",", ":"))
            if fields is not None:
                params["fields"] = json.dumps(fields)
            with self._named(uid):
                answer = self._data(uid, params)
            submissions = answer["results"]
            if not submissions:
                return
            last = _checked_last(submissions, last, self._where(uid))
            yield submissions
            # a server may send fewer than were asked for, so a short page is not the end
            count = answer.get("count")
            if isinstance(count, int) and count <= len(submissions) and not answer.get("next"):
                return

    def _data(self, uid: str, params: Mapping[str, str]) -> Json:
        answer = self.client.get_json(self._url(f"{uid}/data/"), {"format": "json", **params})
        if not isinstance(answer, dict) or not isinstance(answer.get("results"), list):
            raise BadData(f"{self._where(uid)} answered without `results`.", advice="Check the server's address.")
        return answer

    def _forms(self) -> Iterator[Json]:
        """The account's deployed forms; ends at the server's count, or when a page brings nothing new."""
        seen: set[str] = set()
        start = 0
        while start < MOST_FORMS:
            params = {"q": "asset_type:survey", "limit": str(ASSETS_A_CALL), "start": str(start), "format": "json"}
            answer = self.client.get_json(self._url(""), params)
            if not isinstance(answer, dict) or not isinstance(answer.get("results"), list):
                raise BadConfig(
                    f"{shown(self.config.base_url)} does not answer like KoboToolbox.",
                    advice="Check base_url, for example https://kf.kobotoolbox.org.",
                )
            new = [form for form in answer["results"] if form.get("uid") not in seen]
            if not new:
                return
            seen.update(str(form["uid"]) for form in new)
            yield from (form for form in new if form.get("has_deployment"))
            start += len(answer["results"])
            if isinstance(answer.get("count"), int) and start >= answer["count"]:
                return

    def _asset(self, uid: str) -> Json:
        if uid not in self._assets:
            with self._named(uid):
                asset = self.client.get_json(self._url(f"{uid}/"), {"format": "json"})
            if not isinstance(asset, dict) or asset.get("uid") != uid:
                raise BadData(f"{self._where(uid)} answered without a form.", advice="Check the server's address.")
            if asset.get("deployment__encrypted"):
                raise BadConfig(
                    f"The form {asset.get('name')} ({uid}) is encrypted: the server holds no readable answers.",
                    advice="Leave it out, or deploy it again without a public key.",
                )
            self._assets[uid] = asset
        return self._assets[uid]

    def _history_start(self, asset: Json) -> date | None:
        params = {"limit": "1", "sort": '{"_id":1}', "fields": '["_id","_submission_time"]'}
        moments: list[Any] = []
        if asset.get("has_deployment", True):
            # a form may be shared without its submissions: then it is still there to be described
            with suppress(ResourceGone, AccessForbidden):
                first = self._data(str(asset["uid"]), params)["results"][:1]
                moments += [submission.get("_submission_time") for submission in first]
        versions = asset.get("deployed_versions")
        if isinstance(versions, dict):
            deployed = (v.get("date_deployed") for v in versions.get("results") or [])
            moments.append(min((str(d) for d in deployed if d), default=None))
        moments += [asset.get("date_deployed"), asset.get("date_created")]
        for moment in moments:
            parsed = _parsed(str(moment)) if moment else None
            if parsed is not None:
                return parsed.date()
        return None

    @contextmanager
    def _named(self, uid: str) -> Iterator[None]:
        """Say what a 404 means here."""
        try:
            yield
        except ResourceGone:
            raise ResourceGone(
                f"The form {uid} is not on {shown(self.config.base_url)}, or this token may not see it: "
                "KoboToolbox says the same for both.",
                advice="Check the form's id, and that it is shared with the token's account (View submissions).",
            ) from None

    def _url(self, tail: str) -> str:
        return f"{self.config.base_url}/api/v2/assets/{tail}"

    def _where(self, uid: str) -> str:
        return shown(self._url(f"{uid}/data/"))


def _checked_last(submissions: list[Json], last: int | None, where: str) -> int:
    """The page's last `_id`; a page that does not go on from the one before would be read for ever."""
    for submission in submissions:
        number = submission.get("_id")
        if not isinstance(number, int) or (last is not None and number <= last):
            raise BadData(
                f"{where} does not page by _id: {number!r} came after {last}.",
                advice="The server ignores `query` or `sort`; ask its owner to update KoboToolbox.",
            )
        last = number
    assert last is not None  # noqa: S101  the page has a row
    return last


def _parsed(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _cursor_time(cursor: str) -> datetime:
    moment = _parsed(cursor)
    if moment is None:
        raise BadConfig(f"The stored cursor {cursor!r} is no time.", advice="Sync once with --full.")
    return moment


def _server_time(moment: datetime) -> str:
    """`YYYY-MM-DDTHH:MM:SS` in UTC, the next whole second where there is a fraction: `>=` and `<` stay exact."""
    utc = moment.astimezone(UTC)
    if utc.microsecond:
        utc = utc.replace(microsecond=0) + timedelta(seconds=1)
    return utc.strftime("%Y-%m-%dT%H:%M:%S")
