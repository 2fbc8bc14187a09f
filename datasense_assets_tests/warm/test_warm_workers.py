"""Runs in warm workers, with whatever can die dying: each outcome that docs/operations.md lists."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from datasense_assets_tests.at_length import DEEP
from datasense_assets_tests.platform.running import until
from datasense_assets_tests.warm.conftest import SOURCES, Warm, Worker
from datasense_assets_tests.warm.inspected_worker import FOUND

# What Dagster's daemon says of a run that did not stop when it was asked to.
GIVEN_UP = "seconds to cancel"

pytestmark = [pytest.mark.xdist_group("warm"), pytest.mark.timeout(300)]


@pytest.fixture(autouse=True)
def _clean(warm: Warm) -> Iterator[None]:
    yield
    for name in SOURCES:
        warm.gates.let(f"held-{name}")


@pytest.fixture
def worker(warm: Warm) -> Worker:
    """One worker that runs, with free slots; the one of the test before where it lives."""
    running = [each for each in warm.workers if each.process.poll() is None]
    return running[0] if running else warm.worker("interactive=3")


def pid_of(warm: Warm, run_id: str) -> int:
    found = re.search(r"Started process for run \(pid: (\d+)\)", warm.said(run_id))
    assert found is not None
    return int(found[1])


def test_runs_are_executed_in_processes_that_were_there_before(warm: Warm, worker: Worker) -> None:
    children = {child.pid for child in worker.children()}
    runs = [warm.click(name) for name in ("one", "two", "three")]
    for run_id in runs:
        warm.succeeds(run_id)
        assert pid_of(warm, run_id) in children
    assert warm.platform.rows("SELECT count(*) FROM org_acme.one__one") == [(100,)]


def test_a_child_that_is_killed_fails_its_run_which_is_tried_again_at_once(warm: Warm, worker: Worker) -> None:
    run_id = warm.into_step("held_one")
    os.kill(pid_of(warm, run_id), signal.SIGKILL)
    assert warm.becomes(run_id, "FAILURE", "SUCCESS", seconds=30) == "FAILURE"
    assert "The worker that executed the run is gone" in warm.said(run_id)
    pool = warm.instance.event_log_storage.get_concurrency_info("connector_csv")
    assert not [slot for slot in pool.claimed_slots if slot.run_id == run_id], "its place in the pool is free at once"
    # as is what it was loading: the retry does not wait for the minute after which the hold would be over
    held = "SELECT count(*) FROM datasense.leases WHERE owner LIKE %s AND expires_at > now()"
    assert warm.platform.rows(held, f"{run_id}/%") == [(0,)]
    again = warm.retry_of(run_id)
    warm.let("held_one")
    warm.succeeds(again)
    assert warm.gates.asked["held-one"] == 2
    assert worker.process.poll() is None


def test_a_worker_that_is_killed_takes_its_children_along_and_its_runs_are_tried_again(warm: Warm) -> None:
    warm.stop_workers()
    first = warm.worker("interactive=3")
    run_id = warm.into_step("held_two")
    children = first.children()
    first.process.kill()
    warm.worker("interactive=3")
    assert warm.becomes(run_id, "FAILURE", "SUCCESS", seconds=40) == "FAILURE"
    assert not any(child.is_running() and child.status() != "zombie" for child in children)
    again = warm.retry_of(run_id)
    warm.let("held_two")
    warm.succeeds(again, seconds=30)
    assert warm.gates.asked["held-two"] == 2


def test_a_redis_that_loses_its_data_costs_no_run(warm: Warm, worker: Worker) -> None:
    run_id = warm.into_step("held_three")
    warm.redis.client.flushall()
    until("the worker's marks are back", lambda: len(warm.redis.client.keys("datasense:*")) >= 3, seconds=20)
    warm.redis.stop()
    waits = warm.click("one")
    until("the lease of the run would be over", _seconds_pass(12.0), seconds=20)
    assert (warm.status(run_id), warm.status(waits)) == ("STARTED", "QUEUED")
    warm.redis.start()
    warm.succeeds(waits)
    assert warm.status(run_id) == "STARTED"
    warm.let("held_three")
    warm.succeeds(run_id)
    assert warm.gates.asked["held-three"] == 1


def test_a_run_that_was_lost_in_redis_before_it_began_is_run_again_soon(warm: Warm) -> None:
    warm.stop_workers()
    warm.worker("backfill=1")
    # of a worker that is not there: the run is sent, and nobody takes it
    warm.redis.client.set("datasense:slots:interactive:ghost", 1, px=60_000)
    run_id = warm.click("one")
    warm.becomes(run_id, "STARTING")
    until("it waits in Redis", lambda: warm.redis.client.llen("datasense.interactive") == 1)
    warm.redis.client.flushall()
    warm.worker("interactive=1")
    # the seconds for which a run may be on its way are not waited for
    warm.platform.execute(
        "UPDATE runs SET update_timestamp = update_timestamp - interval '20 s' WHERE run_id = %s", run_id
    )
    assert warm.becomes(run_id, "FAILURE", "SUCCESS") == "FAILURE"
    assert "lost on its way to a worker" in warm.said(run_id)
    warm.succeeds(warm.retry_of(run_id))


def _seconds_pass(seconds: float):  # type: ignore[no-untyped-def]
    end = time.monotonic() + seconds
    return lambda: time.monotonic() > end


def test_a_cancel_is_heeded_at_any_moment_and_never_tried_again(warm: Warm, worker: Worker) -> None:
    outcomes = {}
    for wait in (0.0, 0.05, 0.15, 0.3, 0.8, 1.3):
        run_id = warm.click("four")
        threading.Event().wait(wait)
        if warm.status(run_id) != "SUCCESS":
            warm.terminate(run_id)
        outcomes[run_id] = warm.becomes(run_id, "CANCELED", "FAILURE", "SUCCESS")
    # one that was over before the cancel came may have succeeded
    assert "CANCELED" in outcomes.values()
    assert set(outcomes.values()) <= {"CANCELED", "SUCCESS"}
    in_step = warm.into_step("held_four")
    warm.terminate(in_step)
    warm.becomes(in_step, "CANCELED")
    for run_id in (*outcomes, in_step):
        assert GIVEN_UP not in warm.said(run_id), "its worker was not waited for until the daemon gave up"
    # the process that was interrupted goes on to the next run
    warm.succeeds(warm.click("four"))
    tried_again = warm.platform.rows(
        "SELECT count(*) FROM run_tags WHERE key = 'dagster/parent_run_id' AND value = ANY (%s)", [*outcomes, in_step]
    )
    assert tried_again == [(0,)]


def test_a_cancel_is_heeded_while_redis_is_away(warm: Warm, worker: Worker) -> None:
    run_id = warm.into_step("held_five")
    warm.redis.stop()
    try:
        warm.terminate(run_id)
        warm.becomes(run_id, "CANCELED")
        assert GIVEN_UP not in warm.said(run_id)
    finally:
        warm.redis.start()


def test_sigterm_lets_runs_end_and_sigquit_has_them_tried_again(warm: Warm) -> None:
    warm.stop_workers()
    first = warm.worker("interactive=2")
    run_id = warm.into_step("held_six")
    first.process.send_signal(signal.SIGTERM)
    until("it takes no more runs", lambda: not warm.redis.client.keys("datasense:slots:*"))
    waits = warm.click("two")
    until("the queue was looked at", _seconds_pass(3))
    assert (warm.status(run_id), warm.status(waits)) == ("STARTED", "QUEUED")
    warm.let("held_six")
    warm.succeeds(run_id)
    assert first.process.wait(timeout=30) == 0
    second = warm.worker("interactive=2")
    warm.succeeds(waits)

    lost = warm.into_step("held_six")
    second.stop(signal.SIGQUIT, seconds=30)
    assert warm.becomes(lost, "FAILURE", "SUCCESS", "CANCELED", seconds=40) == "FAILURE"
    warm.worker("interactive=2")
    again = warm.retry_of(lost)
    warm.let("held_six")
    warm.succeeds(again)


def test_processes_are_replaced_under_load_and_no_run_is_lost(warm: Warm) -> None:
    warm.stop_workers()
    warm.worker("interactive=2", recycle_after=2)
    runs = [warm.click(name) for name in SOURCES for _ in range(2)]
    for run_id in runs:
        warm.succeeds(run_id, seconds=120)
    assert len({pid_of(warm, run_id) for run_id in runs}) >= len(runs) // 2


def test_a_lane_without_a_worker_waits_in_dagsters_queue(warm: Warm) -> None:
    warm.stop_workers()
    run_id, held = warm.click("one"), warm.click("two")
    until("the queue was looked at", _seconds_pass(3))
    assert warm.status(run_id) == warm.status(held) == "QUEUED"
    warm.terminate(held)
    assert warm.status(held) == "CANCELED"
    warm.worker("scheduled=1", "interactive=1")
    warm.succeeds(run_id)


def test_no_data_of_a_run_stays_in_the_process_that_executed_it(warm: Warm) -> None:
    warm.stop_workers()
    warm.worker("interactive=1", module="datasense_assets_tests.warm.inspected_worker")
    # the first load of a process, since what Dagster keeps of a first one it keeps for good
    before = _look(warm)
    text, warm.gates.text = warm.gates.text, "name,people\n" + "".join(f"Quibblewick {n},{n}\n" for n in range(50))
    try:
        run_id = warm.click("five")
        warm.succeeds(run_id)
    finally:
        warm.gates.text = text
    assert warm.platform.rows("SELECT count(*) FROM org_acme.five__five WHERE name LIKE 'Quibblewick%%'") == [(50,)]
    after = _look(warm)
    assert after["pid"] == before["pid"] == pid_of(warm, run_id)
    assert after["places"] == [], after["places"]
    assert after["active_pipeline"] is False
    assert after["arrow_bytes"] == before["arrow_bytes"]
    assert after["environment"] == before["environment"]


def _look(warm: Warm) -> dict[str, Any]:
    """What the one child of the worker finds in itself of the source `five`."""
    celery = warm.instance.run_launcher.celery  # type: ignore[attr-defined]
    words = [word[::-1] for word in ("Quibblewick", "open/five.csv")]
    celery.send_task("look_for", args=[words], queue="datasense.interactive")
    said = until("the process was looked through", lambda: warm.redis.client.lpop(FOUND))
    found: dict[str, Any] = json.loads(str(said))
    return found


@pytest.mark.timeout(1800 if DEEP else 300)
def test_memory_of_a_process_stays_the_same_over_many_runs(warm: Warm) -> None:
    """Over 500 with `DATASENSE_PROOF=deep`, of which the first fifth warms it up."""
    warm.stop_workers()
    worker = warm.worker("interactive=1", recycle_after=100_000)
    (child,) = worker.children()

    def after(runs: int) -> float:
        for start in range(0, runs, len(SOURCES)):
            for run_id in [warm.click(source) for source in SOURCES[: runs - start]]:
                warm.succeeds(run_id, seconds=120)
        return float(child.memory_info().rss / 1e6)

    first = after(100 if DEEP else 12)
    last = after(400 if DEEP else 24)
    # without a pool it grows by half a megabyte a run
    assert last - first < (20 if DEEP else 6), (first, last)
