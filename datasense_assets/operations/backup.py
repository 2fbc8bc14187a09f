"""The whole platform in a folder, and back: one dump of the database, and what a dump does not hold, written down.

Roles belong to the server and not to the database: they are made anew, under new passwords, and given their schemas.
The key of the secrets is never in a backup; a print of it is, so that a restore can say whether it is the right one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql

from datasense_assets.catalog.credentials import secret_keys
from datasense_assets.catalog.migrate import HEAD
from datasense_assets.catalog.models import Organization, org_schema
from datasense_assets.operations.programs import run_program, server_major
from datasense_assets.warehouse.database import connect, database_url, engine, normalized_url
from datasense_assets.warehouse.errors import WarehouseError
from datasense_assets.warehouse.organizations import STAGING_LAYOUT, prepare_organization
from datasense_assets.warehouse.roles import claim_role

if TYPE_CHECKING:
    from datasense_assets.settings import Settings

DUMP, STORAGE, ABOUT = "database.dump", "storage.dump", "about.json"

_ORGANIZATIONS = """
SELECT o.id, o.slug, o.name, r.role_name FROM datasense.organizations o
JOIN datasense.org_roles r ON r.org_id = o.id ORDER BY o.slug
"""
_ELSEWHERE = "SELECT slug FROM datasense.organizations WHERE warehouse IS NOT NULL ORDER BY slug"
# Who else may do what in the catalog, such as the web product: such roles are not ours to make.
_GRANTS = """
SELECT DISTINCT format('GRANT %s ON datasense.%I TO %I', privilege_type, table_name, grantee) FROM
information_schema.role_table_grants WHERE table_schema = 'datasense' AND grantee <> grantor AND grantee <> 'PUBLIC'
UNION
SELECT format('GRANT USAGE ON SCHEMA datasense TO %I', r.rolname) FROM pg_namespace n, aclexplode(n.nspacl) a
JOIN pg_roles r ON r.oid = a.grantee WHERE n.nspname = 'datasense' AND a.grantee <> n.nspowner
"""
# Everything of a schema that has an owner of its own; indexes and the like go with their tables.
_OBJECTS = """
SELECT CASE c.relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END,
       c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %s AND c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f')
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.classid = 'pg_class'::regclass
                  AND d.deptype IN ('a', 'i') AND c.relkind = 'S')
"""


class RestoreRefused(WarehouseError):
    """Nothing was restored."""


@dataclass(frozen=True)
class About:
    """What a backup says of itself. `dumps`: files and their digests; `keys`: prints of the keys of its secrets."""

    made_at: str
    release: str
    catalog: str
    server: int
    database: str
    dumps: dict[str, str]
    keys: tuple[str, ...]
    organizations: tuple[str, ...]
    elsewhere: tuple[str, ...]
    grants: tuple[str, ...]

    @classmethod
    def read(cls, folder: Path) -> About:
        """Of a backup's folder.

        Raises:
            RestoreRefused: there is none, or it cannot be read.
        """
        try:
            found: dict[str, Any] = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
            lists = ("keys", "organizations", "elsewhere", "grants")
            return cls(**found | {name: tuple(found[name]) for name in lists})
        except (OSError, ValueError, TypeError, KeyError):
            raise RestoreRefused(f"{folder} is no backup: {ABOUT} cannot be read.", advice="Name its folder.") from None


@dataclass(frozen=True)
class Restored:
    """What came back. `lost_keys`: the backup's secrets were kept by a key that is not here; `grants_left`: statements
    for roles that this server does not have.
    """

    about: About
    organizations: tuple[str, ...]
    lost_keys: bool
    grants_left: tuple[str, ...]


def back_up(settings: Settings, folder: Path, *, told: Callable[[str], None]) -> About:
    """Write the platform's database into a new folder, as it is at one moment; everything runs on meanwhile.

    Raises:
        FileExistsError, OSError: the folder is there, or cannot be written.
        ProgramFailed: `pg_dump` is not there or failed.
        DatabaseUnavailable: the database cannot be reached.
    """
    url = database_url(settings)
    folder.mkdir(parents=True, mode=0o700)
    dumps = {}
    for name, place in _databases(settings).items():
        told(name)
        run_program("pg_dump", place, "--format=custom", f"--file={folder / name}", at_least=server_major(place))
        dumps[name] = _digest(folder / name)
    with connect(url) as connection:
        about = About(
            made_at=datetime.now(UTC).isoformat(timespec="seconds"),
            release=version("datasense-assets"),
            catalog=HEAD,
            server=connection.info.server_version // 10_000,
            database=connection.info.dbname,
            dumps=dumps,
            keys=tuple(map(_print, secret_keys(settings))),
            organizations=tuple(slug for _, slug, _, _ in connection.execute(_ORGANIZATIONS).fetchall()),
            elsewhere=tuple(slug for (slug,) in connection.execute(_ELSEWHERE).fetchall()),
            grants=tuple(sorted(said for (said,) in connection.execute(_GRANTS).fetchall())),
        )
    (folder / ABOUT).write_text(json.dumps(asdict(about), indent=1), encoding="utf-8")
    return about


def check(settings: Settings, folder: Path) -> tuple[About, list[str]]:
    """Look whether a backup is whole and fits in here: all problems at once; nothing is changed."""
    about = About.read(folder)
    problems = []
    for name, digest in about.dumps.items():
        if not (folder / name).is_file() or _digest(folder / name) != digest:
            problems.append(f"{name} is not what {ABOUT} says: it was cut short or changed.")
    if about.catalog > HEAD:
        problems.append(f"It is of a newer release ({about.release}, catalog {about.catalog}); this one knows {HEAD}.")
    places = _databases(settings)
    if set(places) != set(about.dumps):
        there = "in a database of its own" if STORAGE in about.dumps else "in the platform's database"
        problems.append(f"Dagster's storage was {there}: set DATASENSE_STORAGE_URL so that it is here too.")
    for url in places.values():
        problems += _problems_of(url, about)
    return about, problems


def _databases(settings: Settings) -> dict[str, str]:
    """URLs by the name of their dump: the platform's database, and Dagster's storage where that is another one."""
    url = database_url(settings)
    if settings.storage_url is None:
        return {DUMP: url}
    other = normalized_url(settings.storage_url.get_secret_value(), "DATASENSE_STORAGE_URL")
    query = "SELECT system_identifier, current_database() FROM pg_control_system()"
    with connect(url) as here, connect(other) as there:
        same = here.execute(query).fetchone() == there.execute(query).fetchone()
    return {DUMP: url} if same else {DUMP: url, STORAGE: other}


def _problems_of(url: str, about: About) -> Iterator[str]:
    with connect(url) as connection:
        major, name = connection.info.server_version // 10_000, connection.info.dbname
        tables = connection.execute(
            "SELECT count(*) FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
        ).fetchone()
    if major < about.server:
        yield f"It was made by PostgreSQL {about.server}, and the server of {name} is {major}."
    if tables and tables[0]:
        yield f"The database {name} is not empty ({tables[0]} tables); restore into a new one."


def restore(settings: Settings, folder: Path, *, told: Callable[[str], None]) -> Restored:
    """Bring a backup back into an empty database: all or nothing, then each organisation's role.

    Raises:
        RestoreRefused: the backup is not whole or does not fit in here.
        ProgramFailed: `pg_restore` is not there or failed.
        DatabaseUnavailable: the database cannot be reached.
    """
    about, problems = check(settings, folder)
    if problems:
        raise RestoreRefused(" ".join(problems), advice="Nothing was restored.")
    url = database_url(settings)
    for name, place in _databases(settings).items():
        told(f"{name} of {about.made_at}")
        run_program(
            "pg_restore", place, "--no-owner", "--no-privileges", "--exit-on-error", "--single-transaction",
            folder / name,
            at_least=max(about.server, server_major(place)),
        )  # fmt: skip
    catalog = engine(url)
    _migrate(url)
    with connect(url) as connection:
        rows = connection.execute(_ORGANIZATIONS).fetchall()
    for number, slug, name, role in rows:
        told(f"the role of {slug}")
        with connect(url) as connection:
            _give_back(connection, int(number), str(slug), str(role))
        prepare_organization(catalog, settings, Organization(id=number, slug=slug, name=name))
    left = []
    for statement in about.grants:
        with connect(url) as connection:
            try:
                connection.execute(statement.encode())
            except psycopg.errors.UndefinedObject:
                left.append(statement)
    lost = bool(about.keys) and not set(about.keys) & set(map(_print, secret_keys(settings)))
    return Restored(about, tuple(slug for _, slug, _, _ in rows), lost, tuple(left))


def _migrate(url: str) -> None:
    """A backup of an older release comes up to this one's schema."""
    from datasense_assets.catalog.migrate import migrate

    migrate(engine(url))


def _give_back(connection: psycopg.Connection, org_id: int, slug: str, before: str) -> None:
    """Make the organisation's role, or take one that is free, and let it own its schemas with all that is in them."""
    schema = org_schema(slug)
    role = claim_role(connection, slug, before, schema, connection.info.dbname)
    if connection.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").fetchone() != (True,):
        connection.execute(sql.SQL("GRANT {} TO CURRENT_USER").format(sql.Identifier(role)))
    for name in (schema, STAGING_LAYOUT % schema):
        if connection.execute("SELECT FROM pg_namespace WHERE nspname = %s", (name,)).fetchone() is None:
            continue
        owner = sql.SQL(" OWNER TO {}").format(sql.Identifier(role))
        connection.execute(sql.SQL("ALTER SCHEMA {}").format(sql.Identifier(name)) + owner)
        for kind, table in connection.execute(_OBJECTS, (name,)).fetchall():
            alter = sql.SQL("ALTER {} {}").format(sql.SQL(kind), sql.Identifier(name, table))
            connection.execute(alter + owner)
    # no key opens this, so that the role gets a new password, and with it all its rights
    connection.execute(
        "UPDATE datasense.org_roles SET role_name = %s, password_encrypted = 'restored' WHERE org_id = %s",
        (role, org_id),
    )


def _print(key: str) -> str:
    """What tells one key from another and says nothing of it: it is 256 random bits."""
    return hashlib.sha256(f"datasense backup {key}".encode()).hexdigest()[:16]


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
