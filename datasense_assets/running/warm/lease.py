"""The lease that a worker holds while it executes a run: the run's health is the lease, and a cancel comes over it.

A thread renews it and waits for a cancel in the same breath, so that neither needs to be asked for. The thread lives in
the process that executes the run and dies with it, however that dies.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from time import monotonic
from types import FrameType
from typing import Any

import redis

from datasense_assets.running.warm.broker import LIFETIME_SECONDS, RENEW_SECONDS, cancel_key, lease_key, sent_key

_CANCEL, _DONE = "cancel", "done"
_CANCEL_KEPT_SECONDS = 3600
# A step that was interrupted has so long to leave the world in order; then its process is killed.
GIVE_UP_SECONDS = 60.0
_AGAIN_SECONDS = 20.0
_TAKEN_SECONDS = 0.2
_log = logging.getLogger("datasense.lease")


def is_held(client: redis.Redis, run_id: str) -> bool:
    """Whether a worker executes the run."""
    return bool(client.exists(lease_key(run_id)))


def is_lost(client: redis.Redis, run_id: str) -> bool:
    """Whether a run that was sent is neither on its way nor executed."""
    return not client.exists(sent_key(run_id), lease_key(run_id))


def ask_to_cancel(client: redis.Redis, run_id: str) -> bool:
    """Ask the run's worker, now or when one takes the run, to stop it; whether a worker executes it now."""
    pipe = client.pipeline(transaction=True)
    pipe.rpush(cancel_key(run_id), _CANCEL)
    pipe.expire(cancel_key(run_id), _CANCEL_KEPT_SECONDS)
    pipe.exists(lease_key(run_id))
    return bool(pipe.execute()[-1])


class HeldElsewhere(Exception):
    """A message that was taken for lost came twice; the run goes on where it is."""


class RunLease:
    """Held in the process, and on the main thread, that executes a run.

    Args:
        client: of the Redis that all share.
        run_id: the run.
        holder: who executes it, for people.
        still_wanted: asks Dagster's storage whether the run is to go on; for when Redis cannot tell.
        give_up: told before the process is killed because the run does not stop.
    """

    def __init__(
        self,
        client: redis.Redis,
        run_id: str,
        *,
        holder: str,
        still_wanted: Callable[[], bool],
        give_up: Callable[[], None],
    ) -> None:
        self._client, self._run_id, self._holder = client, run_id, holder
        self._still_wanted, self._give_up = still_wanted, give_up
        self._over = threading.Event()
        self._main = threading.get_ident()
        self._parent = os.getppid()
        self._renewed = monotonic()
        self._asked_at: float | None = None
        self._not_taken = 0
        self._thread = threading.Thread(target=self._keep, name=f"lease-{run_id[:8]}", daemon=True)

    @property
    def cancelled(self) -> bool:
        """Whether the run was asked to stop."""
        return self._asked_at is not None

    @contextmanager
    def held(self) -> Iterator[RunLease]:
        """Hold the lease; `cancelled` is set already where a cancel came before.

        Inside, the interrupts of the process are its run's: a cancel that Dagster is not ready for comes again.

        Raises:
            HeldElsewhere: another process executes the run.
        """
        # Redis may be away just now; then the thread takes the lease when it is back
        with suppress(redis.RedisError):
            pipe = self._client.pipeline(transaction=True)
            pipe.set(lease_key(self._run_id), self._holder, px=int(LIFETIME_SECONDS * 1000), nx=True)
            pipe.lindex(cancel_key(self._run_id), 0)
            pipe.delete(sent_key(self._run_id))
            taken, asked, _ = pipe.execute()
            if not taken:
                raise HeldElsewhere(f"run {self._run_id} is executed by another process")
            if asked == _CANCEL:
                self._asked_at = monotonic()
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        signal.signal(signal.SIGINT, self._refuse)
        if not self.cancelled:
            self._thread.start()
        try:
            yield self
        finally:
            self._end()
            # Dagster leaves SIGTERM as it found SIGINT, and a child that ignores both cannot be stopped
            for number, handler in before.items():
                signal.signal(number, handler)

    def _end(self) -> None:
        self._over.set()
        with suppress(redis.RedisError):
            if self._thread.is_alive():
                self._client.rpush(cancel_key(self._run_id), _DONE)
                self._thread.join(timeout=RENEW_SECONDS)
            self._client.delete(lease_key(self._run_id), cancel_key(self._run_id))

    def _refuse(self, number: int, _frame: FrameType | None) -> None:
        """Takes an interrupt while Dagster does not: too early or too late to stop a step."""
        if number == signal.SIGTERM:
            raise KeyboardInterrupt
        self._not_taken += 1

    def _keep(self) -> None:
        while not self._over.is_set():
            if os.getppid() != self._parent:
                # whoever gives out the work is dead: another worker has this run soon
                os._exit(os.EX_TEMPFAIL)
            try:
                self._client.set(lease_key(self._run_id), self._holder, px=int(LIFETIME_SECONDS * 1000))
                late, self._renewed = monotonic() - self._renewed > LIFETIME_SECONDS, monotonic()
                # away for so long, the run may have been taken for dead
                if late:
                    self._look_it_up()
                if self.cancelled:
                    self._insist()
                    continue
                found: Any = self._client.blpop([cancel_key(self._run_id)], timeout=RENEW_SECONDS)
                if found and found[1] == _CANCEL:
                    self._insist()
            except redis.RedisError:
                self._look_it_up()
                self._over.wait(1.0)

    def _look_it_up(self) -> None:
        """Ask the storage what Redis cannot tell."""
        try:
            wanted = self._still_wanted()
        except Exception as error:  # noqa: BLE001 - Redis and the database are both away: go on until one is back
            _log.warning("run %s: neither Redis nor the storage answers (%s)", self._run_id, type(error).__name__)
            return
        if not wanted:
            self._insist()

    def _insist(self) -> None:
        """Interrupt the run until it takes it; in the end kill the process."""
        if self._asked_at is None:
            self._asked_at = monotonic()
        refused, sent_at = self._not_taken, self._interrupt()
        while not self._over.wait(_TAKEN_SECONDS):
            waited = monotonic() - self._asked_at
            if waited > GIVE_UP_SECONDS:
                with suppress(Exception):
                    self._give_up()
                os.kill(os.getpid(), signal.SIGKILL)
            if self._not_taken != refused or monotonic() - sent_at > _AGAIN_SECONDS:
                refused, sent_at = self._not_taken, self._interrupt()
            with suppress(redis.RedisError):
                self._client.pexpire(lease_key(self._run_id), int(LIFETIME_SECONDS * 1000))

    def _interrupt(self) -> float:
        """Send the interrupt to the thread that executes, so that it also wakes from a wait; when that was."""
        signal.pthread_kill(self._main, signal.SIGINT)
        return monotonic()
