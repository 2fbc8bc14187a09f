"""Allowances of calls that all processes share: one row a credential and host, one statement a call.

A token bucket with the moment up to which it is spent, the moment up to which the server wants to be left alone, and,
where a server answers one request at a time, who is asking now. It pins no connection and all times are the
database's, so that workers on any number of machines are bound together. What is allowed can be changed while they run,
in `datasense.quota_limits`.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy.exc import SQLAlchemyError

from datasense_assets.warehouse.errors import WarehouseError

if TYPE_CHECKING:
    from sqlalchemy import Engine

# How long a process that died while it asked keeps the others of a one-at-a-time server waiting.
HOLD_SECONDS = 30.0
# A server that names a longer pause is asked again after this long.
LONGEST_BLOCK = 86_400.0

_TAKE = (
    "SELECT wait, reason, held FROM datasense.take_call("
    "%s::text[], %s::text[], %s, %s::integer[], %s::double precision[], %s::boolean[], %s, %s)"
)
_BLOCK = """
INSERT INTO datasense.quota_state AS known (key, name, host, blocked_until)
VALUES (%s, %s, %s, clock_timestamp() + make_interval(secs => %s))
ON CONFLICT (key) DO UPDATE SET blocked_until = greatest(known.blocked_until, excluded.blocked_until),
                                used_at = clock_timestamp()
"""
_RENEW = """
UPDATE datasense.quota_state SET held_until = clock_timestamp() + make_interval(secs => %s)
WHERE key = ANY (%s::text[]) AND held_by = %s
"""


@dataclass(frozen=True)
class Allowance:
    """What one row of `quota_state` allows, unless `quota_limits` says otherwise for its `name`.

    `calls` in any `seconds` (None: any number); `one_at_a_time`: the next call waits until the last has ended.
    """

    key: str
    name: str
    calls: int | None
    seconds: float
    one_at_a_time: bool


@dataclass(frozen=True)
class Answer:
    """Whether a call may be made now (`wait` is 0), else in how many seconds to ask again, and why not.

    `blocked`: the server asked to be left alone; `spent`: the allowance is used up; `held`: another asks the server.
    `held` is set when this call keeps others out until it is let go.
    """

    wait: float
    reason: Literal["blocked", "spent", "held"] | None
    held: bool


def quota_key(name: str, host: str, shared_by: str) -> str:
    """The name of a row: a hash, from which neither the credential nor its owner can be read."""
    return hashlib.sha256("\0".join((name, host, shared_by)).encode()).hexdigest()


def ask(engine: Engine, host: str, allowances: Sequence[Allowance], owner: str) -> Answer:
    """Take one call from all of the allowances, or from none.

    Raises:
        sqlalchemy.exc.OperationalError, DatabaseUnavailable: the database did not answer.
    """
    in_order = sorted(allowances, key=lambda each: each.key)
    values = (
        [each.key for each in in_order],
        [each.name for each in in_order],
        host,
        [each.calls for each in in_order],
        [each.seconds for each in in_order],
        [each.one_at_a_time for each in in_order],
        owner,
        HOLD_SECONDS,
    )
    with engine.connect() as connection:
        row = _autocommitted(connection).exec_driver_sql(_TAKE, values).one()
    return Answer(row.wait, row.reason, row.held)


def block(engine: Engine, host: str, allowance: Allowance, seconds: float) -> None:
    """Let nobody call before that many seconds (a day at most) have passed; a longer block that is known stays.

    Raises:
        sqlalchemy.exc.OperationalError, DatabaseUnavailable: the database did not answer.
    """
    with engine.connect() as connection:
        values = (allowance.key, allowance.name, host, min(seconds, LONGEST_BLOCK))
        _autocommitted(connection).exec_driver_sql(_BLOCK, values)


@contextmanager
def kept(engine: Engine, allowances: Sequence[Allowance], owner: str) -> Iterator[None]:
    """Keep what `ask` has given and said to be held, for as long as the block runs; then let the next one in.

    A thread renews it. Where the database is away it runs out by itself after `HOLD_SECONDS`.
    """
    ended = threading.Event()
    keys = [each.key for each in allowances]

    def hold(seconds: float) -> None:
        try:
            with engine.connect() as connection:
                _autocommitted(connection).exec_driver_sql(_RENEW, (seconds, keys, owner))
        except (SQLAlchemyError, WarehouseError):
            return  # it runs out in our place

    def beat() -> None:
        while not ended.wait(HOLD_SECONDS / 3):
            hold(HOLD_SECONDS)

    heart = threading.Thread(target=beat, name="quota-hold", daemon=True)
    heart.start()
    try:
        yield
    finally:
        ended.set()
        heart.join(timeout=HOLD_SECONDS)
        hold(0.0)


def _autocommitted(connection: Any) -> Any:
    return connection.execution_options(isolation_level="AUTOCOMMIT")
