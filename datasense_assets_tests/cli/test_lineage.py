from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from typing import Any

import pytest

from datasense_assets.catalog.lineage import Edge, LineageColumn, LineageGraph, LineageTable, Point
from datasense_assets.cli.lineage import flowchart
from datasense_assets.cli.lineage_svg import drawing
from datasense_assets_tests.cli.conftest import CommandLine

pytestmark = pytest.mark.xdist_group("cli-runs")

NAMED: dict[str, Any] = {
    "version": 1,
    "name": "named",
    "inputs": {"towns": "source:places.towns"},
    "steps": [
        {"op": "filter", "where": {"column": "people", "operator": "is_not_null"}},
        {"op": "formula", "column": "Town/Name", "formula": "upper(town)"},
        {"op": "select", "columns": ["code", "Town/Name"]},
    ],
}
COUNTED: dict[str, Any] = {
    "version": 1,
    "name": "counted",
    "inputs": {"named": "recipe:named"},
    "steps": [{"op": "aggregate", "group_by": ["Town/Name"], "aggregations": [{"fn": "count", "into": "n"}]}],
}


@pytest.fixture
def known(datasense: CommandLine) -> CommandLine:
    """Columns of the source are known from a sync; the recipes came after it."""
    datasense("apply", datasense.manifest())
    datasense("sync", datasense.org, "--local")
    datasense("apply", datasense.manifest(recipes=[NAMED, COUNTED]))
    return datasense


def edges(document: Any) -> set[tuple[str, str, str, str | None, str]]:
    return {
        (e["from"]["table"], e["from"]["column"], e["to"]["table"], e["to"]["column"], e["use"])
        for e in document["edges"]
    }


def test_a_column_is_followed_back_to_its_source_and_forth_to_the_last_recipe(known: CommandLine) -> None:
    assert known.rows("SELECT count(*) FROM datasense.recipe_lineage") == [(2,)]
    back = known("lineage", f"{known.org}/counted.Town/Name", "--json").document
    assert edges(back) == {
        ("named", "Town/Name", "counted", "Town/Name", "value"),
        ("places/towns", "town", "named", "Town/Name", "value"),
        ("places/towns", "people", "named", None, "filter"),
        ("named", "Town/Name", "counted", None, "group"),
    }
    forth = known("lineage", f"{known.org}/places/towns.town", "--down", "--json").document
    assert ("named", "Town/Name", "counted", "Town/Name", "value") in edges(forth)
    assert known("lineage", f"{known.org}/recipes/counted.Town/Name", "--json").document == back
    whole = known("lineage", known.org)
    assert "Town/Name ← places/towns.town" in whole.out
    assert "(filter) ← places/towns.people" in whole.out
    assert known("lineage", f"{known.org}/places__towns").out == known("lineage", f"{known.org}/places/towns").out


def test_every_form_names_the_same_tables(known: CommandLine) -> None:
    root = ElementTree.fromstring(known("lineage", known.org, "--svg").out)
    said = "".join(root.itertext())
    assert "places/towns.town → named.Town/Name (value)" in said
    chart = known("lineage", f"{known.org}/named", "--mermaid").out
    assert chart.startswith("flowchart LR")
    assert "-. filter .->" in chart
    assert "exclude" in known("lineage", known.org, "--svg", "--json", code=1).words


def test_what_is_not_there_is_refused_with_what_is_near(known: CommandLine) -> None:
    assert "Did you mean named?" in known("lineage", f"{known.org}/nmaed", code=1).words
    assert "Did you mean town?" in known("lineage", f"{known.org}/places/towns.twon", code=1).words


def test_a_recipe_written_by_another_program_is_compiled_first_and_a_wrong_one_is_said_to_be(
    known: CommandLine,
) -> None:
    known.rows("""UPDATE datasense.recipes SET spec = json_build_object('version', 1, 'name', 'named', 'inputs',
                  json_build_object('towns', 'source:places.towns'), 'steps', json_build_array())
                  WHERE name = 'named'""")
    result = known("lineage", f"{known.org}/named", "--json")
    assert ("places/towns", "people", "named", "people", "value") in edges(result.document)
    # What counted reads is gone from its input: its own lineage stays, and the column is marked.
    result = known("lineage", f"{known.org}/counted", "--json")
    (named,) = [table for table in result.document["tables"] if table["table"] == "named"]
    assert [(column["name"], column["missing"]) for column in named["columns"]] == [("Town/Name", True)]
    known.rows('UPDATE datasense.recipes SET spec = \'{"inputs": {"t": "recipe:named"}}\' WHERE name = \'counted\'')
    assert "changed since" in known("lineage", f"{known.org}/counted").words


def test_a_dry_run_of_delete_says_what_would_break_and_deletes_nothing(known: CommandLine) -> None:
    result = known("delete", f"{known.org}/places", "--dry-run", "--json")
    assert [(each["recipe"], each["effect"]) for each in result.document["impacts"]] == [
        ("named", "breaks"),
        ("counted", "waits"),
    ]
    assert "Nothing was deleted" in result.words
    for what in (f"{known.org}/named", known.org):
        assert known("delete", what, "--dry-run", "--json").document["dry_run"] is True
    assert known.rows("SELECT count(*) FROM datasense.recipes") == [(2,)]
    refused = known("delete", f"{known.org}/named", code=1)
    assert "counted would break" in refused.words
    assert known("delete", f"{known.org}/counted", "--json").document["impacts"] == []


def test_names_of_users_are_no_markup() -> None:
    evil = '</text><script>alert(1)</script>"]; click \x01\x0b%%%{init: {"theme": "dark"}}%%'
    columns = {evil: LineageColumn(evil, "text", label="पानी <b>&</b>", personal=True)}
    tables = {
        name: LineageTable(name, evil, title=evil, columns=columns, recipe_id=i)
        for i, name in enumerate(["source:a.b", "recipe:c"])
    }
    circle = tuple(Edge(Point(a, evil), b, evil, "value") for a in tables for b in tables)
    graph = LineageGraph(tables, circle)
    root = ElementTree.fromstring(drawing(graph))
    assert not [element for element in root.iter() if element.tag.endswith("script")]
    assert "<script" not in flowchart(graph)
    assert '"]; click' not in flowchart(graph)
    assert "%%" not in flowchart(graph)
