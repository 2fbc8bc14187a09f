"""An organisation's data as files that any program reads: its manifest, and each table as CSV."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql
from sqlalchemy import text

from datasense_assets.catalog.export import export_organization
from datasense_assets.catalog.models import Organization
from datasense_assets.warehouse.organizations import prepare_organization

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from datasense_assets.settings import Settings

_COLUMNS = """
SELECT t.warehouse_name, t.title, c.name, c.label, c.type, c.personal
FROM datasense.source_tables t JOIN datasense.source_columns c ON c.table_id = t.id
WHERE t.org_id = :org AND c.current ORDER BY t.id, c.position
"""


def take_along(
    catalog: Engine, settings: Settings, org: Organization, folder: Path, *, told: Callable[[str], None]
) -> dict[str, int]:
    """Write `manifest.yaml`, `tables/<table>.csv.gz` and `columns.json` into a folder that is not there yet.

    All tables are of one moment (one transaction). Secrets are references, as in any manifest. Rows by table.

    Raises:
        FileExistsError: the folder is there.
        OSError: it cannot be written.
        DatabaseUnavailable, SecretMissing: as `prepare_organization`.
    """
    with catalog.connect() as connection:
        manifest = export_organization(connection, org.slug)
        described: dict[str, Any] = {}
        for row in connection.execute(text(_COLUMNS), {"org": org.id}).mappings():
            table = described.setdefault(row["warehouse_name"], {"title": row["title"], "columns": []})
            table["columns"].append({name: row[name] for name in ("name", "label", "type", "personal")})
    target = prepare_organization(catalog, settings, org)
    (folder / "tables").mkdir(parents=True)
    (folder / "manifest.yaml").write_text(manifest, encoding="utf-8")
    (folder / "columns.json").write_text(json.dumps(described, ensure_ascii=False, indent=1), encoding="utf-8")
    counted: dict[str, int] = {}
    with target.connect() as connection:
        rows = connection.execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = %s AND tablename NOT LIKE '\\_dlt\\_%%' ORDER BY 1",
            (target.schema,),
        ).fetchall()
        connection.commit()
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        # Before the first query, which fixes the moment: of a table that takes another's place later, none of the rows
        # would be seen.
        for (table,) in rows:
            connection.execute(sql.SQL("LOCK {} IN ACCESS SHARE MODE").format(sql.Identifier(target.schema, table)))
        for (table,) in rows:
            told(table)
            counted[table] = _write(connection, target.schema, table, folder / "tables" / f"{table}.csv.gz")
    return counted


def _write(connection: psycopg.Connection, schema: str, table: str, path: Path) -> int:
    query = sql.SQL("COPY {} TO STDOUT (FORMAT csv, HEADER)").format(sql.Identifier(schema, table))
    cursor = connection.cursor()
    with gzip.open(path, "wb", compresslevel=5) as file, cursor.copy(query) as copy:
        for block in copy:
            file.write(block)
    return cursor.rowcount
