"""The quotas of an opened source, held in the database that all processes share."""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from datasense_assets.connectors.base import Quota
from datasense_assets.connectors.errors import OutOfQuota
from datasense_assets.warehouse import quotas
from datasense_assets.warehouse.quotas import Allowance, Answer, quota_key

if TYPE_CHECKING:
    from sqlalchemy import Engine

_AGAIN = "It is tried again later."


class SharedBudget:
    """A `CallBudget` over the rows of `datasense.quota_state`: the command line is bound by it as any worker is."""

    def __init__(self, catalog: Engine, allowed: Sequence[Quota], *, longest_wait: float) -> None:
        """Keep the parts; `longest_wait` is the most seconds that one call is waited for."""
        self._catalog = catalog
        self._quotas = tuple(allowed)
        self._longest_wait = longest_wait
        self._owner = uuid.uuid4().hex

    @contextmanager
    def call(self, host: str) -> Iterator[float]:
        """Wait until every quota allows a call to that host; gives the seconds waited.

        Raises:
            OutOfQuota: it would take longer than `longest_wait`.
            sqlalchemy.exc.OperationalError, DatabaseUnavailable: the database did not answer.
        """
        allowances = self._allowances(host)
        started = time.monotonic()
        answer = quotas.ask(self._catalog, host, allowances, self._owner)
        while answer.wait > 0:
            if time.monotonic() - started + answer.wait > self._longest_wait:
                raise self._out_of_quota(host, answer)
            # whoever waits for one call wakes at the same time: a little later each, so that one of them gets it
            threading.Event().wait(answer.wait + random.uniform(0.0, 0.05))  # noqa: S311
            answer = quotas.ask(self._catalog, host, allowances, self._owner)
        waited = time.monotonic() - started
        if not answer.held:
            yield waited
            return
        with quotas.kept(self._catalog, allowances, self._owner):
            yield waited

    def block(self, host: str, seconds: float) -> None:
        """Let nobody who shares the narrowest quota call that host for so many seconds."""
        quotas.block(self._catalog, host, self._allowances(host)[0], seconds)

    def _allowances(self, host: str) -> list[Allowance]:
        chosen = [quota for quota in self._quotas if quota.host in ("", host)]
        if not chosen:  # a login's server, or where a redirect leads: any number of calls, but its pauses are shared
            first = self._quotas[0]
            chosen = [Quota(f"{first.name.partition('.')[0]}.elsewhere", shared_by=first.shared_by)]
        return [
            Allowance(
                key=quota_key(quota.name, host, quota.shared_by),
                name=quota.name,
                calls=quota.calls,
                seconds=quota.seconds,
                one_at_a_time=quota.one_at_a_time,
            )
            for quota in chosen
        ]

    def _out_of_quota(self, host: str, answer: Answer) -> OutOfQuota:
        if answer.reason == "blocked":
            said = f"{host} asked to be left alone for {answer.wait:.0f} s more."
        elif answer.reason == "held":
            said = f"{host} answers one request at a time, and that of another run goes on."
        else:
            said = f"The calls that {host} allows are used up, and other runs wait for the next one too."
        return OutOfQuota(said, advice=_AGAIN, retry_after=max(answer.wait, self._longest_wait))
