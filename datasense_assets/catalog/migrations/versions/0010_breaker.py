"""A source whose address, settings or credential is changed is tried again at once: its open breaker closes."""

from __future__ import annotations

from alembic import op

revision = "0010"
down_revision = "0003"
branch_labels = None
depends_on = None

# As the catalog's owner, so that a program with rights on `sources` or `credentials` alone works.
_CLOSE = """
CREATE FUNCTION datasense.close_breaker() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    changed CONSTANT bigint := CASE WHEN TG_TABLE_NAME = 'sources' THEN (to_jsonb(NEW) ->> 'id')::bigint
                                    ELSE (to_jsonb(NEW) ->> 'source_id')::bigint END;
BEGIN
    DELETE FROM datasense.pauses WHERE source_id = changed AND paused_by = 'breaker';
    IF FOUND THEN
        UPDATE datasense.source_status SET next_due_at = CASE WHEN next_due_at IS NOT NULL THEN now() END
        WHERE source_id = changed;
    END IF;
    RETURN NULL;
END $$
"""

_TRIGGERS = (
    "CREATE TRIGGER close_breaker AFTER UPDATE OF connector, config ON datasense.sources FOR EACH ROW "
    "WHEN (OLD.connector IS DISTINCT FROM NEW.connector OR OLD.config IS DISTINCT FROM NEW.config) "
    "EXECUTE FUNCTION datasense.close_breaker()",
    "CREATE TRIGGER close_breaker_of_new AFTER INSERT ON datasense.credentials FOR EACH ROW "
    "EXECUTE FUNCTION datasense.close_breaker()",
    "CREATE TRIGGER close_breaker AFTER UPDATE ON datasense.credentials FOR EACH ROW "
    "WHEN (OLD.reference IS DISTINCT FROM NEW.reference) EXECUTE FUNCTION datasense.close_breaker()",
)


def upgrade() -> None:
    """Create the function and its triggers."""
    for statement in (_CLOSE, *_TRIGGERS):
        op.execute(statement)
