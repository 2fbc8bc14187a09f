"""The run coordinator that dagster.yaml names: the stock queue, with our tags on every run that enters it."""

from __future__ import annotations

import logging

import dagster as dg

from datasense_assets.running import tags as t
from datasense_assets.running.scope import touched_paths

_log = logging.getLogger("datasense.coordinator")


class TaggingRunCoordinator(dg.QueuedRunCoordinator):
    """Tags a run from what it selects (assets, or their checks alone) before it is queued, whoever submits it."""

    def submit_run(self, context: dg.SubmitRunContext) -> dg.DagsterRun:
        """Add what is missing of the tags, then queue the run as Dagster does."""
        run = context.dagster_run
        what = t.selected(touched_paths(run))
        if what.sources or what.recipes:
            missing = t.run_tags(run.tags, what, self._owner(run, what))
            if missing:
                self._instance.add_run_tags(run.run_id, missing)
        return super().submit_run(context)

    def _owner(self, run: dg.DagsterRun, what: t.Selected) -> t.Owner:
        """Ask the catalog, unless the run says it all; a catalog that is down keeps no click out of the queue."""
        if t.TIER in run.tags and (t.CONNECTOR in run.tags or what.recipes):
            return t.Owner(tier=run.tags[t.TIER], connector=run.tags.get(t.CONNECTOR))
        from datasense_assets.running.owners import owner_of
        from datasense_assets.warehouse.database import DatabaseUnavailable

        try:
            return owner_of(what)
        except DatabaseUnavailable as error:
            _log.warning("run %s is queued without its tier and connector: %s", run.run_id, error)
            return t.Owner()
