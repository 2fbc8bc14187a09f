"""The one database of the platform: which it is, how to connect to it, and what to say when one cannot.

Whatever a session needs is set per transaction (`SET LOCAL`) and nothing is prepared on the server, so that a
transaction-pooling proxy may stand in between.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from time import monotonic
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import psycopg

from datasense_assets.settings import Settings
from datasense_assets.warehouse.errors import DatabaseUnavailable, EmbeddedServerError, WarehouseError

if TYPE_CHECKING:
    from sqlalchemy import Engine

__all__ = [
    "DatabaseUnavailable",
    "EmbeddedServerError",
    "WarehouseError",
    "ask_whether_alive",
    "borrowed",
    "connect",
    "database_url",
    "engine",
    "normalized_url",
]

OLDEST_SERVER = 14
APPLICATION = "datasense"
_CONNECT_SECONDS = 15
# A connection that was in use so short a time ago needs no question whether it is alive.
STILL_ALIVE_SECONDS = 5.0


def database_url(settings: Settings) -> str:
    """`postgresql://...` of the platform's database: the configured one, else the embedded server's (started).

    Raises:
        DatabaseUnavailable: the configured URL is not one of PostgreSQL, or the embedded server does not start.
    """
    if settings.database_url is not None:
        return normalized_url(settings.database_url.get_secret_value(), "DATASENSE_DATABASE_URL")
    from datasense_assets.warehouse.embedded import ensure_running

    return ensure_running(settings.home)


def normalized_url(url: str, name: str) -> str:
    """The URL with the scheme that libpq knows (`postgres://` and SQLAlchemy's `+driver` are accepted).

    Raises:
        DatabaseUnavailable: it is no URL of a PostgreSQL server; `name` says which setting to mend.
    """
    scheme, separator, rest = url.strip().partition("://")
    try:
        parts = urlsplit(f"postgresql://{rest}")
        well_formed = bool(separator and parts.path.strip("/")) and (parts.port is None or parts.port > 0)
    except ValueError:
        well_formed = False
    if scheme.partition("+")[0] not in {"postgresql", "postgres"} or not well_formed:
        raise DatabaseUnavailable(
            f"{name} is not the URL of a PostgreSQL database.",
            advice="Write postgresql://user:password@host:5432/database, with signs like @ or / percent-encoded.",
        )
    return f"postgresql://{rest}"


def connect(url: str, *, autocommit: bool = False, application: str = APPLICATION) -> psycopg.Connection:
    """A new connection; the caller closes it (`with` commits and closes).

    Raises:
        DatabaseUnavailable: the server cannot be reached, refuses the login, or is older than PostgreSQL 14.
    """
    try:
        connection = psycopg.connect(
            url,
            autocommit=autocommit,
            prepare_threshold=None,
            connect_timeout=_CONNECT_SECONDS,
            application_name=application,
        )
    except psycopg.Error as error:
        raise _unavailable(url, error) from None
    if connection.info.server_version < OLDEST_SERVER * 10_000:
        found = connection.info.server_version // 10_000
        connection.close()
        raise DatabaseUnavailable(
            f"{_place(url)} is PostgreSQL {found}.", advice=f"DataSense needs PostgreSQL {OLDEST_SERVER} or newer."
        )
    return connection


@lru_cache(maxsize=16)
def engine(url: str) -> Engine:
    """The process's SQLAlchemy engine for the URL (psycopg 3): one a URL, few connections, safe to use after a fork.

    Its connections raise as `connect` does.
    """
    from sqlalchemy import create_engine

    made = create_engine(
        "postgresql+psycopg://",
        creator=lambda: connect(url),
        pool_size=2,
        max_overflow=8,
        pool_recycle=600,
    )
    ask_whether_alive(made)
    # a forked worker must not share its parent's sockets, nor close them
    os.register_at_fork(after_in_child=lambda: made.dispose(close=False))
    return made


def ask_whether_alive(pool: Engine) -> None:
    """Have a connection that the server has closed replaced when it is taken from the pool; one that was in use a
    moment ago needs no question.
    """
    from sqlalchemy import event
    from sqlalchemy.exc import DisconnectionError

    def still_alive(connection: Any, record: Any, _proxy: Any) -> None:
        if monotonic() - record.info.get("given_back", float("-inf")) < STILL_ALIVE_SECONDS:
            return
        try:
            pool.dialect.do_ping(connection)
        except pool.dialect.loaded_dbapi.Error as error:
            raise DisconnectionError("the server has closed this connection") from error

    def given_back(_connection: Any, record: Any) -> None:
        record.info["given_back"] = monotonic()

    event.listen(pool, "checkout", still_alive)
    event.listen(pool, "checkin", given_back)


@contextmanager
def borrowed(pool: Engine) -> Iterator[psycopg.Connection]:
    """A connection of the pool for one transaction; what goes wrong comes as the driver's own errors.

    Raises:
        DatabaseUnavailable: as `connect`.
    """
    lent = pool.raw_connection()
    try:
        connection = lent.driver_connection
        assert isinstance(connection, psycopg.Connection)  # noqa: S101 - what `engine` makes; narrows the type
        with connection.transaction():
            yield connection
    finally:
        lent.close()


def _place(url: str) -> str:
    try:
        parts = urlsplit(url)
        return f"The database {parts.path.strip('/')} at {parts.hostname or 'localhost'}:{parts.port or 5432}"
    except ValueError:
        return "The database"


def _unavailable(url: str, error: psycopg.Error) -> DatabaseUnavailable:
    """The driver's reason in one line, without the password in whatever form it was written."""
    reason = " ".join(str(error).split()) if isinstance(error, psycopg.OperationalError) else "the URL is not valid."
    try:
        password = urlsplit(url).password
    except ValueError:
        password, reason = None, "the URL is not valid."
    for secret in {password, unquote(password)} if password else ():
        reason = reason.replace(secret, "***")
    state = error.sqlstate or ""
    if state.startswith("28") or "password authentication failed" in reason or "no password supplied" in reason:
        advice = "Check user and password in the URL."
    elif state == "53300" or "too many clients" in reason:
        advice = "Raise max_connections or put a pooler in front, then try again."
    elif state == "3D000" or "does not exist" in reason:
        advice = "Create the database, or correct its name in the URL."
    else:
        advice = "See that the server runs and can be reached from here, then try again."
    return DatabaseUnavailable(f"{_place(url)} cannot be used: {reason}", advice=advice)
