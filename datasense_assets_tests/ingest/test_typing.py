"""Types: what is taken for what, that no value changes its meaning, and that types never narrow."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, time
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasense_assets.catalog.models import ColumnType as T
from datasense_assets.ingest.casting import cast
from datasense_assets.ingest.typing import MISSING, Vote


def vote(*values: str | None, declared: T | None = None, pages: int = 1) -> Vote:
    result = Vote(declared)
    for page in range(pages):
        result.add(pa.chunked_array([pa.array(values[page::pages], pa.string())]))
    return result


def typed(*values: str | None, declared: T | None = None, timezone: str = "UTC") -> tuple[T, list[Any]]:
    kind = vote(*values, declared=declared).decide().type
    return kind, cast(pa.array(values, pa.string()), kind, timezone).to_pylist()


@pytest.mark.parametrize(
    ("values", "expected", "result"),
    [
        (["1", "-5", "0"], T.INTEGER, [1, -5, 0]),
        (["1", " 2 ", "n/a", None], T.INTEGER, [1, 2, None, None]),
        (["9223372036854775807"], T.INTEGER, [2**63 - 1]),
        (["9223372036854775808"], T.TEXT, ["9223372036854775808"]),
        (["007", "12"], T.TEXT, ["007", "12"]),
        (["+919876543210"], T.TEXT, ["+919876543210"]),
        (["12E4"], T.TEXT, ["12E4"]),
        (["1.5", "2", ".5", "1e-05"], T.NUMBER, [1.5, 2.0, 0.5, 1e-05]),
        (["1.5", "12345678901234567"], T.TEXT, ["1.5", "12345678901234567"]),
        (["1,5"], T.TEXT, ["1,5"]),
        (["nan", "inf"], T.TEXT, ["nan", "inf"]),
        (["true", "FALSE", ""], T.BOOLEAN, [True, False, None]),
        (["yes", "no"], T.TEXT, ["yes", "no"]),
        (["2024-02-29"], T.DATE, [date(2024, 2, 29)]),
        (["2023-02-29"], T.TEXT, ["2023-02-29"]),
        (["2024-01-01", "2024-01-01T10:00:00"], T.TEXT, ["2024-01-01", "2024-01-01T10:00:00"]),
        (["01/02/2024", "13/02/2024"], T.TEXT, ["01/02/2024", "13/02/2024"]),
        (["10:30", "23:59:59.5"], T.TIME, [time(10, 30), time(23, 59, 59, 500000)]),
        (["25:00"], T.TEXT, ["25:00"]),
        (["-", "n/a"], T.TEXT, ["-", "n/a"]),
        ([None, None], T.TEXT, [None, None]),
        (["a\x00b"], T.TEXT, ["ab"]),
    ],
)
def test_what_values_are_taken_for(values: list[str | None], expected: T, result: list[Any]) -> None:
    assert typed(*values) == (expected, result)


def test_a_datetime_without_offset_is_in_the_organisations_zone() -> None:
    kind, values = typed("2024-06-01 10:00", "2024-06-01T10:00:00.123Z", timezone="Asia/Kolkata")
    assert kind is T.DATETIME
    assert values == [datetime(2024, 6, 1, 4, 30, tzinfo=UTC), datetime(2024, 6, 1, 10, 0, 0, 123000, tzinfo=UTC)]


def test_a_declared_type_reads_its_own_way_of_writing() -> None:
    assert typed("007", "+5", declared=T.INTEGER) == (T.INTEGER, [7, 5])
    assert typed("yes", "0", declared=T.BOOLEAN) == (T.BOOLEAN, [True, False])
    assert typed("5", declared=T.NUMBER) == (T.NUMBER, [5.0])
    assert typed("5", declared=T.TEXT) == (T.TEXT, ["5"])
    assert typed('{"a": [1]}', declared=T.JSON) == (T.JSON, ['{"a": [1]}'])
    assert typed("{", declared=T.JSON) == (T.TEXT, ["{"])
    assert typed(declared=T.DATE) == (T.DATE, [])


def test_a_misfit_of_a_declared_type_is_text_and_said() -> None:
    decision = vote("5", "five", declared=T.INTEGER).decide()
    assert decision.type is T.TEXT
    assert "'five'" in decision.notes[0]


@given(st.lists(st.integers(-(2**63) + 1, 2**63 - 1), min_size=1), st.integers(1, 4))
def test_integers_stay_exact(numbers: list[int], pages: int) -> None:
    values = [str(number) for number in numbers]
    assert vote(*values, pages=pages).decide().type is T.INTEGER
    assert typed(*values)[1] == numbers


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False, min_value=-1e14, max_value=1e14), min_size=1))
def test_floats_stay_exact_or_text(numbers: list[float]) -> None:
    values = [repr(number) for number in numbers]
    kind, result = typed(*values)
    assert result == (numbers if kind is T.NUMBER else values)


@given(st.lists(st.none() | st.text(max_size=30), max_size=40), st.sampled_from([None, *T]))
def test_no_value_is_lost(values: list[str | None], declared: T | None) -> None:
    kind, result = typed(*values, declared=declared)
    for before, after in zip(values, result, strict=True):
        if before is None:
            assert after is None
        elif after is None:
            assert before.strip() in MISSING or not before.strip()
        elif kind is T.TEXT:
            assert after == before.replace("\x00", "")
        elif kind is T.JSON:
            assert json.loads(after) == json.loads(before)


ORDER = {T.INTEGER: 0, T.NUMBER: 1, T.TEXT: 2}


@given(
    st.lists(st.sampled_from(["1", "2.5", "x", "2024-01-01", "true", "", "12345678901234567"]), max_size=5),
    st.sampled_from(list(T)),
)
def test_types_widen_and_never_narrow(values: list[str], existing: T) -> None:
    new = vote(*values).widen(existing).type
    assert new in (existing, T.TEXT, T.NUMBER)
    if existing in ORDER:
        assert ORDER[new] >= ORDER[existing]
    cast(pa.array(values, pa.string()), new, "UTC")


class WithoutShortcut(Vote):
    """The vote that looks at every value from all sides."""

    def _goes_on(self, values: pa.Array) -> bool:
        del values
        return False


WRITTEN = st.sampled_from(
    [
        *("0", "-5", "12", "999999999999999", "1000000000000000", "9223372036854775807", "9223372036854775808"),
        *("007", "+5", "-0", "0x1F", " 7", "n/a", "", "1.5", "-0.25", ".5", "1e5", "1.5e+10", "2E-3", "1.", "abc"),
        *("25%", "$5", "1,5", "1.234,56"),
        *("2024-01-05", "2024-02-30", "2024-1-5", "2024-01-05T10:00:00Z", "true", "yes", "1", "10:30", "12/05/2024"),
    ]
)
PAGES = st.lists(st.lists(WRITTEN | st.none(), min_size=1, max_size=3), min_size=1, max_size=4)
ALIKE = WRITTEN.flatmap(lambda each: st.lists(st.lists(st.just(each) | WRITTEN, min_size=1, max_size=2), max_size=4))


@given(pages=PAGES | ALIKE, declared=st.none() | st.sampled_from([T.INTEGER, T.NUMBER, T.DATE, T.BOOLEAN, T.TEXT]))
def test_the_shortcut_of_the_vote_changes_nothing(pages: list[list[str | None]], declared: T | None) -> None:
    one, other = Vote(declared), WithoutShortcut(declared)
    for page in pages:
        for each in (one, other):
            each.add(pa.chunked_array([pa.array(page, pa.string())]))
    assert vars(one) == vars(other)


@given(pages=PAGES | ALIKE)
def test_a_plain_column_is_cast_to_the_same_values(pages: list[list[str | None]]) -> None:
    found = Vote()
    for page in pages:
        found.add(pa.chunked_array([pa.array(page, pa.string())]))
    values = pa.array([value for page in pages for value in page], pa.string())
    kind = found.decide().type
    assert cast(values, kind, "UTC", plain=found.plain).equals(cast(values, kind, "UTC"))


@pytest.mark.parametrize(
    "values",
    [["1.234,56", "0,5"], ["1,234"], ["1,234.56", "12"], ["12 500", "7"], ["1,00,000", "2.5"], ["-3,25", "n/a", None]],
)
def test_numbers_with_separators_stay_text_and_say_so(values: list[str | None]) -> None:
    decision = vote(*values).decide()
    assert decision.type is T.TEXT
    assert "decimal comma" in decision.notes[0]
    assert typed(*values)[1] == values


@pytest.mark.parametrize(
    "values",
    [
        ["25%", "7.5 %", "-3%"],
        ["₹5", "₹ 1,20,000.50", None],
        ["$1,200", "($3)", "12"],
        ["Rs. 500", "Rs 20", "500/-"],
        ["1 200,50 €", "n/a"],
        ["KES 5", "12 USD"],
        ["25", "30%"],
    ],
)
def test_numbers_with_a_percent_sign_or_a_currency_stay_text_and_say_so(values: list[str | None]) -> None:
    decision = vote(*values).decide()
    assert decision.type is T.TEXT
    assert decision.lasts
    (note,) = decision.notes
    assert note.startswith("holds numbers with a percent sign or a currency")
    assert typed(*values)[1] == values


@pytest.mark.parametrize(
    "values", [["25%", "most"], ["5 kg"], ["ABC 12"], ["10%-20%"], ["%"], ["1,5"], ["007"], ["1e5"]]
)
def test_other_columns_say_nothing_of_signs(values: list[str]) -> None:
    assert not any("percent sign" in note for note in vote(*values).decide().notes)


@pytest.mark.parametrize("values", [["1,5", "red"], ["1.5", "2"], ["1-234", "5"], ["12E4"], ["007", "1"], ["1,5,"]])
def test_other_columns_say_nothing_of_separators(values: list[str]) -> None:
    assert not any("decimal comma" in note for note in vote(*values).decide().notes)


@given(numbers=st.lists(st.integers(-(10**9), 10**9).map(lambda n: n / 100), min_size=1, max_size=5), pages=st.just(2))
def test_a_number_that_could_be_meant_otherwise_is_never_typed(numbers: list[float], pages: int) -> None:
    written = [f"{n:,.2f}".translate(str.maketrans(",.", ".,")) for n in numbers]
    assert vote(*written, pages=pages).decide().type is T.TEXT
