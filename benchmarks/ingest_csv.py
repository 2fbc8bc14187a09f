"""A CSV of 500,000 rows and 20 columns into Postgres, side by side: rows for each CPU second of the client.

    python benchmarks/ingest_csv.py [rows]

Ours finds encoding, delimiter and types, keeps names and comments, and merges exactly, in a process that has synced
before; COPY and ADBC are given a table or guess types, and check nothing. pandas and plain dlt take minutes for the
whole file, so they get its first rows. It makes and drops a database on the server of DATASENSE_DATABASE_URL.
"""

from __future__ import annotations

import random
import sys
import tempfile
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

from loading import Cost, forget_roles, fresh_database, measured, syncing

COLUMNS = (
    *(("id", "bigint"), ("code", "text"), ("village", "text"), ("visited", "date"), ("at", "timestamptz")),
    *(("ok", "boolean"), ("note", "text"), ("lat", "double precision"), ("lon", "double precision")),
    *((f"n{i}", "bigint") for i in range(6)),
    *((f"x{i}", "double precision") for i in range(5)),
)
FEW = 20_000


def write_csv(path: Path, rows: int) -> None:
    """The same rows at every run."""
    rng = random.Random(7)
    villages = [f"Village {i} of the valley" for i in range(2000)]
    with path.open("w", encoding="utf-8") as file:
        file.write(",".join(name for name, _ in COLUMNS) + "\n")
        for i in range(rows):
            day = f"2026-{i % 12 + 1:02d}-{i % 28 + 1:02d}"
            start = (
                f"{i},{i % 999:04d},{villages[i % 2000]},{day},{day}T10:{i % 60:02d}:00Z,{'true' if i % 3 else 'false'}"
            )
            middle = f',"said ""{i % 50}"", twice",{rng.uniform(8, 30):.5f},{rng.uniform(70, 90):.5f}'
            numbers = ",".join(str(rng.randrange(10_000)) for _ in range(6))
            decimals = ",".join(f"{rng.random() * 100:.2f}" for _ in range(5))
            file.write(f"{start}{middle},{numbers},{decimals}\n")


def ours(url: str, path: str) -> int:
    """The platform's own way."""
    raise NotImplementedError(url, path)  # `measured` runs what `prepare` returns


def _prepared(url: str, path: str) -> Callable[[], int]:
    def source(file: str) -> dict[str, Any]:
        table = {"slug": "visits", "resource": "visits.csv"}
        return {"slug": "visits", "connector": "csv", "config": {"url": file}, "tables": [table]}

    small = str(Path(path).with_name("small.csv"))
    write_csv(Path(small), 10)
    return syncing(url, source(path), source(small))


ours.prepare = _prepared  # type: ignore[attr-defined]


def raw_copy(url: str, path: str) -> int:
    """COPY FROM STDIN into a table that is there, in pieces of a megabyte."""
    import psycopg

    columns = ", ".join(f"{name} {kind}" for name, kind in COLUMNS)
    with psycopg.connect(url) as connection, Path(path).open("rb") as file:
        connection.execute(f"CREATE TABLE raw_copy ({columns})")
        cursor = connection.cursor()
        with cursor.copy("COPY raw_copy FROM STDIN (FORMAT csv, HEADER)") as copy:
            while chunk := file.read(1 << 20):
                copy.write(chunk)
        return cursor.rowcount


def adbc(url: str, path: str) -> int:
    """Arrow's CSV reader, which guesses types, and ADBC's ingestion."""
    import pyarrow.csv as pacsv
    from adbc_driver_postgresql import dbapi

    with dbapi.connect(url) as connection:
        reader = pacsv.open_csv(path, read_options=pacsv.ReadOptions(use_threads=False))
        rows = connection.cursor().adbc_ingest("adbc", reader, mode="create")
        connection.commit()
        return rows


def pandas_to_sql(url: str, path: str) -> int:
    """read_csv and to_sql, as in its manual."""
    import pandas as pd
    import sqlalchemy as sa

    frame = pd.read_csv(path, nrows=FEW)
    engine = sa.create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    frame.to_sql("pandas", engine, index=False, chunksize=1000, method="multi")
    return len(frame)


def plain_dlt(url: str, path: str) -> int:
    """Dicts of the standard library's reader through dlt's own pipeline."""
    import csv

    import dlt
    import psycopg.conninfo

    def rows() -> Any:
        with Path(path).open(newline="") as file:
            yield from islice(csv.DictReader(file), FEW)

    folder = tempfile.mkdtemp(prefix="bench-dlt-")
    parts = {"user": "postgres", "password": "none", **psycopg.conninfo.conninfo_to_dict(url)}  # dlt wants a password
    credentials = "postgresql://{user}:{password}@{host}:{port}/{dbname}".format(**parts)
    destination = dlt.destinations.postgres(credentials=credentials)
    pipeline = dlt.pipeline("bench", pipelines_dir=folder, destination=destination, dataset_name="plain_dlt")
    pipeline.run(rows(), table_name="visits", write_disposition="replace")
    return FEW


def main(rows: int) -> None:
    """Print a line a way."""
    with tempfile.TemporaryDirectory() as folder, fresh_database("csv") as url:
        path = Path(folder) / "visits.csv"
        write_csv(path, rows)
        print(f"{rows:,} rows of {len(COLUMNS)} columns, {path.stat().st_size / 1e6:.0f} MB")
        costs: dict[str, Cost] = {}
        try:
            for way in (ours, raw_copy, adbc, pandas_to_sql, plain_dlt):
                costs[way.__name__] = measured(way, url, str(path))
        finally:
            forget_roles(url)
    mine = costs["ours"]
    print("way             rows       CPU s   rows / CPU s   of ours   wall s   MB")
    for name, cost in costs.items():
        ratio = cost.per_cpu_second / mine.per_cpu_second
        print(
            f"{name:<14}{cost.rows:>8,}{cost.cpu:>10.2f}{cost.per_cpu_second:>15,.0f}{ratio:>9.2f}x"
            f"{cost.wall:>9.1f}{cost.megabytes:>8.0f}"
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 500_000)
