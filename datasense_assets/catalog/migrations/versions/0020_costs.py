"""What each run has cost: kept a run for a week, then a day a source or recipe."""

from __future__ import annotations

from alembic import op

revision = "0020"
down_revision = "0014"
branch_labels = None
depends_on = None

# By name and not by id: names never change, and what a deleted source has cost stays its organisation's.
_OWNER = """
    org_id bigint NOT NULL REFERENCES datasense.organizations (id) ON DELETE CASCADE,
    kind text NOT NULL CONSTRAINT {table}_kind_known CHECK (kind IN ('source', 'recipe')),
    name text NOT NULL
"""
_SUMS = """
    cpu_seconds double precision NOT NULL DEFAULT 0,
    wall_seconds double precision NOT NULL DEFAULT 0,
    peak_memory_bytes bigint NOT NULL DEFAULT 0,
    rows_read bigint NOT NULL DEFAULT 0,
    rows_written bigint NOT NULL DEFAULT 0,
    bytes_read bigint NOT NULL DEFAULT 0,
    api_calls bigint NOT NULL DEFAULT 0,
    queued_seconds double precision NOT NULL DEFAULT 0,
    throttled_seconds double precision NOT NULL DEFAULT 0
"""
_STATEMENTS = (
    f"""
    CREATE TABLE datasense.run_costs (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        {_OWNER.format(table="run_costs")},
        run_id text NOT NULL,
        attempt integer NOT NULL DEFAULT 0,
        succeeded boolean NOT NULL,
        ended_at timestamptz NOT NULL DEFAULT now(),
        {_SUMS}
    )
    """,
    "CREATE INDEX run_costs_of_org ON datasense.run_costs (org_id, ended_at)",
    "CREATE INDEX run_costs_ended ON datasense.run_costs (ended_at)",
    f"""
    CREATE TABLE datasense.daily_costs (
        {_OWNER.format(table="daily_costs")},
        day date NOT NULL,
        runs bigint NOT NULL DEFAULT 0,
        failures bigint NOT NULL DEFAULT 0,
        {_SUMS},
        PRIMARY KEY (org_id, kind, name, day)
    )
    """,
    "CREATE INDEX daily_costs_day ON datasense.daily_costs (day)",
)


def upgrade() -> None:
    """Create both tables."""
    for statement in _STATEMENTS:
        op.execute(statement)
