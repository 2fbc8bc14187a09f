"""An organisation's tables carried to another warehouse: copied whole, counted, and only then is the catalog told.

What was built on is carried too (cursors stay in the catalog), so that the next sync goes on where the last one ended.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql
from sqlalchemy import text

from datasense_assets.catalog.credentials import SecretReference, resolve
from datasense_assets.catalog.models import Organization, org_schema
from datasense_assets.ingest.dataset import lock_dataset
from datasense_assets.operations.organizations.leaving import MOVED, drop_schemas
from datasense_assets.operations.programs import count_rows, run_program, server_major
from datasense_assets.warehouse.database import connect, database_url, normalized_url
from datasense_assets.warehouse.errors import WarehouseError
from datasense_assets.warehouse.organizations import STAGING_LAYOUT, WarehouseTarget, prepare_organization

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from datasense_assets.settings import Settings


@dataclass(frozen=True)
class Moved:
    """What was carried: rows by table; `left`: schemas that stay in the old warehouse under a new name."""

    rows: dict[str, int]
    left: tuple[str, ...]


def move_organization(
    catalog: Engine,
    settings: Settings,
    org: Organization,
    to: SecretReference | None,
    *,
    drop_old: bool,
    told: Callable[[str], None],
) -> Moved:
    """Carry the tables of an organisation, which must be held still, to another warehouse (None: the platform's).

    Until all is there and counted nothing of the old one is touched. Then its schemas are dropped, or left under the
    name `moved_<schema>`, so that a load that was about to write there fails and comes again to the new place.

    Raises:
        WarehouseError: it is there already, the new place holds tables of it, or the copy has other numbers of rows.
        ProgramFailed: `pg_dump` or `pg_restore` is not there or failed.
        DatabaseUnavailable, SecretMissing: one of the warehouses cannot be reached.
    """
    old = prepare_organization(catalog, settings, org)
    source = _owner_url(settings, old)
    told("the new warehouse")
    new_url = database_url(settings) if to is None else _url_of(to, settings, org)
    schemas = (old.schema, old.staging_schema)
    _refuse_same_or_full(source, new_url, schemas, org)
    with connect(source) as locked:
        lock_dataset(locked, old.schema)
        before = count_rows(locked, schemas)
        target = _prepare_new(catalog, settings, org, to)
        try:
            told(f"copying {len(before)} tables")
            _copy(source, new_url, schemas, role=target.user if to is None else None)
            with connect(target.url().get_secret_value()) as there:
                after = count_rows(there, schemas)
            if after != before:
                other = sorted(name for name in {*before, *after} if before.get(name) != after.get(name))
                raise WarehouseError(
                    f"The copy of {', '.join(other[:5])} has another number of rows.", advice="Try again."
                )
        except BaseException:
            with connect(new_url) as there:
                drop_schemas(there, org.slug)
            raise
        with catalog.begin() as connection:
            values = {"org": org.id, "warehouse": None if to is None else json.dumps(to.stored())}
            statement = "UPDATE datasense.organizations SET warehouse = CAST(:warehouse AS jsonb) WHERE id = :org"
            connection.execute(text(statement), values)
        left = _put_aside(locked, org.slug, drop=drop_old)
    if to is None:
        prepare_organization(catalog, settings, org)
    return Moved(before, left)


def _owner_url(settings: Settings, target: WarehouseTarget) -> str:
    """Of a user who may rename and drop the schemas: the platform's own, or the one of the organisation's URL."""
    return database_url(settings) if target.read_role is not None else target.url().get_secret_value()


def _url_of(reference: SecretReference, settings: Settings, org: Organization) -> str:
    return normalized_url(resolve(reference, settings).get_secret_value(), f"The new warehouse of {org.slug!r}")


def _refuse_same_or_full(source: str, new_url: str, schemas: Sequence[str], org: Organization) -> None:
    identity = (
        "SELECT system_identifier::text || '/' || current_database() FROM pg_control_system()",
        "SELECT count(*) FROM pg_tables WHERE schemaname = ANY (%s) AND tablename NOT LIKE '\\_dlt\\_%%'",
    )
    with connect(source) as here, connect(new_url) as there:
        if here.execute(identity[0]).fetchone() == there.execute(identity[0]).fetchone():
            raise WarehouseError(
                f"{org.slug} has its tables in that database already.", advice="Nothing is to be done."
            )
        found = there.execute(identity[1], (list(schemas),)).fetchone()
    if found is not None and found[0]:
        raise WarehouseError(
            f"The new warehouse holds {found[0]} tables of {org.slug} already.",
            advice=f"See whose they are; DROP SCHEMA {schemas[0]}, {schemas[1]} CASCADE there if nobody needs them.",
        )


def _prepare_new(catalog: Engine, settings: Settings, org: Organization, to: SecretReference | None) -> WarehouseTarget:
    """Role and schemas in the new place; the loader's own tables come with the copy."""
    from datasense_assets.warehouse.organizations import prepare_elsewhere

    target = prepare_elsewhere(catalog, settings, org, None if to is None else to.stored())
    with connect(target.url().get_secret_value()) as there:
        for schema in (target.schema, target.staging_schema):
            rows = there.execute("SELECT tablename FROM pg_tables WHERE schemaname = %s", (schema,)).fetchall()
            for (table,) in rows:
                there.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier(schema, table)))
    return target


def _copy(source: str, target: str, schemas: Sequence[str], *, role: str | None) -> None:
    """By a file in between: a pipe would hide which side failed."""
    with tempfile.TemporaryDirectory(prefix="datasense-move-") as folder:
        dump, listed = Path(folder) / "tables.dump", Path(folder) / "list"
        major = server_major(source)
        named = [f"--schema={schema}" for schema in schemas]
        run_program("pg_dump", source, "--format=custom", f"--file={dump}", *named, at_least=major)
        newest = max(major, server_major(target))
        listing = run_program("pg_restore", target, "--list", dump, at_least=newest, connects=False)
        kept = [line for line in listing.splitlines() if " SCHEMA " not in line and " ACL " not in line]
        listed.write_text("\n".join(kept) + "\n", encoding="utf-8")
        as_role = [f"--role={role}"] if role is not None else []
        run_program(
            "pg_restore", target, "--no-owner", "--no-privileges", "--exit-on-error", "--single-transaction",
            f"--use-list={listed}", *as_role, dump, at_least=newest,
        )  # fmt: skip


def _put_aside(connection: psycopg.Connection, slug: str, *, drop: bool) -> tuple[str, ...]:
    if drop:
        drop_schemas(connection, slug)
        return ()
    left = []
    for name in (org_schema(slug), STAGING_LAYOUT % org_schema(slug)):
        aside = MOVED % name
        connection.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(aside)))
        connection.execute(sql.SQL("ALTER SCHEMA {} RENAME TO {}").format(sql.Identifier(name), sql.Identifier(aside)))
        left.append(aside)
    return tuple(left)
