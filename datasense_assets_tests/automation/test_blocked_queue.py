"""Five hundred runs that wait for their organisation's limit keep nobody else from being handed out; the real queue."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from benchmarks.simulated_parts import Queue, real_queue
from datasense_assets_tests.automation.test_due_order import catalog

__all__ = ["catalog"]
BLOCKED = 500


def add(queue: Queue, org: str, number: int) -> str:
    tags = {
        "datasense/org": org,
        "datasense/source": f"s_{number}",
        "datasense/source_key": f"{org}.s_{number}",
        "datasense/connector": "of_nobody",
        "datasense/lane": "interactive",
        "datasense/tier": "standard",
        "dagster/priority": "30",
    }
    return queue.add(tags, [dg.AssetKey([org, f"s_{number}", "rows"])])


@pytest.mark.timeout(300)
def test_a_crowd_that_is_blocked_delays_nobody_behind_it(catalog: Any, tmp_path: Path) -> None:
    with real_queue(tmp_path) as queue:
        crowd = [add(queue, "crowd", number) for number in range(BLOCKED)]
        first = queue.look()
        # several threads hand out, each in its own time
        assert {run.run_id for run in first} == set(crowd[:3])
        others = [add(queue, f"org_{number}", 0) for number in range(5)]
        began = time.process_time()
        assert {run.run_id for run in queue.look()} == set(others)
        print(f"a look at {BLOCKED} that are blocked: {time.process_time() - began:.2f} CPU s")  # noqa: T201
        assert queue.look() == []
        queue.end(first[0].run_id, success=True)
        assert [run.run_id for run in queue.look()] == crowd[3:4]
