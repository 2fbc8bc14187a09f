"""The whole examination: each look by itself, so that one that fails hides no other."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

import dagster as dg
from sqlalchemy import text

from datasense_assets.catalog.migrate import current_version
from datasense_assets.catalog.state import read_run_limits
from datasense_assets.operations.doctor import demand as dm
from datasense_assets.operations.doctor import programs, server, workers
from datasense_assets.operations.doctor.findings import Finding, Level, fine, note, wrong
from datasense_assets.running.coordinator import TaggingRunCoordinator
from datasense_assets.running.limits import Limits, with_set

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

    from datasense_assets.settings import Settings

# A run worker that has loaded something: interpreter and libraries (240 MB) and what a load holds, docs/performance.md.
MEMORY_A_RUN = 330 * 2**20

_ENCRYPTED = """
SELECT o.slug || '/' || s.slug || ' ' || c.name AS what, c.reference ->> 'encrypted' AS token
FROM datasense.credentials c JOIN datasense.sources s ON s.id = c.source_id
JOIN datasense.organizations o ON o.id = c.org_id
WHERE c.reference ? 'encrypted'
UNION ALL
SELECT slug || ' warehouse', warehouse ->> 'encrypted' FROM datasense.organizations WHERE warehouse ? 'encrypted'
UNION ALL
SELECT o.slug || ' contact', c ->> 'encrypted' FROM datasense.organizations o, jsonb_array_elements(o.contacts) c
WHERE c ? 'encrypted'
UNION ALL
SELECT o.slug || ' role', r.password_encrypted FROM datasense.org_roles r
JOIN datasense.organizations o ON o.id = r.org_id
"""

_log = logging.getLogger("datasense.doctor")

Look = Callable[[], Iterable[Finding]]


def examine(
    catalog: Callable[[], Engine], instance: Callable[[], dg.DagsterInstance], settings: Settings
) -> list[Finding]:
    """Look at everything; what could not be looked at is a finding too. It changes nothing."""
    found = [
        *_each("versions", programs.look_at_versions),
        *_each("environment", lambda: programs.look_at_settings(settings)),
        *_each("secret_key", lambda: programs.look_at_keys(settings)),
    ]
    try:
        with catalog().connect() as connection:
            found += _in_database(connection, instance, settings)
    except Exception as error:  # noqa: BLE001 - told as a finding
        found.append(_unseen("database", error))
    return found


def say_at_start(settings: Settings) -> None:
    """Where this is production, log what does not hold, once a code server has loaded; it goes on all the same.

    Loading again must not depend on it: a limit that is set too high would take the whole platform along. What is
    started by `datasense doctor -- ...` does not start so.
    """
    if not settings.is_production:
        return
    from datasense_assets.running.instance import open_instance
    from datasense_assets.running.owners import catalog_engine

    with ExitStack() as opened:
        log(examine(catalog_engine, lambda: opened.enter_context(open_instance()), settings))


def log(findings: Iterable[Finding]) -> None:
    """A line a finding: an error where it cannot hold, nothing where all is fine."""
    for each in findings:
        level = {Level.WRONG: logging.ERROR, Level.FINE: logging.DEBUG}.get(each.level, logging.WARNING)
        _log.log(level, "%s: %s", each.name, " ".join(filter(None, (each.said, *each.sums, each.fix))))


def _in_database(
    connection: Connection, instance: Callable[[], dg.DagsterInstance], settings: Settings
) -> Iterator[Finding]:
    yield from _each("server", lambda: server.look_at_server(connection, settings))
    yield from _each("clock", lambda: server.look_at_clock(connection))
    if current_version(connection) is None:
        # `migrations` has said so, and all else is in there
        return
    yield from _each("rights", lambda: server.look_at_rights(connection))
    yield from _each("indexes", lambda: server.look_at_indexes(connection))
    yield from _each("secrets", lambda: _secrets(connection, settings))
    try:
        opened = instance()
        limits = limits_that_hold(connection, opened)
        demand = dm.read_demand(connection)
    except Exception as error:  # noqa: BLE001 - told as a finding
        yield _unseen("dagster", error)
        return
    yield from _each("dagster", lambda: programs.look_at_dagster(opened))
    yield from _each("connections", lambda: server.look_at_connections(connection, settings, limits.total))
    yield from _each("pooler", lambda: server.look_at_pooler(settings, limits.total))
    yield from _each("lanes", lambda: dm.look_at_lanes(limits, demand))
    yield from _each("redis", lambda: workers.look_at_redis(settings, limits))
    yield from _each("quotas", lambda: dm.look_at_quotas(connection, demand))
    yield from _each("shards", lambda: dm.look_at_shards(connection, opened, settings))
    launcher = type(opened.run_launcher).__name__
    runs_here = settings.redis_url is None and launcher in ("DefaultRunLauncher", "HomeRunLauncher")
    memory = max(MEMORY_A_RUN, demand.memory)
    yield from _each("machine", lambda: programs.look_at_machine(settings, memory, limits.total, runs_here=runs_here))


def limits_that_hold(connection: Connection, instance: dg.DagsterInstance) -> Limits:
    """The limits of dagster.yaml and, over them, those of the catalog."""
    coordinator = instance.run_coordinator
    if isinstance(coordinator, TaggingRunCoordinator):
        return with_set(coordinator.default_limits, read_run_limits(connection))
    runs = (instance.get_settings("concurrency") or {}).get("runs") or {}
    return Limits(int(runs.get("max_concurrent_runs", 10)), tuple(runs.get("tag_concurrency_limits") or ()))


def _secrets(connection: Connection, settings: Settings) -> Iterator[Finding]:
    """Every secret kept in the catalog opens with a key that is here, and with the newest one."""
    from datasense_assets.catalog.credentials import opens, secret_keys

    keys = secret_keys(settings)
    rows = connection.execute(text(_ENCRYPTED)).all()
    lost = [row.what for row in rows if not opens(row.token, keys)]
    old = [row.what for row in rows if row.what not in lost and not opens(row.token, keys[:1])]
    if lost:
        said = (
            f"{len(lost)} of {len(rows)} secrets in the catalog open with no key that is here: {', '.join(lost[:5])}."
        )
        fix = "Add the key that they were made with to DATASENSE_SECRET_KEY, or give them again."
        yield wrong("secrets", said, fix)
    if old:
        said = f"{len(old)} of {len(rows)} secrets in the catalog are kept by an older key."
        yield note("secrets", said, "datasense keys rotate; only then may the older key be taken away.")
    if not (lost or old):
        yield fine("secrets", f"All {len(rows)} secrets in the catalog open with the newest key.")


def _each(name: str, look: Look) -> list[Finding]:
    try:
        return [*look()]
    except Exception as error:  # noqa: BLE001 - whatever it is, this is where it is told
        return [_unseen(name, error)]


def _unseen(name: str, error: Exception) -> Finding:
    said = str(getattr(error, "message", type(error).__name__))
    fix = str(getattr(error, "advice", "") or "See that the database and dagster.yaml can be read from here.")
    return Finding(name, Level.UNSEEN, f"It could not be looked at: {said}", fix)
