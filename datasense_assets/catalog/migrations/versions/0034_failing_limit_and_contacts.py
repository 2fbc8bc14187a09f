"""What failed the last time has a limit that can be set; of several contacts each gets a message once."""

from __future__ import annotations

from alembic import op

revision = "0034"
down_revision = "0031"
branch_labels = None
depends_on = None

_STATEMENTS = (
    "ALTER TABLE datasense.run_limits DROP CONSTRAINT run_limits_scope_known",
    "ALTER TABLE datasense.run_limits ADD CONSTRAINT run_limits_scope_known "
    "CHECK (scope IN ('total', 'lane', 'org', 'connector', 'host', 'failing'))",
    "ALTER TABLE datasense.run_limits DROP CONSTRAINT run_limits_total_has_no_name",
    "ALTER TABLE datasense.run_limits ADD CONSTRAINT run_limits_nameless "
    "CHECK (scope NOT IN ('total', 'failing') OR name = '')",
    # marks are hashes of a message and a contact: nothing of a contact's address is in them
    "ALTER TABLE datasense.alert_messages ADD COLUMN taken_by text[] NOT NULL DEFAULT '{}'",
)


def upgrade() -> None:
    """Let that limit be a row, and remember who has taken a message."""
    for statement in _STATEMENTS:
        op.execute(statement)
