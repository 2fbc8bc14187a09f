"""Parts of a simulated day: the real queue without workers, a mail server, and a clock for the database."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from email import message_from_bytes
from email.header import decode_header, make_header
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import psycopg
import yaml
from dagster._core.remote_origin import GrpcServerCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._daemon.run_coordinator.queued_run_coordinator_daemon import QueuedRunCoordinatorDaemon
from psycopg import sql

# Filled by the launcher, which the instance makes from the name of its class; emptied by the day.
STARTED: list[dg.DagsterRun] = []


# A queued run says where its code is; nobody goes there.
_NOWHERE = GrpcServerCodeLocationOrigin("127.0.0.1", port=1, location_name="datasense")
_FROM = RemoteJobOrigin(RemoteRepositoryOrigin(_NOWHERE, "__repository__"), "__ASSET_JOB")


class NotedRuns(dg.DefaultRunLauncher):
    """Starts no worker: notes the run as started, in Dagster's storage and in `STARTED`."""

    def launch_run(self, context: Any) -> None:
        """What the queue calls."""
        run = context.dagster_run
        started = dg.DagsterEvent(dg.DagsterEventType.RUN_START.value, job_name=run.job_name)
        self._instance.report_dagster_event(started, run_id=run.run_id)
        STARTED.append(run)


class Queue:
    """Dagster's queue as dagster.yaml sets it up, looked at when the day says so and not every second."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        logging.getLogger("dagster.daemon").setLevel(logging.CRITICAL)
        self.instance = instance
        self._daemon = QueuedRunCoordinatorDaemon(interval_seconds=1)
        self._process = SimpleNamespace(instance=instance, create_request_context=lambda: None)

    def look(self) -> list[dg.DagsterRun]:
        """One look of the daemon at what waits; the runs that it started."""
        for _ in self._daemon.run_iteration(self._process):  # type: ignore[arg-type]
            pass
        started = list(STARTED)
        STARTED.clear()
        return started

    def submit(self, request: dg.RunRequest, run_key: str) -> str | None:
        """Make the run of a request as the daemon does, unless its run key is known; its id."""
        seen = dg.RunsFilter(tags={"dagster/run_key": run_key})
        if self.instance.get_run_ids(filters=seen, limit=1):
            return None
        return self.add({**request.tags, "dagster/run_key": run_key}, request.asset_selection or ())

    def add(self, tags: Mapping[str, str], keys: Any) -> str:
        """Put a run into the queue through the run coordinator; its id."""
        run = dg.DagsterRun(
            job_name="__ASSET_JOB", asset_selection=frozenset(keys), tags=dict(tags), remote_job_origin=_FROM
        )
        self.instance.add_run(run)
        self.instance.run_coordinator.submit_run(dg.SubmitRunContext(run, workspace=None))  # type: ignore[arg-type]
        return run.run_id

    def end(self, run_id: str, *, success: bool) -> None:
        """What a worker says at the end of a run."""
        kind = (dg.DagsterEventType.RUN_SUCCESS if success else dg.DagsterEventType.RUN_FAILURE).value
        self.instance.report_dagster_event(dg.DagsterEvent(kind, job_name="__ASSET_JOB"), run_id=run_id)


@contextmanager
def real_queue(folder: Path) -> Iterator[Queue]:
    """The instance of dagster.yaml, its storage in the database of the settings, with `NotedRuns` as launcher."""
    config = yaml.safe_load((Path(__file__).parents[1] / "dagster.yaml").read_text(encoding="utf-8"))
    config["run_launcher"] = {"module": "benchmarks.simulated_parts", "class": "NotedRuns"}
    with dg.DagsterInstance.local_temp(tempdir=str(folder), overrides=config) as instance:
        yield Queue(instance)


class MailServer:
    """A mail server on loopback that can be stopped and started; `got`: called with each mail's subject."""

    def __init__(self, got: Callable[[str], None]) -> None:
        self._got = got
        # bound all the time, so that the system gives its port to nobody while the server is stopped
        self._place = socket.socket()
        self._place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._place.bind(("127.0.0.1", 0))
        self._port = int(self._place.getsockname()[1])
        self._controller: Any = None

    @property
    def url(self) -> str:
        """As a contact has it."""
        return f"mailto://127.0.0.1:{self._port}?from=us@example.org&to=them@example.org"

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        """A mail has come."""
        subject = message_from_bytes(envelope.content)["Subject"]
        self._got(" ".join(str(make_header(decode_header(subject))).split()))
        return "250 OK"

    def set_running(self, wanted: bool) -> None:
        """Start or stop it, where it is not so already; stopped, it refuses connections."""
        from aiosmtpd.controller import Controller

        if wanted and self._controller is None:
            self._controller = Controller(self, hostname="127.0.0.1", port=self._port)
            self._controller.start()
        elif not wanted and self._controller is not None:
            self._controller.stop()
            self._controller = None

    def close(self) -> None:
        """Stop it for good."""
        self.set_running(False)
        self._place.close()


class Database:
    """The day's database: it can be shut for a time, and its `now()` is the day's own.

    A function of that name in a schema that is searched before Postgres's own takes its place, for this database alone.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        server, _, self._name = self._url.rpartition("/")
        self._admin = psycopg.connect(f"{server}/postgres", autocommit=True)
        self._clock = psycopg.connect(self._url, autocommit=True)
        self._open = True
        for statement in (
            "CREATE SCHEMA simulated",
            "CREATE TABLE simulated.clock (at timestamptz NOT NULL)",
            "INSERT INTO simulated.clock VALUES (now())",
            "CREATE FUNCTION simulated.now() RETURNS timestamptz STABLE LANGUAGE sql "
            "AS 'SELECT at FROM simulated.clock'",
        ):
            self._clock.execute(statement)
        # nothing of the day is to outlive it
        role = sql.SQL("ALTER ROLE CURRENT_USER IN DATABASE {} SET ").format(sql.Identifier(self._name))
        for setting in ("search_path TO simulated, public, pg_catalog", "synchronous_commit TO off"):
            self._clock.execute(role + sql.SQL(setting))  # type: ignore[arg-type]

    def set_time(self, at: Any) -> None:
        """What `now()` says from now on."""
        if self._open:
            self._clock.execute("UPDATE simulated.clock SET at = %s", (at,))

    def set_open(self, wanted: bool) -> None:
        """Let connections in, or end them all and refuse new ones."""
        if wanted == self._open:
            return
        self._open = wanted
        name = sql.Identifier(self._name)
        allow = sql.SQL("true" if wanted else "false")
        self._admin.execute(sql.SQL("ALTER DATABASE {} WITH ALLOW_CONNECTIONS {}").format(name, allow))
        if wanted:
            self._clock = psycopg.connect(self._url, autocommit=True)
            return
        self._admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (self._name,))

    def close(self) -> None:
        """Open for good, and disconnected."""
        self.set_open(True)
        self._clock.close()
        self._admin.close()
