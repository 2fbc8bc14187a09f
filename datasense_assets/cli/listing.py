"""`datasense list`: what the catalog holds, and the latest runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from datasense_assets.cli.address import open_catalog, read_organization
from datasense_assets.cli.output import JsonFlag, ago, print_json, print_table, say

if TYPE_CHECKING:
    from sqlalchemy import Connection

_MOST_RUNS = 50


class What(StrEnum):
    """What can be listed."""

    ORGS = "orgs"
    SOURCES = "sources"
    RECIPES = "recipes"
    RUNS = "runs"
    CONNECTORS = "connectors"


def show_list(
    what: Annotated[What, typer.Argument(help="What to list.")] = What.ORGS,
    org: Annotated[str | None, typer.Option("--org", metavar="ORG", help="Only of this organisation.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many runs, newest first.")] = _MOST_RUNS,
    as_json: JsonFlag = False,
) -> None:
    """List organisations, sources, recipes, the latest runs, or the connectors there are."""
    if what is What.CONNECTORS:
        _print(what, _connectors(), as_json=as_json)
        return
    with open_catalog() as catalog, catalog.connect() as connection:
        slug = read_organization(connection, org).slug if org is not None else None
        rows = _runs(slug, limit) if what is What.RUNS else _rows(connection, what, slug)
    _print(what, rows, as_json=as_json)


def _print(what: What, rows: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        print_json({what.value: rows})
        return
    if not rows:
        say(f"There are no {what.value} yet." + ("" if what is What.RUNS else " `datasense apply FILE` adds some."))
        return
    columns = _COLUMNS[what]
    print_table(columns, [[_shown(row, column) for column in columns] for row in rows])


_COLUMNS: dict[What, tuple[str, ...]] = {
    What.ORGS: ("slug", "name", "timezone", "tier", "sources", "recipes", "paused"),
    What.SOURCES: ("org", "slug", "connector", "schedule", "partitions", "deletes", "tables", "paused"),
    What.RECIPES: ("org", "name", "title", "inputs"),
    What.CONNECTORS: ("name", "from", "reads past windows", "problem"),
    What.RUNS: ("started", "status", "what", "lane", "seconds", "run_id"),
}


def _connectors() -> list[dict[str, Any]]:
    """Built-in and installed kinds; what an installed package claims of a built-in one is a row of its own."""
    from datasense_assets.connectors import registry

    rows: list[dict[str, Any]] = []
    for kind in registry.kinds():
        problem = registry.problem_with(kind)
        rows.append(
            {
                "name": kind,
                "from": registry.provider(kind) or "built in",
                "reads past windows": registry.has_history(kind),
                "problem": str(problem) if problem is not None else "",
            }
        )
    ignored = registry.ignored_claims()
    return rows + [
        {"name": claim.path, "from": "", "reads past windows": False, "problem": f"{claim.message} {claim.fix}"}
        for claim in ignored
    ]


def _shown(row: dict[str, Any], column: str) -> Any:
    value = row[column]
    if isinstance(value, bool):
        return "yes" if value else ""
    return ago(value) if column == "started" and value else value


def _rows(connection: Connection, what: What, org: str | None) -> list[dict[str, Any]]:
    from datasense_assets.catalog import listing

    match what:
        case What.SOURCES:
            return [asdict(line) for line in listing.list_sources(connection, org)]
        case What.RECIPES:
            return [asdict(line) for line in listing.list_recipes(connection, org)]
        case _:
            return [asdict(line) for line in listing.list_organizations(connection, org)]


def _named(tags: Mapping[str, str], selected: Sequence[str]) -> str:
    """What a run is for: its one source, recipe or asset, else how many of its organisation."""
    from datasense_assets.running import tags as t

    one = tags.get(t.SOURCE_KEY) or tags.get(t.RECIPE_KEY)
    if one or len(selected) == 1:
        return one or selected[0]
    return f"{tags.get(t.ORG, 'several organisations')}: " + (f"{len(selected)} assets" if selected else "recipes")


def _runs(org: str | None, limit: int) -> list[dict[str, Any]]:
    """The newest runs from Dagster's instance, which is opened only for this."""
    import dagster as dg

    from datasense_assets.catalog.models import identifier
    from datasense_assets.cli.here import instance_for_runs
    from datasense_assets.running import tags as t

    filters = dg.RunsFilter(tags={t.ORG: identifier(org)}) if org is not None else None
    with instance_for_runs() as instance:
        records = instance.get_run_records(filters=filters, limit=limit)
    rows = []
    for record in records:
        run = record.dagster_run
        start = datetime.fromtimestamp(record.start_time, UTC) if record.start_time else None
        end = datetime.fromtimestamp(record.end_time, UTC) if record.end_time else None
        selected = sorted("/".join(key.path) for key in run.asset_selection or ())
        rows.append(
            {
                "run_id": run.run_id,
                "status": run.status.value.lower(),
                "what": _named(run.tags, selected),
                "assets": selected,
                "org": run.tags.get(t.ORG),
                "lane": run.tags.get(t.LANE),
                "created": record.create_timestamp,
                "started": start,
                "ended": end,
                "seconds": round((end - start).total_seconds(), 1) if start and end else None,
            }
        )
    return rows
