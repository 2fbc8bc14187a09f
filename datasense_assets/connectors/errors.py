"""Failures of the outside world, by what helps: trying again later, or a person.

Each carries `message` (what happened, no secret in it) and `advice` (what the user can do). `running.failures` wires
them to Dagster's retries.
"""

from __future__ import annotations

from typing import ClassVar


class SourceError(Exception):
    """A source could not be read. `kind` is a stable word for metrics and the catalog."""

    kind: ClassVar[str] = "source_error"
    permanent: ClassVar[bool] = False

    def __init__(self, message: str, *, advice: str, retry_after: float | None = None) -> None:
        """Keep the parts; `retry_after` in seconds, as the server asked."""
        super().__init__(f"{message} {advice}")
        self.message = message
        self.advice = advice
        self.retry_after = retry_after


class Unavailable(SourceError):
    """The server failed, timed out or could not be reached: try again."""

    kind = "unavailable"


class Throttled(SourceError):
    """The server asked to wait (`retry_after` seconds where it said so)."""

    kind = "throttled"


class OutOfQuota(Throttled):
    """Our next call would have to wait longer than a run may; the server was not asked. `retry_after` says when."""


class CredentialRefused(SourceError):
    """The credential is wrong, expired or missing."""

    kind = "credential_refused"
    permanent = True


class AccessForbidden(SourceError):
    """The credential works but may not read this."""

    kind = "access_forbidden"
    permanent = True


class ResourceGone(SourceError):
    """The form, tab or file is not there."""

    kind = "resource_gone"
    permanent = True


class BadConfig(SourceError):
    """The source's own settings cannot work."""

    kind = "bad_config"
    permanent = True


class BadData(SourceError):
    """What came is not what was announced (HTML for CSV, an empty file, no header)."""

    kind = "bad_data"
    permanent = True
