"""Views that we made over tables: set aside while a table is replaced or altered, and made again over the new one.

A view of ours is known by the comment on its rule. Anybody else's is never dropped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
from psycopg import sql

from datasense_assets.warehouse.attachments import OWN_VIEW, Attachments, read_attachments
from datasense_assets.warehouse.columns import ColumnSpec, comment_on, declared

# Ours that hang on a table, each after those that it reads. What hangs on somebody else's view is his.
_OURS = """
WITH RECURSIVE above (oid, depth) AS (
    SELECT to_regclass(format('%%I.%%I', %(schema)s::text, %(table)s::text))::oid, 0
    UNION
    SELECT r.ev_class, a.depth + 1 FROM above a
      JOIN pg_depend d ON d.refobjid = a.oid AND d.refclassid = 'pg_class'::regclass
       AND d.classid = 'pg_rewrite'::regclass
      JOIN pg_rewrite r ON r.oid = d.objid AND r.ev_class <> a.oid
     WHERE obj_description(r.oid, 'pg_rewrite') = %(mark)s
)
SELECT n.nspname, c.relname, pg_get_viewdef(c.oid), max(a.depth)
  FROM above a JOIN pg_class c ON c.oid = a.oid JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE a.depth > 0 GROUP BY c.oid, n.nspname, c.relname ORDER BY max(a.depth), n.nspname, c.relname
"""


@dataclass(frozen=True)
class OwnView:
    """A view of ours as it was."""

    schema: str
    name: str
    definition: str
    attachments: Attachments


def own_views(connection: psycopg.Connection, schema: str, table: str) -> list[OwnView]:
    """Views of ours that hang on the table, directly or through each other, in the order in which they can be made."""
    rows = connection.execute(_OURS, {"schema": schema, "table": table, "mark": OWN_VIEW}).fetchall()
    found = []
    for where, name, definition, _ in rows:
        attachments = read_attachments(connection, where, name)
        if attachments is not None:
            found.append(OwnView(where, name, definition, attachments))
    return found


@contextmanager
def views_set_aside(connection: psycopg.Connection, schema: str, table: str) -> Iterator[list[str]]:
    """Drop our views over the table while the block changes it, and make them again after it.

    In the caller's transaction. The list is filled, when the block has ended, with those that no longer fit the table
    and are gone; their recipes have to be built again.
    """
    found = own_views(connection, schema, table)
    for view in reversed(found):
        connection.execute(sql.SQL("DROP VIEW {}").format(sql.Identifier(view.schema, view.name)))
    lost: list[str] = []
    yield lost
    lost += [f"{view.schema}.{view.name}" for view in found if not _made_again(connection, view)]


def _made_again(connection: psycopg.Connection, view: OwnView) -> bool:
    where = sql.Identifier(view.schema, view.name)
    try:
        with connection.transaction():
            # what PostgreSQL itself wrote
            connection.execute(sql.SQL("CREATE VIEW {} AS {}").format(where, sql.SQL(view.definition.rstrip("; \n"))))
            _mark(connection, view.schema, view.name)
            comment_on(
                connection, "VIEW", view.schema, view.name, view.attachments.comment, view.attachments.column_comments
            )
            view.attachments.grant_on(connection, view.schema, view.name)
    except psycopg.ProgrammingError:
        return False
    return True


def create_view(
    connection: psycopg.Connection, schema: str, name: str, columns: Sequence[ColumnSpec], select: str
) -> None:
    """Make a view of ours with the declared columns over one SELECT compiled by us."""
    values = sql.SQL(", ").join(
        sql.SQL("CAST({c} AS {}) AS {c}").format(declared(column), c=sql.Identifier(column.name)) for column in columns
    )
    statement = sql.SQL("CREATE VIEW {} AS SELECT {} FROM ({}) AS made")
    # binary asks for the extended protocol, in which the server itself refuses a second statement
    connection.execute(statement.format(sql.Identifier(schema, name), values, sql.SQL(select)), binary=True)
    _mark(connection, schema, name)


def _mark(connection: psycopg.Connection, schema: str, name: str) -> None:
    statement = sql.SQL('COMMENT ON RULE "_RETURN" ON {} IS {}')
    connection.execute(statement.format(sql.Identifier(schema, name), sql.Literal(OWN_VIEW)))
