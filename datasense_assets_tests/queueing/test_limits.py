"""Limits and lanes in the real queue: whoever asks for a run waits where a limit says so, and for nobody else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from datasense_assets_tests.platform.running import until
from datasense_assets_tests.queueing.conftest import GOING, WAITING, Queue, command, kobo_source, running_queue

pytestmark = [pytest.mark.xdist_group("queueing"), pytest.mark.timeout(300)]

ASKERS = ("held", "due", "click", "fill", "asked")


def org(slug: str, *sources: dict[str, Any]) -> dict[str, Any]:
    return {"organization": {"slug": slug, "name": slug}, "sources": list(sources)}


def surveycto(slug: str, server: str) -> dict[str, Any]:
    made = kobo_source(slug, "unused.example", connector="surveycto", config={"server": f"https://{server}"})
    return {**made, "credentials": {name: {"env": "QUEUE_TEST_TOKEN"} for name in ("username", "password")}}


def manifests() -> list[dict[str, Any]]:
    """A group of sources for each limit, so that each is held back by that one alone; 'free' by none."""
    by_org = org("small", *(kobo_source(f"org-{who}", f"{who}.small.example") for who in ASKERS))
    others = [
        org(
            f"o-{who}",
            surveycto(f"connector-{who}", f"{who}.surveycto.example"),
            kobo_source(f"host-{who}", "kobo.busy.example"),
            kobo_source(f"free-{who}", f"{who}.free.example"),
        )
        for who in ASKERS
    ]
    return [by_org, *others]


@pytest.fixture(scope="module")
def queue(queue_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Queue]:
    with running_queue(queue_database, tmp_path_factory.mktemp("home"), manifests()) as found:
        yield found


def path(group: str, who: str) -> str:
    owner = "small" if group == "org" else f"o_{who}"
    return f"{owner}/{group}_{who}/visits"


def slug(group: str, who: str) -> str:
    return "/".join(path(group, who).replace("_", "-").split("/")[:2])


def test_each_limit_holds_back_whoever_asks_and_can_be_changed_while_the_daemon_runs(queue: Queue) -> None:
    for words in ("total 100", "lane scheduled 50", "lane backfill 50", "org small 1", "connector surveycto 1"):
        queue.limits("set", *words.split())
    queue.limits("set", "connector", "kobo", "50")
    queue.limits("set", "host", "kobo.busy.example", "1")
    groups = ("org", "connector", "host")
    holders = [queue.ui.click(path(group, "held"), partition="2026-01-02") for group in groups]
    for run_id in holders:
        queue.goes_on(run_id)

    queue.make_due(*(f"{group}-due" for group in groups))
    for group in groups:
        queue.ui.click(path(group, "click"), partition="2026-01-02")
        queue.ui.backfill(path(group, "fill"), ["2026-01-02", "2026-01-03"])
        command("sync", slug(group, "asked"))
    # and a source twice, which is no matter of a setting
    again = queue.ui.click(path("host", "held"), partition="2026-01-03")

    keys = {path(group, who).rpartition("/")[0].replace("/", ".") for group in groups for who in ASKERS[1:]}

    def asked() -> bool:
        return keys <= {run.tags["datasense/source_key"] for run in queue.runs(WAITING)}

    until("all four ways of asking have their run in the queue", asked, seconds=120)
    lanes = {run.tags["datasense/lane"] for run in queue.runs(WAITING)}
    assert lanes == {"scheduled", "interactive", "backfill"}
    # one that no limit is about starts: so the queue was looked at, and the others were left in it
    queue.goes_on(queue.ui.click(path("free", "click"), partition="2026-01-02"))
    assert {run.tags["datasense/source_key"] for run in queue.runs(WAITING)} >= keys
    assert queue.status(again) == "QUEUED"
    assert {run.run_id for run in queue.runs(GOING)} >= set(holders)

    held = json.loads(queue.platform.datasense("limits", "list", "--json"))["limits"]
    assert {"scope": "host", "name": "kobo.busy.example", "at_once": 1, "set": True, "default": None} in held
    queue.limits("unset", "org", "small")
    queue.limits("set", "org", "50")
    queue.limits("set", "host", "kobo.busy.example", "50")
    queue.limits("set", "host", "50")
    queue.limits("set", "connector", "surveycto", "50")
    until("all run once the limits are raised", lambda: len(queue.runs(WAITING)) == 1)
    assert queue.status(again) == "QUEUED", "a source is loaded by one run at a time"
    queue.end(holders[2])
    queue.goes_on(again)

    queue.limits("set", "total", str(len(queue.runs(GOING))))
    late = [queue.ui.click(path("free", who), partition="2026-01-02") for who in ("held", "asked")]
    queue.end(again)
    queue.goes_on(late[0])
    assert queue.status(late[1]) == "QUEUED", "there is place for one"
    queue.end_all()


def test_a_click_starts_while_five_hundred_scheduled_syncs_wait(queue: Queue) -> None:
    queue.end_all()
    for words in ("total", "lane scheduled", "lane backfill", "org", "host", "connector surveycto"):
        queue.limits("unset", *words.split())
    # all of them are of one connector, whose limit is not what this is about
    queue.limits("set", "connector", "kobo", "50")
    queue.make_due("free-due")
    until("a scheduled run goes on", lambda: queue.runs(GOING, **{"datasense/lane": "scheduled"}))
    (first,) = queue.runs(GOING, **{"datasense/lane": "scheduled"})
    clone(queue, first.run_id, 505)
    going = {"datasense/lane": "scheduled"}
    until("every scheduled place is taken", lambda: len(queue.runs(GOING, **going)) == 5)
    waited = len(queue.runs(WAITING, **going))
    assert waited >= 500
    click = queue.ui.click(path("free", "click"), partition="2026-01-02")
    queue.goes_on(click, seconds=30)
    # it passed all of them: nobody was started or ended for it
    assert len(queue.runs(WAITING, **going)) == waited
    assert len(queue.runs(GOING, **going)) == 5


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
