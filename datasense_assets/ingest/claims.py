"""Which load may write a table: the one that began last. Kept in the warehouse, beside the staged rows.

A lease says who should write; here the warehouse itself refuses whoever no longer may. Every transaction that changes a
table first locks the table's row and finds its own load there, so a worker that was paused, and whose source another
run has taken since, can change nothing with what it read before. `written_by` is the last load that began to write:
while the catalog names another, the table holds rows of a load that died before it was recorded.

A worker that stops for good in the middle of such a transaction (its machine is paused, or the network is gone) would
hold the row until the server misses it, which by default takes two hours: so the server ends what lies still for long.
"""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import Connection, errors, sql

from datasense_assets.catalog.state import FenceLost
from datasense_assets.ingest.dataset import lock_dataset, staging_schema

CLAIMS_TABLE = "_ds_claims"
# longer than a source may take to answer, which is asked within the last transaction for what it no longer has
IDLE_SECONDS = 900
_GUARDS = (
    "SELECT 1 / (SELECT count(*) FROM (SELECT FROM {claims} WHERE table_name = {table} "
    "AND load_id = {load_id} FOR SHARE) AS held)",
    "LOCK TABLE {staged} IN SHARE MODE",
    "SELECT 1 / (CASE WHEN (SELECT count(*) FROM {staged}) = {rows} THEN 1 ELSE 0 END)",
)


@dataclass(frozen=True)
class Claim:
    """The right of one load to write one table and its repeat groups, in that schema of the warehouse."""

    schema: str
    table: str
    load_id: str


def let_go_when_idle() -> str:
    """SQL by which the server ends the transaction, and the session, of a worker that is heard of no more."""
    return f"SET LOCAL idle_in_transaction_session_timeout = '{IDLE_SECONDS}s'"


def begin(connection: Connection, claim: Claim) -> str | None:
    """Take the table over; return the load that wrote it last, None where that is not known.

    Waits for a transaction that is writing the table now, so that what is read after this is never older than what the
    table holds.
    """
    take = sql.SQL(
        "INSERT INTO {claims} (table_name, load_id) VALUES ({table}, {load_id}) "
        "ON CONFLICT (table_name) DO UPDATE SET load_id = excluded.load_id RETURNING written_by"
    ).format(**_names(claim))
    connection.execute(sql.SQL(let_go_when_idle()))
    try:
        with connection.transaction():
            row = connection.execute(take).fetchone()
    except (errors.UndefinedTable, errors.InvalidSchemaName):
        lock_dataset(connection, claim.schema)
        create = sql.SQL(
            "CREATE TABLE IF NOT EXISTS {claims} (table_name text PRIMARY KEY, load_id text NOT NULL, written_by text)"
        )
        connection.execute(create.format(**_names(claim)))
        row = connection.execute(take).fetchone()
    return None if row is None else row[0]


def write(connection: Connection, claim: Claim) -> None:
    """Say that this transaction writes the table; until it ends, no other load can begin.

    Raises:
        FenceLost: another load has begun since; nothing may be written.
    """
    connection.execute(sql.SQL(let_go_when_idle()))
    query = sql.SQL(
        "UPDATE {claims} SET written_by = load_id WHERE table_name = {table} AND load_id = {load_id} RETURNING 1"
    )
    if connection.execute(query.format(**_names(claim))).fetchone() is None:
        raise FenceLost(f"table {claim.table} was taken over by another load")


def last_writer(connection: Connection, schema: str, table: str) -> str | None:
    """The load that wrote the table last, without taking it over; None where that is not known."""
    query = sql.SQL("SELECT written_by FROM {claims} WHERE table_name = {table}").format(
        **_names(Claim(schema, table, ""))
    )
    try:
        with connection.transaction():
            row = connection.execute(query).fetchone()
    except (errors.UndefinedTable, errors.InvalidSchemaName):
        return None
    return None if row is None else row[0]


def is_held(connection: Connection, claim: Claim) -> bool:
    """Whether no other load has begun since."""
    query = sql.SQL("SELECT FROM {claims} WHERE table_name = {table} AND load_id = {load_id}")
    return connection.execute(query.format(**_names(claim))).fetchone() is not None


def guard(claim: Claim, staged: str, expected: int) -> list[str]:
    """SQL for the head of a merge: it divides by zero unless the claim holds and exactly `expected` rows are staged.

    Nobody else can begin, or stage rows, before the transaction ends.
    """
    parts = {**_names(claim), "staged": sql.Identifier(staging_schema(claim.schema), staged), "rows": expected}
    return [
        let_go_when_idle(),
        *(sql.SQL(text).format(**parts).as_string() for text in _GUARDS),
    ]


def _names(claim: Claim) -> dict[str, sql.Composable]:
    return {
        "claims": sql.Identifier(staging_schema(claim.schema), CLAIMS_TABLE),
        "table": sql.Literal(claim.table),
        "load_id": sql.Literal(claim.load_id),
    }
