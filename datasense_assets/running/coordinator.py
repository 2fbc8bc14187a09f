"""The run coordinator that dagster.yaml names: the stock queue, with our tags on every run that enters it.

Its limits are those of dagster.yaml, and over them those of the catalog, which can be changed while it runs.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any

import dagster as dg

from datasense_assets.running import limits as lim
from datasense_assets.running import pods
from datasense_assets.running import tags as t
from datasense_assets.running.scope import touched_paths
from datasense_assets.running.whose import ask_in, of_run

if TYPE_CHECKING:
    from datasense_assets.catalog.state import RunLimit

_READ_AGAIN_SECONDS = 1.0
_OUR_LAUNCHER = "datasense_assets.running.launcher"
_log = logging.getLogger("datasense.coordinator")


class TaggingRunCoordinator(dg.QueuedRunCoordinator):
    """Tags a run from what it selects (assets, or their checks alone) before it is queued, whoever submits it."""

    _pods: Sequence[Mapping[str, Any]] = ()
    _defaults: lim.Limits | None = None
    _set: Sequence[RunLimit] = ()
    _read_at = float("-inf")

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        """Dagster's own fields, and `pods`."""
        stock: Any = super().config_type()
        return {**stock, "pods": pods.CONFIG_FIELD}

    @classmethod
    def from_config_value(cls, inst_data: Any, config_value: Mapping[str, Any]) -> TaggingRunCoordinator:
        """As Dagster's, with the sizes of pods."""
        made = super().from_config_value(inst_data, config_value)
        made._pods = config_value.get("pods", ())
        return made

    def register_instance(self, instance: dg.DagsterInstance) -> None:
        """As Dagster's; whoever queues and starts runs can say in its log whose they are."""
        super().register_instance(instance)
        ask_in(instance)

    @property
    def default_limits(self) -> lim.Limits:
        """What dagster.yaml says, whatever is set over it."""
        if self._defaults is None:
            stock = super().get_run_queue_config()
            # Not the instance's own settings: another coordinator of it may have changed those, for threads that ask
            # for one at the same moment, as a daemon's do when it starts, make one each.
            made_of: Any = self._instance.get_ref().settings if self._instance.is_persistent else {}
            written = made_of.get("concurrency") or self._instance.get_settings("concurrency")
            self._defaults = lim.default_limits(written, stock.max_concurrent_runs, stock.tag_concurrency_limits)
        return self._defaults

    def get_run_queue_config(self) -> Any:
        """The limits that hold now; the daemon asks before each look at the queue.

        What dagster.yaml says under `concurrency.runs` wins over what a coordinator answers here, and the instance
        reads it anew each time, right after this. Nothing public changes it while a daemon runs, so the instance gets
        settings of its own, with these limits in them; those it was made of stay as they were written.
        """
        limits = lim.leaving_places(lim.with_set(self.default_limits, self._limits_set()))
        # a run that warm workers have no room for waits here, where it has its priority and may be canceled
        slots = self._slots_by_lane()
        if slots is not None:
            limits = lim.within_slots(limits, slots)
        made = {"max_concurrent_runs": limits.total, "tag_concurrency_limits": [dict(each) for each in limits.tags]}
        instance: Any = self._instance
        concurrency = instance.get_settings("concurrency")
        if isinstance(concurrency.get("runs"), dict):
            changed = {**concurrency, "runs": {**concurrency["runs"], **made}}
            instance._settings = {**instance._settings, "concurrency": changed}
        return super().get_run_queue_config().with_concurrency_settings({"runs": made})

    def _slots_by_lane(self) -> Mapping[str, int] | None:
        """What warm workers take at once; None where runs are not handed to them.

        A launcher of another kind is not opened for it: each run asks for these limits too, and one in a pod would need
        the cluster's API for that, which it may not use.
        """
        if not self._instance.is_persistent:
            return None
        named = self._instance.get_ref().run_launcher_data
        if named is None or named.module_name != _OUR_LAUNCHER:
            return None
        ask = getattr(self._instance.run_launcher, "slots_by_lane", None)
        found: Mapping[str, int] | None = ask() if ask is not None else None
        return found

    def _limits_set(self) -> Sequence[RunLimit]:
        """What the catalog says; while it is down, what it said last."""
        if monotonic() - self._read_at < _READ_AGAIN_SECONDS:
            return self._set
        from sqlalchemy.exc import SQLAlchemyError

        from datasense_assets.catalog.state import read_run_limits
        from datasense_assets.running.owners import catalog_engine
        from datasense_assets.warehouse.database import DatabaseUnavailable

        try:
            with catalog_engine().connect() as connection:
                self._set = read_run_limits(connection)
        except (DatabaseUnavailable, SQLAlchemyError) as error:
            _log.warning("the limits set in the catalog cannot be read, the last ones hold: %s", type(error).__name__)
        self._read_at = monotonic()
        return self._set

    def submit_run(self, context: dg.SubmitRunContext) -> dg.DagsterRun:
        """Add what is missing of the tags, then queue the run as Dagster does."""
        run = context.dagster_run
        what = t.selected(path for path in touched_paths(run) if path[0] != t.PLATFORM)
        if what.sources or what.recipes:
            missing = t.run_tags(run.tags, what, self._owner(run, what))
            if self._pods and pods.POD_CONFIG not in run.tags:
                missing |= pods.pod_tags(self._pods, self._rows(run, what))
            if missing:
                self._instance.add_run_tags(run.run_id, missing)
            _log.info("queued %s", run.run_id, extra={"about": of_run(run.run_id, {**run.tags, **missing})})
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

    @staticmethod
    def _rows(run: dg.DagsterRun, what: t.Selected) -> int | None:
        """Of the source; a catalog that is down makes it a large one."""
        from sqlalchemy.exc import SQLAlchemyError

        from datasense_assets.warehouse.database import DatabaseUnavailable

        try:
            return pods.rows_of(what)
        except (DatabaseUnavailable, SQLAlchemyError) as error:
            _log.warning("run %s gets the largest pod, its size is unknown: %s", run.run_id, type(error).__name__)
            return None
