"""What hangs on a table besides its rows: comments, grants, indexes, constraints; and what would not survive a swap.

`swap` reads these from the old table and makes them again on the new one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
from psycopg import sql

from datasense_assets.warehouse.errors import SwapRefused

OWN_VIEW = "DataSense recipe"
"""The comment on the rule of a view that we made."""

# an index is kept as its definition after USING; a constraint as its definition
_TABLE = """
SELECT c.oid, c.relkind::text, c.relacl::text IS NOT NULL, obj_description(c.oid, 'pg_class'), c.relrowsecurity,
       EXISTS (SELECT FROM pg_rewrite r WHERE r.ev_class = c.oid AND obj_description(r.oid, 'pg_rewrite') = %(mark)s)
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = %(schema)s AND c.relname = %(table)s
"""
_COLUMN_COMMENTS = """
SELECT attname, col_description(attrelid, attnum) FROM pg_attribute
 WHERE attrelid = %(oid)s AND attnum > 0 AND NOT attisdropped AND col_description(attrelid, attnum) IS NOT NULL
"""
_GRANTS = """
SELECT CASE WHEN a.grantee <> 0 THEN pg_get_userbyid(a.grantee) END, a.privilege_type, a.is_grantable, x.attname
  FROM (SELECT relacl AS acl, NULL::name AS attname, relowner FROM pg_class WHERE oid = %(oid)s
        UNION ALL
        SELECT t.attacl, t.attname, c.relowner FROM pg_attribute t JOIN pg_class c ON c.oid = t.attrelid
         WHERE t.attrelid = %(oid)s AND t.attnum > 0 AND NOT t.attisdropped) x
 CROSS JOIN LATERAL aclexplode(x.acl) a
 WHERE a.grantee <> x.relowner
"""
_INDEXES = """
SELECT i.relname, x.indisunique, substr(d.definition, length(d.head) + 1)
  FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_class c ON c.oid = x.indrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace
 CROSS JOIN LATERAL (SELECT pg_get_indexdef(i.oid) AS definition,
        format('CREATE %%sINDEX %%I ON %%I.%%I USING ', CASE WHEN x.indisunique THEN 'UNIQUE ' ELSE '' END,
               i.relname, n.nspname, c.relname) AS head) d
 WHERE x.indrelid = %(oid)s AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.oid AND k.conrelid = c.oid)
   AND left(i.relname, 7) <> '_ds_ix_' AND starts_with(d.definition, d.head)
"""
_CONSTRAINTS = """
SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint
 WHERE conrelid = %(oid)s AND contype IN ('p', 'u', 'c', 'x', 'f') ORDER BY contype <> 'p', conname
"""
_OBSTACLES = """
SELECT DISTINCT CASE v.relkind WHEN 'm' THEN 'materialized view ' ELSE 'view ' END || v.oid::regclass::text
  FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid JOIN pg_class v ON v.oid = r.ev_class
 WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = %(oid)s
   AND r.ev_class <> %(oid)s AND obj_description(r.oid, 'pg_rewrite') IS DISTINCT FROM %(mark)s
UNION ALL
SELECT 'foreign key ' || conname || ' of ' || conrelid::regclass::text FROM pg_constraint
 WHERE confrelid = %(oid)s AND contype = 'f' AND conrelid <> %(oid)s
UNION ALL
SELECT 'policy ' || polname FROM pg_policy WHERE polrelid = %(oid)s
UNION ALL
SELECT 'trigger ' || tgname FROM pg_trigger WHERE tgrelid = %(oid)s AND NOT tgisinternal
UNION ALL
SELECT 'inheriting table ' || inhrelid::regclass::text FROM pg_inherits WHERE inhparent = %(oid)s
ORDER BY 1
"""
_KINDS = {"v": "a view", "m": "a materialized view", "f": "a foreign table", "S": "a sequence", "i": "an index"}


@dataclass(frozen=True)
class Grant:
    """One privilege: `grantee` None is PUBLIC, `column` None the whole table."""

    grantee: str | None
    privilege: str
    grantable: bool
    column: str | None


@dataclass(frozen=True)
class Attachments:
    """All that is to be carried over from one table to the next, and the `obstacles` that cannot be.

    `is_view`: it hangs on a view of ours and not on a table.
    """

    comment: str | None
    column_comments: dict[str, str]
    grants: tuple[Grant, ...]
    grants_were_set: bool
    indexes: tuple[tuple[str, bool, str], ...]
    constraints: tuple[tuple[str, str], ...]
    obstacles: tuple[str, ...]
    is_view: bool = False

    def build_on(self, connection: psycopg.Connection, schema: str, new: str) -> list[tuple[str, str]]:
        """Build the indexes and constraints on the new table under names of their own; those whose columns are gone,
        or no longer have a fitting type, are left out. Returns the (temporary, final) names of indexes to be renamed.

        Raises:
            SwapRefused: the new rows break one.
        """
        where = sql.Identifier(schema, new)
        renames = []
        for name, unique, definition in self.indexes:
            temporary = temporary_name(schema, name)
            statement = sql.SQL("CREATE {}INDEX {} ON {} USING {}").format(
                sql.SQL("UNIQUE " if unique else ""), sql.Identifier(temporary), where, _from_catalog(definition)
            )
            if _try(connection, statement, f"index {name}"):
                renames.append((temporary, name))
        for name, definition in self.constraints:
            # a constraint's own name is free on another table, but its index's is not: the same detour for both
            temporary = temporary_name(schema, name)
            statement = sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} {}").format(
                where, sql.Identifier(temporary), _from_catalog(definition)
            )
            if _try(connection, statement, f"constraint {name}"):
                if definition.startswith(("PRIMARY KEY", "UNIQUE", "EXCLUDE")):
                    renames.append((temporary, name))
                else:
                    rename = sql.SQL("ALTER TABLE {} RENAME CONSTRAINT {} TO {}")
                    connection.execute(rename.format(where, sql.Identifier(temporary), sql.Identifier(name)))
        return renames

    def grant_on(self, connection: psycopg.Connection, schema: str, new: str) -> None:
        """Give the new table the old one's grants, and no more where somebody had set them by hand."""
        where = sql.Identifier(schema, new)
        if self.grants_were_set:
            oid = _oid(connection, schema, new)
            for grantee in {grant.grantee for grant in _read_grants(connection, oid)}:
                connection.execute(sql.SQL("REVOKE ALL ON {} FROM {}").format(where, _role(grantee)))
        if not self.grants:
            return
        columns = {name for (name,) in connection.execute(_COLUMNS, (_oid(connection, schema, new),))}
        for grant in self.grants:
            if grant.column is not None and grant.column not in columns:
                continue
            connection.execute(
                sql.SQL("GRANT {}{} ON {} TO {}{}").format(
                    _from_catalog(grant.privilege),
                    sql.SQL("") if grant.column is None else sql.SQL(" ({})").format(sql.Identifier(grant.column)),
                    where,
                    _role(grant.grantee),
                    sql.SQL(" WITH GRANT OPTION" if grant.grantable else ""),
                )
            )


_COLUMNS = "SELECT attname FROM pg_attribute WHERE attrelid = %s AND attnum > 0 AND NOT attisdropped"


def read_attachments(connection: psycopg.Connection, schema: str, table: str) -> Attachments | None:
    """What hangs on the table, or on the view of ours; None where there is none. Something else of that name is an
    obstacle, and so are views that are not ours.
    """
    row = connection.execute(_TABLE, {"schema": schema, "table": table, "mark": OWN_VIEW}).fetchone()
    if row is None:
        return None
    oid, kind, grants_were_set, comment, row_security, is_own_view = row
    key = {"oid": oid, "mark": OWN_VIEW}
    obstacles = [name for (name,) in connection.execute(_OBSTACLES, key)]
    if kind != "r" and not is_own_view:
        obstacles.insert(0, f"{schema}.{table} is {_KINDS.get(kind, 'no plain table')}")
    if row_security:
        obstacles.append("row security is on")
    return Attachments(
        comment=comment,
        column_comments=dict(connection.execute(_COLUMN_COMMENTS, key).fetchall()),
        grants=tuple(_read_grants(connection, oid)),
        grants_were_set=grants_were_set,
        indexes=tuple((n, u, d) for n, u, d in connection.execute(_INDEXES, key)),
        constraints=tuple((n, d) for n, d in connection.execute(_CONSTRAINTS, key)),
        obstacles=tuple(obstacles),
        is_view=is_own_view,
    )


def _read_grants(connection: psycopg.Connection, oid: int) -> list[Grant]:
    return [Grant(*row) for row in connection.execute(_GRANTS, {"oid": oid})]


def _oid(connection: psycopg.Connection, schema: str, table: str) -> int:
    row = connection.execute(_TABLE, {"schema": schema, "table": table, "mark": OWN_VIEW}).fetchone()
    if row is None:
        raise LookupError(f"{schema}.{table}")
    return int(row[0])


def temporary_name(schema: str, name: str) -> str:
    """What is made beside a table, view or index of the schema goes by this name until it takes its place."""
    return f"_ds_new_{hashlib.sha256(f'{schema}.{name}'.encode()).hexdigest()[:16]}"


def _role(name: str | None) -> sql.Composable:
    return sql.SQL("PUBLIC") if name is None else sql.Identifier(name)


def _from_catalog(definition: str) -> sql.SQL:
    """Text that Postgres itself wrote (definitions, privilege names), as SQL."""
    return sql.SQL(definition)


@contextmanager
def refusing(what: str) -> Iterator[None]:
    """Turn rows that break an index or constraint into words that name it.

    Raises:
        SwapRefused: they do.
    """
    try:
        yield
    except psycopg.IntegrityError as error:
        raise SwapRefused(
            f"The table was not replaced: its new rows break {what} ({error.diag.message_primary}).",
            advice="Drop that, or make the rows obey it.",
        ) from None


def _try(connection: psycopg.Connection, statement: sql.Composed, what: str) -> bool:
    """Run in a savepoint; False where a column or type that the statement speaks of is no longer there."""
    try:
        with refusing(what), connection.transaction():
            connection.execute(statement)
    except psycopg.ProgrammingError as error:
        if (error.sqlstate or "").startswith("42"):  # undefined column, no operator for the type and their like
            return False
        raise
    return True
