"""How many scheduled runs may wait in the queue: enough to keep it busy, the rest waits in the catalog in a fair order.

What waits in the queue goes in the order in which it was asked for; a crowd there of one organisation, or of one
server that is slow, would stand before everybody who comes later. So would sources that failed the last time: of them
only a few run at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

import dagster as dg

from datasense_assets.running import tags as t

MAX_REQUESTS = 50
MOST_WAITING, MOST_OF_ORG, MOST_OF_HOST, MOST_FAILING = 100, 6, 20, 10
_WAITING = {dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.QUEUED}


class Room:
    """Places for scheduled runs, less what waits already."""

    def __init__(self, waiting: Iterable[Mapping[str, str]]) -> None:
        """Keep count of the tags of scheduled runs that wait."""
        self._left = MOST_WAITING
        self._failing = 0
        self._orgs: Counter[str] = Counter()
        self._hosts: Counter[str] = Counter()
        for tags in waiting:
            self.take(tags)
        self._left = min(self._left, MAX_REQUESTS)

    @classmethod
    def beside(cls, runs: Iterable[dg.DagsterRun]) -> Room:
        """The room beside runs in progress."""
        return cls(
            run.tags for run in runs if run.status in _WAITING and run.tags.get(t.LANE) == t.Lane.SCHEDULED.value
        )

    def take(self, tags: Mapping[str, str]) -> None:
        """One more run with these tags waits."""
        self._left -= 1
        self._failing += t.FAILING in tags
        self._orgs[tags.get(t.ORG, "")] += 1
        if tags.get(t.HOST):
            self._hosts[tags[t.HOST]] += 1

    def has_place(self, tags: Mapping[str, str]) -> bool:
        """Whether one more run with these tags may wait."""
        return (
            self._left > 0
            and self._orgs[tags.get(t.ORG, "")] < MOST_OF_ORG
            and self._hosts[tags.get(t.HOST, "")] < MOST_OF_HOST
            and not (t.FAILING in tags and self.is_full_of_failing)
        )

    @property
    def is_full_of_failing(self) -> bool:
        """Whether no more sources that failed the last time may wait."""
        return self._failing >= MOST_FAILING

    def full_orgs(self) -> list[str]:
        """Organisations of which no more may wait."""
        return [org for org, number in self._orgs.items() if number >= MOST_OF_ORG]

    def full_hosts(self) -> frozenset[str]:
        """Servers for which no more may wait."""
        return frozenset(host for host, number in self._hosts.items() if number >= MOST_OF_HOST)
