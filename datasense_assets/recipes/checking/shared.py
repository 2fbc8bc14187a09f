"""What the checks of sources' tables and of recipes share: the tables they look into, their history, their records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import psycopg

from datasense_assets.catalog.models import InputReference, Organization, identifier
from datasense_assets.catalog.state.checks import CheckOwner, CheckRecord, read_row_counts, record_row_count
from datasense_assets.recipes.checking.history import LoadCount
from datasense_assets.recipes.checking.naming import check_names, kind_of_check, severity_of
from datasense_assets.recipes.checking.results import CheckOutcome, CheckResult
from datasense_assets.recipes.inputs import resolve_reference
from datasense_assets.recipes.tableref import TableRef
from datasense_assets.warehouse.swap import SessionLimits

if TYPE_CHECKING:
    from sqlalchemy import Connection

ROW_ID = "_ds_row_id"
_QUERY_SECONDS = 300.0


def references(
    checks: Sequence[Any], organization: Organization, warehouse: psycopg.Connection, schema: str
) -> dict[str, TableRef | None]:
    """The tables that the checks look into, as they are in the organisation's own schema."""
    return {
        text: resolve_reference(reference, organization, warehouse, schema=schema)
        for text, reference in _referenced(checks).items()
    }


def awaited(checks: Sequence[Any], organization: Organization) -> frozenset[str]:
    """Of the tables that the checks look into those that the catalog has, so that they come if they are not there.

    A source whose tables are still to be found may have any.
    """
    recipes = {identifier(row.name) for row in organization.recipes}
    tables = {identifier(s.slug): {identifier(table.slug) for table in s.tables} for s in organization.sources}

    def comes(reference: InputReference) -> bool:
        if reference.recipe is not None:
            return reference.recipe in recipes
        known = tables.get(reference.source or "")
        return known is not None and (not known or reference.table in known)

    return frozenset(text for text, reference in _referenced(checks).items() if comes(reference))


def sample_key(ref: TableRef) -> str | None:
    """The column whose values name rows to people: the row id, unless it is made of something personal."""
    return ROW_ID if ROW_ID in ref.columns and ROW_ID not in ref.personal else None


def not_run(checks: Sequence[Any], reason: str) -> CheckOutcome:
    """The outcome of checks that could not be run at all: none of them holds."""
    return CheckOutcome(
        tuple(
            CheckResult(
                name,
                kind_of_check(check),
                "warn" if severity_of(check) == "warn" else "error",
                False,
                f"It cannot be checked: {reason}.",
                declared=check,
            )
            for name, check in zip(check_names(checks), checks, strict=True)
        )
    )


def as_records(outcome: CheckOutcome) -> list[CheckRecord]:
    """The results as the catalog keeps them."""
    return [
        CheckRecord(r.name, r.kind, r.severity, r.passed, r.message, r.broken, r.samples, r.declared, r.waits)
        for r in outcome.results
    ]


def record_counted(connection: Connection, owner: CheckOwner, outcome: CheckOutcome, rows: int, *, run_id: str) -> None:
    """Add a number of rows to the history; it is not accepted where a check objects to it."""
    changes = [result for result in outcome.results if result.kind == "row_count_change"]
    accepted = all(result.passed for result in changes)
    settled = accepted and any(result.settled for result in changes)
    record_row_count(connection, owner, rows, run_id=run_id, accepted=accepted, settled=settled)


def read_history(connection: Connection, owner: CheckOwner) -> list[LoadCount]:
    """The last numbers of rows, oldest first."""
    return [LoadCount(each.at, each.rows, each.accepted) for each in read_row_counts(connection, owner)]


def check_limits(org: Organization) -> SessionLimits:
    """Limits of a check's queries, in the organisation's time zone."""
    return SessionLimits(statement_timeout=_QUERY_SECONDS, timezone=org.timezone)


def _referenced(checks: Sequence[Any]) -> dict[str, InputReference]:
    found: dict[str, InputReference] = {}
    for check in checks:
        if kind_of_check(check) == "exists_in" and isinstance(text := check.get("in"), str):
            try:
                found[text] = InputReference.parse(text)
            except ValueError:
                continue  # told when the check itself is read
    return found


def with_referenced(connection: Connection, org: Organization, checks: Sequence[Any]) -> Organization:
    """The organisation with the sources and recipes that the checks look into: its own, whatever a check names."""
    from datasense_assets.catalog.snapshot import SnapshotScope, read_snapshot

    wanted = list(_referenced(checks).values())
    if not wanted:
        return org
    ident = identifier(org.slug)
    scope = SnapshotScope(
        sources=frozenset((ident, each.source) for each in wanted if each.source is not None),
        recipes=frozenset((ident, each.recipe) for each in wanted if each.recipe is not None),
    )
    return next(iter(read_snapshot(connection, scope=scope).organizations), org)
