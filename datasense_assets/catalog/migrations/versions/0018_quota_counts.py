"""Quotas count their calls and remember what is allowed, and how often and how long somebody had to wait."""

from __future__ import annotations

from alembic import op

revision = "0018"
down_revision = "0020"
branch_labels = None
depends_on = None

_COLUMNS = (
    "ALTER TABLE datasense.quota_state ADD COLUMN calls bigint NOT NULL DEFAULT 0",
    "ALTER TABLE datasense.quota_state ADD COLUMN refused bigint NOT NULL DEFAULT 0",
    "ALTER TABLE datasense.quota_state ADD COLUMN waited_seconds double precision NOT NULL DEFAULT 0",
    "ALTER TABLE datasense.quota_state ADD COLUMN allowed_calls integer",
    "ALTER TABLE datasense.quota_state ADD COLUMN allowed_seconds double precision",
)

# As in 0003, with the counts and what is allowed. A refusal is counted by one row, that which makes the caller wait.
_TAKE_CALL = """
CREATE OR REPLACE FUNCTION datasense.take_call(
    keys text[], names text[], of_host text, default_calls integer[], default_seconds double precision[],
    default_alone boolean[], owner text, hold_seconds double precision,
    OUT wait double precision, OUT reason text, OUT held boolean
) LANGUAGE plpgsql AS $$
DECLARE
    moment timestamptz;
    state datasense.quota_state;
    rule datasense.quota_limits;
    calls integer;
    burst integer;
    until double precision;
    spacing interval[] := '{}';
    alone boolean[] := '{}';
    narrow integer := 1;
    allowed integer[] := '{}';
    within double precision[] := '{}';
BEGIN
    wait := 0;
    held := false;
    -- the keys come sorted, so that two callers never wait for each other
    FOR i IN 1 .. cardinality(keys) LOOP
        PERFORM FROM datasense.quota_state s WHERE s.key = keys[i] FOR UPDATE;
        IF NOT FOUND THEN
            DELETE FROM datasense.quota_state old WHERE old.key IN (
                SELECT s.key FROM datasense.quota_state s
                WHERE s.used_at < now() - interval '30 days' AND s.blocked_until < now() FOR UPDATE SKIP LOCKED);
            INSERT INTO datasense.quota_state (key, name, host) VALUES (keys[i], names[i], of_host)
            ON CONFLICT DO NOTHING;
            PERFORM FROM datasense.quota_state s WHERE s.key = keys[i] FOR UPDATE;
        END IF;
    END LOOP;
    moment := clock_timestamp();
    FOR i IN 1 .. cardinality(keys) LOOP
        SELECT * INTO state FROM datasense.quota_state s WHERE s.key = keys[i];
        SELECT * INTO rule FROM datasense.quota_limits l WHERE l.name = names[i] AND l.host IN ('', of_host)
        ORDER BY l.host DESC LIMIT 1;
        calls := CASE WHEN rule.name IS NULL THEN default_calls[i] ELSE rule.calls END;
        allowed[i] := calls;
        within[i] := coalesce(rule.seconds, default_seconds[i]);
        alone[i] := coalesce(rule.one_at_a_time, default_alone[i]);
        IF state.blocked_until > moment THEN
            until := extract(epoch FROM state.blocked_until - moment);
            IF until > wait THEN
                wait := until;
                reason := 'blocked';
                narrow := i;
            END IF;
        END IF;
        IF alone[i] AND state.held_until > moment AND state.held_by IS DISTINCT FROM owner AND wait < 0.5 THEN
            wait := 0.5;
            reason := 'held';
            narrow := i;
        END IF;
        IF calls IS NOT NULL THEN
            -- a burst of a twentieth at once, the rest evenly
            burst := greatest(1, calls / 20);
            spacing[i] := make_interval(secs => within[i] * 1.1 / (calls - burst + 1));
            IF state.spent_until > moment THEN
                until := extract(epoch FROM state.spent_until - moment - (burst - 1) * spacing[i]);
                IF until > wait THEN
                    wait := until;
                    reason := 'spent';
                    narrow := i;
                END IF;
            END IF;
        END IF;
    END LOOP;
    IF wait > 0 THEN
        UPDATE datasense.quota_state s SET refused = s.refused + 1, waited_seconds = s.waited_seconds + wait
        WHERE s.key = keys[narrow];
        RETURN;
    END IF;
    FOR i IN 1 .. cardinality(keys) LOOP
        held := held OR alone[i];
        UPDATE datasense.quota_state s
        SET spent_until = CASE WHEN spacing[i] IS NULL THEN s.spent_until
                               ELSE greatest(s.spent_until, moment) + spacing[i] END,
            held_by = CASE WHEN alone[i] THEN owner ELSE s.held_by END,
            held_until = CASE WHEN alone[i] THEN moment + make_interval(secs => hold_seconds) ELSE s.held_until END,
            used_at = moment,
            calls = s.calls + 1,
            allowed_calls = allowed[i],
            allowed_seconds = within[i]
        WHERE s.key = keys[i];
    END LOOP;
END $$
"""


def upgrade() -> None:
    """Add the counts, and have the function that takes a call keep them."""
    for statement in (*_COLUMNS, _TAKE_CALL):
        op.execute(statement)
