"""`datasense simulate`: how the platform would do with other numbers of organisations, machines and slots."""

from __future__ import annotations

import math
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from datasense_assets.cli.address import open_catalog
from datasense_assets.cli.output import JsonFlag, print_json, print_table, say, warn

if TYPE_CHECKING:
    from datasense_assets.operations.simulation.answers import Answer
    from datasense_assets.operations.simulation.model import SyncCosts


def simulate(
    organizations: Annotated[int, typer.Option("--organizations", "-o", min=1, help="How many there are.")] = 1000,
    sources: Annotated[int, typer.Option(min=1, help="Sources of each.")] = 5,
    syncs_a_minute: Annotated[
        float | None, typer.Option(min=0.1, help="So many syncs, evenly. Left out: by schedules, as in the docs.")
    ] = None,
    together: Annotated[
        bool, typer.Option("--together", help="With --syncs-a-minute: all at the start of each minute.")
    ] = False,
    minutes: Annotated[float, typer.Option(min=1, max=1440, help="How long to play.")] = 60,
    late: Annotated[
        float, typer.Option(min=1, help="Seconds after its slot within which a sync begins in time.")
    ] = 300,
    machines: Annotated[int, typer.Option(min=1, help="Worker machines.")] = 1,
    cores: Annotated[int, typer.Option(min=1, help="Cores of a machine.")] = 2,
    slots: Annotated[int, typer.Option(min=1, help="Syncs at once on each machine.")] = 8,
    api_seconds: Annotated[float, typer.Option(min=0, help="Seconds that a source takes to answer, a sync.")] = 2.0,
    api_spread: Annotated[
        float, typer.Option(min=0, max=1, help="By how much answers differ, as a share of --api-seconds.")
    ] = 0.5,
    api_calls: Annotated[float, typer.Option(min=0, help="Calls to a source, a sync.")] = 3.0,
    cpu: Annotated[float, typer.Option(min=0.001, help="CPU seconds of a worker, a sync.")] = 0.37,
    database_cpu: Annotated[float, typer.Option(min=0, help="CPU seconds of Postgres, a sync.")] = 0.15,
    daemon_cpu: Annotated[float, typer.Option(min=0, help="CPU seconds of daemon and code server, a sync.")] = 0.19,
    from_catalog: Annotated[
        bool, typer.Option("--from-catalog", help="Costs of a sync as this platform's own runs of 7 days had them.")
    ] = False,
    price: Annotated[float, typer.Option(min=0, help="Of one machine a month, in your currency.")] = 40.0,
    seed: Annotated[int, typer.Option(help="Another number plays another day.")] = 1,
    as_json: JsonFlag = False,
) -> None:
    """Play the platform at another size: how late syncs are, what breaks first, which machines it takes, at what price.

    The first answer is for the machines given, the second for as few machines as serve everything in time.
    """
    from datasense_assets.operations.simulation.answers import answer, needed
    from datasense_assets.operations.simulation.model import Machines, Scenario, SyncCosts

    costs = SyncCosts(cpu, database_cpu, daemon_cpu, api_seconds, api_calls, api_spread)
    if from_catalog:
        costs = _own_costs(costs)
    scenario = Scenario(
        organizations=organizations,
        sources_an_org=sources,
        syncs_a_minute=syncs_a_minute,
        minutes=minutes,
        costs=costs,
        machines=Machines(workers=machines, cores=cores, slots=slots, database_cores=cores, shared=machines == 1),
        seed=seed,
        late_seconds=late,
        together=together,
    )
    given, enough = answer(scenario, price), needed(scenario, price)
    if as_json:
        print_json({"given": _plain(given), "needed": _plain(enough)})
        return
    _show("With the machines given", given)
    _show("With as few machines as serve it", enough)
    _show_ceilings(given)
    if not enough.in_time:
        say(f"No number of machines serves it in time; {enough.bottleneck.name}: {enough.bottleneck.mend}")


def _own_costs(given: SyncCosts) -> SyncCosts:
    from datasense_assets.catalog.state import read_costs
    from datasense_assets.operations.simulation.model import costs_of

    with open_catalog() as catalog, catalog.connect() as connection:
        rows = read_costs(connection, since=datetime.now(UTC) - timedelta(days=7))
    found = costs_of(rows, given)
    if found is None:
        warn("no source has run in the last 7 days; the costs are those of the command line")
        return given
    return found


def _plain(found: Answer) -> dict[str, Any]:
    return {
        "organizations": found.scenario.organizations,
        "platforms": found.platforms,
        "syncs_a_minute": round(found.scenario.rate, 2),
        "costs": asdict(found.scenario.costs),
        "machines": asdict(found.scenario.machines),
        "syncs": found.syncs,
        "left_over": found.failed_to_start,
        "lateness": {"p50": found.p50, "p95": found.p95, "max": found.latest},
        "seconds_a_sync": found.duration,
        "in_time": found.in_time,
        "bottleneck": found.bottleneck.name,
        "ceilings": [
            {
                "name": each.name,
                "share": round(each.share, 4),
                "organizations": None if math.isinf(each.organizations) else int(each.organizations),
                "mend": each.mend,
            }
            for each in found.ceilings
        ],
        "waited_for": dict(found.waited_for),
        "monthly_cost": found.monthly_cost,
    }


def _show(title: str, found: Answer) -> None:
    machines, scenario = found.scenario.machines, found.scenario
    where = "everything on them" if machines.shared else f"Postgres with {machines.database_cores} cores apart"
    rows = [
        ("platforms", found.platforms),
        ("organisations, sources of each", f"{scenario.organizations:,}, {scenario.sources:,}"),
        ("syncs a minute", f"{scenario.rate:,.1f}"),
        ("machines", f"{machines.workers} of {machines.cores} cores and {machines.slots} slots, {where}"),
        ("syncs done, left over", f"{found.syncs:,}, {found.failed_to_start:,}"),
        ("late: median, 95th percentile, most", f"{found.p50:.0f} s, {found.p95:.0f} s, {found.latest:.0f} s"),
        ("first bottleneck", f"{found.bottleneck.name}, {found.bottleneck.share:.0%} used"),
        ("waited for", ", ".join(name for name, _ in found.waited_for[:3]) or "nothing"),
        ("a month", f"{found.monthly_cost:,.0f}"),
    ]
    print_table(("", ""), rows, title=title)


def _show_ceilings(found: Answer) -> None:
    print_table(
        ("what is used up", "used", "at organisations", "what to do then"),
        [
            (
                each.name,
                f"{each.share:.0%}",
                "never: grows with them" if math.isinf(each.organizations) else f"{each.organizations:,.0f}",
                each.mend or "More machines.",
            )
            for each in found.ceilings
        ],
        title="What breaks, and when",
    )
