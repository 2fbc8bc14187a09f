"""The whole platform through its front doors: a real `dagster dev`, driven over GraphQL as the UI drives it.

The tests share one platform and build on each other in the order in which they stand.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import threading
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from datasense_assets_tests.places import today
from datasense_assets_tests.platform.conftest import World
from datasense_assets_tests.platform.running import ROOT, tags_of, until
from examples.kobo_faults import Fault, slow

pytestmark = [pytest.mark.xdist_group("platform"), pytest.mark.timeout(600)]

VISITS = "clean_water/health_forms/visits"
REPEAT = "clean_water/health_forms/visits__tests"
MONTHLY = "clean_water/recipes/monthly_visits"


def form(world: World) -> Any:
    """The form of the first organisation, as the stand-in server holds it."""
    return world.kobo.site.accounts["demo-token-of-clean-water"][0]


def is_due_no_more(world: World, org: str, source: str) -> None:
    """The source is loaded when a test asks for it, and by its schedule only after all of them."""
    world.platform.execute(
        "UPDATE datasense.source_status SET next_due_at = now() + interval '2 days' WHERE source_id = (SELECT s.id "
        "FROM datasense.sources s JOIN datasense.organizations o ON o.id = s.org_id WHERE o.slug = %s AND s.slug = %s)",
        org,
        source,
    )


def count(world: World, table: str) -> int:
    schema, _, name = table.partition(".")
    found = world.platform.rows("SELECT to_regclass(%s) IS NOT NULL", table)
    return world.platform.rows(f'SELECT count(*) FROM "{schema}"."{name}"')[0][0] if found[0][0] else 0


def test_due_sources_are_loaded_without_anyone_asking(world: World) -> None:
    until("the form is loaded", lambda: world.ui.metadata(VISITS), seconds=150)
    said = world.ui.metadata(VISITS)
    form_rows = len(form(world).submissions)
    assert said["dagster/row_count"]["intValue"] == form_rows
    assert count(world, "org_clean_water.health_forms__visits") == form_rows
    assert said["dagster/table_name"]["text"] == "org_clean_water.health_forms__visits"
    assert {"rows_loaded", "bytes", "api_calls", "throttled_seconds", "cursor_before", "cursor_after"} <= said.keys()
    until("the repeat group has its own asset", lambda: world.ui.asset(REPEAT), seconds=60)
    run = world.ui.runs(tags=[{"key": "datasense/source_key", "value": "clean_water.health_forms"}])[-1]
    assert tags_of(run)["datasense/lane"] == "scheduled"
    is_due_no_more(world, "clean-water", "health-forms")


def test_labels_of_the_form_are_descriptions_and_comments(world: World) -> None:
    columns = world.ui.metadata(VISITS)["dagster/column_schema"]["schema"]["columns"]
    described = [column["description"] for column in columns if column["description"]]
    assert any("जिला" in text or "ज़िला" in text for text in described)
    comments = world.platform.rows(
        "SELECT count(*) FROM pg_description d JOIN pg_class c ON c.oid = d.objoid "
        "WHERE c.relname = 'health_forms__visits' AND d.objsubid > 0"
    )
    assert comments[0][0] >= len(described) // 2


def test_recipes_follow_their_inputs(world: World) -> None:
    until("the monthly recipe is built", lambda: world.ui.metadata(MONTHLY), seconds=150)
    said = world.ui.metadata(MONTHLY)
    assert count(world, "org_clean_water.monthly_visits") == said["dagster/row_count"]["intValue"] > 10
    lineage = said["dagster/column_lineage"]["lineage"]
    assert {dep["assetKey"]["path"][0] for c in lineage for dep in c["columnDeps"]} == {"clean_water"}
    node = world.ui.asset(MONTHLY)
    assert node is not None
    assert node["dependencyKeys"]


def test_clicks_are_tagged_queued_and_prioritised_and_a_source_never_runs_twice_at_once(world: World) -> None:
    before = count(world, "org_clean_water.health_forms__visits")
    runs = [world.ui.click(VISITS, partition=today()) for _ in range(2)]
    tags = tags_of(world.ui.run(runs[0]))
    assert tags["datasense/lane"] == "interactive"
    assert tags["datasense/source_key"] == "clean_water.health_forms"
    assert tags["datasense/connector"] == "kobo"
    assert tags["dagster/priority"] == "30"
    assert [world.ui.finished(run) for run in runs] == ["SUCCESS"] * 2
    first, second = sorted((run["startTime"], run["endTime"]) for run in (_times(world, run) for run in runs))
    assert first[1] <= second[0]
    # nothing was new, so nothing is there twice
    assert count(world, "org_clean_water.health_forms__visits") == before
    assert world.ui.metadata(VISITS)["rows_loaded"]["intValue"] == 0


def _times(world: World, run_id: str) -> dict[str, float]:
    query = "query($id: ID!) { runOrError(runId: $id) { ... on Run { startTime endTime } } }"
    found: dict[str, float] = world.ui.ask(query, id=run_id)["runOrError"]
    return found


def test_a_new_submission_arrives_and_moves_the_recipe(world: World) -> None:
    version = world.platform.rows("SELECT data_version FROM datasense.recipe_status s JOIN datasense.recipes r "
                                  "ON r.id = s.recipe_id WHERE r.name = 'monthly_visits'")[0][0]  # fmt: skip
    before = count(world, "org_clean_water.health_forms__visits")
    form(world).add({k: v for k, v in form(world).submissions[-1].items() if not k.startswith(("_", "meta/"))})
    assert world.ui.finished(world.ui.click(VISITS, partition=today())) == "SUCCESS"
    assert world.ui.metadata(VISITS)["rows_loaded"]["intValue"] == 1
    assert count(world, "org_clean_water.health_forms__visits") == before + 1
    newer = "SELECT 1 FROM datasense.recipe_status WHERE data_version > %s AND recipe_id = " \
            "(SELECT id FROM datasense.recipes WHERE name = 'monthly_visits' AND org_id = 1)"  # fmt: skip
    until("the recipe is built again", lambda: world.platform.rows(newer, version), seconds=90)


def test_a_backfill_of_ten_days_is_one_run_that_leaves_the_cursor_alone(world: World) -> None:
    cursor = (
        "SELECT value, updated_at FROM datasense.cursors WHERE table_id = (SELECT t.id FROM datasense.source_tables t "
        "JOIN datasense.organizations o ON o.id = t.org_id WHERE o.slug = 'clean-water' AND t.slug = 'visits')"
    )
    before = world.platform.rows(cursor)
    rows = count(world, "org_clean_water.health_forms__visits")
    days = [today(ago=n) for n in range(12, 2, -1)]
    backfill = world.ui.backfill(VISITS, days)
    until("the backfill is done", lambda: world.ui.backfill_status(backfill) == "COMPLETED_SUCCESS", seconds=120)
    runs = world.ui.runs(tags=[{"key": "dagster/backfill", "value": backfill}])
    assert len(runs) == 1
    assert tags_of(runs[0])["datasense/lane"] == "backfill"
    assert tags_of(runs[0])["dagster/priority"] == "0"
    assert world.platform.rows(cursor) == before
    assert count(world, "org_clean_water.health_forms__visits") == rows


def test_a_snapshot_source_refuses_the_past_with_the_reason(world: World) -> None:
    towns = "clean_water/towns/towns"
    until("the towns are loaded", lambda: world.ui.metadata(towns), seconds=60)
    query = """query($key: AssetKeyInput!) { assetNodeOrError(assetKey: $key) {
              ... on AssetNode { partitionKeys } } }"""
    keys = world.ui.ask(query, key={"path": towns.split("/")})["assetNodeOrError"]["partitionKeys"]
    world.platform.execute("UPDATE datasense.sources SET partition_start = %s WHERE slug = 'towns'", date(2026, 1, 1))
    until("older partitions exist", lambda: len(world.ui.ask(query, key={"path": towns.split("/")})
          ["assetNodeOrError"]["partitionKeys"]) > len(keys), seconds=60)  # fmt: skip
    day = today()
    run_id = world.ui.click(towns, partition=today(ago=5))
    assert world.ui.finished(run_id) == "FAILURE"
    logs = """query($id: ID!) { logsForRun(runId: $id) { ... on EventConnection { events { __typename
              ... on ExecutionStepFailureEvent { error { message } } } } } }"""
    events = world.ui.ask(logs, id=run_id)["logsForRun"]["events"]
    said = " ".join(e["error"]["message"] for e in events if e["__typename"] == "ExecutionStepFailureEvent")
    assert "no history" in said
    assert day in said


def test_a_source_added_paused_and_deleted_in_the_catalog_takes_effect_without_a_restart(
    world: World, tmp_path: Path
) -> None:
    csv = tmp_path / "wells.csv"
    csv.write_text("well,depth\nA,12\nB,7.5\n")
    world.platform.execute(
        "INSERT INTO datasense.sources (org_id, slug, connector, config, schedule) "
        "SELECT id, 'wells', 'csv', jsonb_build_object('url', %s::text), '\"daily\"' FROM datasense.organizations "
        "WHERE slug = 'clean-water'",
        str(csv),
    )
    until("the new source is in the graph", lambda: world.ui.asset("clean_water/wells"), seconds=60)
    until("its table is found and loaded", lambda: world.ui.metadata("clean_water/wells/wells"), seconds=120)
    assert count(world, "org_clean_water.wells__wells") == 2
    world.platform.datasense("pause", "clean-water/wells")
    world.platform.execute(
        "UPDATE datasense.source_status SET next_due_at = now() WHERE source_id = "
        "(SELECT id FROM datasense.sources WHERE slug = 'wells')"
    )
    wells = [{"key": "datasense/source_key", "value": "clean_water.wells"}]
    runs = len(world.ui.runs(tags=wells))
    world.platform.is_looked_at()
    assert len(world.ui.runs(tags=wells)) == runs
    world.platform.datasense("delete", "clean-water/wells")
    until("the deleted source has left the graph", lambda: not world.ui.asset("clean_water/wells/wells"), seconds=60)
    assert not [r for r in world.ui.runs(tags=wells) if r["status"] in ("QUEUED", "STARTED", "STARTING")]


def test_a_schedule_edited_in_the_catalog_counts_from_the_next_tick(world: World) -> None:
    due = (
        "SELECT next_due_at FROM datasense.source_status WHERE source_id = (SELECT s.id FROM datasense.sources s "
        "JOIN datasense.organizations o ON o.id = s.org_id WHERE s.slug = 'gazetteer' AND o.slug = 'clean-water')"
    )
    # the next slot of the week may be the next quarter of an hour
    is_due_no_more(world, "clean-water", "gazetteer")
    before = world.platform.rows(due)[0][0]
    world.platform.execute(
        "UPDATE datasense.sources SET schedule = '\"15min\"' WHERE slug = 'gazetteer' AND org_id = "
        "(SELECT id FROM datasense.organizations WHERE slug = 'clean-water')"
    )
    soon = until(
        "the next slot is counted anew", lambda: [r for r in world.platform.rows(due) if r[0] != before], seconds=40
    )
    assert soon[0][0] - datetime.now(soon[0][0].tzinfo) < timedelta(minutes=16)


def test_two_organisations_with_the_same_slugs_do_not_touch(world: World) -> None:
    springs = "himalaya_springs/health_forms/visits"
    until("the second organisation is loaded", lambda: world.ui.metadata(springs), seconds=90)
    ours = world.platform.rows("SELECT _uuid FROM org_clean_water.health_forms__visits")
    theirs = world.platform.rows("SELECT _uuid FROM org_himalaya_springs.health_forms__visits")
    assert ours
    assert theirs
    assert not set(ours) & set(theirs)
    owners = dict(
        world.platform.rows("SELECT nspname, pg_get_userbyid(nspowner) FROM pg_namespace WHERE nspname LIKE 'org\\_%'")
    )
    assert owners.keys() == {"org_clean_water", "org_himalaya_springs"}
    mine, theirs = owners["org_clean_water"], owners["org_himalaya_springs"]
    for role, schema in (
        (theirs, "org_clean_water"),
        (mine, "org_himalaya_springs"),
        (mine, "datasense"),
        (theirs, "datasense"),
    ):
        assert world.platform.rows("SELECT has_schema_privilege(%s, %s, 'USAGE')", role, schema) == [(False,)]


def test_a_load_that_hangs_is_stopped_for_good_and_one_whose_worker_is_killed_is_run_again(world: World) -> None:
    hangs, killed = VISITS, "himalaya_springs/health_forms/visits"
    until("the second organisation is loaded", lambda: world.ui.metadata(killed), seconds=90)
    is_due_no_more(world, "himalaya-springs", "health-forms")
    rows = count(world, "org_himalaya_springs.health_forms__visits")
    springs = world.kobo.site.accounts["demo-token-of-himalaya-springs"][0]
    for each in (form(world), springs):
        each.add({k: v for k, v in each.submissions[-1].items() if not k.startswith(("_", "meta/"))})
    # a server that says nothing more, where nothing but the end of the process ends the wait for it
    asked = threading.Event()

    def hold() -> None:
        asked.set()
        world.kobo.stopping.wait(300)

    world.kobo.fail(slow(300, path=form(world).uid, times=2), Fault(path=springs.uid, act=hold))
    stopped = world.ui.click(hangs, tags={"dagster/max_runtime": "12"})
    lost = world.ui.click(killed)

    def worker() -> int | None:
        said = world.platform.rows("SELECT event FROM event_logs WHERE run_id = %s AND event LIKE %s", lost,
                                   "%Executing steps in process%")  # fmt: skip
        return int(re.findall(r"process \(pid: (\d+)\)", said[0][0])[0]) if said else None

    pid = until("its worker works", worker)
    held = "SELECT count(*) FROM datasense.leases WHERE owner LIKE %s AND expires_at > now()"
    until("it holds the source", lambda: world.platform.rows(held, f"{lost}/%") == [(1,)])
    # one that is killed before that leaves the silence to the run in its place
    until("it waits for the server", asked.is_set)
    os.kill(pid, signal.SIGKILL)
    # the minute for which a lease outlives its owner is not waited for
    world.platform.execute("UPDATE datasense.leases SET expires_at = now() WHERE owner LIKE %s", f"{lost}/%")

    def last_of(run_id: str) -> str | None:
        """The status of the last run made in place of that one, when it has ended."""
        made = world.ui.runs(tags=[{"key": "dagster/root_run_id", "value": run_id}])
        return made[0]["status"] if made and made[0]["status"] in ("SUCCESS", "FAILURE") else None

    assert until("the killed one is run again", lambda: last_of(lost), seconds=180) == "SUCCESS"
    assert count(world, "org_himalaya_springs.health_forms__visits") == rows + 1 == len(springs.submissions)

    # Dagster runs again what it has stopped: that run sees that there is no time left, and says so
    assert until("the one that hangs is given up", lambda: last_of(stopped), seconds=120) == "FAILURE"
    failed = "SELECT failure_kind, failures_in_a_row FROM datasense.source_status st JOIN datasense.sources s " \
             "ON s.id = st.source_id JOIN datasense.organizations o ON o.id = s.org_id " \
             "WHERE s.slug = 'health-forms' AND o.slug = 'clean-water'"  # fmt: skip
    assert world.platform.rows(failed) == [("took_too_long", 1)]
    told = "SELECT title FROM datasense.alert_messages WHERE title LIKE '%%health-forms is failing'"
    until("people are told", lambda: world.platform.rows(told), seconds=60)
    world.kobo.clear_faults()
    assert world.ui.finished(world.ui.click(hangs)) == "SUCCESS"
    assert world.platform.rows(failed) == [(None, 0)]


def test_one_field_finds_all_that_was_said_of_a_run_whichever_process_said_it(world: World) -> None:
    # the first of them: the one in its place ends before the daemon has to look at it
    *_, run = world.ui.runs(tags=[{"key": "dagster/max_runtime", "value": "12"}], statuses=["FAILURE"])
    said = [json.loads(line) for line in world.log.read_text().splitlines() if line.startswith("{")]
    lines = [line for line in said if line.get("run") == run["runId"]]
    about = {(line.get("org"), line.get("source"), line.get("lane")) for line in lines}
    assert about == {("clean_water", "health_forms", "interactive")}
    loggers = {line["logger"] for line in lines}
    # queued in the webserver, watched and stopped by the daemon, done in a worker
    assert {"datasense.coordinator", "dagster.daemon.MonitoringDaemon", "dagster"} <= loggers
    named = [line for line in said if run["runId"] in line["message"]]
    assert [line for line in named if line.get("run") != run["runId"]] == []


def test_no_secret_is_in_any_log_or_event(world: World) -> None:
    for secret in ("demo-token-of-clean-water", "demo-token-of-himalaya-springs"):
        assert secret not in world.log.read_text()
        found = world.platform.rows("SELECT count(*) FROM event_logs WHERE event LIKE %s", f"%{secret}%")
        assert found == [(0,)]
        assert world.platform.rows("SELECT count(*) FROM runs WHERE run_body LIKE %s", f"%{secret}%") == [(0,)]


def test_the_page_of_an_organisations_lineage_shows_in_a_browser(world: World, tmp_path: Path) -> None:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        assert os.environ.get("CI") != "true", "chromium is missing: .ci/run installs it"
        pytest.skip("chromium is not installed")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-background-networking", "--disable-sync"]
        )
        page = browser.new_page(viewport={"width": 1600, "height": 900})
        page.goto(f"{world.platform.url}/locations/__repository__@datasense/asset-groups/clean_water")
        page.get_by_text("monthly_visits").first.wait_for(timeout=60_000)
        page.get_by_text("visits", exact=True).first.wait_for(timeout=60_000)
        page.wait_for_load_state("networkidle")
        shot = tmp_path / "lineage.png"
        page.screenshot(path=str(shot))
        browser.close()
    assert shot.stat().st_size > 20_000
    if os.environ.get("DATASENSE_KEEP_PICTURES") == "true":
        shutil.copy(shot, ROOT / "docs" / "lineage.png")


def test_the_command_line_of_dagster_fills_one_partition(world: World) -> None:
    day = today(ago=2)
    world.platform.command(
        "dagster", "asset", "materialize", "-m", "datasense_assets.definitions", "--select", VISITS, "--partition", day
    )
    events = world.platform.rows(
        "SELECT count(*) FROM event_logs WHERE dagster_event_type = 'ASSET_MATERIALIZATION' AND partition = %s "
        "AND asset_key = %s",
        day,
        '["clean_water", "health_forms", "visits"]',
    )
    assert events[0][0] >= 1
    done = subprocess.run(
        ["dagster", "definitions", "validate"],
        cwd=ROOT,
        env=world.platform.environment,
        capture_output=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr.decode()[-3000:]
