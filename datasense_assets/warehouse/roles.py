"""The roles of an organisation: which names are free on a server that several platforms share, and who may log in.

Roles belong to the whole server, while each catalog keeps the passwords of its own: a role carries a mark (its comment)
of the one database whose platform may use it, and no other platform touches it.
"""

from __future__ import annotations

from hashlib import sha256

import psycopg
from psycopg import sql
from pydantic import SecretStr

from datasense_assets.warehouse.errors import WarehouseError

_CONNECTIONS_PER_ORGANIZATION = 30


def reader(role: str) -> str:
    """Name of the read-only role that goes with a login role."""
    return f"read_{role}"


def role_mark(slug: str, database: str) -> str:
    """The comment on the roles of an organisation of the platform in that database."""
    return f"DataSense organisation {slug} in database {database}"


def claim_role(connection: psycopg.Connection, slug: str, before: str | None, schema: str, database: str) -> str:
    """Make (or find) the login role and its reader and mark them as this database's; the login role's name.

    That is the role the catalog names (`before`), else one named as the schema, else the same with a hash of the
    database's name; each only if it is not another database's. The caller's lock is the database's, so another database
    may take a name between the look and the making: making waits until that has ended, and then the names are looked
    at again.

    Raises:
        WarehouseError: every one of these names is taken.
    """
    own = f"{schema}_{sha256(database.encode()).hexdigest()[:8]}"
    names = list(dict.fromkeys(name for name in (before, schema, own) if name))
    # each time round another database has just taken one of the names
    for _ in range(len(names) + 1):
        looks = ((name, _ours(connection, slug, name, name == before, database)) for name in names)
        role, there = next(((name, seen) for name, seen in looks if seen is not None), (None, None))
        if role is None or there is None:
            break
        try:
            with connection.transaction():
                _make(connection, role, role_mark(slug, database), there)
        except (psycopg.errors.DuplicateObject, psycopg.errors.UniqueViolation):
            continue
        return role
    raise WarehouseError(
        f"This server has roles named {' and '.join(names)} that are not of organisation {slug!r} in this database.",
        advice=f"See whose they are (\\du+ in psql), and rename or drop {own} and {reader(own)} if nothing uses them.",
    )


def _ours(connection: psycopg.Connection, slug: str, role: str, is_kept: bool, database: str) -> frozenset[str] | None:
    """Those of the role and its reader that are there; None where one is not this database's: neither marked so, nor
    kept in its catalog and of no other database that is still there (then this one was renamed, or restored without
    comments).
    """
    rows = connection.execute(
        "SELECT rolname, mark, EXISTS (SELECT FROM pg_database WHERE mark = %s || datname)"
        " FROM (SELECT rolname, shobj_description(oid, 'pg_authid') AS mark FROM pg_roles"
        " WHERE rolname IN (%s, %s)) AS roles",
        (role_mark(slug, ""), role, reader(role)),
    ).fetchall()
    ours = all(mark == role_mark(slug, database) or (is_kept and not elsewhere) for _, mark, elsewhere in rows)
    return frozenset(name for name, _, _ in rows) if ours else None


def _make(connection: psycopg.Connection, role: str, mark: str, there: frozenset[str]) -> None:
    """Make the role and its reader and mark them. One that was not `there` at the look is made, never found: another
    database's could have come in between, and would be taken over.
    """
    for name, kind in ((role, "NOINHERIT"), (reader(role), "NOLOGIN")):
        if name not in there:
            connection.execute(sql.SQL("CREATE ROLE {} {}").format(sql.Identifier(name), sql.SQL(kind)))
        connection.execute(sql.SQL("COMMENT ON ROLE {} IS {}").format(sql.Identifier(name), sql.Literal(mark)))


def open_role(connection: psycopg.Connection, role: str, password: SecretStr, database: str) -> None:
    """Let the role log in to the database with that password, and its reader be used there."""
    # hashed here: the server's log may show statements
    verifier = connection.pgconn.encrypt_password(
        password.get_secret_value().encode(), role.encode(), b"scram-sha-256"
    ).decode()
    names = {
        "role": sql.Identifier(role),
        "reader": sql.Identifier(reader(role)),
        "database": sql.Identifier(database),
    }
    connection.execute(
        sql.SQL("ALTER ROLE {role} LOGIN CONNECTION LIMIT {limit} PASSWORD {verifier}").format(
            **names, limit=_CONNECTIONS_PER_ORGANIZATION, verifier=sql.Literal(verifier)
        )
    )
    connection.execute(sql.SQL("GRANT CONNECT, TEMPORARY ON DATABASE {database} TO {role}").format(**names))
    connection.execute(sql.SQL("GRANT CONNECT ON DATABASE {database} TO {reader}").format(**names))
    if connection.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").fetchone() != (True,):
        connection.execute(sql.SQL("GRANT {role} TO CURRENT_USER").format(**names))
