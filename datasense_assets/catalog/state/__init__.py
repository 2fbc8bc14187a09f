"""What is known of sources, tables and recipes at run time: small functions over a connection, in its transaction.

`loads`: cursors and results of loads. `discovery`: tables and columns as found. `builds`: recipes as built. `stale`:
recipes to build. `due`: when a source is next. `requests`: runs that people ask for, and pauses. `lineage`: which
columns recipes are made of, and what a change of a table would break.
"""

from datasense_assets.catalog.state.builds import (
    BuildRecord,
    InputVersion,
    LastBuild,
    mark_requested,
    read_input_versions,
    read_last_build,
    record_build,
    record_build_failure,
)
from datasense_assets.catalog.state.discovery import (
    DiscoveredTable,
    SchemaChange,
    read_tables,
    record_discovery,
    record_schema_changes,
    replace_columns,
    upsert_tables,
)
from datasense_assets.catalog.state.due import (
    DueSource,
    ReplanSource,
    due_sources,
    mark_slot_asked,
    set_next_due,
    sources_to_replan,
)
from datasense_assets.catalog.state.lineage import (
    impact_of_deleting,
    impact_of_schema_changes,
    read_lineage,
    record_lineage,
)
from datasense_assets.catalog.state.loads import (
    CursorRow,
    FailureRecord,
    FenceLost,
    Fingerprint,
    TableStatus,
    advance_cursor,
    check_fence,
    keep_fingerprint,
    read_cursor,
    read_table_status,
    record_load,
    record_source_result,
    record_unchanged,
    tables_loaded_by,
)
from datasense_assets.catalog.state.requests import (
    BREAKER,
    AskedRun,
    RequestResult,
    add_request,
    open_requests,
    pause,
    read_request,
    resume,
    settle_request,
)
from datasense_assets.catalog.state.revision import CatalogRevision, read_revision
from datasense_assets.catalog.state.stale import StaleRecipe, stale_recipes

__all__ = [
    "BREAKER",
    "AskedRun",
    "BuildRecord",
    "CatalogRevision",
    "CursorRow",
    "DiscoveredTable",
    "DueSource",
    "FailureRecord",
    "FenceLost",
    "Fingerprint",
    "InputVersion",
    "LastBuild",
    "ReplanSource",
    "RequestResult",
    "SchemaChange",
    "StaleRecipe",
    "TableStatus",
    "add_request",
    "advance_cursor",
    "check_fence",
    "due_sources",
    "impact_of_deleting",
    "impact_of_schema_changes",
    "keep_fingerprint",
    "mark_requested",
    "mark_slot_asked",
    "open_requests",
    "pause",
    "read_cursor",
    "read_input_versions",
    "read_last_build",
    "read_lineage",
    "read_request",
    "read_revision",
    "read_table_status",
    "read_tables",
    "record_build",
    "record_build_failure",
    "record_discovery",
    "record_lineage",
    "record_load",
    "record_schema_changes",
    "record_source_result",
    "record_unchanged",
    "replace_columns",
    "resume",
    "set_next_due",
    "settle_request",
    "sources_to_replan",
    "stale_recipes",
    "tables_loaded_by",
    "upsert_tables",
]
