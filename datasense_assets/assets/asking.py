"""What a run asks for of a source: its tables, and which of its time is to be read."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import dagster as dg

from datasense_assets.assets.reading_mode import Mode, PastOfSnapshot, Reading, choose_reading
from datasense_assets.catalog.models import Organization, Source, SourceTable
from datasense_assets.catalog.times import as_utc
from datasense_assets.running import tags as t
from datasense_assets.running.graph_index import table_key
from datasense_assets.running.owners import catalog_engine
from datasense_assets.running.partitions import source_partitions

if TYPE_CHECKING:
    from datasense_assets.connectors.base import Window


def reading_of(context: dg.AssetExecutionContext, org: Organization, source: Source) -> Reading:
    """How the source is read, and which partitions that fills.

    Raises:
        dagster.Failure: a past day of a source that shows only how things are now.
    """
    from datasense_assets.connectors import has_history

    current = source_partitions(org, source).get_last_partition_key() or ""
    asked = list(context.partition_keys) if context.has_partition_key or context.has_partition_key_range else []
    try:
        return choose_reading(
            asked,
            current,
            has_history=has_history(source.connector),
            full=context.run.tags.get(t.FULL) == "true",
            live=context.run.tags.get(t.LIVE) == "true",
            reread=t.REREAD in context.run.tags,
        )
    except PastOfSnapshot as error:
        raise dg.Failure(description=str(error), allow_retries=False) from None


def tables_to_load(context: dg.AssetExecutionContext, org: Organization, source: Source) -> list[SourceTable]:
    """Top tables that the run selects, by themselves or by a repeat group; on a retry, those not loaded yet."""
    from datasense_assets.catalog.state import tables_loaded_by

    wanted = wanted_resources(context, org, source)
    done: frozenset[int] = frozenset()
    if context.op_execution_context.retry_number:
        with catalog_engine().connect() as connection:
            done = tables_loaded_by(connection, source.id, context.run.run_id)
    return [
        table for table in source.tables if table.parent is None and table.resource in wanted and table.id not in done
    ]


def wanted_resources(context: dg.AssetExecutionContext, org: Organization, source: Source) -> set[str]:
    """Resources of the tables that the run selects; a repeat group comes with its whole resource."""
    selected = {tuple(key.path) for key in context.selected_asset_keys}
    return {table.resource for table in source.tables if table_key(org.slug, source.slug, table.slug) in selected}


def window_of(org: Organization, source: Source, reading: Reading) -> Window | None:
    """The stretch of time that a backfill reads; None for any other reading."""
    from datasense_assets.ingest.windows import range_window

    if reading.mode is not Mode.BACKFILL:
        return None
    return range_window(reading.first, reading.last, source.partitions.every, org.timezone)


def changed_since(context: dg.AssetExecutionContext) -> datetime:
    """The moment in the run's tag: the same in every try of the run, so that a read that broke off is gone on with."""
    asked = context.run.tags[t.REREAD]
    try:
        moment = datetime.fromisoformat(asked)
    except ValueError:
        raise dg.Failure(
            description=f"The tag {t.REREAD} is {asked!r}; write a moment such as 2026-01-31T00:00:00+00:00.",
            allow_retries=False,
        ) from None
    return as_utc(moment)
