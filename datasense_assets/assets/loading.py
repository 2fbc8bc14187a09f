"""What the op of a source does in a run worker: lease, read, load through dagster-dlt, report."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import dagster as dg

from datasense_assets.assets.asking import changed_since, reading_of, tables_to_load, wanted_resources, window_of
from datasense_assets.assets.bounds import TimeLimit, refuse_heavy_without_room
from datasense_assets.assets.checks import check_loaded_table, check_results, refuse_broken, run_waiting_checks
from datasense_assets.assets.dlt_run import run_dlt
from datasense_assets.assets.marking import mark_filled
from datasense_assets.assets.metadata import load_metadata
from datasense_assets.assets.putting_off import come_back_to_silent, holds_in_vain, put_off_source
from datasense_assets.assets.reading_mode import Mode, Reading
from datasense_assets.catalog.models import Organization, Source
from datasense_assets.connectors.errors import SourceError, Throttled
from datasense_assets.running import tags as t
from datasense_assets.running.failures import LEASE_RETRY, as_dagster, as_source_error
from datasense_assets.running.graph_index import table_key
from datasense_assets.running.metering import Meter
from datasense_assets.running.owners import catalog_engine
from datasense_assets.running.partitions import source_partitions
from datasense_assets.settings import get_settings

if TYPE_CHECKING:
    from datasense_assets.connectors.base import Connector
    from datasense_assets.ingest.load import Sync
    from datasense_assets.ingest.report import TableReport
    from datasense_assets.warehouse.organizations import WarehouseTarget

_SAY_AFTER_SECONDS = 5.0


def load_source(context: dg.AssetExecutionContext, org: Organization, source: Source) -> Iterator[Any]:
    """Load the selected tables of a source and yield a materialization for each.

    A table that fails does not stop its siblings: they are materialized, the op fails naming those that did not, and a
    retry takes only those.

    Raises:
        dagster.RetryRequested: something failed that may pass, or another run holds the source.
        dagster.Failure: a person must mend something; the message says what.
    """
    reading = reading_of(context, org, source)
    meter = Meter.of_run(context, "source", source.slug)
    time_limit = TimeLimit.of_run(context, meter.started_at, source)
    started = datetime.now(UTC)
    failures: list[tuple[str, SourceError]] = []
    with _lease(context, source) as lease:
        context.log.info(f"{org.slug}/{source.slug}: {reading.mode} load, partitions {reading.first} to {reading.last}")
        try:
            yield from _load_tables(context, org, source, reading, lease.fence, failures, time_limit, meter)
        except Exception as error:
            _record(context, source, reading, started, [DefectInLoad(type(error).__name__)], meter, org.id)
            raise
        _record(context, source, reading, started, [error for _, error in failures], meter, org.id)
    if failures:
        attempt = context.op_execution_context.retry_number
        until = put_off_source(context, source, failures, reading)
        if until is None:
            until = come_back_to_silent(context, source, failures, reading, meter)
        # the next night comes by itself, and the others of this one wait for the place
        once = t.ONCE in context.run.tags or (t.REREAD in context.run.tags and holds_in_vain(context, failures, meter))
        raise as_dagster(failures, attempt, once=once, put_off_until=until) from failures[0][1]
    wanted = wanted_resources(context, org, source)
    refuse_broken(table for table in source.tables if table.resource in wanted)


class DefectInLoad(SourceError):
    """Something that is no failure of the world stopped a load; the run's log has all of it."""

    kind = "defect"

    def __init__(self, name: str) -> None:
        super().__init__(
            f"An unexpected error ({name}) stopped the load.", advice="See the run's log, and report it as a defect."
        )


def _record(
    context: dg.AssetExecutionContext,
    source: Source,
    reading: Reading,
    started: datetime,
    failures: list[SourceError],
    meter: Meter,
    org_id: int,
) -> None:
    """Write into the catalog how the run over the source ended, and what it cost; a backfill says nothing of how
    fresh a source is.

    One form that is gone must not stop the others: only where no table at all was loaded is a failure permanent.
    """
    from datasense_assets.catalog.state import (
        FailureRecord,
        record_cost,
        record_reread,
        record_source_result,
        tables_loaded_by,
    )

    run_id, record = context.run.run_id, None
    with catalog_engine().begin() as connection:
        record_cost(connection, org_id, meter.total(succeeded=not failures))
        if t.REREAD in context.run.tags and not failures:
            record_reread(connection, source.id)
        if reading.mode in (Mode.BACKFILL, Mode.REREAD):
            return
        first = failures[0] if failures else None
        if first is not None:
            hopeless = all(failure.permanent for failure in failures)
            nothing_loaded = hopeless and not tables_loaded_by(connection, source.id, run_id)
            record = FailureRecord(first.kind, first.message, first.advice, permanent=nothing_loaded)
        counted = not isinstance(first, Throttled)
        record_source_result(connection, source.id, run_id=run_id, started_at=started, failure=record, counted=counted)


def _lease(context: dg.AssetExecutionContext, source: Source) -> Any:
    """The right to write this source, for as long as the op runs.

    Raises:
        dagster.RetryRequested: another run holds it; this one waits its turn outside of any slot of the database.
    """
    from datasense_assets.warehouse.database import borrowed
    from datasense_assets.warehouse.leases import acquire

    catalog = catalog_engine()
    attempt = f"{context.run.run_id}/{context.op_execution_context.retry_number}"
    lease = acquire(lambda: borrowed(catalog), source.id, attempt)
    if lease is None:
        context.log.warning(f"source {source.slug} is being loaded by another run; trying again")
        raise dg.RetryRequested(max_retries=LEASE_RETRY.times, seconds_to_wait=LEASE_RETRY.wait)
    return lease


def _load_tables(
    context: dg.AssetExecutionContext,
    org: Organization,
    source: Source,
    reading: Reading,
    fence: int,
    failures: list[tuple[str, SourceError]],
    time_limit: TimeLimit,
    meter: Meter,
) -> Iterator[Any]:
    """Load one top table after the other, each with its repeat groups; failures are collected and not raised."""
    from datasense_assets.ingest.load import open_sync
    from datasense_assets.ingest.opening import open_source
    from datasense_assets.ingest.report import SyncPlan
    from datasense_assets.warehouse.organizations import prepare_organization

    settings = get_settings()
    plan = SyncPlan(
        org=org,
        source=source,
        run_id=context.run.run_id,
        window=window_of(org, source, reading),
        full=reading.mode is Mode.FULL,
        changed_since=changed_since(context) if reading.mode is Mode.REREAD else None,
        origin=context.run.tags.get(t.ROOT_RUN, context.run.run_id),
    )
    tables = tables_to_load(context, org, source)

    said_at = time.monotonic()

    def progress(table: str, rows: int) -> None:
        nonlocal said_at
        # a line of the log is a row of Dagster's, and a page may take less time than that
        if time.monotonic() - said_at > _SAY_AFTER_SECONDS:
            said_at = time.monotonic()
            context.log.debug(f"{table}: {rows} rows read")
        time_limit.check()

    with ExitStack() as stack:
        try:
            refuse_heavy_without_room(source, reading, settings)
            with meter.trying():
                with catalog_engine().connect() as connection:
                    connector: Connector = open_source(connection, org, source, settings)
                stack.callback(connector.close)
                meter.stats = connector.stats
                target = prepare_organization(catalog_engine(), settings, org)
                sync: Sync = stack.enter_context(
                    open_sync(
                        plan,
                        connector=connector,
                        target=target,
                        catalog=catalog_engine(),
                        scratch=settings.scratch_path,
                        fence=fence,
                        progress=progress,
                    )
                )
        except Exception as error:  # noqa: BLE001 - raised again unless it is the world's
            _collect(failures, source.slug, error)
            return
        for table in tables:
            try:
                with meter.trying():
                    time_limit.check()
                    prepared = sync.prepare(table)
                    time_limit.check()
                    run_dlt(context, org, source, prepared)
                    reports = sync.finish(prepared)
            except Exception as error:  # noqa: BLE001 - raised again unless it is the world's
                _collect(failures, table.slug, error)
                continue
            meter.add(reports)
            yield from _events(context, org, source, reading, reports, target, failures, meter)
        try:
            run_waiting_checks(context, org)
        except Exception as error:  # noqa: BLE001 - raised again unless it is the world's
            _collect(failures, "checks that waited for it", error)


def _collect(failures: list[tuple[str, SourceError]], table: str, error: Exception) -> None:
    """Keep a failure of the world for later; anything else is a defect and goes up as it is."""
    failure = as_source_error(error)
    if failure is None:
        raise error
    failures.append((table, failure))


def _events(
    context: dg.AssetExecutionContext,
    org: Organization,
    source: Source,
    reading: Reading,
    reports: list[TableReport],
    target: WarehouseTarget,
    failures: list[tuple[str, SourceError]],
    meter: Meter,
) -> Iterator[Any]:
    """A materialization for each table; those outside the selection, and partitions outside the run, are marked."""
    asked = set(context.partition_keys) if context.has_partition_key or context.has_partition_key_range else set()
    for report in reports:
        key = dg.AssetKey(list(table_key(org.slug, source.slug, report.slug)))
        metadata = load_metadata(report)
        checked: list[dg.AssetCheckResult] = []
        try:
            outcome = check_loaded_table(context, target, org, source, report)
            checked = check_results(key, outcome, context.selected_asset_check_keys)
        except Exception as error:  # noqa: BLE001 - raised again unless it is the world's
            _collect(failures, f"{report.slug} (checks)", error)
        metadata |= meter.lap()
        context.log.info(f"{report.warehouse_table}: {report.rows_loaded} rows loaded, {report.row_count} in the table")
        filled = _filled(org, source, reading, report)
        missed = sorted(filled - asked if key in context.selected_asset_keys else filled)
        mark_filled(context, key, missed, metadata)
        if key in context.selected_asset_keys:
            yield dg.MaterializeResult(
                asset_key=key,
                metadata=metadata,
                data_version=dg.DataVersion(str(report.data_version)),
                check_results=checked,
            )


def _filled(org: Organization, source: Source, reading: Reading, report: TableReport) -> set[str]:
    """Partition keys that a load has filled: what was asked for, or from the cursor's day to the running one."""
    keys = source_partitions(org, source).get_partition_keys()
    if reading.mode is Mode.BACKFILL:
        return {key for key in keys if reading.first <= key <= reading.last}
    first = report.first_partition
    return {key for key in keys if (first is None or key >= first) and key <= report.last_partition}
