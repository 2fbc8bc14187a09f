"""Two hundred sources are due; servers hang, fail and throttle: those of the others are loaded all the same."""

from __future__ import annotations

import json
from typing import Any

import dagster as dg
import pytest

from datasense_assets.catalog.state import FailureRecord, record_source_result
from datasense_assets.catalog.times import now
from datasense_assets.running.owners import catalog_engine
from datasense_assets_tests.platform.running import until
from datasense_assets_tests.queueing.conftest import GOING, WAITING, Queue, kobo_source, org

pytestmark = [pytest.mark.xdist_group("queueing"), pytest.mark.timeout(300)]

ORGS = 40
KINDS = ("hang", "fail", "throttled", "fine-a", "fine-b")
SILENT = FailureRecord("unavailable", "The server does not answer.", "Wait.")


def manifests() -> list[dict[str, Any]]:
    """In each of forty organisations one source that hangs, one that fails, one that is throttled, and two others."""
    return [
        org(f"mixed-{number}", *(kobo_source(f"{kind}-{number}", f"{kind}-{number}.example") for kind in KINDS))
        for number in range(ORGS)
    ]


def failed_before(queue: Queue) -> None:
    """The sources that hang and that fail did so the last time too."""
    found = queue.platform.rows("SELECT id FROM datasense.sources WHERE slug LIKE 'hang-%%' OR slug LIKE 'fail-%%'")
    with catalog_engine().begin() as connection:
        for (source_id,) in found:
            record_source_result(connection, source_id, run_id="before", started_at=now(), failure=SILENT)


def test_eighty_sources_are_on_time_beside_forty_that_hang_forty_that_fail_and_forty_that_are_throttled(
    queue: Queue, capsys: pytest.CaptureFixture[str]
) -> None:
    queue.clear()
    queue.set_limits({("total", ""): 24, ("lane", "scheduled"): 16, ("connector", "kobo"): 50})
    failed_before(queue)
    queue.make_due(*(f"{kind}-{number}" for kind in KINDS for number in range(ORGS)))

    served = "SELECT count(*) FROM datasense.source_status st JOIN datasense.sources s ON s.id = st.source_id WHERE "
    fine = served + "s.slug LIKE 'fine-%%' AND st.last_success_at IS NOT NULL"
    until("the eighty are loaded", lambda: queue.platform.rows(fine) == [(2 * ORGS,)], seconds=150)
    throttled = served + "s.slug LIKE 'throttled-%%' AND st.put_off_until > now() AND st.failures_in_a_row = 0"
    until("the throttled are put off", lambda: queue.platform.rows(throttled) == [(ORGS,)], seconds=60)

    def hanging() -> list[dg.DagsterRun]:
        return [run for run in queue.runs(GOING) if run.tags["datasense/source"].startswith("hang_")]

    # those that fail come and go; in the end the two places of those that failed are held by two that hang
    until("both places are held", lambda: len(hanging()) == 2)
    assert {run.tags["datasense/failing"] for run in hanging()} == {"true"}
    waiting = queue.runs(WAITING)
    assert {run.tags["datasense/source"].partition("_")[0] for run in waiting} <= {"hang", "fail"}
    assert len(waiting) <= 10, "the others wait in the catalog"

    asked = [run.tags["dagster/run_key"] for run in queue.runs(("SUCCESS", "FAILURE", *GOING, *WAITING))
             if run.tags["datasense/source"].startswith(("fine", "throttled"))]  # fmt: skip
    assert len(asked) == 3 * ORGS, "none is asked for twice"

    # how many of them may run is a limit like the others
    queue.limits("set", "failing", "4")
    until("as many hold places as may", lambda: len(hanging()) == 4)
    assert len(queue.runs(GOING, **{"datasense/failing": "true"})) == 4
    capsys.readouterr()
    queue.limits("list", "--json")
    listed = json.loads(capsys.readouterr().out)["limits"]
    assert {"scope": "failing", "name": "", "at_once": 4, "set": True, "default": 2} in listed
    assert {"scope": "source", "name": "", "at_once": 1, "set": False, "default": 1} in listed

    # others have their turn as soon as those that hang give up
    held = {run.run_id for run in hanging()}
    for run_id in held:
        queue.end(run_id, success=False)
    until("the next of them goes on", lambda: {run.run_id for run in hanging()} - held, seconds=60)
