"""One writer a source: whoever holds the lease, and nobody for ever."""

from __future__ import annotations

import threading
from collections.abc import Callable

import psycopg
import pytest

from datasense_assets.warehouse.database import connect
from datasense_assets.warehouse.errors import DatabaseUnavailable
from datasense_assets.warehouse.leases import LeaseLost, acquire, holder

from .conftest import Platform

LONG = 600.0


def wait_for(condition: Callable[[], bool]) -> bool:
    pause = threading.Event()
    return any(condition() or pause.wait(0.02) for _ in range(500))


@pytest.fixture
def factory(platform: Platform) -> Callable[[], psycopg.Connection]:
    return lambda: connect(platform.url)


def expire(platform: Platform, source_id: int) -> None:
    platform.run("UPDATE datasense.leases SET expires_at = now() - interval '1 s' WHERE source_id = %s", source_id)


def test_second_owner_is_kept_out_until_the_first_lets_go(
    factory: Callable[[], psycopg.Connection], source_id: int
) -> None:
    first = acquire(factory, source_id, "run-1", LONG)
    assert first is not None
    assert acquire(factory, source_id, "run-2", LONG) is None
    assert acquire(factory, source_id, "run-1", LONG) is None
    with factory() as connection:
        assert holder(connection, source_id) == "run-1"
    first.release()
    with factory() as connection:
        assert holder(connection, source_id) is None
    second = acquire(factory, source_id, "run-2", LONG)
    assert second is not None
    assert second.fence > first.fence
    second.release()


def test_of_many_at_once_exactly_one_gets_in(factory: Callable[[], psycopg.Connection], source_id: int) -> None:
    gate = threading.Barrier(8)
    got = []

    def attempt(number: int) -> None:
        gate.wait()
        got.append(acquire(factory, source_id, f"run-{number}", LONG))

    threads = [threading.Thread(target=attempt, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    leases = [lease for lease in got if lease is not None]
    assert len(leases) == 1
    leases[0].release()


def test_dead_owner_is_followed_with_a_higher_fence_and_knows_it_has_lost(
    platform: Platform, factory: Callable[[], psycopg.Connection], source_id: int
) -> None:
    dead = acquire(factory, source_id, "dead", LONG)
    assert dead is not None
    expire(platform, source_id)
    heir = acquire(factory, source_id, "heir", LONG)
    assert heir is not None
    assert heir.fence == dead.fence + 1
    assert not dead.renew()
    assert dead.lost
    with pytest.raises(LeaseLost, match=f"source {source_id}"):
        dead.check()
    dead.release()
    with factory() as connection:
        assert holder(connection, source_id) == "heir"
    heir.check()
    heir.release()


def test_heartbeat_keeps_the_lease_past_its_length(
    platform: Platform, factory: Callable[[], psycopg.Connection], source_id: int
) -> None:
    renewals = threading.Semaphore(0)

    def counted() -> psycopg.Connection:
        renewals.release()
        return factory()

    lease = acquire(counted, source_id, "run", ttl=0.6)
    assert lease is not None
    with lease:
        for _ in range(6):
            assert renewals.acquire(timeout=10)
        assert acquire(factory, source_id, "other", LONG) is None
        lease.check()
    after = acquire(factory, source_id, "other", LONG)
    assert after is not None
    after.release()


def test_lease_is_lost_when_the_database_is_away_for_as_long_as_it_lasts(
    factory: Callable[[], psycopg.Connection], source_id: int
) -> None:
    away = threading.Event()

    def flaky() -> psycopg.Connection:
        if away.is_set():
            raise DatabaseUnavailable("gone", advice="wait")
        return factory()

    lease = acquire(flaky, source_id, "run", ttl=0.3)
    assert lease is not None
    away.set()
    assert wait_for(lambda: lease.lost)
    lease.release()


def test_lease_pins_no_connection(platform: Platform, source_id: int) -> None:
    lease = acquire(lambda: connect(platform.url, application="lease-test"), source_id, "run", LONG)
    assert lease is not None
    assert platform.run("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'lease-test'") == [(0,)]
    lease.release()
