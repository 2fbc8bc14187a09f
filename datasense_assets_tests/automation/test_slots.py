"""When a source is due."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasense_assets.automation.slots import jitter, next_due
from datasense_assets.catalog.models import Cron, Schedule

TEN = timedelta(minutes=10)
NONE = timedelta(0)
SCHEDULES = ["15min", "hourly", "daily", "weekly", Cron(cron="0 6 * * *")]
ZONES = ["UTC", "Asia/Kolkata", "America/New_York", "Europe/Berlin", "Australia/Lord_Howe"]
moments = st.datetimes(datetime(2024, 1, 1), datetime(2027, 1, 1)).map(lambda d: d.replace(tzinfo=UTC))


@given(st.sampled_from(SCHEDULES), st.sampled_from(ZONES), st.integers(1, 10_000), moments)
def test_the_next_slot_lies_ahead_and_asking_later_never_goes_back(schedule, zone, source_id, now) -> None:
    slot = next_due(schedule, zone, source_id, now, TEN)
    assert slot is not None
    assert slot > now
    assert next_due(schedule, zone, source_id, slot - timedelta(seconds=1), TEN) <= slot
    assert next_due(schedule, zone, source_id, slot, TEN) > slot


@given(st.integers(1, 100_000), st.sampled_from(SCHEDULES))
def test_jitter_is_stable_and_within_its_limit(source_id, schedule) -> None:
    found = jitter(source_id, schedule, TEN)
    assert NONE <= found <= TEN
    assert found == jitter(source_id, schedule, TEN)
    assert jitter(source_id, schedule, NONE) == NONE


def test_jitter_spreads_sources_over_the_limit() -> None:
    minutes = {int(jitter(source_id, "daily", TEN).total_seconds() // 60) for source_id in range(200)}
    assert minutes == set(range(10))
    # and, where that is longer than the interval, over the interval: a source is never due after its next slot
    hour = timedelta(hours=1)
    minutes = {int(jitter(source_id, "15min", hour).total_seconds() // 60) for source_id in range(200)}
    assert minutes == set(range(15))


def test_a_time_of_day_is_the_organisations_own() -> None:
    now = datetime(2026, 11, 22, 0, 0, tzinfo=UTC)
    assert next_due(Cron(cron="0 6 * * *"), "Asia/Kolkata", 1, now, TEN) == datetime(2026, 11, 22, 0, 30, tzinfo=UTC)


def test_a_slot_in_the_hour_that_summer_time_skips_still_runs_that_day() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    before = datetime(2026, 3, 29, 0, 0, tzinfo=berlin)
    slot = next_due(Cron(cron="30 2 * * *"), "Europe/Berlin", 1, before, NONE)
    assert slot is not None
    assert slot.astimezone(berlin).date() == before.date()


def test_missed_slots_coalesce_into_the_next_one() -> None:
    after_an_outage = datetime(2026, 11, 22, 9, 40, tzinfo=UTC)
    assert next_due("hourly", "UTC", 1, after_an_outage, NONE) == datetime(2026, 11, 22, 10, 0, tzinfo=UTC)


@pytest.mark.parametrize("limit", [NONE, TEN])
def test_a_manual_source_is_never_due(limit) -> None:
    assert next_due("manual", "UTC", 1, datetime(2026, 1, 1, tzinfo=UTC), limit) is None


def every_slot(schedule: Schedule, zone: str, first: datetime, last: datetime) -> list[datetime]:
    """All slots after `first` and up to `last`, as the sensor comes to them one after the other."""
    found: list[datetime] = []
    at = first
    while (slot := next_due(schedule, zone, 7, at, NONE)) is not None and slot <= last:
        found.append(slot)
        at = slot
    return found


@pytest.mark.parametrize(
    ("zone", "back", "forward"),
    [
        ("Europe/Berlin", datetime(2026, 10, 25), datetime(2026, 3, 29)),
        ("America/New_York", datetime(2026, 11, 1), datetime(2026, 3, 8)),
        ("Australia/Lord_Howe", datetime(2026, 4, 5), datetime(2026, 10, 4)),  # by half an hour
    ],
)
def test_a_change_of_clocks_gives_no_slot_twice_and_loses_none(zone: str, back: datetime, forward: datetime) -> None:
    for day in (back, forward):
        begin = day.replace(tzinfo=ZoneInfo(zone))
        end = (day + timedelta(days=1)).replace(tzinfo=ZoneInfo(zone))
        before, last = (moment.astimezone(UTC) - timedelta(seconds=1) for moment in (begin, end))
        for daily in ("0 0 * * *", "30 1 * * *", "30 2 * * *", "0 6 * * *"):
            assert len(every_slot(Cron(cron=daily), zone, before, last)) == 1, daily
        for schedule, gap in (("hourly", timedelta(hours=1)), ("15min", timedelta(minutes=15))):
            slots = every_slot(schedule, zone, before - 2 * gap, last + 2 * gap)
            gaps = {later - earlier for earlier, later in pairwise(slots)}
            assert max(gaps) <= 2 * gap, "nobody waits for longer than two intervals"
            assert min(gaps) > NONE
