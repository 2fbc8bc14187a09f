"""The shape a table takes in this load: names and types of its columns, from the form, the catalog, the values and the
warehouse as it is. Nothing is written here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from psycopg import Connection, sql

from datasense_assets.catalog.models import ColumnType as T
from datasense_assets.catalog.models import SourceColumn, SourceTable
from datasense_assets.connectors.base import ColumnInfo, TableInfo
from datasense_assets.connectors.errors import BadData
from datasense_assets.ingest.naming import column_names, may_not_have_its_name
from datasense_assets.ingest.retyping import retyping
from datasense_assets.ingest.schema import column_type, has_values, has_wide_integers
from datasense_assets.ingest.typing import Decision, Vote

# keys of columns without a header
_NAMELESS = re.compile(r"column [0-9]+(?: \([0-9]+\))?")


@dataclass(frozen=True)
class ColumnPlan:
    """Columns of a table after the load, those that the source no longer has among them, and sentences about them.

    `lasting`: of those, by column name, what holds until the values are others (None: such a thing holds no longer).
    `conversions`: SQL by column name that gives what is there the type that the user has set by hand.
    """

    columns: tuple[SourceColumn, ...]
    notes: tuple[str, ...]
    lasting: Mapping[str, str | None] = field(default_factory=dict)
    conversions: Mapping[str, sql.Composable] = field(default_factory=dict)

    def notes_after(self, before: Mapping[str, str]) -> dict[str, str]:
        """What is to be said of columns after the load, by name, where `before` was said until now."""
        kept = {column.name: before[column.name] for column in self.columns if column.name in before}
        return {name: note for name, note in {**kept, **self.lasting}.items() if note is not None}


@dataclass(frozen=True)
class Warehouse:
    """The table that a plan is made for: where it is, its columns and PostgreSQL types (None where there is no table),
    the organisation's time zone, and whether this load brings every row anew.
    """

    connection: Connection
    schema: str
    table: str
    found: Mapping[str, str] | None
    timezone: str
    replaced: bool


def declared_types(table: SourceTable | None, info: TableInfo) -> dict[str, T]:
    """Key to the type that counts before any value: what the user set in the catalog, else the form's own."""
    declared = {column.key: column.type for column in info.columns if column.type is not None}
    return declared | _by_hand(table)


def _by_hand(table: SourceTable | None) -> dict[str, T]:
    """Key to the type that the user set, who may name the column by its key or by its name in the warehouse."""
    if table is None:
        return {}
    by_name = {column.name: column.key for column in table.columns}
    return {by_name.get(name, name): kind for name, kind in table.types.items()}


def plan_columns(
    warehouse: Warehouse, *, table: SourceTable, info: TableInfo, votes: Mapping[str, Vote], complete: bool
) -> ColumnPlan:
    """Decide name and type of every column: described ones first, then those the catalog knows, then new keys.

    `complete`: every row of the source was read. A column that the source no longer has stays, marked as not current.
    """
    known = {column.key: column for column in table.columns}
    described = {column.key: column for column in info.columns}
    keys = [*described, *(k for k in known if k not in described)]
    keys += [k for k in votes if k not in described and k not in known]
    names = column_names(keys, {key: column.name for key, column in known.items()})
    declared, by_hand = declared_types(table, info), _by_hand(table)
    columns, notes = [], []
    lasting: dict[str, str | None] = {}
    conversions: dict[str, sql.Composable] = {}
    for position, key in enumerate(keys):
        vote = votes.get(key) or Vote(declared.get(key))
        decision = _decide(warehouse, names[key], vote)
        if key in by_hand and decision.type is not by_hand[key]:
            decision = _retyped(warehouse, names[key], vote, decision, by_hand[key], conversions)
        elif key not in by_hand and complete and decision.type is T.TEXT:
            decision = _still_text(vote, decision)
        own = described[key].notes if key in described else ()
        if decision.lasts or own:
            lasting[names[key]] = "; ".join([*(decision.notes if decision.lasts else ()), *own])
        elif decision.type is not T.TEXT or key in by_hand or (complete and vote.has_value):
            lasting[names[key]] = None
        column = _column(names[key], key, decision.type, position, described.get(key), known.get(key))
        current = _is_current(key, info, votes, known.get(key), complete=complete)
        columns.append(column.model_copy(update={"current": current}))
        notes += [f"{column.label}: {note}" for note in (*decision.notes, *own)]
        if may_not_have_its_name(key) and (warehouse.found is None or names[key] not in warehouse.found):
            notes.append(
                f"{column.label}: is named {names[key]}, since such names are the platform's or Postgres's own"
            )
    for key in by_hand:
        if key not in names:
            lasting[key] = "is named in `types`, and the table has no such column"
            notes.append(f"{key}: {lasting[key]}")
    return ColumnPlan(tuple(columns), tuple(notes), lasting, conversions)


def is_declared(info: TableInfo) -> bool:
    """Whether the description is the form's own, which names all its questions and types, and no sample of the data."""
    return not info.is_sample and any(column.type is not None for column in info.columns)


def refuse_other_header(info: TableInfo, table: SourceTable) -> None:
    """A sheet or a file whose header was moved, as by a title above it, shows other columns, and none of the old ones.

    Raises:
        BadData: not one column of the last load is there; what was loaded stays.
    """
    was = {_folded(column.key): column.label or column.key for column in table.columns if column.current}
    now = {_folded(column.key): column.label or column.key for column in info.columns}
    named = [key for key in was if not _NAMELESS.fullmatch(key)]
    if is_declared(info) or not now or len(named) < 2 or any(key in now for key in named):
        return
    raise BadData(
        f"{info.title or table.slug} has not one of the columns of the last load ({_listed(was)}): its header now "
        f"holds {_listed(now)}. The table stays as it was.",
        advice="If the header was moved, set `header_row`. If it is another table now, sync once with --full.",
    )


def _folded(key: str) -> str:
    return " ".join(key.split()).casefold()


def _listed(columns: Mapping[str, str]) -> str:
    labels = [" ".join(label.split())[:40] for label in columns.values()]
    return ", ".join(labels[:5]) + (", ..." if len(labels) > 5 else "")


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
    shown = info.columns and not info.is_sample
    return was and not (complete and (shown or votes))


def _decide(warehouse: Warehouse, name: str, vote: Vote) -> Decision:
    connection, schema, table = warehouse.connection, warehouse.schema, warehouse.table
    if warehouse.found is None or name not in warehouse.found:
        return vote.decide()
    existing = column_type(warehouse.found[name])
    decision, free = vote.widen(existing), vote.decide()
    wants_more = decision.type is not existing or free.type is not existing
    if wants_more and (vote.has_value or vote.declared) and not has_values(connection, schema, table, name):
        return free  # a column that never held a value takes the type of its first ones
    if existing is T.INTEGER and decision.type is T.NUMBER and has_wide_integers(connection, schema, table, name):
        note = "has numbers of more than 15 digits beside decimals, which no number column holds exactly; it is text"
        return Decision(T.TEXT, (note,), lasts=True)
    return decision


def _still_text(vote: Vote, decision: Decision) -> Decision:
    free = vote.decide().type
    if free is T.TEXT or decision.notes or not vote.has_value:
        return decision
    note = f"held other values once and stays text, though all are of the type {free.value} now; `types` can change it"
    return Decision(T.TEXT, (note,), lasts=True)


def _retyped(
    warehouse: Warehouse,
    name: str,
    vote: Vote,
    decision: Decision,
    wanted: T,
    conversions: dict[str, sql.Composable],
) -> Decision:
    """The type that the user set by hand, where every value can be read as it; else what was decided, and why."""
    misfit = vote.example
    if vote.fits(wanted) and warehouse.found is not None and name in warehouse.found:
        found = retyping(
            warehouse.connection,
            warehouse.schema,
            warehouse.table,
            name,
            column_type(warehouse.found[name]),
            wanted,
            timezone=warehouse.timezone,
            replaced=warehouse.replaced,
        )
        if found.misfit is None:
            conversions[name] = found.using
            return Decision(wanted)
        misfit = found.misfit[:40]
    shown = f" (such as {misfit!r})" if misfit else ""
    note = f"has values that are not of the type {wanted.value} set in `types`{shown}; it is {decision.type.value}"
    return Decision(decision.type, (note,), lasts=True)


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
