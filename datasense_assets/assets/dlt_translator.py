"""How dagster-dlt names what a pipeline loads: a resource is the table's own asset, with no upstream of its own."""

from __future__ import annotations

import dagster as dg
from dagster_dlt import DagsterDltTranslator
from dagster_dlt.translator import DltResourceTranslatorData

from datasense_assets.assets.specs import source_table_spec
from datasense_assets.catalog.models import Organization, Source, table_name
from datasense_assets.running.graph_index import table_key


class SourceTranslator(DagsterDltTranslator):
    """Specs of one source's tables; the same ones as in the graph."""

    def __init__(self, org: Organization, source: Source) -> None:
        self._org = org
        self._source = source

    def get_asset_spec(self, data: DltResourceTranslatorData) -> dg.AssetSpec:
        """The spec of the table that a resource loads; a repeat group found a moment ago gets a bare one."""
        for table in self._source.tables:
            if data.resource.name == table_name(self._source.slug, table.slug):
                return source_table_spec(self._org, self._source, table, None)
        return dg.AssetSpec(dg.AssetKey(list(table_key(self._org.slug, self._source.slug, data.resource.name))))
