"""Submissions of any shape become pages: each answer once, in its row, whatever the other rows of the page have."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from datasense_assets.connectors.base import INDEX, PARENT_ID, ROW_ID, kept_key
from datasense_assets.connectors.kobo_form import form_tables
from datasense_assets.connectors.kobo_rows import Flattener

FORM = {"uid": "f", "name": "Form", "content": {"survey": [{"type": "text", "name": "name"}], "choices": []}}
TEXTS = st.sampled_from(["x", "", "é", "12", "a\0b", "\ud800"])
SCALARS = TEXTS | st.none() | st.booleans() | st.integers(-5, 2**70) | st.sampled_from([1.5, 0.0])
PLAIN = SCALARS | st.just([]) | st.lists(st.integers(), min_size=1, max_size=2) | st.just({"k": [1]})
CHILD = st.dictionaries(st.sampled_from(["kids/name", "kids/age", "name", ROW_ID, INDEX]), PLAIN, max_size=3)
ROWS = st.lists(
    st.dictionaries(st.sampled_from(["name", "a", "b", ROW_ID, INDEX, PARENT_ID]), PLAIN, max_size=4)
    | st.fixed_dictionaries({"name": PLAIN, "kids": st.lists(CHILD, max_size=3)}),
    min_size=1,
    max_size=6,
)


def expected(value: Any) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None or value in ([], {}):
        return None
    if isinstance(value, list | dict):
        return {"k": '{"k": [1]}'}["k"] if isinstance(value, dict) else str(value)
    return str(value).replace("\0", "").encode("utf-8", "replace").decode()


@given(rows=ROWS)
def test_each_answer_is_in_its_row_and_each_repeat_under_its_parent(rows: list[dict[str, Any]]) -> None:
    submissions = [{**row, "_id": number} for number, row in enumerate(rows, start=7)]
    pages = dict(Flattener(form_tables(FORM)).flatten(submissions))
    top = pages[()].to_pylist()
    assert [row[ROW_ID] for row in top] == [str(each["_id"]) for each in submissions]
    for row, each in zip(top, submissions, strict=True):
        wanted = {kept_key(k): expected(v) for k, v in each.items() if k != "kids"}
        assert {k: v for k, v in row.items() if v is not None and k != ROW_ID} == {
            k: v for k, v in wanted.items() if v is not None
        }
    children = [(each["_id"], n, kid) for each in submissions for n, kid in enumerate(each.get("kids", ()), start=1)]
    found = pages[("kids",)].to_pylist() if ("kids",) in pages else []
    assert [(row[PARENT_ID], row[INDEX], row[ROW_ID]) for row in found] == [
        (str(parent), str(n), f"{parent}/{n}") for parent, n, _ in children
    ]
    for row, (_, _, kid) in zip(found, children, strict=True):
        answers = {k: v for k, v in row.items() if v is not None and k not in (ROW_ID, INDEX, PARENT_ID)}
        assert answers == {kept_key(k): expected(v) for k, v in kid.items() if expected(v) is not None}
