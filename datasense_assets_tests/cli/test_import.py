from __future__ import annotations

import json
from typing import Any

import yaml

from datasense_assets_tests.cli.conftest import CommandLine

INPUT = {"input_type": "source", "source_name": "places", "input_name": "towns"}
GOOD: dict[str, Any] = {
    "type": "where",
    "config": {
        "input": INPUT,
        "output_name": "Big Towns",
        "clauses": [{"column": "people", "operator": ">", "operand": {"value": "400000", "is_col": False}}],
    },
}
RAW = {"type": "rawsql", "config": {"input": INPUT, "output_name": "raw", "sql_statement_1": "*"}}


def test_operations_are_printed_as_recipes_or_written_to_files(datasense: CommandLine) -> None:
    path = datasense.write("operations.yaml", {"version": 1, "operations": [GOOD]})
    printed = yaml.safe_load(datasense("import", "dalgo", path).out)
    assert printed["recipes"][0]["name"] == "big_towns"
    folder = datasense.folder / "recipes"
    datasense("import", "dalgo", path, "--into", folder, "--dry-run")
    assert not folder.exists()
    document = datasense("import", "dalgo", path, "--into", folder, "--json").document
    assert document["files"] == [str(folder / "big_towns.json")]
    datasense("check", folder / "big_towns.json")
    assert json.loads((folder / "big_towns.json").read_text()) == printed["recipes"][0]
    assert "already" in datasense("import", "dalgo", path, "--into", folder, code=1).words


def test_what_has_no_recipe_is_told_and_nothing_is_written(datasense: CommandLine) -> None:
    path = datasense.write("operations.json", json.dumps([GOOD, RAW]))
    folder = datasense.folder / "recipes"
    result = datasense("import", "dalgo", path, "--into", folder, "--json", code=1)
    assert [problem["path"] for problem in result.document["problems"]] == ["[1].config.type"]
    assert [recipe["name"] for recipe in result.document["recipes"]] == ["big_towns"]
    assert not folder.exists()
    assert datasense("import", "dalgo", path, code=1).out == ""
    datasense("import", "dalgo", datasense.write("odd.yaml", "just words"), code=1)


def test_a_recipe_that_could_not_be_compiled_is_told(datasense: CommandLine) -> None:
    config = {"input": INPUT, "output_name": "codes", "columns": {"town": "("}}
    path = datasense.write("operations.json", json.dumps([GOOD, {"type": "regexextraction", "config": config}]))
    (told,) = datasense("import", "dalgo", path, "--json", code=1).document["problems"]
    assert told["path"] == "[1].config"
    assert "steps[0].pattern: Step 1 (extract): '(' is no regular expression" in told["message"]


def test_two_models_whose_recipes_would_have_one_name_are_told(datasense: CommandLine) -> None:
    again = {**GOOD, "config": {**GOOD["config"], "output_name": "big_towns"}}
    path = datasense.write("operations.json", json.dumps([GOOD, again, RAW]))
    told = datasense("import", "dalgo", path, "--json", code=1).document["problems"]
    assert [each["path"] for each in told] == ["[1].config.output_name", "[2].config.type"]
    assert "'big_towns', as that of [0].config is" in told[0]["message"]


def test_types_come_from_the_organisation(datasense: CommandLine) -> None:
    datasense("apply", datasense.manifest())
    datasense("sync", datasense.org, "--local")
    datasense.rows("UPDATE datasense.source_columns SET type = 'integer' WHERE name = 'people'")
    path = datasense.write("operations.yaml", [GOOD])
    (recipe,) = datasense("import", "dalgo", path, "--org", datasense.org, "--json").document["recipes"]
    assert recipe["steps"] == [{"op": "filter", "where": {"column": "people", "operator": ">", "value": 400000}}]
