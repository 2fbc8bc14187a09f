"""What Kobo's history of a project says of edits: which submissions were changed or deleted since a moment.

Entries name a submission by its root uuid, which stays through all edits. The history is open to those who manage the
project; servers before 2024 have none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from datasense_assets.connectors.addresses import shown
from datasense_assets.connectors.errors import BadData
from datasense_assets.connectors.http import HttpClient

ENTRIES_A_CALL = 100
# So many fit into an address that every proxy lets through.
SUBMISSIONS_A_CALL = 20
MOST_ENTRIES = 200_000
_CHANGED, _DELETED = "modify-submission", "delete-submission"


@dataclass(frozen=True)
class Edits:
    """Root uuids, bare, of submissions that were changed and of those that were deleted."""

    changed: frozenset[str]
    deleted: frozenset[str]


def read_edits(client: HttpClient, url: str, since: datetime) -> Edits:
    """The edits since a moment; `url` is the form's history.

    Raises:
        AccessForbidden, ResourceGone: this token may not see the history, or the server keeps none.
        BadData: an entry does not say which submission it is about, or the server does not page.
        SourceError: as the server says.

    """
    changed: set[str] = set()
    deleted: set[str] = set()
    for entry in _entries(client, url, since):
        action, moment = entry.get("action"), str(entry.get("date_created") or "")
        if action not in (_CHANGED, _DELETED) or _is_before(moment, since):
            continue
        metadata = entry.get("metadata")
        submission = metadata.get("submission") if isinstance(metadata, dict) else None
        root = submission.get("root_uuid") if isinstance(submission, dict) else None
        if not isinstance(root, str) or not root:
            raise BadData(f"{shown(url)} does not say what was edited.", advice="Set `edits: reread` in the config.")
        (changed if action == _CHANGED else deleted).add(root.removeprefix("uuid:"))
    return Edits(frozenset(changed), frozenset(deleted))


def queries(roots: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Mongo queries that together find the submissions of these root uuids."""
    for start in range(0, len(roots), SUBMISSIONS_A_CALL):
        some = list(roots[start : start + SUBMISSIONS_A_CALL])
        # a submission that was never edited may have no root uuid of its own
        yield {"$or": [{"meta/rootUuid": {"$in": [f"uuid:{root}" for root in some]}}, {"_uuid": {"$in": some}}]}


def root_of(submission: Mapping[str, Any]) -> str:
    """The bare root uuid of a submission; its own uuid where it has none."""
    return str(submission.get("meta/rootUuid") or submission.get("_uuid") or "").removeprefix("uuid:")


def _entries(client: HttpClient, url: str, since: datetime) -> Iterator[Mapping[str, Any]]:
    day = since.astimezone(UTC).date().isoformat()
    query = f"(action:{_CHANGED} OR action:{_DELETED}) AND date_created__gte:{day}"
    start, first = 0, None
    while start < MOST_ENTRIES:
        params = {"q": query, "limit": str(ENTRIES_A_CALL), "offset": str(start), "format": "json"}
        answer = client.get_json(url, params)
        found = answer.get("results") if isinstance(answer, dict) else None
        if not isinstance(found, list) or (found and found[0] == first):
            raise BadData(f"{shown(url)} does not page as it should.", advice="Set `edits: reread` in the config.")
        yield from found
        start += len(found)
        count = answer.get("count")
        if not found or (isinstance(count, int) and start >= count):
            return
        first = found[0]
    raise BadData(f"{shown(url)} has more than {MOST_ENTRIES:,} edits.", advice="Sync once with --full.")


def _is_before(moment: str, since: datetime) -> bool:
    try:
        parsed = datetime.fromisoformat(moment)
    except ValueError:
        return False
    return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)) < since
