"""Helpers of the load benchmarks: each contender in a process of its own, against a database of its own.

CPU seconds and peak memory are the client's, Postgres apart; the processes that make up the input are not counted.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import psycopg

WARM_ROWS = 1000


@dataclass(frozen=True)
class Measured:
    """What one contender took. `base_mb` is its peak after a few rows: interpreter and libraries."""

    name: str
    rows: int
    cpu_s: float
    wall_s: float
    peak_mb: float
    base_mb: float

    @property
    def rate(self) -> float:
        """Rows a CPU second of the client."""
        return self.rows / self.cpu_s if self.cpu_s else 0.0


def server_url() -> str:
    """DATASENSE_DATABASE_URL, else the embedded server of the platform."""
    given = os.environ.get("DATASENSE_DATABASE_URL")
    if given:
        return given
    from datasense_assets.settings import default_home
    from datasense_assets.warehouse.embedded import ensure_running

    return ensure_running(default_home())


@contextmanager
def fresh_database(server: str) -> Iterator[str]:
    """URL of an empty database, dropped after."""
    name = f"bench_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    try:
        yield f"{server.rpartition('/')[0]}/{name}"
    finally:
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def run_here(name: str, rows: int, load: Callable[[int], None]) -> None:
    """Run one contender here, over a few rows and then in earnest; print what that took as one line of JSON."""
    with fresh_database(os.environ["BENCH_DATABASE_URL"]) as elsewhere:
        url, os.environ["BENCH_DATABASE_URL"] = os.environ["BENCH_DATABASE_URL"], elsewhere
        load(WARM_ROWS)
        os.environ["BENCH_DATABASE_URL"] = url
    base = _peak_mb()
    started, before = time.perf_counter(), _cpu()
    load(rows)
    taken = Measured(name, rows, _cpu() - before, time.perf_counter() - started, _peak_mb(), base)
    print(json.dumps(asdict(taken)), flush=True)


def run_apart(script: str, name: str, rows: int, *, python: str = sys.executable) -> Measured | str:
    """Run one contender as `script --only NAME` in a process and database of its own; what went wrong, else."""
    with fresh_database(server_url()) as url:
        done = subprocess.run(
            [python, script, "--only", name, "--rows", str(rows)],
            env={**os.environ, "DATASENSE_DATABASE_URL": url, "BENCH_DATABASE_URL": url},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    if done.returncode != 0:
        return (done.stderr.strip().splitlines() or ["failed without a word"])[-1]
    return Measured(**json.loads(done.stdout.strip().splitlines()[-1]))


def print_table(results: Sequence[Measured], ours: str, notes: Mapping[str, str]) -> None:
    """One line a contender, with the ratio of its rate to ours."""
    own = next(each for each in results if each.name == ours)
    print(
        f"{'':34}{'rows':>11}{'CPU s':>9}{'rows/CPU s':>12}{'ours is':>9}{'peak MB':>9}{'of it base':>11}{'wall s':>9}"
    )
    for each in results:
        ratio = f"{own.rate / each.rate:.2f}x" if each.rate else "-"
        print(
            f"{each.name:34}{each.rows:>11,}{each.cpu_s:>9.2f}{each.rate:>12,.0f}{ratio:>9}"
            f"{each.peak_mb:>9.0f}{each.base_mb:>11.0f}{each.wall_s:>9.1f}"
        )
    for name, why in notes.items():
        print(f"{name:34}not measured: {why}")


def as_json(results: Sequence[Measured], notes: Mapping[str, str]) -> dict[str, Any]:
    """The same as one document."""
    measured = [{**asdict(each), "rows_per_cpu_s": round(each.rate)} for each in results]
    return {"measured": measured, "not_measured": dict(notes)}


def _cpu() -> float:
    own = resource.getrusage(resource.RUSAGE_SELF)
    return own.ru_utime + own.ru_stime


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
