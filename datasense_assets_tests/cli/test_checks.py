"""Checks from the command line: refused, exported, run, listed, accepted, and told in the status."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from datasense_assets_tests.cli.conftest import TOWNS, CommandLine

BIG = {
    "version": 1,
    "name": "big_towns",
    "inputs": {"towns": "source:places.towns"},
    "steps": [],
    "checks": [{"check": "not_null", "column": "town", "severity": "warn"}],
}


def manifest(datasense: CommandLine, *checks: Any, recipes: tuple[Any, ...] = (BIG,), **table: Any) -> Any:
    towns = datasense.folder / "towns.csv"
    if not towns.exists():
        towns.write_text(TOWNS, encoding="utf-8")
    tables = [{"slug": "towns", "resource": "towns.csv", "checks": list(checks), **table}]
    source = {"slug": "places", "connector": "csv", "config": {"url": str(towns), "key": ["code"]}, "tables": tables}
    return datasense.manifest(sources=[{**source, "schedule": "manual"}], recipes=list(recipes))


def test_every_mistake_in_checks_is_told_with_its_place_and_nothing_is_written(datasense: CommandLine) -> None:
    wrong = manifest(
        datasense,
        {"check": "not_nul", "column": "town"},
        {"check": "range", "column": "people"},
        {"check": "max_lossy_casts"},
        {"check": "exists_in", "column": "town", "in": "source:plases.towns"},
        recipes=({**BIG, "checks": [{"check": "exists_in", "column": "town", "in": "recipe:big_town"}]},),
    )
    for command in ("check", "apply"):
        told = datasense(command, wrong, "--json", code=1).document["error"]["problems"]
        found = {problem["path"]: f"{problem['message']} {problem['fix'] or ''}" for problem in told}
        assert "write one of not_null" in found["sources[0].tables[0].checks[0].check"]
        assert "needs min or max" in found["sources[0].tables[0].checks[1].min"]
        assert "Did you mean places?" in found["sources[0].tables[0].checks[3].in"]
        assert "Did you mean big_towns?" in found["recipes[0].checks[0].in"]
    assert datasense("list", "--json").document == {"orgs": []}
    only = manifest(datasense, {"check": "max_lossy_casts"})
    (problem,) = datasense("apply", only, "--json", code=1).document["error"]["problems"]
    assert problem["path"] == "sources[0].tables[0].checks[0].check"


def looks_into(recipe: str, **more: Any) -> dict[str, Any]:
    return {"check": "exists_in", "column": "town", "in": f"recipe:{recipe}", **more}


def recipe_of(name: str, of: str, *checks: Any) -> dict[str, Any]:
    return {"version": 1, "name": name, "inputs": {"t": of}, "steps": [], "checks": list(checks)}


TOWN_LIST, TOWN_NAMES = recipe_of("town-list", "source:places.towns"), recipe_of("names", "recipe:town_list")
CIRCLES: dict[str, tuple[list[Any], list[Any], dict[str, str]]] = {
    "a recipe made of the table": (
        [{"check": "row_count"}, looks_into("town_list")],
        [TOWN_LIST],
        {"sources[0].tables[0].checks[1].in": "source:places.towns → recipe:town_list → source:places.towns"},
    ),
    "through another recipe": (
        [looks_into("names")],
        [TOWN_LIST, TOWN_NAMES],
        {
            "sources[0].tables[0].checks[0].in": "source:places.towns → recipe:names → recipe:town_list"
            " → source:places.towns"
        },
    ),
    "a recipe's check": (
        [],
        [{**TOWN_LIST, "checks": [looks_into("names")]}, TOWN_NAMES],
        {"recipes[0].checks[0].in": "recipe:town_list → recipe:names → recipe:town_list"},
    ),
    "two checks": (
        [],
        [
            recipe_of("a", "source:places.towns", looks_into("b")),
            recipe_of("b", "source:places.towns", looks_into("a")),
        ],
        {
            "recipes[0].checks[0].in": "recipe:a → recipe:b → recipe:a",
            "recipes[1].checks[0].in": "recipe:b → recipe:a → recipe:b",
        },
    ),
    "a check of a table between": (
        [looks_into("b")],
        [TOWN_LIST, recipe_of("a", "source:places.towns"), recipe_of("b", "recipe:town_list", looks_into("a"))],
        {
            "sources[0].tables[0].checks[0].in": "source:places.towns → recipe:b → recipe:town_list"
            " → source:places.towns",
            "recipes[2].checks[0].in": "recipe:b → recipe:a → source:places.towns → recipe:b",
        },
    ),
}


@pytest.mark.parametrize("what", CIRCLES)
def test_a_check_that_would_wait_for_itself_is_refused(datasense: CommandLine, what: str) -> None:
    checks, recipes, circles = CIRCLES[what]
    wrong = manifest(datasense, *checks, recipes=tuple(recipes))
    for command in ("check", "apply"):
        told = datasense(command, wrong, "--json", code=1).document["error"]["problems"]
        assert {each["path"]: each["message"] for each in told if each["path"] in circles} == {
            path: f"the check would wait for itself in a circle: {circle}." for path, circle in circles.items()
        }
        assert {each["fix"] for each in told} == {"Give the check severity: warn, or have it look into another table."}
    assert datasense("list", "--json").document == {"orgs": []}


def test_a_check_that_waits_for_another_alone_is_no_circle(datasense: CommandLine) -> None:
    warned = looks_into("town_list", severity="warn")
    itself = {**recipe_of("own", "source:places.towns"), "checks": [looks_into("own"), looks_into("town_list")]}
    good = manifest(datasense, warned, {**looks_into(""), "in": "source:places.towns"}, recipes=(TOWN_LIST, itself))
    datasense("check", good)
    datasense("apply", good)
    datasense("sync", datasense.org, "--local")
    datasense("build", datasense.org, "--local", code=None)
    datasense("build", datasense.org, "--local")


def test_columns_are_held_against_those_that_the_catalog_knows(datasense: CommandLine) -> None:
    datasense("apply", manifest(datasense))
    datasense("sync", datasense.org, "--local")
    wrong = manifest(
        datasense,
        {"check": "not_null", "column": "twon"},
        {"check": "range", "column": "people", "min": "many"},
        {"check": "pattern", "column": "town", "pattern": "("},
        {"check": "exists_in", "column": "town", "in": "source:places.towns", "to": "nmae"},
        {"check": "exists_in", "column": "town", "in": "source:places.towns", "to": "code"},
        recipes=(
            {**BIG, "checks": [{"check": "exists_in", "column": "town", "in": "source:places.towns", "to": "x"}]},
        ),
    )
    for command in (("apply", wrong), ("check", wrong, "--org", datasense.org)):
        told = datasense(*command, "--json", code=1).document["error"]["problems"]
        at = "sources[0].tables[0].checks"
        assert [(each["path"].removeprefix(at), each["message"].rpartition("[")[2]) for each in told] == [
            ("[2].pattern", "bad_pattern]"),
            ("[0].column", "unknown_column]"),
            ("[1].min", "bad_literal]"),
            ("[3].to", "unknown_column]"),
            ("[4].to", "join_key_type]"),
            ("recipes[0].checks[0].to", "unknown_column]"),
        ]
        assert "did you mean 'town'?" in told[1]["message"]


def test_checks_come_out_of_the_catalog_as_they_went_in(datasense: CommandLine) -> None:
    checks = [
        {"check": "range", "column": "people", "min": 1, "max": 2.5e6, "severity": "warn"},
        {"check": "condition", "where": {"column": "people", "operator": ">", "value": 0, "or_null": True}},
    ]
    path = manifest(datasense, *checks)
    datasense("apply", path)
    exported = yaml.safe_load(datasense("export", datasense.org).out)
    assert exported["sources"][0]["tables"][0]["checks"] == checks
    assert exported["recipes"][0]["checks"] == BIG["checks"]
    again = datasense("apply", path, "--json").document["changes"]
    assert {change["action"] for change in again} == {"keep"}
    changed = datasense("apply", manifest(datasense, checks[0]), "--json").document["changes"]
    assert [(c["action"], c["path"], c["details"]) for c in changed if c["action"] != "keep"] == [
        ("update", f"{datasense.org}/places/towns", ["checks"])
    ]


def status(datasense: CommandLine) -> dict[str, dict[str, Any]]:
    rows = datasense("status", datasense.org, "--json").document["rows"]
    return {row["path"].removeprefix(f"{datasense.org}/"): row for row in rows}


def test_a_broken_check_is_told_by_sync_checks_and_status(datasense: CommandLine) -> None:
    datasense("apply", manifest(datasense, {"check": "row_count", "min": 1}))
    datasense("sync", datasense.org, "--local")
    datasense("build", datasense.org, "--local")
    broken = {"check": "not_null", "column": "people"}
    (datasense.folder / "towns.csv").write_text(TOWNS + "4,,\n", encoding="utf-8")
    datasense("apply", manifest(datasense, broken, types={"people": "integer"}))
    before = datasense("checks", "list", datasense.org, "--json").document["checks"]
    assert [(row["check"], row["passed"]) for row in before] == [("not_null_people", None), ("not_null_town", True)]
    synced = datasense("sync", datasense.org, "--local", code=2)
    assert "not_null_people: 2 of 4 rows: people is null." in synced.words
    listed = datasense("checks", "list", f"{datasense.org}/places/towns")
    assert "BROKEN" in listed.out
    assert "Such as 3, 4." in " ".join(listed.out.replace("│", " ").replace("|", " ").split())
    found = status(datasense)
    assert found["places/towns"]["state"] == "breaks checks"
    assert "people is null" in found["places/towns"]["why"]
    assert "On their last good data: big_towns." in found["places/towns"]["why"]
    assert found["recipes/big_towns"]["state"] == "outdated"
    assert "Its input towns breaks a check" in found["recipes/big_towns"]["why"]
    # Who asks by name gets the recipe built all the same; its own check only warns.
    datasense("build", f"{datasense.org}/big_towns", "--local")
    found = status(datasense)
    assert found["recipes/big_towns"]["state"] == "fresh"
    assert "not_null_town (1 of 4 rows: town is null.)" in found["recipes/big_towns"]["warning"]


def test_a_first_load_of_all_sources_begins_with_those_that_others_are_checked_against(datasense: CommandLine) -> None:
    def source(slug: str, *checks: Any) -> dict[str, Any]:
        towns = datasense.folder / "towns.csv"
        towns.write_text(TOWNS, encoding="utf-8")
        tables = [{"slug": "towns", "resource": "towns.csv", "checks": list(checks)}]
        config = {"url": str(towns), "key": ["code"]}
        return {"slug": slug, "connector": "csv", "config": config, "tables": tables, "schedule": "manual"}

    def found_in(other: str) -> dict[str, Any]:
        return {"check": "exists_in", "column": "town", "in": f"source:{other}.towns"}

    # the last two are held against each other, which no order of loading can suit: the first waits for the second
    sources = [source("a-forms", found_in("b_places")), source("b-places", found_in("c_states")), source("c-states")]
    circle = [
        source("d-one", {**found_in("e_two"), "severity": "warn"}),
        source("e-two", {**found_in("d_one"), "severity": "warn"}),
    ]
    datasense("apply", datasense.manifest(sources=[*sources, *circle], recipes=[]))
    datasense("sync", datasense.org, "--local")
    checks = datasense("checks", "list", datasense.org, "--json").document["checks"]
    assert [(row["asset"].split("/")[1], row["passed"]) for row in checks] == [
        ("a_forms", True),
        ("b_places", True),
        ("d_one", True),
        ("e_two", True),
    ]


def test_what_checks_look_into_is_not_deleted_unless_asked_twice(datasense: CommandLine) -> None:
    towns = datasense.folder / "towns.csv"
    towns.write_text(TOWNS, encoding="utf-8")

    def source(slug: str, *others: str) -> dict[str, Any]:
        checks = [{"check": "exists_in", "column": "town", "in": other, "severity": "warn"} for other in others]
        tables = [{"slug": "towns", "resource": "towns.csv", "checks": checks}]
        config = {"url": str(towns), "key": ["code"]}
        return {"slug": slug, "connector": "csv", "config": config, "tables": tables, "schedule": "manual"}

    recipe = {"version": 1, "name": "list-of", "inputs": {"t": "source:places.towns"}, "steps": []}
    reader = {**recipe, "name": "reader", "checks": [{"check": "exists_in", "column": "town", "in": "recipe:list-of"}]}
    places = source("places", "source:of-states.towns", "recipe:list_of", "source:places.towns")
    datasense("apply", datasense.manifest(sources=[places, source("of-states")], recipes=[recipe, reader]))
    for what, told in (
        ("of-states", ["a check of places/towns would not hold: it looks into source:of-states.towns."]),
        (
            "list_of",
            [
                "a check of places/towns would not hold: it looks into recipe:list_of.",
                "a check of recipes/reader would not hold: it looks into recipe:list-of.",
            ],
        ),
        ("reader", []),
    ):
        done = datasense("delete", f"{datasense.org}/{what}", "--dry-run", "--json").document
        assert done["checks"] == told
        problems = datasense("delete", f"{datasense.org}/{what}", "--json", code=1 if told else 0).document
        if told:
            assert [each["message"] for each in problems["error"]["problems"]] == told
    assert datasense("delete", f"{datasense.org}/of-states", "--force", "--json").document["checks"]


def test_checks_are_run_here_and_now_and_the_exit_code_tells(datasense: CommandLine) -> None:
    datasense("apply", manifest(datasense, {"check": "row_count", "max": 3}, {"check": "unique", "columns": ["code"]}))
    datasense("sync", datasense.org, "--local")
    done = datasense("checks", "run", f"{datasense.org}/places", "--json").document["checks"]
    assert [(row["check"], row["passed"]) for row in done] == [("row_count", True), ("unique_code", True)]
    schema = "org_" + datasense.org.replace("-", "_")
    datasense.rows(f"INSERT INTO {schema}.places__towns (_ds_row_id, code, _ds_loaded_at) VALUES ('9', 9, now())")
    done = datasense("checks", "run", f"{datasense.org}/places/towns", "--json", code=2)
    assert [(row["check"], row["passed"]) for row in done.document["checks"]] == [
        ("row_count", False),
        ("unique_code", True),
    ]
    assert datasense("list", "runs", "--json").document["runs"]


@pytest.mark.parametrize("what", ["", "/places/towns", "/recipes"])
def test_what_has_no_checks_says_where_they_are_written(datasense: CommandLine, what: str) -> None:
    datasense("apply", manifest(datasense, recipes=()))
    told = datasense("checks", "list", f"{datasense.org}{what}", code=1)
    assert "has no checks" in told.words


def test_a_person_can_accept_a_number_of_rows_and_what_waits_goes_on(datasense: CommandLine) -> None:
    change = {"check": "row_count_change", "max_drop_percent": 10}
    datasense("apply", manifest(datasense, change, recipes=({**BIG, "checks": [change]},)))
    datasense("sync", datasense.org, "--local")
    datasense("build", datasense.org, "--local")
    (datasense.folder / "towns.csv").write_text("".join(TOWNS.splitlines(keepends=True)[:2]), encoding="utf-8")
    datasense("sync", datasense.org, "--local", code=2)
    table, recipe = f"{datasense.org}/places/towns", f"{datasense.org}/recipes/big_towns"
    told = datasense("checks", "accept", table, "--json").document
    assert told == {"accepted": table, "rows": 1}
    assert status(datasense)["places/towns"]["state"] == "manual"
    datasense("sync", datasense.org, "--local")
    datasense("build", datasense.org, "--local", code=2)
    assert status(datasense)["recipes/big_towns"]["state"] == "failing"
    datasense("checks", "accept", recipe)
    datasense("build", datasense.org, "--local")
    assert status(datasense)["recipes/big_towns"]["state"] == "fresh"
    assert "No check objects" in datasense("checks", "accept", table, code=1).words
    assert "is not one table" in datasense("checks", "accept", datasense.org, code=1).words
