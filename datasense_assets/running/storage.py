"""Dagster's own storage and logs, placed by our settings: classes that dagster.yaml names.

They exist because `env:` in dagster.yaml has no default and cannot start the embedded server, and because Dagster opens
a connection for every query: about a hundred a run, each a process of the server.
"""

from __future__ import annotations

import copy
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

# No public name exists for the local compute log manager; dagster.yaml can name it, Python cannot import it otherwise.
from dagster._core.storage.compute_log_manager import CapturedLogContext, ComputeIOType  # noqa: TID251
from dagster._core.storage.local_compute_log_manager import IO_TYPE_EXTENSION, LocalComputeLogManager  # noqa: TID251
from dagster_postgres import (
    DagsterPostgresStorage,
    PostgresEventLogStorage,
    PostgresRunStorage,
    PostgresScheduleStorage,
)

from datasense_assets.running.step_output import kept
from datasense_assets.settings import get_settings

if TYPE_CHECKING:
    import dagster as dg
    from sqlalchemy import Engine

_KEPT_OPEN = 4
_TICKS_PUT_AWAY_EVERY_SECONDS = 600.0


def storage_url() -> str:
    """URL of the database for Dagster's storage: `postgresql+psycopg2://`, the driver that Dagster's NOTIFY needs.

    DATASENSE_STORAGE_URL, else the platform's own database. Behind a pooler it has to be another pool: what Dagster, or
    its migrations, set for a session stays with the connection for whoever gets it next.
    """
    from datasense_assets.warehouse.database import database_url, normalized_url

    settings = get_settings()
    if settings.storage_url is not None:
        url = normalized_url(settings.storage_url.get_secret_value(), "DATASENSE_STORAGE_URL")
    else:
        url = database_url(settings)
    return "postgresql+psycopg2://" + url.split("://", 1)[1]


@lru_cache(maxsize=4)
def pooled_engine(url: str) -> Engine:
    """The process's one engine for Dagster's storage: as many connections as threads ask for, four kept open.

    The daemon's threads ask for that many at once again and again, and a connection costs both sides more than a query.

    Safe after a fork: a child opens connections of its own and leaves its parent's alone. A connection that the server
    has closed meanwhile is replaced.
    """
    from sqlalchemy import create_engine

    from datasense_assets.warehouse.database import ask_whether_alive

    made = create_engine(
        url, isolation_level="AUTOCOMMIT", pool_size=_KEPT_OPEN, max_overflow=-1, pool_recycle=600, pool_use_lifo=True
    )

    ask_whether_alive(made)
    os.register_at_fork(after_in_child=lambda: made.dispose(close=False))
    return made


class _Seen:
    """Which tables and columns the database has, asked until it has them: Dagster asks anew for each run it reads."""

    def __init__(self) -> None:
        self._there: set[str] = set()

    def has(self, what: str, look: Callable[[], bool]) -> bool:
        """What was there once stays: a migration only adds."""
        if what not in self._there and look():
            self._there.add(what)
        return what in self._there


class _PooledRuns(PostgresRunStorage):
    """Runs through the pool. Dagster has a setting for a pool in its webserver only, which replaces `_engine` too."""

    def __init__(self, url: str) -> None:
        self._seen = _Seen()
        super().__init__(url)
        self._engine = pooled_engine(url)

    def has_run_stats_index_cols(self) -> bool:
        """Whether runs have their times in columns."""
        return self._seen.has("run times", super().has_run_stats_index_cols)

    def has_backfill_id_column(self) -> bool:
        """Whether runs have their backfill in a column."""
        return self._seen.has("backfill of runs", super().has_backfill_id_column)

    def has_bulk_actions_selector_cols(self) -> bool:
        """Whether backfills have their selector in a column."""
        return self._seen.has("selector of backfills", super().has_bulk_actions_selector_cols)

    def has_bulk_action_job_name_column(self) -> bool:
        """Whether backfills have their job in a column."""
        return self._seen.has("job of backfills", super().has_bulk_action_job_name_column)


# Events that are of no asset, and change nothing but the log.
_PLAIN_EVENTS = ("STEP_", "PIPELINE_", "ENGINE_EVENT", "LOGS_CAPTURED", "RESOURCE_", "HOOK_")


class _PooledEvents(PostgresEventLogStorage):
    """Events through the pool."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._engine = pooled_engine(url)

    def store_event(self, event: dg.EventLogEntry) -> None:
        """A plain event, or a line of the log, is one insert. Dagster's own notifies besides whoever listens, which
        no release of it does that may share our storage, and each NOTIFY is a transaction that has to reach the disk.
        """
        kind = event.dagster_event_type
        if kind is not None and not kind.value.startswith(_PLAIN_EVENTS):
            super().store_event(event)
            return
        statement = self.prepare_insert_event(event)
        # Dagster's own statement to the letter: SQLAlchemy keeps the values of the first one of each form for good, and
        # in each process that is a plain event, never the first load's with its preview
        columns = statement.table.c
        with self.run_connection(event.run_id) as connection:
            connection.execute(statement.returning(columns.run_id, columns.id))


class _PooledSchedules(PostgresScheduleStorage):
    """Schedules and sensors through the pool."""

    def __init__(self, url: str) -> None:
        self._seen = _Seen()
        # by sensor or schedule, and kind of tick: when this process last put old ones away
        self._put_away: dict[tuple[str, tuple[str, ...]], float] = {}
        super().__init__(url)
        self._engine = pooled_engine(url)

    def has_instigators_table(self) -> bool:
        """Whether sensors and schedules have their state in a table."""
        return self._seen.has("instigators", super().has_instigators_table)

    def _has_instigators_table(self, conn: Any) -> bool:
        """The same, which Dagster asks the database again at each change of a sensor's state."""
        return self._seen.has("instigators", partial(super()._has_instigators_table, conn))

    def has_secondary_index_table(self) -> bool:
        """Whether migrations of data are written down."""
        return self._seen.has("migrations of data", super().has_secondary_index_table)

    def has_built_index(self, migration_name: str) -> bool:
        """Whether a migration of data has been done."""
        return self._seen.has(f"migration {migration_name}", partial(super().has_built_index, migration_name))

    def purge_ticks(
        self, origin_id: str, selector_id: str, before: float, tick_statuses: Sequence[Any] | None = None
    ) -> None:
        """Put away what `retention` no longer keeps: the daemon asks after each tick for each status, a hundred times a
        minute, and what is kept for days need not be looked through that often.
        """
        which = (selector_id, tuple(status.value for status in tick_statuses or ()))
        if monotonic() - self._put_away.get(which, float("-inf")) < _TICKS_PUT_AWAY_EVERY_SECONDS:
            return
        self._put_away[which] = monotonic()
        super().purge_ticks(origin_id, selector_id, before, tick_statuses)


class HomeStorage(DagsterPostgresStorage):
    """Dagster's Postgres storage in the database of DATASENSE_DATABASE_URL, or in the embedded server.

    One a process and database, of which each instance gets a copy: one pool, and one look for tables and indexes.
    """

    def __init__(self, postgres_url: str, inst_data: Any = None) -> None:
        super().__init__(postgres_url, should_autocreate_tables=False, inst_data=inst_data)
        self._run_storage = _PooledRuns(postgres_url)
        self._event_log_storage = _PooledEvents(postgres_url)
        self._schedule_storage = _PooledSchedules(postgres_url)

    @classmethod
    def config_type(cls) -> Mapping[str, Any]:
        """No field: everything comes from the environment."""
        return {}

    @classmethod
    def from_config_value(cls, inst_data: Any, config_value: Any) -> HomeStorage:
        """Open the storage; starts the embedded server where it is wanted and not running."""
        del config_value
        # every process of the platform comes by here, and nothing else of dagster.yaml is loaded in all of them
        if get_settings().log_lines is not None:
            from datasense_assets.running.logs import set_up_logging

            set_up_logging()
        return _first_of(cls, storage_url()).opened_again(inst_data)

    def opened_again(self, inst_data: Any) -> HomeStorage:
        """One more of the same for another instance, without the six engines that Dagster makes and we replace: a
        sensor's tick opens an instance, and so does a run. What is known of the database is shared by all.
        """
        made = copy.copy(self)
        made._inst_data = inst_data
        made._run_storage = copy.copy(self._run_storage)
        made._event_log_storage = copy.copy(self._event_log_storage)
        made._schedule_storage = copy.copy(self._schedule_storage)
        return made


@lru_cache(maxsize=4)
def _first_of(kind: type[HomeStorage], url: str) -> HomeStorage:
    """The process's storage of that database, which no instance ever gets: only what is copied of it."""
    return kind(postgres_url=url)


class HomeComputeLogs(LocalComputeLogManager):
    """Stdout and stderr of runs under DATASENSE_HOME, shown by the process too."""

    @classmethod
    def config_type(cls) -> Mapping[str, Any]:
        """No field: the folder is under DATASENSE_HOME."""
        return {}

    @classmethod
    def from_config_value(cls, inst_data: Any, config_value: Any) -> HomeComputeLogs:
        """Write below `compute_logs/` of the home folder."""
        del config_value
        return cls(base_dir=str(get_settings().home / "compute_logs"), inst_data=inst_data)

    @contextmanager
    def capture_logs(self, log_key: Sequence[str]) -> Iterator[CapturedLogContext]:
        """Keep what the run's steps print, without the programs that Dagster starts for it."""
        streams = ((sys.stdout, ComputeIOType.STDOUT), (sys.stderr, ComputeIOType.STDERR))
        with kept([(stream, self._path(log_key, IO_TYPE_EXTENSION[kind])) for stream, kind in streams]):
            yield CapturedLogContext(log_key)
        # a file that is there says that nothing more comes
        self._path(log_key, "complete").touch()

    def _path(self, log_key: Sequence[str], extension: str) -> Path:
        return Path(self.get_captured_local_path(log_key, extension))
