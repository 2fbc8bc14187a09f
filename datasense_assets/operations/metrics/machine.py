"""The database, Dagster's daemon and sensors, and the processes of this machine."""

from __future__ import annotations

import shutil
from collections import Counter as Count
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import dagster as dg
import psutil
from prometheus_client.core import CounterMetricFamily, Metric
from sqlalchemy import Connection, text

from datasense_assets.operations.metrics.catalog import gauge

_CONNECTIONS = """
SELECT CASE WHEN datname IS DISTINCT FROM current_database() THEN 'other_database'
            WHEN application_name LIKE 'datasense org\\_%' OR usename LIKE 'org\\_%' THEN 'organizations'
            WHEN application_name LIKE 'datasense%' THEN 'datasense'
            ELSE 'dagster' END AS who,
       coalesce(state, 'none') AS state, count(*) AS number
FROM pg_stat_activity WHERE backend_type = 'client backend' GROUP BY 1, 2
"""
_DATABASE = """
SELECT pg_database_size(current_database()) AS size,
       current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int AS room,
       age(d.datfrozenxid) AS xid_age, s.xact_commit, s.xact_rollback, s.deadlocks, s.temp_bytes,
       (SELECT coalesce(max(extract(epoch FROM clock_timestamp() - xact_start)), 0) FROM pg_stat_activity
        WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() AND datname = current_database()) AS oldest
FROM pg_database d JOIN pg_stat_database s ON s.datid = d.oid WHERE d.datname = current_database()
"""
_PARTS = """
SELECT CASE WHEN n.nspname = 'datasense' THEN 'catalog' WHEN n.nspname ~ '^(staging_)?org_' THEN 'warehouse'
            WHEN n.nspname = 'public' THEN 'dagster' ELSE 'system' END AS part,
       sum(pg_total_relation_size(c.oid)) AS size
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'm') GROUP BY 1
"""
# What a process is, by a word of its command line; the first that fits.
_KINDS = (
    ("celery_worker", "celery"),
    ("run_worker", "execute_run"),
    ("run_worker", "execute_step"),
    ("webserver", "dagster-webserver"),
    ("webserver", "dagster_webserver"),
    ("webserver", "datasense webserver"),
    ("webserver", "datasense_assets.cli.main webserver"),
    ("daemon", "dagster-daemon"),
    ("daemon", "dagster._daemon"),
    ("daemon", "datasense daemon"),
    ("daemon", "datasense_assets.cli.main daemon"),
    ("code_server", "code-server"),
    ("code_server", "api grpc"),
    ("metrics", "datasense metrics"),
)


def database_metrics(connection: Connection) -> Iterator[Metric]:
    """Size, connections and health of the platform's database."""
    row = connection.execute(text(_DATABASE)).one()
    yield gauge("datasense_database_bytes", "Size of the database, all of it.", ((), row.size))
    yield gauge("datasense_database_connections_max", "Connections that the server takes from users.", ((), row.room))
    found = [((each.who, each.state), each.number) for each in connection.execute(text(_CONNECTIONS))]
    words = "Connections to the server, by whose they are and what they do."
    yield gauge("datasense_database_connections", words, *found, labels=("who", "state"))
    yield gauge("datasense_database_oldest_transaction_seconds", "Age of the longest transaction.", ((), row.oldest))
    words = "Transactions since the oldest row was frozen; the server stops at 2 thousand million."
    yield gauge("datasense_database_transaction_id_age", words, ((), row.xid_age))
    for name, words, value in (
        ("datasense_database_commits", "Transactions committed.", row.xact_commit),
        ("datasense_database_rollbacks", "Transactions rolled back.", row.xact_rollback),
        ("datasense_database_deadlocks", "Deadlocks.", row.deadlocks),
        ("datasense_database_temp_bytes", "Written to temporary files by queries.", row.temp_bytes),
    ):
        family = CounterMetricFamily(name, words)
        family.add_metric((), float(value))
        yield family


def database_parts(connection: Connection) -> Metric:
    """Size by part: the catalog, Dagster's storage, organisations' tables. It looks at every table's files."""
    parts = {row.part: row.size for row in connection.execute(text(_PARTS))}
    values = (((part,), parts.get(part, 0)) for part in ("catalog", "dagster", "warehouse"))
    words = "Size of tables with their indexes, by part; looked at every five minutes."
    return gauge("datasense_database_part_bytes", words, *values, labels=("part",))


def newest_ticks(instance: dg.DagsterInstance) -> dict[str, Any]:
    """The newest tick of each sensor and schedule by name; of several shards' the oldest, as it is the one behind."""
    found: dict[str, Any] = {}
    for state in instance.all_instigator_state():
        if not state.is_running:
            continue
        # the two newest: the first may be going on
        ticks = instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=2)
        ended = next((tick for tick in ticks if tick.end_timestamp is not None), None)
        if ended is None:
            continue
        known = found.get(state.instigator_name)
        if known is None or ended.timestamp < known.timestamp:
            found[state.instigator_name] = ended
    return found


def heartbeat_ages(instance: dg.DagsterInstance, now: datetime) -> dict[str, float | None]:
    """Seconds since each daemon that this instance needs was last heard of; None: never."""
    beats = instance.get_daemon_heartbeats()
    return {
        kind: now.timestamp() - beats[kind].timestamp if kind in beats else None
        for kind in instance.get_required_daemon_types()
    }


def dagster_metrics(instance: dg.DagsterInstance, now: datetime) -> Iterator[Metric]:
    """Heartbeats of the daemon, and what ticks of sensors and schedules cost."""
    ages = heartbeat_ages(instance, now)
    known = [((kind,), age) for kind, age in ages.items() if age is not None]
    words = "Since the daemon was last heard of, by its part."
    yield gauge("datasense_daemon_heartbeat_age_seconds", words, *known, labels=("daemon",))
    ticks = newest_ticks(instance)
    took = [((name,), max(0.0, tick.end_timestamp - tick.timestamp)) for name, tick in ticks.items()]
    words = "How long the last tick took, from when it was due to be evaluated to its end."
    yield gauge("datasense_sensor_tick_seconds", words, *took, labels=("sensor",))
    ages_of = [((name,), now.timestamp() - tick.timestamp) for name, tick in ticks.items()]
    yield gauge("datasense_sensor_tick_age_seconds", "Since the last tick.", *ages_of, labels=("sensor",))
    failed = [((name,), tick.status.value == "FAILURE") for name, tick in ticks.items()]
    yield gauge("datasense_sensor_tick_failed", "1 where the last tick failed.", *failed, labels=("sensor",))


def process_metrics(home: Path) -> Iterator[Metric]:
    """Memory of the platform's processes on this machine, and what the machine has left."""
    number: Count[str] = Count()
    memory: defaultdict[str, int] = defaultdict(int)
    largest: defaultdict[str, int] = defaultdict(int)
    for process in psutil.process_iter(["cmdline", "memory_info"]):
        kind = process_kind(" ".join(process.info["cmdline"] or ()))
        if kind is None or process.info["memory_info"] is None:
            continue
        resident = process.info["memory_info"].rss
        number[kind] += 1
        memory[kind] += resident
        largest[kind] = max(largest[kind], resident)
    kinds = list(dict.fromkeys(kind for kind, _ in _KINDS))
    for name, words, values in (
        ("datasense_processes", "Processes of the platform on this machine.", number),
        ("datasense_process_memory_bytes", "Resident memory of all of them.", memory),
        ("datasense_process_memory_largest_bytes", "Of the largest one.", largest),
    ):
        yield gauge(name, words, *(((kind,), values[kind]) for kind in kinds), labels=("kind",))
    available = psutil.virtual_memory().available
    yield gauge("datasense_machine_memory_available_bytes", "Memory that this machine has left.", ((), available))
    usage = shutil.disk_usage(home if home.is_dir() else "/")
    yield gauge("datasense_machine_disk_free_bytes", "Free on the disk of DATASENSE_HOME.", ((), usage.free))
    yield gauge("datasense_machine_disk_bytes", "Size of that disk.", ((), usage.total))


def process_kind(command: str) -> str | None:
    """What a process of that command line is; None: none of the platform's."""
    if "dagster" not in command and "datasense" not in command and "celery" not in command:
        return None
    return next((kind for kind, word in _KINDS if word in command), None)
