"""What the benchmarks of loading share: a database for the run, an organisation in it, CPU seconds of each way."""

from __future__ import annotations

import multiprocessing
import resource
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from pydantic import SecretStr

from datasense_assets.settings import Settings, get_settings
from datasense_assets.warehouse.database import database_url


@dataclass(frozen=True)
class Cost:
    """CPU seconds of the client alone, from the first byte to the last commit; seconds gone by; most memory held."""

    rows: int
    cpu: float
    wall: float
    megabytes: float

    @property
    def per_cpu_second(self) -> float:
        """Rows."""
        return self.rows / self.cpu


@contextmanager
def fresh_database(name: str) -> Iterator[str]:
    """URL of an empty database on the server of DATASENSE_DATABASE_URL, dropped at the end."""
    server = database_url(get_settings())
    database = f"bench_{name}_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(database)))
    try:
        yield f"{server.rpartition('/')[0]}/{database}"
    finally:
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(database)))


def measured(way: Callable[..., int], *arguments: Any) -> Cost:
    """Run one way in a process of its own; what it imports is imported, and not counted, before.

    `way` returns the rows it loaded. Whatever it needs is made by `way.prepare(*arguments)`, where there is such.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(sender, way, arguments))
    process.start()
    try:
        cost = receiver.recv() if receiver.poll(600) else None
    finally:
        process.join(5)
        process.terminate()
    if not isinstance(cost, Cost):
        raise SystemExit(f"{way.__name__}: {cost}")
    return cost


def _run(sender: Any, way: Callable[..., int], arguments: tuple[Any, ...]) -> None:
    try:
        prepared = getattr(way, "prepare", lambda *_: None)(*arguments)
        started, before = time.perf_counter(), time.process_time()
        rows = way(*arguments) if prepared is None else prepared()
        cpu, wall = time.process_time() - before, time.perf_counter() - started
        sender.send(Cost(rows, cpu, wall, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))
    except Exception as error:
        sender.send(repr(error)[:500])
        raise


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
