"""Reload: when the catalog's revision moves, the code server builds its graph anew.

The daemon evaluates this sensor inside the code server, and names the server in the tick's context: no address needs to
be configured, under `dagster dev` as in production. Changes that follow each other closely give one reload.
"""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg

from datasense_assets.catalog.models import Snapshot
from datasense_assets.running.graph_index import GraphIndex, graph_hash
from datasense_assets.running.owners import catalog_engine
from datasense_assets.settings import Settings

QUIET = timedelta(seconds=4)
LONGEST_WAIT = timedelta(seconds=30)
_RELOAD_TIMEOUT = 120


class ReloadWatch:
    """What a loaded graph knows of the catalog's later revisions; lives as long as the process that holds the graph."""

    def __init__(self, index: GraphIndex) -> None:
        self.index = index
        self.seen = index.revision
        self.waiting_since: datetime | None = None
        self.reloading_since: datetime | None = None

    def is_quiet(self, revision: int, changed_at: datetime, now: datetime) -> bool:
        """Whether to look at a new revision now: the catalog has been quiet for a moment, or has waited long enough."""
        if revision == self.seen:
            return False
        self.waiting_since = self.waiting_since or now
        return now - changed_at >= QUIET or now - self.waiting_since >= LONGEST_WAIT

    def wants_reload(self, snapshot: Snapshot) -> bool:
        """Whether the snapshot would give another graph; if not, its revision counts as seen."""
        if graph_hash(snapshot) != self.index.content:
            return True
        self.seen, self.waiting_since = snapshot.revision, None
        return False

    def is_reloading(self, now: datetime) -> bool:
        """Whether a reload was asked for and may still be under way."""
        return self.reloading_since is not None and (now - self.reloading_since).total_seconds() < _RELOAD_TIMEOUT


def build_reload_sensor(index: GraphIndex, settings: Settings) -> dg.SensorDefinition:
    """The sensor that compares the catalog with `index`."""
    watch = ReloadWatch(index)

    @dg.sensor(
        name="reload_on_catalog_change",
        minimum_interval_seconds=settings.reload_interval_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Reloads this code location when the catalog has changed; asks for no run.",
    )
    def reload_on_catalog_change(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        from datasense_assets.catalog.snapshot import read_snapshot
        from datasense_assets.catalog.state import read_revision

        now = datetime.now(UTC)
        with catalog_engine().connect() as connection:
            revision, changed_at = read_revision(connection)
            if revision == watch.seen:
                return dg.SkipReason(f"the graph is that of the catalog's revision {revision}")
            if watch.is_reloading(now):
                return dg.SkipReason(f"a reload to revision {revision} is under way")
            if not watch.is_quiet(revision, changed_at, now):
                return dg.SkipReason(f"the catalog is changing (revision {revision}, loaded {index.revision})")
            if not watch.wants_reload(read_snapshot(connection, shard=settings.shard)):
                return dg.SkipReason(f"revision {revision} changes nothing of the graph")
        origin: Any = context.code_location_origin
        if origin is None or not origin.is_reload_supported:
            return dg.SkipReason(f"the catalog is at revision {revision}: reload this location by hand to see it")
        watch.reloading_since = now
        # From a thread: the reload replaces the very process that evaluates this tick.
        threading.Thread(target=_reload, args=(origin,), name="datasense-reload", daemon=True).start()
        return dg.SkipReason(f"reloading from revision {index.revision} to {revision}")

    return reload_on_catalog_change


def _reload(origin: Any) -> None:
    """Ask the code server to start anew; the webserver and the daemon notice by themselves."""
    origin.create_client().reload_code(timeout=_RELOAD_TIMEOUT)
