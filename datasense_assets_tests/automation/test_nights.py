"""The night in which a source is read again."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from datasense_assets.automation.nights import first_moment, is_weekly_night, next_night, weekday_of

ZONES = ["UTC", "Asia/Kolkata", "America/Sao_Paulo", "Europe/London", "Australia/Lord_Howe", "America/New_York"]
MOMENTS = st.datetimes(datetime(2024, 1, 1), datetime(2028, 1, 1)).map(lambda m: m.replace(tzinfo=UTC))
IDS = st.integers(1, 10**6)


@given(IDS, st.sampled_from(ZONES), MOMENTS)
def test_there_is_one_in_each_night_of_the_organisation(source_id: int, zone: str, now: datetime) -> None:
    slot = next_night(source_id, zone, now)
    following = next_night(source_id, zone, slot)
    assert now < slot <= now + timedelta(hours=26)
    days = [moment.astimezone(ZoneInfo(zone)).date() for moment in (slot, following)]
    assert days[1] - days[0] == timedelta(days=1)
    for moment in (slot, following):
        local = moment.astimezone(ZoneInfo(zone))
        assert 0 <= local.hour <= 6
    assert next_night(source_id, zone, slot - timedelta(seconds=1)) == slot


def test_sources_are_spread_over_the_night_and_over_the_week() -> None:
    now = datetime(2026, 3, 1, 12, tzinfo=UTC)
    hours = Counter(next_night(number, "UTC", now).hour for number in range(1000))
    assert min(hours[hour] for hour in (1, 2, 3, 4)) > 150
    days = Counter(weekday_of(number) for number in range(700))
    assert min(days[day] for day in range(7)) > 60


@given(IDS, st.sampled_from(ZONES), MOMENTS)
def test_one_night_of_seven_is_that_of_the_full_read(source_id: int, zone: str, now: datetime) -> None:
    slots = [next_night(source_id, zone, now)]
    for _ in range(6):
        slots.append(next_night(source_id, zone, slots[-1]))
    assert sum(is_weekly_night(source_id, zone, slot) for slot in slots) == 1


def test_days_are_counted_from_midnight_of_the_organisation() -> None:
    slot = datetime(2026, 3, 31, 20, 30, tzinfo=UTC)  # 02:00 of April in Kolkata
    assert first_moment(slot, "Asia/Kolkata", 30) == datetime(2026, 3, 1, 18, 30, tzinfo=UTC)
