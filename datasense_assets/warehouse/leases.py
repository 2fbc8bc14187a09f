"""One writer a source: a lease row with an expiry and a fence, taken in one statement.

It pins no connection and holds through transaction pooling, which session advisory locks do not; an owner that dies
lets go by itself when the expiry passes. The fence rises with each owner, and `catalog.state.advance_cursor` refuses an
owner whose fence is no longer the highest. All times are the database's: clocks of workers do not matter.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType

import psycopg

from datasense_assets.warehouse.errors import WarehouseError

ConnectionFactory = Callable[[], AbstractContextManager[psycopg.Connection]]

_ACQUIRE = """
INSERT INTO datasense.leases AS held (source_id, owner, fence, expires_at)
VALUES (%(source_id)s, %(owner)s, 1, clock_timestamp() + make_interval(secs => %(ttl)s))
ON CONFLICT (source_id) DO UPDATE
   SET owner = excluded.owner, fence = held.fence + 1, expires_at = excluded.expires_at
 WHERE held.expires_at <= clock_timestamp()
RETURNING fence
"""
_RENEW = """
UPDATE datasense.leases SET expires_at = clock_timestamp() + make_interval(secs => %(ttl)s)
 WHERE source_id = %(source_id)s AND owner = %(owner)s AND fence = %(fence)s
RETURNING fence
"""
# the row stays: its fence must go on rising
_RELEASE = """
UPDATE datasense.leases SET expires_at = '-infinity'
 WHERE source_id = %(source_id)s AND owner = %(owner)s AND fence = %(fence)s
"""
# an owner is a run's id and a try
_RELEASE_OF_DEAD = """
UPDATE datasense.leases SET expires_at = '-infinity'
 WHERE starts_with(owner, %(run_id)s || '/') AND expires_at > clock_timestamp()
"""


class LeaseLost(WarehouseError):
    """Another owner has the source, or the database could not be reached for as long as the lease lasts."""


class Lease:
    """The right to write one source, renewed by a thread until it is released or lost. Use it as a context manager."""

    def __init__(
        self, connection_factory: ConnectionFactory, source_id: int, owner: str, fence: int, *, ttl: float
    ) -> None:
        self.source_id = source_id
        self.owner = owner
        self.fence = fence
        self._connect = connection_factory
        self._ttl = ttl
        self._valid_until = time.monotonic() + ttl
        self._released = threading.Event()
        self._lost = threading.Event()
        self._heart = threading.Thread(target=self._beat, name=f"lease-{source_id}", daemon=True)
        self._heart.start()

    @property
    def lost(self) -> bool:
        """Whether writing must stop: the lease was taken over, or could not be renewed in time."""
        return self._lost.is_set() or (not self._released.is_set() and time.monotonic() > self._valid_until)

    def check(self) -> None:
        """Do nothing while the lease is ours.

        Raises:
            LeaseLost: it is not.
        """
        if self.lost:
            raise LeaseLost(
                f"This run no longer holds source {self.source_id}: another run has it, or the database was away.",
                advice="Nothing is broken; the run that holds the source now will finish the work.",
            )

    def renew(self) -> bool:
        """Push the expiry out by the lease's length; False, and lost, when another owner has it.

        Raises:
            psycopg.Error, DatabaseUnavailable: the database did not answer; the lease may still be ours.
        """
        asked_at = time.monotonic()
        with self._connect() as connection:
            ours = connection.execute(_RENEW, self._parameters).fetchone() is not None
        if ours:
            self._valid_until = asked_at + self._ttl
        else:
            self._lost.set()
        return ours

    def release(self) -> None:
        """Let the next owner in at once. Harmless when the lease is lost, released or the database is away."""
        if self._released.is_set():
            return
        self._released.set()
        self._heart.join(timeout=self._ttl)
        try:
            with self._connect() as connection:
                connection.execute(_RELEASE, self._parameters)
        except (psycopg.Error, WarehouseError):
            return  # the expiry lets go in our place

    def __enter__(self) -> Lease:
        """The lease itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Release, whatever happened."""
        self.release()

    @property
    def _parameters(self) -> dict[str, object]:
        return {"source_id": self.source_id, "owner": self.owner, "fence": self.fence, "ttl": self._ttl}

    def _beat(self) -> None:
        while not self._released.wait(self._ttl / 3):
            try:
                if not self.renew():
                    return
            except (psycopg.Error, WarehouseError):
                if time.monotonic() > self._valid_until:
                    self._lost.set()
                    return


def acquire(connection_factory: ConnectionFactory, source_id: int, owner: str, ttl: float = 60.0) -> Lease | None:
    """Take the lease of a source for `ttl` seconds, renewed every third of it; None when another owner has it.

    `connection_factory` gives a connection for one transaction each time, in the heart's thread too. `owner` should
    name one attempt (a run id and a try): the same name does not get in twice.

    Raises:
        DatabaseUnavailable, psycopg.Error: the database did not answer, or has no such source.
    """
    with connection_factory() as connection:
        row = connection.execute(_ACQUIRE, {"source_id": source_id, "owner": owner, "ttl": ttl}).fetchone()
    return None if row is None else Lease(connection_factory, source_id, owner, int(row[0]), ttl=ttl)


def holder(connection: psycopg.Connection, source_id: int) -> str | None:
    """Who holds the source now; None when nobody does."""
    row = connection.execute(
        "SELECT owner FROM datasense.leases WHERE source_id = %s AND expires_at > clock_timestamp()", (source_id,)
    ).fetchone()
    return None if row is None else str(row[0])


def release_of_dead(connection: psycopg.Connection, run_id: str) -> int:
    """Let the next owner in where the run that holds a source is known to be dead; how many sources it held.

    Should it live after all, it loses its right to write at its next renewal, and its fence is no longer the highest.
    """
    return connection.execute(_RELEASE_OF_DEAD, {"run_id": run_id}).rowcount
