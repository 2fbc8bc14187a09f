"""Recipes' lineages in the catalog: kept when one is compiled, read as one graph, asked what a change would break."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, delete, func, insert, text
from sqlalchemy.dialects.postgresql import insert as upsert

from datasense_assets.catalog.impact import Impact, impact
from datasense_assets.catalog.lineage import (
    SYSTEM_PREFIX,
    Edge,
    LineageColumn,
    LineageGraph,
    LineageTable,
    Point,
    RecipeLineage,
    State,
)
from datasense_assets.catalog.models import InputReference
from datasense_assets.catalog.state.discovery import SchemaChange
from datasense_assets.catalog.tables import recipe_column_uses, recipe_columns, recipe_lineage


def record_lineage(connection: Connection, recipe_id: int, lineage: RecipeLineage) -> None:
    """Put the lineage in the place of the one that is there; a reader sees the old one or the new one, whole."""
    values = {"recipe_id": recipe_id, "spec_hash": lineage.spec_hash, "recorded_at": func.now()}
    made = upsert(recipe_lineage).values(**values)
    # The update locks the row, so two that record at once come one after the other.
    connection.execute(made.on_conflict_do_update(index_elements=["recipe_id"], set_=values))
    connection.execute(delete(recipe_column_uses).where(recipe_column_uses.c.recipe_id == recipe_id))
    connection.execute(delete(recipe_columns).where(recipe_columns.c.recipe_id == recipe_id))
    columns = [
        {"recipe_id": recipe_id, "position": i, "name": each.name, "type": each.type, "personal": each.personal}
        for i, each in enumerate(lineage.columns)
    ]
    uses = [
        {"recipe_id": recipe_id, "column_name": each.column, "use": each.use, **_source_values(each.source)}
        for each in lineage.uses
    ]
    if columns:
        connection.execute(insert(recipe_columns), columns)
    if uses:
        connection.execute(insert(recipe_column_uses), uses)


def _source_values(point: Point) -> dict[str, str | None]:
    reference = InputReference.parse(point.table)
    return {
        "source_ident": reference.source,
        "table_ident": reference.table,
        "recipe_ident": reference.recipe,
        "source_column": point.column,
    }


_TABLES = """
SELECT s.slug AS source, t.slug AS table_slug, t.title,
       coalesce((SELECT json_agg(json_build_object('name', c.name, 'type', c.type, 'label', c.label,
                                                   'personal', c.personal) ORDER BY c.position, c.name COLLATE "C")
                 FROM datasense.source_columns c WHERE c.table_id = t.id), '[]'::json) AS columns
FROM datasense.sources s JOIN datasense.source_tables t ON t.source_id = s.id
WHERE s.org_id = :org ORDER BY s.slug, t.position, t.slug
"""

_RECIPES = """
SELECT r.id, r.name, r.title, r.spec_hash = l.spec_hash AS current,
       coalesce((SELECT json_agg(json_build_object('name', c.name, 'type', c.type, 'personal', c.personal)
                                 ORDER BY c.position)
                 FROM datasense.recipe_columns c WHERE c.recipe_id = r.id), '[]'::json) AS columns,
       coalesce((SELECT json_agg(json_build_object('column_name', u.column_name, 'use', u.use, 'source', u.source_ident,
                                                   'table', u.table_ident, 'recipe', u.recipe_ident,
                                                   'source_column', u.source_column) ORDER BY u.id)
                 FROM datasense.recipe_column_uses u WHERE u.recipe_id = r.id), '[]'::json) AS uses,
       coalesce((SELECT json_agg(json_build_object('source', i.source_ident, 'table', i.table_ident,
                                                   'recipe', i.recipe_ident) ORDER BY i.alias)
                 FROM datasense.recipe_inputs i WHERE i.recipe_id = r.id), '[]'::json) AS inputs
FROM datasense.recipes r LEFT JOIN datasense.recipe_lineage l ON l.recipe_id = r.id
WHERE r.org_id = :org ORDER BY r.name
"""


def read_lineage(connection: Connection, org_id: int) -> LineageGraph:
    """The tables of one organisation and how their columns hang together, as far as recipes have been compiled.

    What a recipe uses and the catalog does not have is in it, marked as missing.
    """
    tables: dict[str, LineageTable] = {}
    for row in connection.execute(text(_TABLES), {"org": org_id}).mappings():
        reference = InputReference.of_table(row["source"], row["table_slug"]).text
        columns = {each["name"]: LineageColumn(**each) for each in row["columns"]}
        address = f"{row['source']}/{row['table_slug']}"
        tables[reference] = LineageTable(reference, address, row["title"] or "", "current", columns)
    edges: list[Edge] = []
    for row in connection.execute(text(_RECIPES), {"org": org_id}).mappings():
        reference = InputReference.of_recipe(row["name"]).text
        columns = {each["name"]: LineageColumn(**each) for each in row["columns"]}
        state: State = "unknown" if row["current"] is None else "current" if row["current"] else "stale"
        reads = tuple(dict.fromkeys(_reference(each) for each in row["inputs"]))
        tables[reference] = LineageTable(
            reference, row["name"], row["title"] or "", state, columns, reads, recipe_id=row["id"]
        )
        edges += [
            Edge(Point(_reference(each), each["source_column"]), reference, each["column_name"], each["use"])
            for each in row["uses"]
        ]
    return LineageGraph(_with_missing(tables, edges), tuple(edges))


def _reference(row: Mapping[str, Any]) -> str:
    return InputReference(source=row["source"], table=row["table"], recipe=row["recipe"]).text


def _with_missing(tables: dict[str, LineageTable], edges: Iterable[Edge]) -> dict[str, LineageTable]:
    """The tables, and whatever edges and inputs name that is not among them."""
    named: dict[str, dict[str, LineageColumn]] = {table: dict(each.columns) for table, each in tables.items()}
    for table in tables.values():
        for reference in table.reads:
            named.setdefault(reference, {})
    for edge in edges:
        columns = named.setdefault(edge.source.table, {})
        if edge.source.column not in columns:
            known = tables.get(edge.source.table)
            ours = known is not None and known.recipe_id is None and edge.source.column.startswith(SYSTEM_PREFIX)
            # Of a table whose columns nobody has seen yet, nothing can be missing.
            seen = known is None or bool(known.columns)
            columns[edge.source.column] = LineageColumn(edge.source.column, missing=seen and not ours)
    found: dict[str, LineageTable] = {}
    for reference, columns in named.items():
        known = tables.get(reference)
        if known is None:
            address = reference.partition(":")[2].replace(".", "/", 1)
            found[reference] = LineageTable(reference, address, state="missing", columns=columns)
        else:
            found[reference] = LineageTable(
                reference, known.address, known.title, known.state, columns, known.reads, known.recipe_id
            )
    return found


def impact_of_schema_changes(connection: Connection, table_id: int, changes: Sequence[SchemaChange]) -> list[Impact]:
    """What the changes of a loaded table do to the organisation's recipes, at whatever remove.

    A removed column breaks what names it; a retyped one may break what uses it; an added one harms nothing.
    """
    row = connection.execute(
        text(
            "SELECT t.org_id, s.slug AS source, t.slug AS table_slug FROM datasense.source_tables t "
            "JOIN datasense.sources s ON s.id = t.source_id WHERE t.id = :table"
        ),
        {"table": table_id},
    ).one_or_none()
    columns = {
        kind: [change.column_name for change in changes if change.kind == kind and change.column_name is not None]
        for kind in ("removed", "retyped")
    }
    if row is None or not any(columns.values()):
        return []
    reference = InputReference.of_table(row.source, row.table_slug).text
    return impact(
        read_lineage(connection, row.org_id),
        gone=[Point(reference, name) for name in columns["removed"]],
        retyped=[Point(reference, name) for name in columns["retyped"]],
    )


def impact_of_deleting(connection: Connection, org_id: int, references: Iterable[str]) -> list[Impact]:
    """What deleting tables does to recipes that are not among them; `references` as in `Point.table`."""
    return impact(read_lineage(connection, org_id), gone_tables=references)
