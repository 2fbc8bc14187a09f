"""Forgetting what the catalog has no more use for: old requests, changes that were told, quotas that nobody draws on.

Nothing here is what a run, a recipe or an open alert still asks about.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import Connection, text

from datasense_assets.catalog.state.costs import fold_costs

REQUESTS_KEPT = timedelta(days=30)
CHANGES_KEPT = timedelta(days=180)
QUOTAS_KEPT = timedelta(days=30)

_STATEMENTS = {
    # one that another still waits for is kept with it
    "requests": (
        "DELETE FROM datasense.sync_requests q WHERE q.taken_at < :before AND NOT EXISTS (SELECT FROM "
        "datasense.sync_requests w WHERE w.taken_at IS NULL AND q.id = ANY (w.after_requests))",
        REQUESTS_KEPT,
    ),
    "schema changes": ("DELETE FROM datasense.schema_changes WHERE alerted AND at < :before", CHANGES_KEPT),
    "quotas": (
        "DELETE FROM datasense.quota_state WHERE used_at < :before "
        "AND coalesce(blocked_until, '-infinity') < :now AND coalesce(held_until, '-infinity') < :now",
        QUOTAS_KEPT,
    ),
}


def prune_catalog(connection: Connection, now: datetime) -> dict[str, int]:
    """Delete what is older than it is kept for; how many rows of each kind. Commits nothing itself."""
    done = {
        kind: connection.execute(text(statement), {"before": now - kept, "now": now}).rowcount
        for kind, (statement, kept) in _STATEMENTS.items()
    }
    return {**done, "costs put together by days": fold_costs(connection, now)}
