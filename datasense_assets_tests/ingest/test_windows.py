"""Partition keys and windows: no gap, no overlap, in any zone, through changes of the clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasense_assets.catalog.models import Grain
from datasense_assets.ingest.windows import live_partitions, partition_key, partition_window, range_window

ZONES = st.sampled_from(["UTC", "Asia/Kolkata", "America/New_York", "Australia/Lord_Howe", "Pacific/Apia"])
MOMENTS = st.datetimes(datetime(2015, 1, 1), datetime(2035, 1, 1), timezones=st.just(UTC))
CALENDAR = st.sampled_from([Grain.DAY, Grain.WEEK, Grain.MONTH])


@given(MOMENTS, CALENDAR, ZONES)
def test_a_moment_is_in_the_window_of_its_key(moment: datetime, grain: Grain, zone: str) -> None:
    window = partition_window(partition_key(moment, grain, zone), grain, zone)
    assert window.start <= moment < window.end


@given(MOMENTS, CALENDAR, ZONES)
def test_windows_meet_end_to_start(moment: datetime, grain: Grain, zone: str) -> None:
    window = partition_window(partition_key(moment, grain, zone), grain, zone)
    after = partition_window(partition_key(window.end, grain, zone), grain, zone)
    assert after.start == window.end


HOURS = ["UTC", "Asia/Kolkata", "Asia/Dhaka", "America/New_York", "Europe/Berlin", "Antarctica/Troll"]
# about when clocks are put back in New York, and in Berlin and Troll
AUTUMN = st.datetimes(datetime(2024, 11, 3, 4), datetime(2024, 11, 3, 9), timezones=st.just(UTC)) | st.datetimes(
    datetime(2024, 10, 26, 23), datetime(2024, 10, 27, 4), timezones=st.just(UTC)
)


@given(MOMENTS | AUTUMN, st.sampled_from(HOURS))
def test_hours_are_an_hour(moment: datetime, zone: str) -> None:
    window = partition_window(partition_key(moment, Grain.HOUR, zone), Grain.HOUR, zone)
    assert window.start <= moment < window.end
    assert window.end.astimezone(UTC) - window.start.astimezone(UTC) == timedelta(hours=1)


@pytest.mark.parametrize(
    ("grain", "definition"),
    [
        (Grain.HOUR, dg.HourlyPartitionsDefinition("2024-11-02-00:00", timezone="America/New_York")),
        (Grain.HOUR, dg.HourlyPartitionsDefinition("2024-03-08-00:00", timezone="America/New_York")),
        (Grain.DAY, dg.DailyPartitionsDefinition("2024-03-08", timezone="America/New_York")),
        (Grain.WEEK, dg.WeeklyPartitionsDefinition("2024-03-03", timezone="America/New_York")),
        (Grain.MONTH, dg.MonthlyPartitionsDefinition("2024-02-01", timezone="America/New_York")),
    ],
)
def test_keys_and_windows_are_dagsters(grain: Grain, definition: dg.TimeWindowPartitionsDefinition) -> None:
    now = datetime(2024, 12, 1, tzinfo=UTC)
    keys = definition.get_partition_keys(current_time=now)
    for key in keys[:80]:
        theirs = definition.time_window_for_partition_key(key)
        ours = partition_window(key, grain, "America/New_York")
        assert (ours.start, ours.end) == (theirs.start, theirs.end)
        assert ours.start.astimezone(UTC) == theirs.start.astimezone(UTC)
        assert ours.end.astimezone(UTC) == theirs.end.astimezone(UTC)
        assert range_window(key, key, grain, "America/New_York") == ours
        assert partition_key(theirs.start, grain, "America/New_York") == key


def test_a_live_load_fills_two_days_just_after_midnight() -> None:
    before, now = datetime(2026, 1, 1, 18, 25, tzinfo=UTC), datetime(2026, 1, 1, 18, 35, tzinfo=UTC)
    assert live_partitions(before, now, Grain.DAY, "Asia/Kolkata") == ("2026-01-01", "2026-01-02")
    assert live_partitions(None, now, Grain.DAY, "Asia/Kolkata") == ("2026-01-02", "2026-01-02")
    assert live_partitions(now + timedelta(days=9), now, Grain.DAY, "UTC") == ("2026-01-01", "2026-01-01")


def test_a_range_takes_in_both_ends_and_a_wrong_key_is_refused() -> None:
    window = range_window("2026-01-01", "2026-01-03", Grain.DAY, "UTC")
    assert window.end - window.start == timedelta(days=3)
    with pytest.raises(ValueError, match="comes after"):
        range_window("2026-01-03", "2026-01-01", Grain.DAY, "UTC")
    with pytest.raises(ValueError, match="first day of a month"):
        partition_window("2026-01-02", Grain.MONTH, "UTC")
