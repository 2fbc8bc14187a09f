"""Failures that are a load's own, and finding the world's failure under what dlt makes of it."""

from __future__ import annotations

import errno
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from datasense_assets.connectors.errors import BadConfig, SourceError


class WindowRefused(BadConfig):
    """A past partition was asked for of a source that has no history."""

    kind = "window_refused"


class LoadMismatch(SourceError):
    """The warehouse does not hold what was loaded: another run wrote at the same time. Trying again mends it."""

    kind = "load_not_exact"


class NoRoom(SourceError):
    """The scratch folder cannot take what is read: the disk is full, or files may not grow so large."""

    kind = "no_room"


_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@contextmanager
def telling_full_disk(folder: Path) -> Iterator[None]:
    """Raise `NoRoom` in the place of the system's error when the disk of `folder` is full, however deep in dlt."""
    try:
        yield
    except Exception as error:
        current: BaseException | None = error
        while current is not None and not _is_full(current):
            current = current.__cause__ or current.__context__
        if current is None:
            raise
        free = f"{shutil.disk_usage(folder).free // 2**20} MB are free there" if folder.exists() else "it is gone"
        raise NoRoom(
            f"There is no room in the scratch folder {folder} for what is read; {free}.",
            advice="Make room, or let DATASENSE_HOME be on a larger disk. Nothing was changed.",
        ) from error


def _is_full(error: BaseException) -> bool:
    if isinstance(error, sqlite3.OperationalError):  # what a file's keys are compared in
        return error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)
    return isinstance(error, OSError) and error.errno in _FULL


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
