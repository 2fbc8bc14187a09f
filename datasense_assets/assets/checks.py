"""Checks as Dagster asset checks: their specs in the graph, and what came of them in a run.

They are run in the op that loads or builds, so they cost no run of their own; a run that selects checks alone looks at
the table as it stands.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import dagster as dg

from datasense_assets.catalog.models import Organization, RecipeRow, Source, SourceTable
from datasense_assets.connectors.errors import SourceError
from datasense_assets.recipes.checking.naming import check_names, sentence, severity_of
from datasense_assets.running.graph_index import recipe_key, table_key
from datasense_assets.running.owners import catalog_engine
from datasense_assets.settings import get_settings

if TYPE_CHECKING:
    from datasense_assets.ingest.report import TableReport
    from datasense_assets.recipes.checking.results import CheckOutcome, CheckResult
    from datasense_assets.warehouse.organizations import WarehouseTarget

_SEVERITIES = {"warn": dg.AssetCheckSeverity.WARN, "error": dg.AssetCheckSeverity.ERROR}


class BrokenChecks(SourceError):
    """Data that breaks a check; only other data or another check helps."""

    kind = "checks_failed"
    permanent = True


def check_specs(key: Sequence[str], checks: Sequence[Any]) -> list[dg.AssetCheckSpec]:
    """One spec a check, on the asset at `key`. Names and sentences are shared between equal checks."""
    if not checks:
        return []
    asset = dg.AssetKey(list(key))
    return [
        dg.AssetCheckSpec(
            name, asset=asset, description=_shared(sentence(check)), blocking=severity_of(check) == "error"
        )
        for name, check in zip(check_names(checks), checks, strict=True)
    ]


@cache
def _shared(text: str) -> str:
    """One string object for equal texts."""
    return text


def source_check_specs(org: Organization, source: Source) -> list[dg.AssetCheckSpec]:
    """The specs of all checks of a source's tables."""
    return [
        spec
        for table in source.tables
        for spec in check_specs(table_key(org.slug, source.slug, table.slug), table.checks)
    ]


def check_results(
    key: dg.AssetKey, outcome: CheckOutcome, selected: Collection[dg.AssetCheckKey]
) -> list[dg.AssetCheckResult]:
    """What came of the checks that the run selects; the others are written in the catalog alone."""
    return [_result(key, each) for each in outcome.results if dg.AssetCheckKey(key, each.name) in selected]


def _result(key: dg.AssetKey, result: CheckResult) -> dg.AssetCheckResult:
    metadata: dict[str, Any] = {}
    if result.broken is not None:
        metadata["broken"] = result.broken
    if result.samples:
        metadata["some_rows"] = dg.MetadataValue.json(list(result.samples))
    return dg.AssetCheckResult(
        asset_key=key,
        check_name=result.name,
        passed=result.passed,
        # what only waits must not stop what is built in the same run by name
        severity=_SEVERITIES["warn" if result.waits else result.severity],
        description=result.message,
        metadata=metadata,
    )


def check_loaded_table(
    context: dg.AssetExecutionContext, target: WarehouseTarget, org: Organization, source: Source, report: TableReport
) -> CheckOutcome:
    """Run the checks of a table that was just loaded, and keep how many rows it has.

    Raises:
        DatabaseUnavailable: the warehouse went away after the load.
    """
    from datasense_assets.recipes.checking.results import CheckOutcome
    from datasense_assets.recipes.checking.source_tables import check_source_table

    table = next((each for each in source.tables if each.id == report.table_id), None)
    if table is None:
        return CheckOutcome(())
    outcome = check_source_table(
        catalog_engine(),
        target,
        org,
        source,
        table.model_copy(update={"columns": report.columns}),
        run_id=context.run.run_id,
        data_version=report.data_version,
        loaded=True,
        loaded_rows=report.live_rows,
    )
    _log(context, report.warehouse_table, outcome.results)
    return outcome


def run_waiting_checks(context: dg.AssetExecutionContext, org: Organization) -> None:
    """Run checks of other tables that waited for what this run has loaded or built, and show what came of them.

    Raises:
        DatabaseUnavailable: the warehouse went away; they go on waiting.
    """
    from datasense_assets.recipes.checking.waiting import settle_waiting
    from datasense_assets.warehouse.organizations import prepare_organization

    settled = settle_waiting(
        catalog_engine(),
        lambda: prepare_organization(catalog_engine(), get_settings(), org),
        org,
        run_id=context.run.run_id,
    )
    for source, table, result in settled:
        key = table_key(org.slug, source.slug, table.slug)
        _log(context, "/".join(key), [result])
        shown = _result(dg.AssetKey(list(key)), result)
        # the check's own asset is no output of this op
        context.instance.report_runless_asset_event(
            dg.AssetCheckEvaluation(
                asset_key=dg.AssetKey(list(key)),
                check_name=result.name,
                passed=result.passed,
                severity=shown.severity,
                description=shown.description,
                metadata=shown.metadata,
            )
        )


def _log(context: dg.AssetExecutionContext, table: str, results: Iterable[CheckResult]) -> None:
    for result in results:
        if result.waits:
            context.log.info(f"{table}: the check {result.name} waits: {result.message}")
        elif not result.passed:
            context.log.warning(f"{table}: the check {result.name} ({result.severity}) does not hold: {result.message}")


def refuse_broken(tables: Iterable[SourceTable]) -> None:
    """Fail where the newest data of a table breaks a check that is an error, so that nothing downstream is built on it.

    It is read from the catalog, as an earlier attempt of the run may have loaded some of the tables.

    Raises:
        dagster.Failure: naming every such check; the run is not tried again.
    """
    from datasense_assets.catalog.state.checks import blocking_checks

    by_id = {table.id: table for table in tables if table.checks}
    if not by_id:
        return
    with catalog_engine().connect() as connection:
        found = blocking_checks(connection, by_id)
    if found:
        said = "\n".join(f"- {by_id[table].slug}, {name}: {message}" for table, name, message in found)
        raise broken_checks("The data was loaded, and what is built on it waits: checks do not hold.", said)


def broken_checks(words: str, said: str) -> dg.Failure:
    """The failure of an op whose data breaks a check; trying again would not mend the data."""
    return dg.Failure(description=f"{words}\n{said}", allow_retries=False)


def checks_alone(context: dg.AssetExecutionContext) -> bool:
    """Whether the run selects checks of this op, and none of its assets."""
    return not context.selected_asset_keys and bool(context.selected_asset_check_keys)


def check_source(context: dg.AssetExecutionContext, org: Organization, source: Source) -> Iterable[dg.AssetCheckResult]:
    """Run the selected tables' checks on the tables as they stand; nothing is loaded."""
    from datasense_assets.catalog.state import read_table_status
    from datasense_assets.recipes.checking.source_tables import check_source_table
    from datasense_assets.warehouse.organizations import prepare_organization

    target = prepare_organization(catalog_engine(), get_settings(), org)
    wanted = {tuple(key.asset_key.path) for key in context.selected_asset_check_keys}
    for table in source.tables:
        path = table_key(org.slug, source.slug, table.slug)
        if path not in wanted:
            continue
        with catalog_engine().connect() as connection:
            status = read_table_status(connection, table.id)
        outcome = check_source_table(
            catalog_engine(),
            target,
            org,
            source,
            table,
            run_id=context.run.run_id,
            data_version=status.data_version if status is not None else None,
        )
        _log(context, "/".join(path), outcome.results)
        yield from check_results(dg.AssetKey(list(path)), outcome, context.selected_asset_check_keys)


def check_recipe(context: dg.AssetExecutionContext, org: Organization, row: RecipeRow) -> Iterable[dg.AssetCheckResult]:
    """Run the recipe's checks on its table as it stands; nothing is built."""
    from datasense_assets.recipes.checking.recipe_tables import check_recipe_table
    from datasense_assets.warehouse.organizations import prepare_organization

    target = prepare_organization(catalog_engine(), get_settings(), org)
    outcome = check_recipe_table(catalog_engine(), target, org, row, run_id=context.run.run_id)
    path = recipe_key(org.slug, row.name)
    _log(context, "/".join(path), outcome.results)
    yield from check_results(dg.AssetKey(list(path)), outcome, context.selected_asset_check_keys)
