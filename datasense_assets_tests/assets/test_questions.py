"""The comments of recipes' columns, over a form that words its questions anew and people who write comments."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from datasense_assets_tests.assets.conftest import TOKEN, Yard
from datasense_assets_tests.places import today
from examples.kobo_form import Form
from examples.kobo_stand_in import serve

HOMES = {"homes": "source:homes.homes"}


def recipe(name: str, *steps: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"version": 1, "name": name, "inputs": HOMES, "steps": list(steps), **more}


ROW_BY_ROW = {"materialize": "incremental", "key": ["_ds_row_id"]}
KEPT = (
    recipe("plain"),
    recipe("seen", output={"materialize": "view"}),
    recipe("grown", output=ROW_BY_ROW),
    recipe("above", inputs={"plain": "recipe:plain"}),
)


class Homes:
    """A form of two questions, and what the comments on its columns are."""

    def __init__(self, yard: Yard, form: Form, url: str) -> None:
        self.yard, self.form, self.url = yard, form, url

    def word(self, name: str, age: str) -> None:
        for row, words in zip(self.form.content["survey"], (name, age), strict=True):
            row["label"] = words

    def answer(self, name: str, age: str) -> None:
        self.form.add({"name": name, "age": age}, at=datetime.now(UTC) - timedelta(hours=1))

    def apply(self, *recipes: dict[str, Any]) -> None:
        source = {"slug": "homes", "connector": "kobo", "config": {"base_url": self.url}, "schedule": "daily"}
        source |= {"credentials": {"token": {"env": "CLEAN_WATER_KOBO_TOKEN"}}, "partitions": {"start": today(ago=30)}}
        self.yard.apply({**source, "tables": [{"slug": "homes", "resource": "aHomes"}]}, recipes=list(recipes))

    def sync(self) -> None:
        done = self.yard.run("clean_water/homes", partition=today())
        assert done.success, done.failures

    def build(self, *names: str) -> dict[str, str]:
        """Build them, after each other; what each build says of itself."""
        said = {}
        for name in names:
            done = self.yard.run(f"clean_water/recipes/{name}")
            assert done.success, done.failures
            (metadata,) = done.materialized.values()
            said[name] = metadata["build"]
            schema = {column.name: column.description for column in metadata["dagster/column_schema"].columns}
            assert {n: schema[n] for n in ("name", "age") if n in schema} == self.comments(name)
        return said

    def comments(self, table: str) -> dict[str, str | None]:
        query = (
            "SELECT attname, col_description(attrelid, attnum) FROM pg_attribute"
            " WHERE attrelid = to_regclass(%s) AND attname IN ('name', 'age')"
        )
        return dict(self.yard.rows(query, f"org_clean_water.{table}"))


@pytest.fixture
def homes(yard: Yard) -> Iterator[Homes]:
    survey = [{"type": "text", "name": "name"}, {"type": "integer", "name": "age"}]
    form = Form("aHomes", "Homes", {"survey": survey})
    with serve([form], token=TOKEN) as server:
        house = Homes(yard, form, server.url)
        house.word("Who are you?", "How old?")
        house.answer("Asha", "34")
        yield house


def test_a_question_that_is_worded_anew_reaches_every_recipe_and_no_persons_comment(homes: Homes) -> None:
    names = [each["name"] for each in KEPT]
    homes.apply(*KEPT)
    homes.sync()
    homes.build(*names)
    assert [homes.comments(name) for name in names] == [{"name": "Who are you?", "age": "How old?"}] * 4
    by_hand = "Years, 'as told' 100% 🎂"
    for name in names[:3]:
        kind = "VIEW" if name == "seen" else "TABLE"
        homes.yard.execute(f"COMMENT ON COLUMN org_clean_water.{name}.age IS '{by_hand.replace(chr(39), chr(39) * 2)}'")
        homes.yard.execute(f"COMMENT ON {kind} org_clean_water.{name} IS 'Ours'")
    homes.word("आपका नाम क्या है?", "How many years?")
    homes.sync()
    assert homes.build(*names)["above"].startswith("unchanged: ")
    mixed = {"name": "आपका नाम क्या है?", "age": by_hand}
    assert [homes.comments(name) for name in names] == [mixed] * 4
    homes.yard.execute("COMMENT ON COLUMN org_clean_water.homes__homes.name IS 'Called'")
    oid = "SELECT array_agg(to_regclass('org_clean_water.' || n)::oid) FROM unnest(%s::text[]) n"
    stood = homes.yard.rows(oid, names)
    said = homes.build(*names)
    assert all(words.startswith("unchanged: ") for words in said.values()), said
    assert homes.yard.rows(oid, names) == stood
    assert [homes.comments(name) for name in names] == [{**mixed, "name": "Called"}] * 4
    homes.word("Your name", "Age")
    homes.answer("Ravi", "7")
    homes.sync()
    assert homes.build(*names) == {**dict.fromkeys(names, "built"), "grown": "changed rows replaced"}
    assert [homes.comments(name) for name in names] == [{"name": "Your name", "age": by_hand}] * 4
    # who takes a comment away wants the question again
    homes.yard.execute("COMMENT ON COLUMN org_clean_water.plain.age IS NULL")
    homes.build("plain", "above")
    assert homes.comments("above") == {"name": "Your name", "age": "Age"}


def test_a_column_that_answers_another_question_or_none_does_not_keep_the_old_one(homes: Homes) -> None:
    homes.apply(recipe("one", {"op": "select", "columns": ["name", "age"]}))
    homes.sync()
    homes.build("one")
    swapped = {"op": "rename", "columns": {"name": "age", "age": "name"}}
    homes.apply(recipe("one", {"op": "select", "columns": ["name", "age"]}, swapped))
    homes.build("one")
    assert homes.comments("one") == {"name": "How old?", "age": "Who are you?"}
    reckoned = {"op": "formula", "column": "age", "formula": "age * 2"}
    homes.apply(recipe("one", {"op": "select", "columns": ["name", "age"]}, reckoned))
    homes.build("one")
    assert homes.comments("one") == {"name": "Who are you?", "age": None}
