"""What tests share with everything else on their machine, and must not run into: its ports, its days, its memory."""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
from datetime import datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from datasense_assets.running.topology import is_free
from datasense_assets.settings import default_home

# Below the ports that the system gives to connections: one of those may be gone before the server that it is meant for
# comes to bind it. A part for each of pytest's workers, so that two of them choose different ones.
_FIRST, _A_WORKER, _WORKERS = 28_000, 290, 16
_given: set[int] = set()
# The tests' servers take a few hundred megabytes; containers often give no more than 64.
_MEMORY, _ROOM = Path("/dev/shm"), 2 * 1024**3


def free_port() -> int:
    """A port of loopback for a server that a test starts; never the same one twice."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _WORKERS
    first = _FIRST + worker * _A_WORKER
    # several runs of the tests may go on at once, each with a worker of that number
    start = os.getpid() % _A_WORKER
    for number in range(_A_WORKER):
        port = first + (start + number) % _A_WORKER
        if port not in _given and is_free("127.0.0.1", port):
            _given.add(port)
            return port
    raise AssertionError(f"none of the ports from {first} on is free")


def in_memory() -> Path | None:
    """A folder in memory for the servers that tests start, None where there is little room: then they go to disk.

    A new server, and a database for a test, are hundreds of files that are gone a moment later; in memory they cost a
    part of it.
    """
    return _MEMORY if _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free > _ROOM else None


def server_home() -> Path:
    """The folder of the server that the tests of this checkout share: in memory where there is room."""
    disk = default_home() / "test-server"
    checkout = hashlib.sha256(str(disk).encode()).hexdigest()[:12]
    memory = _MEMORY / f"datasense-tests-{os.getuid()}-{checkout}"
    if memory.is_dir():
        return memory if memory.stat().st_uid == os.getuid() else disk
    return memory if in_memory() is not None else disk


def today(zone: str = "Asia/Kolkata", *, ago: int = 0) -> str:
    """The day there, or the one so many days ago.

    Its last minute is waited for to pass: what is asked of today must be done today, and a source without history
    refuses yesterday.
    """
    while (now := datetime.now(ZoneInfo(zone))).time() >= time(23, 59):
        threading.Event().wait(0.5)
    return (now.date() - timedelta(days=ago)).isoformat()
