"""Walls between organisations: a role, a schema and a read-only role each, and where an organisation's tables go.

Role `org_<org>` owns schema `org_<org>` and the loader's `staging_org_<org>`, and has no right on anything else. Role
`read_org_<org>` cannot log in: grant it to the roles of people and BI tools (a prefix, as a suffix could be another
organisation's slug). Roles belong to the whole server, and each catalog keeps passwords of its own: so a role carries
a mark (its comment) of the one database that may use it. One that is not marked as ours is never taken over, the
organisation gets `org_<org>_<hash of the database's name>` instead.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql
from pydantic import SecretStr

from datasense_assets.catalog.models import Organization, org_schema
from datasense_assets.settings import Settings
from datasense_assets.warehouse.database import connect, normalized_url
from datasense_assets.warehouse.errors import WarehouseError
from datasense_assets.warehouse.roles import claim_role, open_role, reader, role_mark

if TYPE_CHECKING:
    from sqlalchemy import Engine

STAGING_LAYOUT = "staging_%s"
"""dlt's `staging_dataset_name_layout`: its own `%s_staging` could be the schema of another organisation."""

_OPTIONS = frozenset({"sslmode", "sslrootcert", "sslcert", "sslkey", "channel_binding", "target_session_attrs"})
_LOCK = 0x6461746177616C6C  # "datawall" in ASCII, as one bigint

# dlt would make these on the first load; two first loads at once race, so they are made here, under the lock
_LOADER_TABLES = (
    "_dlt_version (version bigint NOT NULL, engine_version bigint NOT NULL, inserted_at timestamptz NOT NULL,"
    " schema_name varchar NOT NULL, version_hash varchar NOT NULL, schema varchar NOT NULL)",
    "_dlt_loads (load_id varchar NOT NULL, schema_name varchar, status bigint NOT NULL,"
    " inserted_at timestamptz NOT NULL, schema_version_hash varchar)",
    "_dlt_pipeline_state (version bigint NOT NULL, engine_version bigint NOT NULL, pipeline_name varchar NOT NULL,"
    " state varchar NOT NULL, created_at timestamptz NOT NULL, version_hash varchar, _dlt_load_id varchar NOT NULL,"
    " _dlt_id varchar NOT NULL UNIQUE)",
)

_STATE = """
SELECT o.warehouse, r.role_name, r.password_encrypted, current_database() AS database,
       (SELECT shobj_description(oid, 'pg_authid') FROM pg_roles WHERE rolname = r.role_name) AS mark,
       (SELECT pg_get_userbyid(nspowner) FROM pg_namespace WHERE nspname = %(schema)s) AS owner,
       (SELECT pg_get_userbyid(nspowner) FROM pg_namespace WHERE nspname = %(staging)s) AS staging_owner,
       (SELECT count(*) FROM pg_tables WHERE schemaname = %(schema)s AND tablename LIKE %(loader)s) AS loader_tables
  FROM datasense.organizations o LEFT JOIN datasense.org_roles r ON r.org_id = o.id
 WHERE o.id = %(org_id)s
"""


@dataclass(frozen=True)
class WarehouseTarget:
    """Where an organisation's tables are and how to log in as the organisation; printing it shows no password.

    `staging_schema` is for the loader; `read_role` is None in an organisation's own warehouse; `options` are further
    libpq parameters (`sslmode` ...).
    """

    host: str
    port: int
    database: str
    user: str
    password: SecretStr
    schema: str
    staging_schema: str
    read_role: str | None = None
    options: tuple[tuple[str, str], ...] = ()

    def connect(self, *, autocommit: bool = False) -> psycopg.Connection:
        """A connection as the organisation; the caller closes it.

        Raises:
            DatabaseUnavailable: as `warehouse.database.connect`.
        """
        return connect(self.url().get_secret_value(), autocommit=autocommit, application=f"datasense {self.schema}")

    def url(self) -> SecretStr:
        """The same as one `postgresql://` URL, password included."""
        from urllib.parse import quote, urlencode

        in_path = {} if not self.host.startswith("/") else {"host": self.host}
        host = "" if in_path else (f"[{self.host}]" if ":" in self.host else self.host)
        query = urlencode({**dict(self.options), **in_path}, quote_via=quote)
        login = f"{quote(self.user, safe='')}:{quote(self.password.get_secret_value(), safe='')}"
        url = f"postgresql://{login}@{host}:{self.port}/{quote(self.database, safe='')}"
        return SecretStr(f"{url}?{query}" if query else url)


def prepare_organization(catalog_engine: Engine, settings: Settings, org: Organization) -> WarehouseTarget:
    """Make what the organisation needs in its warehouse, once, and say where it is. Safe for several processes at once.

    When all is there it costs one query. In an organisation's own warehouse only the schemas are made.

    Raises:
        WarehouseError: the organisation is not in the catalog, its schema belongs to somebody else, or the database
            user may not make roles or schemas.
        SecretMissing: the secret with the URL of its own warehouse cannot be resolved.
        DatabaseUnavailable: the catalog or the warehouse cannot be reached.
    """
    schema = org_schema(org.slug)
    with catalog_engine.begin() as transaction:
        connection = _driver(transaction)
        state = _read_state(connection, org, schema)
        if state["warehouse"] is None:
            password = _decrypt(state["password_encrypted"], settings)
            if not _is_ready(state, org) or password is None:
                state, password = _build_walls(connection, settings, org, schema)
            return _target(connection, state["role_name"], password, schema)
    return _prepare_own_warehouse(state["warehouse"], settings, org, schema)


def prepare_elsewhere(
    catalog_engine: Engine, settings: Settings, org: Organization, warehouse: dict[str, str] | None
) -> WarehouseTarget:
    """The same for a warehouse that the organisation is not in yet: a stored secret reference, None: the platform's.

    Raises: as `prepare_organization`.
    """
    schema = org_schema(org.slug)
    if warehouse is not None:
        return _prepare_own_warehouse(warehouse, settings, org, schema)
    with catalog_engine.begin() as transaction:
        connection = _driver(transaction)
        state, password = _build_walls(connection, settings, org, schema)
        return _target(connection, state["role_name"], password, schema)


def _driver(transaction: Any) -> psycopg.Connection:
    connection = transaction.connection.driver_connection
    assert isinstance(connection, psycopg.Connection)  # noqa: S101 - what `engine` makes; narrows the type
    return connection


def _read_state(connection: psycopg.Connection, org: Organization, schema: str) -> dict[str, Any]:
    cursor = connection.execute(
        _STATE,
        {"org_id": org.id, "schema": schema, "staging": STAGING_LAYOUT % schema, "loader": r"\_dlt\_%"},
    )
    row = cursor.fetchone()
    if row is None:
        raise WarehouseError(
            f"Organisation {org.slug!r} is not in the catalog.",
            advice="It was deleted; add it again with datasense apply.",
        )
    return dict(zip((c.name for c in cursor.description or ()), row, strict=True))


def _is_ready(state: dict[str, Any], org: Organization) -> bool:
    role = state["role_name"]
    return bool(
        role
        and state["mark"] == role_mark(org.slug, state["database"])
        and state["owner"] == state["staging_owner"] == role
        and state["loader_tables"] >= len(_LOADER_TABLES)
    )


def _build_walls(
    connection: psycopg.Connection, settings: Settings, org: Organization, schema: str
) -> tuple[dict[str, Any], SecretStr]:
    """Under the lock: look again, then make what is missing. One transaction, so half a wall is never seen."""
    connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
    state = _read_state(connection, org, schema)
    password = _decrypt(state["password_encrypted"], settings)
    if _is_ready(state, org) and password is not None:
        return state, password
    before = state["role_name"]
    try:
        role = claim_role(connection, org.slug, before, schema, state["database"])
        if password is None or role != before:
            password = SecretStr(secrets.token_urlsafe(32))
        for owner, name in ((state["owner"], schema), (state["staging_owner"], STAGING_LAYOUT % schema)):
            if owner not in (None, role, before):
                raise WarehouseError(
                    f"Schema {name} belongs to the role {owner}, not to organisation {org.slug!r} ({role}).",
                    advice=f"Give it over (ALTER SCHEMA {name} OWNER TO ... and its tables), or rename it.",
                )
        open_role(connection, role, password, state["database"])
        if before not in (None, role) and before in (state["owner"], state["staging_owner"]):
            # the role is another database's by now, such as the one that this database is a copy of
            reassign = sql.SQL("REASSIGN OWNED BY {} TO {}")
            connection.execute(reassign.format(sql.Identifier(before), sql.Identifier(role)))
        _make_schemas(connection, role, schema)
    except psycopg.errors.InsufficientPrivilege as error:
        raise WarehouseError(
            f"The user {connection.info.user} may not make the role and schema of organisation {org.slug!r}: "
            f"{error.diag.message_primary}.",
            advice="Give that user CREATEROLE and CREATE on the database, or give the organisation its own warehouse.",
        ) from None
    connection.execute(
        "INSERT INTO datasense.org_roles (org_id, role_name, password_encrypted) VALUES (%s, %s, %s)"
        " ON CONFLICT (org_id) DO UPDATE SET role_name = excluded.role_name,"
        " password_encrypted = excluded.password_encrypted",
        (org.id, role, _encrypt(password, settings)),
    )
    return {**state, "role_name": role}, password


def _make_schemas(connection: psycopg.Connection, role: str, schema: str) -> None:
    staging = STAGING_LAYOUT % schema
    names = {
        "role": sql.Identifier(role),
        "reader": sql.Identifier(reader(role)),
        "schema": sql.Identifier(schema),
        "staging": sql.Identifier(staging),
    }
    for statement in (
        "REVOKE ALL ON SCHEMA public FROM PUBLIC",
        "CREATE SCHEMA IF NOT EXISTS {schema} AUTHORIZATION {role}",
        "CREATE SCHEMA IF NOT EXISTS {staging} AUTHORIZATION {role}",
        "ALTER ROLE {role} SET search_path = {schema}",
        "SET LOCAL ROLE {role}",
        "GRANT USAGE ON SCHEMA {schema} TO {reader}",
        "ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} GRANT SELECT ON TABLES TO {reader}",
        "GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {reader}",
    ):
        connection.execute(sql.SQL(statement).format(**names))
    _make_loader_tables(connection, schema)
    connection.execute("SET LOCAL ROLE NONE")


def _make_loader_tables(connection: psycopg.Connection, schema: str) -> None:
    for where, tables in ((schema, _LOADER_TABLES), (STAGING_LAYOUT % schema, _LOADER_TABLES[:1])):
        for table in tables:
            statement = sql.SQL("CREATE TABLE IF NOT EXISTS {}.{}")
            connection.execute(statement.format(sql.Identifier(where), sql.SQL(table)))


def _target(connection: psycopg.Connection, role: str, password: SecretStr, schema: str) -> WarehouseTarget:
    info = connection.info
    return WarehouseTarget(
        host=info.host,
        port=info.port,
        database=info.dbname,
        user=role,
        password=password,
        schema=schema,
        staging_schema=STAGING_LAYOUT % schema,
        read_role=reader(role),
        options=tuple(sorted((k, v) for k, v in info.get_parameters().items() if k in _OPTIONS)),
    )


def _prepare_own_warehouse(reference: Any, settings: Settings, org: Organization, schema: str) -> WarehouseTarget:
    """The organisation's own Postgres, by the user in its URL: only schemas and the loader's tables are made."""
    from datasense_assets.catalog.credentials import SecretReference, resolve

    secret = resolve(SecretReference.model_validate(reference), settings).get_secret_value()
    url = normalized_url(secret, f"The warehouse of organisation {org.slug!r}")
    with connect(url) as connection:
        found = connection.execute(
            "SELECT count(*) FROM pg_tables WHERE schemaname IN (%s, %s) AND tablename LIKE %s",
            (schema, STAGING_LAYOUT % schema, r"\_dlt\_%"),
        ).fetchone()
        if found is None or found[0] < len(_LOADER_TABLES) + 1:
            try:
                connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
                for name in (schema, STAGING_LAYOUT % schema):
                    connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(name)))
                _make_loader_tables(connection, schema)
            except psycopg.errors.InsufficientPrivilege as error:
                raise WarehouseError(
                    f"The user {connection.info.user} may not make schema {schema} in the warehouse of organisation "
                    f"{org.slug!r}: {error.diag.message_primary}.",
                    advice=f"There, run: GRANT CREATE ON DATABASE {connection.info.dbname} TO {connection.info.user}.",
                ) from None
        password = SecretStr(connection.info.password)
        target = _target(connection, connection.info.user, password, schema)
    return replace(target, read_role=None)


def _encrypt(password: SecretStr, settings: Settings) -> str:
    from datasense_assets.catalog.credentials import encrypt

    return encrypt(password.get_secret_value(), settings)


def _decrypt(token: str | None, settings: Settings) -> SecretStr | None:
    """The password; None where there is none or today's key does not open it (then the role gets a new one)."""
    from datasense_assets.catalog.credentials import SecretMissing, SecretReference, resolve

    if token is None:
        return None
    try:
        return resolve(SecretReference(encrypted=token), settings)
    except SecretMissing:
        return None
