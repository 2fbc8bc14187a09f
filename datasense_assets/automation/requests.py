"""The requests sensor: rows that a person's tool wrote into the catalog become runs.

`datasense sync` and the web product need no address of a Dagster server: they write what they want, with its lane, and
read the run's progress by the request's tag.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import dagster as dg

from datasense_assets.automation.due import is_placeholder, live_tags, run_request
from datasense_assets.catalog.times import now
from datasense_assets.running import tags as t
from datasense_assets.running.graph_index import GraphIndex, RecipeEntry, SourceEntry
from datasense_assets.running.owners import catalog_engine
from datasense_assets.running.partitions import source_partitions
from datasense_assets.running.tries import is_tried_again, last_try
from datasense_assets.running.upstream import with_upstream_recipes
from datasense_assets.settings import Settings

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from datasense_assets.catalog.state import AskedRun

MAX_REQUESTS = 50
# What the graph does not hold by then will not be in it: its row cannot be used.
GRAPH_PATIENCE = timedelta(minutes=10)
_NOT_IN_GRAPH = "it cannot be used as it stands in the catalog; `datasense status` and its asset say what is wrong"


def build_requests_sensor(index: GraphIndex, settings: Settings) -> dg.SensorDefinition:
    """The sensor over `datasense.sync_requests`."""

    @dg.sensor(
        name="asked_runs",
        asset_selection=dg.AssetSelection.all(),
        minimum_interval_seconds=settings.requests_interval_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Turns requests of the command line and the web product into runs.",
    )
    def asked_runs(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        from datasense_assets.catalog.state import lock_requests, mark_request_asked, open_requests, settle_request

        requests: list[dg.RunRequest] = []
        with catalog_engine().begin() as connection:
            if not lock_requests(connection, settings.shard):
                return dg.SensorResult(skip_reason="another daemon looks at the requests just now")
            # more than are served: some of them wait for others
            for row in open_requests(connection, 4 * MAX_REQUESTS, settings.shard):
                if len(requests) >= MAX_REQUESTS:
                    break
                run_id = _run_of(context.instance, row.id)
                if run_id is not None:
                    settle_request(connection, row.id, run_id=run_id)
                    continue
                if row.asked_lately:
                    continue
                row = in_parts(connection, index, row, settings.backfill_chunk)
                made = _not_before(connection, context.instance, row) or request_for(index, row)
                if made == _WAITS:
                    continue
                if isinstance(made, dg.RunRequest):
                    mark_request_asked(connection, row.id)
                    requests.append(made)
                elif made is not None:
                    settle_request(connection, row.id, error=made)
                elif now() - row.requested_at > GRAPH_PATIENCE:
                    settle_request(connection, row.id, error=_NOT_IN_GRAPH)
        return dg.SensorResult(run_requests=requests, skip_reason=None if requests else "nobody asked for a run")

    return asked_runs


def in_parts(connection: Connection, index: GraphIndex, row: AskedRun, chunk: int) -> AskedRun:
    """The request itself, or where its range has more than `chunk` partitions its first part; the others are kept.

    Whatever lane it was asked for in, one in parts goes by the backfill lane: nobody waits for all of it at once.
    """
    from datasense_assets.catalog.state import split_request

    entry = index.sources.get(row.source_id) if row.source_id is not None else None
    if entry is None or row.partition_first is None or row.partition_last is None:
        return row
    keys = source_partitions(entry.org, entry.source).get_partition_keys()
    keys = [key for key in keys if row.partition_first <= key <= row.partition_last]
    if len(keys) <= chunk:
        return row
    spans = [(part[0], part[-1]) for part in (keys[at : at + chunk] for at in range(0, len(keys), chunk))]
    whole = replace(row, lane=t.Lane.BACKFILL.value)
    split_request(connection, whole, spans)
    return replace(whole, partition_first=spans[0][0], partition_last=spans[0][1])


_WAITS = "waits"


def _not_before(connection: Connection, instance: dg.DagsterInstance, row: AskedRun) -> str | None:
    """Why a request that comes after others has no run: it waits, or one of them has failed; None: nothing is between.

    An input that could not be loaded keeps the recipes below it on their last good data.
    """
    from datasense_assets.catalog.state import old_tables, read_request

    for each in row.after:
        before = read_request(connection, each)
        if before is None:
            continue
        if before.error is not None or before.run_id is None:
            stays = old_tables(connection, row.org_id, row.recipe_id)
            return f"an input was not loaded: {before.error or 'its request was dropped'}; {stays}"
        run = instance.get_run_by_id(before.run_id)
        last = None if run is None else last_try(instance, run)
        if last is not None and (not last.is_finished or is_tried_again(instance, last)):
            return _WAITS
        if last is None or not last.is_success:
            stays = old_tables(connection, row.org_id, row.recipe_id)
            return f"an input was not loaded (run {before.run_id} did not succeed); {stays}"
    return None


def _run_of(instance: dg.DagsterInstance, request_id: int) -> str | None:
    """The run that was made for a request: seeing it is what settles the request, so that none is lost or doubled."""
    found = instance.get_run_ids(filters=dg.RunsFilter(tags={t.REQUEST: str(request_id)}), limit=1)
    return found[0] if found else None


def request_for(index: GraphIndex, row: AskedRun) -> dg.RunRequest | str | None:
    """The run that a request wants; a sentence where it cannot be; None where the graph does not hold it yet.

    A request for neither a source nor a recipe is for all recipes of the organisation, in one run. One for a recipe
    that comes after other requests is for the recipes that it reads too.
    """
    if row.recipe_id is not None:
        recipe = index.recipes.get(row.recipe_id)
        if recipe is None:
            return None
        rows = with_upstream_recipes(recipe.org, [recipe.recipe]) if row.after else [recipe.recipe]
        return _recipes_run([index.recipes[each.id] for each in rows if each.id in index.recipes], row)
    if row.source_id is not None:
        source = index.sources.get(row.source_id)
        return None if source is None else _source_run(source, row)
    recipes = [entry for entry in index.recipes.values() if entry.org.id == row.org_id]
    return _recipes_run(recipes, row) if recipes else "the organisation has no recipe that can be built"


def _recipes_run(entries: list[RecipeEntry], row: AskedRun) -> dg.RunRequest:
    asked = {t.LANE: row.lane, t.REQUEST: str(row.id)}
    if row.full_reload:
        asked[t.FULL] = "true"
    what = t.Selected(frozenset(), frozenset(entry.ident for entry in entries))
    return dg.RunRequest(
        run_key=f"request-{row.id}",
        asset_selection=[dg.AssetKey(list(entry.key)) for entry in entries],
        tags={**asked, **t.run_tags(asked, what, t.Owner(tier=entries[0].org.tier.value))},
    )


def _source_run(entry: SourceEntry, row: AskedRun) -> dg.RunRequest | str:
    keys = entry.keys
    if row.tables:
        wanted = {(*entry.ident, table.replace("-", "_")) for table in row.tables}
        keys = tuple(key for key in entry.keys if key in wanted)
        if len(keys) < len(wanted):
            missing = ", ".join(sorted(key[2] for key in wanted.difference(keys)))
            return f"the source has no table {missing}; it has {', '.join(key[-1] for key in entry.keys)}"
    asked = {t.LANE: row.lane, t.REQUEST: str(row.id)}
    if row.full_reload:
        asked[t.FULL] = "true"
    if row.partition_first is None:
        asked[t.LIVE] = "true"
    return run_request(
        entry, keys, run_key=f"request-{row.id}", asked=asked, partition_tags=_partition_tags(entry, row)
    )


def _partition_tags(entry: SourceEntry, row: AskedRun) -> dict[str, str]:
    if is_placeholder(entry):
        return {}
    if row.partition_first is None:
        return live_tags(entry, row.last_success_at, datetime.now(UTC))
    if row.partition_last is None or row.partition_last == row.partition_first:
        return {t.PARTITION: row.partition_first}
    return {t.RANGE_START: row.partition_first, t.RANGE_END: row.partition_last}
