"""A whole platform for a benchmark: a PostgreSQL and a Redis of its own, `datasense up`, and slow APIs to read from.

CPU seconds are those of all its processes, the dead ones included; the stand-in of the APIs is not counted.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import psycopg

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
OLD = "now() - interval '1 second'"


def wait_until(what: str, check: Callable[[], Any], *, seconds: float = 180.0, every: float = 0.25) -> Any:
    """The first true answer."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = check()
        if found:
            return found
        time.sleep(every)
    raise SystemExit(f"not in {seconds:.0f} s: {what}")


def cpu(process: psutil.Process) -> float:
    """CPU seconds of a process, of all that it has started, and of those of them that have ended."""
    try:
        total = sum(process.cpu_times()[:4])
        return float(total + sum(cpu(child) for child in process.children()))
    except psutil.NoSuchProcess:
        return 0.0


def pss_mb(process: psutil.Process) -> float:
    """Memory of a process, what it shares with others divided among them."""
    with suppress(psutil.Error):
        return float(process.memory_full_info().pss) / 1e6
    return 0.0


@dataclass
class Running:
    """The platform while it runs."""

    home: Path
    environment: Mapping[str, str]
    url: str
    api: str
    up: psutil.Process | None = None
    port: int = 0
    _connection: psycopg.Connection | None = None

    def datasense(self, *words: str) -> str:
        """A command line."""
        done = subprocess.run(
            [str(BIN / "datasense"), *words], cwd=ROOT, env=self.environment, capture_output=True, text=True
        )
        if done.returncode != 0:
            raise SystemExit(f"datasense {' '.join(words)}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
        return done.stdout

    def sql(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """Rows of a query; none of a statement. By one connection, so that looking on costs the server little."""
        if self._connection is None or self._connection.closed:
            self._connection = psycopg.connect(self.url, autocommit=True)
        cursor = self._connection.execute(query.encode(), values or None)
        return cursor.fetchall() if cursor.description else []

    def close(self) -> None:
        """Let go of the database."""
        if self._connection is not None:
            self._connection.close()

    def postmaster(self) -> psutil.Process:
        """The database server."""
        (folder,) = self.sql("SHOW data_directory")[0]
        return psutil.Process(int((Path(folder) / "postmaster.pid").read_text().split()[0]))

    def parts(self) -> dict[str, list[psutil.Process]]:
        """Processes by what they are for."""
        assert self.up is not None
        found: dict[str, list[psutil.Process]] = {"postgres": [self.postmaster()]}
        for child in self.up.children():
            words = " ".join(child.cmdline())
            names = {"code-server": "code server", "datasense_assets.cli.main worker": "workers", "redis": "redis"}
            names |= {f"datasense_assets.cli.main {each}": each for each in ("webserver", "daemon")}
            name = next((name for mark, name in names.items() if mark in words), "other")
            found.setdefault(name, []).append(child)
        return found

    def cpu(self) -> dict[str, float]:
        """CPU seconds until now, by part."""
        return {name: sum(map(cpu, processes)) for name, processes in self.parts().items()}

    def memory(self) -> dict[str, float]:
        """Megabytes (PSS) now, by part."""
        return {
            name: sum(pss_mb(each) for root in roots for each in (root, *_descendants(root)))
            for name, roots in self.parts().items()
        }

    def fill(self, count: int, path: str, *, schedule: str = "manual", per_org: int = 50) -> None:
        """So many CSV sources, each at an address of its own; `path` is the kind of the stand-in."""
        orgs = -(-count // per_org)
        self.sql(
            "INSERT INTO datasense.organizations (slug, name) SELECT 'o' || n, 'Org ' || n "
            "FROM generate_series(0, %s) n",
            orgs - 1,
        )
        self.sql(
            """INSERT INTO datasense.sources (org_id, slug, connector, config, schedule)
            SELECT o.id, 's' || n, 'csv', json_build_object('url', %s || o.slug || '-s' || n || '.csv'), %s
            FROM datasense.organizations o, generate_series(0, %s) n
            WHERE (substr(o.slug, 2)::int * %s + n) < %s""",
            f"{self.api}/{path}/",
            f'"{schedule}"',
            per_org - 1,
            per_org,
            count,
        )
        # the same mark for every row, so that each sync is an upsert of all rows; named as the file is, else the file's
        # own name becomes a second table with the same rows
        self.sql(
            "INSERT INTO datasense.source_tables (source_id, slug, resource, key) SELECT s.id, 'rows', "
            "o.slug || '-' || s.slug || '.csv', '{id}' FROM datasense.sources s JOIN datasense.organizations o "
            "ON o.id = s.org_id"
        )
        # nothing is to be planned anew: the benchmark says what is due
        self.sql("UPDATE datasense.source_status SET replan = false")

    def make_due(self, names: list[str]) -> None:
        """Sources as `org/source`, due since just now."""
        self.sql(
            f"""UPDATE datasense.source_status SET next_due_at = {OLD} WHERE source_id IN (
            SELECT s.id FROM datasense.sources s JOIN datasense.organizations o ON o.id = s.org_id
            WHERE o.slug || '/' || s.slug = ANY (%s))""",
            names,
        )

    def ended(self) -> dict[str, int]:
        """Runs by their last status."""
        return dict(self.sql("SELECT status, count(*) FROM runs GROUP BY 1"))

    def serve(self, *, lanes: Mapping[str, int], words: tuple[str, ...] = ()) -> None:
        """Start `datasense up`; returns when the web UI answers."""
        from datasense_assets.running.topology import free_port

        self.port = free_port()
        command = [str(BIN / "datasense"), "up", "--port", str(self.port), "--grace", "2", *words]
        for lane, slots in lanes.items():
            command += ["--lane", f"{lane}={slots}"]
        log = (self.home / "up.log").open("w")
        process = subprocess.Popen(command, cwd=ROOT, env=self.environment, stdout=log, stderr=log)
        self.up = psutil.Process(process.pid)

        def answers() -> bool:
            if process.poll() is not None:
                raise SystemExit((self.home / "up.log").read_text())
            return "Up:" in (self.home / "up.log").read_text()

        wait_until("the platform is up", answers)

    def settle(self) -> None:
        """Wait until the location has taken in what first loads found: a reload is not a part of a sync."""
        query = """SELECT count(*) FROM job_ticks WHERE timestamp AT TIME ZONE 'UTC' > to_timestamp(%s)
            AND tick_body LIKE '%%the graph is that of the catalog%%'"""
        begun = time.time()
        wait_until("the graph is the catalog's", lambda: self.sql(query, begun)[0][0] > 0)

    def stop(self) -> None:
        """Stop `datasense up`."""
        if self.up is not None and self.up.is_running():
            self.up.send_signal(signal.SIGTERM)
            with suppress(psutil.TimeoutExpired):
                self.up.wait(90)


def _descendants(process: psutil.Process) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        return process.children(recursive=True)
    return []


def _without_pandas(home: Path) -> Path:
    """Pandas is here for tests, pyarrow imports it wherever it is, and no installation for use has it."""
    folder = home / "hidden"
    folder.mkdir()
    (folder / "pandas.py").write_text("raise ImportError('hidden')\n", encoding="utf-8")
    return folder


@contextmanager
def platform(**variables: str) -> Iterator[Running]:
    """An empty platform, its database running; all of it is gone at the end, also when it is told to stop."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ds-bench-", ignore_cleanup_errors=True)))
        home.chmod(0o755)
        stand_in = subprocess.Popen(
            [sys.executable, str(ROOT / "benchmarks" / "api_stand_in.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        stack.callback(stand_in.wait)
        stack.callback(stand_in.kill)
        assert stand_in.stdout is not None
        api = f"http://127.0.0.1:{int(stand_in.stdout.readline())}"
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("DATASENSE_", "DAGSTER_"))}
        environment = {
            **kept,
            "PATH": f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}",
            "PYTHONPATH": str(_without_pandas(home)),
            "DATASENSE_HOME": str(home),
            "DATASENSE_ALLOW_PRIVATE_ADDRESSES": "true",
            "DATASENSE_JITTER_MINUTES": "0",
            **variables,
        }
        made = Running(home, environment, "", api)
        made.datasense("db", "start")
        stack.callback(lambda: made.datasense("db", "stop"))
        made.url = made.datasense("db", "url").strip()
        stack.callback(made.close)
        stack.callback(made.stop)
        yield made


def require_redis() -> None:
    """Leave with a word where there is none."""
    if shutil.which("redis-server") is None:
        raise SystemExit("redis-server is not installed: apt-get install redis-server")
