"""The 22 questions of TPC-H as recipes give what DuckDB answers."""

from __future__ import annotations

from pathlib import Path

import psycopg

from datasense_assets_tests.recipes.relation import difference
from datasense_assets_tests.recipes.tpch import answers, duck
from datasense_assets_tests.recipes.tpch_page import page

DOCS = Path(__file__).parents[2] / "docs"


def test_every_question_is_answered_as_duckdb_answers_it(database_url: str) -> None:
    with psycopg.connect(database_url, prepare_threshold=None) as connection:
        found = answers(duck(0.01), connection, 0.01)
    assert [answer.number for answer in found] == list(range(1, 23))
    assert {answer.number: answer.wrong for answer in found if answer.wrong} == {}
    assert all(answer.rows for answer in found)


def test_one_wrong_cell_is_a_difference() -> None:
    assert difference([(1.0, "a")], [(1.0 + 1e-8, "a")], ordered=False) is not None
    assert difference([(1.0, "a")], [(1.0, "b")], ordered=False) is not None
    assert difference([(1.0, "a"), (1.0, "a")], [(1.0, "a")], ordered=False) is not None
    assert difference([(1.0, None)], [(1.0 + 1e-12, None)], ordered=False) is None


def test_the_page_is_made_from_the_recipes() -> None:
    assert (DOCS / "tpch.md").read_text(encoding="utf-8") == page()
