"""What builds gave as columns' comments, and which checks wait for another table, are kept."""

from __future__ import annotations

from alembic import op

revision = "0037"
down_revision = "0036"
branch_labels = None
depends_on = None

_STATEMENTS = (
    # of tables built before it is not known: a comment that is no question of today is taken for a person's
    "ALTER TABLE datasense.recipe_status ADD COLUMN questions jsonb NOT NULL DEFAULT '{}'",
    "ALTER TABLE datasense.check_results ADD COLUMN waits boolean NOT NULL DEFAULT false",
)


def upgrade() -> None:
    """Questions by column name, and whether a check is still to be run."""
    for statement in _STATEMENTS:
        op.execute(statement)
