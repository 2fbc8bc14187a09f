"""Finding by index what may have become stale, so that a look at nothing new costs nothing."""

from __future__ import annotations

from alembic import op

revision = "0021"
down_revision = "0018"
branch_labels = None
depends_on = None

_STATEMENTS = (
    "CREATE INDEX table_status_changed ON datasense.table_status (changed_at)",
    "CREATE INDEX table_status_columns_changed ON datasense.table_status (columns_changed_at)",
    "CREATE INDEX recipe_status_built ON datasense.recipe_status (built_at)",
    "CREATE INDEX recipe_status_compiler ON datasense.recipe_status (compiler_version)",
    "CREATE INDEX recipe_status_built_for ON datasense.recipe_status (built_for) WHERE built_for IS NOT NULL",
    "CREATE INDEX recipe_status_outdated ON datasense.recipe_status (recipe_id) WHERE outdated_since IS NOT NULL",
    "CREATE INDEX recipes_updated ON datasense.recipes (updated_at)",
    "CREATE INDEX organizations_updated ON datasense.organizations (updated_at)",
)


def upgrade() -> None:
    """Create the indexes."""
    for statement in _STATEMENTS:
        op.execute(statement)
