"""One connection to a warehouse for all that a load does there, since a connection costs both sides as much as ten
queries: each is a process of the server, and a login.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from time import monotonic
from typing import TYPE_CHECKING

import psycopg

from datasense_assets.warehouse.database import STILL_ALIVE_SECONDS

if TYPE_CHECKING:
    from datasense_assets.warehouse.organizations import WarehouseTarget

# So long it may lie idle where nobody knows how long that will be.
_UNUSED_SECONDS = 1.0


class HeldConnection:
    """Transactions as the organisation, one after the other and never within each other, over one connection.

    It is opened when first needed, and anew when it has not been used for long; a transaction that fails closes it.
    """

    def __init__(self, target: WarehouseTarget) -> None:
        """Open nothing yet."""
        self._target = target
        self._connection: psycopg.Connection | None = None
        self._used = 0.0

    @contextmanager
    def transaction(self) -> Iterator[psycopg.Connection]:
        """The connection; what the block does is committed at its end.

        Raises:
            DatabaseUnavailable: as `WarehouseTarget.connect`.
        """
        if self._connection is not None and monotonic() - self._used > STILL_ALIVE_SECONDS:
            self.close()
        if self._connection is None:
            self._connection = self._target.connect()
        connection = self._connection
        try:
            yield connection
            connection.commit()
        except BaseException:
            self.close()
            raise
        self._used = monotonic()

    @contextmanager
    def unused(self) -> Iterator[None]:
        """The block uses no transaction: where it takes longer than a moment, the server has its connection back."""
        if self._connection is None:
            yield
            return
        timer = threading.Timer(_UNUSED_SECONDS, self.close)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            # it may be closing just now
            timer.join()

    def close(self) -> None:
        """Close it; what was not committed is undone."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg.Error):
                connection.close()
