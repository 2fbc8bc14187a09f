"""Failures that are a load's own, and finding the world's failure under what dlt makes of it."""

from __future__ import annotations

from datasense_assets.connectors.errors import BadConfig, SourceError


class WindowRefused(BadConfig):
    """A past partition was asked for of a source that has no history."""

    kind = "window_refused"


class LoadMismatch(SourceError):
    """The warehouse does not hold what was loaded: another run wrote at the same time. Trying again mends it."""

    kind = "load_not_exact"


def not_exact(table: str, expected: int) -> LoadMismatch:
    """The error of a table in which the rows that were read are not all there."""
    return LoadMismatch(
        f"{table} does not hold the {expected} rows that were read.",
        advice="Another run wrote at the same time; run the sync again.",
    )


def source_error(error: BaseException) -> SourceError | None:
    """The `SourceError` that an error of dlt's (or of anything) was caused by, if one was."""
    current: BaseException | None = error
    for _ in range(20):
        if current is None or isinstance(current, SourceError):
            return current
        current = current.__cause__ or current.__context__
    return None
