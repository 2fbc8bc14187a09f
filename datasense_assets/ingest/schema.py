"""Tables in the warehouse: made, widened and described before dlt loads into them, in one transaction under a lock.

dlt makes tables too, but with varchar and json, without comments, and two first loads of one organisation race in it;
here a load's target and staging tables and dlt's own are made exactly once, so dlt has nothing left to create.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from psycopg import Connection, sql

from datasense_assets.catalog.models import ColumnType as T
from datasense_assets.catalog.models import SourceColumn
from datasense_assets.connectors.base import INDEX, PARENT_ID, ROW_ID
from datasense_assets.ingest.dataset import LOADED_AT, dlt_tables, lock_dataset, staging_schema
from datasense_assets.ingest.errors import LoadMismatch
from datasense_assets.warehouse.views import views_set_aside

DELETED_AT = "_ds_deleted_at"
PG_TYPES: dict[T, str] = {
    T.TEXT: "text",
    T.INTEGER: "bigint",
    T.NUMBER: "double precision",
    T.BOOLEAN: "boolean",
    T.DATE: "date",
    T.DATETIME: "timestamp with time zone",
    T.TIME: "time without time zone",
    T.JSON: "jsonb",
}
_FROM_PG = {name: kind for kind, name in PG_TYPES.items()}
# dlt's parquet path cannot copy into jsonb (ADBC); the merge casts json to jsonb
_STAGING_TYPES = {**PG_TYPES, T.JSON: "json"}
_SPECIAL: dict[str, tuple[str, str]] = {
    ROW_ID: ("text", "Identifies the row; stable between loads"),
    PARENT_ID: ("text", "_ds_row_id of the row that this repeat belongs to"),
    INDEX: ("bigint", "Position in its parent, from 1"),
    LOADED_AT: ("timestamp with time zone", "When this row was last added or changed"),
    DELETED_AT: ("timestamp with time zone", "When the source no longer had this row"),
}
_WIDEST_EXACT_INTEGER = 10**15


@dataclass(frozen=True)
class TableShape:
    """A table as a load needs it: its own name, the special columns it has, its columns and what to say of them.

    `conversions`: SQL by column that turns its values into its new type, where that is no widening.
    """

    name: str
    title: str
    special: tuple[str, ...]
    columns: tuple[SourceColumn, ...]
    conversions: Mapping[str, sql.Composable] = field(default_factory=dict)


def special_columns(is_repeat: bool, tracks_deletes: bool) -> tuple[str, ...]:
    """The `_ds_` columns of a table, in their order."""
    repeat = (PARENT_ID, INDEX) if is_repeat else ()
    return (ROW_ID, *repeat, LOADED_AT, *((DELETED_AT,) if tracks_deletes else ()))


def existing_types(connection: Connection, schema: str, table: str) -> dict[str, str] | None:
    """Column name to PostgreSQL type of a table that is there; None where it is not."""
    rows = connection.execute(
        "SELECT a.attname, format_type(a.atttypid, a.atttypmod) FROM pg_attribute a "
        "JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE n.nspname = %s AND c.relname = %s AND c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped",
        (schema, table),
    ).fetchall()
    return dict(rows) if rows else None


def column_type(pg_type: str) -> T:
    """The column type that a PostgreSQL type stands for; text for one that we never make."""
    return _FROM_PG.get(pg_type, T.TEXT)


def has_values(connection: Connection, schema: str, table: str, column: str) -> bool:
    """Whether the column holds any value."""
    query = sql.SQL("SELECT EXISTS (SELECT FROM {}.{} WHERE {} IS NOT NULL)")
    names = (sql.Identifier(schema), sql.Identifier(table), sql.Identifier(column))
    return bool(_one(connection, query.format(*names)))


def has_wide_integers(connection: Connection, schema: str, table: str, column: str) -> bool:
    """Whether a bigint column holds a value that a double cannot hold exactly (beyond 15 digits)."""
    query = sql.SQL("SELECT EXISTS (SELECT FROM {}.{} WHERE {c} >= {w} OR {c} <= -{w})")
    parts = (sql.Identifier(schema), sql.Identifier(table))
    return bool(_one(connection, query.format(*parts, c=sql.Identifier(column), w=_WIDEST_EXACT_INTEGER)))


def count_rows(connection: Connection, schema: str, table: str) -> int:
    """Rows in the table."""
    query = sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(schema, table))
    row = connection.execute(query).fetchone()
    return 0 if row is None else int(row[0])


def _one(connection: Connection, query: sql.Composed) -> object:
    row = connection.execute(query).fetchone()
    return None if row is None else row[0]


def ensure_tables(connection: Connection, schema: str, shapes: Sequence[TableShape]) -> None:
    """Make target and staging tables as the shapes say, widening columns in place; commits nothing itself.

    A column is added, or its type altered with its data kept; none is dropped. Safe to call from several processes.
    """
    staging = staging_schema(schema)
    lock_dataset(connection, schema)
    dlt_tables(connection, schema, staging)
    for shape in shapes:
        _ensure_target(connection, schema, shape)
        _ensure_staging(connection, staging, shape)


def _ensure_target(connection: Connection, schema: str, shape: TableShape) -> None:
    table = sql.Identifier(schema, shape.name)
    wanted = {name: _SPECIAL[name][0] for name in shape.special}
    wanted |= {column.name: PG_TYPES[column.type] for column in shape.columns}
    found = existing_types(connection, schema, shape.name)
    if found is None:
        _create(connection, table, wanted)
        found = {}
    else:
        _alter(connection, schema, shape, found, wanted)
    _comment(connection, schema, shape)


def _create(connection: Connection, table: sql.Identifier, wanted: Mapping[str, str]) -> None:
    columns = sql.SQL(", ").join(
        sql.SQL("{} {}{}").format(
            sql.Identifier(name), sql.SQL(pg_type), sql.SQL(" NOT NULL PRIMARY KEY" if name == ROW_ID else "")
        )
        for name, pg_type in wanted.items()
    )
    connection.execute(sql.SQL("CREATE TABLE {} ({})").format(table, columns))
    if PARENT_ID in wanted:
        connection.execute(sql.SQL("CREATE INDEX ON {} ({})").format(table, sql.Identifier(PARENT_ID)))


def _alter(
    connection: Connection, schema: str, shape: TableShape, found: Mapping[str, str], wanted: Mapping[str, str]
) -> None:
    table = sql.Identifier(schema, shape.name)
    actions = []
    for name, pg_type in wanted.items():
        column = sql.Identifier(name)
        if name not in found:
            actions.append(sql.SQL("ADD COLUMN {} {}").format(column, sql.SQL(pg_type)))
        elif found[name] != pg_type:
            using = shape.conversions.get(name) or _widening(column, found[name], pg_type)
            if using is None:
                _refuse_values(connection, table, column, found[name], pg_type)
                using = sql.SQL("NULL::{}").format(sql.SQL(pg_type))
            actions.append(sql.SQL("ALTER COLUMN {} TYPE {} USING {}").format(column, sql.SQL(pg_type), using))
    if actions:
        # PostgreSQL alters no type under a view; those of our recipes are made again, or by their recipe's next build
        with views_set_aside(connection, schema, shape.name):
            connection.execute(sql.SQL("ALTER TABLE {} {}").format(table, sql.SQL(", ").join(actions)))


def as_text(column: sql.Identifier, pg_type: str) -> sql.Composed:
    """SQL for the column's values as text, as a source writes them."""
    if pg_type == PG_TYPES[T.DATETIME]:
        # plain ::text would follow the session's time zone and date style
        iso = sql.Literal('YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
        return sql.SQL("to_char({} AT TIME ZONE 'UTC', {})").format(column, iso)
    if pg_type == PG_TYPES[T.DATE]:
        return sql.SQL("to_char({}, 'YYYY-MM-DD')").format(column)
    return sql.SQL("{}::text").format(column)


def _widening(column: sql.Identifier, old: str, new: str) -> sql.Composed | None:
    if new == PG_TYPES[T.TEXT]:
        return as_text(column, old)
    if (old, new) == (PG_TYPES[T.INTEGER], PG_TYPES[T.NUMBER]):
        return sql.SQL("{}::{}").format(column, sql.SQL(new))
    return None


def _refuse_values(connection: Connection, table: sql.Identifier, column: sql.Identifier, old: str, new: str) -> None:
    """Only a column without any value goes from one of these types to another; none is thrown away to do it."""
    query = sql.SQL("SELECT EXISTS (SELECT FROM {} WHERE {} IS NOT NULL)").format(table, column)
    if _one(connection, query):
        raise LoadMismatch(
            f"Column {column.as_string()} of {table.as_string()} is {old} and holds values; it cannot become {new}.",
            advice="It was changed while this load went on; run the sync again.",
        )


def _comment(connection: Connection, schema: str, shape: TableShape) -> None:
    wanted: dict[str | None, str] = {None: shape.title}
    wanted |= {name: _SPECIAL[name][1] for name in shape.special}
    wanted |= {column.name: column.label for column in shape.columns}
    rows = connection.execute(
        "SELECT a.attname, d.description FROM pg_description d JOIN pg_class c ON c.oid = d.objoid "
        "JOIN pg_namespace n ON n.oid = c.relnamespace "
        "LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = d.objsubid AND d.objsubid > 0 "
        "WHERE d.classoid = 'pg_class'::regclass AND n.nspname = %s AND c.relname = %s",
        (schema, shape.name),
    ).fetchall()
    found: dict[str | None, str] = dict(rows)
    table = sql.Identifier(schema, shape.name)
    for name, comment in wanted.items():
        comment = comment.replace("\x00", "")
        if comment and found.get(name) != comment:
            kind = sql.SQL("TABLE {}").format(table)
            if name is not None:
                kind = sql.SQL("COLUMN {}").format(sql.Identifier(schema, shape.name, name))
            connection.execute(sql.SQL("COMMENT ON {} IS {}").format(kind, sql.Literal(comment)))


def _ensure_staging(connection: Connection, staging: str, shape: TableShape) -> None:
    wanted = {name: _SPECIAL[name][0] for name in shape.special}
    wanted |= {column.name: _STAGING_TYPES[column.type] for column in shape.columns}
    table = sql.Identifier(staging, shape.name)
    if existing_types(connection, staging, shape.name) == wanted:
        # dlt empties only the staging tables that its load has rows for
        connection.execute(sql.SQL("TRUNCATE {}").format(table))
        return
    connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(table))
    columns = sql.SQL(", ").join(
        sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(pg_type)) for name, pg_type in wanted.items()
    )
    connection.execute(sql.SQL("CREATE UNLOGGED TABLE {} ({})").format(table, columns))
