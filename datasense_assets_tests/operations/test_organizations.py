"""An organisation's life: held still, taken along, moved, and gone without a trace."""

from __future__ import annotations

import csv
import gzip
import json
import re
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest
import yaml
from psycopg import sql

from datasense_assets.cli.address import read_organization
from datasense_assets.operations.organizations.taking import take_along
from datasense_assets.running.instance import open_instance
from datasense_assets.running.owners import catalog_engine
from datasense_assets.settings import get_settings
from datasense_assets.warehouse.organizations import prepare_organization
from datasense_assets.warehouse.reading import table_columns
from datasense_assets.warehouse.swap import SessionLimits, TableBusy, replace_table
from datasense_assets_tests.conftest import fresh_database
from datasense_assets_tests.operations.conftest import CommandLine


def populate(datasense: CommandLine, slug: str) -> None:
    """An organisation of that slug with a source, a recipe, a secret, a failure, a limit, and runs of all kinds."""
    path = datasense.folder / f"{slug}.csv"
    path.write_text("code,town,people\n1,Ajmer,542000\n2,Alwar,322000\n", encoding="utf-8")
    source = {"slug": "places", "connector": "csv", "config": {"url": str(path), "key": ["code"]}, "schedule": "manual"}
    broken = {**source, "slug": "absent", "config": {"url": str(path) + ".none", "key": ["code"]}}
    recipe = {
        "version": 1,
        "name": "towns",
        "inputs": {"t": f"source:places.{slug}"},
        "steps": [{"op": "sort", "by": ["town"]}],
    }
    document = {
        "version": 1,
        "organization": {"slug": slug, "name": f"Trust of {slug}", "contacts": [{"env": "NOBODY"}]},
        "sources": [source],
    }
    datasense("apply", datasense.write(f"{slug}.yaml", document))
    query = "SELECT t.slug FROM datasense.source_tables t JOIN datasense.organizations o ON o.id = t.org_id "
    ((name,),) = datasense.rows(f"{query}WHERE o.slug = %s", slug)
    recipe["inputs"] = {"t": f"source:places.{name}"}
    document |= {"sources": [source, broken], "recipes": [recipe]}
    datasense("apply", "--no-discover", datasense.write(f"{slug}.yaml", document))
    datasense("sync", f"{slug}/places", "--local")
    datasense("sync", f"{slug}/absent", "--local", code=None)
    datasense("build", f"{slug}/towns", "--local")
    datasense("limits", "set", "org", slug, 2)


def traces(url: str, word: str) -> dict[str, int]:
    """Every table, of every schema, in which some row has the word, packed or plain; and every role and schema."""
    found: dict[str, int] = {}
    with psycopg.connect(url, autocommit=True) as connection:
        tables = connection.execute(
            "SELECT schemaname, tablename FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
        ).fetchall()
        for schema, table in tables:
            name = sql.Identifier(schema, table)
            query = sql.SQL("SELECT count(*) FROM {} AS t WHERE t::text ILIKE %s").format(name)
            number = connection.execute(query, (f"%{word}%",)).fetchone()[0]  # type: ignore[index]
            if number:
                found[f"{schema}.{table}"] = number
        packed = connection.execute("SELECT snapshot_body FROM snapshots").fetchall()
        inside = sum(word.encode() in zlib.decompress(body) for (body,) in packed)
        if inside:
            found["snapshots"] = inside
        for kind, query in (
            ("roles", "SELECT count(*) FROM pg_roles WHERE rolname LIKE %s"),
            ("schemas", "SELECT count(*) FROM pg_namespace WHERE nspname LIKE %s"),
        ):
            number = connection.execute(query.encode(), (f"%{word}%",)).fetchone()[0]  # type: ignore[index]
            if number:
                found[kind] = number
    return found


def files_with(home: Path, *words: str) -> list[str]:
    """Files that bear one of the words, or hold it; the other organisation's name is the word and an x."""
    pattern = re.compile("|".join(f"{word}(?!x)" for word in words).encode())
    return [
        str(each.relative_to(home))
        for each in home.rglob("*")
        if each.is_file() and pattern.search(str(each.relative_to(home)).encode() + b" " + each.read_bytes())
    ]


def test_nothing_stays_of_an_organisation_that_is_deleted_with_its_data(datasense: CommandLine) -> None:
    gone, stays = datasense.org, f"{datasense.org}x"
    for slug in (gone, stays):
        populate(datasense, slug)
    word = gone.replace("-", "_")
    other = stays.replace("-", "_")
    # what the platform's own check and its alerts have said of it
    with open_instance() as instance:
        from datasense_assets.automation.failing import failing_evaluation
        from datasense_assets.catalog.troubles import failing_now

        with catalog_engine().connect() as connection:
            failing = failing_now(connection)
        assert {each.org_slug for each in failing} == {gone, stays}
        instance.report_runless_asset_event(failing_evaluation(failing))
    kept_before = traces(datasense.database_url, other)
    (datasense.folder / "home" / "logs" / "runs.log").unlink(missing_ok=True)

    assert files_with(datasense.folder / "home", word, gone)
    dry = datasense("delete", gone, "--with-data", "--dry-run", "--json").document
    assert dry["runs"] == 2
    assert len(dry["warehouse_tables"]) == 2
    assert "--yes" in datasense("delete", gone, "--with-data", code=1).words
    assert datasense.rows("SELECT count(*) FROM datasense.organizations") == [(2,)]

    said = datasense("delete", gone, "--with-data", "--yes", "--json").document["gone"]
    assert said["runs"] == 2
    assert said["tables"] >= 5
    # the other's name begins with this one's, so only what is not the other's counts
    left = {name: number - traces(datasense.database_url, other).get(name, 0)
            for name, number in traces(datasense.database_url, word).items()}  # fmt: skip
    assert {name: number for name, number in left.items() if number} == {}
    slugs = {name: number - traces(datasense.database_url, stays).get(name, 0)
             for name, number in traces(datasense.database_url, gone).items()}  # fmt: skip
    assert {name: number for name, number in slugs.items() if number} == {}
    assert files_with(datasense.folder / "home", word, gone) == []
    # and the other organisation has lost nothing but what was said of both in one row
    kept = traces(datasense.database_url, other)
    together = {"public.event_logs", "public.asset_check_executions"}
    assert {k: v for k, v in kept.items() if k not in together} == {
        k: v for k, v in kept_before.items() if k not in together
    }
    datasense("sync", f"{stays}/places", "--local")


def test_an_organisation_that_is_loading_is_not_touched(datasense: CommandLine) -> None:
    datasense("apply", datasense.manifest())
    datasense("sync", datasense.org, "--local")
    datasense.rows("UPDATE datasense.leases SET expires_at = now() + interval '1 hour'")
    result = datasense("delete", datasense.org, "--with-data", "--yes", "--wait", "0", code=2)
    assert "still busy after 0 minutes: a load of places." in result.words
    assert datasense.rows("SELECT count(*) FROM datasense.pauses") == [(0,)]
    assert datasense.rows("SELECT count(*) FROM datasense.run_limits") == [(0,)]
    assert datasense.rows("SELECT count(*) FROM datasense.sources") == [(1,)]


def test_an_organisation_is_taken_along_as_files(datasense: CommandLine) -> None:
    datasense("apply", datasense.manifest())
    datasense("sync", datasense.org, "--local")
    folder = datasense.folder / "taken"
    counted = datasense("export", datasense.org, "--to", folder, "--json").document["rows"]
    ((table, number),) = counted.items()
    assert number == 3
    with gzip.open(folder / "tables" / f"{table}.csv.gz", "rt", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["town"] for row in rows] == ["Ajmer", "Alwar", "Sikar"]
    columns = {
        each["name"]: each["type"] for each in json.loads((folder / "columns.json").read_text())[table]["columns"]
    }
    assert columns["people"] == "integer"
    manifest = yaml.safe_load((folder / "manifest.yaml").read_text())
    assert manifest["organization"]["slug"] == datasense.org
    assert "is there already" in datasense("export", datasense.org, "--to", folder, code=1).words


def test_a_table_that_is_to_be_built_anew_meanwhile_is_taken_along_whole(datasense: CommandLine) -> None:
    populate(datasense, datasense.org)
    with catalog_engine().connect() as connection:
        org = read_organization(connection, datasense.org)
    target = prepare_organization(catalog_engine(), get_settings(), org)
    tried: list[str] = []

    def swap(table: str) -> None:
        """At the first table, after the moment that all are of, the recipe's is replaced, or as good as."""
        tried.append(table)
        if len(tried) > 1:
            return
        with target.connect(autocommit=True) as builder, suppress(TableBusy):
            columns = table_columns(builder, target.schema, "towns")
            select = f"SELECT {', '.join(c.name for c in columns)} FROM {target.schema}.towns"
            replace_table(builder, target.schema, "towns", columns, select, limits=SessionLimits(lock_timeout=0.2))

    counted = take_along(catalog_engine(), get_settings(), org, datasense.folder / "whole", told=swap)
    assert tried[0] != "towns"
    assert counted["towns"] == 2


@pytest.fixture
def elsewhere(server_url: str) -> Iterator[str]:
    with fresh_database(server_url, "elsewhere") as url:
        yield url


def test_an_organisation_moves_to_a_warehouse_of_its_own_and_back(
    datasense: CommandLine, elsewhere: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasense("apply", datasense.manifest())
    datasense("sync", datasense.org, "--local")
    monkeypatch.setenv("OWN_WAREHOUSE", elsewhere)
    schema = "org_" + datasense.org.replace("-", "_")
    (table,) = [t for (t,) in datasense.rows("SELECT warehouse_name FROM datasense.source_tables")]

    moved = datasense("move", datasense.org, "--to", "env:OWN_WAREHOUSE", "--json").document
    assert moved["rows"][f"{schema}.{table}"] == 3
    assert moved["left"] == [f"moved_{schema}", f"moved_staging_{schema}"]
    with psycopg.connect(elsewhere) as there:
        query = sql.SQL("SELECT count(*), max(obj_description(%s::regclass)) FROM {}").format(
            sql.Identifier(schema, table)
        )
        assert there.execute(query, (f"{schema}.{table}",)).fetchone()[0] == 3  # type: ignore[index]
    assert datasense.rows("SELECT warehouse ->> 'env' FROM datasense.organizations") == [("OWN_WAREHOUSE",)]
    assert datasense.rows("SELECT count(*) FROM datasense.run_limits") == [(0,)]
    # goes on there: a row more, the others known
    with (datasense.folder / "towns.csv").open("a") as file:
        file.write("4,Bundi,111000\n")
    datasense("sync", datasense.org, "--local")
    with psycopg.connect(elsewhere) as there:
        counted = sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(schema, table))
        assert there.execute(counted).fetchone() == (4,)
    assert datasense.rows(f'SELECT count(*) FROM moved_{schema}."{table}"') == [(3,)]
    assert "already" in datasense("move", datasense.org, "--to", "env:OWN_WAREHOUSE", code=2).words

    back = datasense("move", datasense.org, "--to", "platform", "--drop-old", "--json").document
    assert back["left"] == []
    assert datasense.rows(f'SELECT count(*) FROM {schema}."{table}"') == [(4,)]
    owner = "SELECT tableowner FROM pg_tables WHERE schemaname = %s AND tablename = %s"
    assert datasense.rows(owner, schema, table) == [(schema,)]
    readable = "SELECT has_table_privilege(%s, %s, 'SELECT')"
    assert datasense.rows(readable, f"read_{schema}", f"{schema}.{table}") == [(True,)]
    with psycopg.connect(elsewhere) as there:
        assert there.execute("SELECT count(*) FROM pg_namespace WHERE nspname LIKE '%org\\_%'").fetchone() == (0,)
    datasense("sync", datasense.org, "--local")
    assert "names no warehouse" in datasense("move", datasense.org, "--to", "there", code=1).words
