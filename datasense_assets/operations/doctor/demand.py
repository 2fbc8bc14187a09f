"""What the schedules ask for against what there is: places of lanes, calls of quotas, sources of a code location."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import TypeAdapter, ValidationError
from sqlalchemy import Connection, text

from datasense_assets.automation.slots import cron_of
from datasense_assets.catalog.freshness import INTERVALS
from datasense_assets.catalog.models import Cron, Schedule
from datasense_assets.catalog.sharding import SHARD_CONDITION, shard_binds
from datasense_assets.operations.doctor.findings import Finding, fine, note, wrong
from datasense_assets.running.limits import Limits, kept_for_people
from datasense_assets.running.tags import Lane

if TYPE_CHECKING:
    from datasense_assets.settings import Settings

# Of a source that has not run in the last week, as far as anything is known of the others.
_SECONDS_A_RUN, _CALLS_A_RUN = 5.0, 3.0
# A quota is given out evenly with a tenth of its time left free.
QUOTA_USABLE = 0.87
# What a reload costs grows with the sources of a code location: 0.4 s at 500, 33 s at 5,000.
SOURCES_OF_A_SHARD, SOURCES_AT_MOST = 1500, 5000
_SCHEDULE: TypeAdapter[Schedule] = TypeAdapter(Schedule)

_SOURCES = """
SELECT s.id, s.schedule, o.slug AS org, c.seconds, c.calls, c.memory,
       ARRAY(SELECT q.key FROM datasense.source_quotas q WHERE q.source_id = s.id) AS quotas
FROM datasense.sources s JOIN datasense.organizations o ON o.id = s.org_id
LEFT JOIN (SELECT org_id, name, sum(wall_seconds) / greatest(1, count(DISTINCT run_id)) AS seconds,
                  sum(api_calls)::double precision / greatest(1, count(DISTINCT run_id)) AS calls,
                  max(peak_memory_bytes) AS memory
           FROM datasense.run_costs WHERE kind = 'source' AND ended_at > now() - interval '7 days' GROUP BY 1, 2) c
       ON c.org_id = s.org_id AND c.name = s.slug
WHERE NOT EXISTS (SELECT FROM datasense.pauses p WHERE p.org_id = s.org_id
                  AND (p.source_id IS NULL OR p.source_id = s.id))
"""
_QUOTAS = """
SELECT key, name, host, allowed_calls, allowed_seconds FROM datasense.quota_state
WHERE allowed_calls IS NOT NULL AND allowed_seconds > 0
"""

_OF_SHARD = f"""
SELECT count(*) FROM datasense.sources s JOIN datasense.organizations o ON o.id = s.org_id WHERE {SHARD_CONDITION}
"""  # noqa: S608 - a constant of ours


@dataclass(frozen=True)
class Demand:
    """What all schedules ask for: runs a day, places that they take on average, calls an hour by quota's key.

    `measured` of the `sources` have a cost of the last seven days; the others are taken to cost what those cost.
    """

    sources: int
    measured: int
    runs_a_day: float
    places: float
    calls: Mapping[str, float]
    memory: int


def read_demand(connection: Connection) -> Demand:
    """Add up the schedules of all sources that are not paused."""
    rows = connection.execute(text(_SOURCES)).mappings().all()
    known = [row for row in rows if row["seconds"] is not None]
    seconds = sum(row["seconds"] for row in known) / len(known) if known else _SECONDS_A_RUN
    each_calls = sum(row["calls"] for row in known) / len(known) if known else _CALLS_A_RUN
    runs = places = 0.0
    calls: dict[str, float] = {}
    for row in rows:
        a_day = runs_a_day(row["schedule"])
        runs += a_day
        places += a_day * (row["seconds"] if row["seconds"] is not None else seconds) / 86400
        for key in row["quotas"]:
            made = row["calls"] if row["calls"] is not None else each_calls
            calls[key] = calls.get(key, 0.0) + a_day * made / 24
    memory = max((row["memory"] for row in known), default=0)
    return Demand(len(rows), len(known), runs, places, calls, int(memory))


def runs_a_day(schedule: Any) -> float:
    """How often a schedule comes round in a day, on average over four weeks; 0 where it cannot be read."""
    from cronsim import CronSim, CronSimError

    try:
        read = _SCHEDULE.validate_python(schedule)
        cron = cron_of(read)
    except ValidationError:
        return 0.0
    if cron is None:
        return 0.0
    if not isinstance(read, Cron):
        return timedelta(days=1) / INTERVALS[read]
    start, weeks = datetime(2024, 1, 1, tzinfo=UTC), timedelta(weeks=4)
    number = 0
    try:
        for slot in CronSim(cron, start):
            if slot > start + weeks or number > 28 * 1440:
                break
            number += 1
    except CronSimError:
        return 0.0
    return number / 28


def look_at_lanes(limits: Limits, demand: Demand) -> Iterator[Finding]:
    """Places of the lanes against all places, and what the schedules need of them."""
    if limits.total == 0:
        # as before an upgrade: somebody holds the platform still, and what starts then starts nothing
        yield note("lanes", "No run is started: the limit of all runs is 0.", "datasense limits unset total")
        return
    scheduled, backfill = limits.of("lane", Lane.SCHEDULED.value), limits.of("lane", Lane.BACKFILL.value)
    kept = kept_for_people(limits)
    sums = f"{limits.total} in all - {scheduled} scheduled - {backfill} backfill = {kept} for people and recipes"
    if kept is not None and kept < 1:
        fix = f"datasense limits set lane scheduled {max(1, limits.total - (backfill or 0) - 2)}"
        yield wrong("lanes", "Scheduled syncs and backfills may take every place.", fix, sums)
    else:
        yield fine("lanes", "Places are kept for people and recipes.", sums)
    too_many = [
        f"lane {name} {limit}"
        for name in Lane
        if (limit := limits.of("lane", name.value)) is not None and 0 <= limits.total < limit
    ]
    if too_many:
        said = f"More than all places together ({limits.total}) are set for: {', '.join(too_many)}."
        yield note("lanes", said, "Raise total, or lower them; the lower one counts.")
    if scheduled is None:
        return
    sums = (
        f"{demand.runs_a_day:,.0f} runs a day x {_a_run(demand):.1f} s / 86,400 s = {demand.places:.2f} places, of "
        f"{scheduled} ({demand.measured} of {demand.sources} sources measured)"
    )
    more = f"datasense limits set lane scheduled {max(scheduled + 1, round(demand.places / 0.6))} and total with it"
    if demand.places > scheduled:
        yield wrong("places", "The schedules ask for more than the scheduled lane can serve.", f"{more}.", sums)
    elif demand.places > 0.7 * scheduled:
        yield note("places", "The scheduled lane is nearly full on average, so peaks wait.", f"{more}.", sums)
    else:
        yield fine("places", "The scheduled lane can serve the schedules.", sums)


def _a_run(demand: Demand) -> float:
    return demand.places * 86400 / demand.runs_a_day if demand.runs_a_day else 0.0


def look_at_quotas(connection: Connection, demand: Demand) -> Iterator[Finding]:
    """Calls that the schedules make in an hour against what each quota allows."""
    worst = 0.0
    for row in connection.execute(text(_QUOTAS)):
        need = demand.calls.get(row.key, 0.0)
        have = 3600 * row.allowed_calls / row.allowed_seconds * QUOTA_USABLE
        worst = max(worst, need / have)
        rule = f"{row.allowed_calls} in {row.allowed_seconds:.0f} s, 87 % usable"
        sums = f"{need:,.0f} calls an hour of {have:,.0f} ({rule})"
        said = f"{row.name} at {row.host}"
        fix = "Spread or slow the schedules of those sources, use further accounts, or have the quota raised."
        if need > have:
            yield wrong("quotas", f"The schedules need more calls than {said} allows one account.", fix, sums)
        elif need > 0.8 * have:
            yield note("quotas", f"{said} is used to {need / have:.0%} by one account.", fix, sums)
    if worst <= 0.8:
        yield fine("quotas", f"The quota that is used most is used to {worst:.0%} by the schedules.")


def look_at_shards(connection: Connection, instance: dg.DagsterInstance, settings: Settings) -> Iterator[Finding]:
    """Sources of this code location, and whether every shard has a due sensor that runs."""
    number = connection.execute(text(_OF_SHARD), shard_binds(settings.shard)).scalar_one()
    count = settings.shard.count if settings.shard is not None else 1
    which = f"shard {settings.shard.index}/{count}" if settings.shard is not None else "the one code location"
    said = f"{which} holds {number:,} sources."
    shards = -(-number * count // 1000)
    fix = f"Divide them by DATASENSE_SHARD into {shards} code locations: 500 sources reload in about 4 s, 5,000 in 33."
    if number > SOURCES_AT_MOST:
        yield wrong("shards", said, fix)
    elif number > SOURCES_OF_A_SHARD:
        yield note("shards", said, fix)
    else:
        yield fine("shards", said)
    if settings.shard is None:
        return
    sensors = [
        each for each in instance.all_instigator_state() if each.instigator_name == "due_sources" and each.is_running
    ]
    if 0 < len(sensors) < count:
        said = (
            f"{len(sensors)} of {count} shards have a due sensor that runs: the others' organisations are not served."
        )
        yield wrong("shards", said, "Add a code location for each i of DATASENSE_SHARD=i/n to workspace.yaml.")
