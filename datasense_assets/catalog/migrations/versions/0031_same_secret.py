"""A credential that is only encrypted anew is no new credential: its source's breaker stays as it is."""

from __future__ import annotations

from alembic import op

revision = "0031"
down_revision = "0021"
branch_labels = None
depends_on = None

_STATEMENTS = (
    "DROP TRIGGER close_breaker ON datasense.credentials",
    "CREATE TRIGGER close_breaker AFTER UPDATE ON datasense.credentials FOR EACH ROW "
    "WHEN (OLD.reference IS DISTINCT FROM NEW.reference "
    "AND coalesce(current_setting('datasense.same_secret', true), '') <> 'yes') "
    "EXECUTE FUNCTION datasense.close_breaker()",
)


def upgrade() -> None:
    """Make the trigger anew, with a condition that who rotates keys can set for a transaction."""
    for statement in _STATEMENTS:
        op.execute(statement)
