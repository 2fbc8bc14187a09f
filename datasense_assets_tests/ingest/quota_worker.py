"""A worker process that reads a source again and again, as a run does each time."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

from datasense_assets.catalog.snapshot import read_snapshot
from datasense_assets.connectors.errors import SourceError
from datasense_assets.ingest.opening import open_source
from datasense_assets.running.owners import catalog_engine
from datasense_assets.settings import get_settings


def work(environment: Mapping[str, str], path: str, seconds: float, test: Any) -> None:
    """Read `ORG/SOURCE`; over the pipe it says `ready`, starts when it is told to, and sends what it had to wait and
    what failed.
    """
    os.environ.update(environment)
    get_settings.cache_clear()
    catalog_engine.cache_clear()
    slug, _, name = path.partition("/")
    with catalog_engine().connect() as connection:
        org = next(o for o in read_snapshot(connection).organizations if o.slug == slug)
        source = next(s for s in org.sources if s.slug == name)
        open_source(connection, org, source, get_settings()).close()
    test.send("ready")
    test.recv()
    until = time.monotonic() + seconds
    calls, waited, failures = 0, 0.0, []
    while time.monotonic() < until:
        with catalog_engine().connect() as connection:
            connector = open_source(connection, org, source, get_settings())
        started = time.monotonic()
        try:
            for table in source.tables:
                connector.describe(table.resource)
        except SourceError as error:
            failures.append((type(error).__name__, error.retry_after, time.monotonic() - started))
            break
        finally:
            connector.close()
            calls += connector.stats.api_calls
            waited += connector.stats.throttled_seconds
    test.send({"calls": calls, "waited": waited, "failures": failures})
