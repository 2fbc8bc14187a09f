"""The shape a table takes in this load: names and types of its columns, from the form, the catalog, the values and the
warehouse as it is. Nothing is written here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from psycopg import Connection

from datasense_assets.catalog.models import ColumnType as T
from datasense_assets.catalog.models import SourceColumn, SourceTable
from datasense_assets.connectors.base import ColumnInfo, TableInfo
from datasense_assets.ingest.naming import column_names
from datasense_assets.ingest.schema import column_type, has_values, has_wide_integers
from datasense_assets.ingest.typing import Decision, Vote


@dataclass(frozen=True)
class ColumnPlan:
    """Columns of a table after the load, those that the source no longer has among them, and sentences about them."""

    columns: tuple[SourceColumn, ...]
    notes: tuple[str, ...]


def declared_types(table: SourceTable | None, info: TableInfo) -> dict[str, T]:
    """Key to the type that counts before any value: what the user set in the catalog, else the form's own."""
    declared = {column.key: column.type for column in info.columns if column.type is not None}
    if table is not None:
        by_name = {column.name: column.key for column in table.columns}
        declared |= {by_name.get(name, name): kind for name, kind in table.types.items()}
    return declared


def plan_columns(
    connection: Connection,
    schema: str,
    warehouse_table: str,
    *,
    table: SourceTable,
    info: TableInfo,
    votes: Mapping[str, Vote],
    found: Mapping[str, str] | None,
    complete: bool,
) -> ColumnPlan:
    """Decide name and type of every column: described ones first, then those the catalog knows, then new keys.

    `found`: the warehouse table's columns and PostgreSQL types, None where there is no table. `complete`: every
    row of the source was read. A column that the source no longer has stays, marked as not current.
    """
    known = {column.key: column for column in table.columns}
    described = {column.key: column for column in info.columns}
    keys = [*described, *(k for k in known if k not in described)]
    keys += [k for k in votes if k not in described and k not in known]
    names = column_names(keys, {key: column.name for key, column in known.items()})
    declared = declared_types(table, info)
    columns, notes = [], []
    for position, key in enumerate(keys):
        vote = votes.get(key) or Vote(declared.get(key))
        decision = _decide(connection, schema, warehouse_table, names[key], vote, found or {})
        column = _column(names[key], key, decision.type, position, described.get(key), known.get(key))
        current = _is_current(key, info, votes, known.get(key), complete=complete)
        columns.append(column.model_copy(update={"current": current}))
        notes += [f"{column.label}: {note}" for note in decision.notes]
    return ColumnPlan(tuple(columns), tuple(notes))


def is_declared(info: TableInfo) -> bool:
    """Whether the description is the form's own, which names all its questions and types, and no sample of the data."""
    return any(column.type is not None for column in info.columns)


def _is_current(
    key: str, info: TableInfo, votes: Mapping[str, Vote], known: SourceColumn | None, *, complete: bool
) -> bool:
    """Whether the source has the column today. Old rows may still hold values of a question that a form has no more."""
    if any(column.key == key for column in info.columns):
        return True
    if is_declared(info):
        return False
    if key in votes:
        return True
    was = known is None or known.current
    return was and not (complete and (info.columns or votes))


def _decide(
    connection: Connection, schema: str, table: str, name: str, vote: Vote, found: Mapping[str, str]
) -> Decision:
    if name not in found:
        return vote.decide()
    existing = column_type(found[name])
    decision, free = vote.widen(existing), vote.decide()
    wants_more = decision.type is not existing or free.type is not existing
    if wants_more and (vote.has_value or vote.declared) and not has_values(connection, schema, table, name):
        return free  # a column that never held a value takes the type of its first ones
    if existing is T.INTEGER and decision.type is T.NUMBER and has_wide_integers(connection, schema, table, name):
        note = "has numbers of more than 15 digits beside decimals, which no number column holds exactly; it is text"
        return Decision(T.TEXT, (note,))
    return decision


def _column(
    name: str, key: str, kind: T, position: int, info: ColumnInfo | None, known: SourceColumn | None
) -> SourceColumn:
    if info is None and known is not None:
        return known.model_copy(update={"type": kind, "position": position})
    return SourceColumn(
        name=name,
        key=key,
        label=(info.label if info is not None else "") or key,
        type=kind,
        position=position,
        labels=dict(info.labels) if info is not None else {},
        choices=info.choices if info is not None else (),
        personal=info.personal if info is not None else False,
    )
