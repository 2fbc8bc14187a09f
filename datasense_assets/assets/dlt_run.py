"""A prepared load run through dagster-dlt."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import dagster as dg

from datasense_assets.catalog.models import Organization, Source

if TYPE_CHECKING:
    from datasense_assets.ingest.load import PreparedLoad, UnchangedTable


def run_dlt(
    context: dg.AssetExecutionContext, org: Organization, source: Source, prepared: PreparedLoad | UnchangedTable
) -> None:
    """Run the pipeline through dagster-dlt; what it says of the tables is corrected by `load_metadata`.

    dagster-dlt leaves out resources whose assets are not selected; a repeat group without its parent's rows would be a
    wrong table, so it is given a context that selects all of them.
    """
    from dagster_dlt import DagsterDltResource

    from datasense_assets.assets.dlt_translator import SourceTranslator
    from datasense_assets.ingest.skipping import UnchangedTable

    if isinstance(prepared, UnchangedTable) or not prepared.needs_load:
        return
    whole: Any = SimpleNamespace(is_subset=False, has_assets_def=False, log=context.log)
    events = DagsterDltResource().run(
        whole,
        dlt_source=prepared.dlt_source,
        dlt_pipeline=prepared.pipeline,
        dagster_dlt_translator=SourceTranslator(org, source),
    )
    try:
        for _ in events:
            # what they say is said by the materializations
            pass
    except Exception as error:
        cause = prepared.explain(error)
        if cause is error:
            raise
        raise cause from error
