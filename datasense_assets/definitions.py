"""The door: the catalog's snapshot in, Dagster definitions out."""

from __future__ import annotations

import dagster as dg

from datasense_assets.assets.graph import build_definitions, load_definitions
from datasense_assets.running.scope import current_scope
from datasense_assets.settings import get_settings, prefer_batched_events

__all__ = ["build_definitions", "definitions"]


@dg.definitions
def definitions() -> dg.Definitions:
    """What Dagster loads: everything for a code server, its run's own part for a run worker."""
    prefer_batched_events()
    loaded = load_definitions()
    if get_settings().is_production and current_scope() is None:
        from datasense_assets.operations.doctor import say_at_start

        say_at_start(get_settings())
    return loaded
