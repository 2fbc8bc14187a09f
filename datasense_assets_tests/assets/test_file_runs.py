"""Sources that are files, through a run: the documented manifest, what is skipped, what the materialization says."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import Any

import openpyxl
import pytest
import yaml

from datasense_assets.running.tags import FULL
from datasense_assets_tests.assets.conftest import Yard
from datasense_assets_tests.places import today
from datasense_assets_tests.stand_ins.s3 import KEY, SECRET, serve


def documented() -> list[dict[str, Any]]:
    text = (Path(__file__).parents[2] / "docs" / "connectors.md").read_text()
    found = re.search(r"<!-- manifest example: files -->\n```yaml\n(.*?)```", text, re.S)
    assert found is not None
    sources: list[dict[str, Any]] = yaml.safe_load(found[1])["sources"]
    return sources


def write_examples(folder: Path) -> None:
    (folder / "rain").mkdir(parents=True)
    with zipfile.ZipFile(folder / "census.zip", "w") as archive:
        archive.writestr("villages.csv", "code,name\n007,Ásgarður\n008,b,c\n009\n")
        archive.writestr("towns.csv", "code\n1\n")
    (folder / "rain" / "jan.csv").write_text("station;day;mm\n1;2026-01-01;1.5\n")
    (folder / "rain" / "feb.csv").write_text("station;day;mm\n1;2026-02-01;2\n")
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.title = "Plan"
    for row in (["Budget 2026"], ["Line", "Cost", None], [None, "plan", "spent"], ["wells", 10, 2.5]):
        sheet.append(row)
    sheet.merge_cells("B2:C2")
    book.save(folder / "budget.xlsx")


def test_the_documented_manifest_loads_and_what_has_not_changed_is_not_loaded_again(
    yard: Yard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_examples(tmp_path / "data")
    monkeypatch.setenv("CLEAN_WATER_S3_KEY", KEY)
    monkeypatch.setenv("CLEAN_WATER_S3_SECRET", SECRET)
    with serve() as bucket:
        bucket.write("clean-water", "events/one.jsonl", b'{"id": 1, "at": {"day": "2026-01-01"}}\nnothing\n')
        sources = documented()
        for source in sources:
            url = source["config"]["url"]
            if url.startswith("s3://"):
                source["config"]["endpoint_url"] = bucket.url
            else:
                source["config"]["url"] = str(tmp_path / url)
            source.setdefault("tables", [{"slug": "villages", "resource": "villages.csv"}])
        yard.apply(*sources)
        slugs = [source["slug"] for source in sources]
        first = {slug: yard.run(f"clean_water/{slug}", partition=today()) for slug in slugs}
        again = {slug: yard.run(f"clean_water/{slug}", partition=today()) for slug in slugs}
    assert yard.rows("SELECT code, name FROM org_clean_water.census__villages") == [("007", "Ásgarður"), ("009", None)]
    assert yard.rows("SELECT station, mm, file FROM org_clean_water.rainfall__days ORDER BY mm") == [
        (1, 1.5, "jan.csv"),
        (1, 2.0, "feb.csv"),
    ]
    assert yard.rows("SELECT line, cost_plan, cost_spent FROM org_clean_water.budget__plan") == [("wells", 10, 2.5)]
    assert [str(row) for row in yard.rows("SELECT id, at_day::text FROM org_clean_water.events__events")] == [
        "(1, '2026-01-01')"
    ]
    said = {slug: next(iter(done.materialized.values())) for slug, done in first.items()}
    counts = ("rows_read", "dagster/row_count", "rows_rejected", "rows_padded")
    assert [said["census"][name] for name in counts] == [3, 2, 1, 1]
    assert [said["events"][name] for name in counts] == [2, 1, 1, 0]
    lines = "SELECT line FROM org_clean_water."
    assert yard.rows(lines + "census__villages__rejected") == yard.rows("SELECT 3::bigint")
    assert yard.rows(lines + "events__events__rejected") == yard.rows("SELECT 2::bigint")
    for slug, done in again.items():
        (metadata,) = done.materialized.values()
        assert (slug, metadata["rows_loaded"]) == (slug, 0)
        assert "unchanged since 20" in str(metadata["notes"])
        assert metadata["data_version"] == said[slug]["data_version"]
        assert metadata["rows_rejected"] == said[slug]["rows_rejected"]
    assert next(iter(again["events"].materialized.values()))["api_calls"] == 1


def test_a_renamed_sheet_and_an_emptied_file_fail_and_the_tables_stay(yard: Yard, tmp_path: Path) -> None:
    write_examples(tmp_path / "data")
    path = tmp_path / "data" / "budget.xlsx"
    source = {"slug": "budget", "connector": "file", "config": {"url": str(path), "header_row": [2, 3]}}
    yard.apply({**source, "tables": [{"slug": "plan", "resource": "Plan"}]})
    assert yard.run("clean_water/budget", partition=today()).success
    book = openpyxl.load_workbook(path)
    book["Plan"].title = "Plan 2027"
    book.create_sheet("Other")["A1"] = "x"
    book.save(path)
    renamed = yard.run("clean_water/budget", partition=today())
    assert "Plan 2027" in renamed.failures[0]
    path.write_bytes(b"")
    assert "empty" in yard.run("clean_water/budget", partition=today()).failures[0]
    assert yard.rows("SELECT count(*) FROM org_clean_water.budget__plan") == [(1,)]


@pytest.mark.parametrize("connector", ["csv", "file"])
def test_a_member_that_is_broken_fails_alone(yard: Yard, tmp_path: Path, connector: str) -> None:
    path = tmp_path / "census.zip"

    def write(**members: str) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            for name, text in members.items():
                archive.writestr(f"{name}.csv", text)

    write(towns="code\n1\n", villages="code\n1\n")
    tables = [{"slug": name, "resource": f"{name}.csv"} for name in ("towns", "villages")]
    yard.apply({"slug": "census", "connector": connector, "config": {"url": str(path)}, "tables": tables})
    assert yard.run("clean_water/census", partition=today()).success
    write(towns="", villages="code\n1\n2\n")
    done = yard.run("clean_water/census", partition=today())
    assert not done.success
    assert "towns.csv in" in done.failures[0]
    assert [key[2] for key in done.materialized] == ["villages"]
    assert yard.rows("SELECT count(*) FROM org_clean_water.census__towns") == [(1,)]
    assert yard.rows("SELECT count(*) FROM org_clean_water.census__villages") == [(2,)]


def test_a_title_above_the_header_is_no_new_header_and_another_table_comes_by_a_full_sync(
    yard: Yard, tmp_path: Path
) -> None:
    path = tmp_path / "wells.csv"
    path.write_text("name,depth,\na,1,x\nb,2,y\n")
    source = {"slug": "wells", "connector": "csv", "config": {"url": str(path)}}
    tables = [{"slug": "wells", "resource": "wells.csv"}]
    yard.apply({**source, "tables": tables})
    assert yard.run("clean_water/wells", partition=today()).success
    loaded = "SELECT name, depth FROM org_clean_water.wells__wells ORDER BY 1"
    before = yard.rows(loaded)
    path.write_text("Wells of 2026,,\nname,depth,\na,1,x\nb,3,y\n")
    moved = yard.run("clean_water/wells", partition=today())
    assert "not one of the columns of the last load (name, depth, column 3)" in moved.failures[0]
    assert "header now holds Wells of 2026, column 2, column 3. The table stays as it was." in moved.failures[0]
    assert yard.rows(loaded) == before
    yard.apply({**source, "config": {"url": str(path), "header_row": 2}, "tables": tables})
    assert yard.run("clean_water/wells", partition=today()).success
    assert yard.rows(loaded) == [("a", 1), ("b", 3)]
    yard.apply({**source, "tables": tables})
    path.write_text("NAME,Ort\na,K\u00f6ln\n")  # one of them, written otherwise
    assert yard.run("clean_water/wells", partition=today()).success
    path.write_text("pump,year\np1,2026\n")
    assert not yard.run("clean_water/wells", partition=today()).success
    assert yard.run("clean_water/wells", partition=today(), **{FULL: "true"}).success
    assert yard.rows("SELECT pump, year FROM org_clean_water.wells__wells") == [("p1", 2026)]
    assert yard.run("clean_water/wells", partition=today()).success
