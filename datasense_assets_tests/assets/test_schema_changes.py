"""A source that changes its shape: nothing is lost, and catalog, materialization and status say what it breaks."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from datasense_assets.catalog.lateness import late_sources
from datasense_assets.catalog.status import State, organization_status
from datasense_assets.cli.main import app
from datasense_assets.running.owners import catalog_engine
from datasense_assets.running.tags import FULL
from datasense_assets_tests.assets.conftest import TOKEN, Yard
from datasense_assets_tests.assets.test_source_runs import FORM, FORMS, file, forms
from datasense_assets_tests.places import today
from examples.kobo_faults import missing
from examples.kobo_form import Form
from examples.kobo_stand_in import serve

WELLS = "clean_water/wells/wells"
DEEP = {
    "version": 1,
    "name": "deep",
    "inputs": {"wells": "source:wells.wells"},
    "steps": [{"op": "filter", "where": {"column": "depth", "operator": ">", "value": 5}}],
}
DEEPEST = {
    "version": 1,
    "name": "deepest",
    "inputs": {"deep": "recipe:deep"},
    "steps": [{"op": "sort", "by": ["-depth"]}],
}
NAMES = {
    "version": 1,
    "name": "names",
    "inputs": {"wells": "source:wells.wells"},
    "steps": [{"op": "select", "columns": ["name"]}],
}


def events(yard: Yard) -> list[tuple[Any, ...]]:
    query = "SELECT kind, column_name, old_type, new_type, affects FROM datasense.schema_changes ORDER BY id"
    return [
        (kind, column, old, new, {each["recipe"]: each["effect"] for each in affects})
        for kind, column, old, new, affects in yard.rows(query)
    ]


def status(path: str) -> list[str]:
    shown = CliRunner().invoke(app, ["status", "--json"])
    rows = {row["path"]: row for row in json.loads(shown.stdout)["rows"]}
    return list(rows[path]["schema_changes"])


def sync(yard: Yard, path: str = WELLS) -> dict[str, Any]:
    done = yard.run(path, partition=today())
    assert done.success, done.failures
    metadata: dict[str, Any] = next(iter(done.materialized.values()))
    return metadata


def test_a_file_that_changes_its_columns_keeps_data_and_names_what_breaks(yard: Yard, tmp_path: Path) -> None:
    path = tmp_path / "wells.csv"
    path.write_text("name,depth,owner\na,1,x\nb,7,y\n")
    tables = [{"slug": "wells", "resource": "wells.csv"}]
    yard.apply(file(path, tables=tables), recipes=[DEEP, DEEPEST, NAMES])
    assert sync(yard)["schema_changes"] == []
    path.write_text("name,depth,colour\na,1,red\nb,deep,blue\n")
    said = sync(yard)["schema_changes"]
    both = {"deep": "breaks", "deepest": "breaks"}
    assert events(yard) == [
        ("added", "colour", None, "text", {}),
        ("retyped", "depth", "integer", "text", both),
        ("removed", "owner", "text", None, {"deep": "uses", "deepest": "uses"}),
    ]
    rows = yard.rows("SELECT name, depth, owner, colour FROM org_clean_water.wells__wells ORDER BY name")
    assert rows == [("a", "1", None, "red"), ("b", "deep", None, "blue")]
    retyped = next(each for each in said if each["kind"] == "retyped")
    assert (retyped["breaks"], retyped["old_type"], retyped["new_type"]) == (["deep", "deepest"], "integer", "text")
    shown = status("clean-water/wells/wells")
    assert "column depth is text and no longer integer; it breaks deep, deepest" in shown
    assert any("owner" in each and "without new values" in each for each in shown)
    assert sync(yard)["schema_changes"] == []
    path.write_text("name,depth,owner,colour\na,1,z,red\n")
    assert [(each["kind"], each["column"]) for each in sync(yard)["schema_changes"]] == [("returned", "owner")]
    assert yard.rows("SELECT owner FROM org_clean_water.wells__wells") == [("z",)]


def test_a_form_that_changes_is_told_question_by_question(yard: Yard, kobo: Any) -> None:
    yard.apply(forms(kobo, partitions={"start": today(ago=30)}))
    sync(yard, f"{FORMS}/visits")
    form = kobo.site.accounts["demo-token-of-clean-water"][0]
    survey = form.content["survey"]
    asked = [row for row in survey if row["type"] in ("integer", "decimal", "text") and row.get("label")]
    gone, renamed = asked[0], asked[1]
    try:
        survey.remove(gone)
        label, renamed["label"] = renamed["label"], ["As it is called now", *renamed["label"][1:]]
        changes = sync(yard, f"{FORMS}/visits")["schema_changes"]
        assert sorted(each["kind"] for each in changes) == ["relabelled", "removed"]
        assert next(each["new_label"] for each in changes if each["kind"] == "relabelled") == "As it is called now"
        comments = yard.rows(
            "SELECT col_description('org_clean_water.health_forms__visits'::regclass, attnum) FROM pg_attribute "
            "WHERE attrelid = 'org_clean_water.health_forms__visits'::regclass AND attnum > 0"
        )
        assert ("As it is called now",) in comments
        assert sync(yard, f"{FORMS}/visits")["schema_changes"] == []
        assert len(status("clean-water/health-forms/visits")) == 2
    finally:
        renamed["label"] = label
        survey.insert(0, gone)


def test_a_repeat_group_that_a_form_has_no_more_is_told_once_whatever_old_submissions_hold(yard: Yard) -> None:
    survey = [
        {"type": "text", "name": "name"},
        {"type": "begin_repeat", "name": "kids"},
        {"type": "integer", "name": "age"},
        {"type": "end_repeat"},
    ]
    form = Form("aHomes", "Homes", {"survey": survey})
    day = timedelta(days=1)
    form.add({"name": "old", "kids": [{"kids/age": "7"}]}, at=datetime.now(UTC) - 40 * day)
    with serve([form], token=TOKEN) as server:
        source = {"slug": "homes", "connector": "kobo", "config": {"base_url": server.url}, "schedule": "daily"}
        source |= {"credentials": {"token": {"env": "CLEAN_WATER_KOBO_TOKEN"}}, "partitions": {"start": today(ago=45)}}
        yard.apply({**source, "tables": [{"slug": "homes", "resource": "aHomes"}]})
        path = "clean_water/homes"
        assert yard.run(path, partition=today()).success
        survey[1]["name"] = "children"
        form.add({"name": "new", "children": [{"children/age": "5"}]}, at=datetime.now(UTC) - day)
        for full in ({}, {FULL: "true"}, {}, {FULL: "true"}, {}):
            assert yard.run(path, partition=today(), **full).success
        told = [kind for kind, column, *_ in events(yard) if column is None]
        assert told == ["table_removed"]
        assert yard.rows("SELECT kids_age FROM org_clean_water.homes__homes__kids") == [(7,)]
        assert yard.rows("SELECT children_age FROM org_clean_water.homes__homes__children") == [(5,)]
        with catalog_engine().connect() as connection:
            later = datetime.now(UTC) + 5 * day
            states = {row.path: row for row in organization_status(connection, "clean-water", now=later)}
            assert [late.subject for late in late_sources(connection, later)] == ["homes"]
            yard.execute(
                "UPDATE datasense.table_status SET fresh_as_of = now() + interval '5 days' WHERE gone_since IS NULL"
            )
            assert list(late_sources(connection, later)) == []
        assert states["clean-water/homes/homes"].state == State.LATE
        gone = states["clean-water/homes/homes__kids"]
        assert (gone.state, gone.late) == (State.GONE, False)
        assert "The source has not had it since" in gone.why
        form.delete(1)
        yard.apply({**source, "deletes": "remove", "tables": [{"slug": "homes", "resource": "aHomes"}]})
        assert yard.run(path, partition=today()).success
        assert yard.rows("SELECT count(*) FROM org_clean_water.homes__homes__kids") == [(0,)]
        yard.execute("DROP TABLE org_clean_water.homes__homes__kids")
        for _ in range(2):
            assert yard.run(path, partition=today()).success
        asked = [request.query.get("query", "") for request in server.requests if request.path.endswith("/data/")]
        assert "_submission_time" in [each for each in asked if each][-1]  # it is read on, and not all of it again
        survey[1]["name"] = "kids"
        assert yard.run(path, partition=today()).success
        assert [kind for kind, column, *_ in events(yard) if column is None][1:] == ["table_removed", "table_returned"]


def test_a_form_that_is_gone_stays_as_it_was_and_its_readers_are_named(yard: Yard, kobo: Any) -> None:
    reader = {
        "version": 1,
        "name": "monthly",
        "inputs": {"visits": "source:health_forms.visits"},
        "steps": [{"op": "limit", "rows": 5}],
    }
    yard.apply(forms(kobo, partitions={"start": today(ago=30)}), recipes=[reader])
    sync(yard, f"{FORMS}/visits")
    before = yard.rows("SELECT count(*) FROM org_clean_water.health_forms__visits")
    with_fault = missing()
    kobo.fail(with_fault)
    done = yard.run(f"{FORMS}/visits", partition=today())
    assert not done.success
    assert FORM in done.failures[0]
    assert "monthly" in done.failures[0]
    assert [(kind, affects) for kind, _, _, _, affects in events(yard)] == [("table_removed", {"monthly": "uses"})]
    assert yard.rows("SELECT count(*) FROM org_clean_water.health_forms__visits") == before
    assert any("no longer has this table" in each for each in status("clean-water/health-forms/visits"))
    yard.execute("DELETE FROM datasense.pauses")
    assert sync(yard, f"{FORMS}/visits")["schema_changes"][0]["kind"] == "table_returned"
