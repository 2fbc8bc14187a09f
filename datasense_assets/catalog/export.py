"""An organisation of the catalog as a manifest that, applied, gives the same again."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, RowMapping, select

from datasense_assets.catalog.freshness import duration_text
from datasense_assets.catalog.tables import credentials, organizations, recipes, source_tables, sources
from datasense_assets.catalog.yaml_text import write_yaml


class UnknownOrganization(Exception):
    """The catalog has no organisation of that slug."""


def export_organization(connection: Connection, slug: str) -> str:
    """The organisation as YAML: what differs from the defaults, secrets as references, tables that were chosen by hand.

    Of a source that takes everything, tables are listed only where someone has set their types, keys or checks:
    discovery finds the others again.

    Raises:
        UnknownOrganization: there is none of that slug.

    """
    org = connection.execute(select(organizations).where(organizations.c.slug == slug)).mappings().one_or_none()
    if org is None:
        raise UnknownOrganization(f"there is no organisation {slug!r} in the catalog; see `datasense list orgs`")
    head = {"slug": org["slug"], "name": org["name"]}
    head |= _given(org, timezone="UTC", tier="standard", contacts=[], warehouse=None)
    if org["alerting"]:
        head["alerts"] = org["alerting"]
    document: dict[str, Any] = {"version": 1, "organization": head}
    found = connection.execute(select(sources).where(sources.c.org_id == org["id"]).order_by(sources.c.id)).mappings()
    if listed := [_source(connection, row) for row in found]:
        document["sources"] = listed
    found = connection.execute(select(recipes).where(recipes.c.org_id == org["id"]).order_by(recipes.c.id)).mappings()
    if specs := [{**row["spec"], "name": row["name"], **_promise(row)} for row in found]:
        document["recipes"] = specs
    return write_yaml(document)


def _given(row: RowMapping, **defaults: Any) -> dict[str, Any]:
    return {name: row[name] for name, default in defaults.items() if row[name] != default}


def _source(connection: Connection, row: RowMapping) -> dict[str, Any]:
    source: dict[str, Any] = {"slug": row["slug"], "connector": row["connector"], **_given(row, config={})}
    references = connection.execute(
        select(credentials).where(credentials.c.source_id == row["id"]).order_by(credentials.c.id)
    ).mappings()
    if secrets := {each["name"]: each["reference"] for each in references}:
        source["credentials"] = secrets
    source |= _tables(connection, row)
    source |= _given(row, schedule="daily")
    partitions: dict[str, Any] = {}
    if row["partition_every"] != "day":
        partitions["every"] = row["partition_every"]
    if row["partition_start"] is not None:
        partitions["start"] = row["partition_start"].isoformat()
    if partitions:
        source["partitions"] = partitions
    return source | _given(row, deletes="ignore", full_reload=None, max_minutes=None) | _promise(row)


def _promise(row: RowMapping) -> dict[str, str]:
    seconds = row["fresh_within_seconds"]
    return {} if seconds is None else {"fresh_within": duration_text(timedelta(seconds=seconds))}


def _tables(connection: Connection, source: RowMapping) -> dict[str, Any]:
    rows = connection.execute(
        select(source_tables)
        .where(source_tables.c.source_id == source["id"], source_tables.c.path == [])
        .order_by(source_tables.c.position, source_tables.c.slug)
    ).mappings()
    everything = source["discover_all"]
    tables = [
        {"slug": row["slug"], "resource": row["resource"], **_given(row, title=None, types={}, key=[], checks=[])}
        for row in rows
        if not everything or row["types"] or row["key"] or row["checks"]
    ]
    if not tables:
        return {}
    return {"tables": tables, "discover_all": True} if everything else {"tables": tables}
