from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from typing import Any

import openpyxl
import pytest

from datasense_assets.cli.here import instance_for_runs
from datasense_assets_tests.cli.conftest import CommandLine
from datasense_assets_tests.platform.running import until
from examples.kobo_stand_in import serve
from examples.make_submissions import demo_accounts

pytestmark = pytest.mark.xdist_group("cli-runs")


@pytest.fixture
def towns(datasense: CommandLine) -> CommandLine:
    """The organisation with its one CSV source, applied."""
    datasense("apply", datasense.manifest())
    return datasense


def schema(datasense: CommandLine) -> str:
    return f"org_{datasense.org.replace('-', '_')}"


def test_a_local_sync_loads_here_and_now(towns: CommandLine) -> None:
    result = towns("sync", towns.org, "--local", "--json")
    (run,) = result.document["runs"]
    assert run["status"] == "done"
    assert run["tables"][0]["rows"] == run["tables"][0]["rows_loaded"] == 3
    assert towns.rows(f"SELECT count(*) FROM {schema(towns)}.places__towns") == [(3,)]
    (again,) = towns("sync", f"{towns.org}/places/towns", "--local", "--json").document["runs"]
    assert again["tables"][0]["rows_loaded"] == 0
    assert towns("status", "--json").document["rows"][0]["state"] == "manual"
    listed = towns("list", "runs", "--org", towns.org, "--json").document["runs"]
    assert [entry["status"] for entry in listed] == ["success", "success"]
    assert {entry["lane"] for entry in listed} == {"interactive"}


def test_what_bypasses_the_queue_waits_for_a_place_in_its_connectors_pool(towns: CommandLine) -> None:
    towns("limits", "set", "connector", "csv", "1")
    with instance_for_runs() as instance, ThreadPoolExecutor(1) as beside:
        pool = instance.event_log_storage
        assert pool.claim_concurrency_slot("connector_csv", "another-run", "its-step").is_claimed
        sync = beside.submit(towns, "sync", towns.org, "--local")
        try:
            until("it waits", lambda: len(pool.get_concurrency_info("connector_csv").pending_steps) == 2)
            assert towns.rows("SELECT to_regclass(%s) IS NULL", f"{schema(towns)}.places__towns") == [(True,)]
        finally:
            pool.free_concurrency_slots_for_run("another-run")
        assert sync.result(timeout=120).code == 0
    assert towns.rows(f"SELECT count(*) FROM {schema(towns)}.places__towns") == [(3,)]


def test_why_a_column_stays_text_is_said_by_the_sync_and_by_the_status_until_it_is_mended(
    datasense: CommandLine,
) -> None:
    bills = datasense.write("bills.csv", 'paid,on\n"1.234,50",31/12/2025\n"2,00",01/02/2026\n')

    def apply(**types: str) -> None:
        table = {"slug": "bills", "resource": "bills.csv", "types": types}
        source = {"slug": "places", "connector": "csv", "config": {"url": str(bills)}, "tables": [table]}
        datasense("apply", datasense.manifest(sources=[{**source, "schedule": "manual"}]))

    apply()
    result = datasense("sync", datasense.org, "--local")
    words = " ".join(result.words.split())
    assert "/places/bills: paid: holds numbers with a decimal comma or with thousands apart" in words
    assert "/places/bills: on: holds dates that can be read in more than one way" in words
    assert "Column paid holds numbers with a" in " ".join(datasense("status").out.split())
    (row,) = datasense("status", "--json").document["rows"]
    assert [note.partition(" ")[0] for note in row["column_notes"]] == ["on", "paid"]
    bills.write_text('paid,on\n"1234.50",2025-12-31\n')
    apply(paid="number", on="text")
    (run,) = datasense("sync", datasense.org, "--local", "--json").document["runs"]
    assert run["tables"][0]["notes"] == []
    assert datasense("status", "--json").document["rows"][0]["column_notes"] == []
    assert datasense.rows(f'SELECT paid, "on" FROM {schema(datasense)}.places__bills') == [(1234.5, "2025-12-31")]


def test_what_a_workbook_did_not_hold_is_said_with_its_place_until_it_is_saved_with_it(datasense: CommandLine) -> None:
    path = datasense.folder / "bills.xlsx"

    def write(*sums: object) -> None:
        book = openpyxl.Workbook()
        for line in (["paid", "with tax", "tax"], *([n, total, "18%"] for n, total in enumerate(sums))):
            book.active.append(line)
        book.save(path)

    # a program that writes formulas, and calculates none
    write("=A2*1.18", "=A3*1.18")
    source = {"slug": "places", "connector": "file", "config": {"url": str(path)}, "schedule": "manual"}
    tables = [{"slug": "bills", "resource": "Sheet"}]
    datasense("apply", datasense.manifest(sources=[{**source, "tables": tables}]))
    words = " ".join(datasense("sync", datasense.org, "--local").words.split())
    assert "with tax: has a formula without its result in 2 cells (B2, B3), loaded as empty. Open the file in" in words
    assert "tax: holds numbers with a percent sign or a currency" in words
    (row,) = datasense("status", "--json").document["rows"]
    assert [note.partition(" ")[0] for note in row["column_notes"]] == ["tax", "with_tax"]
    assert "save it again" in row["column_notes"][1]
    assert "(B2, B3)" in " ".join(datasense("status").out.split())
    write(0, 1.18)
    datasense("sync", datasense.org, "--local")
    (row,) = datasense("status", "--json").document["rows"]
    assert [note.partition(" ")[0] for note in row["column_notes"]] == ["tax"]
    assert datasense.rows(f"SELECT with_tax FROM {schema(datasense)}.places__bills ORDER BY 1") == [(0.0,), (1.18,)]


def test_a_column_that_may_not_have_its_name_is_told_the_name_it_has_once(datasense: CommandLine) -> None:
    file = datasense.write("own.csv", "oid,_ds_row_id,_dlt_id,_ds_mine\n1,a,b,c\n")
    source = {"slug": "places", "connector": "csv", "config": {"url": str(file)}, "schedule": "manual"}
    datasense("apply", datasense.manifest(sources=[source]))
    words = " ".join(datasense("sync", datasense.org, "--local").words.split())
    named = {"oid": "c_oid", "_ds_row_id": "c_ds_row_id_2", "_dlt_id": "c_dlt_id", "_ds_mine": "c_ds_mine"}
    for label, name in named.items():
        assert f"{label}: is named {name}, since such names are the platform's or Postgres's own" in words
    found = datasense.rows(f"SELECT {', '.join(named.values())} FROM {schema(datasense)}.places__own")
    assert found == [(1, "a", "b", "c")]
    assert "is named" not in datasense("sync", datasense.org, "--local", "--full").words


def test_a_local_sync_finds_the_tables_first(datasense: CommandLine) -> None:
    datasense("apply", datasense.manifest(), "--no-discover")
    (run,) = datasense("sync", datasense.org, "--local", "--json").document["runs"]
    assert [table["asset"].rpartition("/")[2] for table in run["tables"]] == ["towns"]


def test_a_source_that_fails_does_not_stop_the_others(datasense: CommandLine) -> None:
    lost = datasense.write("lost.csv", "a,b\n1,2\n")
    good = datasense.manifest()
    sources = [
        {"slug": "alost", "connector": "csv", "config": {"url": str(lost)}, "schedule": "manual"},
        {"slug": "places", "connector": "csv", "config": {"url": str(good.parent / "towns.csv")}, "schedule": "manual"},
    ]
    datasense("apply", datasense.manifest(sources=sources))
    lost.unlink()
    result = datasense("sync", datasense.org, "--local", "--json", code=2)
    by_name = {run["name"].rpartition("/")[2]: run for run in result.document["runs"]}
    assert by_name["places"]["status"] == "done"
    assert by_name["alost"]["status"] == "failed"
    assert "lost.csv" in by_name["alost"]["failures"][0]


def test_a_queued_sync_is_a_request_and_says_when_no_daemon_serves_it(towns: CommandLine) -> None:
    result = towns("sync", f"{towns.org}/places/towns", "--full", "--json")
    assert result.document["daemon_alive"] is False
    assert "dagster dev" in result.words
    (run,) = result.document["runs"]
    assert run["status"] == "asked"
    (row,) = towns.rows("SELECT id, tables, full_reload, lane, partition_first, taken_at FROM datasense.sync_requests")
    assert row == (run["request_id"], ["towns"], True, "interactive", None, None)


def test_waiting_for_no_daemon_fails_at_once_and_asks_for_nothing(towns: CommandLine) -> None:
    result = towns("sync", towns.org, "--wait", code=2)
    assert "--local" in result.words
    assert towns.rows("SELECT count(*) FROM datasense.sync_requests") == [(0,)]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--partition", "2020-02-30"], "2020-02-30"),
        (["--range", "2026-01-01"], "A...B"),
        (["--range", "...2026-01-01"], "A...B"),
        (["--partition", "2026-01-01", "--full"], "exclude each other"),
        (["--partition", "2026-01-01", "--range", "2026-01-01...2026-01-02"], "exclude each other"),
    ],
)
def test_partitions_that_cannot_be_are_refused(towns: CommandLine, options: list[str], said: str) -> None:
    assert said in towns("sync", f"{towns.org}/places", *options, code=1).words


def test_an_unknown_table_or_source_is_refused_with_the_nearest(towns: CommandLine) -> None:
    assert "Did you mean towns?" in towns("sync", f"{towns.org}/places/town", code=1).words
    assert "Did you mean places?" in towns("sync", f"{towns.org}/place", code=1).words
    assert "ORG[/SOURCE[/TABLE]]" in towns("sync", f"{towns.org}/places/towns/more", code=1).words


@pytest.fixture
def visits(datasense: CommandLine, monkeypatch: pytest.MonkeyPatch) -> Iterator[CommandLine]:
    """An organisation with a form that has history, and a CSV source that has none."""
    monkeypatch.setenv("DATASENSE_ALLOW_PRIVATE_ADDRESSES", "true")
    monkeypatch.setenv("KOBO_TOKEN", "open-sesame")
    account = demo_accounts(date.today())[1]
    with serve(account.forms, token="open-sesame") as kobo:
        path = datasense.manifest()
        form: dict[str, Any] = {
            "slug": "forms",
            "connector": "kobo",
            "config": {"base_url": kobo.url},
            "credentials": {"token": {"env": "KOBO_TOKEN"}},
            "tables": [{"slug": "visits", "resource": account.forms[0].uid}],
            "partitions": {"every": "day", "start": (date.today() - timedelta(days=20)).isoformat()},
        }
        places = {"slug": "places", "connector": "csv", "config": {"url": str(path.parent / "towns.csv")}}
        datasense("apply", datasense.manifest(sources=[form, places]))
        yield datasense


def test_a_range_takes_in_both_ends_and_leaves_out_sources_without_history(visits: CommandLine) -> None:
    first = (date.today() - timedelta(days=9)).isoformat()
    last = (date.today() - timedelta(days=2)).isoformat()
    result = visits("sync", visits.org, "--range", f"{first}...{last}", "--json")
    assert [run["name"] for run in result.document["runs"]] == [f"{visits.org}/forms"]
    assert "has no history" in result.words
    assert visits.rows("SELECT partition_first, partition_last FROM datasense.sync_requests") == [(first, last)]
    assert "backwards" in visits("sync", f"{visits.org}/forms", "--range", f"{last}...{first}", code=1).words


def test_a_local_backfill_reads_its_partition_and_leaves_the_cursor(visits: CommandLine) -> None:
    day = (date.today() - timedelta(days=5)).isoformat()
    result = visits("sync", f"{visits.org}/forms", "--partition", day, "--local", "--json")
    (run,) = result.document["runs"]
    assert run["status"] == "done"
    assert visits.rows("SELECT count(*) FROM datasense.cursors WHERE value IS NOT NULL") == [(0,)]
    found = visits.rows(
        "SELECT count(*), count(*) FILTER (WHERE _submission_time::date <> %s::date)"
        f" FROM {schema(visits)}.forms__visits",
        day,
    )
    assert found[0][1] == 0
