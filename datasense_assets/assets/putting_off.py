"""A run that may not wait any longer gives its slot back, and the catalog remembers when to come again."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import dagster as dg

from datasense_assets.assets.reading_mode import Mode, Reading
from datasense_assets.catalog.models import Source
from datasense_assets.running import tags as t
from datasense_assets.running.failures import (
    TookTooLong,
    longest_asked,
    shortest_wait,
    too_long_to_wait,
    wait_of_failing,
)
from datasense_assets.running.metering import Meter
from datasense_assets.running.owners import catalog_engine
from datasense_assets.settings import get_settings

if TYPE_CHECKING:
    from datasense_assets.connectors.errors import SourceError


def put_off_source(
    context: dg.AssetExecutionContext,
    source: Source,
    failures: Sequence[tuple[str, SourceError]],
    reading: Reading | None = None,
) -> datetime | None:
    """Put off what a run could not load because of a quota, or of a server that asks to wait long.

    A live run is the source's next one, at the moment returned, whatever its schedule says. A backfill or a full load
    becomes a request for the same tables and partitions from then on. What is read again by night is so the next night,
    and a run that a person waits for is not run again.

    Args:
        context: of the run.
        source: what was loaded.
        failures: (table, error) of what could not be loaded.
        reading: how it was read; None for a discovery.

    Returns:
        The moment; None where nothing asks for a longer wait than a run may hold its slot for.
    """
    from datasense_assets.catalog.state import ask_again_later, put_off

    seconds = too_long_to_wait(failures, get_settings().longest_wait_seconds)
    if seconds is None:
        return None
    until = datetime.now(UTC) + timedelta(seconds=seconds)
    once = t.ONCE in context.run.tags
    live = reading is None or reading.mode is Mode.LIVE
    with catalog_engine().begin() as connection:
        put_off(connection, source.id, until, again=live and not once)
        if reading is not None and reading.mode in (Mode.BACKFILL, Mode.FULL) and not once:
            slugs = {table.slug for table in source.tables}
            failed = sorted({table for table, _ in failures})
            ask_again_later(
                connection,
                source.id,
                until,
                tables=failed if slugs.issuperset(failed) else None,
                partitions=(reading.first, reading.last) if reading.mode is Mode.BACKFILL else None,
                full_reload=reading.mode is Mode.FULL,
                lane=context.run.tags.get(t.LANE, t.Lane.BACKFILL.value),
                requested_by=f"run {context.run.run_id}, put off",
            )
    return until


# The most that a run nobody waits for holds its place for a server that does not answer, all its tries together.
SLOW_SECONDS = 30.0


def come_back_to_silent(
    context: dg.AssetExecutionContext,
    source: Source,
    failures: Sequence[tuple[str, SourceError]],
    reading: Reading | None,
    meter: Meter,
) -> datetime | None:
    """Have a scheduled source whose server does not answer asked for again, instead of waiting for it in its place.

    It comes among the failing ones, of which few run at once; the wait doubles, and the schedule may come earlier.

    Args:
        context: of the run.
        source: what was loaded.
        failures: (table, error) of what could not be loaded; they have been recorded.
        reading: how it was read; None for a discovery.
        meter: of this try.

    Returns:
        The moment; None where the run may still wait, nothing may pass, or somebody else than the schedule asked.

    """
    from sqlalchemy import select

    from datasense_assets.catalog.state import come_again
    from datasense_assets.catalog.tables import source_status

    live = reading is None or reading.mode is Mode.LIVE
    if context.run.tags.get(t.LANE) != t.Lane.SCHEDULED or not live or t.ONCE in context.run.tags:
        return None
    if not holds_in_vain(context, failures, meter):
        return None
    with catalog_engine().begin() as connection:
        query = select(source_status.c.failures_in_a_row).where(source_status.c.source_id == source.id)
        again = datetime.now(UTC) + timedelta(seconds=wait_of_failing(connection.execute(query).scalar_one()))
        come_again(connection, source.id, again)
    return again


def holds_in_vain(context: dg.AssetExecutionContext, failures: Sequence[tuple[str, SourceError]], meter: Meter) -> bool:
    """Whether a run waits so long for what may pass, its next pause included, that others should have its place.

    What a first try has loaded is no waiting; from the first failure on, all is.
    """
    passing = [error for _, error in failures if not error.permanent]
    if not passing or any(isinstance(error, TookTooLong) for error in passing):
        return False
    attempt = context.op_execution_context.retry_number
    waited = meter.vain_seconds if attempt == 0 else time.time() - meter.started_at
    return waited + shortest_wait(attempt, longest_asked(failures)) > SLOW_SECONDS
