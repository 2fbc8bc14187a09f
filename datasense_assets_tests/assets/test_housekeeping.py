"""Housekeeping: what runs left behind goes, whatever a live one may need stays."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta

import dagster as dg

from datasense_assets.assets.graph import build_definitions
from datasense_assets.automation.housekeeping import housekeeping_job
from datasense_assets.catalog.models import Snapshot
from datasense_assets.catalog.pruning import prune_catalog
from datasense_assets.ingest.housekeeping import Tidied, keep_house
from datasense_assets.running.local import LocalRun
from datasense_assets.running.owners import catalog_engine
from datasense_assets.settings import Settings, Shard, get_settings
from datasense_assets_tests.assets.conftest import Yard
from datasense_assets_tests.places import today

NOW = datetime.now(UTC)
STAGING = "staging_org_clean_water"


def census(yard: Yard, slug: str) -> dict[str, object]:
    file = yard.home / f"{slug}.csv"
    file.write_text("town,people\nA,1\nB,2\n", encoding="utf-8")
    tables = [{"slug": "towns", "resource": file.name}]
    return {"slug": slug, "connector": "csv", "config": {"url": str(file)}, "tables": tables}


def load(yard: Yard, slug: str) -> LocalRun:
    return yard.run(f"clean_water/{slug}", partition=today())


def tidy(*, dry_run: bool = False, now: datetime = NOW) -> dict[tuple[str, str], Tidied]:
    return {(e.where, e.what): e for e in keep_house(catalog_engine(), get_settings(), now, dry_run=dry_run)}


def staged(yard: Yard) -> set[str]:
    rows = yard.rows("SELECT tablename FROM pg_tables WHERE schemaname = %s AND tablename NOT LIKE '\\_d%%'", STAGING)
    return {name for (name,) in rows}


def test_what_dead_runs_and_deleted_sources_left_goes_and_the_rest_stays(yard: Yard) -> None:
    yard.apply(census(yard, "old"), census(yard, "new"))
    for slug in ("old", "new"):
        assert load(yard, slug).success
    yard.apply(census(yard, "new"))
    assert staged(yard) == {"old__towns", "new__towns"}
    yard.execute("UPDATE org_clean_water._dlt_loads SET inserted_at = now() - interval '31 days'")
    yard.execute(f"UPDATE {STAGING}._dlt_version SET inserted_at = now() - interval '31 days'")
    loaded = yard.rows("SELECT count(*) FROM org_clean_water.old__towns")

    would = tidy(dry_run=True)
    assert would["clean-water", "staged tables"].names == ("old__towns",)
    assert staged(yard) == {"old__towns", "new__towns"}, "a dry run changes nothing"
    done = tidy()
    assert {key: each.count for key, each in done.items()} == {key: each.count for key, each in would.items()}
    assert staged(yard) == {"new__towns"}
    assert done["clean-water", "records of dlt"].count == 2  # a load each; of schema versions the newest stays
    assert yard.rows(f"SELECT count(DISTINCT schema_name) = count(*) FROM {STAGING}._dlt_version") == [(True,)]
    assert yard.rows("SELECT count(*) FROM org_clean_water.old__towns") == loaded, "a table of data is never touched"
    assert load(yard, "new").success
    assert all(each.count == 0 for each in tidy().values())


def test_an_organisation_that_is_being_loaded_is_left_alone_until_the_next_time(yard: Yard) -> None:
    yard.apply(census(yard, "old"), census(yard, "new"))
    assert load(yard, "old").success
    yard.apply(census(yard, "new"))
    yard.execute(
        "INSERT INTO datasense.leases (source_id, owner, fence, expires_at) "
        "SELECT id, 'a run', 1, now() + interval '1 minute' FROM datasense.sources"
    )
    assert "A load goes on" in str(tidy()["clean-water", "warehouse"].skipped)
    assert "old__towns" in staged(yard)
    yard.execute("UPDATE datasense.leases SET expires_at = now() - interval '1 second'")  # it died
    assert tidy()["clean-water", "staged tables"].names == ("old__towns",)


def test_scratch_in_which_nothing_was_written_for_a_day_is_of_a_dead_run(yard: Yard) -> None:
    scratch = get_settings().scratch_path
    for name in ("load-dead", "load-slow", "other"):
        (scratch / name / "inner").mkdir(parents=True)
        (scratch / name / "inner" / "00000.arrow").write_bytes(b"x")
    day = (NOW + timedelta(hours=2)).timestamp()  # the long load of `load-slow` has just written a page
    os.utime(scratch / "load-slow" / "inner" / "00000.arrow", (day, day))
    assert tidy(now=NOW + timedelta(hours=25))["scratch", "folders"].names == ("load-dead",)
    assert {each.name for each in scratch.iterdir()} == {"load-slow", "other"}


def test_the_catalog_forgets_what_is_settled_told_and_unused(yard: Yard) -> None:
    yard.apply(census(yard, "new"))
    old, recent = NOW - timedelta(days=181), NOW - timedelta(days=1)
    add = "INSERT INTO datasense.sync_requests (org_id, taken_at, after_requests) SELECT id, %s, %s FROM "
    for taken in (old, recent, None, old):
        yard.execute(f"{add} datasense.organizations", taken, None)
    (last,) = yard.rows("SELECT max(id) FROM datasense.sync_requests")[0]
    yard.execute(f"{add} datasense.organizations", None, [last])  # one that still waits for the last
    change = "INSERT INTO datasense.schema_changes (table_id, at, kind, column_name, alerted) "
    for at, told in ((old, True), (old, False), (recent, True)):
        yard.execute(f"{change} SELECT id, %s, 'added', 'x', %s FROM datasense.source_tables", at, told)
    with catalog_engine().begin() as connection:
        done = prune_catalog(connection, NOW)
    assert done == {"requests": 1, "schema changes": 1, "quotas": 0, "costs put together by days": 0}
    assert yard.rows("SELECT count(*) FROM datasense.sync_requests") == [(4,)]


def test_an_unreachable_warehouse_is_said_and_keeps_no_other_waiting(yard: Yard, monkeypatch) -> None:
    monkeypatch.setenv("NOWHERE", "postgresql://u:p4ss@127.0.0.1:1/x")
    yard.apply(census(yard, "new"), slug="away", warehouse={"env": "NOWHERE"})
    yard.apply(census(yard, "old"), census(yard, "new"))
    assert load(yard, "old").success
    yard.apply(census(yard, "new"))
    done = tidy()
    assert done["away", "warehouse"].skipped
    assert "p4ss" not in str(done)
    assert done["clean-water", "staged tables"].count == 1


def test_the_nightly_job_keeps_house_and_one_code_location_does_it_for_all(yard: Yard) -> None:
    yard.apply(census(yard, "old"), census(yard, "new"))
    assert load(yard, "old").success
    yard.apply(census(yard, "new"))
    assert housekeeping_job.execute_in_process(instance=yard.instance).success
    assert "old__towns" not in staged(yard)
    (schedule,) = build_definitions(Snapshot(revision=1), Settings()).schedules or ()
    assert schedule.default_status == dg.DefaultScheduleStatus.RUNNING
    assert not build_definitions(Snapshot(revision=1), Settings(shard=Shard(index=1, count=2))).schedules
