"""What is wrong at this moment, in words for the people whose data it is: one trouble a source, recipe or alarm.

Each is found by an index over what is wrong, so that looking costs nothing while all is well. A paused source is in no
trouble: somebody meant it, unless the platform did (an open breaker).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from sqlalchemy import Connection, RowMapping, text

from datasense_assets.catalog.expiring import expiring_credentials
from datasense_assets.catalog.lateness import late_recipes, late_sources
from datasense_assets.catalog.state.alerts import Trouble

# What may pass by itself is told only when it did not: the third time in a row.
_MAY_PASS = ("unavailable", "throttled")
_PATIENCE_IN_ROW = 3
_QUEUE_DELAY = timedelta(minutes=15)
_FEWEST_RUNS = 20
_FAILURE_RATE = 0.05
_MOST_PATHS = 10

_FAILING = """
SELECT o.id AS org_id, o.slug AS org_slug, s.slug AS subject, st.failure_kind, st.failure_message, st.failure_advice,
       st.failures_in_a_row, coalesce(st.last_success_at, st.last_failure_at) AS since, st.last_success_at AS good_at,
       p.probe_at
FROM datasense.source_status st
JOIN datasense.sources s ON s.id = st.source_id
JOIN datasense.organizations o ON o.id = s.org_id
LEFT JOIN datasense.pauses p ON p.org_id = s.org_id AND p.source_id = s.id AND p.paused_by = 'breaker'
WHERE st.failures_in_a_row > 0
  AND (st.failures_in_a_row >= :patience OR NOT st.failure_kind = ANY(:may_pass))
  AND NOT EXISTS (SELECT FROM datasense.pauses q WHERE q.org_id = s.org_id
                  AND (q.source_id IS NULL OR (q.source_id = s.id AND q.paused_by <> 'breaker')))
UNION ALL
SELECT o.id, o.slug, 'recipes/' || r.name, st.failure_kind, st.failure_message, st.failure_advice, st.failures_in_a_row,
       coalesce(st.built_at, st.failed_at), st.built_at, NULL
FROM datasense.recipe_status st
JOIN datasense.recipes r ON r.id = st.recipe_id
JOIN datasense.organizations o ON o.id = r.org_id
WHERE st.failures_in_a_row > 0
  AND (st.failures_in_a_row >= :patience OR NOT st.failure_kind = ANY(:may_pass))
  AND NOT EXISTS (SELECT FROM datasense.pauses q WHERE q.org_id = r.org_id AND q.source_id IS NULL)
ORDER BY since NULLS FIRST
"""

# What a check says holds no value of anybody's data.
_BROKEN = """
SELECT coalesce(t.org_id, r.org_id) AS org_id, o.slug AS org_slug,
       coalesce(s.slug || '/' || t.slug, 'recipes/' || r.name) AS subject, min(c.checked_at) AS since,
       array_agg(c.name ORDER BY c.name) AS names, bool_or(c.severity = 'error') AS blocks,
       array_agg(c.name || ': ' || c.message ORDER BY c.name) AS said
FROM datasense.check_results c
LEFT JOIN datasense.source_tables t ON t.id = c.table_id
LEFT JOIN datasense.sources s ON s.id = t.source_id
LEFT JOIN datasense.recipes r ON r.id = c.recipe_id
JOIN datasense.organizations o ON o.id = coalesce(t.org_id, r.org_id)
WHERE NOT c.passed AND NOT c.waits
  AND NOT EXISTS (SELECT FROM datasense.pauses q WHERE q.org_id = o.id
                  AND (q.source_id IS NULL OR q.source_id = t.source_id))
GROUP BY 1, 2, 3
ORDER BY since
"""

# Due, and no run has begun: still in the catalog's backlog, or asked for and waiting in the queue.
_WAITING = """
SELECT o.slug || '/' || s.slug AS path, st.next_due_at AS since
FROM datasense.source_status st
JOIN datasense.sources s ON s.id = st.source_id
JOIN datasense.organizations o ON o.id = s.org_id
WHERE st.next_due_at < :waiting AND st.failures_in_a_row = 0
  AND NOT EXISTS (SELECT FROM datasense.leases l WHERE l.source_id = s.id AND l.expires_at > :now)
  AND NOT EXISTS (SELECT FROM datasense.pauses q WHERE q.org_id = s.org_id
                  AND (q.source_id IS NULL OR q.source_id = s.id))
ORDER BY since
"""

_RATE = """
SELECT count(*) AS runs, count(*) FILTER (WHERE failures_in_a_row > 0) AS failed
FROM datasense.source_status WHERE last_started_at > :hour_ago
"""


def troubles(connection: Connection, now: datetime, *, free_disk: float | None = None) -> list[Trouble]:
    """Everything that is wrong at `now`, the longest lasting first within each kind.

    `free_disk`: the share of this machine's disk that is free (0 to 1), where somebody has looked.
    """
    found = list(_failing(connection))
    found += _broken_checks(connection)
    found += _late(connection, now)
    found += _expiring(connection, now)
    return [*found, *_platform(connection, now, free_disk)]


def failing_now(connection: Connection) -> list[Trouble]:
    """Every source and recipe whose last run failed, what may pass by itself included, the longest failing first."""
    return list(_failing(connection, patience=1))


def _failing(connection: Connection, *, patience: int = _PATIENCE_IN_ROW) -> Iterator[Trouble]:
    binds = {"patience": patience, "may_pass": list(_MAY_PASS)}
    for row in connection.execute(text(_FAILING), binds).mappings():
        stopped = row["probe_at"] is not None
        kind = row["failure_kind"] or "defect"
        yield Trouble(
            org_id=row["org_id"],
            org_slug=row["org_slug"],
            kind="failing",
            subject=row["subject"],
            fingerprint=f"{kind}{':stopped' if stopped else ''}",
            what=_what_fails(row, stopped=stopped),
            advice=_advice(row),
            since=row["since"],
        )


def _what_fails(row: RowMapping, *, stopped: bool) -> str:
    times = row["failures_in_a_row"]
    said = (row["failure_message"] or "The run ended with an error.").strip()
    often = "" if times == 1 else f" It has failed {times} times in a row."
    kept = " The table keeps the data of the last good load." if row["good_at"] is not None else ""
    pause = " It is tried only now and then until someone mends it." if stopped else ""
    return f"{said}{often}{kept}{pause}"


def _advice(row: RowMapping) -> str:
    path = f"{row['org_slug']}/{row['subject']}"
    if row["failure_advice"]:
        return str(row["failure_advice"])
    if row["subject"].startswith("recipes/"):
        return f"Correct the recipe or its inputs, then run datasense build {path.replace('/recipes/', '/')}."
    return f"Run datasense test {path}."


def _broken_checks(connection: Connection) -> Iterator[Trouble]:
    for row in connection.execute(text(_BROKEN)).mappings():
        waits = " Recipes that read it wait on their last good data." if row["blocks"] else ""
        yield Trouble(
            org_id=row["org_id"],
            org_slug=row["org_slug"],
            kind="check",
            subject=row["subject"],
            fingerprint=f"{','.join(row['names'])}{':blocks' if row['blocks'] else ''}",
            what=f"{' '.join(row['said'])}{waits}",
            advice="Look at the rows that it names and correct them where they come from, or correct the check.",
            since=row["since"],
        )


def _late(connection: Connection, now: datetime) -> Iterator[Trouble]:
    for each in (*late_sources(connection, now), *late_recipes(connection, now)):
        yield Trouble(
            org_id=each.org_id,
            org_slug=each.org_slug,
            kind="late",
            subject=each.subject,
            fingerprint="late",
            what=each.what,
            advice="Nothing failed; the platform is behind, and its operators have been told.",
            since=each.since,
        )


def _expiring(connection: Connection, now: datetime) -> Iterator[Trouble]:
    for each in expiring_credentials(connection, now):
        ended = each.expires < now.date()
        when = f"ended on {each.expires}" if ended else f"can be used until {each.expires}"
        then = "the next syncs may be refused" if ended else "syncs will be refused from then on"
        yield Trouble(
            org_id=each.org_id,
            org_slug=each.org_slug,
            kind="credential",
            subject=f"{each.source}/{each.name}",
            fingerprint=f"{each.expires}{':ended' if ended else ''}",
            what=f"The credential {each.name} of {each.source} {when}; {then}.",
            advice="Make a new one where it came from, put it in the old one's place, and write its new date.",
        )


def _platform(connection: Connection, now: datetime, free_disk: float | None) -> Iterator[Trouble]:
    rate = connection.execute(text(_RATE), {"hour_ago": now - timedelta(hours=1)}).mappings().one()
    if rate["runs"] >= _FEWEST_RUNS and rate["failed"] > _FAILURE_RATE * rate["runs"]:
        yield _alarm(
            "failure_rate",
            f"{rate['failed']} of the {rate['runs']} sources that ran in the last hour are failing.",
            "See datasense status; where they share a connector or a host, that is where to look.",
        )
    binds = {"waiting": now - _QUEUE_DELAY, "now": now}
    if waiting := connection.execute(text(_WAITING), binds).all():
        paths = ", ".join(each.path for each in waiting[:_MOST_PATHS])
        more = f" and {len(waiting) - _MOST_PATHS} more" if len(waiting) > _MOST_PATHS else ""
        yield _alarm(
            "queue_delay",
            f"{len(waiting)} due sources have not begun to run, the oldest since "
            f"{waiting[0].since:%Y-%m-%d %H:%M} UTC: {paths}{more}.",
            "See whether the daemon runs and which limit of dagster.yaml is reached (Runs, Queued in the UI).",
        )
    if free_disk is not None and free_disk < 0.1:
        yield _alarm(
            "disk",
            f"{free_disk:.0%} of the disk of the platform's home is free.",
            "Free some, or move DATASENSE_HOME; loads need room for a copy of what they read.",
        )


def _alarm(kind: str, what: str, advice: str) -> Trouble:
    return Trouble(None, "", kind, "", kind, what, advice)
