from __future__ import annotations

import pytest

from datasense_assets_tests.cli.conftest import CommandLine

pytestmark = [pytest.mark.xdist_group("cli-runs"), pytest.mark.timeout(600)]


def test_the_demo_loads_everything_from_nothing_and_can_be_run_again(datasense: CommandLine) -> None:
    first = datasense.process("demo", "--json")
    assert first.code == 0, first.words
    document = first.document
    assert {run["status"] for run in document["runs"]} == {"done"}
    assert all(table["row_count"] for table in document["tables"])
    assert len(document["sample"]["rows"]) == 10
    visits = next(table for table in document["tables"] if table["path"] == "clean-water/health-forms/visits")
    assert datasense.rows(f"SELECT count(*) FROM {visits['table']}") == [(visits["row_count"],)]
    assert visits["state"] == "paused"
    assert "imulated" in first.words
    again = datasense.process("demo", "--json").document
    loaded = [table["rows_loaded"] for run in again["runs"][:-1] for table in run["tables"]]
    assert set(loaded) == {0}
    for role, *_ in datasense.rows("SELECT role_name FROM datasense.org_roles"):
        datasense.rows(f"DROP OWNED BY {role} CASCADE")
        datasense.rows(f"DROP OWNED BY read_{role} CASCADE")
        datasense.rows(f"DROP ROLE read_{role}")
        datasense.rows(f"DROP ROLE {role}")
