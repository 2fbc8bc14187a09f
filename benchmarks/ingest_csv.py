"""A CSV of 500,000 rows and 20 columns into Postgres, side by side: rows for each CPU second of the client.

    python benchmarks/ingest_csv.py [--rows 500000] [--ingestr PATH]

Ours finds encoding, delimiter and types, keeps names and comments, and merges exactly, in a process that has synced
before; COPY and ADBC are given a table or guess types, and check nothing. pandas and plain dlt take minutes for the
whole file, so they get a short one. It makes and drops databases on the server of DATASENSE_DATABASE_URL.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from measuring import Load, Measured, at_once, forget_roles, print_table, run_apart, run_here, syncing, without

COLUMNS = (
    *(("id", "bigint"), ("code", "text"), ("village", "text"), ("visited", "date"), ("at", "timestamptz")),
    *(("ok", "boolean"), ("note", "text"), ("lat", "double precision"), ("lon", "double precision")),
    *((f"n{i}", "bigint") for i in range(6)),
    *((f"x{i}", "double precision") for i in range(5)),
)
OURS = "datasense"


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


@contextmanager
def ours(rows: int) -> Iterator[Callable[[], int]]:
    """The platform's own way, in a process that has synced a small file before."""
    without("pandas", "numpy")  # not among what the platform needs
    url, path = _url(), _path(rows)

    def source(file: Path) -> dict[str, Any]:
        table = {"slug": "visits", "resource": path.name}
        return {"slug": "visits", "connector": "csv", "config": {"url": str(file)}, "tables": [table]}

    with tempfile.TemporaryDirectory() as folder:
        small = Path(folder) / path.name
        write_csv(small, 10)
        try:
            yield syncing(url, source(path), source(small))
        finally:
            forget_roles(url)


def _url() -> str:
    return os.environ["BENCH_DATABASE_URL"]


def _path(rows: int) -> Path:
    """The file of so many rows, made where it is not there."""
    path = Path(os.environ["BENCH_FOLDER"]) / f"visits-{rows}.csv"
    if not path.exists():
        write_csv(path, rows)
    return path


def raw_copy(rows: int) -> int:
    """COPY FROM STDIN into a table that is there, in pieces of a megabyte."""
    import psycopg

    columns = ", ".join(f"{name} {kind}" for name, kind in COLUMNS)
    with psycopg.connect(_url()) as connection, _path(rows).open("rb") as file:
        connection.execute(f"CREATE TABLE raw_copy ({columns})")
        cursor = connection.cursor()
        with cursor.copy("COPY raw_copy FROM STDIN (FORMAT csv, HEADER)") as copy:
            while chunk := file.read(1 << 20):
                copy.write(chunk)
        return cursor.rowcount


def adbc(rows: int) -> int:
    """Arrow's CSV reader, which guesses types, and ADBC's ingestion."""
    import pyarrow.csv as pacsv
    from adbc_driver_postgresql import dbapi

    with dbapi.connect(_url()) as connection:
        reader = pacsv.open_csv(_path(rows), read_options=pacsv.ReadOptions(use_threads=False))
        loaded = connection.cursor().adbc_ingest("adbc", reader, mode="create")
        connection.commit()
        return loaded


def pandas_to_sql(rows: int) -> None:
    """read_csv and to_sql, as in its manual."""
    import pandas as pd
    import sqlalchemy as sa

    frame = pd.read_csv(_path(rows))
    engine = sa.create_engine(_url().replace("postgresql://", "postgresql+psycopg://"))
    frame.to_sql("pandas", engine, index=False, chunksize=1000, method="multi")


def plain_dlt(rows: int) -> None:
    """Dicts of the standard library's reader through dlt's own pipeline."""
    import csv

    import dlt
    import psycopg.conninfo

    def read() -> Any:
        with _path(rows).open(newline="") as file:
            yield from csv.DictReader(file)

    folder = tempfile.mkdtemp(prefix="bench-dlt-")
    parts = {
        "user": "postgres",
        "password": "none",
        **psycopg.conninfo.conninfo_to_dict(_url()),
    }  # dlt wants a password
    credentials = "postgresql://{user}:{password}@{host}:{port}/{dbname}".format(**parts)
    destination = dlt.destinations.postgres(credentials=credentials)
    pipeline = dlt.pipeline("bench", pipelines_dir=folder, destination=destination, dataset_name="plain_dlt")
    pipeline.run(read(), table_name="visits", write_disposition="replace")


def ingestr(rows: int) -> None:
    """Its command line, which guesses types and replaces the table; a program of its own."""
    path = _path(rows)
    source = ["--source-uri", f"csv://{path}", "--source-table", "visits"]
    target = ["--dest-uri", _url(), "--dest-table", "public.visits"]
    subprocess.run(
        [os.environ["BENCH_INGESTR"], "ingest", *source, *target, "--yes", "--progress", "log"],
        env={**os.environ, "DISABLE_TELEMETRY": "true", "HOME": os.environ["BENCH_FOLDER"]},
        check=True,
        stdout=subprocess.DEVNULL,
    )
    import psycopg

    with psycopg.connect(_url()) as connection:
        row = connection.execute("SELECT count(*) FROM public.visits").fetchone()
    if row != (rows,):
        raise SystemExit(f"ingestr loaded {row} of {rows} rows")


LOADS: dict[str, Load] = {
    OURS: ours,
    "raw COPY": at_once(raw_copy),
    "ADBC": at_once(adbc),
    "pandas to_sql": at_once(pandas_to_sql),
    "plain dlt": at_once(plain_dlt),
    "ingestr": at_once(ingestr),
}
FEW = {"pandas to_sql": 20_000, "plain dlt": 20_000}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--only", help=argparse.SUPPRESS)  # how it starts itself, a process a contender
    parser.add_argument("--ingestr", default=shutil.which("ingestr"), help="Where that program is.")
    asked = parser.parse_args()
    if asked.only:
        whose = resource.RUSAGE_CHILDREN if asked.only == "ingestr" else resource.RUSAGE_SELF
        return run_here(asked.only, asked.rows, LOADS[asked.only], whose)
    results, notes = [], {}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["BENCH_FOLDER"] = folder
        os.environ["BENCH_INGESTR"] = asked.ingestr or ""
        for name in LOADS:
            if name == "ingestr" and not asked.ingestr:
                notes[name] = "not installed; `pip install 'ingestr<1'` in a place of its own, and --ingestr PATH"
                continue
            taken = run_apart(__file__, name, min(asked.rows, FEW.get(name, asked.rows)))
            if isinstance(taken, Measured):
                results.append(taken)
            else:
                notes[name] = taken
    print_table(results, OURS, notes)
    return None


if __name__ == "__main__":
    main()
