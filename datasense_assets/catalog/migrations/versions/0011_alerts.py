"""What is wrong now and who has been told: alerts, their messages, and schema changes nobody has heard of yet."""

from __future__ import annotations

from alembic import op

revision = "0011"
down_revision = "0005"
branch_labels = None
depends_on = None

# An alert of the platform itself belongs to no organisation. Nothing here is part of the graph.
_STATEMENTS = (
    "ALTER TABLE datasense.organizations ADD COLUMN alerting jsonb NOT NULL DEFAULT '{}' "
    "CONSTRAINT organizations_alerting_is_object CHECK (jsonb_typeof(alerting) = 'object')",
    """
    CREATE TABLE datasense.alerts (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        org_id bigint REFERENCES datasense.organizations (id) ON DELETE CASCADE,
        kind text NOT NULL CONSTRAINT alerts_kind_known
            CHECK (kind IN ('failing', 'late', 'schema_change', 'contact', 'failure_rate', 'queue_delay', 'disk')),
        subject text NOT NULL,
        fingerprint text NOT NULL,
        what text NOT NULL,
        advice text NOT NULL DEFAULT '',
        opened_at timestamptz NOT NULL DEFAULT now(),
        changed_at timestamptz NOT NULL DEFAULT now(),
        closed_at timestamptz
    )
    """,
    "CREATE UNIQUE INDEX alerts_open_once ON datasense.alerts (coalesce(org_id, 0), kind, subject) "
    "WHERE closed_at IS NULL",
    "CREATE INDEX alerts_closed ON datasense.alerts (closed_at) WHERE closed_at IS NOT NULL",
    """
    CREATE TABLE datasense.alert_messages (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        alert_id bigint NOT NULL REFERENCES datasense.alerts (id) ON DELETE CASCADE,
        org_id bigint REFERENCES datasense.organizations (id) ON DELETE CASCADE,
        audience text NOT NULL CONSTRAINT alert_messages_audience_known
            CHECK (audience IN ('organization', 'operators')),
        event text NOT NULL CONSTRAINT alert_messages_event_known CHECK (event IN ('opened', 'changed', 'closed')),
        title text NOT NULL,
        body text NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        send_after timestamptz NOT NULL DEFAULT now(),
        attempts integer NOT NULL DEFAULT 0,
        last_error text,
        sent_at timestamptz,
        dropped_because text
    )
    """,
    "CREATE INDEX alert_messages_waiting ON datasense.alert_messages (send_after) "
    "WHERE sent_at IS NULL AND dropped_because IS NULL",
    "CREATE INDEX alert_messages_of_alert ON datasense.alert_messages (alert_id)",
    "ALTER TABLE datasense.schema_changes ADD COLUMN alerted boolean NOT NULL DEFAULT true",
    "ALTER TABLE datasense.schema_changes ALTER COLUMN alerted SET DEFAULT false",
    "CREATE INDEX schema_changes_untold ON datasense.schema_changes (id) WHERE NOT alerted",
    "CREATE INDEX source_status_failing ON datasense.source_status (source_id) WHERE failures_in_a_row > 0",
    "CREATE INDEX source_status_started ON datasense.source_status (last_started_at)",
    "CREATE INDEX recipe_status_failing ON datasense.recipe_status (recipe_id) WHERE failures_in_a_row > 0",
)


def upgrade() -> None:
    """Create the tables, columns and indexes."""
    for statement in _STATEMENTS:
        op.execute(statement)
