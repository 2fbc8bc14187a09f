"""A long range that a person asks for is served by several runs, each of which stays done."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import dagster as dg
import pytest
from sqlalchemy import text

from datasense_assets.automation.requests import MAX_REQUESTS, build_requests_sensor
from datasense_assets.catalog.snapshot import read_snapshot
from datasense_assets.catalog.state import add_request, lock_requests, open_requests, parts_of, read_request
from datasense_assets.cli.asking import wait_for
from datasense_assets.cli.outcomes import Outcome
from datasense_assets.running.graph_index import GraphIndex
from datasense_assets.settings import get_settings
from datasense_assets_tests.automation.test_due_order import add, catalog  # noqa: F401 - a fixture


def tick(catalog: Any, instance: dg.DagsterInstance, *, without: int = 0) -> list[dg.RunRequest]:  # noqa: F811
    """What a daemon that has just been started asks for; `without`: a source that its graph does not hold."""
    with catalog.connect() as connection:
        index = GraphIndex.of(read_snapshot(connection), "content")
    index = replace(index, sources={n: entry for n, entry in index.sources.items() if n != without})
    result = build_requests_sensor(index, get_settings())(dg.build_sensor_context(instance=instance))
    assert isinstance(result, dg.SensorResult)
    return list(result.run_requests or ())


def spans(requests: list[dg.RunRequest]) -> list[tuple[str, str]]:
    ends = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")
    return [(request.tags[ends[0]], request.tags[ends[1]]) for request in requests]


def serve(instance: dg.DagsterInstance, request: dg.RunRequest, *, success: bool = True) -> str:
    """The run of a request, ended, as the daemon and a worker make and end it."""

    @dg.op(name="ends")
    def ends() -> None:
        if not success:
            raise ValueError("the server hung up")

    @dg.job(name="served")
    def served() -> None:
        ends()

    done = served.execute_in_process(instance=instance, tags=dict(request.tags), raise_on_error=False)
    return done.run_id


def a_minute_passes(catalog: Any) -> None:  # noqa: F811
    with catalog.begin() as connection:
        connection.execute(text("UPDATE datasense.sync_requests SET asked_at = asked_at - interval '1 minute'"))


@pytest.fixture
def source(catalog: Any) -> int:  # noqa: F811
    (made,) = add(catalog, "one", 1)
    with catalog.begin() as connection:
        connection.execute(text("UPDATE datasense.sources SET partition_start = '2026-01-01'"))
    return made


def test_a_long_range_goes_in_parts_and_what_is_done_stays_done(catalog: Any, source: int) -> None:  # noqa: F811
    with catalog.begin() as connection:
        org = connection.execute(text("SELECT id FROM datasense.organizations")).scalar_one()
        request = add_request(connection, org_id=org, source_id=source, partitions=("2026-01-01", "2026-03-15"))
    instance = dg.DagsterInstance.ephemeral()
    whole = [("2026-01-01", "2026-01-31"), ("2026-02-01", "2026-03-03"), ("2026-03-04", "2026-03-15")]
    # the first tick splits the request, the next one sees its parts
    asked = tick(catalog, instance) + tick(catalog, instance)
    assert sorted(spans(asked)) == whole, "and asks for the one of the first tick no second time"
    assert {run.tags["datasense/lane"] for run in asked} == {"backfill"}
    with catalog.connect() as connection:
        others = parts_of(connection, request)
    assert [part[1:] for part in others] == whole[1:]

    # killed with one part done: a daemon that starts anew asks for the other two alone
    by_span = dict(zip(spans(asked), asked, strict=True))
    first = serve(instance, by_span[whole[0]])
    assert tick(catalog, instance) == [], "their runs may be about to be made"
    a_minute_passes(catalog)
    assert sorted(spans(tick(catalog, instance))) == whole[1:]
    with catalog.connect() as connection:
        done = read_request(connection, request)
        assert done is not None
        assert done.run_id == first
        assert [row.partition_first for row in open_requests(connection, 10)] == ["2026-02-01", "2026-03-04"]

    # one that fails leaves the last to be done
    serve(instance, by_span[whole[1]], success=False)
    serve(instance, by_span[whole[2]])
    assert tick(catalog, instance) == []
    outcomes = wait_for(catalog, instance, [Outcome("one/s-0", "asked", request_id=request)])
    assert [(each.name, each.status) for each in outcomes] == [
        ("one/s-0", "done"),
        ("one/s-0 2026-02-01...2026-03-03", "failed"),
        ("one/s-0 2026-03-04...2026-03-15", "done"),
    ]


def test_of_two_daemons_at_once_one_makes_the_run_and_parts_a_range_once(catalog: Any, source: int) -> None:  # noqa: F811
    with catalog.begin() as connection:
        org = connection.execute(text("SELECT id FROM datasense.organizations")).scalar_one()
        request = add_request(connection, org_id=org, source_id=source, partitions=("2026-01-01", "2026-03-15"))
    instance = dg.DagsterInstance.ephemeral()
    with catalog.begin() as other:
        assert lock_requests(other, None)
        assert tick(catalog, instance) == []
    with ThreadPoolExecutor(4) as daemons:
        asked = [
            run
            for each in daemons.map(lambda _: tick(catalog, dg.DagsterInstance.ephemeral()), range(4))
            for run in each
        ]
    asked += tick(catalog, instance)
    assert len(spans(asked)) == len(set(spans(asked))) == 3
    with catalog.connect() as connection:
        assert len(parts_of(connection, request)) == 2


def test_a_range_that_one_run_can_finish_stays_one(catalog: Any, source: int) -> None:  # noqa: F811
    with catalog.begin() as connection:
        org = connection.execute(text("SELECT id FROM datasense.organizations")).scalar_one()
        request = add_request(connection, org_id=org, source_id=source, partitions=("2026-01-01", "2026-01-31"))
    (asked,) = tick(catalog, dg.DagsterInstance.ephemeral())
    assert spans([asked]) == [("2026-01-01", "2026-01-31")]
    with catalog.connect() as connection:
        assert parts_of(connection, request) == []


def test_requests_that_cannot_be_served_stand_before_nobody_and_end(catalog: Any, source: int) -> None:  # noqa: F811
    (other,) = add(catalog, "two", 1)
    with catalog.begin() as connection:
        orgs = dict(connection.execute(text("SELECT slug, id FROM datasense.organizations")).all())
        stuck = [add_request(connection, org_id=orgs["one"], source_id=source) for _ in range(5 * MAX_REQUESTS)]
        add_request(connection, org_id=orgs["two"], source_id=other, partitions=("2026-01-01", "2026-01-02"))
        add_request(connection, org_id=orgs["two"], source_id=other)
    instance = dg.DagsterInstance.ephemeral()
    asked = tick(catalog, instance, without=source)
    assert [run.tags["datasense/org"] for run in asked] == ["two", "two"]
    for run in asked:
        serve(instance, run)
    with catalog.begin() as connection:
        connection.execute(text("UPDATE datasense.sync_requests SET requested_at = now() - interval '11 minutes'"))
    for _ in range(2):
        assert tick(catalog, instance, without=source) == []
    with catalog.connect() as connection:
        assert open_requests(connection, 10) == []
        result = read_request(connection, stuck[0])
    assert result is not None
    assert "cannot be used" in str(result.error)
