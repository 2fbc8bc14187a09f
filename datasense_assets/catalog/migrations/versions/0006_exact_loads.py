"""Which load wrote a table last, columns that a source no longer has, and schema changes with what they break."""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0002"
branch_labels = None
depends_on = None

_STATEMENTS = (
    "ALTER TABLE datasense.table_status ADD COLUMN load_id text",
    "ALTER TABLE datasense.source_columns ADD COLUMN current boolean NOT NULL DEFAULT true",
    "ALTER TABLE datasense.schema_changes DROP CONSTRAINT schema_changes_kind_known",
    "ALTER TABLE datasense.schema_changes ADD CONSTRAINT schema_changes_kind_known CHECK (kind IN ("
    "'added', 'removed', 'returned', 'retyped', 'relabelled', 'table_removed', 'table_returned'))",
    "ALTER TABLE datasense.schema_changes ALTER COLUMN column_name DROP NOT NULL",
    "ALTER TABLE datasense.schema_changes ADD CONSTRAINT schema_changes_of_column_or_table "
    "CHECK ((column_name IS NULL) = (kind IN ('table_removed', 'table_returned')))",
    "ALTER TABLE datasense.schema_changes ADD COLUMN old_label text, ADD COLUMN new_label text, "
    "ADD COLUMN affects jsonb NOT NULL DEFAULT '[]'",
)


def upgrade() -> None:
    """Add the columns."""
    for statement in _STATEMENTS:
        op.execute(statement)
