"""Checks that wait for a table that they look into, such as at the first load of everything at once.

Whichever run makes such a table runs them. A run that has just written that a check waits asks here too: so of two runs
at once, one that loads the table and one whose check looks into it, the later sees what the other has written.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from datasense_assets.catalog.models import Organization, RecipeRow, Source, SourceTable, identifier
from datasense_assets.catalog.snapshot import SnapshotScope, read_snapshot
from datasense_assets.catalog.state import read_table_status
from datasense_assets.catalog.state.checks import CheckOwner, let_build_again, settle_check, waiting_checks
from datasense_assets.recipes.checking.naming import check_names
from datasense_assets.recipes.checking.results import CheckOutcome, CheckResult
from datasense_assets.recipes.checking.shared import as_records, references, with_referenced
from datasense_assets.recipes.checking.source_tables import look
from datasense_assets.warehouse.organizations import WarehouseTarget

if TYPE_CHECKING:
    from sqlalchemy import Engine


class Settled(NamedTuple):
    """A check that waited and was run now."""

    source: Source
    table: SourceTable
    result: CheckResult


def settle_waiting(
    catalog: Engine, target: Callable[[], WarehouseTarget], org: Organization, *, run_id: str
) -> list[Settled]:
    """Run the organisation's checks that waited for a table and can be run now, and write down what came of them.

    A recipe's are run on its new table only, so it is let be built again. Costs one query where none waits.

    Raises:
        DatabaseUnavailable: the warehouse cannot be reached; they go on waiting.
    """
    with catalog.connect() as connection:
        waiting = waiting_checks(connection, org.id)
        if not waiting:
            return []
        ident = identifier(org.slug)
        scope = SnapshotScope(
            sources=frozenset((ident, each.source_ident) for each in waiting if each.source_ident is not None),
            recipes=frozenset((ident, each.recipe_ident) for each in waiting if each.recipe_ident is not None),
        )
        known = next(iter(read_snapshot(connection, scope=scope).organizations), org)
    warehouse = target()
    names: dict[CheckOwner, set[str]] = {}
    for each in waiting:
        names.setdefault(each.owner, set()).add(each.name)
    found: list[Settled] = []
    for source in known.sources:
        for table in source.tables:
            wanted = names.get(CheckOwner(table_id=table.id))
            if wanted:
                found += _settle_table(catalog, warehouse, org, source, table, wanted, run_id=run_id)
    ready = [
        row
        for row in known.recipes
        if (own := names.get(CheckOwner(recipe_id=row.id))) and _can_be_run(catalog, warehouse, org, row, own)
    ]
    if ready:
        with catalog.begin() as connection:
            let_build_again(connection, [row.id for row in ready])
    return found


def _settle_table(
    catalog: Engine,
    target: WarehouseTarget,
    org: Organization,
    source: Source,
    table: SourceTable,
    names: set[str],
    *,
    run_id: str,
) -> list[Settled]:
    owner = CheckOwner(table_id=table.id)
    with catalog.connect() as connection:
        status = read_table_status(connection, table.id)
    outcome = look(catalog, target, org, source, table)
    ran = [each for each in outcome.results if each.name in names and not each.waits]
    with catalog.begin() as connection:
        version = None if status is None else status.data_version
        return [
            Settled(source, table, result)
            for result, record in zip(ran, as_records(CheckOutcome(tuple(ran))), strict=True)
            if settle_check(connection, owner, record, run_id=run_id, data_version=version)
        ]


def _can_be_run(catalog: Engine, target: WarehouseTarget, org: Organization, row: RecipeRow, names: set[str]) -> bool:
    """Whether every table that the waiting checks of a recipe look into is there."""
    checks = [check for name, check in zip(check_names(row.checks), row.checks, strict=True) if name in names]
    with catalog.connect() as connection:
        with_references = with_referenced(connection, org, checks)
    with target.connect() as warehouse:
        return all(references(checks, with_references, warehouse, target.schema).values())
