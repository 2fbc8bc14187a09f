"""Hours of the platform on a clock of their own, each part out of order for a time: nothing is lost or done twice."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from benchmarks.simulated_day import Day, Outages, picture, simulate
from datasense_assets.running.owners import catalog_engine
from datasense_assets.settings import get_settings

OUTAGES = Outages(
    server=(0.5, 1.9),
    mail=(0.9, 1.2),
    database=(1.95, 2.1),
    workers=(2.2, 2.45),
    daemon=(2.7, 3.4),
    two_daemons=(3.4, 4.5),
    killed_at=0.3,
    dropped_at=2.5,
)


@pytest.fixture
def day(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Day]:
    monkeypatch.setenv("DATASENSE_DATABASE_URL", database_url)
    monkeypatch.setenv("DATASENSE_HOME", str(tmp_path))
    monkeypatch.setenv("DATASENSE_ALLOW_PRIVATE_ADDRESSES", "true")
    get_settings.cache_clear()
    catalog_engine.cache_clear()
    # the same hours whenever the test runs, one organisation's midnight among them
    start = datetime.now(UTC).replace(hour=18, minute=0, second=0, microsecond=0) + timedelta(days=1)
    tick = timedelta(minutes=2)
    try:
        yield simulate(
            catalog_engine(), get_settings(), orgs=4, sources=24, hours=4.5, outages=OUTAGES, tick=tick, start=start
        )
    finally:
        catalog_engine().dispose()
        get_settings.cache_clear()
        catalog_engine.cache_clear()


def test_every_due_slot_is_run_once_or_coalesced_and_everybody_is_told_once(day: Day) -> None:
    assert len(day.asked) == len(set(day.asked)) > 60
    assert len(day.asked) < sum(map(len, day.slots.values())) + len(day.slots)  # an outage's slots are one run
    assert day.unserved(timedelta(hours=1, minutes=10)) == []
    outage = (OUTAGES.daemon[1] - OUTAGES.daemon[0]) * 60
    late = day.lateness()
    assert late[len(late) // 2] <= 4
    assert outage / 2 < late[-1] < outage + 20

    # what a daemon had asked for when it was killed was made by the next one, under the same keys
    assert day.dropped
    assert set(day.dropped) <= set(day.asked)
    assert day.failed_ticks >= 3, "while Postgres was away, and it went on by itself"
    (killed,) = day.killed
    again = [each for each in day.attempts if each.tags.get("dagster/root_run_id") == killed]
    assert [each.ok for each in again] == [True]

    # the queue's limits are those of dagster.yaml
    ran = sorted((each.source, each.began, each.ended) for each in day.attempts)
    assert [a for a, b in pairwise(ran) if a[0] == b[0] and b[1] < a[2]] == [], "no source beside itself"
    assert max(day.most_at_once("datasense/org").values()) <= 3
    assert day.most_at_once("datasense/lane")["scheduled"] <= 5
    assert day.most_at_once("datasense/host")["kf.kobotoolbox.org"] <= 3
    assert day.most_at_once("datasense/failing")["true"] <= 2
    assert max(day.calls.values()) <= 5 * 12 * 12  # five places, of which each begins twelve loads a minute at most

    assert any(not each.ok for each in day.attempts)
    failing = [title for _, title in day.told if title.endswith("is failing")]
    assert failing
    assert len(failing) == len(set(failing)), "one message a thing"
    hours = [(at - day.start).total_seconds() / 3600 for at, _ in day.told]
    assert not any(OUTAGES.mail[0] <= at < OUTAGES.mail[1] for at in hours)
    assert any(title.endswith("works again") for _, title in day.told)
    assert picture(day).count("<svg") == 1
