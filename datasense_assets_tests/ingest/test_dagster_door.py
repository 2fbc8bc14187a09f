"""A prepared load goes through dagster-dlt's own resource, as the assets room runs it."""

from __future__ import annotations

import dagster as dg
from dagster_dlt import DagsterDltResource, DagsterDltTranslator
from dagster_dlt.translator import DltResourceTranslatorData

from datasense_assets.catalog.models import Organization
from datasense_assets_tests.ingest.conftest import FakeSource, World, at


class KeyByTable(DagsterDltTranslator):
    def get_asset_spec(self, data: DltResourceTranslatorData) -> dg.AssetSpec:
        return dg.AssetSpec(["acme", data.resource.name])


def test_dagster_dlt_runs_a_prepared_load(world: World, org: Organization) -> None:
    source = world.source(org, tables=("visits", "homes"))
    rows = [{"_id": f"r{i}", "_at": at(i), "n": str(i), "kids": [{"name": "k"}]} for i in range(3)]
    fake = FakeSource({"visits": rows, "homes": rows[:2]}, repeats=("kids",))
    names = [f"forms__{table}{child}" for table in ("visits", "homes") for child in ("", "__kids")]

    @dg.multi_asset(specs=[dg.AssetSpec(["acme", name]) for name in names])
    def load(context):  # type: ignore[no-untyped-def]
        with world.open(org, source, fake) as sync:
            for table in ("visits", "homes"):
                prepared = sync.prepare(world.tables(source)[table])
                yield from DagsterDltResource().run(
                    context,
                    dlt_source=prepared.dlt_source,
                    dlt_pipeline=prepared.pipeline,
                    dagster_dlt_translator=KeyByTable(),
                )
                sync.finish(prepared)

    for _ in range(2):
        result = dg.materialize([load])
        assert len(result.asset_materializations_for_node("load")) == 4
    assert len(world.rows("org_acme.forms__visits")) == 3
    assert len(world.rows("org_acme.forms__homes__kids")) == 2
