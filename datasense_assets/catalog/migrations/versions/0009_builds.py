"""What a recipe was built from, down to columns and choice labels; requests that wait for other requests."""

from __future__ import annotations

from alembic import op

revision = "0009"
down_revision = "0007"
branch_labels = None
depends_on = None

_COLUMNS = [
    """
    ALTER TABLE datasense.recipe_status
        ADD COLUMN compiler_version integer,
        ADD COLUMN timezone text,
        ADD COLUMN built_for date,
        ADD COLUMN definition_hash text,
        ADD COLUMN build_key text,
        ADD COLUMN columns_hash text,
        ADD COLUMN content_hash text
    """,
    """
    ALTER TABLE datasense.table_status
        ADD COLUMN columns_hash text,
        ADD COLUMN labels_hash text,
        ADD COLUMN columns_changed_at timestamptz
    """,
    "ALTER TABLE datasense.recipe_inputs ADD COLUMN built_columns text, ADD COLUMN built_labels text",
    "ALTER TABLE datasense.sync_requests ADD COLUMN after_requests bigint[]",
]

# `touched`: ids of tables.
_HASHES = """
    UPDATE datasense.table_status s
    SET columns_hash = h.columns, labels_hash = h.labels, columns_changed_at = clock_timestamp()
    FROM (SELECT t.id,
                 datasense.short_hash(string_agg(c.name || ' ' || c.type, E'\\n' ORDER BY c.name COLLATE "C"))
                     AS columns,
                 datasense.short_hash(string_agg(c.name || ' ' || c.choices::text, E'\\n' ORDER BY c.name COLLATE "C")
                     FILTER (WHERE c.choices <> '[]')) AS labels
          FROM datasense.source_tables t LEFT JOIN datasense.source_columns c ON c.table_id = t.id
          WHERE {touched}
          GROUP BY t.id) h
    WHERE s.table_id = h.id AND (s.columns_hash, s.labels_hash) IS DISTINCT FROM (h.columns, h.labels)
"""

_FUNCTIONS = [
    """
    CREATE FUNCTION datasense.short_hash(words text) RETURNS text LANGUAGE sql IMMUTABLE STRICT AS
    $$ SELECT left(encode(sha256(convert_to(words, 'UTF8')), 'hex'), 16) $$
    """,
    f"""
    CREATE FUNCTION datasense.hash_columns() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    BEGIN
        {_HASHES.format(touched="t.id IN (SELECT table_id FROM touched)")};
        RETURN NULL;
    END $$
    """,  # noqa: S608 - constants of ours
]


def upgrade() -> None:
    """Add the columns and the trigger that keeps a table's hashes, and fill them in."""
    for statement in (*_COLUMNS, *_FUNCTIONS):
        op.execute(statement)
    for event, rows in (("INSERT", "NEW"), ("UPDATE", "NEW"), ("DELETE", "OLD")):
        op.execute(
            f"CREATE TRIGGER d_hashes_{event.lower()} AFTER {event} ON datasense.source_columns "
            f"REFERENCING {rows} TABLE AS touched FOR EACH STATEMENT EXECUTE FUNCTION datasense.hash_columns()"
        )
    op.execute(_HASHES.format(touched="true"))
