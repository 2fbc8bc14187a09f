"""What a run reads, from the partitions it was asked for."""

from __future__ import annotations

import pytest

from datasense_assets.assets.reading_mode import Mode, PastOfSnapshot, Reading, choose_reading

TODAY = "2026-11-22"
WEEK = [f"2026-11-{day}" for day in range(16, 23)]


def choose(asked: list[str], **how: bool) -> Reading:
    return choose_reading(asked, TODAY, **{"has_history": True, "full": False, "live": False, **how})


def test_today_alone_is_live() -> None:
    assert choose([TODAY]) == Reading(Mode.LIVE, TODAY, TODAY)


def test_no_partition_is_live() -> None:
    assert choose([]) == Reading(Mode.LIVE, TODAY, TODAY)


def test_an_older_day_is_a_backfill_of_that_day() -> None:
    assert choose(["2026-11-20"]) == Reading(Mode.BACKFILL, "2026-11-20", "2026-11-20")


def test_a_range_by_hand_is_a_backfill_even_where_it_ends_today() -> None:
    assert choose(WEEK) == Reading(Mode.BACKFILL, WEEK[0], TODAY)


def test_a_range_that_the_sensor_asked_for_is_live() -> None:
    assert choose(WEEK, live=True) == Reading(Mode.LIVE, WEEK[0], TODAY)


def test_full_reads_everything_again() -> None:
    assert choose([TODAY], full=True).mode is Mode.FULL


@pytest.mark.parametrize("asked", [["2026-11-20"], WEEK])
def test_a_source_without_history_refuses_the_past_with_the_reason(asked) -> None:
    with pytest.raises(PastOfSnapshot, match=r"no history.*Materialize the partition 2026-11-22"):
        choose(asked, has_history=False)


def test_a_source_without_history_can_be_read_today() -> None:
    assert choose([TODAY], has_history=False).mode is Mode.LIVE
