from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import Any

import pytest

from datasense_assets_tests.cli.conftest import CommandLine
from examples.kobo_stand_in import serve
from examples.make_submissions import demo_accounts


@pytest.fixture(scope="module")
def kobo() -> Iterator[Any]:
    """A KoboToolbox server on loopback with one account."""
    account = demo_accounts(date.today())[1]
    with serve(account.forms, token="open-sesame") as server:
        yield server


@pytest.fixture
def forms(datasense: CommandLine, kobo: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A source on that server in the catalog, by the token in KOBO_TOKEN."""
    monkeypatch.setenv("DATASENSE_ALLOW_PRIVATE_ADDRESSES", "true")
    monkeypatch.setenv("KOBO_TOKEN", "open-sesame")
    source = {
        "slug": "forms",
        "connector": "kobo",
        "config": {"base_url": kobo.url},
        "credentials": {"token": {"env": "KOBO_TOKEN"}},
    }
    datasense("apply", datasense.manifest(sources=[source]), "--no-discover")
    return f"{datasense.org}/forms"


def test_a_credential_that_works_is_said_to(datasense: CommandLine, forms: str) -> None:
    result = datasense("test", forms, "--json")
    assert result.document["works"] is True
    assert "open-sesame" not in result.out + result.words


def test_a_wrong_credential_exits_1_and_is_not_shown(
    datasense: CommandLine, forms: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KOBO_TOKEN", "wrong-sesame")
    result = datasense("test", forms, "--json", code=1)
    assert result.document["error"]["advice"]
    assert "wrong-sesame" not in result.out + result.words


def test_a_credential_that_is_not_there_is_named(
    datasense: CommandLine, forms: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KOBO_TOKEN")
    assert "KOBO_TOKEN" in datasense("test", forms, code=1).words


def test_a_private_address_is_refused_unless_allowed(
    datasense: CommandLine, forms: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATASENSE_ALLOW_PRIVATE_ADDRESSES", "false")
    from datasense_assets.settings import get_settings

    get_settings.cache_clear()
    assert "DATASENSE_ALLOW_PRIVATE_ADDRESSES" in datasense("test", forms, code=1).words


def test_discovery_shows_tables_and_notes_them(datasense: CommandLine, forms: str) -> None:
    found = datasense("discover", forms, "--json").document["tables"]
    top = next(table for table in found if not table["path"])
    assert top["rows"] > 0
    assert any(column["type"] for column in top["columns"])
    repeats = [table["slug"] for table in found if table["path"]]
    assert repeats
    assert all(slug.startswith(f"{top['slug']}__") for slug in repeats)
    (source,) = datasense("list", "sources", "--json").document["sources"]
    assert {table["slug"] for table in found} == set(source["tables"])


def test_a_server_that_is_gone_exits_2_and_the_failure_is_recorded(datasense: CommandLine) -> None:
    sources = [{"slug": "towns", "connector": "csv", "config": {"url": "http://192.0.2.1:9/towns.csv"}}]
    datasense("apply", datasense.manifest(sources=sources), "--no-discover")
    datasense("test", f"{datasense.org}/towns", code=None)
    result = datasense("discover", f"{datasense.org}/towns", "--json", code=None)
    assert result.code in (1, 2)
    (row,) = datasense("status", "--json").document["rows"]
    assert row["state"] == "undiscovered"
    assert row["why"] == result.document["error"]["message"]
