"""The checks of a source's table: after a load, or on the table as it stands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from datasense_assets.catalog.models import InputReference, Organization, Source, SourceTable, table_name
from datasense_assets.catalog.state.checks import CheckOwner, read_checks, record_checks
from datasense_assets.recipes.checking.evaluate import run_checks
from datasense_assets.recipes.checking.naming import kind_of_check
from datasense_assets.recipes.checking.results import CheckOutcome, CheckResult, Subject
from datasense_assets.recipes.checking.shared import (
    as_records,
    awaited,
    check_limits,
    not_run,
    read_history,
    record_counted,
    references,
    sample_key,
    with_referenced,
)
from datasense_assets.recipes.inputs import resolve_reference
from datasense_assets.warehouse.organizations import WarehouseTarget

if TYPE_CHECKING:
    from sqlalchemy import Engine

_TIMELESS = frozenset({"not_null", "unique", "accepted_values", "range", "pattern", "row_count"})


def check_source_table(
    catalog: Engine,
    target: WarehouseTarget,
    org: Organization,
    source: Source,
    table: SourceTable,
    *,
    run_id: str,
    data_version: int | None,
    loaded: bool = False,
    loaded_rows: int | None = None,
) -> CheckOutcome:
    """Run the checks of a source's table as it stands, and write down what came of them.

    `loaded`: a load has just ended, after which the table has `loaded_rows` (None: not counted); they join its history.

    Raises:
        DatabaseUnavailable: the warehouse cannot be reached; nothing is written.
    """
    owner = CheckOwner(table_id=table.id)
    known = _still_true(catalog, owner, table, data_version) if loaded else None
    outcome = known or look(catalog, target, org, source, table)
    rows = outcome.rows if loaded_rows is None else loaded_rows
    with catalog.begin() as connection:
        if table.checks and known is None:
            record_checks(connection, owner, as_records(outcome), run_id=run_id, data_version=data_version)
        if loaded and rows is not None:
            record_counted(connection, owner, outcome, rows, run_id=run_id)
    return outcome


def look(
    catalog: Engine, target: WarehouseTarget, org: Organization, source: Source, table: SourceTable
) -> CheckOutcome:
    """Run the checks, and write nothing down; nothing is asked where there are none."""
    if not table.checks:
        return CheckOutcome(())
    reference = InputReference.of_table(source.slug, table.slug)
    with catalog.connect() as connection:
        history = read_history(connection, CheckOwner(table_id=table.id))
        with_references = with_referenced(connection, org, table.checks)
    with target.connect() as warehouse:
        own = org.model_copy(update={"sources": (_with_table(source, table),)})
        ref = resolve_reference(reference, own, warehouse, schema=target.schema)
        if ref is None:
            name = f"{target.schema}.{table_name(source.slug, table.slug)}"
            return not_run(table.checks, f"there is no table {name} yet")
        found = references(table.checks, with_references, warehouse, target.schema)
        subject = Subject(
            ref,
            references=found,
            awaited=awaited(table.checks, with_references),
            history=history,
            key=sample_key(ref),
            timezone=org.timezone,
        )
        return run_checks(warehouse, table.checks, subject, limits=check_limits(org))


def _still_true(
    catalog: Engine, owner: CheckOwner, table: SourceTable, data_version: int | None
) -> CheckOutcome | None:
    """What came of the same checks on the same data, where time and other tables have no say in any of them."""
    if not table.checks or not all(kind_of_check(check) in _TIMELESS for check in table.checks):
        return None
    with catalog.connect() as connection:
        stored = read_checks(connection, owner)
    if stored.data_version != data_version or [r.declared for r in stored.records] != list(table.checks):
        return None
    return CheckOutcome(
        tuple(
            CheckResult(r.name, r.kind, r.severity, r.passed, r.message, r.broken, r.samples, r.declared)
            for r in stored.records
        )
    )


def _with_table(source: Source, table: SourceTable) -> Source:
    """The source with the table as it is now: a load may have found columns since the graph was made."""
    others = tuple(each for each in source.tables if each.id != table.id)
    return source.model_copy(update={"tables": (table, *others)})
