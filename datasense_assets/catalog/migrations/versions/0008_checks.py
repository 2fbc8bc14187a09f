"""Checks of sources' tables, what came of all checks, and how many rows each table had."""

from __future__ import annotations

from alembic import op

revision = "0008"
down_revision = "0011"
branch_labels = None
depends_on = None

_STATEMENTS = [
    # Part of the graph: the trigger on source_tables counts it as any other column.
    """
    ALTER TABLE datasense.source_tables ADD COLUMN checks jsonb NOT NULL DEFAULT '[]'
        CONSTRAINT source_tables_checks_list CHECK (jsonb_typeof(checks) = 'array')
    """,
    """
    CREATE TABLE datasense.check_results (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        table_id bigint REFERENCES datasense.source_tables (id) ON DELETE CASCADE,
        recipe_id bigint REFERENCES datasense.recipes (id) ON DELETE CASCADE,
        name text NOT NULL,
        kind text NOT NULL,
        severity text NOT NULL CONSTRAINT check_results_severity_known CHECK (severity IN ('warn', 'error')),
        passed boolean NOT NULL,
        broken bigint,
        message text NOT NULL DEFAULT '',
        samples jsonb NOT NULL DEFAULT '[]',
        declared jsonb,
        data_version bigint,
        checked_at timestamptz NOT NULL DEFAULT now(),
        run_id text,
        CONSTRAINT check_results_one_owner CHECK (num_nonnulls(table_id, recipe_id) = 1)
    )
    """,
    "CREATE UNIQUE INDEX check_results_of_table ON datasense.check_results (table_id, name) WHERE table_id IS NOT NULL",
    "CREATE UNIQUE INDEX check_results_of_recipe ON datasense.check_results (recipe_id, name)"
    " WHERE recipe_id IS NOT NULL",
    """
    CREATE TABLE datasense.row_counts (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        table_id bigint REFERENCES datasense.source_tables (id) ON DELETE CASCADE,
        recipe_id bigint REFERENCES datasense.recipes (id) ON DELETE CASCADE,
        at timestamptz NOT NULL DEFAULT now(),
        row_count bigint NOT NULL,
        accepted boolean NOT NULL DEFAULT true,
        run_id text,
        CONSTRAINT row_counts_one_owner CHECK (num_nonnulls(table_id, recipe_id) = 1)
    )
    """,
    "CREATE INDEX row_counts_of_table ON datasense.row_counts (table_id, id DESC) WHERE table_id IS NOT NULL",
    "CREATE INDEX row_counts_of_recipe ON datasense.row_counts (recipe_id, id DESC) WHERE recipe_id IS NOT NULL",
    # What came of a check that is no longer there, or was changed, says nothing and must block nothing.
    """
    CREATE FUNCTION datasense.forget_check_results() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    DECLARE
        wanted jsonb;
    BEGIN
        IF TG_TABLE_NAME = 'source_tables' THEN
            DELETE FROM datasense.check_results r WHERE r.table_id = NEW.id
                AND NOT EXISTS (SELECT FROM jsonb_array_elements(NEW.checks) e WHERE e = r.declared);
        ELSE
            wanted := CASE WHEN json_typeof(NEW.spec -> 'checks') = 'array' THEN (NEW.spec -> 'checks')::jsonb
                           ELSE '[]'::jsonb END;
            DELETE FROM datasense.check_results r WHERE r.recipe_id = NEW.id
                AND NOT EXISTS (SELECT FROM jsonb_array_elements(wanted) e WHERE e = r.declared);
        END IF;
        RETURN NULL;
    END $$
    """,
    "CREATE TRIGGER d_checks AFTER UPDATE OF checks ON datasense.source_tables FOR EACH ROW "
    "WHEN (OLD.checks IS DISTINCT FROM NEW.checks) EXECUTE FUNCTION datasense.forget_check_results()",
    "CREATE TRIGGER d_checks AFTER UPDATE OF spec ON datasense.recipes FOR EACH ROW "
    "WHEN (OLD.spec::text IS DISTINCT FROM NEW.spec::text) EXECUTE FUNCTION datasense.forget_check_results()",
]


def upgrade() -> None:
    """Add the column, the tables and the triggers."""
    for statement in _STATEMENTS:
        op.execute(statement)
