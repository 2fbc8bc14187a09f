"""Checks that do not hold are told too."""

from __future__ import annotations

from alembic import op

revision = "0012"
down_revision = "0008"
branch_labels = None
depends_on = None

_STATEMENTS = (
    "ALTER TABLE datasense.alerts DROP CONSTRAINT alerts_kind_known",
    "ALTER TABLE datasense.alerts ADD CONSTRAINT alerts_kind_known CHECK (kind IN "
    "('failing', 'late', 'check', 'schema_change', 'contact', 'failure_rate', 'queue_delay', 'disk'))",
    "CREATE INDEX check_results_broken ON datasense.check_results (id) WHERE NOT passed",
)


def upgrade() -> None:
    """Let alerts be of that kind, and find broken checks by an index."""
    for statement in _STATEMENTS:
        op.execute(statement)
