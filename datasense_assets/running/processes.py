"""A few processes that belong together: started in order, started again when one dies, stopped together."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from types import FrameType

_LOOK_SECONDS = 0.5
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0
# One that has run for so long is well, whatever it does next.
_WELL_SECONDS = 60.0
_READY_SECONDS = 120.0


@dataclass(frozen=True)
class Part:
    """One process with the environment of this one, its output in `<name>.log`.

    `ready` says when those after it may start (None: at once); asked to end by SIGTERM, it has `stop_seconds` for that
    before it is killed.
    """

    name: str
    command: Sequence[str]
    ready: Callable[[], bool] | None = None
    stop_seconds: float = 20.0


class PartFailed(Exception):
    """A part of the tree did not come up; `log` has its own words."""

    def __init__(self, name: str, log: Path, why: str) -> None:
        """Keep what a person needs."""
        self.message = f"{name} did not start: {why}."
        self.advice = f"See {log}."
        super().__init__(f"{self.message} {self.advice}")


class _Running:
    """A part as it runs now."""

    def __init__(self, part: Part, logs: Path) -> None:
        self.part, self.log = part, logs / f"{part.name}.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.started = 0.0
        self.pause = _FIRST_PAUSE
        self.again_at: float | None = None

    def start(self) -> None:
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(  # noqa: S603 - commands of ours
                self.part.command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                # Ctrl-C in a terminal is for the parent, which asks its parts in their order
                start_new_session=True,
            )
        self.started, self.again_at = monotonic(), None

    @property
    def code(self) -> int | None:
        return None if self.process is None else self.process.poll()

    def ask_to_stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()

    def end(self, seconds: float) -> bool:
        """Wait, then kill with all that it started; whether it ended by itself."""
        if self.process is None:
            return True
        by_itself = True
        try:
            self.process.wait(timeout=max(seconds, 0.0))
        except subprocess.TimeoutExpired:
            by_itself = False
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        return by_itself


class ProcessTree:
    """Parts in the order in which they start; they stop in the opposite one.

    Args:
        parts: the processes.
        logs: folder for their output.
        tell: is told what happens, in words for people.
    """

    def __init__(self, parts: Sequence[Part], logs: Path, tell: Callable[[str], None]) -> None:
        self._logs, self._tell = logs, tell
        self._running = [_Running(part, logs) for part in parts]
        self._stop = threading.Event()

    def run(self, when_ready: Callable[[], None]) -> None:
        """Start all, keep all alive until SIGTERM, SIGINT or SIGHUP comes, stop all.

        Raises:
            PartFailed: one did not come up; those that did are stopped again.
        """
        self._logs.mkdir(parents=True, exist_ok=True)
        before = {
            number: signal.signal(number, self._asked) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        }
        try:
            for each in self._running:
                if self._stop.is_set():
                    return
                each.start()
                self._wait_for(each)
            if not self._stop.is_set():
                when_ready()
            while not self._stop.wait(_LOOK_SECONDS):
                for each in self._running:
                    self._look_after(each)
        finally:
            self._stop_all()
            for number, handler in before.items():
                signal.signal(number, handler)

    def _asked(self, _number: int, _frame: FrameType | None) -> None:
        self._stop.set()

    def _wait_for(self, each: _Running) -> None:
        until = monotonic() + _READY_SECONDS
        while each.part.ready is not None and not self._stop.is_set():
            if each.code is not None:
                raise PartFailed(each.part.name, each.log, f"it ended with code {each.code}")
            if each.part.ready():
                return
            if monotonic() > until:
                raise PartFailed(each.part.name, each.log, f"it was not ready after {_READY_SECONDS:.0f} s")
            self._stop.wait(_LOOK_SECONDS)

    def _look_after(self, each: _Running) -> None:
        code, now = each.code, monotonic()
        if code is None:
            if now - each.started > _WELL_SECONDS:
                each.pause = _FIRST_PAUSE
            return
        if each.again_at is None:
            each.again_at = now + each.pause
            self._tell(f"{each.part.name} ended with code {code}; started again in {each.pause:.0f} s, see {each.log}")
            each.pause = min(each.pause * 2, _LONGEST_PAUSE)
            # whatever it had started goes with it
            each.end(0.0)
        elif now >= each.again_at:
            each.start()

    def _stop_all(self) -> None:
        for each in reversed(self._running):
            each.ask_to_stop()
            if not each.end(each.part.stop_seconds):
                self._tell(f"{each.part.name} did not end within {each.part.stop_seconds:.0f} s and was killed")
