"""The same graph the plain way: a code location that builds every source for every run, with Dagster's own executor."""

import dagster as dg

from datasense_assets.assets.graph import build_definitions
from datasense_assets.running.loading import load_snapshot
from datasense_assets.settings import get_settings


@dg.definitions
def definitions() -> dg.Definitions:
    """All sources of the catalog."""
    settings = get_settings()
    whole = build_definitions(load_snapshot(settings, None).snapshot, settings)
    return dg.Definitions(assets=whole.assets)
