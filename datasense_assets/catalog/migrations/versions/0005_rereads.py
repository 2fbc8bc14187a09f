"""When a source is read again by night, to find edits that no cursor shows."""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0010"
branch_labels = None
depends_on = None

_TABLE = """
CREATE TABLE datasense.rereads (
    source_id bigint PRIMARY KEY REFERENCES datasense.sources (id) ON DELETE CASCADE,
    due_at timestamptz,
    asked_slot timestamptz,
    done_at timestamptz
)
"""


def upgrade() -> None:
    """Create the table, with an index on what is due."""
    op.execute(_TABLE)
    op.execute("CREATE INDEX rereads_due ON datasense.rereads (due_at) WHERE due_at IS NOT NULL")
