"""A KoboToolbox form as the stand-in server keeps it: its content, its submissions, and how they are asked for.

No HTTP here. `Form` is what a test adds to, edits and deletes from while the server runs; `select` answers the data
endpoint's `query`, `sort`, `fields`, `start` and `limit` as the real one does (a subset of Mongo's query language).
"""

from __future__ import annotations

import copy
import threading
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

Submission = dict[str, Any]
Predicate = Callable[[Submission], bool]

TIME_FORMAT = "%Y-%m-%dT%H:%M:%S"


class QueryError(ValueError):
    """A query, sort or field list that the server cannot read; the message goes into its 400 answer."""


def _comparable(left: Any, right: Any) -> bool:
    """Whether Mongo would compare the two: values of different kinds never match, and null is only equal to null."""
    if isinstance(left, bool) or isinstance(right, bool):
        return isinstance(left, bool) and isinstance(right, bool)
    if isinstance(left, int | float):
        return isinstance(right, int | float)
    return isinstance(left, str) and isinstance(right, str)


_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "$eq": lambda value, wanted: bool(value == wanted),
    "$ne": lambda value, wanted: bool(value != wanted),
    "$gt": lambda value, wanted: _comparable(value, wanted) and value > wanted,
    "$gte": lambda value, wanted: _comparable(value, wanted) and value >= wanted,
    "$lt": lambda value, wanted: _comparable(value, wanted) and value < wanted,
    "$lte": lambda value, wanted: _comparable(value, wanted) and value <= wanted,
    "$in": lambda value, wanted: value in wanted,
    "$nin": lambda value, wanted: value not in wanted,
}


def _lookup(row: Submission, key: str) -> Any:
    """The value under a flat key, else under a dotted path into an object; None where there is none."""
    if key in row:
        return row[key]
    value: Any = row
    for part in key.split("."):
        if not isinstance(value, dict):
            return None
        value = value.get(part)
    return value


def _field_predicate(key: str, operator: str, wanted: Any) -> Predicate:
    if operator == "$exists":
        return lambda row: (_lookup(row, key) is not None) == bool(wanted)
    compare = _COMPARISONS.get(operator)
    if compare is None:
        raise QueryError(f"unknown operator: {operator}")
    if operator in {"$in", "$nin"} and not isinstance(wanted, list):
        raise QueryError(f"{operator} needs an array")
    return lambda row: compare(_lookup(row, key), wanted)


def compile_query(query: Any) -> Predicate:
    """A Mongo query document as a function of a submission.

    Raises:
        QueryError: not a document, or an operator outside `$eq $ne $gt $gte $lt $lte $in $nin $exists $and $or`.

    """
    if not isinstance(query, dict):
        raise QueryError("the query must be a JSON object")
    tests: list[Predicate] = []
    for key, wanted in query.items():
        if key in {"$and", "$or"}:
            if not isinstance(wanted, list) or not wanted:
                raise QueryError(f"{key} must be a nonempty array")
            parts = [compile_query(part) for part in wanted]
            tests.append(_all_of(parts) if key == "$and" else _any_of(parts))
        elif key.startswith("$"):
            raise QueryError(f"unknown top level operator: {key}")
        elif isinstance(wanted, dict):
            tests.extend(_field_predicate(key, operator, value) for operator, value in wanted.items())
        else:
            tests.append(_field_predicate(key, "$eq", wanted))
    return _all_of(tests)


def _all_of(tests: list[Predicate]) -> Predicate:
    return lambda row: all(test(row) for test in tests)


def _any_of(tests: list[Predicate]) -> Predicate:
    return lambda row: any(test(row) for test in tests)


def sort_rows(rows: list[Submission], sort: Any) -> list[Submission]:
    """The rows by a Mongo sort document (`{"_id": 1}`, -1 for falling); a missing value comes before any other.

    Raises:
        QueryError: not such a document.

    """
    if not isinstance(sort, dict) or any(direction not in {1, -1, "1", "-1"} for direction in sort.values()):
        raise QueryError("the sort must be a JSON object of 1 and -1")
    for key, direction in reversed(list(sort.items())):
        rows = sorted(rows, key=lambda row: _sort_key(_lookup(row, key)), reverse=int(direction) < 0)
    return rows


def _sort_key(value: Any) -> tuple[int, Any]:
    if value is None:
        return (0, 0)
    return (1, value) if isinstance(value, int | float) else (2, str(value))


@dataclass
class Form:
    """One deployed form. `content` is kpi's: survey, choices, translations, settings; `submissions` are flat rows.
    `managed`: whether the account may manage it, so see its `history`, which edits and deletions add to.

    Its methods may be called while a server serves it.
    """

    uid: str
    name: str
    content: dict[str, Any]
    submissions: list[Submission] = field(default_factory=list)
    version_id: str = "v1"
    deployed_at: datetime = datetime(2025, 1, 1, tzinfo=UTC)
    active: bool = True
    encrypted: bool = False
    has_deployment: bool = True
    managed: bool = True
    history: list[dict[str, Any]] = field(default_factory=list)
    _lock: threading.RLock = field(default_factory=threading.RLock, repr=False)

    def add(self, answers: Submission, *, at: datetime | None = None, id: int | None = None) -> Submission:
        """Submit answers (flat keys) at a time in UTC, by default now; return the stored row.

        `id` puts a row in where the caller likes, as an asynchronous write of the real server can.
        """
        moment = (at or datetime.now(UTC)).astimezone(UTC)
        instance = str(uuid.uuid4())
        with self._lock:
            highest = max((row["_id"] for row in self.submissions), default=0)
            row: Submission = {
                "_id": highest + 1 if id is None else id,
                "formhub/uuid": uuid.uuid5(uuid.NAMESPACE_OID, self.uid).hex,
                "__version__": self.version_id,
                "meta/instanceID": f"uuid:{instance}",
                "meta/rootUuid": f"uuid:{instance}",
                "_xform_id_string": self.uid,
                "_uuid": instance,
                "_attachments": [],
                "_status": "submitted_via_web",
                "_geolocation": [None, None],
                "_submission_time": moment.strftime(TIME_FORMAT),
                "_tags": [],
                "_notes": [],
                "_validation_status": {},
                "_submitted_by": None,
            } | copy.deepcopy(answers)
            self.submissions.append(row)
            self.submissions.sort(key=lambda r: r["_id"])
            return copy.deepcopy(row)

    def edit(self, id: int, changes: Submission) -> Submission:
        """Change answers of a row (None takes one away): `_uuid` changes, `_id` and `_submission_time` stay.

        Raises:
            KeyError: there is no such row.

        """
        with self._lock:
            row = self._row(id)
            edited = str(uuid.uuid4())
            row["meta/deprecatedID"] = row["meta/instanceID"]
            row["meta/instanceID"] = f"uuid:{edited}"
            row["_uuid"] = edited
            row["__version__"] = self.version_id
            self._note("modify-submission", row)
            for key, value in changes.items():
                if value is None:
                    row.pop(key, None)
                else:
                    row[key] = copy.deepcopy(value)
            return copy.deepcopy(row)

    def delete(self, *ids: int) -> None:
        """Take rows away for good.

        Raises:
            KeyError: one of them is not there; then none is deleted.

        """
        with self._lock:
            rows = [self._row(id) for id in ids]
            for row in rows:
                self._note("delete-submission", row)
            self.submissions = [row for row in self.submissions if row not in rows]

    def _note(self, action: str, row: Submission) -> None:
        """Add to the history, newest first, what kpi's says of a submission."""
        submission = {"root_uuid": row["meta/rootUuid"].removeprefix("uuid:"), "submitted_by": row["_submitted_by"]}
        entry = {
            "user": "http://kpi.example/api/v2/users/stand_in/?format=json",
            "user_uid": "uStandIn",
            "username": "stand_in",
            "action": action,
            "metadata": {
                "source": "Firefox (Ubuntu)", "ip_address": "192.0.2.7", "asset_uid": self.uid,
                "log_subtype": "project", "submission": submission,
            },
            "date_created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }  # fmt: skip
        self.history.insert(0, entry)

    def get(self, id: int) -> Submission:
        """A copy of one row.

        Raises:
            KeyError: there is no such row.

        """
        with self._lock:
            return copy.deepcopy(self._row(id))

    def _row(self, id: int) -> Submission:
        for row in self.submissions:
            if row["_id"] == id:
                return row
        raise KeyError(id)

    def select(
        self,
        *,
        query: Any = None,
        sort: Any = None,
        fields: Any = None,
        start: int = 0,
        limit: int | None = None,
    ) -> tuple[int, list[Submission]]:
        """How many rows match, and copies of those from `start` on, `limit` at most, with the fields asked for.

        Raises:
            QueryError: query, sort or fields cannot be read.

        """
        if fields is not None and not (isinstance(fields, list) and all(isinstance(f, str) for f in fields)):
            raise QueryError("the fields must be a JSON array of names")
        matches = compile_query({} if query is None else query)
        with self._lock:
            rows = [row for row in self.submissions if matches(row)]
            rows = sort_rows(rows, {"_id": 1} if sort is None else sort)
            page = rows[start:] if limit is None else rows[start : start + limit]
            if fields is not None:
                page = [{name: row[name] for name in fields if name in row} for row in page]
            return len(rows), copy.deepcopy(page)

    @property
    def submission_count(self) -> int:
        """How many submissions there are now."""
        with self._lock:
            return len(self.submissions)

    @property
    def last_submission_time(self) -> str | None:
        """The newest `_submission_time`, None without submissions."""
        with self._lock:
            return max((str(row["_submission_time"]) for row in self.submissions), default=None)


def with_xpaths(survey: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The survey rows with kpi's `$xpath` (`group/question`) and `$autoname`, which it gives to whatever has a name."""
    rows: list[dict[str, Any]] = []
    groups: list[str] = []
    for row in survey:
        name = row.get("name") or row.get("$autoname")
        if row["type"] in {"end_group", "end_repeat"}:
            groups.pop()
            rows.append(dict(row))
            continue
        rows.append({**row, "$autoname": name, "$xpath": "/".join([*groups, str(name)])})
        if row["type"] in {"begin_group", "begin_repeat"}:
            groups.append(str(name))
    return rows
