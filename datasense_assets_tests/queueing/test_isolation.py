"""What fails, hangs or is throttled delays nobody else: sensor, queue and daemon are real, workers simulated."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from datasense_assets_tests.platform.running import until
from datasense_assets_tests.queueing.conftest import GOING, Queue, kobo_source, running_queue

pytestmark = [pytest.mark.xdist_group("queueing"), pytest.mark.timeout(300)]

ORGS = 40


def manifest(number: int) -> dict[str, Any]:
    """Five sources: one on a server that hangs every caller, one that fails, one throttled, two that are fine."""
    own = f"org{number}.example"
    sources = [
        kobo_source("hang-1", "hangs.example", schedule="daily"),
        *(kobo_source(f"{kind}-1", f"{kind}.{own}", schedule="daily") for kind in ("fail", "throttled", "fine")),
        kobo_source("fine-2", f"also.{own}", schedule="daily"),
    ]
    return {"organization": {"slug": f"org-{number}", "name": f"Org {number}"}, "sources": sources}


def more_places(config: dict[str, Any]) -> None:
    """Places for the run of this test to be short; what one organisation or server may have stays as it is."""
    runs = config["concurrency"]["runs"]
    runs["max_concurrent_runs"] = 60
    for limit in runs["tag_concurrency_limits"]:
        if limit.get("value") in ("scheduled", "kobo"):
            limit["limit"] = 50
    config["concurrency"]["pools"]["default_limit"] = 50


@pytest.fixture(scope="module")
def queue(queue_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Queue]:
    home = tmp_path_factory.mktemp("home")
    manifests = [manifest(number) for number in range(ORGS)]
    with running_queue(queue_database, home, manifests, simulate=True, change=more_places) as found:
        yield found


def test_forty_hang_forty_fail_forty_are_throttled_and_eighty_are_loaded(queue: Queue) -> None:
    def loaded() -> int:
        ((number,),) = queue.platform.rows(
            "SELECT count(*) FROM datasense.source_status st JOIN datasense.sources s ON s.id = st.source_id "
            "WHERE s.slug LIKE 'fine-%%' AND st.last_success_at IS NOT NULL"
        )
        return int(number)

    until("every source that can be loaded is", lambda: loaded() == 2 * ORGS, seconds=150)
    hanging = queue.runs(GOING, **{"datasense/host": "hangs.example"})
    assert len(hanging) == 3, "the server that hangs has its three places, for as long as it likes"
    runs = Counter(run.tags["datasense/source_key"] for run in queue.instance.get_runs())
    fine = [key for key in runs if ".fine_" in key]
    assert len(fine) == 2 * ORGS
    assert {runs[key] for key in fine} == {1}, "each slot was asked for once"

    def settled() -> bool:
        ((failed, put_off),) = queue.platform.rows(
            "SELECT count(*) FILTER (WHERE s.slug LIKE 'fail-%%' AND st.failures_in_a_row = 1), "
            "count(*) FILTER (WHERE s.slug LIKE 'throttled-%%' AND st.put_off_until > now() AND failures_in_a_row = 0) "
            "FROM datasense.source_status st JOIN datasense.sources s ON s.id = st.source_id"
        )
        return (failed, put_off) == (ORGS, ORGS)

    until("each failure is counted once, and what is throttled is put off", settled, seconds=60)
    assert {runs[key] for key in runs if ".throttled_" in key} <= {1}
