"""What may run at once, how long a load may take, which quotas a source is bound by, and requests in parts."""

from __future__ import annotations

from alembic import op

revision = "0014"
down_revision = "0015"
branch_labels = None
depends_on = None

# Nothing here but `max_minutes` is part of the graph.
_STATEMENTS = (
    """
    CREATE TABLE datasense.run_limits (
        scope text NOT NULL CONSTRAINT run_limits_scope_known
            CHECK (scope IN ('total', 'lane', 'org', 'connector', 'host')),
        name text NOT NULL DEFAULT ''
            CONSTRAINT run_limits_total_has_no_name CHECK (scope <> 'total' OR name = ''),
        at_once integer NOT NULL CONSTRAINT run_limits_at_once_sane CHECK (at_once BETWEEN 0 AND 10000),
        set_by text NOT NULL DEFAULT '',
        set_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (scope, name)
    )
    """,
    # a key is a hash, as in quota_state: nothing of a credential is in it
    """
    CREATE TABLE datasense.source_quotas (
        source_id bigint NOT NULL REFERENCES datasense.sources (id) ON DELETE CASCADE,
        key text NOT NULL,
        PRIMARY KEY (source_id, key)
    )
    """,
    "ALTER TABLE datasense.sources ADD COLUMN max_minutes integer "
    "CONSTRAINT sources_max_minutes_sane CHECK (max_minutes BETWEEN 1 AND 10080)",
    "ALTER TABLE datasense.sync_requests ADD COLUMN part_of bigint "
    "REFERENCES datasense.sync_requests (id) ON DELETE CASCADE",
    "CREATE INDEX sync_requests_parts ON datasense.sync_requests (part_of) WHERE part_of IS NOT NULL",
)


def upgrade() -> None:
    """Create the tables and columns."""
    for statement in _STATEMENTS:
        op.execute(statement)
