"""What the load benchmarks share: each contender in a process of its own, against a database of its own.

CPU seconds and peak memory are the client's, Postgres apart; the processes that make up the input are not counted.
"""

from __future__ import annotations

import importlib.abc
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from pydantic import SecretStr

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


Load = Callable[[int], AbstractContextManager[Callable[[], object]]]
"""From how many rows to what loads them; what it needs is made before, and thrown away after, uncounted."""


def at_once(load: Callable[[int], object]) -> Load:
    """A contender that needs nothing made before."""

    @contextmanager
    def ready(rows: int) -> Iterator[Callable[[], object]]:
        yield lambda: load(rows)

    return ready


class _Hidden(importlib.abc.MetaPathFinder):
    def __init__(self, names: Sequence[str]) -> None:
        self._names = names

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> None:
        """Refuse them."""
        del path, target
        if fullname.partition(".")[0] in self._names:
            raise ModuleNotFoundError(fullname)


def without(*modules: str) -> None:
    """As if they were not installed: what tests and other contenders need, pyarrow imports wherever it is."""
    sys.meta_path.insert(0, _Hidden(modules))


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


def run_here(name: str, rows: int, load: Load, whose: int = resource.RUSAGE_SELF) -> None:
    """Run one contender here, over a few rows and then in earnest; print what that took as one line of JSON.

    `whose`: RUSAGE_CHILDREN for a contender that is a program of its own.
    """
    with fresh_database(os.environ["BENCH_DATABASE_URL"]) as elsewhere:
        url, os.environ["BENCH_DATABASE_URL"] = os.environ["BENCH_DATABASE_URL"], elsewhere
        with load(WARM_ROWS) as run:
            run()
        os.environ["BENCH_DATABASE_URL"] = url
    with load(rows) as run:
        base = _peak_mb(whose)
        started, before = time.perf_counter(), _cpu(whose)
        run()
    taken = Measured(name, rows, _cpu(whose) - before, time.perf_counter() - started, _peak_mb(whose), base)
    print(json.dumps(asdict(taken)), flush=True)


def run_apart(script: str, name: str, rows: int) -> Measured | str:
    """Run one contender as `script --only NAME` in a process and database of its own; what went wrong, else."""
    with fresh_database(server_url()) as url:
        done = subprocess.run(
            [sys.executable, script, "--only", name, "--rows", str(rows)],
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


def _cpu(whose: int) -> float:
    own = resource.getrusage(whose)
    return own.ru_utime + own.ru_stime


def _peak_mb(whose: int) -> float:
    return resource.getrusage(whose).ru_maxrss / 1024


def syncing(url: str, source: dict[str, Any], small: dict[str, Any]) -> Callable[[], int]:
    """A sync of the source's one table by this platform, in a process that has synced `small` before."""
    _ready(url, small)()
    return _ready(url, source)


def _ready(url: str, source: dict[str, Any]) -> Callable[[], int]:
    from datasense_assets.catalog.apply import apply_manifest
    from datasense_assets.catalog.manifest import parse_manifest
    from datasense_assets.catalog.migrate import migrate
    from datasense_assets.catalog.snapshot import read_snapshot
    from datasense_assets.ingest.load import open_sync
    from datasense_assets.ingest.opening import open_source
    from datasense_assets.ingest.report import SyncPlan
    from datasense_assets.warehouse.database import engine
    from datasense_assets.warehouse.organizations import prepare_organization

    home = Path(tempfile.mkdtemp(prefix="bench-"))
    from datasense_assets.settings import Settings

    settings = Settings(home=home, database_url=SecretStr(url), secret_key=None, allow_private_addresses=True)
    catalog = engine(url)
    migrate(catalog)
    slug = f"bench-{uuid.uuid4().hex[:8]}"
    import yaml

    manifest = {"version": 1, "organization": {"slug": slug, "name": slug}, "sources": [source]}
    with catalog.begin() as connection:
        apply_manifest(connection, parse_manifest(yaml.safe_dump(manifest), home / "manifest.yaml"))
    with catalog.connect() as connection:
        (org,) = (each for each in read_snapshot(connection).organizations if each.slug == slug)
    (found,) = org.sources

    target = prepare_organization(catalog, settings, org)

    def sync() -> int:
        with catalog.connect() as connection:
            connector = open_source(connection, org, found, settings)
        plan = SyncPlan(org=org, source=found, run_id="bench")
        opened = open_sync(
            plan, connector=connector, target=target, catalog=catalog, scratch=settings.scratch_path, fence=1
        )
        with opened as sync:
            prepared = sync.prepare(found.tables[0])
            prepared.run()
            reports = sync.finish(prepared)
        connector.close()
        return reports[0].row_count

    return sync


def forget_roles(url: str) -> None:
    """Drop the roles that `syncing` made."""
    with psycopg.connect(url, autocommit=True) as connection:
        roles = [row[0] for row in connection.execute("SELECT role_name FROM datasense.org_roles").fetchall()]
        for role in [*roles, *(f"read_{role}" for role in roles)]:
            if connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (role,)).fetchone():
                connection.execute(sql.SQL("DROP OWNED BY {} CASCADE").format(sql.Identifier(role)))
                connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))
