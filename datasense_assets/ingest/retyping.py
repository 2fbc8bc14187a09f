"""Types that the user gave by hand to a column that is there with another one: whether what the table holds can take
it, and the SQL that converts it in place.

Between loads a type only widens by itself; by hand it may become anything that every value can be read as.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
from psycopg import Connection, sql

from datasense_assets.catalog.models import ColumnType as T
from datasense_assets.ingest.schema import PG_TYPES, as_text
from datasense_assets.ingest.typing import AWARE_PATTERN, MISSING, TRUE_WORDS, Vote

MOST_GIVEN_UP = 1000
_BATCH = 10_000
# what Arrow trims: Unicode's white space, and the separators of ASCII
_SPACES = "\t\n\x0b\x0c\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(
    chr(each) for each in range(0x2000, 0x200B)
)


@dataclass(frozen=True)
class Retyping:
    """`using` converts a column's values in place; `misfit` is one that stands in the way, None where none does."""

    using: sql.Composable
    misfit: str | None


def retyping(
    connection: Connection,
    schema: str,
    table: str,
    column: str,
    existing: T,
    wanted: T,
    *,
    timezone: str,
    replaced: bool,
) -> Retyping:
    """How the column becomes `wanted`. `timezone`: of moments without an offset. `replaced`: this load brings every row
    anew, so that up to 1,000 values that are of no use to the new type do not stand in the way.
    """
    text = as_text(sql.Identifier(column), PG_TYPES[existing])
    most = MOST_GIVEN_UP if replaced else 0
    misfits = _misfits(connection, sql.Identifier(schema, table), text, wanted, most + 1)
    given_up = misfits if len(misfits) <= most else []
    using = _from_text(text, wanted, timezone)
    if given_up:
        gone = sql.SQL(", ").join(map(sql.Literal, given_up))
        using = sql.SQL("CASE WHEN {} IN ({}) THEN NULL ELSE {} END").format(text, gone, using)
    return Retyping(using, misfits[0] if misfits and not given_up else None)


def _misfits(connection: Connection, table: sql.Identifier, text: sql.Composable, wanted: T, most: int) -> list[str]:
    """Values that are not of the type; at most so many."""
    query = sql.SQL("SELECT DISTINCT {t} FROM {} WHERE {t} IS NOT NULL").format(table, t=text)
    found: list[str] = []
    with connection.transaction(), connection.cursor(name="_ds_retyping") as cursor:
        cursor.execute(query)
        while rows := cursor.fetchmany(_BATCH):
            values = [row[0] for row in rows]
            found += _search(values, wanted, most - len(found))
            if len(found) >= most:
                break
    return found


def _search(values: list[str], wanted: T, most: int) -> list[str]:
    """Those of the values that are not of the type, by halves."""
    vote = Vote(wanted)
    vote.add(pa.chunked_array([pa.array(values, pa.string())]))
    if vote.fits(wanted) or most <= 0:
        return []
    if len(values) == 1:
        return values
    half = len(values) // 2
    found = _search(values[:half], wanted, most)
    return found + _search(values[half:], wanted, most - len(found))


def _from_text(text: sql.Composable, wanted: T, timezone: str) -> sql.Composable:
    """Text that fits, as the type: what `casting.cast` does, in SQL."""
    plain = sql.SQL("btrim({}, {})").format(text, sql.Literal(_SPACES))
    missing = sql.SQL(", ").join(map(sql.Literal, MISSING))
    value = sql.SQL("{}::{}").format(plain, sql.SQL(PG_TYPES[wanted]))
    if wanted is T.BOOLEAN:
        value = sql.SQL("{} IN ({})").format(plain, sql.SQL(", ").join(map(sql.Literal, TRUE_WORDS)))
    elif wanted is T.DATETIME:
        value = sql.SQL("CASE WHEN {t} ~ {p} THEN {t}::timestamptz ELSE {t}::timestamp AT TIME ZONE {z} END").format(
            t=plain, p=sql.Literal(AWARE_PATTERN), z=sql.Literal(timezone)
        )
    return sql.SQL("CASE WHEN {} IN ({}) THEN NULL ELSE {} END").format(plain, missing, value)
