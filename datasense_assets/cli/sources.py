"""`datasense discover` and `datasense test`: what a source has, and whether its credential works."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from datasense_assets.cli.address import Address, find_source, open_catalog, read_organization
from datasense_assets.cli.output import JsonFlag, print_json, print_table, progress, say

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from datasense_assets.catalog.models import Organization, Source, SourceTable
    from datasense_assets.connectors.base import Connector, TableInfo

SourceArgument = Annotated[
    str, typer.Argument(metavar="ORG/SOURCE", help="The source, as `datasense list sources` shows it.")
]


def discover(source: SourceArgument, as_json: JsonFlag = False) -> None:
    """Show what there is to load, and note it in the catalog.

    Tables that the manifest names are described; without any, every table that the source has becomes one of its own.
    """
    from datasense_assets.ingest.discovery import ask_for_tables, record_tables

    address = Address.parse(source, parts=2, form="ORG/SOURCE")
    with open_catalog() as catalog:
        org, row = _find(catalog, address)
        with progress(f"Asking {org.slug}/{row.slug} what it has"):
            connector = open_reader(catalog, org, row)
            try:
                infos = ask_for_tables(catalog, row, connector)
            finally:
                connector.close()
            tables = record_tables(catalog, row, infos)
    entries = [_entry(info, tables) for info in infos]
    if as_json:
        print_json({"organization": org.slug, "source": row.slug, "tables": entries})
        return
    print_table(
        ("table", "title", "resource", "rows", "columns", "since"),
        [
            (e["slug"] or "(not loaded)", e["title"], e["resource"], e["rows"], len(e["columns"]), e["since"])
            for e in entries
        ],
    )
    say(f"{len(entries)} tables. Load them with `datasense sync {org.slug}/{row.slug}`.")


def test(source: SourceArgument, as_json: JsonFlag = False) -> None:
    """Try the source's address and credential with the cheapest call there is."""
    address = Address.parse(source, parts=2, form="ORG/SOURCE")
    with open_catalog() as catalog:
        org, row = _find(catalog, address)
        with progress(f"Trying {org.slug}/{row.slug}"):
            connector = open_reader(catalog, org, row)
            try:
                answer = connector.check()
            finally:
                connector.close()
    say(answer, style="green")
    if as_json:
        print_json({"organization": org.slug, "source": row.slug, "works": True, "message": answer})


def open_reader(catalog: Engine, org: Organization, source: Source, *, hurried: bool = False) -> Connector:
    """The source, opened for reading; raises SecretMissing or SourceError. `hurried` as in `open_source`."""
    from datasense_assets.ingest.opening import open_source
    from datasense_assets.settings import get_settings

    with catalog.connect() as connection:
        return open_source(connection, org, source, get_settings(), hurried=hurried)


def _find(catalog: Engine, address: Address) -> tuple[Organization, Source]:
    with catalog.connect() as connection:
        org = read_organization(connection, address.org)
    return org, find_source(org, address.name or "")


def _entry(info: TableInfo, tables: list[SourceTable]) -> dict[str, Any]:
    table = next((t for t in tables if (t.resource, t.path) == (info.resource, tuple(info.path))), None)
    return {
        "slug": table.slug if table else None,
        "title": info.title,
        "resource": info.resource,
        "path": list(info.path),
        "rows": info.rows,
        "since": info.history_start,
        "columns": [
            {"key": column.key, "label": column.label, "type": column.type, "personal": column.personal}
            for column in info.columns
        ],
    }
