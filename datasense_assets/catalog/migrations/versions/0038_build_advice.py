"""What to do about a recipe that failed is kept beside why it failed, and no longer at its end."""

from __future__ import annotations

from alembic import op

revision = "0038"
down_revision = "0037"
branch_labels = None
depends_on = None

_STATEMENTS = (
    # null of failures from before: their advice is the end of their message
    "ALTER TABLE datasense.recipe_status ADD COLUMN failure_advice text",
)


def upgrade() -> None:
    """As of sources."""
    for statement in _STATEMENTS:
        op.execute(statement)
