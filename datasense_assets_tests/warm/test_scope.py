"""What a warm worker builds for a run: its own assets and what they read directly, whatever else there is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import psycopg
import pytest

from datasense_assets.assets.graph import load_definitions
from datasense_assets.running.warm.cleaning import as_before
from datasense_assets.running.warm.task import RunIsGone, execute, run_named_in
from datasense_assets_tests.platform.running import home_of_process
from datasense_assets_tests.warm.conftest import RedisServer, redis_server

ALL = "__ASSET_JOB"


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as made:
        yield made


@pytest.fixture
def instance(
    database_url: str, broker: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dg.DagsterInstance]:
    """The instance of a platform with 5,000 sources and a recipe that reads one of them."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO datasense.organizations (slug, name) SELECT 'o' || n, 'Org' FROM generate_series(0, 99) n"
        )
        connection.execute(
            """INSERT INTO datasense.sources (org_id, slug, connector, config, schedule)
            SELECT o.id, 's' || n, 'csv', '{"url": "https://example.org/a.csv"}', '"manual"'
            FROM datasense.organizations o, generate_series(0, 49) n"""
        )
        connection.execute(
            "INSERT INTO datasense.source_tables (source_id, slug, resource) SELECT id, 'rows', 'rows' "
            "FROM datasense.sources"
        )
        connection.execute(
            "INSERT INTO datasense.recipes (org_id, name, spec) SELECT id, 'totals', %s::json "
            "FROM datasense.organizations WHERE slug = 'o7'",
            ('{"version": 1, "name": "totals", "inputs": {"rows": "source:s1.rows"}, "steps": []}',),
        )
        assert connection.execute("SELECT count(*) FROM datasense.sources").fetchone() == (5000,)
    variables = {"DATASENSE_DATABASE_URL": database_url, "DATASENSE_REDIS_URL": broker.url}
    with (
        home_of_process(tmp_path, monkeypatch, DAGSTER_HOME=str(tmp_path), **variables),
        dg.DagsterInstance.get() as made,
    ):
        yield made


def built_for(instance: dg.DagsterInstance, *paths: str, job: str = ALL) -> tuple[set[str], set[str], dg.Definitions]:
    """What a worker builds: keys that it can execute, keys that it knows of, and all of it."""
    selection = frozenset(dg.AssetKey(path.split("/")) for path in paths) if paths else None
    run = instance.add_run(dg.DagsterRun(job_name=job, asset_selection=selection))
    found: list[dg.Definitions] = []
    execute(run.run_id, lambda *_: found.append(load_definitions()), holder="test")
    graph = found[0].resolve_asset_graph()
    names = {key.to_user_string() for key in graph.executable_asset_keys}
    return names, {key.to_user_string() for key in graph.get_all_asset_keys()} - names, found[0]


def test_of_5000_sources_a_worker_builds_those_of_its_run(instance: dg.DagsterInstance) -> None:
    assert built_for(instance, "o3/s9/rows", "o4/s1/rows")[:2] == ({"o3/s9/rows", "o4/s1/rows"}, set())


def test_a_recipe_brings_what_it_reads_as_a_name_only(instance: dg.DagsterInstance) -> None:
    assert built_for(instance, "o7/recipes/totals")[:2] == ({"o7/recipes/totals"}, {"o7/s1/rows"})


def test_the_platforms_own_jobs_are_built_without_any_source(instance: dg.DagsterInstance) -> None:
    names, known, definitions = built_for(instance, job="housekeeping")
    assert (names, known) == (set(), {"_platform/catalog"})
    assert definitions.get_job_def("housekeeping")


def test_a_message_without_a_known_run_is_an_error_and_executes_nothing(instance: dg.DagsterInstance) -> None:
    with pytest.raises(RunIsGone, match="two platforms share one Redis"):
        execute("11111111-1111-1111-1111-111111111111", lambda *_: pytest.fail("was executed"), holder="test")
    with pytest.raises(RunIsGone, match="different versions"):
        run_named_in({"execute_job_args_packed": {}})


def test_a_run_that_another_process_executes_or_that_is_over_is_left_alone(
    instance: dg.DagsterInstance, broker: RedisServer
) -> None:
    run = instance.add_run(dg.DagsterRun(job_name=ALL, asset_selection=frozenset({dg.AssetKey(["o1", "s1", "rows"])})))
    broker.client.set(f"datasense:lease:{run.run_id}", "another", px=10_000)
    assert execute(run.run_id, lambda *_: pytest.fail("was executed"), holder="test") is None
    assert broker.client.get(f"datasense:lease:{run.run_id}") == "another"
    broker.client.delete(f"datasense:lease:{run.run_id}")
    instance.report_run_failed(run)
    assert execute(run.run_id, lambda *_: pytest.fail("was executed"), holder="test") is None


def test_what_a_run_does_to_the_environment_is_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEPT", "before")
    with as_before():
        os.environ["KEPT"], os.environ["TOKEN_OF_A_TENANT"] = "after", "secret"
    assert (os.environ["KEPT"], os.environ.get("TOKEN_OF_A_TENANT")) == ("before", None)
