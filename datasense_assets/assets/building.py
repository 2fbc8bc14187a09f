"""What the op of a recipe does in a run worker: compile against the inputs as they are, build, swap, report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import dagster as dg

from datasense_assets.assets.checks import BrokenChecks, check_results, run_waiting_checks
from datasense_assets.assets.metadata import markdown_table
from datasense_assets.assets.specs import input_keys_by_alias
from datasense_assets.catalog.models import InputReference, Organization, RecipeRow, org_schema
from datasense_assets.connectors.errors import SourceError
from datasense_assets.running import tags as t
from datasense_assets.running.failures import BadRecipe, as_dagster, as_source_error
from datasense_assets.running.graph_index import recipe_key
from datasense_assets.running.metering import Meter
from datasense_assets.running.owners import catalog_engine
from datasense_assets.settings import get_settings

if TYPE_CHECKING:
    from datasense_assets.catalog.lineage import RecipeLineage
    from datasense_assets.catalog.state import InputVersion, LastBuild
    from datasense_assets.recipes.build import BuildReport
    from datasense_assets.recipes.checking.recipe_tables import RecipeFacts


def build_recipe_table(context: dg.AssetExecutionContext, org: Organization, row: RecipeRow) -> Iterator[Any]:
    """Build one recipe's table and yield its materialization.

    The versions of the inputs are read before the build, so that data which arrives meanwhile makes the recipe stale
    again. Where recipe and inputs are those of the last build nothing is built, unless the run is a full one
    (`datasense/full`), and the materialization says so. A recipe that is wrong, or whose new
    table breaks a check that is an error, fails once, with every error; the old table stays.

    Raises:
        dagster.RetryRequested: the database did not answer.
        dagster.Failure: the recipe cannot be built; the message lists why.
    """
    from datasense_assets.catalog.state import (
        BuildRecord,
        FailureRecord,
        read_input_versions,
        read_last_build,
        record_build,
        record_build_failure,
        record_cost,
        record_lineage,
    )
    from datasense_assets.recipes.checking.recipe_tables import ChecksFailed, RecipeFacts, record_recipe_checks
    from datasense_assets.recipes.versions import COMPILER_VERSION

    meter = Meter.of_run(context, "recipe", row.name)
    catalog = catalog_engine()
    asset = dg.AssetKey(list(recipe_key(org.slug, row.name)))
    try:
        with catalog.connect() as connection:
            versions = read_input_versions(connection, row.id)
            last = read_last_build(connection, row.id)
            facts = RecipeFacts.read(connection, org, row)
        report, tables, lineage = _build(org, row, versions, last, facts, force=t.FULL in context.run.tags)
    except Exception as error:
        failure = _as_failure(row, error)
        with catalog.begin() as connection:
            record_cost(connection, org.id, meter.total(succeeded=False))
            if failure is None:
                raise
            record_build_failure(
                connection,
                row.id,
                run_id=context.run.run_id,
                failure=FailureRecord(failure.kind, failure.message, failure.advice),
            )
            if isinstance(error, ChecksFailed):
                record_recipe_checks(connection, row, error.outcome, run_id=context.run.run_id)
        if isinstance(error, ChecksFailed):
            yield from check_results(asset, error.outcome, context.selected_asset_check_keys)
        attempt = context.op_execution_context.retry_number
        raise as_dagster([(row.name, failure)], attempt, once=t.ONCE in context.run.tags) from error
    with catalog.begin() as connection:
        _, changed = record_build(
            connection,
            row.id,
            BuildRecord(
                run_id=context.run.run_id,
                row_count=report.rows,
                spec_hash=row.spec_hash,
                compiler_version=COMPILER_VERSION,
                timezone=org.timezone,
                definition_hash=report.definition_hash,
                build_key=report.build_key,
                columns_hash=report.columns_hash,
                content_hash=report.content_hash,
                built_for=report.built_for,
                uses_labels=report.uses_labels,
                questions=report.questions,
            ),
            versions,
        )
        record_lineage(connection, row.id, lineage)
        record_recipe_checks(connection, row, facts.outcome, run_id=context.run.run_id, rows=report.rows)
        meter.rows_written = report.rows
        metadata = build_metadata(org, report, tables) | meter.lap()
        record_cost(connection, org.id, meter.total(succeeded=True))
    _run_waiting_checks(context, org)
    outcome = _outcome(report, last, changed=changed)
    context.log.info(f"{org_schema(org.slug)}.{report.table}: {report.rows} rows, {outcome}")
    yield dg.MaterializeResult(
        asset_key=asset,
        metadata=metadata | {"build": outcome},
        data_version=dg.DataVersion(report.content_hash),
        check_results=check_results(asset, facts.outcome, context.selected_asset_check_keys),
    )


def _run_waiting_checks(context: dg.AssetExecutionContext, org: Organization) -> None:
    """Run checks that waited for this recipe; it is built, so what stands in their way is said and fails nothing."""
    try:
        run_waiting_checks(context, org)
    except Exception as error:
        failure = as_source_error(error)
        if failure is None:
            raise
        context.log.warning(f"Checks that waited for this recipe go on waiting: {failure.message}")


def _outcome(report: BuildReport, last: LastBuild, *, changed: bool) -> str:
    """What the materialization says of the build in words."""
    if report.unchanged and last.built_at is not None:
        since = f"{last.built_at:%Y-%m-%d %H:%M} UTC"
        return f"unchanged: recipe and inputs are those of the build of {since}, whose table stays"
    how = "built" if report.rows_removed is None else "changed rows replaced"
    return how if changed else f"{how}, with the same content as before"


def _as_failure(row: RecipeRow, error: Exception) -> SourceError | None:
    """The failure behind an exception: a recipe's own mistakes, all of them, or the world's."""
    from datasense_assets.recipes import RecipeErrors
    from datasense_assets.recipes.checking.recipe_tables import ChecksFailed

    if isinstance(error, RecipeErrors):
        said = "\n".join(f"- {each}" for each in error.errors)
        return BadRecipe(f"The recipe {row.name} cannot be built:\n{said}\n", advice="Correct the recipe.")
    if isinstance(error, ChecksFailed):
        return BrokenChecks(error.message, advice=error.advice)
    return as_source_error(error)


def _build(
    org: Organization,
    row: RecipeRow,
    versions: Mapping[str, InputVersion],
    last: LastBuild,
    facts: RecipeFacts,
    *,
    force: bool,
) -> tuple[BuildReport, dict[str, dg.AssetKey], RecipeLineage]:
    """Build, and say which asset each input's warehouse table is, and what the result's columns are made of."""
    from datasense_assets.catalog.snapshot import SnapshotScope, read_snapshot
    from datasense_assets.recipes import Recipe, compile_recipe
    from datasense_assets.recipes.build import build_recipe
    from datasense_assets.recipes.inputs import input_table_refs
    from datasense_assets.recipes.recording import compiled_lineage
    from datasense_assets.warehouse.organizations import prepare_organization
    from datasense_assets.warehouse.swap import SessionLimits

    recipe = Recipe.parse(row.spec)
    ident = org.slug.replace("-", "_")
    references = [InputReference.parse(text) for text in row.inputs.values()]
    scope = SnapshotScope(
        sources=frozenset((ident, each.source) for each in references if each.source is not None),
        recipes=frozenset((ident, each.recipe) for each in references if each.recipe is not None),
    )
    with catalog_engine().connect() as connection:
        found = read_snapshot(connection, scope=scope).organizations
    with_inputs = found[0] if found else org
    target = prepare_organization(catalog_engine(), get_settings(), org)
    with target.connect(autocommit=True) as warehouse:
        inputs = input_table_refs(recipe, with_inputs, warehouse)
        report = build_recipe(
            warehouse,
            target.schema,
            recipe,
            inputs,
            limits=SessionLimits(timezone=org.timezone),
            versions={alias: each.data for alias, each in versions.items()},
            last=last,
            force=force,
            on_start=lambda: _forget(row),
            inspect=facts.inspect,
        )
    tables = {inputs[alias].table: key for alias, key in input_keys_by_alias(org, row).items() if alias in inputs}
    # Compiled a moment ago, so this comes out of the cache.
    lineage = compiled_lineage(recipe, row.spec_hash, compile_recipe(recipe, inputs), inputs)
    return report, tables, lineage


def _forget(row: RecipeRow) -> None:
    from datasense_assets.catalog.state import forget_build

    with catalog_engine().begin() as connection:
        forget_build(connection, row.id)


def build_metadata(org: Organization, report: BuildReport, tables: Mapping[str, dg.AssetKey]) -> dict[str, Any]:
    """Row count, schema, column lineage, what casts lost, and a preview."""
    said: dict[str, Any] = {
        "dagster/row_count": report.rows,
        "dagster/table_name": f"{org_schema(org.slug)}.{report.table}",
        "dagster/column_schema": dg.TableSchema(
            columns=[dg.TableColumn(name=c.name, type=c.pg_type, description=c.comment) for c in report.columns]
        ),
        "dagster/column_lineage": dg.TableColumnLineage(
            deps_by_column={
                column: [dg.TableColumnDep(asset_key=tables[table], column_name=name) for table, name in sources]
                for column, sources in report.lineage.items()
            }
        ),
        "rows_loaded": report.rows_written,
        "sql": dg.MetadataValue.md(f"```sql\n{report.sql}\n```"),
    }
    if any(report.lossy_casts.values()):
        said["values_lost_by_casts"] = dg.MetadataValue.json(dict(report.lossy_casts))
    if report.rows_removed is not None:
        said["rows_removed"] = report.rows_removed
    if report.lost_views:
        said["views_to_build_again"] = dg.MetadataValue.json(list(report.lost_views))
    if report.preview:
        names = [column.name for column in report.columns]
        rows = [[row[name] for name in names] for row in report.preview]
        said["preview"] = dg.MetadataValue.md(markdown_table(names, rows))
    return said
