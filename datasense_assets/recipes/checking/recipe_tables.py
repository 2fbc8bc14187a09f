"""The checks of a recipe: on its new table before that is put in place, and on the one that stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

import psycopg

from datasense_assets.catalog.models import InputReference, Organization, RecipeRow, identifier
from datasense_assets.catalog.state.checks import CheckOwner, StoredChecks, oldest_input, read_checks, record_checks
from datasense_assets.recipes.checking.evaluate import run_checks
from datasense_assets.recipes.checking.history import LoadCount
from datasense_assets.recipes.checking.naming import columns_of, kind_of_check
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
from datasense_assets.recipes.tableref import TableRef
from datasense_assets.warehouse.errors import WarehouseError
from datasense_assets.warehouse.organizations import WarehouseTarget
from datasense_assets.warehouse.reading import table_exists
from datasense_assets.warehouse.swap import SessionLimits

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine


class ChecksFailed(WarehouseError):
    """A recipe's new table breaks checks that are errors; it did not take the old one's place."""

    def __init__(self, recipe: str, outcome: CheckOutcome, *, has_table: bool) -> None:
        """Name every check that stands against it. `has_table`: there is one of before, which stays."""
        stays = "its last good table stays" if has_table else "it has no table yet"
        said = "".join(f"\n- {result.name}: {result.message}" for result in outcome.blocking)
        if all(result.waits for result in outcome.blocking):
            advice = "It is built again by itself once what they look into is there."
        else:
            advice = "Mend the data at its source, or correct the recipe or the check."
        super().__init__(
            f"{recipe} was built and not put in place, {stays}, for checks do not hold:{said}\n",
            advice=advice,
        )
        self.outcome = outcome


class RecipeFacts:
    """What the catalog knows that a recipe's checks need: its history, its inputs' age, the tables to look into.

    `outcome` is what came of them in the build that they were handed to.
    """

    def __init__(
        self, row: RecipeRow, organization: Organization, history: list[LoadCount], loaded_at: datetime | None
    ):
        self.row, self.organization, self.history, self.loaded_at = row, organization, history, loaded_at
        self.outcome = CheckOutcome(())

    @classmethod
    def read(cls, connection: Connection, org: Organization, row: RecipeRow) -> RecipeFacts:
        """Read them; costs nothing where the recipe has no checks."""
        if not row.checks:
            return cls(row, org, [], None)
        history = read_history(connection, CheckOwner(recipe_id=row.id))
        return cls(row, with_referenced(connection, org, row.checks), history, oldest_input(connection, row.id))

    def inspect(
        self,
        connection: psycopg.Connection,
        ref: TableRef,
        *,
        lost: Mapping[str, int] | None,
        limits: SessionLimits | None,
    ) -> None:
        """Run the checks on the recipe's table `ref`, staged or standing; `limits` None: those of the transaction.

        Raises:
            ChecksFailed: an error among them does not hold.
        """
        if not self.row.checks:
            return
        subject = self.subject(connection, ref.schema, ref, key=self._key(ref), lost=lost)
        self.outcome = run_checks(connection, self.row.checks, subject, limits=limits)
        if self.outcome.blocking:
            has_table = table_exists(connection, ref.schema, identifier(self.row.name))
            raise ChecksFailed(self.row.name, self.outcome, has_table=has_table)

    def _key(self, ref: TableRef) -> str | None:
        """The row id, or the column of a check that it is unique; never one that is personal."""
        if (own := sample_key(ref)) is not None:
            return own
        keys = (columns_of(check) for check in self.row.checks if kind_of_check(check) == "unique")
        single = (key[0] for key in keys if len(key) == 1)
        return next((name for name in single if name in ref.columns and name not in ref.personal), None)

    def subject(
        self,
        warehouse: psycopg.Connection,
        schema: str,
        ref: TableRef,
        *,
        key: str | None,
        lost: Mapping[str, int] | None = None,
    ) -> Subject:
        """The recipe's table `ref`, which may be staged: a check that names the recipe itself looks into it."""
        found = references(self.row.checks, self.organization, warehouse, schema)
        for text in found:
            if InputReference.parse(text).recipe == identifier(self.row.name):
                found[text] = ref
        return Subject(
            ref,
            references=found,
            awaited=awaited(self.row.checks, self.organization),
            history=self.history,
            key=key,
            of_recipe=True,
            loaded_at=self.loaded_at,
            lost=lost,
            timezone=self.organization.timezone,
        )


def check_recipe_table(
    catalog: Engine, target: WarehouseTarget, org: Organization, row: RecipeRow, *, run_id: str
) -> CheckOutcome:
    """Run the checks of a recipe on its table as it stands, and write down what came of them.

    Raises:
        DatabaseUnavailable: the warehouse cannot be reached; nothing is written.
    """
    owner = CheckOwner(recipe_id=row.id)
    with catalog.connect() as connection:
        facts = RecipeFacts.read(connection, org, row)
        last = read_checks(connection, owner)
    with target.connect() as warehouse:
        own = org.model_copy(update={"recipes": (row,)})
        ref = resolve_reference(InputReference.of_recipe(row.name), own, warehouse, schema=target.schema)
        if ref is None:
            outcome = not_run(row.checks, "it has not been built yet")
        else:
            # Which of its columns are personal was last recorded with its lineage, and may be older than the recipe.
            subject = facts.subject(warehouse, target.schema, ref, key=None)
            outcome = _as_last_counted(run_checks(warehouse, row.checks, subject, limits=check_limits(org)), last)
    with catalog.begin() as connection:
        record_checks(connection, owner, as_records(outcome), run_id=run_id, data_version=None)
    return outcome


def _as_last_counted(outcome: CheckOutcome, last: StoredChecks) -> CheckOutcome:
    """A build alone counts what casts lose: of what it found, looking at the table takes nothing back."""
    counted = {record.name: record for record in last.records if record.kind == "max_lossy_casts"}

    def settled(result: CheckResult) -> CheckResult:
        found = counted.get(result.name)
        if found is None or found.declared != result.declared:
            return result
        return replace(result, passed=found.passed, message=found.message, broken=found.broken)

    return replace(outcome, results=tuple(map(settled, outcome.results)))


def record_recipe_checks(
    connection: Connection, row: RecipeRow, outcome: CheckOutcome, *, run_id: str, rows: int | None = None
) -> None:
    """Write down what came of a recipe's checks in a build; `rows` of its table, None where it was not put in place."""
    owner = CheckOwner(recipe_id=row.id)
    record_checks(connection, owner, as_records(outcome), run_id=run_id, data_version=None)
    objected = any(result.kind == "row_count_change" and not result.passed for result in outcome.results)
    counted = outcome.rows if rows is None and objected else rows
    if counted is not None:
        record_counted(connection, owner, outcome, counted, run_id=run_id)
