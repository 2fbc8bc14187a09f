"""What a load found out about a column, such as why it stays text, and since when a source lacks a table, are kept."""

from __future__ import annotations

from alembic import op

revision = "0036"
down_revision = "0035"
branch_labels = None
depends_on = None

_STATEMENTS = (
    # status, and not of source_columns: a note changes nothing that the graph is made of
    "ALTER TABLE datasense.table_status ADD COLUMN column_notes jsonb NOT NULL DEFAULT '{}'",
    # until now told by the newest event, which is forgotten after half a year
    "ALTER TABLE datasense.table_status ADD COLUMN gone_since timestamptz",
    """
    UPDATE datasense.table_status s SET gone_since = last.at FROM (
        SELECT DISTINCT ON (table_id) table_id, kind, at FROM datasense.schema_changes
        WHERE column_name IS NULL ORDER BY table_id, id DESC
    ) last WHERE last.table_id = s.table_id AND last.kind = 'table_removed'
    """,
)


def upgrade() -> None:
    """Sentences by column name, and a moment."""
    for statement in _STATEMENTS:
        op.execute(statement)
