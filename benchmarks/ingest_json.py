"""Pages of JSON records into Postgres: ours beside raw COPY, raw ADBC, dlt by dicts and pandas, in one run.

    python benchmarks/ingest_json.py [--rows 1000000] [--json] [--only NAME] [--small]

Records have 20 fields, as a KoboToolbox page of 1,000 has them; another process makes them up and is not counted. Slow
contenders are measured on a tenth of the rows or less: compare rates. Each runs in its own process and database.
`ingestr`, which reads no such pages from a stream, is in `ingest_csv.py`.
`--small`: what one sync of 100 new rows takes in a warm process, beside the same by hand: one COPY, one upsert, one
commit. DATASENSE_DATABASE_URL says which server.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit
from uuid import UUID

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from measuring import (
    Load,
    Measured,
    as_json,
    at_once,
    fresh_database,
    print_table,
    run_apart,
    run_here,
    server_url,
    without,
)

PAGE = 1000
FIELDS = 20
OURS = "datasense"
SHARE = {OURS: 1.0, "raw COPY": 1.0, "raw ADBC": 1.0, "dlt dicts": 0.05, "pandas to_sql": 0.1}


def record(number: int) -> dict[str, Any]:
    """One submission of 20 fields: numbers, dates, choices, short and long texts, an empty one."""
    at = datetime(2020, 1, 1, tzinfo=UTC) + timedelta(seconds=number)
    return {
        "_id": number,
        "_uuid": str(UUID(int=number)),
        "_submission_time": at.strftime("%Y-%m-%dT%H:%M:%S"),
        "household/head": f"Person {number % 9973}",
        "household/members": str(number % 12),
        "household/village": f"Village {number % 640}",
        "household/district": ("Ajmer", "Bundi", "Kota", "Tonk")[number % 4],
        "visit_date": at.date().isoformat(),
        "age": str(18 + number % 70),
        "weight": f"{40 + number % 500 / 10:.1f}",
        "height": f"{140 + number % 400 / 10:.1f}",
        "temperature": f"{36 + number % 30 / 10:.1f}",
        "pregnant": ("yes", "no")[number % 2],
        "symptoms": "fever cough" if number % 3 else "none",
        "phone": f"+9198{number % 10**8:08d}",
        "code": f"{number % 10000:05d}",
        "notes": "as told by the neighbours" * (number % 3),
        "latitude": f"{26 + number % 1000 / 1000:.6f}",
        "longitude": f"{74 + number % 1000 / 1000:.6f}",
        "follow_up": None,
    }


def produce(rows: int) -> None:
    """Print the pages, one a line."""
    out = sys.stdout.buffer
    for start in range(0, rows, PAGE):
        page = {"results": [record(n + 1) for n in range(start, min(rows, start + PAGE))]}
        out.write(json.dumps(page).encode() + b"\n")


def pages(rows: int, decode: Callable[[bytes], Any] = json.loads) -> Iterator[list[dict[str, Any]]]:
    """The records of each page, parsed here as any client must."""
    maker = subprocess.Popen([sys.executable, __file__, "--produce", "--rows", str(rows)], stdout=subprocess.PIPE)
    assert maker.stdout is not None
    for line in maker.stdout:
        yield decode(line)["results"]
    maker.wait()


@contextmanager
def load_datasense(rows: int) -> Iterator[Callable[[], None]]:
    """A first live load through the loader, with Kobo's own flattening of its pages."""
    without("pandas", "numpy")  # not among what the platform needs
    with World() as world:
        yield lambda: world.sync(rows)
        assert world.count() == rows


class World:
    """A catalog with one organisation and one source, and the loader."""

    def __enter__(self) -> World:
        from datasense_assets.catalog.migrate import migrate
        from datasense_assets.settings import Settings
        from datasense_assets.warehouse.database import engine

        self.url = os.environ["BENCH_DATABASE_URL"]
        self.folder = tempfile.TemporaryDirectory()
        self.settings = Settings(home=Path(self.folder.name), database_url=self.url)
        self.catalog = engine(self.url)
        migrate(self.catalog)
        self._add_rows()
        self.fence = 0
        return self

    def __exit__(self, *_: object) -> None:
        from datasense_assets.catalog.models import Organization
        from datasense_assets.warehouse.organizations import prepare_organization

        role = prepare_organization(self.catalog, self.settings, Organization(id=1, slug="bench", name="b")).user
        self.catalog.dispose()
        self.folder.cleanup()
        import psycopg

        with psycopg.connect(self.url, autocommit=True) as connection:
            for name in (role, f"read_{role}"):
                connection.execute(f'DROP OWNED BY "{name}" CASCADE; DROP ROLE "{name}"')

    def _add_rows(self) -> None:
        import sqlalchemy as sa

        with self.catalog.begin() as connection:
            for statement in (
                "INSERT INTO datasense.organizations (slug, name, timezone) VALUES ('bench', 'b', 'UTC')",
                "INSERT INTO datasense.sources (org_id, slug, connector, discover_all) VALUES (1, 's', 'kobo', false)",
                "INSERT INTO datasense.source_tables (source_id, org_id, slug, resource, position, types) "
                "VALUES (1, 1, 'visits', 'visits', 0, '{}')",
            ):
                connection.execute(sa.text(statement))

    def sync(self, rows: int) -> None:
        """One live sync of a source that has that many rows."""
        from datasense_assets.catalog.models import Organization, Source
        from datasense_assets.catalog.state import read_tables
        from datasense_assets.ingest.load import SyncPlan, open_sync
        from datasense_assets.warehouse.organizations import prepare_organization

        org = Organization(id=1, slug="bench", name="b", timezone="UTC")
        source = Source(id=1, slug="s", connector="kobo", created_on=date(2026, 1, 1))
        self.fence += 1
        with open_sync(
            SyncPlan(org, source, f"run-{self.fence}"),
            connector=JsonPages(rows),
            target=prepare_organization(self.catalog, self.settings, org),
            catalog=self.catalog,
            scratch=self.settings.scratch_path,
            fence=self.fence,
        ) as sync:
            with self.catalog.connect() as connection:
                table = read_tables(connection, 1)[0]
            prepared = sync.prepare(table)
            prepared.run()
            sync.finish(prepared)

    def count(self) -> int:
        """Rows in the table."""
        import psycopg

        with psycopg.connect(self.url) as connection:
            row = connection.execute("SELECT count(*) FROM org_bench.s__visits").fetchone()
        return int(row[0]) if row else 0


class JsonPages:
    """The KoboToolbox connector without its HTTP client: pages of JSON to pages of text columns."""

    kind: ClassVar[str] = "kobo"
    has_history: ClassVar[bool] = True

    def __init__(self, rows: int) -> None:
        from datasense_assets.connectors.base import ReadStats

        self.stats, self.rows = ReadStats(), rows

    def _form(self) -> Any:
        from datasense_assets.connectors.kobo_form import form_tables

        return form_tables({"uid": "visits", "name": "Visits", "content": {"survey": [], "choices": []}})

    def describe(self, resource: str) -> list[Any]:
        """The table, whose columns the data shows."""
        return list(self._form().infos(self.rows, None))

    def read(self, request: Any) -> Iterator[Any]:
        """The pages, as Kobo's are flattened."""
        from datasense_assets.connectors.base import Page
        from datasense_assets.connectors.json_text import decode
        from datasense_assets.connectors.kobo_rows import Flattener

        flattener = Flattener(self._form())
        for results in pages(self.rows, decode):
            self.stats.api_calls += 1
            for path, data in flattener.flatten(results):
                yield Page(path, data, results[-1]["_submission_time"], resume=str(results[-1]["_id"]))

    def fingerprint(self, resource: str, previous: str | None) -> str | None:
        """Not told: the cursor does."""
        return None

    def count(self, resource: str) -> int | None:
        """Not told."""
        return None

    def row_ids(self, resource: str) -> Iterator[list[str]]:
        """Not told."""
        yield from ()

    def close(self) -> None:
        """Nothing is open."""


def _column_list() -> str:
    return ", ".join(f'"{name}"' for name in record(0))


def _create(connection: Any) -> None:
    connection.execute(f"CREATE TABLE target ({_typed(record(0))})")


def load_copy(rows: int) -> None:
    """JSON to one COPY of rows as text, untyped: the floor of what Python needs for it."""
    import psycopg

    with psycopg.connect(os.environ["BENCH_DATABASE_URL"]) as connection:
        _create(connection)
        names = list(record(0))
        with connection.cursor().copy(f"COPY target ({_column_list()}) FROM STDIN") as copy:
            for results in pages(rows):
                for each in results:
                    copy.write_row([each[name] for name in names])


def load_adbc(rows: int) -> None:
    """JSON to Arrow to ADBC, untyped."""
    import pyarrow as pa
    from adbc_driver_postgresql import dbapi

    schema = pa.schema([(name, pa.int64() if name == "_id" else pa.string()) for name in record(0)])

    def batches() -> Iterator[pa.RecordBatch]:
        for results in pages(rows):
            yield pa.RecordBatch.from_pylist(results, schema=schema)

    with dbapi.connect(os.environ["BENCH_DATABASE_URL"]) as connection, connection.cursor() as cursor:
        cursor.adbc_ingest("target", pa.RecordBatchReader.from_batches(schema, batches()), mode="create")
        connection.commit()


def _with_password(url: str) -> str:
    """Dlt wants a password even where the server asks for none."""
    parts = urlsplit(url)
    return url if parts.password else url.replace(f"{parts.username}@", f"{parts.username}:none@", 1)


def load_dlt(rows: int) -> None:
    """As the documentation of dlt shows it: dicts, merged by key."""
    import dlt

    os.environ["RUNTIME__DLTHUB_TELEMETRY"] = "false"
    with tempfile.TemporaryDirectory() as folder:
        pipeline = dlt.pipeline(
            "bench",
            pipelines_dir=folder,
            destination=dlt.destinations.postgres(_with_password(os.environ["BENCH_DATABASE_URL"])),
            dataset_name="bench",
        )
        resource = dlt.resource(
            pages(rows),
            name="visits",
            primary_key="_id",
            write_disposition={"disposition": "merge", "strategy": "upsert"},
        )
        pipeline.run(resource)


def load_pandas(rows: int) -> None:
    """`DataFrame.to_sql` a page, as it is by default."""
    import pandas as pd
    import sqlalchemy as sa

    engine = sa.create_engine(os.environ["BENCH_DATABASE_URL"].replace("postgresql://", "postgresql+psycopg://"))
    with engine.begin() as connection:
        for results in pages(rows):
            pd.DataFrame(results).to_sql("target", connection, if_exists="append", index=False)


LOADS: dict[str, Load] = {
    OURS: load_datasense,
    "raw COPY": at_once(load_copy),
    "raw ADBC": at_once(load_adbc),
    "dlt dicts": at_once(load_dlt),
    "pandas to_sql": at_once(load_pandas),
}


def small(repeats: int) -> dict[str, float]:
    """CPU seconds and connections of one sync of 100 new rows in a warm process, median."""
    import resource
    import statistics
    import time

    import psycopg

    with World() as world, psycopg.connect(world.url, autocommit=True) as watch, psycopg.connect(world.url) as hand:
        world.sync(100)
        hand.execute(f"CREATE TABLE by_hand ({_typed(record(0))}, PRIMARY KEY (_id))")
        taken, opened, by_hand = [], [], []
        for number in range(repeats):
            rows = 200 + 100 * number
            before, sessions = time.process_time(), _sessions(watch)
            world.sync(rows)
            taken.append(time.process_time() - before)
            opened.append(_sessions(watch) - sessions)
            before = time.process_time()
            _upsert_by_hand(hand, [record(n + 1) for n in range(rows - 100, rows)])
            by_hand.append(time.process_time() - before)
    return {
        "cpu_s": statistics.median(taken),
        "by_hand_cpu_s": statistics.median(by_hand),
        "sessions": statistics.median(opened),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def _typed(row: dict[str, Any]) -> str:
    return ", ".join(f'"{name}" {"bigint" if name == "_id" else "text"}' for name in row)


def _upsert_by_hand(connection: Any, rows: list[dict[str, Any]]) -> None:
    """The floor of a small sync: a stage that goes with the transaction, one COPY, one upsert, one commit."""
    connection.execute("CREATE TEMPORARY TABLE stage (LIKE by_hand) ON COMMIT DROP")
    with connection.cursor().copy(f"COPY stage ({_column_list()}) FROM STDIN") as copy:
        for row in rows:
            copy.write_row(list(row.values()))
    new = ", ".join(f'"{name}" = EXCLUDED."{name}"' for name in record(0) if name != "_id")
    connection.execute(f"INSERT INTO by_hand SELECT * FROM stage ON CONFLICT (_id) DO UPDATE SET {new}")
    connection.commit()


def _sessions(connection: Any) -> int:
    connection.execute("SELECT pg_stat_clear_snapshot()")
    query = "SELECT sessions FROM pg_stat_database WHERE datname = current_database()"
    return int(connection.execute(query).fetchone()[0])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--only")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--produce", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--small", action="store_true")
    asked = parser.parse_args()
    if asked.produce:
        return produce(asked.rows)
    if asked.only:
        return run_here(asked.only, asked.rows, LOADS[asked.only])
    if asked.small:
        with fresh_database(server_url()) as url:
            os.environ["BENCH_DATABASE_URL"] = url
            print(json.dumps(small(5), indent=1))
        return None
    results, notes = [], {}
    for name in LOADS:
        rows = max(PAGE, int(asked.rows * SHARE[name]))
        taken = run_apart(__file__, name, rows)
        if isinstance(taken, Measured):
            results.append(taken)
        else:
            notes[name] = taken
    if asked.json:
        print(json.dumps(as_json(results, notes), indent=1))
    else:
        print_table(results, OURS, notes)
    return None


if __name__ == "__main__":
    main()
