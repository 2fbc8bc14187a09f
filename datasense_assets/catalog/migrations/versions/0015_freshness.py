"""How fresh a table is to be, how long a recipe has been behind, and the full read that a source wants."""

from __future__ import annotations

from alembic import op

revision = "0015"
down_revision = "0012"
branch_labels = None
depends_on = None

_STATEMENTS = (
    *(
        f"ALTER TABLE datasense.{table} ADD COLUMN fresh_within_seconds integer "
        f"CONSTRAINT {table}_fresh_within_seconds_sane CHECK (fresh_within_seconds BETWEEN 60 AND 315360000)"
        for table in ("sources", "recipes")
    ),
    "ALTER TABLE datasense.sources ADD COLUMN full_reload text "
    "CONSTRAINT sources_full_reload_known CHECK (full_reload IN ('weekly', 'never'))",
    """
    CREATE OR REPLACE FUNCTION datasense.is_secret_reference(reference jsonb) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
        SELECT CASE WHEN reference IS NULL OR jsonb_typeof(reference) <> 'object' THEN false
        ELSE (SELECT count(*) = 1 AND bool_and(key IN ('env', 'file', 'encrypted')
                     AND jsonb_typeof(value) = 'string' AND value #>> '{}' <> '')
              FROM jsonb_each(reference - 'expires'))
             AND CASE WHEN NOT reference ? 'expires' THEN true
                      WHEN coalesce(reference ->> 'expires', '') !~ '^[0-9]{4}-[0-9]{2}-[0-9]{2}$' THEN false
                      -- fails on a day that no calendar has
                      ELSE make_date(left(reference ->> 'expires', 4)::int, substr(reference ->> 'expires', 6, 2)::int,
                                     right(reference ->> 'expires', 2)::int) IS NOT NULL END END
    $$
    """,
    "ALTER TABLE datasense.recipe_status ADD COLUMN outdated_since timestamptz",
    "ALTER TABLE datasense.alerts DROP CONSTRAINT alerts_kind_known",
    "ALTER TABLE datasense.alerts ADD CONSTRAINT alerts_kind_known CHECK (kind IN ('failing', 'late', 'check', "
    "'credential', 'schema_change', 'contact', 'failure_rate', 'queue_delay', 'disk'))",
)


def upgrade() -> None:
    """Add the columns, and let alerts be of a credential."""
    for statement in _STATEMENTS:
        op.execute(statement)
