"""Failures of the world as Dagster understands them: what may be tried again, and what a person must mend."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import dagster as dg

from datasense_assets.connectors.errors import BadConfig, OutOfQuota, SourceError, Unavailable

MAX_RETRIES = 3
_FIRST_WAIT = 15.0
_LONGEST_WAIT = 300.0


@dataclass(frozen=True)
class Retry:
    """How often, and after how many seconds."""

    times: int
    wait: float


# Another run holds the source: a few minutes of patience, in which it normally ends.
LEASE_RETRY = Retry(times=20, wait=15.0)


class BadRecipe(SourceError):
    """A recipe that cannot be compiled, or that its data stands against: only another recipe or other data helps."""

    kind = "bad_recipe"
    permanent = True


class TookTooLong(SourceError):
    """A load went on for longer than its source may take; a second try in the same run has no time left either."""

    kind = "took_too_long"

    def __init__(self, minutes: int) -> None:
        super().__init__(
            f"The load was stopped after {minutes} minute{'s'[: minutes - 1]}, the most that its source may take.",
            advice="Set `max_minutes` of the source higher, or have it read less: fewer tables, or a range in parts.",
        )


class NoRoomHere(OutOfQuota):
    """The machine of this worker has too little memory or disk for a heavy load; it comes again later."""

    kind = "no_room"

    def __init__(self, said: str, *, again_after: float) -> None:
        super().__init__(
            said,
            advice="It is tried again by itself; if it goes on, run fewer at once (`datasense limits set total`).",
            retry_after=again_after,
        )


def as_source_error(error: BaseException) -> SourceError | None:
    """The failure of the world behind an exception; None where it is a defect of ours and must stay as it is.

    dlt wraps what a source raises; the wrapping is taken off. A secret that is not set is bad configuration. A database
    that does not answer, or a lost lease, may pass; whatever else the warehouse refuses stays refused.
    """
    from psycopg import OperationalError
    from psycopg.errors import IdleInTransactionSessionTimeout
    from sqlalchemy.exc import OperationalError as CatalogDown

    from datasense_assets.catalog.credentials import SecretMissing
    from datasense_assets.catalog.state import FenceLost
    from datasense_assets.warehouse.errors import DatabaseUnavailable, WarehouseError
    from datasense_assets.warehouse.leases import LeaseLost

    for cause in _chain(error):
        if isinstance(cause, SourceError):
            return cause
        if isinstance(cause, SecretMissing):
            return BadConfig(cause.message, advice=cause.advice)
        if isinstance(cause, DatabaseUnavailable | LeaseLost):
            return Unavailable(cause.message, advice=cause.advice)
        if isinstance(cause, WarehouseError):
            return BadRecipe(cause.message, advice=cause.advice)
        if isinstance(cause, FenceLost):
            return Unavailable(
                f"{cause}.", advice="Nothing is broken; the run that holds the source finishes the work."
            )
        # a worker that stood still in a transaction for too long may go on as well
        if isinstance(cause, OperationalError | CatalogDown | IdleInTransactionSessionTimeout):
            return Unavailable("The database did not answer.", advice="It is tried again by itself.")
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The exception and what it came from, outermost first."""
    current: BaseException | None = error
    while current is not None:
        yield current
        current = current.__cause__ or current.__context__


def wait_before_retry(retry_number: int, asked: float | None) -> float:
    """Seconds to wait: the server's own delay where it gave one, else doubling from 15 s, with jitter."""
    return shortest_wait(retry_number, asked) * random.uniform(1.0, 1.25)  # noqa: S311 (jitter, not a secret)


def shortest_wait(retry_number: int, asked: float | None) -> float:
    """The same without jitter."""
    return min(_LONGEST_WAIT, asked if asked is not None else _FIRST_WAIT * 2**retry_number)


def longest_asked(failures: Sequence[tuple[str, SourceError]]) -> float | None:
    """The longest delay that a server named, of failures that may pass; None where none did."""
    named = (error.retry_after for _, error in failures if not error.permanent and error.retry_after is not None)
    return max(named, default=None)


def wait_of_failing(times: int) -> float:
    """Seconds until a source that failed so many times in a row is asked for again: 2 minutes, doubling, 4 hours."""
    return min(120.0 * float(1 << min(max(0, times - 1), 12)), 4 * 3600.0)


def too_long_to_wait(failures: Sequence[tuple[str, SourceError]], longest: float) -> float | None:
    """Seconds after which to come again, where that is longer than a run may hold its slot for; None where it is not.

    A little more than what was asked for, and not for all the same: those who come back do not come at once.
    """
    asked = [
        max(error.retry_after or 0.0, longest)
        for _, error in failures
        if isinstance(error, OutOfQuota) or (not error.permanent and (error.retry_after or 0.0) > longest)
    ]
    return max(asked) * random.uniform(1.0, 1.25) if asked else None  # noqa: S311 (jitter, not a secret)


def as_dagster(
    failures: Sequence[tuple[str, SourceError]],
    retry_number: int,
    *,
    once: bool = False,
    put_off_until: datetime | None = None,
) -> dg.Failure | dg.RetryRequested:
    """One outcome for the tables of a source that failed, as (table, error); with `once` there is no second try.

    Where any failure can pass by itself the op is tried again (tables already loaded are not read again); where all
    are permanent, or the tries are used up, it fails at once, naming every table with what to do. With `put_off_until`
    the run gives its slot back: it has been seen to that another one comes then.
    """
    said = "\n".join(f"{table}: {error.message} {error.advice}" for table, error in failures)
    if put_off_until is not None:
        said += f"\nIt is put off until {put_off_until.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC."
    transient = [error for _, error in failures if not error.permanent]
    if any(isinstance(error, TookTooLong) for error in transient):
        once = True
    if transient and put_off_until is None and not once and retry_number < MAX_RETRIES:
        wait = wait_before_retry(retry_number, longest_asked(failures))
        return dg.RetryRequested(max_retries=MAX_RETRIES, seconds_to_wait=wait)
    return dg.Failure(
        description=said,
        metadata={
            "failed_tables": dg.MetadataValue.json([table for table, _ in failures]),
            "kinds": dg.MetadataValue.json(sorted({error.kind for _, error in failures})),
            "what_to_do": dg.MetadataValue.text("\n".join(dict.fromkeys(error.advice for _, error in failures))),
        },
        allow_retries=False,
    )


def step_failure_words(event: dg.DagsterEvent) -> str:
    """What a step's failure says: our own words, else the message of the exception that the others wrap."""
    data = event.step_failure_data
    said = data.user_failure_data.description if data.user_failure_data else None
    error = data.error
    while error is not None and error.cause is not None:
        error = error.cause
    return said or (error.message.strip() if error is not None else "The step failed.")
