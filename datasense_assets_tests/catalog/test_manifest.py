"""Reading a manifest: every mistake told at once, with its place and a fix, and no secret in a message."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasense_assets.catalog.manifest import Manifest, ManifestErrors, parse_manifest, slug_from
from datasense_assets.catalog.models import NAME_PATTERN, SLUG_PATTERN, Problem, identifier, table_name
from datasense_assets.catalog.yaml_text import write_yaml
from datasense_assets_tests.catalog.conftest import MANIFEST

TWENTY_MISTAKES = """
version: 2
organization:
  slug: Clean Water
  timezone: Asia/Kolkatta
  tier: gold
  contacts: ["mailto://me:hunter2@example.org"]
  colour: blue
sources:
  - slug: recipes
    connector: kobo
    schedul: hourly
  - slug: health
    connector: kobo
    credentials: {token: hunter2}
    schedule: {cron: "61 6 * * *"}
    partitions: {every: fortnight, start: soon}
    deletes: maybe
    tables:
      - {slug: visits, resource: a}
      - {slug: visits, resource: b}
      - {slug: "vis its", resource: c}
      - {slug: homes}
  - slug: health
    connector: csv
    config: {api_key: hunter2, url: "https://u:hunter2@example.org/x.csv"}
    tables: []
recipes:
  - {name: Monthly, inputs: {v: "source:health.visit"}}
  - {name: one, inputs: {v: "source:helth.visits"}}
  - {name: two, inputs: {v: "table visits"}}
  - {file: recipes/nowhere.json}
  - {name: x, inputs: {y: "recipe:y"}}
  - {name: y, inputs: {x: "recipe:x"}}
"""

EXPECTED = {
    "version": "Use 1.",
    "organization.slug": "clean-water",
    "organization.name": "Add name.",
    "organization.timezone": "Asia/Kolkata?",
    "organization.tier": "premium",
    "organization.contacts[0]": "{env: ",
    "organization.colour": "timezone",
    "sources[0].slug": "another slug",
    "sources[0].schedul": "schedule?",
    "sources[1].credentials.token": "{env: ",
    "sources[1].schedule": "five fields",
    "sources[1].partitions.every": "'week'",
    "sources[1].partitions.start": "",
    "sources[1].deletes": "'mark'",
    "sources[1].tables[1].slug": "name of its own",
    "sources[1].tables[2].slug": "vis_its",
    "sources[1].tables[3].resource": "Add resource.",
    "sources[2].slug": "name of its own",
    "sources[2].config.api_key": "credentials",
    "sources[2].config.url": "credentials",
    "sources[2].tables": "leave the field out",
    "recipes[0].name": "lower-case",
    "recipes[0].inputs.v": "visits?",
    "recipes[1].inputs.v": "health?",
    "recipes[2].inputs.v": "source:",
    "recipes[3].file": "manifest's folder",
    "recipes[4].inputs": "Take one",
}


def problems_of(text: str, path: Path | None = None) -> list[Problem]:
    with pytest.raises(ManifestErrors) as caught:
        parse_manifest(text, path)
    return list(caught.value.problems)


def test_every_mistake_is_told_at_its_place_with_a_fix() -> None:
    problems = problems_of(TWENTY_MISTAKES)
    told = {problem.path: problem for problem in problems}
    assert set(told) >= set(EXPECTED), set(EXPECTED) - set(told)
    assert set(told) - set(EXPECTED) <= {"recipes[5].inputs"}
    for path, words in EXPECTED.items():
        assert words in str(told[path]), str(told[path])
    lines = TWENTY_MISTAKES.splitlines()
    assert lines[told["organization.timezone"].line - 1].strip() == "timezone: Asia/Kolkatta"
    assert "slug: visits, resource: b" in lines[told["sources[1].tables[1].slug"].line - 1]
    assert all(problem.line is not None for problem in problems)


def test_no_message_holds_a_secret() -> None:
    assert "hunter2" not in "\n".join(map(str, problems_of(TWENTY_MISTAKES)))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds no manifest"),
        ("- a", "holds no manifest"),
        ("a: [1", "not YAML"),
        ("a: &x [*x]", "contains itself"),
        ("version: 1\nversion: 1\n", "given twice"),
        ("version: 1\norganization: []\nsources: 3\nrecipes: {}\n", "is no list"),
        (MANIFEST.replace("{base_url:", "{base_url: .nan, x:"), "cannot be stored"),
        (MANIFEST.replace("{base_url:", '{"a[b.[": .nan, base_url:'), "cannot be stored"),
        (
            MANIFEST.replace("slug: homes,", "slug: visits__x,").replace("slug: census", "slug: health-forms--visits"),
            "",
        ),
    ],
)
def test_a_text_that_is_no_manifest_says_so(text: str, words: str) -> None:
    assert words in "\n".join(map(str, problems_of(text)))


def test_two_sources_may_not_share_a_warehouse_table() -> None:
    text = MANIFEST.replace("slug: homes,", "slug: x__y,") + "\n"
    text = text.replace(
        "  - slug: census\n",
        "  - {slug: health-forms--x, connector: csv, tables: [{slug: y, resource: r}]}\n  - slug: census\n",
    )
    assert any("health_forms__x__y" in str(problem) for problem in problems_of(text))


def test_a_good_manifest_is_read_whole(manifest: Manifest) -> None:
    forms, census = manifest.sources
    assert [table.slug for table in forms.tables or ()] == ["visits", "homes"]
    assert not forms.takes_everything
    assert census.takes_everything
    assert manifest.recipes[0].spec["steps"][0]["columns"] == {"zeta": "z", "alpha": "a"}
    assert list(manifest.recipes[0].spec["inputs"]) == ["visits", "people", "a"]


def test_files_count_from_the_manifest(tmp_path: Path) -> None:
    (tmp_path / "recipes").mkdir()
    recipe = {"version": 1, "name": "r", "inputs": {"z": "source:s.t"}, "steps": []}
    (tmp_path / "recipes" / "r.json").write_text(json.dumps(recipe))
    text = """
version: 1
organization: {slug: o, name: O, warehouse: {file: db.url}}
sources:
  - {slug: s, connector: csv, credentials: {account: {file: secrets/g.json}}}
recipes: [{file: recipes/r.json}]
"""
    manifest = parse_manifest(text, tmp_path / "o.yaml")
    assert manifest.recipes[0].spec == recipe
    assert manifest.sources[0].credentials["account"].file == str(tmp_path / "secrets" / "g.json")
    assert manifest.organization.warehouse is not None
    assert manifest.organization.warehouse.file == str(tmp_path / "db.url")


def test_a_bad_recipe_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text("{")
    text = "version: 1\norganization: {slug: o, name: O}\nrecipes: [{file: r.json}]\n"
    assert "r.json" in "\n".join(map(str, problems_of(text, tmp_path / "o.yaml")))


@given(st.text(max_size=80))
@settings(deadline=None)
def test_any_text_gives_a_slug_or_nothing(text: str) -> None:
    slug = slug_from(text)
    assert slug == "" or re.fullmatch(SLUG_PATTERN, slug)


slugs = st.from_regex(SLUG_PATTERN, fullmatch=True)


@given(slugs, st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,119}", fullmatch=True))
def test_a_warehouse_name_fits_and_is_its_own(source: str, table: str) -> None:
    name = table_name(source, table)
    assert len(name.encode()) <= 63
    assert name == table_name(source.replace("-", "_"), table.replace("-", "_"))
    assert name != table_name(source, table + "x")


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["one", "two", "three"]), inner, max_size=3)
    ),
    max_leaves=8,
)
tables = st.lists(
    st.from_regex(r"[A-Za-z][A-Za-z0-9]{0,9}", fullmatch=True), unique_by=str.lower, min_size=1, max_size=3
).map(lambda names: [{"slug": name, "resource": f"r {name}", "key": ["k"]} for name in names])
schedules = st.sampled_from(["15min", "hourly", "daily", "weekly", "manual", {"cron": "*/7 1 * * 1-5"}])


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    """Documents that are right."""
    source_slugs = draw(
        st.lists(slugs.filter(lambda slug: "--" not in slug and slug != "recipes"), unique=True, max_size=3)
    )
    sources = [
        {
            "slug": slug,
            "connector": draw(st.sampled_from(["csv", "kobo"])),
            "config": {f"c{index}": draw(json_values)},
            "credentials": draw(
                st.sampled_from([{}, {"token": {"env": "A"}}, {"a": {"file": "/b"}, "b": {"encrypted": "c"}}])
            ),
            "schedule": draw(schedules),
            "partitions": draw(st.sampled_from([{}, {"every": "month"}, {"start": "2020-02-29"}])),
            "deletes": draw(st.sampled_from(["ignore", "mark", "remove"])),
            **draw(st.one_of(st.just({}), tables.map(lambda listed: {"tables": listed}))),
        }
        for index, slug in enumerate(source_slugs)
    ]
    names = (
        draw(
            st.lists(
                st.from_regex(NAME_PATTERN, fullmatch=True).filter(lambda n: "__" not in identifier(n)),
                unique_by=identifier,
                max_size=2,
            )
        )
        if sources
        else []
    )
    inputs = [f"source:{source['slug']}.{source.get('tables', [{'slug': 'any'}])[0]['slug']}" for source in sources]
    recipes = [
        {
            "version": 1,
            "name": name,
            "inputs": {f"i{n}": text for n, text in reversed(list(enumerate(inputs)))},
            "steps": [draw(json_values)],
        }
        for name in names
    ]
    organization = {"slug": draw(slugs), "name": draw(st.text("abc αβγ 水", min_size=1).filter(str.strip))}
    return {"version": 1, "organization": organization, "sources": sources, "recipes": recipes}


@given(documents())
@settings(deadline=None)
def test_a_manifest_means_the_same_however_it_is_written(document: dict[str, Any]) -> None:
    as_yaml = parse_manifest(write_yaml(document))
    assert as_yaml == parse_manifest(json.dumps(document))
    assert [source.slug for source in as_yaml.sources] == [source["slug"] for source in document["sources"]]
