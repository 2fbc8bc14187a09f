"""What came of the checks of tables and recipes, and how many rows each had after its last loads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import ColumnElement, Connection, Table, delete, func, insert, select, text, update

from datasense_assets.catalog.tables import check_results, recipe_status, row_counts, table_status

COUNTS_KEPT = 100


@dataclass(frozen=True)
class CheckOwner:
    """The table or the recipe that checks are about, by its id in the catalog."""

    table_id: int | None = None
    recipe_id: int | None = None

    def __post_init__(self) -> None:
        """Exactly one of the two is given."""
        if (self.table_id is None) == (self.recipe_id is None):
            raise ValueError("checks are of a table or of a recipe")

    def values(self) -> dict[str, int | None]:
        """The columns that name it."""
        return {"table_id": self.table_id, "recipe_id": self.recipe_id}

    def rows_of(self, table: Table) -> ColumnElement[bool]:
        """The condition for rows that are about it."""
        if self.table_id is not None:
            return table.c.table_id == self.table_id
        return table.c.recipe_id == self.recipe_id


@dataclass(frozen=True)
class CheckRecord:
    """What came of one check. `declared`: the check as written; `samples`: keys of rows, never values.

    `waits`: it has not passed, for it could not be run: the table that it looks into is still to be loaded or built.
    """

    name: str
    kind: str
    severity: Literal["warn", "error"]
    passed: bool
    message: str
    broken: int | None = None
    samples: tuple[str, ...] = ()
    declared: Any = None
    waits: bool = False


@dataclass(frozen=True)
class RowCount:
    """How many rows there were after a load or build; not `accepted`: a check objected to the number."""

    at: datetime
    rows: int
    accepted: bool


def record_checks(
    connection: Connection, owner: CheckOwner, records: Sequence[CheckRecord], *, run_id: str, data_version: int | None
) -> None:
    """Write what came of all the checks of a table or recipe; of those that it no longer has nothing stays."""
    connection.execute(delete(check_results).where(owner.rows_of(check_results)))
    rows = [
        {
            **owner.values(),
            "name": record.name,
            "kind": record.kind,
            "severity": record.severity,
            "passed": record.passed,
            "waits": record.waits,
            "broken": record.broken,
            "message": record.message,
            "samples": list(record.samples),
            "declared": record.declared,
            "data_version": data_version,
            "run_id": run_id,
        }
        for record in records
    ]
    if rows:
        connection.execute(insert(check_results), rows)


@dataclass(frozen=True)
class StoredChecks:
    """What came of all checks when they were last run, and on which version of the data (None: of a recipe)."""

    records: tuple[CheckRecord, ...]
    data_version: int | None
    checked_at: datetime | None


def read_checks(connection: Connection, owner: CheckOwner) -> StoredChecks:
    """What came of the checks of a table or recipe when they were last run, in their order."""
    query = select(check_results).where(owner.rows_of(check_results)).order_by(check_results.c.id)
    rows = connection.execute(query).all()
    records = tuple(
        CheckRecord(r.name, r.kind, r.severity, r.passed, r.message, r.broken, tuple(r.samples), r.declared, r.waits)
        for r in rows
    )
    versions = {row.data_version for row in rows}
    version = versions.pop() if len(versions) == 1 else None
    return StoredChecks(records, version, min((row.checked_at for row in rows), default=None))


def blocking_checks(connection: Connection, table_ids: Iterable[int]) -> list[tuple[int, str, str]]:
    """(table, name, message) of each check of the tables that is an error and does not hold on their newest data.

    One that waits for another table is left out: nothing is known against the data.
    """
    is_old = check_results.c.data_version < table_status.c.data_version
    query = (
        select(check_results.c.table_id, check_results.c.name, check_results.c.message, check_results.c.passed)
        .join(table_status, table_status.c.table_id == check_results.c.table_id)
        .where(
            check_results.c.table_id.in_(list(table_ids)),
            check_results.c.severity == "error",
            ~check_results.c.waits,
            ~check_results.c.passed | is_old,
        )
        .order_by(check_results.c.table_id, check_results.c.id)
    )
    unknown = "It was not run on the newest data."
    return [(row.table_id, row.name, unknown if row.passed else row.message) for row in connection.execute(query)]


_WAITING = """
SELECT c.table_id, c.recipe_id, c.name, replace(s.slug, '-', '_') AS source_ident,
       replace(r.name, '-', '_') AS recipe_ident
FROM datasense.check_results c
LEFT JOIN datasense.source_tables t ON t.id = c.table_id
LEFT JOIN datasense.sources s ON s.id = t.source_id
LEFT JOIN datasense.recipes r ON r.id = c.recipe_id
WHERE NOT c.passed AND c.waits AND coalesce(t.org_id, r.org_id) = :org
ORDER BY c.id
"""


@dataclass(frozen=True)
class WaitingCheck:
    """A check that waits for another table, of a source's table (`source_ident`) or of a recipe (`recipe_ident`)."""

    owner: CheckOwner
    name: str
    source_ident: str | None
    recipe_ident: str | None


def waiting_checks(connection: Connection, org_id: int) -> list[WaitingCheck]:
    """The checks of the organisation that wait for a table that they look into."""
    rows = connection.execute(text(_WAITING), {"org": org_id})
    return [
        WaitingCheck(CheckOwner(row.table_id, row.recipe_id), row.name, row.source_ident, row.recipe_ident)
        for row in rows
    ]


def settle_check(
    connection: Connection, owner: CheckOwner, record: CheckRecord, *, run_id: str, data_version: int | None
) -> bool:
    """Write what came of a check that was waiting; False where it waits no more, having been run with newer data."""
    done = connection.execute(
        update(check_results)
        .where(owner.rows_of(check_results), check_results.c.name == record.name, check_results.c.waits)
        .values(
            passed=record.passed,
            waits=False,
            broken=record.broken,
            message=record.message,
            samples=list(record.samples),
            data_version=data_version,
            checked_at=func.now(),
            run_id=run_id,
        )
    )
    return done.rowcount == 1


def let_build_again(connection: Connection, recipe_ids: Iterable[int]) -> None:
    """Have recipes built again that failed, though neither they nor their inputs have changed."""
    ids = list(recipe_ids)
    connection.execute(update(recipe_status).where(recipe_status.c.recipe_id.in_(ids)).values(failed_at=None))


def read_row_counts(connection: Connection, owner: CheckOwner) -> list[RowCount]:
    """The last numbers of rows, oldest first."""
    query = select(row_counts.c.at, row_counts.c.row_count, row_counts.c.accepted)
    rows = connection.execute(query.where(owner.rows_of(row_counts)).order_by(row_counts.c.id)).all()
    return [RowCount(row.at, row.row_count, row.accepted) for row in rows]


# A load that changes nothing is kept once a day, so that the history of a table that is loaded every quarter of an hour
# reaches back further than a day, and one that never changes has a history too.
_ADD_COUNT = """
INSERT INTO datasense.row_counts (table_id, recipe_id, row_count, accepted, run_id)
SELECT CAST(:table_id AS bigint), CAST(:recipe_id AS bigint), :rows, :accepted, :run_id
WHERE NOT EXISTS (
    SELECT FROM (SELECT c.row_count, c.accepted, c.at FROM datasense.row_counts c
                 WHERE c.table_id = :table_id OR c.recipe_id = :recipe_id ORDER BY c.id DESC LIMIT 1) last
    WHERE last.row_count = :rows AND last.accepted = :accepted AND last.at > now() - interval '20 hours')
"""

_FORGET_COUNTS = """
DELETE FROM datasense.row_counts WHERE id <= (
    SELECT c.id FROM datasense.row_counts c WHERE c.table_id = :table_id OR c.recipe_id = :recipe_id
    ORDER BY c.id DESC OFFSET :kept LIMIT 1)
AND (table_id = :table_id OR recipe_id = :recipe_id)
"""


def record_row_count(
    connection: Connection, owner: CheckOwner, rows: int, *, run_id: str, accepted: bool = True, settled: bool = False
) -> None:
    """Add a number of rows to the history, which is kept short. `settled`: the numbers objected to before are right."""
    if settled:
        _accept_counts(connection, owner)
    given = {**owner.values(), "rows": rows, "accepted": accepted, "run_id": run_id}
    connection.execute(text(_ADD_COUNT), given)
    connection.execute(text(_FORGET_COUNTS), {**owner.values(), "kept": COUNTS_KEPT})


def accept_row_count(connection: Connection, owner: CheckOwner, *, by: str) -> int | None:
    """Take the last number of rows for right, as a person says; return it, None where none was objected to.

    What was waiting for it goes on: a recipe that was not built because of it is built again.
    """
    last = connection.execute(
        select(row_counts.c.row_count, row_counts.c.accepted)
        .where(owner.rows_of(row_counts))
        .order_by(row_counts.c.id.desc())
        .limit(1)
    ).one_or_none()
    if last is None or last.accepted:
        return None
    _accept_counts(connection, owner)
    connection.execute(
        update(check_results)
        .where(owner.rows_of(check_results), check_results.c.kind == "row_count_change", ~check_results.c.passed)
        .values(passed=True, message=f"{last.row_count} rows, accepted by {by}.")
    )
    if owner.recipe_id is not None:
        # Else it would wait for newer inputs, since it failed after they had changed.
        let_build_again(connection, [owner.recipe_id])
    return int(last.row_count)


def _accept_counts(connection: Connection, owner: CheckOwner) -> None:
    connection.execute(
        update(row_counts).where(owner.rows_of(row_counts), ~row_counts.c.accepted).values(accepted=True)
    )


_OLDEST_INPUT = """
SELECT CASE WHEN bool_and(coalesce(ts.fresh_as_of, us.built_at) IS NOT NULL)
            THEN min(coalesce(ts.fresh_as_of, us.built_at)) END
FROM datasense.recipe_inputs i
JOIN datasense.recipes r ON r.id = i.recipe_id
LEFT JOIN datasense.sources s ON s.org_id = r.org_id AND replace(s.slug, '-', '_') = i.source_ident
LEFT JOIN datasense.source_tables t ON t.source_id = s.id AND replace(t.slug, '-', '_') = i.table_ident
LEFT JOIN datasense.table_status ts ON ts.table_id = t.id
LEFT JOIN datasense.recipes u ON u.org_id = r.org_id AND replace(u.name, '-', '_') = i.recipe_ident
LEFT JOIN datasense.recipe_status us ON us.recipe_id = u.id
WHERE i.recipe_id = :recipe
"""


def oldest_input(connection: Connection, recipe_id: int) -> datetime | None:
    """When the oldest of the recipe's inputs was last complete; None where that is not known of each."""
    found: datetime | None = connection.execute(text(_OLDEST_INPUT), {"recipe": recipe_id}).scalar()
    return found
