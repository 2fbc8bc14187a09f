"""The stale-recipe sensor: one run an organisation for all its recipes whose inputs have new data.

It asks only when the inputs have settled: a recipe waits while a source under it is running or due (for an hour at
most, unless set otherwise: then what is there must do), and stays on its last good data while one has failed or breaks
a check that is an error (docs/operations.md). Dagster orders the recipes inside the run.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from itertools import groupby
from time import monotonic
from typing import TYPE_CHECKING

import dagster as dg

from datasense_assets.automation.due import in_progress_runs
from datasense_assets.catalog.times import now
from datasense_assets.running import tags as t
from datasense_assets.running.graph_index import GraphIndex
from datasense_assets.running.owners import catalog_engine
from datasense_assets.settings import Settings

if TYPE_CHECKING:
    from datasense_assets.catalog.state import StaleRecipe

# Reaches beyond the longest pause between two looks by more than the longest transaction that records a load or build.
RECENT, LONGEST_PAUSE = timedelta(minutes=5), 120.0
WHOLE_EVERY = 300.0


def build_stale_sensor(index: GraphIndex, settings: Settings) -> dg.SensorDefinition:
    """The sensor over the recipes of `index`."""
    looks = Looks()

    @dg.sensor(
        name="stale_recipes",
        asset_selection=dg.AssetSelection.all(),
        minimum_interval_seconds=settings.recipes_interval_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Asks for one run an organisation of the recipes whose inputs have new data.",
    )
    def stale_recipes(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        from datasense_assets.catalog.state import mark_outdated, mark_requested
        from datasense_assets.catalog.state import stale_recipes as read_stale
        from datasense_assets.recipes.versions import COMPILER_VERSION

        moment = now()
        with catalog_engine().begin() as connection:
            patience = timedelta(minutes=settings.recipe_patience_minutes)
            rows = read_stale(
                connection, moment, COMPILER_VERSION, settings.shard, patience=patience, recent=looks.reach(monotonic())
            )
            mark_outdated(connection, rows, moment, settings.shard)
            if not rows:
                return dg.SensorResult(skip_reason="every recipe is built from its newest inputs")
            runs = in_progress_runs(context.instance)
            ready = buildable(rows, busy_orgs(runs), frozenset(index.recipes))
            mark_requested(connection, [row.recipe_id for row in ready], moment)
            requests = [_request(index, list(of_org)) for _, of_org in groupby(ready, key=lambda row: row.org_slug)]
        skip = (
            None
            if requests
            else f"{len(rows)} recipes wait for inputs that are due, running, missing, failed or break a check"
        )
        return dg.SensorResult(run_requests=requests, skip_reason=skip)

    return stale_recipes


class Looks:
    """How far back a look has to reach, to see what has changed since the one before; all of it now and then.

    What nothing in the catalog tells the time of (a pause that ended) is seen by the next look at everything.
    """

    def __init__(self) -> None:
        self._last: float | None = None
        self._whole: float | None = None

    def reach(self, at: float) -> timedelta | None:
        """For a look at `at` (seconds of a steady clock); None: at everything."""
        last, self._last = self._last, at
        if last is None or self._whole is None or at - self._whole >= WHOLE_EVERY or at - last > LONGEST_PAUSE:
            self._whole = at
            return None
        return RECENT


def busy_orgs(runs: Iterable[dg.DagsterRun]) -> frozenset[str]:
    """Organisations whose recipes are being built, or waiting to be: their next run is asked for when it has ended."""
    return frozenset(
        org for run in runs for org, _ in t.selected(tuple(k.path) for k in run.asset_selection or ()).recipes
    )


def buildable(rows: Sequence[StaleRecipe], busy: frozenset[str], in_graph: frozenset[int]) -> list[StaleRecipe]:
    """Those of the stale recipes that can be built now, in the order given (by organisation).

    A recipe waits while an input of its own is due, running, missing or failed, and while a recipe that it reads waits.
    """
    ready: list[StaleRecipe] = []
    for _, of_org in groupby(rows, key=lambda row: row.org_slug):
        candidates = {
            row.name: row
            for row in of_org
            if row.waits_for is None and not row.failed_unchanged and row.recipe_id in in_graph and row.org not in busy
        }
        while blocked := [n for n, row in candidates.items() if not set(row.stale_upstreams) <= candidates.keys()]:
            for name in blocked:
                del candidates[name]
        ready += candidates.values()
    return ready


def _request(index: GraphIndex, rows: list[StaleRecipe]) -> dg.RunRequest:
    """One run for an organisation's recipes, in which Dagster keeps their order.

    It has no run key: a run in progress keeps the organisation out of the next tick, and a recipe that was built is no
    longer stale.
    """
    entries = [index.recipes[row.recipe_id] for row in rows]
    what = t.Selected(frozenset(), frozenset(entry.ident for entry in entries))
    asked = {t.LANE: t.Lane.TRANSFORM.value}
    return dg.RunRequest(
        asset_selection=[dg.AssetKey(list(entry.key)) for entry in entries],
        tags={**asked, **t.run_tags(asked, what, t.Owner(tier=rows[0].tier.value))},
    )
