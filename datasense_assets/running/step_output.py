"""What the steps of a run print: into the run's files, and from there on to where the process prints, by a thread.

Dagster starts four programs for that, two of them Python, anew for each run: 60 ms of CPU, and their memory while the
run goes on. What is printed is in the file at once, whatever becomes of the process.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

_LOOK_SECONDS = 0.5
# Who reads our output may have stopped reading: the run does not wait for that.
_LAST_LOOK_SECONDS = 5.0
_PIECE = 1 << 16


@contextmanager
def kept(streams: Sequence[tuple[IO[Any], Path]]) -> Iterator[None]:
    """Write all that this process, and whatever it starts, prints to the streams into the files, and show it too.

    A stream without a descriptor, such as a test's, is left alone.
    """
    shown: list[_Shown] = []
    over = threading.Event()
    thread = threading.Thread(target=_show, args=(shown, over), name="step-output", daemon=True)
    try:
        with ExitStack() as stack:
            for stream, path in streams:
                if (number := _descriptor(stream)) is not None:
                    shown.append(_Shown(path, to=stack.enter_context(_diverted(stream, number, path))))
            thread.start()
            yield
    finally:
        over.set()
        if thread.ident is not None:
            thread.join(timeout=_LAST_LOOK_SECONDS)


def _descriptor(stream: IO[Any]) -> int | None:
    try:
        return stream.fileno()
    except (OSError, ValueError, AttributeError):
        return None


@contextmanager
def _diverted(stream: IO[Any], number: int, path: Path) -> Iterator[int]:
    """Have the stream's descriptor be the file; gives a descriptor of where it went before."""
    stream.flush()
    path.parent.mkdir(parents=True, exist_ok=True)
    before = os.dup(number)
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        os.dup2(file, number)
        os.close(file)
        yield before
    finally:
        try:
            if not stream.closed:
                stream.flush()
        finally:
            os.dup2(before, number)
            os.close(before)


class _Shown:
    """A file that is being written, and what shows it."""

    def __init__(self, path: Path, *, to: int) -> None:
        """Keep descriptors of its own, so that none goes while the thread works."""
        self._file, self._to, self._at = os.open(path, os.O_RDONLY), os.dup(to), 0
        self._is_read = True

    def go_on(self) -> None:
        """Show what came since the last time; nothing more once nobody reads it."""
        while self._is_read and (piece := os.pread(self._file, _PIECE, self._at)):
            try:
                self._at += os.write(self._to, piece)
            except BlockingIOError:
                return
            except OSError:
                self._is_read = False

    def close(self) -> None:
        """Let go of both."""
        os.close(self._file)
        os.close(self._to)


def _show(shown: Sequence[_Shown], over: threading.Event) -> None:
    last = False
    while not last:
        last = over.wait(_LOOK_SECONDS)
        for each in shown:
            each.go_on()
    for each in shown:
        each.close()
