"""Where a read of Kobo submissions can go on: after an `_id`, with what the pages before it had shown.

A submission may be written late, under an `_id` that lies behind the read already. It is then a new one: its
`_submission_time` is near the clock's. So a mark made among new submissions holds the cursor where it was at that mark;
the next live read starts there, less its lag, as if the read had never been broken off.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

# More than any server's lag and any clock's error together.
_NEW = timedelta(days=1)
FORMAT = "%Y-%m-%dT%H:%M:%S"

Found = tuple[str, str]
"""A repeat group that only the data has: its xpath and its parent's ('' for the top table)."""


@dataclass(frozen=True)
class Mark:
    """`after`: the last `_id` read; `newest`: the highest `_submission_time` so far; `hold`: what the cursor may not
    pass; `found`: repeat groups that the form does not declare, in the order in which they turned up.
    """

    after: int | None = None
    newest: str | None = None
    hold: str | None = None
    found: tuple[Found, ...] = ()

    @classmethod
    def read(cls, text: str | None) -> Mark:
        """The mark that `text` made; the beginning where there is none."""
        if text is None:
            return cls()
        value = json.loads(text)
        found = tuple((str(xpath), str(parent)) for xpath, parent in value["found"])
        return cls(int(value["after"]), value["newest"], value["hold"], found)

    def text(self, after: int, newest: str | None, found: Sequence[Found], now: datetime) -> str:
        """The mark after a further page, as text."""
        hold = self.hold
        if hold is None and newest is not None and newest > (now.astimezone(UTC) - _NEW).strftime(FORMAT):
            hold = newest
        return json.dumps({"after": after, "newest": newest, "hold": hold, "found": [list(each) for each in found]})

    def cursor(self, newest: str | None) -> str | None:
        """The cursor of a page, `newest` being the highest time so far."""
        return newest if newest is None or self.hold is None else min(newest, self.hold)
