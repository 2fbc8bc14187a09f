"""What can go wrong between us and Postgres, in words for the user: `message` says what, `advice` how to mend it.

No error here ever carries a password.
"""

from __future__ import annotations


class WarehouseError(Exception):
    """Base of all errors of this room. `message`: what happened and where; `advice`: what to do."""

    def __init__(self, message: str, *, advice: str) -> None:
        super().__init__(f"{message} {advice}".strip())
        self.message = message
        self.advice = advice


class DatabaseUnavailable(WarehouseError):
    """The database cannot be reached or cannot be used; trying again later may help."""


class SwapRefused(WarehouseError):
    """A table cannot be replaced until somebody changes something; `message` names what stands in the way."""


class EmbeddedServerError(DatabaseUnavailable):
    """The embedded server could not be found, started or stopped."""
