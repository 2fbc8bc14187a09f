"""The whole of docker-compose.yml as processes, by the program that a person starts: everything behind the pooler.

Sixty runs go on at once, each held in the middle of its load by the source's server, and then all at once let go.
"""

from __future__ import annotations

import json
import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import yaml

from datasense_assets.running.owners import catalog_engine
from datasense_assets.settings import get_settings
from datasense_assets_tests.platform.running import LAUNCH, ROOT, until
from datasense_assets_tests.recipes.servers import missing
from examples.kobo_faults import Fault
from examples.kobo_stand_in import serve
from examples.make_submissions import demo_accounts

pytestmark = [pytest.mark.alone, pytest.mark.timeout(900)]

ORGS, SOURCES = 15, 4
RUNS = ORGS * SOURCES
POOL = 20
SECRET_KEY = "A" * 43 + "="


@dataclass
class Production:
    folder: Path
    addresses: dict[str, str]
    passwords: dict[str, str]
    kobo: Any
    peaks: dict[str, int] = field(default_factory=dict)

    def datasense(self, *commands: str) -> None:
        """Command lines, in this process: processes of their own take longer than all they do."""
        from datasense_assets.cli.main import app

        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.addresses.items():
                if name.isupper():
                    patch.setenv(name, value)
            patch.setenv("DATASENSE_SECRET_KEY", SECRET_KEY)
            patch.setenv("DATASENSE_ALLOW_PRIVATE_ADDRESSES", "true")
            get_settings.cache_clear()
            catalog_engine.cache_clear()
            for command in commands:
                assert app(command.split(), standalone_mode=False) == 0, command
            catalog_engine().dispose()
        get_settings.cache_clear()
        catalog_engine.cache_clear()

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with self.connect("dagster") as connection:
            return connection.execute(query.encode()).fetchall()

    def connect(self, pool: str, user: str = "datasense") -> psycopg.Connection:
        secret = {"datasense": "DATASENSE_DB_PASSWORD", "pgbouncer": "PGBOUNCER_PASSWORD"}[user]
        place = self.addresses["DATASENSE_DATABASE_URL"].rpartition("@")[2].partition("/")[0]
        url = f"postgresql://{user}:{self.passwords[secret]}@{place}/{pool}"
        return psycopg.connect(url, autocommit=True, prepare_threshold=None, cursor_factory=psycopg.ClientCursor)

    def log(self, service: str) -> str:
        return (self.folder / "logs" / f"{service}.log").read_text(encoding="utf-8", errors="replace")

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Notes the most connections of the server that each pool has while the block goes on."""
        done = threading.Event()

        def watch() -> None:
            with self.connect("pgbouncer", "pgbouncer") as console:
                while not done.wait(0.1):
                    answer = console.execute("SHOW DATABASES")
                    names = [column.name for column in answer.description or ()]
                    for row in answer.fetchall():
                        said = dict(zip(names, row, strict=True))
                        most = max(int(said["current_connections"]), self.peaks.get(said["name"], 0))
                        self.peaks[said["name"]] = most

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            yield
        finally:
            done.set()
            watcher.join()


def _manifests(folder: Path, address: str, form: str) -> list[str]:
    source = {
        "connector": "kobo",
        "config": {"base_url": address},
        "credentials": {"token": {"env": "PRODUCTION_KOBO_TOKEN"}},
        "tables": [{"slug": "visits", "resource": form}],
        "schedule": "manual",
        "partitions": {"start": date.today().isoformat()},
    }
    files = []
    for number in range(ORGS):
        sources = [{"slug": f"s{each}", **source} for each in range(SOURCES)]
        document = {"version": 1, "organization": {"slug": f"o{number}", "name": "o"}, "sources": sources}
        files.append(folder / f"o{number}.yaml")
        files[-1].write_text(yaml.safe_dump(document), encoding="utf-8")
    return [str(file) for file in files]


@pytest.fixture(scope="module")
def production() -> Iterator[Production]:
    for program in ("pgbouncer", "redis-server"):
        if not (shutil.which(program) or shutil.which(program, path="/usr/sbin")):
            missing(program)
    # not pytest's own folder, which the user that PostgreSQL runs as could not enter
    folder = Path(tempfile.mkdtemp(prefix="datasense-production-"))
    folder.chmod(0o755)
    accounts, _ = demo_accounts(date.today())
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        kobo = stack.enter_context(serve(accounts.forms[:1], token="production-token"))
        secrets = folder / "secrets.env"
        lines = ["PRODUCTION_KOBO_TOKEN=production-token"]
        # the first of them are held for as long as the last takes to come
        lines += [f"DATASENSE_SECRET_KEY={SECRET_KEY}", "DATASENSE_HTTP_TIMEOUT=600"]
        secrets.write_text("\n".join(lines), encoding="utf-8")
        words = [sys.executable, "deploy/prod_local.py", "--folder", str(folder / "all"), "--env-file", str(secrets)]
        words += ["--slots", f"interactive={RUNS}"]
        # who reads the stand-in: the doctor starts neither code server nor daemon of a production so
        words += ["--env", "worker-interactive:DATASENSE_ALLOW_PRIVATE_ADDRESSES=true"]
        # each costs what the import of Dagster costs, and nothing here asks for it
        for service in ("webserver", "metrics", "worker-transform", "worker-scheduled", "worker-backfill"):
            words += ["--without", service]
        words += ["--postgres", "log_statement=all", "--postgres", "log_line_prefix=%u %a| "]
        process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        stack.callback(_end, process)
        assert process.stdout is not None
        assert process.stderr is not None
        said = process.stdout.readline()
        assert said, process.stderr.read()[-5000:]
        lines = (folder / "all" / "passwords.env").read_text(encoding="utf-8").split()
        passwords = dict(line.split("=", 1) for line in lines)
        made = Production(folder / "all", json.loads(said), passwords, kobo)
        # before anything is made larger for a test: what the files say holds on a machine like this
        for gated in ("code-server", "daemon"):
            assert '"logger": "datasense.doctor"' in made.log(gated)
            assert '"level": "error"' not in made.log(gated)
        files = " ".join(_manifests(folder, kobo.url, accounts.forms[0].uid))
        limits = (f"total {RUNS}", f"org {SOURCES}", f"connector kobo {RUNS}", f"host {RUNS}")
        made.datasense(f"apply --no-discover {files}", *(f"limits set {limit}" for limit in limits))
        with made.connect("datasense") as connection:
            # one account would be asked four times a second, and this is not about that
            connection.execute(
                "INSERT INTO datasense.quota_limits (name, host, calls) VALUES ('kobo.account', '', NULL)"
            )
        yield made


def _end(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGINT)
    try:
        assert process.wait(240) == 0
    finally:
        process.kill()


def test_sixty_syncs_at_once_take_no_more_of_the_server_than_their_pool(production: Production) -> None:
    arrived, opened = threading.Semaphore(0), threading.Event()

    def hold() -> None:
        arrived.release()
        opened.wait(300)

    production.kobo.fail(Fault(status=None, path="/data", times=RUNS, act=hold))
    with production.watched():
        production.datasense(*(f"sync o{number}" for number in range(ORGS)))
        try:
            for number in range(RUNS):
                assert arrived.acquire(timeout=180), f"only {number} runs have come to their source"
            going = "SELECT count(*) FROM runs WHERE status = 'STARTED'"
            assert production.rows(going) == [(RUNS,)]
        finally:
            opened.set()
        ended = "SELECT status, count(*) FROM runs GROUP BY status"
        until("all have ended", lambda: production.rows(ended) == [("SUCCESS", RUNS)], seconds=180)
    (form,) = production.kobo.site.accounts["production-token"]
    counts = [f"SELECT count(*) AS n FROM org_o{o}.s{s}__visits" for o in range(ORGS) for s in range(SOURCES)]
    with production.connect("datasense") as connection:
        connection.execute(f"GRANT {', '.join(f'read_org_o{o}' for o in range(ORGS))} TO datasense".encode())
        loaded = connection.execute(f"SELECT DISTINCT n FROM ({' UNION ALL '.join(counts)}) all_of_them".encode())
        assert loaded.fetchall() == [(len(form.submissions),)]
    assert 0 < production.peaks["datasense"] <= POOL
    assert 0 < production.peaks["dagster"] <= POOL


def test_nothing_outlives_its_transaction_on_a_connection_that_others_get_next(production: Production) -> None:
    # what Dagster keeps as text may hold the words of any statement
    lines = (line for line in production.log("postgres").splitlines() if "|" in line)
    statements = [line for line in lines if not re.search(r": (UPDATE|INSERT INTO) (job_ticks|event_logs)", line)]
    assert len(statements) > 1000
    prepared = [line for line in statements if re.search(r"execute (?!<unnamed>)|statement: (PREPARE|EXECUTE) ", line)]
    assert prepared == []
    # PgBouncer itself says whose a connection is; DISCARD and what is set to its default leave nothing behind
    session = re.compile(
        r"(statement|execute [^:]*): (SET (?!LOCAL|TRANSACTION|application_name|\w+ TO DEFAULT)"
        r"|LISTEN|CREATE TEMP|DECLARE .* HOLD)"
        r"|pg_(try_)?advisory_lock\(",
        re.IGNORECASE,
    )
    assert [line for line in statements if session.search(line)] == []


def test_a_viewer_can_look_and_launch_nothing(production: Production) -> None:
    params = {
        "selector": {
            "repositoryLocationName": "datasense",
            "repositoryName": "__repository__",
            "pipelineName": "__ASSET_JOB",
            "assetSelection": [{"path": ["o0", "s0", "visits"]}],
        },
        "executionMetadata": {"tags": []},
        "runConfigData": {},
        "mode": "default",
    }
    url = f"{production.addresses['ui_read_only']}/graphql"
    refused = httpx.post(url, json={"query": LAUNCH, "variables": {"params": params}}, timeout=60).json()
    assert refused["data"]["launchPipelineExecution"]["__typename"] == "UnauthorizedError"
    looked = httpx.post(url, json={"query": "{ runsOrError { ... on Runs { results { runId } } } }"}, timeout=60).json()
    assert len(looked["data"]["runsOrError"]["results"]) == RUNS


def test_no_password_is_in_a_log(production: Production) -> None:
    for file in (production.folder / "logs").iterdir():
        if file.stem == "postgres":
            continue  # the statements that make the roles are in it, at this test's own wish
        said = file.read_text(encoding="utf-8", errors="replace")
        assert not [name for name, secret in production.passwords.items() if secret in said], file.name
        assert "production-token" not in said


def test_what_may_not_be_root_is_not(production: Production) -> None:
    if os.geteuid() != 0:
        pytest.skip("nothing here is root")
    owner = (production.folder / "database" / "data").stat().st_uid
    assert pwd.getpwuid(owner).pw_name in ("postgres", "nobody")
