"""What runs cost: a row for each for a week, then a row a day for each source and recipe.

Costs are kept by name and not by id, since names never change: what a deleted source has cost stays its organisation's.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import Connection, text

from datasense_assets.catalog.tables import COST_SUMS

CostKind = Literal["source", "recipe"]

# Each run by itself for so long, then a day in one row.
RUNS_KEPT = timedelta(days=7)
DAYS_KEPT = timedelta(days=400)


@dataclass(frozen=True)
class RunCost:
    """What one try of one run has used for a source or recipe.

    `cpu_seconds`: of the worker's process, from where it began with this run or ended with the last one, so that the
    sum over all runs is what workers have used; Postgres is not in it. `wall_seconds`: of the load or build itself.
    `peak_memory_bytes`: of the whole process meanwhile. `queued_seconds`: from asking to the start of the run;
    `throttled_seconds`: for quotas, and because servers wanted it. `rows_written`: added or changed, or of the
    recipe's table. `attempt` counts from 0.
    """

    kind: CostKind
    name: str
    run_id: str
    succeeded: bool
    attempt: int = 0
    cpu_seconds: float = 0.0
    wall_seconds: float = 0.0
    peak_memory_bytes: int = 0
    rows_read: int = 0
    rows_written: int = 0
    bytes_read: int = 0
    api_calls: int = 0
    queued_seconds: float = 0.0
    throttled_seconds: float = 0.0


@dataclass(frozen=True)
class Cost:
    """The sum over the runs of an organisation (`kind` and `name` None), or of one of its sources or recipes.

    `runs` counts each run once, `failures` each try that failed. `peak_memory_bytes` is the highest of all.
    """

    org: str
    kind: CostKind | None
    name: str | None
    runs: int
    failures: int
    cpu_seconds: float
    wall_seconds: float
    peak_memory_bytes: int
    rows_read: int
    rows_written: int
    bytes_read: int
    api_calls: int
    queued_seconds: float
    throttled_seconds: float


def _summed(prefix: str = "") -> str:
    return ", ".join(
        f"{'max' if name == 'peak_memory_bytes' else 'sum'}({prefix}{name}) AS {name}" for name in COST_SUMS
    )


_COLUMNS = ", ".join(COST_SUMS)
_RUN_FIELDS = [each.name for each in fields(RunCost)]

# An organisation that was deleted while its run went on gets no row, and the run does not fail by it.
_RECORD = f"""
INSERT INTO datasense.run_costs (org_id, {", ".join(_RUN_FIELDS)})
SELECT o.id, {", ".join(f":{name}" for name in _RUN_FIELDS)} FROM datasense.organizations o WHERE o.id = :org_id
"""  # noqa: S608 - names of ours

_ALL = f"""
SELECT org_id, kind, name, (attempt = 0)::int AS runs, (NOT succeeded)::int AS failures, {_COLUMNS}
FROM datasense.run_costs WHERE CAST(:since AS timestamptz) IS NULL OR ended_at >= :since
UNION ALL
SELECT org_id, kind, name, runs, failures, {_COLUMNS}
FROM datasense.daily_costs
WHERE CAST(:since AS timestamptz) IS NULL OR day >= (CAST(:since AS timestamptz) AT TIME ZONE 'UTC')::date
"""  # noqa: S608 - names of ours

_READ = """
SELECT o.slug AS org, {kind} AS kind, {name} AS name,
       sum(c.runs) AS runs, sum(c.failures) AS failures, {sums}
FROM ({all}) c JOIN datasense.organizations o ON o.id = c.org_id
WHERE CAST(:org AS text) IS NULL OR o.slug = :org
GROUP BY 1, 2, 3
ORDER BY sum(c.cpu_seconds) DESC, 1, 2, 3
"""
_BY_ORG = _READ.format(kind="NULL", name="NULL", sums=_summed("c."), all=_ALL)
_BY_NAME = _READ.format(kind="c.kind", name="c.name", sums=_summed("c."), all=_ALL)

# What leaves one table comes into the other in one statement: no reader sees it twice, or not at all.
_FOLD = f"""
WITH old AS (DELETE FROM datasense.run_costs WHERE ended_at < :before RETURNING *)
INSERT INTO datasense.daily_costs AS d (org_id, kind, name, day, runs, failures, {_COLUMNS})
SELECT org_id, kind, name, (ended_at AT TIME ZONE 'UTC')::date, count(*) FILTER (WHERE attempt = 0),
       count(*) FILTER (WHERE NOT succeeded), {_summed()}
FROM old GROUP BY 1, 2, 3, 4
ON CONFLICT (org_id, kind, name, day) DO UPDATE SET
    {
    ", ".join(
        f"{name} = greatest(d.{name}, excluded.{name})"
        if name == "peak_memory_bytes"
        else f"{name} = d.{name} + excluded.{name}"
        for name in ("runs", "failures", *COST_SUMS)
    )
}
"""  # noqa: S608 - names of ours
_FORGET = "DELETE FROM datasense.daily_costs WHERE day < CAST(:before AS timestamptz)::date"


def record_cost(connection: Connection, org_id: int, cost: RunCost) -> None:
    """Keep what one try of a run has cost."""
    values = {name: getattr(cost, name) for name in _RUN_FIELDS}
    connection.execute(text(_RECORD), {"org_id": org_id, **values})


def read_costs(
    connection: Connection, *, since: datetime | None = None, org: str | None = None, by_org: bool = False
) -> list[Cost]:
    """What runs have cost, the dearest first: a row for each source and recipe, or with `by_org` an organisation.

    Args:
        connection: to the catalog.
        since: only what ended from then on (None: all that is kept, 400 days). What is older than a week is kept by
            days (of UTC), of which the whole first one counts.
        org: slug of the one organisation to read.
        by_org: one row an organisation.

    """
    statement = text(_BY_ORG if by_org else _BY_NAME)
    return [_cost(dict(row)) for row in connection.execute(statement, {"since": since, "org": org}).mappings()]


def _cost(row: dict[str, Any]) -> Cost:
    whole = ("runs", "failures", *(name for name in COST_SUMS if not name.endswith("_seconds")))
    return Cost(**row | {name: int(row[name]) for name in whole})


def fold_costs(connection: Connection, now: datetime) -> int:
    """Put runs older than a week together by days, and forget days older than 400; how many rows of either.

    Commits nothing itself.
    """
    folded = connection.execute(text(_FOLD), {"before": now - RUNS_KEPT}).rowcount
    return folded + connection.execute(text(_FORGET), {"before": now - DAYS_KEPT}).rowcount
