"""Rows that would keep everybody's schedules or alerts from being read are refused; of two daemons one asks."""

from __future__ import annotations

from alembic import op

revision = "0035"
down_revision = "0034"
branch_labels = None
depends_on = None

_TIME = "([01][0-9]|2[0-3]):[0-5][0-9]"
# NOT VALID: a row that is there already is shown for what it is, and keeps no upgrade from ending.
_STATEMENTS = (
    f"""
    CREATE FUNCTION datasense.is_alerting(alerting jsonb) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
        SELECT CASE WHEN jsonb_typeof(alerting) <> 'object' THEN false
        ELSE alerting - ARRAY['kinds', 'quiet_hours', 'digest'] = '{{}}'
             AND coalesce(jsonb_typeof(alerting -> 'quiet_hours'), 'null') IN ('string', 'null')
             AND coalesce(alerting ->> 'quiet_hours', '00:00-00:00') ~ '^{_TIME}-{_TIME}$'
             AND coalesce(jsonb_typeof(alerting -> 'digest'), 'null') IN ('string', 'null')
             AND coalesce(alerting ->> 'digest', '00:00') ~ '^{_TIME}$'
             AND CASE coalesce(jsonb_typeof(alerting -> 'kinds'), 'null')
                 WHEN 'null' THEN true
                 WHEN 'array' THEN alerting -> 'kinds'
                      <@ '["failing", "late", "check", "credential", "schema_change"]'::jsonb
                 ELSE false END END
    $$
    """,
    "ALTER TABLE datasense.organizations DROP CONSTRAINT organizations_alerting_is_object",
    "ALTER TABLE datasense.organizations ADD CONSTRAINT organizations_alerting_is_known "
    "CHECK (datasense.is_alerting(alerting)) NOT VALID",
    "ALTER TABLE datasense.sources ADD CONSTRAINT sources_cron_has_five_fields "
    "CHECK (coalesce(schedule ->> 'cron', '* * * * *') ~ '^\\s*\\S+(\\s+\\S+){4}\\s*$') NOT VALID",
    "ALTER TABLE datasense.sync_requests ADD COLUMN asked_at timestamptz",
    "ALTER TABLE datasense.rereads ADD COLUMN asked_at timestamptz",
)


def upgrade() -> None:
    """Add the constraints, and when a run was last asked for."""
    for statement in _STATEMENTS:
        op.execute(statement)
