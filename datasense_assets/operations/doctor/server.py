"""The database server: durability, connections against what may be opened, clocks, rights, indexes, a pooler."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from time import monotonic
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
from sqlalchemy import Connection, text

from datasense_assets.catalog.migrate import HEAD, current_version
from datasense_assets.operations.doctor.findings import Finding, fine, note, wrong
from datasense_assets.operations.doctor.indexes import CATALOG_INDEXES

if TYPE_CHECKING:
    from datasense_assets.settings import Settings

# Measured, docs/performance.md: a run holds four at most, one most of the time. The others keep few and open more for
# moments: the webserver for each request that it answers, the daemon for its threads.
CONNECTIONS_A_RUN = 4
CONNECTIONS_OF = {"webserver": 10, "daemon": 12, "code server": 8, "metrics and commands": 4}
SKEW_NOTED, SKEW_WRONG = 2.0, 30.0

_SERVER = """
SELECT current_setting('server_version_num')::int / 10000 AS version, current_setting('server_encoding') AS encoding,
       current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int AS room,
       current_setting('wal_level') AS wal_level, current_setting('fsync')::bool AS fsync,
       current_setting('full_page_writes')::bool AS full_page_writes, current_setting('autovacuum')::bool AS autovacuum,
       current_setting('archive_mode') AS archive_mode, current_setting('max_locks_per_transaction')::int AS locks,
       current_setting('statement_timeout') AS statement_timeout,
       current_setting('idle_in_transaction_session_timeout') AS idle_timeout, pg_is_in_recovery() AS standby,
       inet_server_port() AS port
"""
_OTHERS = """
SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND datname <> current_database()
"""
_RIGHTS = """
SELECT current_user AS me, rolsuper OR rolcreaterole AS makes_roles,
       has_database_privilege(current_database(), 'CREATE') AS makes_schemas,
       has_database_privilege('public', current_database(), 'CONNECT') AS anybody_connects
FROM pg_roles WHERE rolname = current_user
"""
# A role of an organisation that is missing, or lacks its schema or its login; only the platform's own warehouse.
_ROLES = """
SELECT o.slug, r.role_name,
       CASE WHEN p.rolname IS NULL THEN 'its role is not there'
            WHEN NOT p.rolcanlogin THEN 'its role may not log in'
            WHEN p.rolsuper OR p.rolcreaterole OR p.rolbypassrls OR p.rolcreatedb THEN 'its role may do too much'
            WHEN n.nspowner IS DISTINCT FROM p.oid THEN 'its schema belongs to another role' END AS problem
FROM datasense.org_roles r JOIN datasense.organizations o ON o.id = r.org_id
LEFT JOIN pg_roles p ON p.rolname = r.role_name
LEFT JOIN pg_namespace n ON n.nspname = 'org_' || replace(o.slug, '-', '_')
WHERE o.warehouse IS NULL
"""
# Schemas of organisations, or the catalog, that another organisation's role or anybody at all may look into.
_LEAKS = """
SELECT n.nspname AS schema, coalesce(g.rolname, 'everybody') AS who
FROM pg_namespace n, aclexplode(n.nspacl) a LEFT JOIN pg_roles g ON g.oid = a.grantee
WHERE (n.nspname LIKE 'org\\_%' OR n.nspname LIKE 'staging\\_org\\_%' OR n.nspname = 'datasense')
  AND a.grantee <> n.nspowner
  AND (a.grantee = 0 OR (g.rolname LIKE 'org\\_%' AND NOT pg_has_role(g.oid, n.nspowner, 'MEMBER')))
UNION
SELECT n.nspname, m.rolname
FROM pg_namespace n JOIN pg_auth_members am ON am.roleid = n.nspowner JOIN pg_roles m ON m.oid = am.member
WHERE n.nspname LIKE 'org\\_%' AND m.rolname LIKE 'org\\_%'
"""
_INDEXES = """
SELECT i.relname AS name, x.indisvalid AND x.indisready AS usable, n.nspname AS schema
FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_namespace n ON n.oid = i.relnamespace
WHERE n.nspname IN ('datasense', 'public')
"""


def look_at_server(connection: Connection, settings: Settings) -> Iterator[Finding]:
    """Settings of the server that lose data, or that loads run into."""
    row = connection.execute(text(_SERVER)).one()
    if row.encoding != "UTF8":
        said = f"The database's encoding is {row.encoding}: it cannot hold names in every script."
        yield wrong("server", said, "Make a database with ENCODING 'UTF8'.")
    if row.standby:
        yield wrong("server", "The server is a standby and takes no writes.", "Name the primary.")
    off = [name for name in ("fsync", "full_page_writes", "autovacuum") if not getattr(row, name)]
    if off:
        said = f"{' and '.join(off)} of the server {'is' if len(off) == 1 else 'are'} off."
        fix = "Switch them on: without the first two a crash loses or breaks data, without the third tables bloat."
        yield (wrong if settings.is_production else note)("server", said, fix)
    timed = [name for name in ("statement_timeout", "idle_timeout") if getattr(row, name) not in ("0", "0ms")]
    if timed and row.statement_timeout not in ("0", "0ms"):
        said = f"statement_timeout is {row.statement_timeout} for this user: a large load or build is stopped by it."
        yield note("server", said, "ALTER ROLE ... SET statement_timeout = 0; each statement has limits of its own.")
    if settings.is_production and (row.wal_level == "minimal" or row.archive_mode == "off"):
        said = f"wal_level is {row.wal_level} and archive_mode {row.archive_mode}: only whole dumps can be restored."
        yield note("server", said, "Set wal_level = replica and archive, unless a dump a night is enough for you.")
    yield fine("server", f"PostgreSQL {row.version}, {row.encoding}, wal_level {row.wal_level}.")
    found = current_version(connection)
    if found == HEAD:
        yield fine("migrations", f"The catalog is at version {HEAD}.")
    else:
        said = f"The catalog is at version {found or 'none'}, this program's is {HEAD}."
        yield wrong("migrations", said, "Run `datasense db migrate`, or install the release that has migrated it.")


def connections_sum(total: int, shards: int, others: int) -> tuple[int, str]:
    """How many connections may be open at once, and the sum in words."""
    fixed = {name: number * (shards if name == "code server" else 1) for name, number in CONNECTIONS_OF.items()}
    words = [f"{total} runs x {CONNECTIONS_A_RUN}", *(f"{name} {number}" for name, number in fixed.items())]
    if others:
        words.append(f"other databases {others}")
    need = total * CONNECTIONS_A_RUN + sum(fixed.values()) + others
    return need, f"{' + '.join(words)} = {need}"


def look_at_connections(connection: Connection, settings: Settings, total: int) -> Iterator[Finding]:
    """Runs at once times connections against what the server takes."""
    room = connection.execute(text(_SERVER)).one().room
    others = connection.execute(text(_OTHERS)).scalar_one()
    if total < 0:
        said = f"Any number of runs may go on at once, and the server takes {room} connections."
        yield wrong("connections", said, "datasense limits set total NUMBER")
        return
    shards = settings.shard.count if settings.shard is not None else 1
    need, words = connections_sum(total, shards, others)
    sums = f"{words}, of {room}"
    if pooled(settings) is not None:
        yield fine("connections", "A pooler stands before the server and holds its connections.", sums)
    elif need > room:
        fits = max(1, (room - (need - total * CONNECTIONS_A_RUN)) // CONNECTIONS_A_RUN)
        fix = f"datasense limits set total {fits}, max_connections = {need + 10} or more, or PgBouncer in front."
        yield wrong("connections", "Runs that may go on at once need more connections than there are.", fix, sums)
    elif need > 0.8 * room:
        yield note("connections", "Connections are scarce.", "Raise max_connections, or put PgBouncer in front.", sums)
    else:
        yield fine("connections", "There are connections for all that may go on at once.", sums)


def look_at_clock(connection: Connection) -> Iterator[Finding]:
    """This machine's clock beside the database's."""
    started, before = monotonic(), datetime.now(UTC)
    theirs = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
    ours = before.timestamp() + (monotonic() - started) / 2
    skew = abs(theirs.timestamp() - ours)
    said = f"This machine's clock and the database's are {skew:.1f} s apart."
    fix = "Keep both by NTP: slots, leases and freshness are reckoned by them."
    level = wrong if skew > SKEW_WRONG else note
    yield level("clock", said, fix) if skew > SKEW_NOTED else fine("clock", said)


def look_at_rights(connection: Connection) -> Iterator[Finding]:
    """The platform's user may do what it must, and organisations' roles no more than they must."""
    row = connection.execute(text(_RIGHTS)).one()
    lacking = [what for what, has in (("CREATEROLE", row.makes_roles), ("CREATE", row.makes_schemas)) if not has]
    if lacking:
        fix = f"ALTER ROLE {row.me} CREATEROLE; GRANT CREATE ON DATABASE ... TO {row.me}; unless all have their own."
        said = f"The user {row.me} lacks {' and '.join(lacking)}: a new organisation gets no role and no schema."
        yield wrong("rights", said, fix)
    problems = [f"{each.slug}: {each.problem}" for each in connection.execute(text(_ROLES)) if each.problem]
    if problems:
        fix = "The next sync makes what is missing; otherwise see `datasense restore --help` and \\du+ in psql."
        yield note("rights", f"{_few(problems)}.", fix)
    leaks = [f"{each.who} may look into {each.schema}" for each in connection.execute(text(_LEAKS))]
    if leaks:
        fix = "REVOKE it: read-only logins get read_org_..., and nothing else."
        yield wrong("rights", f"{_few(leaks)}.", fix)
    if not (lacking or problems or leaks):
        yield fine("rights", f"{row.me} may make roles and schemas; no organisation may look into another's.")


def look_at_indexes(connection: Connection) -> Iterator[Finding]:
    """Every index of the catalog is there, and none is broken."""
    rows = connection.execute(text(_INDEXES)).all()
    there = {row.name for row in rows if row.schema == "datasense"}
    missing = sorted(CATALOG_INDEXES - there)
    broken = sorted(f"{row.schema}.{row.name}" for row in rows if not row.usable)
    if missing:
        fix = "Restore it from a dump of a catalog of this version, or drop and migrate anew beside it."
        yield wrong("indexes", f"The catalog lacks {_few(missing)}: sensors scan whole tables.", fix)
    if broken:
        yield wrong("indexes", f"{_few(broken)} cannot be used.", f"REINDEX INDEX CONCURRENTLY {broken[0]};")
    if not (missing or broken):
        yield fine("indexes", f"All {len(CATALOG_INDEXES)} indexes of the catalog are there.")


def pooled(settings: Settings) -> dict[str, Any] | None:
    """What PgBouncer says of itself, where one answers at the database's address; {} where it does not let us look."""
    if settings.database_url is None:
        return None
    parts = urlsplit(settings.database_url.get_secret_value())
    console = urlunsplit(("postgresql", parts.netloc, "/pgbouncer", "", ""))
    try:
        with psycopg.connect(console, autocommit=True, connect_timeout=5) as connection:
            cursor = psycopg.ClientCursor(connection)
            return {row[0]: row[1] for row in cursor.execute("SHOW CONFIG").fetchall()}
    except psycopg.Error as error:
        # PgBouncer's own words where the user may not see its console
        return {} if "not allowed" in str(error) else None


def look_at_pooler(settings: Settings, total: int) -> Iterator[Finding]:
    """PgBouncer's settings, where it stands in front."""
    found = pooled(settings)
    if found is None:
        return
    if not found:
        said = "PgBouncer stands before the database and does not show its settings to this user."
        yield note("pooler", said, "Name the user in stats_users of pgbouncer.ini.")
        return
    lacking = [
        name
        for name in ("extra_float_digits", "options")
        if name not in [each.strip() for each in str(found.get("ignore_startup_parameters", "")).split(",")]
    ]
    if lacking:
        said = f"ignore_startup_parameters lacks {' and '.join(lacking)}: every load is refused."
        yield wrong("pooler", said, "ignore_startup_parameters = extra_float_digits,options")
    mode = found.get("pool_mode")
    if mode == "statement":
        yield wrong("pooler", "pool_mode is statement: no transaction can be held.", "pool_mode = transaction")
    need, words = connections_sum(max(total, 0), 1, 0)
    clients = int(found.get("max_client_conn") or 0)
    if clients < need:
        sums = f"{words}, of {clients}"
        yield wrong("pooler", "PgBouncer takes fewer clients than may come.", f"max_client_conn = {2 * need}", sums)
    if not lacking and mode != "statement" and clients >= need:
        said = f"PgBouncer, pool_mode {mode}, {clients} clients, {found.get('default_pool_size')} connections a pool."
        yield fine("pooler", said)


def _few(names: list[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
