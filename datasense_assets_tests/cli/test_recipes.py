from __future__ import annotations

import json
from typing import Any

import pytest

from datasense_assets_tests.cli.conftest import CommandLine

pytestmark = pytest.mark.xdist_group("cli-runs")

RECIPES: list[dict[str, Any]] = [
    {
        "version": 1,
        "name": "named",
        "inputs": {"towns": "source:places.towns"},
        "steps": [
            {"op": "formula", "column": "town", "formula": "upper(town)"},
            {"op": "select", "columns": ["code", "town"]},
            {"op": "sort", "by": ["code"]},
        ],
    },
    {
        "version": 1,
        "name": "counted",
        "inputs": {"named": "recipe:named"},
        "steps": [{"op": "aggregate", "aggregations": [{"fn": "count", "into": "towns"}]}],
    },
]


@pytest.fixture
def loaded(datasense: CommandLine) -> CommandLine:
    """The organisation with its towns loaded and two recipes, one over the other, not built."""
    datasense("apply", datasense.manifest(recipes=RECIPES))
    datasense("sync", datasense.org, "--local")
    return datasense


def test_recipes_are_built_here_where_no_daemon_is_alive(loaded: CommandLine) -> None:
    result = loaded("build", loaded.org, "--json")
    assert result.document["daemon_alive"] is False
    (run,) = result.document["runs"]
    assert {table["asset"].rpartition("/")[2]: table["rows"] for table in run["tables"]} == {"named": 3, "counted": 1}
    schema = f"org_{loaded.org.replace('-', '_')}"
    assert loaded.rows(f"SELECT towns FROM {schema}.counted") == [(3,)]


def test_a_build_that_fails_in_part_shows_what_is_done_as_done(datasense: CommandLine) -> None:
    one = {"op": "filter", "where": {"column": "code", "operator": "=", "value": 1}}
    cast = {"op": "cast", "columns": [{"column": "town", "to": "integer"}]}
    checks = [{"check": "max_lossy_casts", "max": 0}, {"check": "unique", "columns": ["code"]}]
    lossy = {**RECIPES[0], "name": "lossy", "steps": [one, cast], "checks": checks}
    datasense("apply", datasense.manifest(recipes=[RECIPES[0], lossy]))
    datasense("sync", datasense.org, "--local")
    done = datasense("build", datasense.org, "--local", code=2)
    assert "1 value could not be read by casts (town: 1); 0 are allowed." in done.words
    shown = [line.split()[:2] for line in done.out.splitlines() if "/recipes" in line]
    assert shown == [
        [f"{datasense.org.replace('-', '_')}/recipes/named", "done"],
        [f"{datasense.org}/recipes", "failed"],
    ]


def test_a_build_with_its_inputs_loads_them_first_and_builds_what_lies_between(datasense: CommandLine) -> None:
    datasense("apply", datasense.manifest(recipes=RECIPES))
    result = datasense("build", f"{datasense.org}/counted", "--with-inputs", "--local", "--json")
    load, built = result.document["runs"]
    assert load["name"] == f"{datasense.org}/places"
    rows = {table["asset"].rpartition("/")[2]: table["rows_loaded"] for table in built["tables"]}
    assert rows == {"named": 3, "counted": 1}
    again = datasense("build", f"{datasense.org}/counted", "--local", "--json").document["runs"][0]
    assert [(table["rows"], table["rows_loaded"]) for table in again["tables"]] == [(1, 0)]
    forced = datasense("build", f"{datasense.org}/counted", "--local", "--force", "--json").document["runs"][0]
    assert [(table["rows"], table["rows_loaded"]) for table in forced["tables"]] == [(1, 1)]
    datasense("build", f"{datasense.org}/counted", "--with-inputs", "--no-wait", "--force")
    asked = datasense.rows(
        "SELECT source_id IS NULL, full_reload, after_requests IS NOT NULL FROM datasense.sync_requests ORDER BY id"
    )
    assert asked == [(False, False, False), (True, True, True)]


def test_a_build_whose_inputs_cannot_be_loaded_speaks_of_the_old_table_only_where_there_is_one(
    datasense: CommandLine,
) -> None:
    datasense("apply", datasense.manifest(recipes=RECIPES))
    towns = datasense.folder / "towns.csv"
    kept = towns.read_text(encoding="utf-8")

    def refused(what: str) -> str:
        towns.unlink()
        runs = datasense("build", what, "--with-inputs", "--local", "--json", code=2).document["runs"]
        towns.write_text(kept, encoding="utf-8")
        return str(runs[-1]["failures"][0])

    said = f"It was not built, for {datasense.org}/places could not be loaded;"
    assert refused(f"{datasense.org}/named") == f"{said} there is no table yet."
    assert refused(datasense.org) == f"{said} there is no table yet."
    datasense("build", f"{datasense.org}/named", "--with-inputs", "--local")
    assert refused(f"{datasense.org}/named") == f"{said} its old table stays."
    assert refused(f"{datasense.org}/counted") == f"{said} there is no table yet."
    assert refused(datasense.org) == f"{said} the old tables stay."


LOOKS: dict[str, Any] = {"check": "exists_in", "column": "town", "in": "recipe:named", "to": "town"}
CAST: dict[str, Any] = {"op": "cast", "columns": [{"column": "town", "to": "integer", "on_error": "fail"}]}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"steps": [CAST]},
            "failing was not built, there is no table yet: column 'town' cannot be read as integer: Ajmer. Mend the "
            "value at its source, replace it before the cast, or set on_error to null. "
            "Run datasense build {org}/failing.",
        ),
        (
            {"checks": [{"check": "row_count", "min": 9}]},
            "failing was built and not put in place, it has no table yet, for checks do not hold: - row_count: 3 rows; "
            "at least 9 expected. Mend the data at its source, or correct the recipe or the check. "
            "Run datasense build {org}/failing.",
        ),
        (
            {"checks": [LOOKS]},
            "failing was built and not put in place, it has no table yet, for checks do not hold: - exists_in_town: "
            "recipe:named is not there yet; it is run as soon as that is. "
            "It is built again by itself once what they look into is there.",
        ),
    ],
    ids=["its data", "a check", "a check that waits"],
)
def test_status_says_each_sentence_about_a_failed_build_once(
    datasense: CommandLine, changes: dict[str, Any], said: str
) -> None:
    failing = {**RECIPES[0], "name": "failing", "steps": [], **changes}
    datasense("apply", datasense.manifest(recipes=[RECIPES[0], failing]))
    datasense("sync", datasense.org, "--local")
    datasense("build", f"{datasense.org}/failing", "--local", code=2)
    (line,) = (each for each in datasense("status").out.splitlines() if "/failing " in each)
    assert " ".join(line.split()).endswith(f" failing 1 day {said.format(org=datasense.org)}")


def test_a_build_can_only_be_asked_for(loaded: CommandLine) -> None:
    loaded("build", f"{loaded.org}/named", "--no-wait")
    asked = loaded.rows("SELECT r.name FROM datasense.sync_requests q JOIN datasense.recipes r ON r.id = q.recipe_id")
    assert asked == [("named",)]
    assert "--no-wait" in loaded("build", loaded.org, "--no-wait", "--local", code=1).words


def test_a_preview_writes_no_table(loaded: CommandLine) -> None:
    document = loaded("preview", f"{loaded.org}/named", "--json").document
    assert document["columns"] == ["code", "town"]
    assert document["types"] == {"code": "integer", "town": "text"}
    assert [row["town"] for row in document["rows"]] == ["AJMER", "ALWAR", "SIKAR"]
    assert "sql" not in document
    schema = f"org_{loaded.org.replace('-', '_')}"
    assert loaded.rows("SELECT to_regclass(%s)", f"{schema}.named") == [(None,)]


def test_rows_may_be_followed_by_how_many(loaded: CommandLine) -> None:
    name = f"{loaded.org}/named"
    assert len(loaded("preview", name, "--rows", 2, "--json").document["rows"]) == 2
    assert len(loaded("preview", name, "--rows", "--json").document["rows"]) == 3
    assert "AJMER" in loaded("preview", name, "--rows", 1).out


def test_sql_alone_is_all_that_is_printed(loaded: CommandLine) -> None:
    result = loaded("preview", f"{loaded.org}/named", "--sql")
    assert result.out.lstrip().upper().startswith(("SELECT", "WITH"))
    schema = f"org_{loaded.org.replace('-', '_')}"
    assert schema in result.out
    document = loaded("preview", f"{loaded.org}/named", "--sql", "--rows", "--json").document
    assert {"sql", "rows"} <= document.keys()


def test_a_step_shows_the_recipe_as_far_as_it(loaded: CommandLine) -> None:
    name = f"{loaded.org}/named"
    assert "people" in loaded("preview", name, "--step", 0, "--json").document["columns"]
    assert loaded("preview", name, "--step", 1, "--json").document["rows"][0]["town"] == "AJMER"
    document = loaded("preview", name, "--step", 2, "--sample", 2, "--json").document
    assert (document["sampled"], document["sample"], len(document["rows"])) == (True, 2, 2)
    assert [(each["label"], each["rows"]) for each in document["steps"]] == [
        ("Input towns", 2),
        ("Step 1 (formula)", 2),
        ("Step 2 (select)", 2),
    ]
    shown = loaded("preview", name, "--sample", 2)
    assert "Step 3 (sort)" in shown.out
    assert "first 2 rows of the first input only" in shown.words
    assert "3 steps" in loaded("preview", name, "--step", 9, code=1).words


def test_a_step_needs_no_input_that_only_a_later_one_reads(datasense: CommandLine) -> None:
    """And such an input is not called unused; one that no step reads is."""
    inputs = {"a_towns": "source:places.towns", "named": "recipe:named", "unread": "source:places.towns"}
    steps = [{"op": "sort", "by": ["code"]}, {"op": "union", "with": ["named"]}]
    both = {"version": 1, "name": "both", "inputs": inputs, "steps": steps}
    datasense("apply", datasense.manifest(recipes=[*RECIPES, both]))
    datasense("sync", datasense.org, "--local")
    document = datasense("preview", f"{datasense.org}/both", "--step", 1, "--json").document
    assert len(document["rows"]) == 3
    assert [each["path"] for each in document["warnings"]] == ["inputs.unread"]
    refused = datasense("preview", f"{datasense.org}/both", "--json", code=1).document["error"]["problems"]
    assert [(each["code"], each["path"]) for each in refused] == [("missing_table", "inputs.named")]


def test_a_preview_of_what_is_not_built_yet_says_so(loaded: CommandLine) -> None:
    result = loaded("preview", f"{loaded.org}/counted", "--json", code=1)
    assert result.document["error"]["problems"][0]["code"] == "missing_table"


def test_where_recipes_are_listed_is_said_to_who_names_one_wrongly(datasense: CommandLine) -> None:
    for command, shows in (("build", "recipes"), ("preview", "recipes"), ("sync", "sources")):
        assert f"`datasense list {shows}` shows" in datasense(command, "a/b/c/d", code=1).words


def test_a_good_file_is_said_to_be_good(datasense: CommandLine) -> None:
    recipe = datasense.write("recipe.json", json.dumps(RECIPES[0]))
    assert datasense("check", recipe, "--json").document == {
        "file": str(recipe),
        "kind": "recipe",
        "problems": [],
        "warnings": [],
    }
    assert datasense("check", datasense.manifest(recipes=RECIPES), "--json").document["kind"] == "manifest"


def test_every_problem_of_a_recipe_is_listed(datasense: CommandLine) -> None:
    bad = {**RECIPES[0], "colour": "red", "steps": [{"op": "fliter"}, {"op": "limit", "rows": "many"}]}
    result = datasense("check", datasense.write("bad.yaml", bad), "--json", code=1)
    paths = [problem["path"] for problem in result.document["error"]["problems"]]
    assert any(path.startswith("steps[0]") for path in paths)
    assert any(path.startswith("steps[1]") for path in paths)
    assert "colour" in paths


def test_every_problem_of_a_manifest_and_its_recipes_is_listed(datasense: CommandLine) -> None:
    sources = [{"slug": "places", "connector": "cvs", "config": {}}]
    path = datasense.manifest(sources=sources, recipes=[{**RECIPES[0], "steps": [{"op": "fliter"}]}])
    result = datasense("check", path, "--json", code=1)
    paths = [problem["path"] for problem in result.document["error"]["problems"]]
    assert "sources[0].connector" in paths
    assert any(path.startswith("recipes[0].steps[0]") for path in paths)


def test_problems_of_a_manifests_recipes_have_codes_and_fixes_and_every_circle_is_told(datasense: CommandLine) -> None:
    def circle(one: str, other: str) -> list[dict[str, Any]]:
        return [{**RECIPES[0], "name": n, "inputs": {"x": f"recipe:{m}"}} for n, m in ((one, other), (other, one))]

    wrong = {**RECIPES[0], "steps": [{"op": "fliter"}, {"op": "formula", "column": "x", "formula": "1 +"}]}
    unread = {**RECIPES[1], "name": "e", "output": {"indexes": [["nope"]]}}
    path = datasense.manifest(recipes=[wrong, *circle("a", "b"), *circle("c", "d"), unread])
    told = datasense("check", path, "--json", code=1).document["error"]["problems"]
    found = sorted((each.get("code"), each["path"], each["fix"]) for each in told)
    assert found == [
        ("bad_formula", "recipes[0].steps[1].formula", None),
        ("cycle", "recipes[1].inputs", "Take one of these inputs out."),
        ("cycle", "recipes[3].inputs", "Take one of these inputs out."),
        ("invalid_value", "recipes[0].steps[0].op", "Did you mean filter?"),
        ("unknown_column", "recipes[5].output.indexes[0][0]", None),
    ]
    assert "no column 'nope' to index; it has towns." in told[-1]["message"] + told[0]["message"]


def test_a_mistake_is_told_once_in_a_manifest(datasense: CommandLine) -> None:
    wrong = {**RECIPES[0], "title": 5, "inputs": {"towns": "sauce:places.towns"}}
    told = datasense("check", datasense.manifest(recipes=[wrong]), "--json", code=1).document["error"]["problems"]
    assert [(each["code"], each["path"]) for each in told] == [
        ("invalid_value", "recipes[0].inputs.towns"),
        ("invalid_value", "recipes[0].title"),
    ]


def test_checking_needs_no_database(datasense: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATASENSE_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/db")
    datasense("check", datasense.manifest(recipes=RECIPES))


def test_a_formula_that_cannot_be_read_is_refused_without_tables_alone_and_in_a_manifest(
    datasense: CommandLine,
) -> None:
    steps = [{"op": "formula", "column": "half", "formula": "people /"}]
    recipe = {**RECIPES[0], "steps": steps}
    for path, at in (
        (datasense.write("recipe.yaml", recipe), ""),
        (datasense.manifest(recipes=[recipe]), "recipes[0]."),
    ):
        (told,) = datasense("check", path, "--json", code=1).document["error"]["problems"]
        assert told["path"] == f"{at}steps[0].formula"
        assert "The formula ends too early: a value is missing after /." in told["message"]


def test_a_name_that_may_be_meant_is_told_once(loaded: CommandLine) -> None:
    steps = [
        {"op": "formula", "column": "half", "formula": "peopl / 2"},
        {"op": "sort", "by": ["twon"]},
        {"op": "drop", "columns": ["town", "people"]},
        {"op": "formula", "column": "more", "formula": "people + 1"},
    ]
    path = loaded.write("typing.json", {**RECIPES[0], "steps": steps})
    words = loaded("check", path, "--org", loaded.org, code=1).words.lower()
    assert words.count("did you mean people?") == 1
    assert words.count("did you mean 'town'?") + words.count("did you mean town?") == 1
    assert "there is no column people: step 3 (drop) removed it." in words


def test_an_incremental_recipe_of_chosen_columns_is_good_before_its_source_is_loaded(datasense: CommandLine) -> None:
    kept = {
        "version": 1,
        "name": "kept",
        "inputs": {"towns": "source:places.towns"},
        "steps": [{"op": "select", "columns": ["_ds_row_id", "_ds_loaded_at", "town"]}],
        "output": {"materialize": "incremental", "key": ["_ds_row_id"]},
    }
    datasense("check", datasense.write("kept.json", kept))
    datasense("apply", datasense.manifest(recipes=[kept]))
    datasense("sync", datasense.org, "--local")
    datasense("build", datasense.org, "--local")
    moment = {**kept, "steps": [{"op": "select", "columns": ["_ds_row_id", "town"]}]}
    problem = datasense("check", datasense.write("moment.json", moment), "--org", datasense.org, code=1)
    assert "needs the source's '_ds_loaded_at'" in problem.words


def test_columns_are_checked_against_an_organisation(loaded: CommandLine) -> None:
    recipe = {**RECIPES[0], "steps": [{"op": "drop", "columns": ["twon"]}]}
    path = loaded.write("recipe.yaml", recipe)
    loaded("check", path)
    result = loaded("check", path, "--org", loaded.org, code=1)
    assert "town" in result.words


@pytest.mark.parametrize("text", ["- 1\n- 2\n", "just words", "a: [1"])
def test_a_file_that_is_neither_is_refused(datasense: CommandLine, text: str) -> None:
    datasense("check", datasense.write("odd.yaml", text), code=1)


UNSURE = {
    "version": 1,
    "name": "unsure",
    "inputs": {"all": "source:places.towns", "more": "source:places.towns", "spare": "source:places.towns"},
    "steps": [
        {"op": "join", "with": "more", "how": "left", "on": [{"left": "town", "right": "town"}]},
        {"op": "filter", "where": {"column": "people", "operator": "in", "value": []}},
    ],
}


def test_warnings_are_told_and_fail_nothing(loaded: CommandLine) -> None:
    path = loaded.write("unsure.yaml", UNSURE)
    result = loaded("check", path, "--json")
    codes = [(warning["code"], warning["path"]) for warning in result.document["warnings"]]
    assert codes == [("unused_input", "inputs.spare"), ("never_matches", "steps[1].where")]
    assert "spare" in result.words
    with_org = loaded("check", path, "--org", loaded.org, "--json").document["warnings"]
    assert ("join_multiplies", "steps[0].on") in [(warning["code"], warning["path"]) for warning in with_org]
    manifest = loaded.manifest(recipes=[*RECIPES, UNSURE])
    for arguments in ((), ("--org", loaded.org)):
        found = loaded("check", manifest, "--json", *arguments).document["warnings"]
        assert "recipes[2].inputs.spare" in [warning["path"] for warning in found]


def test_a_preview_counts_whether_a_join_multiplies_rows(loaded: CommandLine) -> None:
    steps = [UNSURE["steps"][0]]  # type: ignore[index]
    loaded("apply", loaded.manifest(recipes=[{**UNSURE, "steps": steps}]))
    codes = [each["code"] for each in loaded("preview", f"{loaded.org}/unsure", "--json").document["warnings"]]
    assert codes == ["unused_input"]
    schema = f"org_{loaded.org.replace('-', '_')}"
    loaded.rows(f"UPDATE {schema}.places__towns SET town = 'Ajmer'")
    result = loaded("preview", f"{loaded.org}/unsure")
    assert "1 value comes several times in town" in result.words
