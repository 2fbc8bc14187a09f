"""A worker process that reads a source again and again, as a run does each time: `quota_worker.py ORG/SOURCE SECONDS`.

Says `ready` when everything is imported, starts when it gets a line, and prints what it had to wait and what failed.
"""

from __future__ import annotations

import json
import sys
import time

from datasense_assets.catalog.snapshot import read_snapshot
from datasense_assets.connectors.errors import SourceError
from datasense_assets.ingest.opening import open_source
from datasense_assets.running.owners import catalog_engine
from datasense_assets.settings import get_settings


def main(path: str, seconds: float) -> None:
    slug, _, name = path.partition("/")
    with catalog_engine().connect() as connection:
        org = next(o for o in read_snapshot(connection).organizations if o.slug == slug)
        source = next(s for s in org.sources if s.slug == name)
        open_source(connection, org, source, get_settings()).close()
    print("ready", flush=True)  # noqa: T201  the test reads it
    sys.stdin.readline()
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
            failures.append([type(error).__name__, error.retry_after, time.monotonic() - started])
            break
        finally:
            connector.close()
            calls += connector.stats.api_calls
            waited += connector.stats.throttled_seconds
    print(json.dumps({"calls": calls, "waited": waited, "failures": failures}))  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
