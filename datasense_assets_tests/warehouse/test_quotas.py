"""Allowances in the database: how many calls, to whom, when not at all, and one at a time."""

from __future__ import annotations

import threading
import time

import pytest
from sqlalchemy import Engine

from datasense_assets.warehouse import quotas
from datasense_assets.warehouse.quotas import Allowance, Answer, quota_key

from .conftest import Platform

HOST = "api.example.org"


@pytest.fixture
def catalog(platform: Platform) -> Engine:
    return platform.catalog


def allowance(name: str = "test.account", calls: int | None = None, seconds: float = 60.0, **more: bool) -> Allowance:
    return Allowance(quota_key(name, HOST, "me"), name, calls, seconds, more.get("alone", False))


def ask(catalog: Engine, *allowances: Allowance, owner: str = "one") -> Answer:
    return quotas.ask(catalog, HOST, allowances, owner)


def test_a_burst_of_a_twentieth_is_let_through_and_then_one_at_a_time(catalog: Engine) -> None:
    hundred = allowance(calls=100, seconds=3600.0)
    answers = [ask(catalog, hundred) for _ in range(6)]
    assert [answer.wait == 0 for answer in answers] == [True] * 5 + [False]
    assert answers[-1].reason == "spent"
    assert 3600 * 1.1 / 96 - 30 < answers[-1].wait <= 3600 * 1.1 / 96


def test_no_window_ever_holds_more_calls_than_allowed_and_most_of_them_are_made(catalog: Engine) -> None:
    limit, window, length = 20, 0.5, 2.0
    allowed = allowance(calls=limit, seconds=window)
    made: list[float] = []
    lock = threading.Lock()
    until = time.monotonic() + length

    def call() -> None:
        while time.monotonic() < until:
            with lock:  # one asks at a time, so that the moment noted is that of the database
                answer = ask(catalog, allowed)
                if answer.wait == 0:
                    made.append(time.monotonic())
            threading.Event().wait(answer.wait)

    threads = [threading.Thread(target=call) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for start in made:
        assert sum(start <= moment < start + window for moment in made) <= limit
    assert len(made) <= limit * length / window + 1


@pytest.mark.parametrize(("calls", "window"), [(1, 60.0), (2, 60.0), (19, 6.0), (60, 60.0), (300, 60.0), (6, 6.0)])
def test_the_even_pace_uses_most_of_an_allowance_and_never_more(
    catalog: Engine, platform: Platform, calls: int, window: float
) -> None:
    """The pace is what one spent call costs: with a burst before it, any window holds `calls` at most."""
    assert ask(catalog, allowance(calls=calls, seconds=window)).wait == 0
    ((cost,),) = platform.run("SELECT extract(epoch FROM spent_until - used_at)::float8 FROM datasense.quota_state")
    assert isinstance(cost, float)
    burst = max(1, calls // 20)
    most = burst - 1 + -(-window // cost)
    assert most <= calls
    assert window / cost >= 0.85 * calls


def test_a_call_that_one_quota_refuses_costs_the_other_nothing(catalog: Engine, platform: Platform) -> None:
    narrow, wide = allowance("test.user", calls=1), allowance("test.project", calls=100)
    assert ask(catalog, narrow, wide).wait == 0
    before = platform.run("SELECT spent_until FROM datasense.quota_state WHERE name = 'test.project'")
    assert ask(catalog, narrow, wide).reason == "spent"
    assert platform.run("SELECT spent_until FROM datasense.quota_state WHERE name = 'test.project'") == before


def test_a_servers_own_pause_binds_everyone_and_a_shorter_one_does_not_cut_it(catalog: Engine) -> None:
    free = allowance()
    quotas.block(catalog, HOST, free, 240)
    quotas.block(catalog, HOST, free, 5)
    answer = ask(catalog, free, owner="another")
    assert answer.reason == "blocked"
    assert 230 < answer.wait <= 240
    assert ask(catalog, allowance("test.other")).wait == 0


def test_a_pause_without_end_ends_after_a_day(catalog: Engine) -> None:
    quotas.block(catalog, HOST, allowance(), 999_999_999)
    assert ask(catalog, allowance()).wait <= quotas.LONGEST_BLOCK


def test_one_at_a_time_keeps_others_out_until_it_is_let_go(catalog: Engine) -> None:
    alone = allowance(alone=True)
    assert ask(catalog, alone, owner="one").held
    with quotas.kept(catalog, [alone], "one"):
        other = ask(catalog, alone, owner="two")
        assert (other.reason, other.wait, other.held) == ("held", 0.5, False)
    assert ask(catalog, alone, owner="two").held


def test_a_dead_process_lets_go_by_itself_and_a_slow_one_does_not(
    catalog: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quotas, "HOLD_SECONDS", 0.6)
    alone = allowance(alone=True)
    ask(catalog, alone, owner="dead")
    assert ask(catalog, alone, owner="two").wait > 0
    deadline = time.monotonic() + 20
    while ask(catalog, alone, owner="two").wait > 0:
        assert time.monotonic() < deadline
        threading.Event().wait(0.05)
    monkeypatch.setattr(quotas, "HOLD_SECONDS", 3.0)
    with quotas.kept(catalog, [alone], "two"):
        ask(catalog, alone, owner="two")
        threading.Event().wait(4.0)
        assert ask(catalog, alone, owner="three").wait > 0


def test_what_is_allowed_can_be_changed_while_it_is_used(catalog: Engine, platform: Platform) -> None:
    narrow = allowance(calls=1)
    assert ask(catalog, narrow).wait == 0
    assert ask(catalog, narrow).wait > 0
    platform.run("INSERT INTO datasense.quota_limits (name, calls, one_at_a_time) VALUES ('test.account', NULL, true)")
    assert ask(catalog, narrow).held
    platform.run("INSERT INTO datasense.quota_limits (name, host, calls) VALUES ('test.account', %s, 1)", HOST)
    assert ask(catalog, narrow).reason == "spent"
    platform.run("UPDATE datasense.quota_limits SET calls = 1000 WHERE host = %s", HOST)
    platform.run("UPDATE datasense.quota_state SET spent_until = now()")
    assert ask(catalog, narrow).wait == 0


def test_nothing_of_a_credential_is_stored(catalog: Engine, platform: Platform) -> None:
    secret = Allowance(quota_key("test.account", HOST, "t0ken-0f-s0me0ne"), "test.account", 5, 60.0, False)
    ask(catalog, secret)
    assert "t0ken" not in str(platform.run("SELECT * FROM datasense.quota_state"))


def test_rows_that_nobody_has_used_for_a_month_go(catalog: Engine, platform: Platform) -> None:
    ask(catalog, allowance("test.old"))
    platform.run("UPDATE datasense.quota_state SET used_at = now() - interval '31 days'")
    ask(catalog, allowance("test.new"))
    assert platform.run("SELECT name FROM datasense.quota_state") == [("test.new",)]
