"""What the op of a source does whose tables are not known yet: it finds them and writes them to the catalog."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from datasense_assets.assets.putting_off import come_back_to_silent, put_off_source
from datasense_assets.catalog.models import Organization, Source, identifier
from datasense_assets.running import tags as t
from datasense_assets.running.failures import as_dagster, as_source_error
from datasense_assets.running.metering import Meter
from datasense_assets.running.owners import catalog_engine
from datasense_assets.settings import get_settings


def discover_source(context: dg.AssetExecutionContext, org: Organization, source: Source) -> Iterator[Any]:
    """Find the tables of a source and write them to the catalog; they become assets at the next reload.

    Raises:
        dagster.RetryRequested: the source did not answer, and may later.
        dagster.Failure: a person must mend something; the message says what.
    """
    from datasense_assets.catalog.state import record_cost, set_next_due
    from datasense_assets.ingest.discovery import discover_tables
    from datasense_assets.ingest.opening import open_source

    meter = Meter.of_run(context, "source", source.slug)
    try:
        with ExitStack() as stack:
            stack.enter_context(meter.trying())
            with catalog_engine().connect() as connection:
                connector = open_source(connection, org, source, get_settings())
            stack.callback(connector.close)
            meter.stats = connector.stats
            found = discover_tables(catalog_engine(), org, source, connector)
    except Exception as error:
        with catalog_engine().begin() as connection:
            record_cost(connection, org.id, meter.total(succeeded=False))
        failure = as_source_error(error)
        if failure is None:
            raise
        attempt = context.op_execution_context.retry_number
        failures = [(source.slug, failure)]
        until = put_off_source(context, source, failures)
        if until is None:
            until = come_back_to_silent(context, source, failures, None, meter)
        raise as_dagster(failures, attempt, once=t.ONCE in context.run.tags, put_off_until=until) from error
    with catalog_engine().begin() as connection:
        record_cost(connection, org.id, meter.total(succeeded=True))
        if found and source.schedule != "manual":
            set_next_due(connection, source.id, datetime.now(UTC))
    names = "\n".join(f"- `{identifier(table.slug)}` {table.title or ''}" for table in found)
    yield dg.MaterializeResult(metadata={"tables": len(found), "found": dg.MetadataValue.md(names or "none")})
