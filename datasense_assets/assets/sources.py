"""Source → partitioned asset: one op a source, one spec a table."""

from collections.abc import Iterator
from functools import cache
from typing import Any

import dagster as dg

from datasense_assets.assets.checks import check_source, checks_alone, source_check_specs
from datasense_assets.assets.nodes import asset_node
from datasense_assets.assets.specs import source_table_spec, undiscovered_spec
from datasense_assets.catalog.models import Organization, Source
from datasense_assets.running.partitions import source_partitions


@cache
def in_chunks(partitions: int) -> dg.BackfillPolicy:
    """A backfill in runs over so many partitions each, so that none is too long to end, or to be done again."""
    return dg.BackfillPolicy.multi_run(max_partitions_per_run=partitions)


def op_name(source: Source) -> str:
    """Made from the id and never from the slug: slugs can collide once they are cleaned."""
    return f"source_{source.id}"


def pool_name(connector: str) -> str:
    """The pool that ops of a connector share, for whatever bypasses the run queue."""
    return f"connector_{connector}"


def source_asset(
    org: Organization, source: Source, backfill_chunk: int = 31, *, promised: bool = False
) -> dg.AssetsDefinition:
    """The asset of a source: its tables, or the one that stands for them until they are known.

    `promised`: its first table bears the source's promise of freshness.
    """
    if not source.tables:
        return _undiscovered_asset(org, source)
    partitions = source_partitions(org, source)

    def load(context: dg.AssetExecutionContext) -> Iterator[Any]:
        if checks_alone(context):
            yield from check_source(context, org, source)
            return
        from datasense_assets.assets.loading import load_source

        yield from load_source(context, org, source)

    return asset_node(
        op_name(source),
        load,
        [
            source_table_spec(org, source, table, partitions, promised=promised and position == 0)
            for position, table in enumerate(source.tables)
        ],
        checks=source_check_specs(org, source),
        can_subset=True,
        backfill_policy=in_chunks(backfill_chunk),
        pool=pool_name(source.connector),
    )


def _undiscovered_asset(org: Organization, source: Source) -> dg.AssetsDefinition:
    def discover(context: dg.AssetExecutionContext) -> Iterator[Any]:
        from datasense_assets.assets.discovering import discover_source

        yield from discover_source(context, org, source)

    return asset_node(op_name(source), discover, [undiscovered_spec(org, source)], pool=pool_name(source.connector))
