"""An organisation held still: nothing of it is asked for, nothing in the queue starts, and what goes on has ended."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING

import dagster as dg
from sqlalchemy import text

from datasense_assets.catalog.models import identifier
from datasense_assets.catalog.state import RunLimit, pause, read_run_limits, resume, set_run_limit, unset_run_limit
from datasense_assets.operations.metrics.runs import IN_PROGRESS, WAITING
from datasense_assets.running import tags as t

if TYPE_CHECKING:
    from sqlalchemy import Engine

_LOOK_SECONDS = 1.0
_LEASES = """
SELECT s.slug FROM datasense.leases l JOIN datasense.sources s ON s.id = l.source_id
WHERE s.org_id = :org AND l.expires_at > now()
"""


class StillBusy(Exception):
    """Something of the organisation went on for longer than was to be waited for; nothing was changed."""

    def __init__(self, slug: str, what: list[str], minutes: float) -> None:
        self.message = f"{slug} is still busy after {minutes:g} minutes: {', '.join(what[:10])}."
        self.advice = "Wait for longer (--wait MINUTES), or terminate those runs in the UI."
        super().__init__(f"{self.message} {self.advice}")


@contextmanager
def held_still(
    catalog: Engine, instance: dg.DagsterInstance, org_id: int, slug: str, *, by: str, wait_minutes: float
) -> Iterator[None]:
    """Hold the organisation while the block lasts; afterwards it is as paused and as limited as it was.

    Runs of it that wait in the queue are cancelled; those that go on are waited for.

    Raises:
        StillBusy: they went on for longer.
    """
    ident = identifier(slug)
    with catalog.begin() as connection:
        before = next((x for x in read_run_limits(connection) if (x.scope, x.name) == ("org", ident)), None)
        paused = pause(connection, org_id, None, reason="Held still by its operators.", by=by)
        set_run_limit(connection, RunLimit("org", ident, 0), by=by)
    try:
        _wait(catalog, instance, org_id, slug, wait_minutes)
        yield
    finally:
        with catalog.begin() as connection:
            there = connection.execute(
                text("SELECT FROM datasense.organizations WHERE id = :org"), {"org": org_id}
            ).all()
            if before is None or not there:
                unset_run_limit(connection, "org", ident)
            else:
                set_run_limit(connection, before, by=by)
            if paused and there:
                resume(connection, org_id, None)


def _wait(catalog: Engine, instance: dg.DagsterInstance, org_id: int, slug: str, minutes: float) -> None:
    end = monotonic() + 60 * minutes
    while True:
        busy = _busy(catalog, instance, org_id, identifier(slug))
        if not busy:
            return
        if monotonic() > end:
            raise StillBusy(slug, busy, minutes)
        threading.Event().wait(_LOOK_SECONDS)


def _busy(catalog: Engine, instance: dg.DagsterInstance, org_id: int, ident: str) -> list[str]:
    """Runs that go on, and sources that are being loaded by whatever; what waits in the queue is cancelled."""
    going = []
    for run in instance.get_runs(filters=dg.RunsFilter(statuses=IN_PROGRESS, tags={t.ORG: ident})):
        if run.status in WAITING:
            instance.report_run_canceled(run, "Its organisation is held still.")
        else:
            going.append(f"run {run.run_id}")
    with catalog.connect() as connection:
        loading = connection.execute(text(_LEASES), {"org": org_id}).scalars().all()
    return [*going, *(f"a load of {slug}" for slug in loading)]
