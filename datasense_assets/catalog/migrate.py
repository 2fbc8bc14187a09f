"""Bringing a database's catalog to the newest schema, however many processes try at once."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Engine, text

if TYPE_CHECKING:
    from alembic.config import Config

HEAD = "0038"
SCHEMA = "datasense"
_LOCK_KEY = 0x6461746173656E73  # "datasens" in ASCII, as one bigint
# PostgreSQL looks first in the schema that is named as the user. For a user called `datasense` that is the catalog's,
# and Dagster would find our `alembic_version` where it looks for its own. Kept with the role: a pooler drops what a
# session sets.
_KEEP_OTHERS_OUT = f"""
DO $$ BEGIN
    IF current_user = '{SCHEMA}' THEN
        EXECUTE format('ALTER ROLE %I IN DATABASE %I SET search_path TO public', current_user, current_database());
    END IF;
END $$
"""
_ALEMBIC = threading.Lock()  # Alembic's running environment is global to the process


class CatalogVersionError(Exception):
    """The database holds a catalog that this program does not know: it was migrated by a newer release."""

    def __init__(self, message: str, *, advice: str) -> None:
        """Keep what happened and what helps apart."""
        super().__init__(f"{message} {advice}")
        self.message = message
        self.advice = advice


def current_version(connection: Connection) -> str | None:
    """The migration that the database stands at; None where there is no catalog."""
    if connection.execute(text("SELECT to_regclass('datasense.alembic_version')")).scalar() is None:
        return None
    version = connection.execute(text("SELECT version_num FROM datasense.alembic_version")).scalar()
    return None if version is None else str(version)


def is_current(connection: Connection) -> bool:
    """Whether the catalog is there and at the newest migration."""
    return current_version(connection) == HEAD


def migrate(engine: Engine) -> list[str]:
    """Create or upgrade the catalog in one transaction; return the migrations that were applied ([]: it was current).

    Raises:
        CatalogVersionError: a newer release has migrated this database.

    """
    applied: list[str] = []
    with engine.connect() as connection:
        if is_current(connection):
            return applied
    with _ALEMBIC, engine.begin() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})
        found = current_version(connection)
        if found is not None and found != HEAD and found not in _known_versions():
            raise CatalogVersionError(
                f"The catalog in this database is at version {found}; this program knows versions up to {HEAD}.",
                advice="Install the release that the rest of the platform runs.",
            )
        if found != HEAD:
            connection.execute(text(_KEEP_OTHERS_OUT))
            connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}"))
            _upgrade(connection, applied)
    return applied


def _config() -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")).replace("%", "%%"))
    return config


def _known_versions() -> frozenset[str]:
    """Every migration of this release. Their order is that of the chain, and not of the numbers."""
    from alembic.script import ScriptDirectory

    return frozenset(script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions())


def _upgrade(connection: Connection, applied: list[str]) -> None:
    from alembic import command

    def note(*, step: Any, **_: Any) -> None:
        applied.extend(step.up_revision_ids)

    config = _config()
    config.attributes["connection"] = connection
    config.attributes["on_version_apply"] = note
    command.upgrade(config, "head")
