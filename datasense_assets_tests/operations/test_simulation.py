"""The simulated platform: it keeps the laws that every queue keeps, and names what breaks first."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from datasense_assets.catalog.state import Cost
from datasense_assets.cli.main import app
from datasense_assets.operations.simulation.answers import answer, ceilings, machine_count, needed
from datasense_assets.operations.simulation.engine import play
from datasense_assets.operations.simulation.model import (
    Limits,
    Machines,
    Quota,
    Scenario,
    SyncCosts,
    costs_of,
)

# 60 syncs a minute, each 0.5 CPU s and 5 s of waiting, on machines that are big enough
EASY = Scenario(
    organizations=100,
    syncs_a_minute=60,
    minutes=10,
    costs=SyncCosts(worker_cpu=0.3, database_cpu=0.1, daemon_cpu=0.1, api_seconds=5, api_calls=1),
    machines=Machines(workers=2, cores=2, slots=20, shared=False),
    quotas=(),
)


def test_what_comes_in_goes_out_and_slots_are_held_as_long_as_syncs_take() -> None:
    played = play(EASY)
    assert played.done + played.left_over == pytest.approx(played.due, abs=15)
    assert played.busy["workers' CPU"] == pytest.approx(played.done * 0.3, rel=0.05)
    assert played.busy["Postgres' CPU"] == pytest.approx(played.done * 0.1, rel=0.05)
    # Little's law: syncs at once = syncs a second times seconds of each
    at_once = played.busy["slots"] / 600
    assert at_once == pytest.approx(sum(played.duration) / len(played.duration) * played.done / 600, rel=0.01)
    assert 5.5 < sum(played.duration) / len(played.duration) < 6.5
    # the sensor looks every 10 s and the queue every 2
    assert max(played.lateness) <= 13


def test_equal_scenarios_are_played_equally_and_another_seed_is_another_day() -> None:
    assert play(EASY).duration == play(EASY).duration
    assert play(EASY).duration != play(replace(EASY, seed=2)).duration


def test_too_few_slots_hold_back_exactly_what_they_cannot_carry() -> None:
    few = replace(EASY, machines=replace(EASY.machines, workers=1, slots=3))
    found = answer(few, 0)
    assert found.bottleneck.name == "slots for runs"
    # a slot that is free is given out at the next look of the queue, a second later on average
    assert found.syncs == pytest.approx(3 * 600 / (found.duration + 1), rel=0.05)
    assert found.bottleneck.share == pytest.approx(5.4 / 3)
    assert not found.in_time
    assert answer(EASY, 0).in_time


def test_too_little_cpu_is_shared_by_all_who_want_it() -> None:
    heavy = replace(EASY, costs=replace(EASY.costs, worker_cpu=8), machines=replace(EASY.machines, slots=60))
    found = answer(heavy, 0)
    assert found.bottleneck.name == "CPU of the worker machines"
    assert play(heavy).busy["workers' CPU"] == pytest.approx(4 * 600, rel=0.1)
    assert found.duration > 8 + 5


def test_a_project_has_one_quota_however_many_organisations_and_machines_there_are() -> None:
    project = Quota("reads of the project", 30, 0, 1.0)
    own = Quota("reads of an account", 30, 1, 1.0)
    found = answer(replace(EASY, quotas=(project,), machines=replace(EASY.machines, slots=200)), 0)
    assert found.bottleneck.name == "reads of the project"
    assert found.bottleneck.organizations == pytest.approx(50)
    assert found.syncs == pytest.approx(300, rel=0.1)
    mine = next(each for each in ceilings(replace(EASY, quotas=(own,))) if each.name == own.name)
    assert (mine.share, mine.organizations) == (pytest.approx(0.02), math.inf)


def test_an_organisation_never_runs_more_than_its_limit() -> None:
    one = replace(EASY, organizations=1, limits=Limits(an_org=2, a_host=None))
    found = answer(one, 0)
    assert found.syncs == pytest.approx(2 * 600 / (found.duration + 1), rel=0.05)
    assert "the organisation's limit" in dict(found.waited_for)


def test_as_few_machines_as_serve_it_are_found_and_paid_for() -> None:
    small = needed(replace(EASY, costs=SyncCosts(), syncs_a_minute=75, late_seconds=60), 40)
    assert (small.scenario.machines.workers, small.platforms, small.monthly_cost) == (1, 1, 40)
    assert small.in_time
    fewer = replace(small.scenario, machines=replace(small.scenario.machines, slots=2))
    assert not answer(fewer, 40).in_time
    large = needed(Scenario(organizations=10_000), 40)
    assert large.in_time
    assert large.platforms > 1
    assert large.monthly_cost == 40 * large.platforms * machine_count(large.scenario.machines)


def test_schedules_fall_due_together_at_the_top_of_the_hour() -> None:
    played = play(Scenario(organizations=200, minutes=15, machines=Machines(workers=10, slots=50)))
    # of 1,000 sources a sixth and a third in the first six minutes
    assert played.due == pytest.approx(1000 * (1 / 6 + 1 / 3 + 0.5 / 96), rel=0.03)


def test_what_falls_due_together_waits_for_slots_as_one_wave_after_the_other() -> None:
    machines = Machines(workers=1, cores=8, slots=20, shared=False)
    waves = replace(EASY, syncs_a_minute=40, together=True, machines=machines)
    found, even = answer(waves, 0), answer(replace(waves, together=False), 0)
    assert found.syncs == pytest.approx(400, abs=2)
    assert even.p95 < found.p95
    # the sensor's ten seconds, and for the second wave the seconds that the first takes
    assert 10 <= found.p95 <= 10 + 2 * found.duration + 4


# What benchmarks/sustained.py measured on two quiet cores (docs/performance.md) on two days, with what a sync cost on
# each: 75 sources due at the start of each minute, each of an organisation of its own, whose server answers in 30 s.
TEN_MINUTES = {
    44: (
        SyncCosts(0.37, 0.15, 0.21, api_seconds=30, api_calls=1, api_spread=0),
        {"p50": 30.4, "p95": 57.5, "most": 63.9, "a sync": 31.7, "cores": 0.91},
    ),
    50: (
        SyncCosts(0.286, 0.108, 0.148, api_seconds=30, api_calls=1, api_spread=0),
        {"p50": 20.8, "p95": 51.9, "most": 65.1, "a sync": 31.9, "cores": 0.68},
    ),
}


@pytest.mark.parametrize("slots", TEN_MINUTES)
def test_ten_minutes_are_played_as_they_were_measured(slots: int) -> None:
    costs, measured = TEN_MINUTES[slots]
    run = Scenario(
        organizations=75,
        sources_an_org=15,
        syncs_a_minute=75,
        minutes=10,
        costs=costs,
        machines=Machines(slots=slots),
        together=True,
    )
    played = play(run)
    late = sorted(played.lateness)
    said = {
        "p50": late[len(late) // 2],
        "p95": late[int(len(late) * 0.95)],
        "most": late[-1],
        "a sync": sum(played.duration) / len(played.duration),
        "cores": sum(seconds for name, seconds in played.busy.items() if name != "slots") / 600,
    }
    assert said == {name: pytest.approx(value, rel=0.2) for name, value in measured.items()}


def test_costs_are_those_that_the_platforms_own_runs_had() -> None:
    numbers = {"peak_memory_bytes": 0, "rows_read": 0, "rows_written": 0, "bytes_read": 0, "queued_seconds": 0.0}
    row = Cost("a", "source", "s", 10, 0, 4.0, 60.0, api_calls=50, throttled_seconds=10.0, **numbers)
    found = costs_of([row, replace(row, kind="recipe")], SyncCosts(database_cpu=0.1))
    assert found == SyncCosts(0.4, 0.1, SyncCosts().daemon_cpu, pytest.approx(4.5), 5.0)
    assert costs_of([], SyncCosts()) is None


def test_the_command_says_the_bottleneck_the_machines_and_the_price() -> None:
    words = [
        "simulate",
        "-o",
        "50",
        "--syncs-a-minute",
        "20",
        "--minutes",
        "5",
        "--slots",
        "1",
        "--api-seconds",
        "9",
        "--late",
        "60",
    ]
    said = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)
    assert said["given"]["bottleneck"] == "slots for runs"
    assert not said["given"]["in_time"]
    assert said["needed"]["in_time"]
    assert said["needed"]["machines"]["slots"] > 1
    assert said["needed"]["monthly_cost"] == 40
    shown = CliRunner().invoke(app, words)
    assert shown.exit_code == 0
    assert "What breaks, and when" in shown.stdout
