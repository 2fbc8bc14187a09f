"""dlt held on a short lead: no files, no environment, no telemetry, and the tables it would have made itself."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import psycopg
import pytest
from dlt.common.runtime import signals

from datasense_assets.catalog.models import ColumnType, Organization
from datasense_assets.ingest import copying, dlt_jobs, rows, schema, scratch
from datasense_assets_tests.ingest.conftest import FakeSource, World, at


def test_no_settings_of_the_user_reach_dlt(
    world: World, org: Organization, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".dlt").mkdir()
    (tmp_path / ".dlt" / "secrets.toml").write_text("broken = [\n[destination.postgres.credentials]\nhost='nowhere'")
    (tmp_path / ".dlt" / "config.toml").write_text("broken = [")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DESTINATION__POSTGRES__CREDENTIALS__HOST", "nowhere")
    monkeypatch.setenv("RESTORE_FROM_DESTINATION", "true")
    source = world.source(org)
    with world.open(org, source, FakeSource({"visits": [{"_id": "a", "_at": at(0), "n": "1"}]})) as sync:
        prepared = sync.prepare(world.tables(source)["visits"])
        assert prepared.pipeline.config.restore_from_destination is False
        assert prepared.pipeline.run_context.runtime_config.dlthub_telemetry is False
        assert world.scratch in Path(prepared.pipeline.working_dir).parents
        assert prepared.pipeline.pipeline_name == "acme_forms"
        prepared.run()
        assert sync.finish(prepared)[0].row_count == 1


def test_our_copies_of_dlts_tables_are_as_dlt_makes_them(
    world: World, org: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = world.source(org)
    world.sync(org, source, FakeSource({"visits": [{"_id": "a", "_at": at(0), "n": "1"}]}))
    tables = [("org_acme", "_dlt_version"), ("org_acme", "_dlt_loads"), ("staging_org_acme", "_dlt_version")]
    ours = [world.types(*table) for table in tables]
    for table in tables:
        world.execute(f"DROP TABLE {'.'.join(table)}")
    monkeypatch.setattr(schema, "dlt_tables", lambda *_: None)
    world.sync(org, source, FakeSource({"visits": [{"_id": "b", "_at": at(1), "n": "2"}]}))
    assert [world.types(*table) for table in tables] == ours


def test_running_a_load_without_news_does_no_harm(world: World, org: Organization) -> None:
    source = world.source(org)
    fake = FakeSource({"visits": [{"_id": "a", "_at": at(0), "n": "1"}]})
    world.sync(org, source, fake)
    with world.open(org, source, fake) as sync:
        prepared = sync.prepare(world.tables(source)["visits"])
        assert not prepared.needs_load
        prepared.pipeline.run(prepared.dlt_source)
        assert sync.finish(prepared)[0].rows_loaded == 0


def test_the_org_role_owns_what_was_loaded_and_the_reader_may_read(world: World, org: Organization) -> None:
    source = world.source(org)
    world.sync(org, source, FakeSource({"visits": [{"_id": "a", "_at": at(0), "n": "1"}]}))
    with psycopg.connect(world.url) as connection:
        owner = connection.execute("SELECT tableowner FROM pg_tables WHERE tablename = 'forms__visits'").fetchall()
        target = world.target(org)
        assert set(owner) == {(target.user,)}
        connection.execute(f"SET ROLE {target.read_role}")
        assert connection.execute("SELECT n FROM org_acme.forms__visits").fetchall() == [(1,)]


@pytest.mark.parametrize("history", [True, False], ids=["upsert", "mirror"])
@pytest.mark.parametrize("merge", [True, False], ids=["as the server can", "without merge"])
def test_a_server_without_merge_holds_the_same(
    world: World, org: Organization, monkeypatch: pytest.MonkeyPatch, history: bool, merge: bool
) -> None:
    if not merge:
        monkeypatch.setattr(dlt_jobs, "MERGE_SINCE", 999_999)
    source = world.source(org)
    first = [
        {"_id": i, "_at": at(0), "n": n, "empty": None} for i, n in (("same", "1"), ("edited", "2"), ("gone", "3"))
    ]
    world.sync(org, source, FakeSource({"visits": first}, history=history))
    before = dict(world.rows("org_acme.forms__visits", "_ds_row_id, _ds_loaded_at"))
    # a full read stages every row again, also the one that is as it was
    second = [first[0], {**first[1], "n": None}, {"_id": "new", "_at": at(1), "n": "4", "empty": None}]
    report = world.sync(org, source, FakeSource({"visits": second}, history=history), full=True)
    kept = [("gone", 3)] if history else []
    assert world.rows("org_acme.forms__visits", "_ds_row_id, n") == [("edited", None), *kept, ("new", 4), ("same", 1)]
    assert (report.rows_loaded, report.row_count) == (2, 3 + len(kept))
    after = dict(world.rows("org_acme.forms__visits", "_ds_row_id, _ds_loaded_at"))
    assert after["same"] == before["same"]
    assert after["edited"] > before["edited"]


@pytest.mark.parametrize("merge", [True, False], ids=["as the server can", "without merge"])
def test_json_is_merged_and_left_alone_when_it_is_the_same(
    world: World, org: Organization, monkeypatch: pytest.MonkeyPatch, merge: bool
) -> None:
    if not merge:
        monkeypatch.setattr(dlt_jobs, "MERGE_SINCE", 999_999)
    source = world.source(org, types={"place": ColumnType.JSON})
    loaded = []
    for value in ('{"a": 1, "b": null}', '{"b":null,"a":1}', '{"a": 2}', None, None):
        rows = [{"_id": "a", "_at": at(0), "place": value}, {"_id": "b", "_at": at(0), "place": "[]"}]
        loaded.append(world.sync(org, source, FakeSource({"visits": rows}), full=True).rows_loaded)
    assert loaded == [2, 0, 1, 1, 0]
    assert world.rows("org_acme.forms__visits", "place") == [(None,), ([],)]
    assert world.types("org_acme", "forms__visits")["place"] == "jsonb"


TEXTS = ('"', "\\N", "null", "a,b", 'she said "no"', "two\nlines", "two\r\nlines", "\\", " ", "नमस्ते", None)
TYPED = {"number": "-1234.5", "whole": "-9007199254740993", "day": "1999-12-31", "moment": at(3), "yes": "true"}


@pytest.mark.parametrize("few", [10_000, 0], ids=["few rows", "many rows"])
def test_every_value_arrives_as_it_is_whichever_way_its_rows_go(
    world: World, org: Organization, monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    monkeypatch.setattr(copying, "FEW_ROWS", few)
    ways: list[bool] = []
    connect = copying.CopyJob._connect
    monkeypatch.setattr(copying.CopyJob, "_connect", lambda self: (ways.append(True), connect(self))[1])
    source = world.source(org)
    rows = [{"_id": f"{n:02d}", "_at": at(0), "said": text, **TYPED} for n, text in enumerate(TEXTS)]
    rows.append({"_id": "99", "_at": at(0), "said": None, **dict.fromkeys(TYPED)})
    world.sync(org, source, FakeSource({"visits": rows}))
    assert ways == ([] if few else [True])
    found = world.rows("org_acme.forms__visits", "_ds_row_id, said, number, whole, day::text, moment, yes")
    assert [row[1] for row in found] == [*TEXTS, None]
    assert found[-1][2:] == (None,) * 5
    assert {row[2:5] for row in found[:-1]} == {(-1234.5, -9007199254740993, "1999-12-31")}
    assert {(row[5].isoformat(), row[6]) for row in found[:-1]} == {(at(3), True)}


def test_what_old_servers_would_take_for_the_end_of_the_rows_goes_the_other_way(
    world: World, org: Organization
) -> None:
    source = world.source(org)
    texts = ["before", "one\n\\.\ntwo", "\\.", "after"]
    rows = [{"_id": str(n), "_at": at(0), "said": text} for n, text in enumerate(texts)]
    world.sync(org, source, FakeSource({"visits": rows}))
    assert sorted(row[0] for row in world.rows("org_acme.forms__visits", "said")) == sorted(texts)


def test_an_interrupted_load_stops_between_two_batches_and_leaves_the_table(
    world: World, org: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scratch, "BATCH_ROWS", 5)
    monkeypatch.setattr(copying, "FEW_ROWS", 0)
    source = world.source(org)
    fake = FakeSource({"visits": [{"_id": f"r{i:03d}", "_at": at(i), "n": "1"} for i in range(100)]}, page_rows=5)
    typed, type_rows = [], rows._typed

    def interrupt(*args: Any) -> Any:
        typed.append(1)
        if len(typed) == 2:
            os.kill(os.getpid(), signal.SIGINT)
            while not signals.was_signal_received():
                time.sleep(0.01)
        return type_rows(*args)

    with monkeypatch.context() as patch:
        patch.setattr(rows, "_typed", interrupt)
        with pytest.raises(KeyboardInterrupt):
            world.sync(org, source, fake)
    assert len(typed) in (2, 3)
    assert world.rows("org_acme.forms__visits", "count(*)", "1") == [(0,)]
    assert world.sync(org, source, fake).row_count == 100
