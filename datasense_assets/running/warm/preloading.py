"""What a worker does once, before it has children: imports, and one run of nothing.

A child has it from its parent, in memory that both share. The run of nothing is for the walls between organisations
too: when Dagster makes the first value of a kind in a process, it keeps the local variables of whoever made it
(`dagster_shared.record`), for good. Here the first ones hold nothing.
"""

import gc
import importlib
import logging
from collections.abc import Iterator
from typing import Any

import dagster as dg

from datasense_assets.connectors.registry import BUILT_IN

# What runs import: some cost a second or more, and what is imported here is not searched for garbage after each run.
_MODULES = (
    "datasense_assets.definitions",
    "datasense_assets.assets.bounds",
    "datasense_assets.assets.building",
    "datasense_assets.assets.dlt_translator",
    "datasense_assets.assets.loading",
    "datasense_assets.assets.marking",
    "datasense_assets.ingest.discovery",
    "datasense_assets.ingest.load",
    "datasense_assets.recipes.build",
    "datasense_assets.recipes.checking.recipe_tables",
    "datasense_assets.recipes.checking.source_tables",
    "datasense_assets.warehouse.leases",
    "datasense_assets.warehouse.quotas",
    "dagster_dlt",
    "dlt.common.libs.pyarrow",
    "dlt.common.normalizers.naming.direct",
    "dlt.destinations.impl.postgres.factory",
    "dlt.sources.helpers.requests",
    "anyascii",
    "cryptography.fernet",
    "httpcore",
    "h11",
    "pyarrow.csv",
    "pyarrow.parquet",
    "adbc_driver_postgresql.dbapi",
)


def preload() -> None:
    """Import and run once, then keep all that out of the garbage collector's sight, so that it stays shared."""
    connectors = {path.partition(":")[0] for path in BUILT_IN.values()}
    for name in (*_MODULES, *sorted(connectors)):
        importlib.import_module(name)
    _run_of_nothing()
    gc.collect()
    gc.freeze()


def _run_of_nothing() -> None:
    import dlt
    from dagster_dlt.translator import DltResourceTranslatorData

    DltResourceTranslatorData(resource=dlt.resource([], name="nothing"), pipeline=None)
    column = dg.TableColumn("column", "text", description="", tags={"kind": "text"})
    metadata: dict[str, Any] = {
        "md": dg.MetadataValue.md(""),
        "text": dg.MetadataValue.text(""),
        "json": dg.MetadataValue.json({}),
        "int": dg.MetadataValue.int(0),
        "float": dg.MetadataValue.float(0.0),
        "bool": dg.MetadataValue.bool(True),
        "url": dg.MetadataValue.url("https://example.org"),
        "path": dg.MetadataValue.path("/"),
        "timestamp": dg.MetadataValue.timestamp(0.0),
        "null": dg.MetadataValue.null(),
        "schema": dg.TableSchema([column], constraints=dg.TableConstraints([""])),
        "lineage": dg.TableColumnLineage(
            {"column": [dg.TableColumnDep(asset_key=dg.AssetKey(["upstream"]), column_name="column")]}
        ),
    }
    days = dg.DailyPartitionsDefinition("2026-01-01")

    @dg.multi_asset(
        name="nothing",
        specs=[dg.AssetSpec(["a", "b"], partitions_def=days, tags={"kind": ""}, metadata={"note": ""})],
        check_specs=[dg.AssetCheckSpec("holds", asset=dg.AssetKey(["a", "b"]))],
        backfill_policy=dg.BackfillPolicy.single_run(),
        pool="nothing",
    )
    def load(context: dg.AssetExecutionContext) -> Iterator[object]:
        context.log.info("")
        yield dg.AssetMaterialization(["a", "b"], partition="2026-01-01", metadata=metadata)
        yield dg.MaterializeResult(
            asset_key=dg.AssetKey(["a", "b"]),
            metadata=metadata,
            data_version=dg.DataVersion(""),
            check_results=[
                dg.AssetCheckResult(
                    passed=True, check_name="holds", asset_key=dg.AssetKey(["a", "b"]), metadata=metadata
                )
            ],
        )

    @dg.op
    def fail() -> None:
        raise dg.Failure(description="", metadata=metadata, allow_retries=False)

    @dg.job
    def failing() -> None:
        fail()

    logging.disable()
    try:
        with dg.DagsterInstance.ephemeral() as instance:
            dg.materialize([load], instance=instance, partition_key="2026-01-01")
            failing.execute_in_process(instance=instance, raise_on_error=False)
    finally:
        logging.disable(logging.NOTSET)
