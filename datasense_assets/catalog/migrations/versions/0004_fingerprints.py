"""What a source said of itself when a table was last read whole, so that an unchanged one need not be read again."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add `table_status.fingerprint`: null where nothing is known, which means read."""
    op.execute("ALTER TABLE datasense.table_status ADD COLUMN fingerprint jsonb")
