"""What a run uses: CPU, wall, memory and waiting, measured in the worker.

A warm worker serves many runs in one process, so nothing here is a total of the process. CPU that was used since the
last measurement, or since `begin`, is the run's that comes next: loading its part of the graph and Dagster's own
bookkeeping around it are in its cost, and no second is counted twice.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

if TYPE_CHECKING:
    from collections.abc import Iterable

    from datasense_assets.catalog.state.costs import CostKind, RunCost
    from datasense_assets.connectors.base import ReadStats
    from datasense_assets.ingest.report import TableReport

_MEGABYTE = 1024 * 1024
_PROCESS = Path("/proc/self")


class _Accounted:
    """CPU seconds of this process that are somebody's already; None before anybody's run was seen in it."""

    cpu: float | None = None


def begin() -> None:
    """What this process has used until now is nobody's: a warm worker, or a command, turns to a run."""
    _Accounted.cpu = time.process_time()


def begin_with_process() -> None:
    """This process was started for one run: all that it has used is that run's, the imports too."""
    if _Accounted.cpu is None:
        _Accounted.cpu = 0.0


@dataclass
class Meter:
    """Measures one op of a run, from its making on; `counts` come from whoever reads and writes.

    `started_at`: when the run started, in seconds of the epoch; `queued_seconds`: how long it had waited until then;
    `vain_seconds`: of this try, on what then failed.
    """

    kind: CostKind
    name: str
    run_id: str
    attempt: int
    started_at: float
    queued_seconds: float
    stats: ReadStats | None = None
    rows_read: int = 0
    rows_written: int = 0
    vain_seconds: float = 0.0
    _wall: float = field(default_factory=time.monotonic)
    _lap_wall: float = field(default_factory=time.monotonic)
    _cpu: float = field(default_factory=lambda: _cpu_from())
    _lap_cpu: float = field(default_factory=lambda: _cpu_from())

    @classmethod
    def of_run(cls, context: dg.AssetExecutionContext, kind: CostKind, name: str) -> Meter:
        """Begin to measure the op that `context` is of."""
        _reset_peak()
        record = context.instance.get_run_record_by_id(context.run.run_id)
        started = record.start_time if record is not None and record.start_time is not None else time.time()
        asked = record.create_timestamp.timestamp() if record is not None else started
        return cls(
            kind,
            name,
            context.run.run_id,
            context.op_execution_context.retry_number,
            started_at=started,
            queued_seconds=max(0.0, started - asked),
        )

    def add(self, reports: Iterable[TableReport]) -> None:
        """Count the rows of tables that were loaded."""
        for each in reports:
            self.rows_read += each.rows_read
            self.rows_written += each.rows_loaded

    @contextmanager
    def trying(self) -> Iterator[None]:
        """Count as vain what the block takes where it raises."""
        began = time.monotonic()
        try:
            yield
        except BaseException:
            self.vain_seconds += time.monotonic() - began
            raise

    def lap(self) -> dict[str, Any]:
        """Metadata of one materialization: what was used since the last one of the op."""
        cpu, wall = time.process_time(), time.monotonic()
        said = {
            "cpu_seconds": round(cpu - self._lap_cpu, 3),
            "wall_seconds": round(wall - self._lap_wall, 3),
            "peak_memory_mb": round(_peak_bytes() / _MEGABYTE),
            "queued_seconds": round(self.queued_seconds, 3),
        }
        self._lap_cpu, self._lap_wall = cpu, wall
        return said

    def total(self, *, succeeded: bool) -> RunCost:
        """What the op has used; from here on, CPU is the next one's."""
        from datasense_assets.catalog.state.costs import RunCost

        cpu = time.process_time()
        _Accounted.cpu = cpu
        return RunCost(
            kind=self.kind,
            name=self.name,
            run_id=self.run_id,
            succeeded=succeeded,
            attempt=self.attempt,
            cpu_seconds=cpu - self._cpu,
            wall_seconds=time.monotonic() - self._wall,
            peak_memory_bytes=_peak_bytes(),
            rows_read=self.rows_read,
            rows_written=self.rows_written,
            bytes_read=self.stats.bytes if self.stats is not None else 0,
            api_calls=self.stats.api_calls if self.stats is not None else 0,
            # a second try has not waited in the queue again
            queued_seconds=self.queued_seconds if self.attempt == 0 else 0.0,
            throttled_seconds=self.stats.throttled_seconds if self.stats is not None else 0.0,
        )


def _cpu_from() -> float:
    return time.process_time() if _Accounted.cpu is None else _Accounted.cpu


def _reset_peak() -> None:
    """Have Linux measure the peak of this process's memory from now on."""
    try:
        (_PROCESS / "clear_refs").write_text("5")
    except OSError:
        # not Linux, or not allowed: the peak is then that of the process's whole life
        return


def _peak_bytes() -> int:
    """The most memory that this process held since the last reset."""
    try:
        status = (_PROCESS / "status").read_text(encoding="ascii", errors="replace")
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
