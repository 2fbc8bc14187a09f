"""Whether the platform works, in reasons that a pager can read out: daemon, ticks, queue, database, memory, disk."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import dagster as dg
import psutil
from sqlalchemy import text

from datasense_assets.catalog.migrate import HEAD, current_version
from datasense_assets.operations.metrics.machine import heartbeat_ages, newest_ticks
from datasense_assets.operations.metrics.runs import WAITING, in_progress, waits_since

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from datasense_assets.settings import Settings

# Daemons say that they live every 30 seconds.
HEARTBEAT_SECONDS = 120.0
TICK_SECONDS = 120.0
QUEUE_SECONDS = 600.0
CONNECTIONS_SHARE = 0.95
DUE_SENSOR = "due_sources"
# Not tried while the database is away: Dagster tries for long, and a probe wants its answer.
_IN_DATABASE = frozenset({"catalog", "daemon", "due_tick", "queue"})


@dataclass(frozen=True)
class HealthCheck:
    """One thing looked at: whether it is well, and what was seen, in a sentence with its numbers."""

    name: str
    ok: bool
    said: str


@dataclass(frozen=True)
class Health:
    """All that was looked at."""

    checks: tuple[HealthCheck, ...]

    @property
    def ready(self) -> bool:
        """Whether everything is well."""
        return all(check.ok for check in self.checks)

    def document(self) -> dict[str, Any]:
        """As `/health/ready` answers: `reasons` are sentences of what is not well."""
        return {
            "ready": self.ready,
            "reasons": [f"{check.name}: {check.said}" for check in self.checks if not check.ok],
            "checks": [asdict(check) for check in self.checks],
        }


def readiness(catalog: Callable[[], Engine], instance: Callable[[], dg.DagsterInstance], settings: Settings) -> Health:
    """Look at everything once; what cannot be looked at is not well."""
    now = datetime.now(UTC)
    looks: tuple[tuple[str, Callable[[], HealthCheck]], ...] = (
        ("database", lambda: _database(catalog())),
        ("catalog", lambda: _catalog(catalog())),
        ("daemon", lambda: _daemon(instance(), now)),
        ("due_tick", lambda: _due_tick(instance(), settings, now)),
        ("queue", lambda: _queue(instance(), now)),
        ("memory", lambda: _memory(settings)),
        ("disk", lambda: _disk(settings)),
    )
    return Health(tuple(_looked(looks)))


def _looked(looks: tuple[tuple[str, Callable[[], HealthCheck]], ...]) -> Iterator[HealthCheck]:
    away = False
    for name, look in looks:
        if away and name in _IN_DATABASE:
            yield HealthCheck(name, ok=False, said="It cannot be looked at: the database is away.")
            continue
        try:
            yield look()
        except Exception as error:  # noqa: BLE001 - whatever it is, this is where it is told
            said = getattr(error, "message", type(error).__name__)
            yield HealthCheck(name, ok=False, said=f"It cannot be looked at: {said}")
            away = away or name == "database"


def _database(catalog: Engine) -> HealthCheck:
    query = (
        "SELECT (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend') AS used,"
        " current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int AS room,"
        " pg_is_in_recovery() AS reads_only, current_setting('transaction_read_only')::bool AS refuses"
    )
    with catalog.connect() as connection:
        row = connection.execute(text(query)).one()
    used = f"{row.used} of {row.room} connections are used."
    if row.reads_only or row.refuses:
        return HealthCheck("database", ok=False, said=f"It takes no writes. {used}")
    return HealthCheck("database", ok=row.used < CONNECTIONS_SHARE * row.room, said=used)


def _catalog(catalog: Engine) -> HealthCheck:
    with catalog.connect() as connection:
        found = current_version(connection)
    said = f"It is at version {found or 'none'}; this program's is {HEAD}."
    return HealthCheck("catalog", ok=found == HEAD, said=said)


def _daemon(instance: dg.DagsterInstance, now: datetime) -> HealthCheck:
    ages = heartbeat_ages(instance, now)
    late = [
        f"{kind} has {'never been heard of' if age is None else f'not been heard of for {age:.0f} s'}"
        for kind, age in ages.items()
        if age is None or age > HEARTBEAT_SECONDS
    ]
    oldest = max((age for age in ages.values() if age is not None), default=0.0)
    said = "; ".join(late) + "." if late else f"All {len(ages)} parts were heard of in the last {oldest:.0f} s."
    return HealthCheck("daemon", ok=not late, said=said)


def _due_tick(instance: dg.DagsterInstance, settings: Settings, now: datetime) -> HealthCheck:
    tick = newest_ticks(instance).get(DUE_SENSOR)
    if tick is None:
        said = f"The sensor {DUE_SENSOR} has never been evaluated, or is stopped."
        return HealthCheck("due_tick", ok=False, said=said)
    age = now.timestamp() - tick.timestamp
    failed = tick.status.value == "FAILURE"
    most = max(TICK_SECONDS, 6.0 * settings.due_interval_seconds)
    said = f"{DUE_SENSOR} was last evaluated {age:.0f} s ago{', and failed' if failed else ''}."
    return HealthCheck("due_tick", ok=age <= most and not failed, said=said)


def _queue(instance: dg.DagsterInstance, now: datetime) -> HealthCheck:
    """Runs that wait while none goes on: a queue that is merely full moves, and is for an alert on its depth."""
    records = in_progress(instance)
    waiting = [each for each in records if each.dagster_run.status in WAITING]
    oldest = max(((now - waits_since(each)).total_seconds() for each in waiting), default=0.0)
    made = [each.create_timestamp.replace(tzinfo=each.create_timestamp.tzinfo or UTC) for each in waiting]
    queued = max(((now - each).total_seconds() for each in made), default=0.0)
    going = len(records) - len(waiting)
    said = f"{len(waiting)} runs wait, the oldest for {oldest:.0f} s; {going} go on."
    stuck = queued > QUEUE_SECONDS and going == 0 and not _ended_lately(instance, now)
    return HealthCheck("queue", ok=not stuck, said=f"It does not move: {said}" if stuck else said)


def _ended_lately(instance: dg.DagsterInstance, now: datetime) -> bool:
    newest = instance.get_run_records(
        filters=dg.RunsFilter(statuses=[dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE]),
        limit=1,
        order_by="update_timestamp",
    )
    return any(now.timestamp() - (each.end_time or 0.0) < QUEUE_SECONDS for each in newest)


def _memory(settings: Settings) -> HealthCheck:
    free = psutil.virtual_memory().available // 2**20
    least = settings.min_free_memory_mb
    return HealthCheck(
        "memory", ok=free >= least, said=f"{free} MB are available; {least} are needed for a heavy load."
    )


def _disk(settings: Settings) -> HealthCheck:
    usage = shutil.disk_usage(settings.home if settings.home.is_dir() else "/")
    free, least = usage.free // 2**20, settings.min_free_disk_mb
    said = f"{free} MB of {usage.total // 2**20} are free; {least} are needed for a heavy load."
    return HealthCheck("disk", ok=free >= least, said=said)
