"""Limits and lanes in the real queue: whoever asks for a run waits where a limit says so, and for nobody else."""

from __future__ import annotations

import json
from typing import Any

import dagster as dg
import pytest

from datasense_assets_tests.platform.running import until
from datasense_assets_tests.queueing.conftest import GOING, WAITING, Queue, command, kobo_source, org

pytestmark = [pytest.mark.xdist_group("queueing"), pytest.mark.timeout(300)]

# Those who ask; of the group `source` all of them for the same one.
DOORS = ("due", "click", "fill", "asked")
# A group of sources for each limit, so that each is held back by that one alone; `free` only by the total.
GROUPS = ("source", "org", "connector", "host", "free")
HELD = GROUPS[:-1]


def surveycto(slug: str, server: str) -> dict[str, Any]:
    made = kobo_source(slug, "unused.example", connector="surveycto", config={"server": f"https://{server}"})
    return {**made, "credentials": {name: {"env": "QUEUE_TEST_TOKEN"} for name in ("username", "password")}}


def manifests() -> list[dict[str, Any]]:
    """In each group a source that holds the place, and one for each door."""
    by_org = org("small", *(kobo_source(f"org-{who}", f"{who}.small.example") for who in ("held", *DOORS)))
    others = [
        org(
            f"o-{who}",
            surveycto(f"connector-{who}", f"{who}.surveycto.example"),
            kobo_source(f"host-{who}", "kobo.busy.example"),
            kobo_source(f"free-{who}", f"{who}.free.example"),
        )
        for who in ("held", *DOORS)
    ]
    return [by_org, *others, org("o-source", kobo_source("source-held", "held.source.example"))]


def path(group: str, who: str) -> str:
    if group == "source":
        return "o_source/source_held/visits"
    owner = "small" if group == "org" else f"o_{who}"
    return f"{owner}/{group}_{who}/visits"


def slugs(group: str, who: str) -> tuple[str, str]:
    organization, source, _ = path(group, who).replace("_", "-").split("/")
    return organization, source


def door_of(run: dg.DagsterRun) -> str:
    """Through which door a run came, by what only that one leaves."""
    if "dagster/backfill" in run.tags:
        return "fill"
    if "datasense/request" in run.tags:
        return "asked"
    return "due" if "dagster/sensor_name" in run.tags else "click"


def seen(runs: list[dg.DagsterRun]) -> set[tuple[str, str]]:
    """(group, door) of runs."""
    return {(run.tags["datasense/source"].partition("_")[0], door_of(run)) for run in runs}


def everything(*groups: str) -> set[tuple[str, str]]:
    return {(group, door) for group in groups for door in DOORS}


def wait_for(queue: Queue, what: str, waiting: set[tuple[str, str]], *, seconds: float = 90.0) -> None:
    """Until exactly these wait in the queue; who waits besides, or does not, is told if it does not come to that."""
    there: set[tuple[str, str]] = set()

    def reached() -> bool:
        there.clear()
        there.update(seen(queue.runs(WAITING)))
        return there == waiting

    try:
        until(what, reached, seconds=seconds)
    except AssertionError as error:
        limits = queue.platform.rows("SELECT scope, name, at_once FROM datasense.run_limits ORDER BY 1, 2")
        going = sorted(seen(queue.runs(GOING)))
        raise AssertionError(
            f"{error}; besides: {there - waiting}, missing: {waiting - there}, going on: {going}, limits: {limits}"
        ) from None


def test_each_limit_holds_back_every_door_and_can_be_changed_while_the_daemon_runs(
    queue: Queue, capsys: pytest.CaptureFixture[str]
) -> None:
    queue.clear()
    wide = {("lane", "scheduled"): 50, ("lane", "backfill"): 50, ("connector", "kobo"): 50}
    narrow = {("org", "small"): 1, ("connector", "surveycto"): 1, ("host", "kobo.busy.example"): 1}
    queue.set_limits({**wide, **narrow})
    queue.limits("set", "total", str(len(HELD)))
    # a source is held by a backfill: beside any other run of its own it is not even asked for when it is due
    command("sync", "/".join(slugs("source", "held")), "--range", "2026-01-02...2026-01-03")
    holders = [queue.ui.click(path(group, "held"), partition="2026-01-02") for group in HELD[1:]]
    until("the places are taken", lambda: len(queue.runs(GOING)) == len(HELD))
    (source_holder,) = [run.run_id for run in queue.runs(GOING) if run.run_id not in holders]

    queue.make_due(*(slugs(group, "due")[1] for group in GROUPS))
    due = {(group, "due") for group in GROUPS}
    wait_for(queue, "the due ones are in the queue", due)
    for group in GROUPS:
        # of three partitions, which are two runs where two are the most that one run loads
        days = ["2026-01-02", "2026-01-03", "2026-01-04"] if group == "free" else ["2026-01-02", "2026-01-03"]
        queue.ui.backfill(path(group, "fill"), days)
        queue.ui.click(path(group, "click"), partition="2026-01-04")
        command("sync", "/".join(slugs(group, "asked")))
    wait_for(queue, "all have come into the queue by every door", everything(*GROUPS), seconds=180)
    assert len(queue.runs(GOING)) == len(HELD), "the total holds every one of them back"

    ends = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")
    fills = queue.runs(WAITING, **{"datasense/source": "free_fill"})
    assert sorted(tuple(run.tags[end][-2:] for end in ends) for run in fills) == [("02", "03"), ("04", "04")]
    assert all("dagster/partition" not in run.tags for run in fills)

    queue.limits("set", "total", "100")
    until("what no other limit is about goes on", lambda: everything("free") <= seen(queue.runs(GOING)))
    # of one source there is one run, so its second one waits for the first
    for run in queue.runs(GOING, **{"datasense/source": "free_fill"}):
        queue.end(run.run_id)
    wait_for(queue, "the others are held back", everything(*HELD))
    capsys.readouterr()
    queue.limits("list", "--json")
    listed = json.loads(capsys.readouterr().out)["limits"]
    assert {"scope": "host", "name": "kobo.busy.example", "at_once": 1, "set": True, "default": None} in listed

    queue.limits("set", "org", "small", "50")
    queue.set_limits(dict.fromkeys((*narrow, ("org", ""), ("host", "")), 50))
    wait_for(queue, "each goes on when its limit is raised", everything("source"))
    # of one source there is one run, whatever is set
    for door in range(len(DOORS)):
        queue.end(source_holder)
        until("the next one goes on", lambda left=door: len(queue.runs(WAITING)) == len(DOORS) - left - 1)
        (going,) = queue.runs(GOING, **{"datasense/source": "source_held"})
        source_holder = going.run_id
    queue.clear()


def test_a_click_starts_while_five_hundred_scheduled_syncs_wait(queue: Queue) -> None:
    queue.clear()
    # all of them are of one connector, whose limit is not what this is about
    queue.set_limits({("connector", "kobo"): 50})
    queue.make_due("free-due")
    until("a scheduled run goes on", lambda: queue.runs(GOING, **{"datasense/lane": "scheduled"}))
    (first,) = queue.runs(GOING, **{"datasense/lane": "scheduled"})
    clone(queue, first.run_id, 505)
    going = {"datasense/lane": "scheduled"}
    until("every scheduled place is taken", lambda: len(queue.runs(GOING, **going)) == 5)
    waited = len(queue.runs(WAITING, **going))
    assert waited >= 500
    click = queue.ui.click(path("free", "click"), partition="2026-01-02")
    queue.goes_on(click)
    # it passed all of them: nobody was started or ended for it
    assert len(queue.runs(WAITING, **going)) == waited
    assert len(queue.runs(GOING, **going)) == 5


def test_an_organisations_own_syncs_leave_one_of_its_places_to_its_people(queue: Queue) -> None:
    queue.clear()
    queue.make_due(*(slugs("org", who)[1] for who in ("held", "due", "fill", "asked")))
    scheduled = {"datasense/lane": "scheduled"}
    until("all four were asked for", lambda: len(queue.runs((*WAITING, *GOING), **scheduled)) == 4)
    queue.looks_at_all()
    assert (len(queue.runs(GOING, **scheduled)), len(queue.runs(WAITING, **scheduled))) == (2, 2)
    queue.goes_on(queue.ui.click(path("org", "click"), partition="2026-01-02"))
    assert (len(queue.runs(GOING, **scheduled)), len(queue.runs(WAITING, **scheduled))) == (2, 2)


def test_recipes_and_syncs_together_leave_one_of_all_places_to_people(queue: Queue) -> None:
    queue.clear()
    lanes = ("transform", "scheduled")
    queue.set_limits({("total", ""): 4, **{("lane", lane): 50 for lane in lanes}})
    asked = [
        queue.ui.click(path("free", who), partition="2026-01-02", tags={"datasense/lane": lanes[number % 2]})
        for number, who in enumerate(("held", *DOORS))
    ]
    until("three go on", lambda: len([run for run in asked if queue.status(run) in GOING]) >= 3)
    click = queue.ui.click(path("host", "click"), partition="2026-01-02")
    queue.goes_on(click)
    going = [run for run in asked if queue.status(run) in GOING]
    assert len(going) == 3
    queue.end(going[0])
    until("the next one goes on", lambda: len([run for run in asked if queue.status(run) in GOING]) == 3)
    assert queue.status(click) == "STARTED", "and takes no place of people"


def clone(queue: Queue, run_id: str, count: int) -> None:
    """Put so many runs like that one into the queue, of sources, hosts and organisations of their own."""
    queue.platform.execute(
        """
        INSERT INTO runs (run_id, snapshot_id, pipeline_name, mode, status, run_body, create_timestamp,
                          update_timestamp)
        SELECT n.run_id, r.snapshot_id, r.pipeline_name, r.mode, 'QUEUED', regexp_replace(
            replace(replace(replace(r.run_body, r.run_id, n.run_id), 'free_due', 'many_' || n.number),
                    'due.free.example', n.number || '.many.example'),
            'DagsterRunStatus.STARTED', 'DagsterRunStatus.QUEUED'), now(), now()
        FROM runs r, (SELECT gen_random_uuid()::text AS run_id, number FROM generate_series(1, %s) number) n
        WHERE r.run_id = %s
        """,
        count,
        run_id,
    )
    queue.platform.execute("UPDATE runs SET run_body = replace(run_body, 'o_due', 'o_' || id) WHERE status = 'QUEUED'")
    queue.platform.execute(
        "INSERT INTO run_tags (run_id, key, value) SELECT run_id, 'datasense/lane', 'scheduled' FROM runs "
        "WHERE status = 'QUEUED'"
    )
