"""Sources and recipes that break their promise of freshness, though they neither fail nor are paused, and why.

Whatever waits for something that is told otherwise (a failing input, a check that does not hold) is not late.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, RowMapping, text

from datasense_assets.catalog.freshness import INTERVALS, duration_text
from datasense_assets.catalog.promises import promise_of, read_promises
from datasense_assets.catalog.state.stale import INPUTS


@dataclass(frozen=True)
class Late:
    """One that is late: its path below the organisation, since when (when its promise ended), and in words why."""

    org_id: int
    org_slug: str
    subject: str
    since: datetime
    what: str


_NAMED = {name: int(promise.total_seconds()) for name in INTERVALS if (promise := promise_of(name, None)) is not None}
# A named schedule's promise is known to the database, so that what is fresh never leaves it. A first load that goes
# on may take long.
_SOURCES = """
SELECT o.id AS org_id, o.slug AS org_slug, s.slug AS subject, s.schedule, s.fresh_within_seconds, st.next_due_at,
       st.put_off_until, st.failure_message, coalesce(l.expires_at > :now, false) AS running,
       min(coalesce(ts.fresh_as_of, t.created_at)) AS fresh_as_of, bool_or(ts.fresh_as_of IS NULL) AS never_loaded
FROM datasense.sources s
JOIN datasense.organizations o ON o.id = s.org_id
JOIN datasense.source_status st ON st.source_id = s.id
JOIN datasense.source_tables t ON t.source_id = s.id
JOIN datasense.table_status ts ON ts.table_id = t.id AND ts.gone_since IS NULL
LEFT JOIN datasense.leases l ON l.source_id = s.id
WHERE st.failures_in_a_row = 0 AND (s.schedule <> '"manual"' OR s.fresh_within_seconds IS NOT NULL)
  AND NOT EXISTS (SELECT FROM datasense.pauses q WHERE q.org_id = s.org_id
                  AND (q.source_id IS NULL OR q.source_id = s.id))
GROUP BY o.id, s.id, st.source_id, l.source_id
HAVING min(coalesce(ts.fresh_as_of, t.created_at)) < :now - make_interval(secs => coalesce(s.fresh_within_seconds,
           (CAST(:promised AS jsonb) ->> (s.schedule #>> '{}'))::int, 60))
   AND NOT (bool_or(ts.fresh_as_of IS NULL) AND coalesce(l.expires_at > :now, false))
ORDER BY fresh_as_of
"""

_RECIPES = f"""
SELECT o.id AS org_id, o.slug AS org_slug, r.id AS recipe_id, 'recipes/' || r.name AS subject, st.outdated_since
FROM datasense.recipe_status st
JOIN datasense.recipes r ON r.id = st.recipe_id
JOIN datasense.organizations o ON o.id = r.org_id
WHERE st.outdated_since < :now - interval '1 minute' AND st.failures_in_a_row = 0
  AND NOT EXISTS (SELECT FROM datasense.pauses q WHERE q.org_id = r.org_id AND q.source_id IS NULL)
  AND NOT EXISTS (SELECT FROM ({INPUTS}) i WHERE i.recipe_id = r.id
                  AND (i.failing OR i.broken OR i.missing OR i.never_loaded))
ORDER BY st.outdated_since
"""  # noqa: S608 - constants of ours


def overdue(fresh_as_of: datetime, promise: timedelta, *, never_loaded: bool) -> str:
    """The broken promise in one sentence."""
    most = duration_text(promise)
    if never_loaded:
        return (
            f"It was added at {fresh_as_of:%Y-%m-%d %H:%M} UTC, should be no older than {most}, and is not loaded yet."
        )
    return f"Its data is complete up to {fresh_as_of:%Y-%m-%d %H:%M} UTC and should be no older than {most}."


def reason(row: RowMapping, now: datetime) -> str:
    """Why a source has not been loaded since, as far as the catalog knows."""
    if row["running"]:
        return "A load goes on now."
    if row["put_off_until"] is not None and row["put_off_until"] > now:
        return f"{row['failure_message'] or 'Its server has no room.'} It is asked for again later."
    if row["next_due_at"] is None:
        return "It is loaded only by hand."
    if row["next_due_at"] <= now:
        return f"It has been due since {row['next_due_at']:%Y-%m-%d %H:%M} UTC and no run has begun."
    return f"Its next run is at {row['next_due_at']:%Y-%m-%d %H:%M} UTC."


def late_sources(connection: Connection, now: datetime) -> Iterator[Late]:
    """Sources with a table that is older than promised, the oldest first."""
    binds = {"now": now, "promised": json.dumps(_NAMED)}
    for row in connection.execute(text(_SOURCES), binds).mappings():
        promise = promise_of(row["schedule"], row["fresh_within_seconds"])
        if promise is not None and now - row["fresh_as_of"] > promise:
            said = overdue(row["fresh_as_of"], promise, never_loaded=row["never_loaded"])
            what = f"{said} {reason(row, now)}"
            yield Late(row["org_id"], row["org_slug"], row["subject"], row["fresh_as_of"] + promise, what)


def late_recipes(connection: Connection, now: datetime) -> Iterator[Late]:
    """Recipes that have been behind their inputs for longer than promised, the longest first."""
    rows = connection.execute(text(_RECIPES), {"now": now}).mappings().all()
    promises = read_promises(connection) if rows else None
    for row in rows:
        promise = promises.recipes[row["recipe_id"]] if promises is not None else timedelta(0)
        if now - row["outdated_since"] > promise:
            what = (
                f"What it reads has been newer since {row['outdated_since']:%Y-%m-%d %H:%M} UTC, and it should be "
                f"built within {duration_text(promise)}."
            )
            yield Late(row["org_id"], row["org_slug"], row["subject"], row["outdated_since"] + promise, what)
