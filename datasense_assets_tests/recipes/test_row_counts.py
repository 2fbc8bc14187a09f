"""The judgement of row counts on simulated field data: quiet on campaigns, loud when rows are lost or come twice."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from datasense_assets.recipes.checking.history import LoadCount, judge
from datasense_assets.recipes.language.checks import RowCountChangeCheck

START = datetime(2026, 1, 5, 6, tzinfo=UTC)
Series = list[LoadCount]


def check(**fields: Any) -> RowCountChangeCheck:
    return RowCountChangeCheck(check="row_count_change", **fields)


LEARNT = check()


def campaign(seed: str, every: timedelta) -> Series:
    """A form's table, load by load: it starts some day, rests on Sundays and for every third fortnight, has bursts,
    devices that send days later, now and then a source that is down for days, and test rows that are taken out.
    """
    rng = random.Random(seed)
    rows, rate = rng.choice([0, 0, 12, 80, 300, 1200, 9000]), 10 ** rng.uniform(0.5, 3.5)
    begins, saturday = rng.choice([0, 3, 10, 25]), rng.choice([0, 0.1, 0.5])
    bursts, outages = rng.choice([0, 0.03, 0.1]), rng.choice([0, 0.03])
    week, unsent, at = [1, 1, 1, 1, 1, saturday, 0], 0, START
    found: Series = []
    while len(found) < 120:
        day = (at - START).days
        rests = day < begins or ((day // 14) % 3 == 2 and rng.random() < 0.8)
        mean = 0 if rests else rate * week[at.weekday()] * (every / timedelta(days=1))
        new = int(rng.gammavariate(2, mean / 2)) if mean else 0
        new = int(new * rng.uniform(3, 10)) if rng.random() < bursts else new
        if rng.random() < 0.05:
            new, unsent = new - new // 2, unsent + new // 2
        elif rng.random() < 0.2:
            new, unsent = new + unsent, 0
        rows += new
        if rng.random() < 0.01 and rows > 50:
            rows -= rng.randint(1, rows // 10)
        found.append(LoadCount(at, rows))
        at += every + (timedelta(days=rng.randint(2, 8)) if rng.random() < outages else timedelta())
    return found


def day_files(seed: str, every: timedelta) -> Series:
    """A file that holds only the rows of its own day: full in the week, nearly empty on Sundays, with bursts."""
    rng = random.Random(seed)
    rate, at = 10 ** rng.uniform(1, 3.5), START
    week = [1, 1, 1, 1, 1, 0.5, rng.choice([0, 0.02])]
    found: Series = []
    while len(found) < 120:
        mean = rate * week[at.weekday()]
        rows = int(rng.gammavariate(4, mean / 4)) if mean else 0
        found.append(LoadCount(at, rows * (rng.randint(2, 4) if rng.random() < 0.05 else 1)))
        at += every
    return found


def alarms(series: Series) -> list[str]:
    found = [(i, judge(LEARNT, series[:i], each.rows, each.at)) for i, each in enumerate(series)]
    return [f"load {i}: {judgement.message}" for i, judgement in found if not judgement.passed]


@pytest.mark.parametrize("every", [timedelta(hours=1), timedelta(hours=6), timedelta(days=1), timedelta(days=7)])
@pytest.mark.parametrize("make", [campaign, day_files])
def test_it_is_quiet_on_campaigns(make: Callable[[str, timedelta], Series], every: timedelta) -> None:
    said = [message for seed in range(60) for message in alarms(make(f"{seed}", every))]
    # Of 7,200 loads: a campaign that begins by just doubling the table can be told from a double load by nobody.
    assert len(said) <= 7, said


@pytest.mark.parametrize("every", [timedelta(hours=1), timedelta(days=1), timedelta(days=7)])
def test_it_speaks_when_a_table_is_cut_to_a_tenth_or_emptied_or_loaded_twice(every: timedelta) -> None:
    tried, tenth, empty, twice = 0, 0, 0, 0
    for seed in range(60):
        series = campaign(f"{seed}", every)
        for at in (40, 70, 100):
            past, now = series[:at], series[at]
            if past[-1].rows < 50:
                continue
            tried += 1
            tenth += not judge(LEARNT, past, now.rows // 10, now.at).passed
            empty += not judge(LEARNT, past, 0, now.at).passed
            twice += not judge(LEARNT, past, now.rows * 2, now.at).passed
    assert tried > 100
    assert tenth / tried > 0.97
    assert empty / tried > 0.97
    # A double load in the midst of a burst looks like more of the burst.
    assert twice / tried > 0.6


@pytest.mark.parametrize("rows", [36, 200, 5000])
def test_a_table_that_stays_as_it_is_may_neither_double_nor_shrink(rows: int) -> None:
    series = [LoadCount(START + timedelta(days=day), rows) for day in range(20)]
    now = START + timedelta(days=20)
    assert judge(LEARNT, series, rows, now).passed
    assert judge(LEARNT, series, rows + 3, now).passed
    assert not judge(LEARNT, series, 2 * rows, now).passed
    assert not judge(LEARNT, series, rows // 10, now).passed


def test_a_join_that_multiplies_rows_speaks() -> None:
    series = [LoadCount(START + timedelta(days=day), 4000 + 50 * day) for day in range(20)]
    assert not judge(LEARNT, series, 60_000, START + timedelta(days=20)).passed


def test_the_rows_of_a_week_without_loads_may_come_at_once() -> None:
    series = [LoadCount(START + timedelta(days=day), 1000 * (day + 1)) for day in range(10)]
    assert judge(LEARNT, series, 19_000, START + timedelta(days=18)).passed


def test_with_few_loads_it_says_that_it_cannot_tell() -> None:
    series = [LoadCount(START + timedelta(days=day), 500) for day in range(5)]
    judged = judge(LEARNT, series, 5, START + timedelta(days=5))
    assert judged.passed
    assert "too few loads" in judged.message
    assert "no earlier load" in judge(LEARNT, [], 5, START).message


@pytest.mark.parametrize(
    ("fields", "rows", "passed"),
    [
        ({"max_drop_percent": 50}, 49, False),
        ({"max_drop_percent": 50}, 50, True),
        ({"max_drop_percent": 50}, 900, True),
        ({"max_growth_percent": 10}, 111, False),
        ({"max_growth_percent": 10}, 110, True),
        ({"max_growth_percent": 10}, 1, True),
        ({"max_drop_percent": 0, "max_growth_percent": 0}, 100, True),
    ],
)
def test_limits_of_ones_own_count_from_the_second_load(fields: dict[str, Any], rows: int, passed: bool) -> None:
    judged = judge(check(**fields), [LoadCount(START, 100)], rows, START + timedelta(days=1))
    assert judged.passed == passed


def test_an_error_stays_until_the_rows_are_back_or_someone_accepts_the_number() -> None:
    limits = check(max_drop_percent=50)
    later = START + timedelta(days=3)
    lost = [LoadCount(START, 100), LoadCount(START + timedelta(days=1), 10, accepted=False)]
    assert not judge(limits, lost, 10, later).passed
    assert judge(limits, lost, 101, later).passed
    accepted = [lost[0], LoadCount(lost[1].at, 10)]
    assert judge(limits, accepted, 11, later).passed


def test_a_warning_is_said_once_and_the_number_that_comes_again_is_the_new_level() -> None:
    limits = check(max_drop_percent=50, severity="warn")
    lost = [LoadCount(START, 100), LoadCount(START + timedelta(days=1), 10, accepted=False)]
    again = judge(limits, lost, 11, START + timedelta(days=2))
    assert again.passed
    assert again.settled
    back = judge(limits, lost, 100, START + timedelta(days=2))
    assert back.passed
    assert not back.settled
    assert not judge(limits, lost, 30, START + timedelta(days=2)).passed
