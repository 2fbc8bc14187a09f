"""Names: unique, short, ASCII, stable."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from datasense_assets.ingest.naming import column_name, column_names

KEYS = st.lists(st.text(max_size=90), unique=True, max_size=30)


@given(KEYS)
def test_every_key_has_a_name_of_its_own_that_postgres_keeps(keys: list[str]) -> None:
    names = column_names(keys)
    assert list(names) == keys
    assert len(set(names.values())) == len(keys)
    for name in names.values():
        assert re.fullmatch(r"[a-z_][a-z0-9_]*", name)
        assert len(name.encode()) <= 63
        assert not name.startswith(("_ds_", "_dlt_"))


@given(KEYS, KEYS)
def test_a_name_once_given_is_never_changed_nor_given_away(first: list[str], second: list[str]) -> None:
    known = column_names(first)
    later = column_names([*second, *first][:30], known)
    for key, name in later.items():
        if key in known:
            assert name == known[key]
        else:
            assert name not in known.values()


def test_names_read_like_their_keys() -> None:
    assert column_name("Group A/How old?") == "group_a_how_old"
    assert column_name("_submission_time") == "_submission_time"
    assert column_name("2024") == "c_2024"
    assert column_name("_ds_row_id") == "c_ds_row_id"
    assert column_name("xmin") == "c_xmin"
    assert column_name("???") == "column"
    assert column_name("Âge du père") == "age_du_pere"


def test_headers_that_differ_only_in_signs_are_two_columns() -> None:
    assert column_names(["a b", "a-b", "A B"]) == {"a b": "a_b", "a-b": "a_b_2", "A B": "a_b_3"}
