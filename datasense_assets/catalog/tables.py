"""The catalog's tables as SQLAlchemy Core knows them; the migrations are what creates them.

A test holds the two against each other, so a column added here without a migration (or the other way) is found.
Constraints and triggers are in the migrations alone.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    Double,
    Integer,
    MetaData,
    Table,
    Text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSON, JSONB

metadata = MetaData(schema="datasense")


def _id() -> Column[int]:
    return Column("id", BigInteger, primary_key=True)


def _number(name: str) -> Column[int]:
    return Column(name, BigInteger)


def _text(name: str) -> Column[str]:
    return Column(name, Text)


def _time(name: str) -> Column[datetime]:
    return Column(name, DateTime(timezone=True))


organizations = Table(
    "organizations",
    metadata,
    _id(),
    _text("slug"),
    _text("name"),
    _text("timezone"),
    _text("tier"),
    Column("contacts", JSONB),
    Column("alerting", JSONB),
    Column("warehouse", JSONB(none_as_null=True)),
    _time("created_at"),
    _time("updated_at"),
)

org_roles = Table(
    "org_roles",
    metadata,
    Column("org_id", BigInteger, primary_key=True),
    _text("role_name"),
    _text("password_encrypted"),
)

sources = Table(
    "sources",
    metadata,
    _id(),
    _number("org_id"),
    _text("slug"),
    _text("connector"),
    Column("config", JSONB),
    Column("schedule", JSONB),
    _text("partition_every"),
    Column("partition_start", Date),
    _text("deletes"),
    Column("discover_all", Boolean),
    Column("fresh_within_seconds", Integer),
    _text("full_reload"),
    Column("created_on", Date),
    _time("created_at"),
    _time("updated_at"),
    Column("max_minutes", Integer),
)

source_tables = Table(
    "source_tables",
    metadata,
    _id(),
    _number("source_id"),
    _number("org_id"),
    _text("slug"),
    _text("resource"),
    Column("path", ARRAY(Text)),
    _number("parent_id"),
    _text("title"),
    Column("types", JSONB),
    Column("key", ARRAY(Text)),
    Column("history_start", Date),
    _text("warehouse_name"),
    Column("position", Integer),
    _time("created_at"),
    Column("checks", JSONB),
)

source_columns = Table(
    "source_columns",
    metadata,
    Column("table_id", BigInteger, primary_key=True),
    Column("name", Text, primary_key=True),
    _text("key"),
    _text("label"),
    Column("labels", JSONB),
    _text("type"),
    Column("position", Integer),
    Column("choices", JSONB),
    Column("personal", Boolean),
    Column("current", Boolean),
)

credentials = Table(
    "credentials",
    metadata,
    _id(),
    _number("org_id"),
    _number("source_id"),
    _text("name"),
    Column("reference", JSONB),
    _time("updated_at"),
)

recipes = Table(
    "recipes",
    metadata,
    _id(),
    _number("org_id"),
    _text("name"),
    _text("title"),
    Column("spec", JSON),
    _text("spec_hash"),
    _time("created_at"),
    _time("updated_at"),
    Column("fresh_within_seconds", Integer),
)

recipe_inputs = Table(
    "recipe_inputs",
    metadata,
    Column("recipe_id", BigInteger, primary_key=True),
    Column("alias", Text, primary_key=True),
    _text("source_ident"),
    _text("table_ident"),
    _text("recipe_ident"),
    _number("built_version"),
    _text("built_columns"),
    _text("built_labels"),
)

recipe_lineage = Table(
    "recipe_lineage",
    metadata,
    Column("recipe_id", BigInteger, primary_key=True),
    _text("spec_hash"),
    _time("recorded_at"),
)

recipe_columns = Table(
    "recipe_columns",
    metadata,
    Column("recipe_id", BigInteger, primary_key=True),
    Column("name", Text, primary_key=True),
    _text("type"),
    Column("position", Integer),
    Column("personal", Boolean),
)

recipe_column_uses = Table(
    "recipe_column_uses",
    metadata,
    _id(),
    _number("recipe_id"),
    _text("column_name"),
    _text("use"),
    _text("source_ident"),
    _text("table_ident"),
    _text("recipe_ident"),
    _text("source_column"),
)

cursors = Table(
    "cursors",
    metadata,
    Column("table_id", BigInteger, primary_key=True),
    _text("value"),
    Column("boundary", JSONB),
    _number("fence"),
    _time("updated_at"),
)

leases = Table(
    "leases",
    metadata,
    Column("source_id", BigInteger, primary_key=True),
    _text("owner"),
    _number("fence"),
    _time("expires_at"),
)

source_status = Table(
    "source_status",
    metadata,
    Column("source_id", BigInteger, primary_key=True),
    _time("next_due_at"),
    Column("replan", Boolean),
    _time("last_slot"),
    _time("last_requested_at"),
    _text("last_run_id"),
    _time("last_started_at"),
    _time("last_success_at"),
    _time("last_failure_at"),
    _text("failure_kind"),
    _text("failure_message"),
    _text("failure_advice"),
    Column("failures_in_a_row", Integer),
    _time("discovered_at"),
    _time("put_off_until"),
)

rereads = Table(
    "rereads",
    metadata,
    Column("source_id", BigInteger, primary_key=True),
    _time("due_at"),
    _time("asked_slot"),
    _time("asked_at"),
    _time("done_at"),
)

table_status = Table(
    "table_status",
    metadata,
    Column("table_id", BigInteger, primary_key=True),
    _number("data_version"),
    _text("content_hash"),
    _number("row_count"),
    _number("rows_loaded"),
    _number("rejected_rows"),
    _time("fresh_as_of"),
    _time("loaded_at"),
    _time("changed_at"),
    _text("run_id"),
    _text("load_id"),
    _text("columns_hash"),
    _text("labels_hash"),
    _time("columns_changed_at"),
    Column("fingerprint", JSONB(none_as_null=True)),
    Column("column_notes", JSONB),
    _time("gone_since"),
)

recipe_status = Table(
    "recipe_status",
    metadata,
    Column("recipe_id", BigInteger, primary_key=True),
    _number("data_version"),
    _number("row_count"),
    _time("built_at"),
    _time("changed_at"),
    _text("spec_hash"),
    _text("run_id"),
    _time("last_requested_at"),
    _text("failure_kind"),
    _text("failure_message"),
    _text("failure_advice"),
    _time("failed_at"),
    Column("failures_in_a_row", Integer),
    Column("compiler_version", Integer),
    _text("timezone"),
    Column("built_for", Date),
    _text("definition_hash"),
    _text("build_key"),
    _text("columns_hash"),
    _text("content_hash"),
    _time("outdated_since"),
    Column("questions", JSONB),
)

schema_changes = Table(
    "schema_changes",
    metadata,
    _id(),
    _number("table_id"),
    _time("at"),
    _text("run_id"),
    _text("kind"),
    _text("column_name"),
    _text("old_type"),
    _text("new_type"),
    _text("old_label"),
    _text("new_label"),
    Column("affects", JSONB),
    Column("alerted", Boolean),
)

alerts = Table(
    "alerts",
    metadata,
    _id(),
    _number("org_id"),
    _text("kind"),
    _text("subject"),
    _text("fingerprint"),
    _text("what"),
    _text("advice"),
    _time("opened_at"),
    _time("changed_at"),
    _time("closed_at"),
)

alert_messages = Table(
    "alert_messages",
    metadata,
    _id(),
    _number("alert_id"),
    _number("org_id"),
    _text("audience"),
    _text("event"),
    _text("title"),
    _text("body"),
    _time("created_at"),
    _time("send_after"),
    Column("attempts", Integer),
    _text("last_error"),
    _time("sent_at"),
    _text("dropped_because"),
    Column("taken_by", ARRAY(Text)),
)

check_results = Table(
    "check_results",
    metadata,
    _id(),
    _number("table_id"),
    _number("recipe_id"),
    _text("name"),
    _text("kind"),
    _text("severity"),
    Column("passed", Boolean),
    Column("waits", Boolean),
    _number("broken"),
    _text("message"),
    Column("samples", JSONB),
    Column("declared", JSONB),
    _number("data_version"),
    _time("checked_at"),
    _text("run_id"),
)

row_counts = Table(
    "row_counts",
    metadata,
    _id(),
    _number("table_id"),
    _number("recipe_id"),
    _time("at"),
    _number("row_count"),
    Column("accepted", Boolean),
    _text("run_id"),
)

pauses = Table(
    "pauses",
    metadata,
    _id(),
    _number("org_id"),
    _number("source_id"),
    _text("reason"),
    _time("paused_at"),
    _text("paused_by"),
    _time("probe_at"),
)

sync_requests = Table(
    "sync_requests",
    metadata,
    _id(),
    _number("org_id"),
    _number("source_id"),
    _number("recipe_id"),
    Column("tables", ARRAY(Text)),
    _text("partition_first"),
    _text("partition_last"),
    Column("full_reload", Boolean),
    _text("lane"),
    _text("requested_by"),
    _time("requested_at"),
    _time("taken_at"),
    _text("run_id"),
    _text("error"),
    Column("after_requests", ARRAY(BigInteger)),
    _time("not_before"),
    _number("part_of"),
    _time("asked_at"),
)

run_limits = Table(
    "run_limits",
    metadata,
    Column("scope", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("at_once", Integer),
    _text("set_by"),
    _time("set_at"),
)

source_quotas = Table(
    "source_quotas",
    metadata,
    Column("source_id", BigInteger, primary_key=True),
    Column("key", Text, primary_key=True),
)

quota_limits = Table(
    "quota_limits",
    metadata,
    Column("name", Text, primary_key=True),
    Column("host", Text, primary_key=True),
    Column("calls", Integer),
    Column("seconds", Double),
    Column("one_at_a_time", Boolean),
)

quota_state = Table(
    "quota_state",
    metadata,
    Column("key", Text, primary_key=True),
    _text("name"),
    _text("host"),
    _time("spent_until"),
    _time("blocked_until"),
    _text("held_by"),
    _time("held_until"),
    _time("used_at"),
    _number("calls"),
    _number("refused"),
    Column("waited_seconds", Double),
    Column("allowed_calls", Integer),
    Column("allowed_seconds", Double),
)

# Sums of both tables of costs; peak_memory_bytes is the highest.
COST_SUMS = (
    "cpu_seconds",
    "wall_seconds",
    "peak_memory_bytes",
    "rows_read",
    "rows_written",
    "bytes_read",
    "api_calls",
    "queued_seconds",
    "throttled_seconds",
)


def _cost_sums() -> list[Column[Any]]:
    return [Column(name, Double if name.endswith("_seconds") else BigInteger) for name in COST_SUMS]


run_costs = Table(
    "run_costs",
    metadata,
    _id(),
    _number("org_id"),
    _text("kind"),
    _text("name"),
    _text("run_id"),
    Column("attempt", Integer),
    Column("succeeded", Boolean),
    _time("ended_at"),
    *_cost_sums(),
)

daily_costs = Table(
    "daily_costs",
    metadata,
    Column("org_id", BigInteger, primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("day", Date, primary_key=True),
    _number("runs"),
    _number("failures"),
    *_cost_sums(),
)
