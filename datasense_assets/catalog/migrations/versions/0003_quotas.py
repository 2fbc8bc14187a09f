"""Allowances of calls that all processes share, and attempts that are put off until a server lets us in again."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0004"
branch_labels = None
depends_on = None

_TABLES = [
    """
    CREATE TABLE datasense.quota_limits (
        name text NOT NULL CONSTRAINT quota_limits_name_form CHECK (name ~ '^[a-z][a-z0-9_]*([.][a-z0-9_]+)*$'),
        host text NOT NULL DEFAULT '',
        calls integer CONSTRAINT quota_limits_calls_some CHECK (calls > 0),
        seconds double precision NOT NULL DEFAULT 60
            CONSTRAINT quota_limits_seconds_sane CHECK (seconds BETWEEN 0.1 AND 86400),
        one_at_a_time boolean,
        PRIMARY KEY (name, host)
    )
    """,
    # half-empty pages, so that a row's new version finds place beside the old one
    """
    CREATE TABLE datasense.quota_state (
        key text PRIMARY KEY,
        name text NOT NULL,
        host text NOT NULL,
        spent_until timestamptz NOT NULL DEFAULT 'epoch',
        blocked_until timestamptz NOT NULL DEFAULT 'epoch',
        held_by text,
        held_until timestamptz NOT NULL DEFAULT 'epoch',
        used_at timestamptz NOT NULL DEFAULT now()
    ) WITH (fillfactor = 50)
    """,
    "ALTER TABLE datasense.source_status ADD COLUMN put_off_until timestamptz",
    "ALTER TABLE datasense.sync_requests ADD COLUMN not_before timestamptz",
]

# Of every hundred parts of time ten are left free: a call reaches its server a moment after it was allowed, and one
# that was held up on the way must not fall into the same minute as all of the next. Plain look-ups by key, one after
# the other: their plans are kept, where one statement over the arrays would be planned anew each time.
_TAKE_CALL = """
CREATE FUNCTION datasense.take_call(
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
        alone[i] := coalesce(rule.one_at_a_time, default_alone[i]);
        IF state.blocked_until > moment THEN
            until := extract(epoch FROM state.blocked_until - moment);
            IF until > wait THEN
                wait := until;
                reason := 'blocked';
            END IF;
        END IF;
        IF alone[i] AND state.held_until > moment AND state.held_by IS DISTINCT FROM owner AND wait < 0.5 THEN
            wait := 0.5;
            reason := 'held';
        END IF;
        IF calls IS NOT NULL THEN
            -- a burst of a twentieth at once, the rest evenly
            burst := greatest(1, calls / 20);
            spacing[i] := make_interval(secs => coalesce(rule.seconds, default_seconds[i]) * 1.1 / (calls - burst + 1));
            IF state.spent_until > moment THEN
                until := extract(epoch FROM state.spent_until - moment - (burst - 1) * spacing[i]);
                IF until > wait THEN
                    wait := until;
                    reason := 'spent';
                END IF;
            END IF;
        END IF;
    END LOOP;
    IF wait > 0 THEN
        RETURN;
    END IF;
    FOR i IN 1 .. cardinality(keys) LOOP
        held := held OR alone[i];
        UPDATE datasense.quota_state s
        SET spent_until = CASE WHEN spacing[i] IS NULL THEN s.spent_until
                               ELSE greatest(s.spent_until, moment) + spacing[i] END,
            held_by = CASE WHEN alone[i] THEN owner ELSE s.held_by END,
            held_until = CASE WHEN alone[i] THEN moment + make_interval(secs => hold_seconds) ELSE s.held_until END,
            used_at = moment
        WHERE s.key = keys[i];
    END LOOP;
END $$
"""


def upgrade() -> None:
    """Create the tables of quotas with the function that takes a call from them, and the columns of what is put off."""
    for statement in (*_TABLES, _TAKE_CALL):
        op.execute(statement)
