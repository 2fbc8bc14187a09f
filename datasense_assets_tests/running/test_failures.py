"""Failures of the world as Dagster understands them."""

from __future__ import annotations

import dagster as dg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.errors import IdleInTransactionSessionTimeout

from datasense_assets.catalog.credentials import SecretMissing
from datasense_assets.connectors.errors import CredentialRefused, Throttled, Unavailable
from datasense_assets.running.failures import MAX_RETRIES, as_dagster, as_source_error, wait_before_retry
from datasense_assets.warehouse.errors import DatabaseUnavailable, WarehouseError

REFUSED = CredentialRefused("The token was refused.", advice="Make a new one.")
BUSY = Throttled("Too many requests.", advice="Wait.", retry_after=42.0)
DOWN = Unavailable("No answer.", advice="Wait.")


def test_a_permanent_failure_is_tried_once_and_says_what_to_do() -> None:
    outcome = as_dagster([("visits", REFUSED)], 0)
    assert isinstance(outcome, dg.Failure)
    assert not outcome.allow_retries
    assert outcome.description == "visits: The token was refused. Make a new one."


def test_a_passing_failure_waits_as_long_as_the_server_asked() -> None:
    outcome = as_dagster([("visits", BUSY)], 0)
    assert isinstance(outcome, dg.RetryRequested)
    assert 42.0 <= outcome.seconds_to_wait <= 42.0 * 1.25


def test_a_mixed_failure_is_tried_again_and_ends_naming_every_table() -> None:
    both = [("visits", REFUSED), ("people", DOWN)]
    assert isinstance(as_dagster(both, 0), dg.RetryRequested)
    last = as_dagster(both, MAX_RETRIES)
    assert isinstance(last, dg.Failure)
    assert "visits:" in (last.description or "")
    assert "people:" in (last.description or "")


def test_a_person_who_waits_is_told_at_once() -> None:
    assert isinstance(as_dagster([("visits", BUSY)], 0, once=True), dg.Failure)


@given(st.integers(0, 10))
def test_waits_grow_and_stay_within_bounds(retry: int) -> None:
    assert 15.0 <= wait_before_retry(retry, None) <= 300.0 * 1.25


@pytest.mark.parametrize(
    ("raised", "kind", "permanent"),
    [
        (SecretMissing("X is not set.", advice="Set it."), "bad_config", True),
        (DatabaseUnavailable("No answer.", advice="Wait."), "unavailable", False),
        (WarehouseError("A view stands in the way.", advice="Drop it."), "bad_recipe", True),
    ],
)
def test_failures_of_other_rooms_keep_their_words(raised, kind, permanent) -> None:
    found = as_source_error(raised)
    assert found is not None
    assert (found.kind, found.permanent) == (kind, permanent)
    assert raised.message in str(found)


def test_a_failure_under_someone_elses_wrapping_is_found_and_a_defect_stays_a_defect() -> None:
    try:
        try:
            raise BUSY
        except Throttled as error:
            raise RuntimeError("pipeline failed") from error
    except RuntimeError as error:
        assert as_source_error(error) is BUSY
    assert as_source_error(TypeError("ours")) is None
    stood_still = as_source_error(IdleInTransactionSessionTimeout("terminating connection"))
    assert stood_still is not None
    assert not stood_still.permanent
