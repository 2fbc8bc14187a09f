"""Runs of a Google Sheets source, from the manifest to typed rows in the warehouse."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import pytest

from datasense_assets_tests.assets.conftest import Yard
from datasense_assets_tests.places import today
from datasense_assets_tests.stand_ins.google_book import Book, Cell, Tab
from datasense_assets_tests.stand_ins.google_sheets import Account, serve

ACCOUNT = Account("reader@project.iam.gserviceaccount.com")


def columns_of(yard: Yard, table: str) -> dict[str, str]:
    found = yard.rows(
        "SELECT column_name, data_type FROM information_schema.columns WHERE table_schema = 'org_clean_water' "
        "AND table_name = %s AND column_name NOT LIKE '\\_%%' ORDER BY ordinal_position",
        table,
    )
    return dict(found)


def test_a_spreadsheet_becomes_typed_tables_and_follows_its_changes(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[list[Any]] = [
        ["Budget", None, None, None, None],
        ["Item", "दिन", "Share", "Fee", "Fee"],
        ["Pump", date(2026, 3, 1), Cell(0.25, "PERCENT"), Cell(1200, "CURRENCY"), True],
        ["Pipe", date(2026, 3, 2), Cell(1, "PERCENT"), Cell(99.5, "CURRENCY"), False],
    ]
    tabs = [Tab("Lines", lines), Tab("Visits", [["", ""], ["At"], [datetime(2026, 3, 1, 9, 30)]]), Tab("Empty")]
    book = Book("b1", "Field book", tabs, {ACCOUNT.email})
    with serve([book], [ACCOUNT]) as google:
        monkeypatch.setenv("GOOGLE_KEY", ACCOUNT.key(google.url))
        source = {
            "slug": "budget",
            "connector": "google_sheets",
            "config": {"spreadsheet": "b1", "header_row": 2, "api_base_url": google.url},
            "credentials": {"service_account": {"env": "GOOGLE_KEY"}},
            "tables": [{"slug": "lines", "resource": "Lines"}, {"slug": "visits", "resource": "Visits"}],
        }
        yard.apply(source)
        done = yard.run("clean_water/budget", partition=today())
        assert done.success, done.failures
        assert len(google.reads()) == 3
        types = columns_of(yard, "budget__lines")
        assert list(types.values()) == ["text", "date", "double precision", "double precision", "boolean"]
        names = ", ".join(f'"{name}"' for name in types)
        assert yard.rows(f"SELECT {names} FROM org_clean_water.budget__lines ORDER BY 1 DESC") == [
            ("Pump", date(2026, 3, 1), 0.25, 1200.0, True),
            ("Pipe", date(2026, 3, 2), 1.0, 99.5, False),
        ]
        assert yard.rows("SELECT at FROM org_clean_water.budget__visits") == [(datetime(2026, 3, 1, 4, tzinfo=UTC),)]

        again = yard.run("clean_water/budget", partition=today())
        assert again.success, again.failures
        assert {metadata["rows_loaded"] for metadata in again.materialized.values()} == {0}
        assert all("unchanged since 20" in str(metadata["notes"]) for metadata in again.materialized.values())
        assert len(google.reads()) == 3
        assert sum(metadata["api_calls"] for metadata in again.materialized.values()) == 2

        lines.pop(2)
        lines.append(["Well", "soon", 2, 3, True, "new"])
        book.modified = "2026-03-02T10:00:00.000Z"
        changed = yard.run("clean_water/budget/lines", partition=today())
        assert changed.success, changed.failures
        types = columns_of(yard, "budget__lines")
        assert types["din"] == "text"
        assert yard.rows("SELECT item, din, column_6 FROM org_clean_water.budget__lines ORDER BY 1") == [
            ("Pipe", "2026-03-02", None),
            ("Well", "soon", "new"),
        ]

        book.tabs[0].title = "Lines 2027"
        book.modified = "2026-03-03T10:00:00.000Z"
        book.shared.clear()
        refused = yard.run("clean_water/budget/visits", partition=today())
        assert not refused.success
        assert "Share the spreadsheet with reader@project.iam.gserviceaccount.com" in refused.failures[0]
        book.shared.add(ACCOUNT.email)
        renamed = yard.run("clean_water/budget/lines", partition=today())
        assert "There are: Lines 2027, Visits, Empty" in renamed.failures[0]
        assert yard.rows("SELECT count(*) FROM org_clean_water.budget__lines") == [(2,)]
        assert "ya29." not in str(refused.failures + renamed.failures)


def test_a_header_that_moved_down_or_up_leaves_the_table_and_says_what_is_there_now(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[list[Any]] = [["Budget", None, None], ["Item", "Cost", None], ["Pump", 1200, "new"], ["Pipe", 99, None]]
    book = Book("b1", "Field book", [Tab("Lines", lines)], {ACCOUNT.email})
    with serve([book], [ACCOUNT]) as google:
        monkeypatch.setenv("GOOGLE_KEY", ACCOUNT.key(google.url))

        def run(header_row: int) -> str:
            config = {"spreadsheet": "b1", "header_row": header_row, "api_base_url": google.url}
            source = {"slug": "budget", "connector": "google_sheets", "config": config}
            source |= {"credentials": {"service_account": {"env": "GOOGLE_KEY"}}}
            yard.apply({**source, "tables": [{"slug": "lines", "resource": "Lines"}]})
            book.touch()
            done = yard.run("clean_water/budget", partition=today())
            return " ".join(done.failures)

        assert run(2) == ""
        loaded = yard.rows("SELECT item, cost, column_3 FROM org_clean_water.budget__lines ORDER BY 1")
        assert loaded == [("Pipe", 99, None), ("Pump", 1200, "new")]
        lines.insert(0, ["For the board", None, None])
        assert "its header now holds Budget, column 2, column 3" in run(2)
        del lines[:2]
        assert "its header now holds Pump, 1200, new" in run(2)
        assert yard.rows("SELECT item, cost, column_3 FROM org_clean_water.budget__lines ORDER BY 1") == loaded
        assert run(1) == ""
        assert yard.rows("SELECT item, cost, column_3 FROM org_clean_water.budget__lines ORDER BY 1") == loaded


def test_all_tabs_are_found_and_loaded_where_the_manifest_names_none(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    tabs = [Tab("गाँव सूची", [["Village"], ["Rampur"]]), Tab("Fees 2026", [["Fee"], [12]]), Tab("Empty")]
    with serve([Book("b1", "Field book", tabs, {ACCOUNT.email})], [ACCOUNT]) as google:
        monkeypatch.setenv("GOOGLE_KEY", ACCOUNT.key(google.url))
        yard.apply(
            {
                "slug": "budget",
                "connector": "google_sheets",
                "config": {"spreadsheet": "b1", "api_base_url": google.url},
                "credentials": {"service_account": {"env": "GOOGLE_KEY"}},
            }
        )
        done = yard.run("clean_water/budget")
        assert done.success, done.failures
        found = yard.rows("SELECT resource, warehouse_name FROM datasense.source_tables ORDER BY id")
        assert [resource for resource, _ in found] == ["गाँव सूची", "Fees 2026"]
        done = yard.run("clean_water/budget", partition=today())
        assert done.success, done.failures
        assert [yard.rows(f'SELECT count(*) FROM org_clean_water."{name}"') for _, name in found] == [[(1,)], [(1,)]]
