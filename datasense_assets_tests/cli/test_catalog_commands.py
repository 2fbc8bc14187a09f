from __future__ import annotations

import socket
from contextlib import suppress

import pytest
import yaml

from datasense_assets.settings import get_settings
from datasense_assets_tests.cli.conftest import CommandLine

RECIPE = {
    "version": 1,
    "name": "big_towns",
    "inputs": {"towns": "source:places.towns"},
    "steps": [{"op": "filter", "where": {"column": "people", "operator": ">", "value": 400000}}],
}


def test_a_dry_run_shows_the_difference_and_writes_nothing(datasense: CommandLine) -> None:
    result = datasense("apply", datasense.manifest(), "--dry-run", "--json")
    assert {"action": "create", "kind": "source", "path": f"{datasense.org}/places", "details": []} in result.document[
        "changes"
    ]
    assert result.document["dry_run"] is True
    assert datasense("list", "--json").document == {"orgs": []}


def test_applying_twice_changes_nothing(datasense: CommandLine) -> None:
    path = datasense.manifest(recipes=[RECIPE])
    datasense("apply", path)
    revision = datasense.rows("SELECT revision FROM datasense.revisions")
    again = datasense("apply", path, "--json")
    assert {change["action"] for change in again.document["changes"]} == {"keep"}
    assert datasense.rows("SELECT revision FROM datasense.revisions") == revision


def test_tables_are_found_after_the_commit(datasense: CommandLine) -> None:
    result = datasense("apply", datasense.manifest(), "--json")
    assert result.document["discovered"] == [{"source": f"{datasense.org}/places", "tables": ["towns"]}]
    assert datasense("list", "sources", "--json").document["sources"][0]["tables"] == ["towns"]


def test_no_discover_asks_no_source(datasense: CommandLine) -> None:
    result = datasense("apply", datasense.manifest(), "--no-discover", "--json")
    assert result.document["discovered"] == []
    assert datasense("list", "sources", "--json").document["sources"][0]["tables"] == []


def test_a_source_that_cannot_be_asked_is_a_warning_with_what_to_do(datasense: CommandLine) -> None:
    sources = [{"slug": "places", "connector": "csv", "config": {"url": str(datasense.folder / "nowhere.csv")}}]
    result = datasense("apply", datasense.manifest(sources=sources), "--json")
    (warning,) = result.document["warnings"]
    assert "nowhere.csv" in warning
    assert f"datasense discover {datasense.org}/places" in warning


def test_a_server_that_does_not_answer_is_asked_twice_and_not_for_each_of_its_sources(
    datasense: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATASENSE_ALLOW_PRIVATE_ADDRESSES", "true")
    monkeypatch.setenv("DATASENSE_HTTP_TIMEOUT", "0.3")
    monkeypatch.setenv("KOBO_TOKEN", "open-sesame")
    get_settings.cache_clear()
    with socket.create_server(("127.0.0.1", 0)) as mute:  # it takes connections, and never says a word
        sources = [
            {
                "slug": slug,
                "connector": "kobo",
                "config": {"base_url": f"http://127.0.0.1:{mute.getsockname()[1]}"},
                "credentials": {"token": {"env": "KOBO_TOKEN"}},
            }
            for slug in ("one", "two", "three")
        ]
        result = datasense("apply", datasense.manifest(sources=sources), "--json")
        mute.settimeout(0.2)
        calls = 0
        with suppress(TimeoutError):
            while True:
                mute.accept()[0].close()
                calls += 1
    for slug, text in zip(("one", "three", "two"), sorted(result.document["warnings"]), strict=True):
        assert f"datasense discover {datasense.org}/{slug}" in text
        assert "silent for too long" in text
    assert calls == 2


def test_problems_of_all_files_are_listed_and_nothing_is_written(datasense: CommandLine) -> None:
    good = datasense.manifest()
    bad = datasense.write(
        "bad.yaml",
        {
            "version": 1,
            "organization": {"slug": f"{datasense.org}-two", "name": "Two", "timezone": "Asia/Kolkatta"},
            "sources": [{"slug": "No Good", "connector": "csv"}],
        },
    )
    result = datasense("apply", good, bad, "--json", code=1)
    paths = [problem["path"] for problem in result.document["error"]["problems"]]
    assert f"{bad}: organization.timezone" in paths
    assert f"{bad}: sources[0].slug" in paths
    assert "Asia/Kolkata" in result.words
    assert datasense("list", "--json").document == {"orgs": []}


def test_every_kind_of_mistake_in_a_file_is_in_one_list(datasense: CommandLine) -> None:
    path = datasense.folder / "wrong.yaml"
    path.write_text(
        """
version: 1
organization: {slug: bad-org, name: Bad, timezone: Asia/Kolkatta}
sources:
  - {slug: Wells!, connector: cvs, config: {url: "x.csv"}}
  - slug: forms
    connector: kobo
    config: {base_url: "kf.kobotoolbox.org", colour: red}
    credentials: {token: "plain-secret-text"}
    schedule: {cron: "99 * * *"}
recipes:
  - {name: a, version: 1, inputs: {x: "recipe:b"}, steps: []}
  - {name: b, version: 1, inputs: {x: "recipe:a"}, steps: [{op: fliter}]}
""",
        encoding="utf-8",
    )
    for command in ("apply", "check"):
        done = datasense(command, str(path), "--json", code=1)
        said = "\n".join(str(problem) for problem in done.document["error"]["problems"])
        for words in (
            "Asia/Kolkata",
            "Wells!",
            "'cvs'",
            "base_url",
            "colour",
            "plain text",
            "five fields",
            "a → b → a",
            "fliter",
        ):
            assert words in said, command
        assert "plain-secret-text" not in said


def test_what_a_connector_or_the_recipe_language_refuses_is_a_problem_of_the_file(datasense: CommandLine) -> None:
    sources = [{"slug": "places", "connector": "csv", "config": {"ulr": "x.csv"}}]
    recipe = {**RECIPE, "steps": [{"op": "fliter"}]}
    result = datasense("apply", datasense.manifest(sources=sources, recipes=[recipe]), "--json", code=1)
    paths = [problem["path"] for problem in result.document["error"]["problems"]]
    assert "sources[0].config.url" in paths
    assert any(path.startswith("recipes[0].steps[0]") for path in paths)
    assert datasense("list", "--json").document == {"orgs": []}


def test_columns_of_a_recipe_are_checked_once_they_are_known(datasense: CommandLine) -> None:
    recipe = {**RECIPE, "steps": [{"op": "drop", "columns": ["peple"]}]}
    datasense("apply", datasense.manifest())
    datasense("apply", datasense.manifest(recipes=[recipe]), "--dry-run")
    datasense("sync", datasense.org, "--local")
    result = datasense("apply", datasense.manifest(recipes=[recipe]), code=1)
    assert "recipes[0].steps[0].columns[0]" in result.words
    assert "people" in result.words


def test_two_files_for_one_organisation_are_refused(datasense: CommandLine) -> None:
    path = datasense.manifest()
    other = datasense.write("other.yaml", path.read_text(encoding="utf-8"))
    assert datasense.org in datasense("apply", path, other, code=1).words


def test_a_file_that_is_not_there_is_said_to_be(datasense: CommandLine) -> None:
    assert "nowhere.yaml cannot be read" in datasense("apply", datasense.folder / "nowhere.yaml", code=1).words


def test_an_export_applies_to_the_same(datasense: CommandLine) -> None:
    datasense("apply", datasense.manifest(recipes=[RECIPE]), "--no-discover")
    exported = datasense("export", datasense.org)
    assert yaml.safe_load(exported.out)["organization"]["slug"] == datasense.org
    again = datasense("apply", datasense.write("exported.yaml", exported.out), "--no-discover", "--json")
    assert {change["action"] for change in again.document["changes"]} == {"keep"}


def test_a_secret_is_exported_as_a_reference_and_never_shown(
    datasense: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOWNS_TOKEN", "open-sesame")
    sources = [
        {
            "slug": "places",
            "connector": "csv",
            "config": {"url": "http://127.0.0.1:1/towns.csv"},
            "credentials": {"token": {"env": "TOWNS_TOKEN"}},
        }
    ]
    applied = datasense("apply", datasense.manifest(sources=sources))
    exported = datasense("export", datasense.org)
    listed = datasense("list", "sources", "--json")
    assert "TOWNS_TOKEN" in exported.out
    assert "open-sesame" not in "".join((applied.out, applied.words, exported.out, listed.out))


def test_a_source_that_a_recipe_reads_is_deleted_only_by_force(datasense: CommandLine) -> None:
    datasense("apply", datasense.manifest(recipes=[RECIPE]))
    refused = datasense("delete", f"{datasense.org}/places", code=1)
    assert "big_towns" in refused.words
    assert "--force" in refused.words
    deleted = datasense("delete", f"{datasense.org}/places", "--force", "--json")
    assert f"{datasense.org}/places" in deleted.document["deleted"]
    assert deleted.document["warehouse_tables"] == [f"org_{datasense.org.replace('-', '_')}.places__towns"]


def test_recipes_and_organisations_are_deleted_by_name(datasense: CommandLine) -> None:
    datasense("apply", datasense.manifest(recipes=[RECIPE]), "--no-discover")
    datasense("delete", f"{datasense.org}/recipes/big-towns")
    assert datasense("list", "recipes", "--json").document == {"recipes": []}
    datasense("delete", datasense.org)
    assert datasense("list", "--json").document == {"orgs": []}
    assert "organisation" in datasense("delete", datasense.org, code=1).words


def test_what_is_to_be_deleted_must_be_there(datasense: CommandLine) -> None:
    datasense("apply", datasense.manifest(), "--no-discover")
    assert "Did you mean places?" in datasense("delete", f"{datasense.org}/plces", code=1).words


def test_lists_are_tables_for_people_and_json_for_programs(datasense: CommandLine) -> None:
    datasense("apply", datasense.manifest(recipes=[RECIPE]), "--no-discover")
    assert datasense.org in datasense("list").out
    assert "big_towns" in datasense("list", "recipes", "--org", datasense.org).out
    (source,) = datasense("list", "sources", "--json").document["sources"]
    assert (source["slug"], source["connector"], source["schedule"]) == ("places", "csv", "manual")


def test_pausing_and_resuming_say_whether_anything_changed(datasense: CommandLine) -> None:
    datasense("apply", datasense.manifest(), "--no-discover")
    name = f"{datasense.org}/places"
    assert datasense("pause", name, "--reason", "the form is being rebuilt", "--json").document["changed"] is True
    assert datasense("pause", name, "--reason", "the form is being rebuilt", "--json").document["changed"] is False
    status = datasense("status", "--json").document
    assert status["counts"] == {"paused": 1}
    assert "the form is being rebuilt" in status["rows"][0]["why"]
    assert datasense("resume", name, "--json").document["changed"] is True
    assert datasense("resume", name, "--json").document["changed"] is False
    datasense("pause", datasense.org)
    assert datasense("list", "--json").document["orgs"][0]["paused"] is True


def test_the_database_url_is_all_that_is_printed(datasense: CommandLine) -> None:
    result = datasense("db", "url")
    assert result.out.strip() == datasense.database_url
    assert result.words == ""


def test_migrating_twice_applies_nothing_the_second_time(
    datasense: CommandLine, empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from datasense_assets.settings import get_settings

    monkeypatch.setenv("DATASENSE_DATABASE_URL", empty_database_url)
    get_settings.cache_clear()
    assert datasense("db", "migrate", "--json").document["migrations"]
    assert datasense("db", "migrate", "--json").document["migrations"] == []


@pytest.mark.parametrize("verb", ["start", "stop"])
def test_a_server_of_ones_own_is_not_started_or_stopped(datasense: CommandLine, verb: str) -> None:
    assert "DATASENSE_DATABASE_URL" in datasense("db", verb, code=1).words


def test_the_embedded_server_starts_and_stops(datasense: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    from datasense_assets.settings import get_settings

    monkeypatch.delenv("DATASENSE_DATABASE_URL")
    get_settings.cache_clear()
    try:
        assert datasense("db", "start", "--json").document["running"] is True
        assert datasense("db", "url").out.startswith("postgresql://")
        assert datasense("db", "migrate", "--json").document["migrations"] == []
    finally:
        stopped = datasense("db", "stop", "--json")
    assert stopped.document == {"running": False, "stopped": True}
    assert datasense("db", "stop", "--json").document["stopped"] is False
