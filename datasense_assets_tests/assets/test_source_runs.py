"""Runs of source assets in a worker: what they load, and the words in which they fail."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import dagster as dg
import psycopg
import pytest

from datasense_assets import definitions
from datasense_assets.warehouse.leases import acquire
from datasense_assets_tests.assets.conftest import TOKEN, Yard
from datasense_assets_tests.places import today
from examples.kobo_faults import missing

FORM = "aVWpQ7rT2xKcLm9sNd4HzB"
FORMS = "clean_water/health_forms"


def forms(kobo: Any, **more: Any) -> dict[str, Any]:
    return {
        "slug": "health-forms",
        "connector": "kobo",
        "config": {"base_url": kobo.url},
        "credentials": {"token": {"env": "CLEAN_WATER_KOBO_TOKEN"}},
        "tables": [{"slug": "visits", "resource": FORM}],
        **more,
    }


def file(path: Path, **more: Any) -> dict[str, Any]:
    return {"slug": "wells", "connector": "csv", "config": {"url": str(path)}, **more}


def loaded(yard: Yard, table: str) -> int:
    return int(yard.rows(f"SELECT count(*) FROM org_clean_water.{table}")[0][0])


@pytest.mark.parametrize(
    ("grain", "partition"),
    [("hour", "2025-12-20-05:00"), ("day", "2025-12-20"), ("week", "2025-12-14"), ("month", "2025-12-01")],
)
def test_a_backfill_reads_exactly_its_window_in_every_grain(yard: Yard, kobo: Any, grain: str, partition: str) -> None:
    yard.apply(forms(kobo, partitions={"every": grain, "start": "2025-09-01"}))
    done = yard.run(f"{FORMS}/visits", partition=partition)
    assert done.success, done.failures
    zone = ZoneInfo("Asia/Kolkata")
    start = datetime.strptime(partition[:10], "%Y-%m-%d").replace(tzinfo=zone)
    inside = []
    for row in kobo.site.accounts["demo-token-of-clean-water"][0].submissions:
        at = datetime.fromisoformat(row["_submission_time"] + "+00:00").astimezone(zone)
        days = (at.date() - start.date()).days
        inside.append(
            {
                "hour": at.strftime("%Y-%m-%d-%H:00") == partition,
                "day": days == 0,
                "week": 0 <= days < 7,
                "month": (at.year, at.month) == (start.year, start.month),
            }[grain]
        )
    assert loaded(yard, "health_forms__visits") == sum(inside)
    assert grain == "hour" or sum(inside) > 0
    assert yard.rows("SELECT * FROM datasense.cursors WHERE value IS NOT NULL") == []
    assert yard.rows("SELECT last_success_at, last_started_at FROM datasense.source_status") == [(None, None)]


def test_the_first_live_load_takes_the_whole_history_with_its_repeat_groups(yard: Yard, kobo: Any) -> None:
    yard.apply(forms(kobo, partitions={"start": today(ago=60)}))
    day = today()
    done = yard.run(f"{FORMS}/visits", partition=day)
    assert done.success, done.failures
    submissions = kobo.site.accounts["demo-token-of-clean-water"][0].submissions
    assert loaded(yard, "health_forms__visits") == len(submissions)
    visits = dg.AssetKey([*FORMS.split("/"), "visits"])
    marked = yard.instance.get_materialized_partitions(visits)
    assert len(marked) == 61
    repeats = yard.rows("SELECT slug FROM datasense.source_tables WHERE parent_id IS NOT NULL")
    assert repeats
    orphans = yard.rows(
        "SELECT count(*) FROM org_clean_water.health_forms__visits__tests t WHERE NOT EXISTS (SELECT FROM "
        'org_clean_water.health_forms__visits v WHERE v."_ds_row_id" = t."_ds_parent_id")'
    )
    assert orphans == [(0,)]
    again = yard.run(FORMS, partition=today())
    assert again.success, again.failures
    assert {metadata["rows_loaded"] for metadata in again.materialized.values()} == {0}


def test_a_refused_token_is_tried_once_and_says_what_to_do(
    yard: Yard, kobo: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLEAN_WATER_KOBO_TOKEN", "wrong-and-secret")
    yard.apply(forms(kobo))
    done = yard.run(f"{FORMS}/visits", partition=today())
    assert not done.success
    assert "token" in done.failures[0]
    assert "wrong-and-secret" not in str(done.failures)
    assert len(kobo.requests) == 1
    failure = yard.rows("SELECT failure_kind, failures_in_a_row FROM datasense.source_status")
    assert failure == [("credential_refused", 1)]


def test_a_source_that_only_a_person_can_mend_is_left_alone_but_for_probes_until_it_is_mended(
    yard: Yard, kobo: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    yard.apply(forms(kobo, schedule="hourly"))
    monkeypatch.setenv("CLEAN_WATER_KOBO_TOKEN", "wrong-and-secret")
    make_due = "UPDATE datasense.source_status SET next_due_at = now() - interval '1 minute', replan = false"
    due = "SELECT count(*) FROM datasense.source_status WHERE next_due_at <= now()"

    def asked() -> int:
        """How many runs the sensor asks for."""
        graph = definitions.definitions()
        with dg.build_sensor_context(instance=yard.instance, definitions=graph) as context:
            result = graph.resolve_sensor_def("due_sources")(context)
        assert isinstance(result, dg.SensorResult)
        return len(result.run_requests or ())

    for _ in range(3):
        assert not yard.run(f"{FORMS}/visits", partition=today()).success
    yard.execute(make_due)
    assert (yard.rows(due), asked()) == ([(1,)], 0), "its breaker is open"
    yard.execute("UPDATE datasense.pauses SET probe_at = now() - interval '1 second'")
    assert asked() == 1, "a probe"
    assert not yard.run(f"{FORMS}/visits", partition=today()).success
    yard.execute(make_due)
    assert asked() == 0, "the next probe is later"
    monkeypatch.setenv("CLEAN_WATER_KOBO_TOKEN", TOKEN)
    assert yard.run(f"{FORMS}/visits", partition=today()).success
    assert yard.rows("SELECT count(*) FROM datasense.pauses") == [(0,)]
    yard.execute(make_due)
    assert asked() == 1


def test_a_form_that_is_gone_is_named(yard: Yard, kobo: Any) -> None:
    kobo.fail(missing())
    yard.apply(forms(kobo))
    done = yard.run(f"{FORMS}/visits", partition=today())
    assert not done.success
    assert FORM in done.failures[0]


def test_a_secret_that_is_not_set_is_named(yard: Yard, kobo: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CLEAN_WATER_KOBO_TOKEN")
    yard.apply(forms(kobo))
    done = yard.run(f"{FORMS}/visits", partition=today())
    assert not done.success
    assert "CLEAN_WATER_KOBO_TOKEN" in done.failures[0]


def test_a_server_that_does_not_answer_is_said_at_once_to_a_person_who_waits(
    yard: Yard, kobo: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from datasense_assets.connectors import http

    monkeypatch.setattr(http, "ATTEMPTS", 1)
    monkeypatch.setattr(kobo, "url", "http://127.0.0.1:9")
    yard.apply(forms(kobo))
    done = yard.run(f"{FORMS}/visits", partition=today())
    assert not done.success
    assert "127.0.0.1" in done.failures[0]


def test_a_table_that_fails_leaves_its_siblings_loaded_and_is_the_only_one_named(yard: Yard, kobo: Any) -> None:
    gone = {"slug": "gone", "resource": "aNoSuchFormAnywhere"}
    yard.apply(forms(kobo, tables=[gone, {"slug": "visits", "resource": FORM}]))
    done = yard.run(FORMS, partition=today())
    assert not done.success
    assert ("clean_water", "health_forms", "visits") in done.materialized
    assert "gone: " in done.failures[0]
    assert "visits: " not in done.failures[0]
    assert loaded(yard, "health_forms__visits") > 0


def test_a_source_held_by_another_run_is_left_alone(yard: Yard, kobo: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from datasense_assets.assets import loading
    from datasense_assets.running.failures import Retry

    monkeypatch.setattr(loading, "LEASE_RETRY", Retry(times=0, wait=0.0))
    yard.apply(forms(kobo))
    source_id = yard.rows("SELECT id FROM datasense.sources")[0][0]
    lease = acquire(lambda: psycopg.connect(yard.url), source_id, "somebody else")
    assert lease is not None
    with lease:
        assert not yard.run(f"{FORMS}/visits", partition=today()).success
        assert kobo.requests == []
    assert yard.run(f"{FORMS}/visits", partition=today()).success


def test_a_csv_refuses_the_past_and_mirrors_the_file_as_it_is(yard: Yard, tmp_path: Path) -> None:
    path = tmp_path / "wells.csv"
    path.write_text("name,depth\na,1\nb,2\n")
    yard.apply(file(path, tables=[{"slug": "wells", "resource": "wells.csv"}], partitions={"start": "2026-01-01"}))
    refused = yard.run("clean_water/wells/wells", partition="2026-01-05")
    assert not refused.success
    assert "no history" in refused.failures[0]
    assert yard.run("clean_water/wells/wells", partition=today()).success
    path.write_text("name,depth\nb,2\n")
    assert yard.run("clean_water/wells/wells", partition=today()).success
    assert yard.rows("SELECT name, depth FROM org_clean_water.wells__wells") == [("b", 2)]


def test_a_source_whose_partitions_lie_ahead_is_loaded_all_the_same(yard: Yard, tmp_path: Path) -> None:
    path = tmp_path / "wells.csv"
    path.write_text("name,depth\na,1\n")
    yard.apply(file(path, tables=[{"slug": "wells", "resource": "wells.csv"}], partitions={"start": "2100-01-01"}))
    done = yard.run("clean_water/wells")
    assert done.success, done.failures
    assert yard.rows("SELECT name FROM org_clean_water.wells__wells") == [("a",)]


def test_tables_left_out_of_the_manifest_are_found_by_a_run(yard: Yard, tmp_path: Path) -> None:
    path = tmp_path / "wells.csv"
    path.write_text("name,depth\na,1\n")
    yard.apply(file(path))
    assert yard.keys("clean_water/wells") == [("clean_water", "wells")]
    assert yard.run("clean_water/wells").success
    assert yard.keys("clean_water/wells") == [("clean_water", "wells", "wells")]
    assert yard.run("clean_water/wells", partition=today()).success


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><html><body>Sign in</body></html>", "web page"),
    ],
)
def test_a_file_that_is_no_table_fails_in_plain_words_and_the_old_table_stays(
    yard: Yard, tmp_path: Path, content: bytes, words: str
) -> None:
    path = tmp_path / "wells.csv"
    path.write_text("name,depth\na,1\n")
    yard.apply(file(path, tables=[{"slug": "wells", "resource": "wells.csv"}]))
    assert yard.run("clean_water/wells/wells", partition=today()).success
    path.write_bytes(content)
    done = yard.run("clean_water/wells/wells", partition=today())
    assert not done.success
    assert words in done.failures[0].lower()
    assert loaded(yard, "wells__wells") == 1


def test_headers_rows_and_encodings_as_people_make_them_lose_nothing(yard: Yard, tmp_path: Path) -> None:
    path = tmp_path / "wells.csv"
    text = "नाम,जिला,गहराई,name,name,\nकुआँ,अजमेर,12,x,y,z\nshort,row\nलंबी,पंक्ति,1,2,3,4,5\n"
    path.write_bytes(text.encode("utf-16"))
    yard.apply(file(path, tables=[{"slug": "wells", "resource": "wells.csv"}]))
    done = yard.run("clean_water/wells/wells", partition=today())
    assert done.success, done.failures
    columns = yard.rows(
        "SELECT column_name FROM information_schema.columns WHERE table_name = 'wells__wells' "
        "AND table_schema = 'org_clean_water' AND column_name NOT LIKE '\\_ds%'"
    )
    assert len(columns) == 6
    comments = yard.rows(
        "SELECT col_description('org_clean_water.wells__wells'::regclass, attnum) FROM pg_attribute "
        "WHERE attrelid = 'org_clean_water.wells__wells'::regclass AND attnum > 0"
    )
    assert {"नाम", "जिला", "गहराई", "name"} <= {comment for (comment,) in comments}
    assert loaded(yard, "wells__wells") == 2
    assert yard.rows("SELECT line, reason <> '' FROM org_clean_water.wells__wells__rejected") == [(4, True)]
    (metadata,) = done.materialized.values()
    assert metadata["rows_rejected"] == 1
