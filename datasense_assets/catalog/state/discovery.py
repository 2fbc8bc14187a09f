"""Tables and columns as a source shows them: new ones are added, changed columns are events, nothing is forgotten."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime
from typing import Any, Literal

from sqlalchemy import Connection, delete, insert, select, update

from datasense_assets.catalog.models import SourceColumn, SourceTable, identifier
from datasense_assets.catalog.state.breaker import close_breaker, open_breaker
from datasense_assets.catalog.state.loads import FailureRecord
from datasense_assets.catalog.tables import schema_changes, source_columns, source_status, source_tables, sources

_TOP_SLUG_LENGTH = 40
_SLUG_LENGTH = 120


@dataclass(frozen=True)
class DiscoveredTable:
    """A table that a source has; `resource` and `path` identify it, as in `connectors.base.TableInfo`."""

    resource: str
    title: str
    path: tuple[str, ...] = ()
    history_start: date | None = None


ChangeKind = Literal["added", "removed", "returned", "retyped", "relabelled", "table_removed", "table_returned"]


@dataclass(frozen=True)
class AffectedRecipe:
    """A recipe that a schema change reaches. `breaks`: it no longer compiles; `uses`: it is built as before."""

    recipe: str
    effect: Literal["breaks", "uses"]
    why: str = ""


@dataclass(frozen=True)
class SchemaChange:
    """A column, or a table, that came, went, came back, or has another type or label; None where there is none.

    Types are `ColumnType` values. `column_name` is None of a table's own changes. A removed column or table stays in
    the warehouse; the column is without new values, the table as it was.
    """

    kind: ChangeKind
    column_name: str | None
    old_type: str | None = None
    new_type: str | None = None
    old_label: str | None = None
    new_label: str | None = None
    affects: tuple[AffectedRecipe, ...] = ()

    def __str__(self) -> str:
        """The change as a sentence, with the recipes that break by it."""
        said = {
            "added": f"column {self.column_name} is new",
            "removed": f"the source no longer has column {self.column_name}; it stays, without new values",
            "returned": f"the source has column {self.column_name} again",
            "retyped": f"column {self.column_name} is {self.new_type} and no longer {self.old_type}",
            "relabelled": f"column {self.column_name} is labelled {self.new_label!r} and no longer {self.old_label!r}",
            "table_removed": "the source no longer has this table; it stays as it was",
            "table_returned": "the source has this table again",
        }[self.kind]
        broken = [each.recipe for each in self.affects if each.effect == "breaks"]
        used = [each.recipe for each in self.affects if each.effect == "uses"]
        said += f"; it breaks {', '.join(broken)}" if broken else ""
        return said + (f"; it is used by {', '.join(used)}" if used else "")


def read_tables(connection: Connection, source_id: int) -> list[SourceTable]:
    """The source's tables with their columns, as in a snapshot: by position, repeat groups after their parents."""
    return _with_columns(
        connection, list(connection.execute(select(source_tables).where(source_tables.c.source_id == source_id)))
    )


def _with_columns(connection: Connection, rows: list[Any]) -> list[SourceTable]:
    tops = {row.resource: row.position for row in rows if not row.path}
    rows.sort(
        key=lambda row: (tops.get(row.resource, row.position), row.resource, len(row.path), row.position, row.slug)
    )
    slugs = {row.id: row.slug for row in rows}
    columns: dict[int, list[SourceColumn]] = {}
    query = select(source_columns).where(source_columns.c.table_id.in_(slugs))
    for row in connection.execute(query.order_by(source_columns.c.position, source_columns.c.name)).mappings():
        columns.setdefault(row["table_id"], []).append(_column(row))
    return [
        SourceTable(
            id=row.id,
            slug=row.slug,
            resource=row.resource,
            path=tuple(row.path),
            parent=slugs.get(row.parent_id),
            title=row.title,
            types=row.types,
            key=tuple(row.key),
            history_start=row.history_start,
            columns=tuple(columns.get(row.id, ())),
        )
        for row in rows
    ]


def upsert_tables(connection: Connection, source_id: int, tables: Iterable[DiscoveredTable]) -> list[SourceTable]:
    """Add what is new, refresh titles and first days, delete nothing; return all tables of the source.

    A table keeps its slug for ever; a new one is named after its title. A new top table is added only where the source
    takes everything (`discover_all`); repeat groups of known tables always are.
    """
    # Two discoveries of one source at once would choose the same slug twice.
    discover_all = connection.execute(
        select(sources.c.discover_all).where(sources.c.id == source_id).with_for_update()
    ).scalar_one()
    rows = connection.execute(select(source_tables).where(source_tables.c.source_id == source_id)).all()
    known = {(row.resource, tuple(row.path)): row for row in rows}
    taken = {identifier(row.slug) for row in rows}
    ids = {place: (row.id, row.slug) for place, row in known.items()}
    position = max((row.position for row in rows), default=-1) + 1
    differs = False
    for table in sorted(tables, key=lambda each: len(each.path)):
        place = (table.resource, table.path)
        row = known.get(place)
        if row is not None:
            differs = _refresh(connection, row, table) or differs
            continue
        parent = ids.get((table.resource, table.path[:-1])) if table.path else None
        if place in ids or (parent is None and (table.path or not discover_all)):
            continue
        slug = _slug_for(table, parent[1] if parent else None, taken)
        taken.add(identifier(slug))
        new_id = connection.execute(
            insert(source_tables)
            .values(
                source_id=source_id,
                slug=slug,
                resource=table.resource,
                path=list(table.path),
                parent_id=parent[0] if parent else None,
                title=table.title or None,
                history_start=table.history_start,
                position=position,
            )
            .returning(source_tables.c.id)
        ).scalar_one()
        ids[place] = (new_id, slug)
        position += 1
        differs = True
    return read_tables(connection, source_id) if differs else _with_columns(connection, list(rows))


def _refresh(connection: Connection, row: Any, table: DiscoveredTable) -> bool:
    """Write down what the source now says of a table that is known; whether that is something else."""
    title = table.title or row.title
    start = min([day for day in (row.history_start, table.history_start) if day is not None], default=None)
    if (title, start) == (row.title, row.history_start):
        return False
    connection.execute(
        update(source_tables).where(source_tables.c.id == row.id).values(title=title, history_start=start)
    )
    return True


def _slug_for(table: DiscoveredTable, parent: str | None, taken: set[str]) -> str:
    from anyascii import anyascii

    words = table.path[-1].rsplit("/", 1)[-1] if table.path else table.title or table.resource
    # Single underscores only: two in a row would read as a repeat group.
    own = re.sub(r"[^a-z0-9]+", "_", anyascii(words).lower()).strip("_") or "table"
    limit = _TOP_SLUG_LENGTH if parent is None else _SLUG_LENGTH - len(parent) - len("__")
    prefix = "" if parent is None else f"{parent}__"
    slug, number = prefix + own[:limit].rstrip("_"), 2
    while identifier(slug) in taken:
        ending = f"_{number}"
        slug, number = prefix + own[: limit - len(ending)].rstrip("_") + ending, number + 1
    return slug


def replace_columns(connection: Connection, table_id: int, columns: Sequence[SourceColumn]) -> list[SchemaChange]:
    """Make the table's columns equal to these, writing only what differs; return what came, went or was retyped.

    Columns are the same when their `key` is. The first columns of a table are no change.
    """
    query = select(source_columns).where(source_columns.c.table_id == table_id)
    old = {row["key"]: _column(row) for row in connection.execute(query.with_for_update()).mappings()}
    new = {column.key: column for column in columns}
    gone = [column for key, column in old.items() if new.get(key) != column]
    fresh = [column for key, column in new.items() if old.get(key) != column]
    if gone:
        connection.execute(
            delete(source_columns).where(
                source_columns.c.table_id == table_id, source_columns.c.name.in_([column.name for column in gone])
            )
        )
    if fresh:
        connection.execute(
            insert(source_columns), [{"table_id": table_id, **column.model_dump(mode="json")} for column in fresh]
        )
    return _changes(old, new) if old else []


def _changes(old: dict[str, SourceColumn], new: dict[str, SourceColumn]) -> list[SchemaChange]:
    changes = [SchemaChange("added", new[key].name, None, new[key].type) for key in new if key not in old]
    changes += [SchemaChange("removed", old[key].name, old[key].type, None) for key in old if key not in new]
    for key in [key for key in new if key in old]:
        was, now = old[key], new[key]
        if was.current and not now.current:
            changes.append(SchemaChange("removed", now.name, was.type, None))
        if now.current and not was.current:
            changes.append(SchemaChange("returned", now.name, None, now.type))
        if was.type != now.type:
            changes.append(SchemaChange("retyped", now.name, was.type, now.type))
        if was.label != now.label:
            changes.append(SchemaChange("relabelled", now.name, old_label=was.label, new_label=now.label))
    return changes


def _column(row: Any) -> SourceColumn:
    return SourceColumn.model_validate({key: value for key, value in row.items() if key != "table_id"})


def record_schema_changes(
    connection: Connection, table_id: int, *, run_id: str, changes: Sequence[SchemaChange]
) -> None:
    """Keep the changes as events of the table."""
    if changes:
        connection.execute(
            insert(schema_changes),
            [
                {
                    "table_id": table_id,
                    "run_id": run_id,
                    "kind": change.kind,
                    "column_name": change.column_name,
                    "old_type": change.old_type,
                    "new_type": change.new_type,
                    "old_label": change.old_label,
                    "new_label": change.new_label,
                    "affects": [asdict(each) for each in change.affects],
                }
                for change in changes
            ],
        )


def record_discovery(
    connection: Connection, source_id: int, *, now: datetime, failure: FailureRecord | None, counted: bool = True
) -> None:
    """Record that the source was asked for its tables, and how that ended; `counted` as in `record_source_result`.

    The breaker opens and closes as after a load.
    """
    values: dict[str, Any]
    if failure is None:
        values = {"discovered_at": now, "failures_in_a_row": 0}
        values |= {"failure_kind": None, "failure_message": None, "failure_advice": None}
    else:
        values = {
            "last_failure_at": now,
            "failures_in_a_row": source_status.c.failures_in_a_row + int(counted),
            "failure_kind": failure.kind,
            "failure_message": failure.message,
            "failure_advice": failure.advice,
        }
    failures = connection.execute(
        update(source_status)
        .where(source_status.c.source_id == source_id)
        .values(**values)
        .returning(source_status.c.failures_in_a_row)
    ).scalar_one()
    if failure is None:
        close_breaker(connection, source_id)
    elif failure.permanent:
        open_breaker(connection, source_id, failures=failures, message=failure.message, now=now)
