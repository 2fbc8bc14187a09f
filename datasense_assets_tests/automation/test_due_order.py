"""What the due sensor asks for, in which order, and what it says of the rest; on a real catalog."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest
from sqlalchemy import text

from datasense_assets.automation import due
from datasense_assets.automation.due import build_due_sensor
from datasense_assets.automation.room import MAX_REQUESTS, MOST_FAILING, MOST_OF_HOST, MOST_OF_ORG, Room
from datasense_assets.catalog.snapshot import read_snapshot
from datasense_assets.catalog.state import due_sources, mark_slot_asked, pause, record_quotas, sources_to_replan
from datasense_assets.catalog.status import failing_rows, organization_status
from datasense_assets.catalog.troubles import troubles
from datasense_assets.running.graph_index import GraphIndex
from datasense_assets.running.owners import catalog_engine
from datasense_assets.settings import get_settings


@pytest.fixture
def catalog(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("DATASENSE_DATABASE_URL", database_url)
    get_settings.cache_clear()
    catalog_engine.cache_clear()
    yield catalog_engine()
    catalog_engine().dispose()
    catalog_engine.cache_clear()
    get_settings.cache_clear()


def add(catalog: Any, org: str, count: int, *, tier: str = "standard", late: int = 0, host: str = "") -> list[int]:
    """So many due sources of an organisation, `late` minutes ago and a second apart, each on a server of its own."""
    first = datetime.now(UTC) - timedelta(minutes=late, seconds=count)
    with catalog.begin() as connection:
        found = connection.execute(
            text(
                "INSERT INTO datasense.organizations (slug, name, tier) VALUES (:org, :org, :tier) "
                "ON CONFLICT (slug) DO UPDATE SET name = excluded.name RETURNING id"
            ),
            {"org": org, "tier": tier},
        ).scalar_one()
        ids = []
        for number in range(count):
            address = host or f"s{number}.{org}.example"
            made = connection.execute(
                text(
                    "INSERT INTO datasense.sources (org_id, slug, connector, config, schedule) VALUES (:org, :slug, "
                    "'kobo', jsonb_build_object('base_url', CAST(:url AS text)), '\"hourly\"') RETURNING id"
                ),
                {"org": found, "slug": f"s-{number}", "url": f"https://{address}"},
            ).scalar_one()
            connection.execute(
                text("INSERT INTO datasense.source_tables (source_id, slug, resource) VALUES (:id, 'visits', 'a')"),
                {"id": made},
            )
            connection.execute(
                text("INSERT INTO datasense.credentials (source_id, name, reference) VALUES (:id, 'token', :ref)"),
                {"id": made, "ref": '{"env": "A_TOKEN"}'},
            )
            connection.execute(
                text("UPDATE datasense.source_status SET next_due_at = :at WHERE source_id = :id"),
                {"id": made, "at": first + timedelta(seconds=number)},
            )
            ids.append(made)
    return ids


def tick(catalog: Any, instance: dg.DagsterInstance) -> tuple[list[str], str]:
    """Source keys that a tick asks for, in order, and its words where it asks for nothing."""
    with catalog.connect() as connection:
        index = GraphIndex.of(read_snapshot(connection), "content")
    sensor = build_due_sensor(index, get_settings())
    result = sensor(dg.build_sensor_context(instance=instance))
    assert isinstance(result, dg.SensorResult)
    said = result.skip_reason.skip_message if isinstance(result.skip_reason, dg.SkipReason) else result.skip_reason
    return [request.tags["datasense/source_key"] for request in result.run_requests or ()], str(said)


def test_premium_first_then_one_of_each_organisation_in_turn_the_latest_first(catalog: Any) -> None:
    add(catalog, "crowd", 300, late=100)
    add(catalog, "single", 1, late=5)
    add(catalog, "pair", 2, late=60)
    add(catalog, "paying", 2, tier="premium", late=1)
    asked, _ = tick(catalog, dg.DagsterInstance.ephemeral())
    assert asked[:7] == ["paying.s_0", "paying.s_1", "crowd.s_0", "pair.s_0", "single.s_0", "crowd.s_1", "pair.s_1"]
    assert sum(key.startswith("crowd.") for key in asked) == MOST_OF_ORG


def test_who_has_waited_for_hours_stands_beside_premium_ones_in_the_catalog_and_in_the_queue(catalog: Any) -> None:
    for number in range(MAX_REQUESTS):
        add(catalog, f"paying-{number}", 1, tier="premium", late=1)
    add(catalog, "patient", 1, late=60)
    add(catalog, "starving", 1, late=180)
    with catalog.connect() as connection:
        index = GraphIndex.of(read_snapshot(connection), "content")
    result = build_due_sensor(index, get_settings())(dg.build_sensor_context(dg.DagsterInstance.ephemeral()))
    assert isinstance(result, dg.SensorResult)
    asked = {run.tags["datasense/org"]: run.tags["dagster/priority"] for run in result.run_requests or ()}
    assert len(asked) == MAX_REQUESTS
    assert "patient" not in asked
    assert asked["starving"] == asked["paying_0"]


def test_a_crowd_on_one_server_leaves_the_queue_to_others(catalog: Any) -> None:
    for number in range(30):
        add(catalog, f"org-{number}", 1, late=600, host="slow.example")
    add(catalog, "other", 1, late=1)
    asked, _ = tick(catalog, dg.DagsterInstance.ephemeral())
    assert len(asked) == MOST_OF_HOST + 1
    assert asked[-1] == "other.s_0"


def test_what_waits_in_the_queue_already_takes_the_room() -> None:
    full = [{"datasense/org": "a", "datasense/host": f"h{n}"} for n in range(MOST_OF_ORG)]
    room = Room(full)
    assert room.full_orgs() == ["a"]
    assert not room.has_place({"datasense/org": "a", "datasense/host": "new"})
    assert room.has_place({"datasense/org": "b", "datasense/host": "h0"})
    assert not Room({"datasense/org": f"o{n}"} for n in range(100)).has_place({"datasense/org": "z"})


def test_what_is_not_asked_for_is_counted_by_why_not(catalog: Any) -> None:
    paused, running, closed, bare = add(catalog, "quiet", 4, late=10)
    with catalog.begin() as connection:
        org = connection.execute(text("SELECT id FROM datasense.organizations")).scalar_one()
        pause(connection, org, paused, reason="a person", by="cli")
        connection.execute(
            text("INSERT INTO datasense.leases VALUES (:id, 'run', 1, now() + interval '1 hour')"), {"id": running}
        )
        record_quotas(connection, closed, {"key"})
        connection.execute(
            text(
                "INSERT INTO datasense.quota_state (key, name, host, blocked_until) "
                "VALUES ('key', 'kobo.account', 'a', now() + interval '1 hour')"
            )
        )
        connection.execute(text("DELETE FROM datasense.source_tables WHERE source_id = :id"), {"id": bare})
        connection.execute(text("UPDATE datasense.sources SET discover_all = false WHERE id = :id"), {"id": bare})
    asked, said = tick(catalog, dg.DagsterInstance.ephemeral())
    assert asked == []
    assert said == ("of 4 due sources: 1 being loaded, 1 waiting for their server's quota, 1 paused, 1 without tables")
    with catalog.begin() as connection:
        connection.execute(text("UPDATE datasense.quota_state SET blocked_until = now()"))
    assert tick(catalog, dg.DagsterInstance.ephemeral())[0] == ["quiet.s_2"]


def test_sources_that_the_graph_does_not_hold_stand_before_nobody(catalog: Any) -> None:
    # such as those of a connector that is no longer installed: many, and of organisations that are served first
    gone = [source for number in range(3) for source in add(catalog, f"gone-{number}", 100, tier="premium", late=5)]
    add(catalog, "here", 1)
    with catalog.connect() as connection:
        whole = read_snapshot(connection)
    known = GraphIndex.of(whole, "content")
    index = replace(known, sources={n: entry for n, entry in known.sources.items() if n not in gone})
    sensor = build_due_sensor(index, get_settings())
    instance = dg.DagsterInstance.ephemeral()
    for _ in range(2):
        with catalog.begin() as connection:
            connection.execute(text("UPDATE datasense.source_status SET last_slot = NULL, last_requested_at = NULL"))
        result = sensor(dg.build_sensor_context(instance=instance))
        assert isinstance(result, dg.SensorResult)
        assert [run.tags["datasense/org"] for run in result.run_requests or ()] == ["here"]
    with catalog.begin() as connection:
        connection.execute(text("DELETE FROM datasense.organizations WHERE slug = 'here'"))
    said = sensor(dg.build_sensor_context(instance=instance)).skip_reason
    assert "300 not in the graph yet" in str(said)


def test_of_two_daemons_at_once_one_gets_the_slot(catalog: Any) -> None:
    (source,) = add(catalog, "one", 1, late=10)
    with catalog.connect() as connection:
        (row,) = due_sources(connection, datetime.now(UTC), 10)
    got: list[bool] = []
    together = threading.Barrier(2)

    def daemon() -> None:
        with catalog.begin() as connection:
            together.wait(timeout=30)
            got.append(mark_slot_asked(connection, source, row.next_due_at))

    threads = [threading.Thread(target=daemon) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got) == [False, True]


def test_a_slot_whose_run_never_came_is_asked_for_again_after_a_minute(catalog: Any) -> None:
    add(catalog, "one", 1, late=10)
    instance = dg.DagsterInstance.ephemeral()
    assert tick(catalog, instance)[0] == ["one.s_0"]
    asked, said = tick(catalog, instance)
    assert (asked, said) == ([], "of 1 due sources: 1 asked for a moment ago")
    with catalog.begin() as connection:
        connection.execute(text("UPDATE datasense.source_status SET last_requested_at = now() - interval '61 seconds'"))
    assert tick(catalog, instance)[0] == ["one.s_0"]


def test_sources_that_failed_the_last_time_are_few_in_the_queue_and_marked(catalog: Any) -> None:
    for number in range(30):
        add(catalog, f"org-{number}", 1, late=600)
    with catalog.begin() as connection:
        connection.execute(text("UPDATE datasense.source_status SET failures_in_a_row = 1"))
    add(catalog, "well", 2, late=1)
    instance = dg.DagsterInstance.ephemeral()
    with catalog.connect() as connection:
        index = GraphIndex.of(read_snapshot(connection), "content")
    requests = build_due_sensor(index, get_settings())(dg.build_sensor_context(instance=instance)).run_requests
    marked = [request for request in requests if request.tags.get("datasense/failing") == "true"]
    assert len(marked) == MOST_FAILING
    assert {request.tags["datasense/org"] for request in requests if request not in marked} == {"well"}
    with catalog.connect() as connection:
        rows = due_sources(connection, datetime.now(UTC), 100, no_failing=True)
    assert [row.slug for row in rows if not row.slot_asked] == []
    assert len([row for row in rows if row.slot_asked]) == MOST_FAILING + 2


def test_what_is_queued_or_runs_is_not_asked_for_but_beside_a_backfill_it_is(catalog: Any) -> None:
    add(catalog, "org", 3, late=10)
    instance = dg.DagsterInstance.ephemeral()
    going = ((0, "interactive", "STARTED"), (1, "scheduled", "NOT_STARTED"), (2, "backfill", "STARTED"))
    for number, lane, status in going:
        keys = frozenset([dg.AssetKey(["org", f"s_{number}", "visits"])])
        run = dg.DagsterRun(
            job_name="j", asset_selection=keys, tags={"datasense/lane": lane}, status=dg.DagsterRunStatus(status)
        )
        instance.add_run(run)
    assert tick(catalog, instance)[0] == ["org.s_2"]
    with catalog.connect() as connection:
        waits = [row.slug for row in due_sources(connection, datetime.now(UTC), 10)]
    assert waits == ["s-2"], "the slots of the others are served by what goes on"


def test_a_source_whose_partitions_lie_ahead_stops_nobody_else_and_is_loaded(catalog: Any) -> None:
    ahead, _ = add(catalog, "clean-water", 2)
    with catalog.begin() as connection:
        start = "UPDATE datasense.sources SET partition_start = '2100-01-01' WHERE id = :id"
        connection.execute(text(start), {"id": ahead})
    with dg.DagsterInstance.ephemeral() as instance:
        assert sorted(tick(catalog, instance)[0]) == ["clean_water.s_0", "clean_water.s_1"]


def test_a_row_that_no_run_can_be_made_of_stops_nobody_else_and_is_told(
    catalog: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, _ = add(catalog, "clean-water", 2)
    whole = due.live_tags

    def fails_for_one(entry: Any, *how: Any) -> dict[str, str]:
        if entry.source.id == bad:
            raise ZeroDivisionError("of a row that nobody has thought of")
        return whole(entry, *how)

    monkeypatch.setattr(due, "live_tags", fails_for_one)
    with dg.DagsterInstance.ephemeral() as instance:
        assert tick(catalog, instance)[0] == ["clean_water.s_1"]
    with catalog.connect() as connection:
        (told,) = failing_rows(organization_status(connection))
    assert (told.path, told.next_due_at is not None) == ("clean-water/s-0/visits", True)
    assert "No run could be asked for" in told.why


@pytest.mark.parametrize("cron", ["at noon", "0 0 31 2 *", "61 * * * *"])
def test_a_schedule_that_means_nothing_stops_nobody_else_and_is_told(catalog: Any, cron: str) -> None:
    bad, _ = add(catalog, "clean-water", 2)
    with catalog.begin() as connection:
        # a row from before such schedules were refused
        connection.execute(text("ALTER TABLE datasense.sources DROP CONSTRAINT sources_cron_has_five_fields"))
        connection.execute(
            text(
                "UPDATE datasense.sources SET schedule = jsonb_build_object('cron', CAST(:cron AS text)) WHERE id = :id"
            ),
            {"cron": cron, "id": bad},
        )
        connection.execute(text("UPDATE datasense.source_status SET replan = true"))
    with dg.DagsterInstance.ephemeral() as instance:
        assert tick(catalog, instance)[0] == ["clean_water.s_1"]
    with catalog.connect() as connection:
        assert sources_to_replan(connection) == []
        (told,) = failing_rows(organization_status(connection))
        assert told.path == "clean-water/s-0/visits"
        assert "schedule means nothing" in told.why
        assert "0 6 * * *" in told.what_to_do
        assert [each.path for each in troubles(connection, datetime.now(UTC)) if each.kind == "failing"] == [
            "clean-water/s-0"
        ]
