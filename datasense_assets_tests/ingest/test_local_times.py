"""Local times without an offset: what a load makes of them is what PostgreSQL makes of them in a recipe."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

import psycopg
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datasense_assets.catalog.models import ColumnType as T
from datasense_assets.ingest.casting import cast

# Up to the year in which the time zone data of this machine and that of the server may begin to differ.
END = {
    "Europe/Berlin": 2060,
    "America/New_York": 2060,
    "Australia/Lord_Howe": 2060,
    "Asia/Kolkata": 2060,
    "Africa/Casablanca": 2026,
    "Pacific/Apia": 2026,
}


@cache
def changes(zone: str) -> list[datetime]:
    """The local times at which the zone's clocks are changed, to the quarter of an hour, as they were shown before."""
    found, quarters = [], 96
    tz, day = ZoneInfo(zone), datetime(1972, 1, 1, tzinfo=UTC)
    while day.year < END[zone]:
        after = day + timedelta(days=1)
        if day.astimezone(tz).utcoffset() != after.astimezone(tz).utcoffset():
            steps = (day + timedelta(minutes=15 * n) for n in range(quarters + 1))
            before = day.astimezone(tz).utcoffset()
            moment = next(step for step in steps if step.astimezone(tz).utcoffset() != before)
            found.append((moment + (before or timedelta(0))).replace(tzinfo=None))
        day = after
    return found or [datetime(2026, 3, 29, 2)]


@st.composite
def local_times(draw: st.DrawFn) -> tuple[str, list[datetime]]:
    zone = draw(st.sampled_from(sorted(END)))
    near = st.builds(
        lambda change, seconds: change + timedelta(seconds=seconds),
        st.sampled_from(changes(zone)),
        st.integers(-27 * 3600, 27 * 3600) | st.integers(-8, 8).map(lambda n: n * 900),
    )
    anywhere = st.datetimes(datetime(1972, 1, 1), datetime(END[zone], 1, 1)).map(lambda at: at.replace(microsecond=0))
    return zone, draw(st.lists(near | anywhere, min_size=1, max_size=20))


@pytest.fixture
def server(database_url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield connection


def loaded(zone: str, written: list[str]) -> list[datetime]:
    found: list[datetime | None] = cast(pa.array(written, pa.string()), T.DATETIME, zone).to_pylist()
    return [each.astimezone(UTC) for each in found if each is not None]


def by_postgres(server: psycopg.Connection, zone: str, written: list[str]) -> list[tuple[datetime, datetime]]:
    """As a conversion in SQL gives it, and as a text that is cast in a session of that zone."""
    server.execute("SELECT set_config('timezone', %s, false)", (zone,))
    rows = server.execute(
        "SELECT v::timestamp AT TIME ZONE %s, v::timestamptz FROM unnest(%s::text[]) WITH ORDINALITY AS t(v, n)"
        " ORDER BY n",
        (zone, written),
    ).fetchall()
    return [(one.astimezone(UTC), other.astimezone(UTC)) for one, other in rows]


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(local_times())
def test_a_load_reads_local_times_as_recipes_do(
    server: psycopg.Connection, given_times: tuple[str, list[datetime]]
) -> None:
    zone, times = given_times
    written = [each.isoformat(" ") for each in times]
    assert [(each, each) for each in loaded(zone, written)] == by_postgres(server, zone, written)


@pytest.mark.parametrize(
    ("zone", "local", "moment"),
    [
        ("Europe/Berlin", "2026-10-25 02:30", "2026-10-25 01:30"),  # comes twice: in winter time
        ("Europe/Berlin", "2026-03-29 02:30", "2026-03-29 01:30"),  # is skipped: half past three
        ("Australia/Lord_Howe", "2026-04-05 01:45", "2026-04-04 15:15"),
        ("Australia/Lord_Howe", "2026-10-04 02:10", "2026-10-03 15:40"),
        ("Pacific/Apia", "2011-12-30 12:00", "2011-12-30 22:00"),  # a day that was skipped
        ("Europe/Berlin", "2090-07-01 12:00", "2090-07-01 10:00"),  # where zones have a rule and no table
        ("Europe/Berlin", "9999-12-31 23:30", "9999-12-31 22:30"),
        ("America/New_York", "0001-01-01 00:00", "0001-01-01 04:56:02"),
    ],
)
def test_hours_that_clocks_repeat_or_skip(server: psycopg.Connection, zone: str, local: str, moment: str) -> None:
    expected = datetime.fromisoformat(moment).replace(tzinfo=UTC)
    assert loaded(zone, [local, "2026-01-01T00:00:00Z", "n/a"])[0] == expected
    assert by_postgres(server, zone, [local]) == [(expected, expected)]
